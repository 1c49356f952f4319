import dataclasses
import json

import pytest
import torch

from attar.core.errors import InputError
from attar.core.presets import table_of
from attar.core.runtime import Runtime
from attar.graphs.gstam import GSTAM, class_readout, map_distance, powered, structural_attention
from attar.graphs.matching import RealBatch
from attar.graphs.networks import Architecture
from attar.graphs.structures import PaddedGraphs
from graphs.helpers import ENGINE, NARROW


def gstam(**settings):
    return GSTAM(**{"gpc": 3, "steps": 5, "real_batch": 8, "architecture": NARROW, **settings})


def begin(method, source, seed=0):
    runtime = Runtime(ENGINE, seed)
    method = method.resolve(source, runtime)
    return method, method.build(source, runtime), runtime


def maps_of(source, rows, network):
    """Maps of real graphs, joined, and of the same graphs padded to their own sizes only."""
    return network.maps(source.train.joined(rows))


@pytest.fixture
def nodes(generator):
    return torch.randn(30, 6, generator=generator, dtype=torch.float64).relu()


# The map.


@pytest.mark.parametrize("attention", ["pairs", "channels"])
@pytest.mark.parametrize("power", [1, 2, 3, 4, 2.5])
def test_a_map_is_its_definition(power, attention, nodes):
    for part, found in zip(
        nodes.split([10, 20]), structural_attention(nodes, (10, 20), power=power, attention=attention), strict=True
    ):
        energy = part**power
        gram = energy.T @ energy if attention == "pairs" else energy.sum(dim=0)
        torch.testing.assert_close(found, (gram / gram.sum()).flatten())


@pytest.mark.parametrize("power", [1, 2, 3, 4])
def test_a_map_is_a_symmetric_distribution_without_negative_eigenvalues(power, nodes):
    found = structural_attention(nodes, (30,), power=power).view(6, 6)
    assert found.min() >= 0
    assert float(found.sum()) == pytest.approx(1)
    torch.testing.assert_close(found, found.T)
    assert torch.linalg.eigvalsh(found).min() > -1e-12


@pytest.mark.parametrize("attention", ["pairs", "channels"])
@pytest.mark.parametrize("power", [1, 1.5, 2, 3, 4, 8])
def test_a_map_and_a_readout_forget_scale_from_tiny_to_huge(power, attention, nodes):
    """In float32, also where one class is far smaller than the other, and with the gradient of log scale."""
    h = nodes.float()
    found = structural_attention(h, (10, 20), power=power, attention=attention)
    read = class_readout(h, (10, 20))
    for scale in (1e-12, 1e-6, 1e-3, 1e3, 1e12):
        for other in (scale * h, torch.cat([h[:10], scale * h[10:]])):
            torch.testing.assert_close(structural_attention(other, (10, 20), power=power, attention=attention), found)
            torch.testing.assert_close(class_readout(other, (10, 20)), read)
    slopes = []
    for scale in (1.0, 1e-9):
        inside = (scale * h).requires_grad_()
        structural_attention(inside, (30,), power=power, attention=attention).square().sum().backward()
        slopes.append(inside.grad * scale)
    torch.testing.assert_close(*slopes)


def test_the_size_of_features_does_not_change_the_loss_of_a_network(nodes):
    sizes = [
        map_distance(*(structural_attention(s * h, (15,)).unsqueeze(1) for h in nodes.split(15))) for s in (1, 1e-3)
    ]
    torch.testing.assert_close(*sizes)


@pytest.mark.parametrize("power", [1, 2, 4])
def test_a_map_forgets_scale_order_and_repetition(power, nodes, generator):
    found = structural_attention(nodes, (30,), power=power)
    for other in (7.5 * nodes, nodes[torch.randperm(30, generator=generator)]):
        torch.testing.assert_close(structural_attention(other, (30,), power=power), found)
    twice = structural_attention(torch.cat([nodes, nodes]), (60,), power=power)
    torch.testing.assert_close(twice, found)


def test_equal_and_unequal_classes_are_mapped_alike(nodes):
    whole = torch.cat([structural_attention(part, (15,)) for part in nodes.split(15)])
    torch.testing.assert_close(structural_attention(nodes, (15, 15)), whole)
    parts = torch.cat([structural_attention(part, (len(part),)) for part in nodes.split([12, 18])])
    torch.testing.assert_close(structural_attention(nodes, (12, 18)), parts)


def test_a_layer_that_is_dead_or_huge_stays_finite():
    dead = torch.zeros(4, 3, requires_grad=True)
    found = structural_attention(dead, (4,), power=4)
    map_distance(found.unsqueeze(1), found.detach().unsqueeze(1)).backward()
    assert found.abs().max() == 0
    assert dead.grad.isfinite().all()
    huge = torch.full((4, 3), 1e12)
    torch.testing.assert_close(structural_attention(huge, (4,), power=4), torch.full((1, 9), 1 / 9))


