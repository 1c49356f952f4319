import dataclasses

import pytest
import torch
import torch.nn.functional as F

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.graphs import doscond
from attar.graphs.doscond import DosCond, gradient_distance, gradients
from attar.graphs.networks import Architecture
from attar.graphs.structures import PaddedGraphs
from graphs.helpers import ENGINE, NARROW


def dos(**settings):
    return DosCond(**{"gpc": 3, "steps": 5, "real_batch": 8, "architecture": NARROW, **settings})


def begin(method, source, seed=0):
    runtime = Runtime(ENGINE, seed)
    method = method.resolve(source, runtime)
    return method, method.build(source, runtime), runtime


@pytest.fixture
def slopes(generator):
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((4, 3), (4,), (2, 4), (2,))]


# The distance.


@pytest.mark.parametrize("distance", ["mse", "cos", "ours"])
def test_equal_gradients_have_no_distance(distance, slopes):
    assert float(gradient_distance(slopes, slopes, distance)) == pytest.approx(
        0, abs=1e-5 if distance == "ours" else 1e-12
    )


def test_no_gradient_is_one_away_by_squares(slopes):
    assert float(gradient_distance([torch.zeros_like(g) for g in slopes], slopes)) == 1


def test_a_cosine_forgets_scale(slopes, generator):
    others = [torch.randn(g.shape, generator=generator, dtype=torch.float64) for g in slopes]
    scaled = [3 * g for g in others]
    torch.testing.assert_close(gradient_distance(scaled, slopes, "cos"), gradient_distance(others, slopes, "cos"))


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-5, 0.0])
def test_the_distance_of_the_released_code_is_row_by_row_with_a_millionth_added(scale, slopes):
    target = [g * scale for g in slopes]
    others = [(slopes[0] + 1) * scale, slopes[1] + 9, slopes[2] * scale, slopes[3] - 5]
    rows = [(a, b) for n in (0, 2) for a, b in zip(others[n], target[n], strict=True)]
    expected = sum(float(1 - (a * b).sum() / (a.norm() * b.norm() + 0.000001)) for a, b in rows)
    assert float(gradient_distance(others, target, "ours")) == pytest.approx(expected, rel=1e-12)


def test_a_vanishing_gradient_does_not_divide_by_nothing():
    tiny = [torch.zeros(2, 2)]
    for distance in ("mse", "cos", "ours"):
        assert gradient_distance([torch.ones(2, 2)], tiny, distance).isfinite()


# The gradients.


def test_the_gradient_of_a_linear_network_is_its_closed_form(toy, generator):
    network = Architecture(width=3, depth=1).build(3, 2, generator).double()
    padded = toy.padded()
    network.convolutions[0].weight.data.copy_(torch.eye(3))
    labels = toy.labels
    (found,) = gradients(network, [network.head.weight], toy.joined(), labels)
    pooled = torch.stack(
        [(padded.normalised_adjacency[g] @ padded.features[g])[:s].mean(dim=0) for g, s in enumerate(toy.sizes)]
    )
    answers = (pooled @ network.head.weight.T + network.head.bias).softmax(dim=1)
    torch.testing.assert_close(found, (answers - F.one_hot(labels, 2)).T @ pooled / 6)


@pytest.mark.parametrize("kind", ["gcn", "sage", "gat"])
def test_both_branches_have_the_same_gradient(kind, motifs, generator):
    rows = torch.arange(6)
    graphs = motifs.train.select(rows)
    network = Architecture(kind=kind, width=8).build(motifs.features, 2, generator)
    parameters = list(network.parameters())
    real, padded = gradients(network, parameters, graphs.joined(), graphs.labels), graphs.padded()
    dense = gradients(network, parameters, padded, graphs.labels, differentiable=True)
    assert float(gradient_distance(dense, real).detach()) < 1e-8


@pytest.mark.parametrize("distance", ["mse", "cos"])
def test_its_gradient_in_features_and_edges_is_right(distance, generator):
    network = Architecture(width=4, depth=2).build(2, 2, generator).double()
    parameters = list(network.parameters())
    labels = torch.tensor([0, 1])
    features = torch.rand(2, 5, 2, generator=generator, dtype=torch.float64)
    edges = torch.rand(2, 5, 5, generator=generator, dtype=torch.float64)
    target = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]

    def loss(x, a):
        graphs = PaddedGraphs(x, (a + a.mT) / 2 * (1 - torch.eye(5)))
        return gradient_distance(gradients(network, parameters, graphs, labels, differentiable=True), target, distance)

    assert torch.autograd.gradcheck(loss, (features.requires_grad_(), edges.requires_grad_()), atol=1e-4)


