import pytest
import torch

from attar.core.runtime import Runtime
from attar.graphs.coresets import GraphStart
from attar.graphs.structures import PaddedGraphs
from attar.graphs.synthetic import bound_term, discrete, relaxed, sparsity, start_logits, symmetric, temperature
from graphs.helpers import ENGINE


@pytest.fixture
def start(motifs):
    runtime = Runtime(ENGINE)
    return GraphStart(gpc=5).resolve(motifs, runtime).begin(motifs, runtime)


def test_the_temperature_falls_and_then_stays():
    assert [temperature(k) for k in (0, 100, 200, 500)] == pytest.approx([1, 0.1, 0.01, 0.01])
    assert temperature(50, coldest=0.25, cooling=100) == pytest.approx(0.5)


@pytest.mark.parametrize("tau", [1.0, 0.1, 0.01])
def test_a_relaxed_sample_is_symmetric_without_loops_and_between_0_and_1(tau, generator):
    logits = symmetric(torch.randn(3, 7, 7, generator=generator))
    sample = relaxed(logits, tau, generator)
    torch.testing.assert_close(sample, sample.mT, rtol=1e-5, atol=0)
    assert sample.diagonal(dim1=1, dim2=2).abs().max() == 0
    assert 0 <= sample.min() <= sample.max() <= 1


def test_cold_samples_of_sure_edges_are_nearly_coins(generator):
    logits = symmetric(5 * torch.randint(2, (40, 20, 20), generator=generator).mul(2).sub(1).float())
    logits = 5 * logits.sign()
    sample = relaxed(logits, 0.01, generator)
    sharp = torch.minimum(sample, 1 - sample)[:, ~torch.eye(20, dtype=torch.bool)] < 1e-3
    assert sharp.float().mean() > 0.95


def test_the_mean_of_cold_samples_is_the_sigmoid(generator):
    logits = torch.tensor([[0.0, -2.0, 0.5], [-2.0, 0.0, 1.5], [0.5, 1.5, 0.0]]).expand(10_000, 3, 3)
    mean = relaxed(logits, 0.01, generator).mean(dim=0)
    expected = torch.sigmoid(logits[0]) * (1 - torch.eye(3))
    assert (mean - expected).abs().max() < 4 * 0.5 / 100


def test_uniform_numbers_at_their_ends_do_no_harm(generator, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *a, **k: torch.tensor([0.0, 1.0]).repeat(8).view(1, 4, 4))
    logits = torch.zeros(1, 4, 4, requires_grad=True)
    relaxed(logits, 1.0, generator).sum().backward()
    assert logits.grad.isfinite().all()


def test_discretising_the_start_gives_back_the_start(start):
    assert torch.equal(discrete(start_logits(start.adjacency, real=True)), start.adjacency.bool())


def test_the_hinge_of_sparsity_starts_where_it_must(start):
    weights = torch.sigmoid(start_logits(start.adjacency, real=True))
    s0, p = start.density, torch.sigmoid(torch.tensor(5.0)).item()
    assert float(weights.mean()) == pytest.approx(p * s0 + (1 - p) * (1 - s0), rel=1e-5)
    assert float(sparsity(weights, s0)) == pytest.approx((1 - p) * (1 - 2 * s0), rel=1e-4)
    assert float(sparsity(weights / 2, s0)) == 0


def test_logits_of_noise_are_at_most_ten():
    logits = start_logits(torch.tensor([[[0.0, 0.5], [0.5, 1.0]]]), real=False)
    assert logits.flatten().tolist() == [-10, 0, 0, 10]


def test_the_bound_is_of_the_pooled_thrice_spread_features(toy):
    padded = toy.padded(6)
    graphs = PaddedGraphs(padded.features, padded.adjacency)
    cube = torch.linalg.matrix_power(graphs.normalised_adjacency, 3)
    expected = 0.15 / 2**0.5 * 0.5 * (cube @ padded.features).sum(dim=1).norm() / 6
    torch.testing.assert_close(bound_term(graphs, "sum", 2), expected)