def test_dividing_by_the_largest_changes_no_gradient(nodes):
    def slope(energy):
        h = nodes.clone().requires_grad_()
        gram = energy(h).T @ energy(h)
        (gram / gram.sum()).square().sum().backward()
        return h.grad

    torch.testing.assert_close(slope(lambda h: powered(h.unsqueeze(0), 4)[0]), slope(lambda h: h**4))


def test_with_power_one_and_no_network_it_is_second_moments(nodes):
    moments = nodes.T @ nodes / 30
    torch.testing.assert_close(structural_attention(nodes, (30,), power=1)[0], (moments / moments.sum()).flatten())


# The loss.


@pytest.fixture
def same(motifs):
    """Six real graphs as both branches, in double precision: joined, and dense with only their own nodes."""
    rows = torch.cat([r[motifs.train.sizes[r] == 16][:3] for r in motifs.rows_of])
    graphs = motifs.train.select(rows)
    graphs = dataclasses.replace(graphs, features=graphs.features.double())
    padded = graphs.padded()
    network = Architecture(width=16).build(motifs.features, 2, torch.Generator().manual_seed(0))
    network.double().requires_grad_(False)
    return graphs.joined(), PaddedGraphs(padded.features, padded.adjacency), network


@pytest.mark.parametrize("power", [1, 2, 3, 4])
def test_the_same_graphs_have_no_loss_unless_in_the_released_form(power, same):
    joined, dense, network = same
    maps = network.maps(joined), network.maps(dense)
    counts, node_counts = (3, 3), (48, 48)
    real = torch.stack([structural_attention(h, node_counts, power=power) for h in maps[0]], dim=1)
    for added_up, gpc in ((None, 3), (16, 3), (16, 1)):
        wanted = (16 * gpc,) * 2
        firsts = torch.cat([torch.arange(16 * gpc), 48 + torch.arange(16 * gpc)])
        target = (
            real
            if gpc == 3
            else torch.stack([structural_attention(h[firsts], wanted, power=power) for h in maps[0]], dim=1)
        )
        found = torch.stack(
            [structural_attention(h.flatten(0, 1)[firsts], wanted, power=power, added_up=added_up) for h in maps[1]],
            dim=1,
        )
        loss = float(map_distance(found, target))
        assert loss > 1e-4 if (added_up and gpc == 3) else loss < 1e-24
    readouts = [
        class_readout(g.pool(h[-1], "mean"), counts).unsqueeze(1) for g, h in zip((joined, dense), maps, strict=True)
    ]
    assert float(map_distance(*readouts)) < 1e-24


def test_the_released_form_depends_on_how_nodes_are_numbered_and_the_consistent_one_does_not(same, generator):
    _, dense, network = same
    h = network.maps(dense)[1]
    other = torch.cat([h[:1, torch.randperm(16, generator=generator)], h[1:]])
    for added_up in (None, 16):
        found = [structural_attention(x.flatten(0, 1), (48, 48), added_up=added_up) for x in (h, other)]
        gap = float(map_distance(found[0].unsqueeze(1), found[1].unsqueeze(1)))
        assert gap > 1e-7 if added_up else gap < 1e-20


def test_on_mutag_the_released_form_is_off_by_as_much_as_was_measured(mutag):
    runtime = Runtime(ENGINE)
    for power, low, high in ((1, 0.001, 0.03), (4, 0.001, 0.04)):
        method = GSTAM(gpc=10, nodes=18, class_agnostic=True, power=power).resolve(mutag, runtime)
        start = method.begin(mutag, runtime)
        network = Architecture().build(mutag.features, 2, torch.Generator().manual_seed(1))
        with torch.no_grad():
            maps = [h.flatten(0, 1) for h in network.maps(PaddedGraphs(start.features, start.adjacency))]
        forms = [
            torch.stack([structural_attention(h[:180], (180,), power=power, added_up=n) for h in maps], dim=1)
            for n in (None, 18)
        ]
        assert low < float(map_distance(forms[1], forms[0])) < high


def test_distances_are_their_definitions(generator):
    a, b = torch.rand(2, 2, 3, 9, generator=generator, dtype=torch.float64)
    whole = sum(((a[c] - b[c]) ** 2).sum() / (b[c] ** 2).sum() for c in range(2))
    torch.testing.assert_close(map_distance(a, b), whole)
    layers = sum(((a[c, n] - b[c, n]) ** 2).sum() / (b[c, n] ** 2).sum() for c in range(2) for n in range(3))
    torch.testing.assert_close(map_distance(a, b, per_layer=True), layers)

    def cosine(x, y):
        return (x * y).sum() / x.norm() / y.norm()

    torch.testing.assert_close(map_distance(a, b, "cos"), sum(1 - cosine(a[c], b[c]) for c in range(2)))
    layered = sum(1 - cosine(a[c, n], b[c, n]) for c in range(2) for n in range(3))
    torch.testing.assert_close(map_distance(a, b, "cos", per_layer=True), layered)