def test_without_edges_and_layers_it_is_dc_on_vectors(generator):
    network = Architecture(width=4, depth=1).build(4, 3, generator)
    network.convolutions[0].weight.data.copy_(torch.eye(4))
    x, labels = torch.rand(6, 1, 4, generator=generator), torch.arange(6) % 3
    head = list(network.head.parameters())
    found = gradients(network, head, PaddedGraphs(x, torch.zeros(6, 1, 1)), labels)
    plain = torch.autograd.grad(F.cross_entropy(network.head(x[:, 0]), labels), head)
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(one, other)


# The step.


@pytest.mark.parametrize("together", [False, True])
def test_the_same_graphs_have_no_loss(together, few):
    rows = tuple(r[few.train.sizes[r] == s] for r, s in zip(few.rows_of, (16, 16), strict=True))
    assert min(map(len, rows)) >= 1
    method, state, runtime = begin(dos(class_agnostic=together, gpc=1, nodes=16), few)
    kept = torch.cat([r[:1] for r in rows])
    padded = few.train.select(kept).padded(16)
    state.features.data.copy_(padded.features)
    batch = method._batch(few, [r[:1] for r in rows], runtime)
    graphs = PaddedGraphs(state.features, padded.adjacency)
    assert float(method.compare(state, batch, graphs).detach()) < 1e-6


def test_one_step_never_trains_the_network(few, monkeypatch):
    monkeypatch.setattr(doscond, "train_between", lambda *a: pytest.fail("trained"))
    method, state, runtime = begin(dos(), few)
    method.step(state, runtime)
    assert state.draws == 1


def test_between_two_matches_the_network_is_trained(few, monkeypatch):
    method, state, runtime = begin(dos(outer=2, inner=1), few)
    seen = []
    real = DosCond.compare
    monkeypatch.setattr(
        DosCond, "compare", lambda self, s, *a: seen.append(s.network.head.weight.clone()) or real(self, s, *a)
    )
    method.step(state, runtime)
    assert len(seen) == 2
    assert not torch.equal(*seen)
    assert state.draws == 3


def test_the_head_bias_can_be_left_out(few):
    losses = []
    for head_bias in (True, False):
        method, state, runtime = begin(dos(head_bias=head_bias, sparsity_weight=0.0), few)
        losses.append(float(method.step(state, runtime)["loss"]))
    assert losses[0] != losses[1]


def test_a_continuous_adjacency_stays_between_0_and_1_and_is_cut_in_the_middle(few):
    method, state, runtime = begin(dos(adjacency="continuous", lr_adjacency=0.4), few)
    assert torch.equal(method.result(state, runtime).adjacency, state.edges.bool())
    for _ in range(3):
        method.step(state, runtime)
    assert 0 <= state.edges.min() < state.edges.max() <= 1
    small = method.result(state, runtime)
    middle = (state.edges + state.edges.mT) / 2
    assert torch.equal(small.adjacency, (middle > 0.5) & ~torch.eye(method.nodes, dtype=torch.bool))
    assert state.draws == 0


def test_with_a_fixed_network_the_loss_falls(mutag, monkeypatch):
    monkeypatch.setattr("attar.graphs.matching.redraw_", lambda *a: None)
    settings = {"gpc": 1, "nodes": 18, "sparsity_weight": 0.0, "lr_features": 0.05, "cooling": 20, "drop_at": 0}
    method, state, runtime = begin(DosCond(**settings, architecture=Architecture(width=32)), mutag)
    losses = [float(method.step(state, runtime)["loss"]) for _ in range(300)]
    assert min(losses[-50:]) / 2 < 0.05


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_norms_are_matched_too(norm, few):
    architecture = dataclasses.replace(NARROW, norm=norm)
    method, state, runtime = begin(dos(architecture=architecture), few)
    assert method.step(state, runtime)["loss"].isfinite()
    if norm == "batch":
        assert state.network.variances.min() > 0
        assert not torch.equal(state.network.variances, torch.ones_like(state.network.variances))


# The table.


def test_lines_of_the_script():
    method = DosCond.paper("ogbg-molbace", gpc=10)
    assert (method.nodes, method.lr_adjacency, method.class_agnostic, method.gpc) == (34, 0.01, True, 10)
    assert DosCond.paper("dd", gpc=1).lr_adjacency == 2
    superpixels = DosCond.paper("CIFAR10", gpc=1)
    assert (superpixels.nodes, superpixels.symmetric, superpixels.architecture.norm) == (118, False, "instance")
    with pytest.raises(InputError, match="DosCond has no cell of 'PROTEINS'"):
        DosCond.paper("PROTEINS", gpc=1)
