"""The contrastive core against its definition, in float64, and what may not go wrong in float32."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from attar.core.errors import InputError
from attar.embeddings.contrast import contrast, contrast_embeddings

N, M, D = 7, 9, 4


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


def normal(draw, *shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=draw)


def weights_of(draw, rows, columns):
    """Real and not symmetric, with one empty row."""
    weights = torch.rand(rows, columns, dtype=torch.float64, generator=draw)
    weights[torch.rand(rows, columns, generator=draw) < 0.5] = 0
    weights[2] = 0
    return weights


def by_loops(logits, weights, candidates, inside):
    """-Σ w log p / Σ w, anchor by anchor; None for one that does not count."""
    losses = []
    for row, wanted, allowed in zip(logits.tolist(), weights.tolist(), candidates.tolist(), strict=True):
        total = sum(math.exp(one) for one, yes in zip(row, allowed, strict=True) if yes)
        if not total or not sum(wanted):
            losses.append(None)
            continue
        p = [math.exp(one) / total for one in row]
        if inside:
            losses.append(-math.log(sum(w * q for w, q in zip(wanted, p, strict=True)) / sum(wanted)))
        else:
            losses.append(-sum(w * math.log(q) for w, q in zip(wanted, p, strict=True)) / sum(wanted))
    return losses


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("some", [False, True], ids=["all candidates", "some candidates"])
def test_contrast_is_its_definition(draw, inside, some):
    logits, weights = normal(draw, N, M), weights_of(draw, N, M)
    candidates = torch.rand(N, M, generator=draw) < 0.6 if some else torch.ones(N, M, dtype=torch.bool)
    candidates[4] = not some
    losses = by_loops(logits, weights, candidates, inside)
    wanted = torch.tensor([one or 0 for one in losses], dtype=torch.float64)
    given = {"candidates": candidates if some else None, "inside": inside}
    torch.testing.assert_close(contrast(logits, weights, reduction="none", **given), wanted)
    torch.testing.assert_close(contrast(logits, weights, reduction="sum", **given), wanted.sum())
    count = sum(one is not None for one in losses)
    assert count == (5 if some else 6)
    torch.testing.assert_close(contrast(logits, weights, **given), wanted.sum() / count)


def forms(draw, n, m):
    """Temperatures in every shape."""
    return {
        "number": 0.3,
        "scalar": torch.tensor(0.3, dtype=torch.float64),
        "anchor": 0.2 + torch.rand(n, dtype=torch.float64, generator=draw),
        "pair": 0.2 + torch.rand(n, m, dtype=torch.float64, generator=draw),
    }


def plainly(z, weights, temperature, other, candidates, normalise, **how):
    """The same through the whole matrix of logits."""
    z = F.normalize(z) if normalise else z
    other = z if other is None else (F.normalize(other) if normalise else other)
    divisor = temperature[:, None] if isinstance(temperature, torch.Tensor) and temperature.ndim == 1 else temperature
    logits = z @ other.T / divisor
    allowed = torch.ones_like(logits, dtype=torch.bool) if candidates is None else candidates
    if other is z:
        diagonal = torch.eye(len(z), dtype=torch.bool)
        allowed, weights = allowed & ~diagonal, weights * ~diagonal
    return contrast(logits, weights, allowed, **how)


@pytest.mark.parametrize("form", ["number", "scalar", "anchor", "pair"])
@pytest.mark.parametrize("chunk", [None, 1, 3])
@pytest.mark.parametrize("against", ["itself", "others"])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_fused_is_plain(draw, form, chunk, against, inside, reduction):
    """Values and all gradients; weights are real and not symmetric, a row is empty, chunks do not divide N."""
    other = None if against == "itself" else normal(draw, M, D).requires_grad_()
    z = normal(draw, N, D).requires_grad_()
    columns = N if other is None else M
    weights, temperature = weights_of(draw, N, columns), forms(draw, N, columns)[form]
    candidates = (torch.rand(N, columns, generator=draw) < 0.7) if chunk else None
    inputs = [one for one in (z, other, temperature) if isinstance(one, torch.Tensor)]
    if isinstance(temperature, torch.Tensor):
        temperature.requires_grad_()
    how = {"other": other, "candidates": candidates, "reduction": reduction, "inside": inside}
    wanted = plainly(z, weights, temperature, normalise=bool(chunk), **how)
    given = weights if chunk else lambda rows: weights[rows]
    found = contrast_embeddings(z, given, temperature, chunk, normalise=bool(chunk), **how)
    torch.testing.assert_close(found, wanted)
    upstream = normal(draw, *found.shape)
    for mine, theirs in zip(
        torch.autograd.grad(found, inputs, upstream), torch.autograd.grad(wanted, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("form", ["scalar", "anchor", "pair"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients_are_those_of_finite_differences(draw, form, reduction):
    z, other = normal(draw, 5, 3).requires_grad_(), normal(draw, 4, 3).requires_grad_()
    weights, temperature = weights_of(draw, 5, 4), forms(draw, 5, 4)[form].requires_grad_()
    assert gradcheck(
        lambda a, b, t: contrast_embeddings(a, weights, t, 2, other=b, reduction=reduction), (z, other, temperature)
    )
    square = weights_of(draw, 5, 5)
    temperature = forms(draw, 5, 5)[form].requires_grad_()
    assert gradcheck(lambda a, t: contrast_embeddings(a, square, t, 2, reduction=reduction), (z, temperature))


@pytest.mark.parametrize("temperature", [0.07, 0.005, 0.001])
def test_a_small_temperature_is_finite_in_single_precision(draw, temperature):
    """A sample's similarity with itself, 1 / τ, may not be the maximum that the exponents are shifted by."""
    z = normal(draw, 16, 64).float().requires_grad_()
    weights = torch.arange(16)[:, None] // 2 == torch.arange(16)[None] // 2
    found = contrast_embeddings(z, weights, temperature)
    exact = contrast_embeddings(z.detach().double(), weights, temperature)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(found, z)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_nothing_to_contrast_is_zero_with_a_zero_gradient(draw):
    z = normal(draw, 5, 3).requires_grad_()
    for weights, candidates in ((torch.zeros(5, 5), None), (torch.ones(5, 5), torch.zeros(5, 5, dtype=torch.bool))):
        found = contrast_embeddings(z, weights, 0.1, candidates=candidates)
        assert found == 0 and not torch.autograd.grad(found, z)[0].any()
        logits = z @ z.T
        found = contrast(logits, weights, candidates)
        assert found == 0 and not torch.autograd.grad(found, z)[0].any()


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("against", ["itself", "others"])
def test_no_more_is_kept_for_the_gradient_than_embeddings(draw, reduction, against):
    z, temperature = normal(draw, 64, 4).requires_grad_(), torch.tensor(0.1, requires_grad=True)
    other = None if against == "itself" else normal(draw, 64, 4).requires_grad_()
    kept = []

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        weights = torch.arange(64)[:, None] // 2 == torch.arange(64) // 2
        contrast_embeddings(z, weights, temperature, other=other, reduction=reduction)
    assert kept and max(kept) == 64 * 4