@pytest.mark.parametrize("row", [1, 3, 9])
@pytest.mark.parametrize("scale", [1.0, 1e-2, 0.0])
def test_the_distance_of_the_released_code_is_by_rows_with_a_millionth_added(row, scale, generator):
    a, b = torch.rand(2, 2, 3, 9, generator=generator, dtype=torch.float64) * scale
    expected = 0.0
    for x, y in zip(a.reshape(-1, row), b.reshape(-1, row), strict=True):
        expected += float(1 - (x * y).sum() / (x.norm() * y.norm() + 0.000001))
    assert float(map_distance(a, b, "ours", row=row)) == pytest.approx(expected, rel=1e-12)
    assert float(map_distance(a, b, "ours", row=row, per_layer=True)) == pytest.approx(expected, rel=1e-12)


def test_the_released_distance_of_a_step_is_by_rows_of_channels(motifs):
    method, state, runtime = begin(gstam(distance="ours", readout_weight=0.0), motifs)
    metrics = method.step(state, runtime)
    assert 0 <= float(metrics["attention"]) <= 2 * 3 * NARROW.width
    with pytest.raises(InputError, match=r"distance ours compares the rows of a map, and attention channels has none"):
        gstam(distance="ours", attention="channels")


# The step.


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"synthetic_map": "released", "power": 4.0},
        {"class_agnostic": True},
        {"gpc": (2, 4)},
        {"attention": "channels", "per_layer": True},
        {"theory_weight": 1.0, "sparsity_weight": 3.0, "distance": "cos"},
        {"architecture": dataclasses.replace(NARROW, pooling="sum", norm="instance")},
    ],
)
def test_a_step_has_the_loss_that_the_formula_has(settings, few):
    method, state, runtime = begin(gstam(**settings), few)
    twin = begin(gstam(**settings), few)
    found = method.step(state, runtime)
    assert float(found["loss"]) == pytest.approx(plain_loss(*twin), rel=2e-4)


@torch.no_grad()
def plain_loss(method, state, runtime):
    """The loss of the first step, in double precision, class by class and layer by layer."""
    from attar.graphs.networks import redraw_

    redraw_(state.network, runtime.generator("network", "cpu"))
    batch = method.draw_real(state, runtime)
    sample = method.sample(state, runtime)
    network = state.network.double()
    counts = (sum(state.counts),) if method.class_agnostic else state.counts
    total, first = 0.0, 0
    for rows, count in zip(batch.rows, counts, strict=True):
        real = few_padded(state.source, rows)
        own = slice(first, first + count)
        fake = PaddedGraphs(sample.features[own].double(), sample.adjacency[own].double())
        first += count
        seen = [network.maps(g) for g in (real, fake)]
        maps = []
        for graphs, layers in zip((real, fake), seen, strict=True):
            of_set = []
            for h in layers:
                h = h**method.power
                if graphs is fake and method.synthetic_map == "released":
                    h = h.sum(dim=0)
                elif graphs is real:
                    h = h[graphs.mask]
                else:
                    h = h.flatten(0, 1)
                g = h.sum(dim=0) if method.attention == "channels" else h.T @ h
                of_set.append((g / g.sum()).flatten())
            maps.append(of_set)
        readouts = [
            g.pool(layers[-1], method.architecture.pooling).sum(dim=0)
            for g, layers in zip((real, fake), seen, strict=True)
        ]
        readouts = [r / r.abs().sum() for r in readouts]

        def gap(a, b):
            return (
                1 - torch.cosine_similarity(a, b, dim=0)
                if method.distance == "cos"
                else ((a - b) ** 2).sum() / (b**2).sum()
            )

        if method.per_layer:
            attended = sum(gap(b, a) for a, b in zip(*maps, strict=True))
        else:
            attended = gap(torch.cat(maps[1]), torch.cat(maps[0]))
        total += attended + method.readout_weight * gap(readouts[1], readouts[0])
    weights = torch.sigmoid((state.edges + state.edges.mT) / 2).double()
    total += method.sparsity_weight * (weights.mean() - state.density).clamp_min(0)
    if method.theory_weight:
        looped = sample.adjacency.double() + torch.eye(sample.adjacency.shape[1])
        scale = torch.diag_embed(looped.sum(dim=2) ** -0.5)
        cube = torch.linalg.matrix_power(scale @ looped @ scale, 3) @ sample.features.double()
        total += method.theory_weight * 0.15 / 2**0.5 * 0.5 * cube.mean(dim=1).norm() / len(cube)
    return float(total)


