import pytest
import torch

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.graphs.coresets import GraphStart
from attar.graphs.gstam import GSTAM
from attar.graphs.starts import by_ratio, cut, mean_density
from graphs.helpers import ENGINE


def begun(source, **settings):
    runtime = Runtime(ENGINE)
    method = GraphStart(**settings).resolve(source, runtime)
    return method, method.begin(source, runtime)


def test_a_start_is_of_real_graphs_with_their_padding(motifs):
    method, start = begun(motifs, gpc=4)
    assert method.nodes == 17 == round(float(motifs.train.sizes.float().mean()))
    assert start.features.shape == (8, 17, 8)
    sizes = (start.features.sum(dim=2) > 0).sum(dim=1)
    for row, size in enumerate(sizes.tolist()):
        alike = [
            torch.equal(one.features, start.features[row, :size])
            for one in (motifs.train.select(torch.tensor([r])) for r in motifs.rows_of[row // 4])
        ]
        assert any(alike)
    assert start.density == pytest.approx(float(start.adjacency.sum()) / (8 * 17 * 17))


def test_every_method_with_the_same_seed_starts_from_the_same_graphs(motifs):
    runtime = Runtime(ENGINE)
    method = GSTAM(gpc=4).resolve(motifs, runtime)
    assert torch.equal(method.begin(motifs, runtime).features, begun(motifs, gpc=4)[1].features)


def test_where_too_few_graphs_fit_larger_ones_are_cut(motifs):
    _, start = begun(motifs, gpc=20, nodes=13)
    fitting = [int((motifs.train.sizes[rows] <= 13).sum()) for rows in motifs.rows_of]
    assert max(fitting) < 20
    full = (start.features.sum(dim=2) > 0).sum(dim=1)
    assert int((full == 13).sum()) >= 40 - sum(fitting)


def test_or_those_that_fit_are_taken_again(motifs):
    _, start = begun(motifs, gpc=20, nodes=13, fill="repeat")
    fitting = int((motifs.train.sizes[motifs.rows_of[0]] <= 13).sum())
    assert torch.equal(start.features[:fitting][: 20 - fitting], start.features[fitting : min(2 * fitting, 20)])


def test_no_graph_that_could_be_repeated_is_refused(motifs):
    with pytest.raises(InputError, match=r"'house' of motifs has no graph of at most 5 nodes\. Give more --nodes"):
        begun(motifs, gpc=1, nodes=5, fill="repeat")


def test_cutting_keeps_the_nodes_of_highest_degree(toy):
    small = cut(toy, 4)
    assert small.sizes.tolist() == [1, 2, 3, 4, 4, 4]
    last = toy.select(torch.tensor([5]))
    kept = sorted(torch.argsort(last.degrees, descending=True, stable=True)[:4].tolist())
    one = small.select(torch.tensor([5]))
    assert torch.equal(one.features, last.features[kept])
    expected = last.padded().adjacency[0][kept][:, kept]
    assert torch.equal(one.padded().adjacency[0], expected)


def test_the_density_of_noise_is_that_of_the_real_graphs(motifs):
    _, start = begun(motifs, gpc=4, start="noise")
    assert start.density == pytest.approx(mean_density(motifs.train, 17))
    assert 0.05 < start.density < 0.15
    assert 0 <= start.features.min() < start.features.max() < 1


@pytest.mark.parametrize(
    ("sizes", "ratio", "counts"),
    [([100, 50], 0.1, (10, 5)), ([100, 5], 0.1, (9, 1)), ([5, 5], 0.01, (1, 1)), ([60, 40, 7], 0.5, (30, 20, 3))],
)
def test_a_ratio_is_shared_out_by_class(sizes, ratio, counts):
    assert by_ratio(sizes, ratio) == counts


def test_a_ratio_takes_the_place_of_gpc(motifs):
    method, start = begun(motifs, ratio=0.05)
    assert method.gpc == (7, 7)
    assert len(start.features) == 14
    assert method.resolve(motifs, Runtime(ENGINE)) == method


def test_more_graphs_than_a_class_has_are_refused(motifs):
    with pytest.raises(InputError) as refusal:
        begun(motifs, gpc=145)
    assert str(refusal.value) == (
        "gpc is 145, but class 'house' of motifs has 144 training graphs. "
        "Give 144 or fewer, a number for each class, or start a learning method from noise (--start noise)."
    )
    assert len(begun(motifs, gpc=145, start="noise")[1].features) == 290


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"nodes": 0}, r"nodes is 0; it must be at least 1\."),
        ({"gpc": 0}, r"gpc is 0; it must be at least 1\."),
        (
            {"gpc": (1, 1, 1)},
            r"gpc has 3 numbers for 2 classes\. Give one number for all classes, or one for each class\.",
        ),
        ({"ratio": 1.5}, r"ratio is 1.5; it must be from 0 to 1\."),
    ],
)
def test_impossible_numbers_are_refused(settings, wrong, motifs):
    with pytest.raises(InputError, match=wrong):
        begun(motifs, **settings)