def test_what_is_not_a_number_stays_so(draw):
    z = normal(draw, 5, 3)
    z[1, 1] = torch.nan
    assert contrast_embeddings(z, torch.ones(5, 5), 0.1).isnan()


def test_masked_logits_of_no_weight_do_no_harm(draw):
    logits = normal(draw, 4, 5).fill_diagonal_(-torch.inf).requires_grad_()
    weights = torch.rand(4, 5, dtype=torch.float64, generator=draw).fill_diagonal_(0)
    found = contrast(logits, weights)
    assert found.isfinite() and torch.autograd.grad(found, logits)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(draw, dtype):
    z = normal(draw, 8, 16).to(dtype)
    weights = torch.arange(8)[:, None] % 4 == torch.arange(8)[None] % 4
    wanted = contrast_embeddings(z.float(), weights, 0.07)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = contrast_embeddings(z.requires_grad_(), weights, 0.07)
        logits = F.normalize(z.float()) @ F.normalize(z.float()).T
        single = contrast(logits, weights)
        found.backward()
    assert found.dtype == single.dtype == torch.float32 and z.grad.dtype == dtype
    assert found == wanted


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_second_derivatives_are_refused(draw, reduction):
    z = normal(draw, 4, 3).requires_grad_()
    found = contrast_embeddings(z, torch.ones(4, 4), 0.5, reduction=reduction).sum()
    with pytest.raises(InputError, match="only once"):
        torch.autograd.grad(found, z, create_graph=True)


def test_bad_input_is_refused_in_a_line(draw):
    z = normal(draw, 4, 3)
    with pytest.raises(InputError, match=r"^a weight is -1; weights of positives are at least 0\.$"):
        contrast_embeddings(z, -torch.ones(4, 4), 0.5)
    with pytest.raises(InputError, match=r"^chunk is 0; give at least 1, or leave it out\.$"):
        contrast_embeddings(z, torch.ones(4, 4), 0.5, 0)
    with pytest.raises(InputError, match=r"^temperature is 0\.0; it must be above 0\.$"):
        contrast_embeddings(z, torch.ones(4, 4), 0.0)
    with pytest.raises(InputError, match=r"^weights of rows 2 to 3 have shape \(2, 3\); give \(2, 4\)"):
        contrast_embeddings(z, lambda rows: torch.ones(2, 4 - int(rows[0] > 0)), 0.5, 2)
    with pytest.raises(InputError, match=r"^temperature has shape \(3,\); give \(\), \(4,\) or \(4, 4\)\.$"):
        contrast_embeddings.__wrapped__(z, torch.ones(4, 4), torch.ones(3))