def few_padded(source, rows):
    graphs = source.train.select(rows)
    return dataclasses.replace(graphs, features=graphs.features.double()).padded()


def test_without_attention_it_is_the_matching_of_class_means(few):
    method, state, runtime = begin(gstam(attention_weight=0.0, readout_weight=1.0, sparsity_weight=0.0), few)
    found = method.step(state, runtime)
    assert float(found["attention"]) == 0
    assert float(found["loss"]) == pytest.approx(float(found["readout"]))


def test_gradients_reach_features_and_edges(few):
    method, state, runtime = begin(gstam(), few)
    method.step(state, runtime)
    for learned in (state.features, state.edges):
        assert learned.grad.isfinite().all()
        assert learned.grad.abs().max() > 0
    assert all(p.grad is None for p in state.network.parameters())


@pytest.mark.parametrize("start", ["real", "noise"])
def test_with_a_fixed_network_the_loss_falls_to_a_fifth(start, mutag, monkeypatch):
    monkeypatch.setattr("attar.graphs.matching.redraw_", lambda *a: None)
    settings = {"gpc": 1, "nodes": 18, "sparsity_weight": 0.0, "lr_features": 0.05, "cooling": 20}
    method, state, runtime = begin(GSTAM(**settings, architecture=Architecture(width=64), start=start), mutag)
    method.architecture.build(mutag.features, 2, torch.Generator().manual_seed(0))
    losses = [float(method.step(state, runtime)["loss"]) for _ in range(200)]
    assert min(losses[-20:]) < losses[0] / 5


def test_step_sizes_drop_and_adam_starts_anew(few):
    method, state, runtime = begin(gstam(drop_at=3), few)
    for _ in range(3):
        method.step(state, runtime)
    assert [group["lr"] for group in state.optimizer.param_groups] == pytest.approx([0.01, 0.001])
    assert not state.optimizer.state
    assert state.draws == 3


def test_after_no_step_the_result_is_the_start(few):
    method, state, runtime = begin(gstam(), few)
    small = method.result(state, runtime)
    start = gstam().resolve(few, Runtime(ENGINE)).begin(few, Runtime(ENGINE))
    assert torch.equal(small.adjacency, start.adjacency.bool())
    assert torch.equal(small.feat, start.features)
    assert small.sizes.tolist() == [method.nodes] * 6
    assert small.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_all_real_graphs_are_joined_once_where_they_are_seen_in_every_step(few):
    method, state, runtime = begin(gstam(real_batch=12), few)
    assert method.draw_real(state, runtime) is method.draw_real(state, runtime)
    method, state, runtime = begin(gstam(real_batch=11), few)
    assert method.draw_real(state, runtime).counts == (11, 11)
    assert isinstance(method.draw_real(state, runtime, most=2), RealBatch)


# The table.


def test_every_line_of_the_scripts_survives_json():
    for cell in table_of(GSTAM).cells:
        method = GSTAM.paper(cell.data, gpc=int(cell.size), variant="released")
        assert GSTAM.from_json(json.loads(json.dumps(method.to_json()))) == method
        assert method.synthetic_map == "released"


def test_a_line_of_the_scripts():
    method = GSTAM.paper("ogbg-molhiv", gpc=10)
    assert (method.nodes, method.power, method.lr_adjacency, method.theory_weight) == (26, 4, 0.01, 1)
    assert method.architecture.pooling == "sum"
    assert GSTAM.paper("mutag", gpc=20).lr_adjacency == 0.2
    assert GSTAM.paper("ogbg-molbbbp", gpc=1) == GSTAM.paper("molbbbp", gpc=1)


@pytest.mark.parametrize(
    ("data", "gpc", "wrong"),
    [
        ("MUTAG", 50, "GSTAM has no cell MUTAG-50. Cells: MUTAG-1, MUTAG-10, MUTAG-20."),
        ("NC1", 1, "did you mean 'NCI1'"),
    ],
)
def test_what_the_scripts_do_not_have_is_refused(data, gpc, wrong):
    with pytest.raises(InputError, match=wrong):
        GSTAM.paper(data, gpc=gpc)


@pytest.mark.parametrize(
    ("settings", "wrong"), [({"power": 0.5}, "power is 0.5"), ({"synthetic_map": "old"}, "unknown synthetic_map 'old'")]
)
def test_impossible_settings_are_refused(settings, wrong):
    with pytest.raises(InputError, match=wrong):
        GSTAM(**settings)
