"""KMCL's losses: the released values and gradients, loops from the definition, invariances, limits."""

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from attar.embeddings.losses import sup_con
from attar.embeddings.multilabel import kernels as module
from attar.embeddings.multilabel.asl import asymmetric_loss
from attar.embeddings.multilabel.kernels import (
    bhattacharyya,
    kernel_contrast,
    kmcl_loss,
    log_bhattacharyya,
    log_kernels,
    reconstruction_loss,
)
from attar.embeddings.multilabel.kmcl import KernelHead

GOLDEN = Path(__file__).parents[1] / "golden"
FIXTURES = Path(os.environ.get("ATTAR_DATA", "")).parent / "fixtures" / "embeddings"
"""All cases of the released code, on machines that have them."""
FORMS = ("isotropic", "anisotropic")
CASES = ("ordinary", "empty_row", "underflow")
FURTHER = ("single_label", "all_ones", "no_shared_label", "one_class", "ties", "extreme_logits")
TAU = 0.17


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


def case_of(form, case):
    if case in CASES:
        tensors, start = load_file(GOLDEN / "kmcl.safetensors"), f"{form}.{case}."
    else:
        tensors, start = load_file(FIXTURES / f"kmcl_losses_{form}.safetensors"), f"{case}."
    given = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
    features, classes = given["in.features"].shape[1], given["in.labels"].shape[1]
    per_class = {name: value for name, value in given.items() if name.endswith(("mean", "variance"))}
    if form == "anisotropic":  # the code's order is feature by feature, then class by class
        given |= {name: value.unflatten(1, (features, classes)).mT for name, value in per_class.items()}
    return given


def parts(given):
    means, variances = (given[f"in.{name}"].contiguous().requires_grad_() for name in ("mean", "variance"))
    return means, variances, given["in.labels"], given["in.features"].shape[1]


def with_root_of_eps(variances):
    """The variance that the code computes with: it adds √ε to standard deviations."""
    return (variances.sqrt() + torch.finfo(torch.float64).eps ** 0.5).square()


def needs(case):
    if case not in CASES and not FIXTURES.is_dir():
        pytest.skip("further cases of the released code lie beside ATTAR_DATA")


@pytest.mark.parametrize("case", [*CASES, *FURTHER])
@pytest.mark.parametrize("form", FORMS)
def test_the_released_losses_are_reproduced(form, case):
    needs(case)
    given = case_of(form, case)
    means, variances, labels, features = parts(given)
    how = {"features": features, "jaccard": "inside_log", "released": True}
    loss = kmcl_loss(means, with_root_of_eps(variances), labels, TAU, **how)
    torch.testing.assert_close(loss.detach(), given["out.kernel"], rtol=0, atol=1e-9)
    for found, name in zip(torch.autograd.grad(loss, (means, variances)), ("mean", "variance"), strict=True):
        torch.testing.assert_close(found, given[f"out.kernel.grad.{name}"], rtol=0, atol=1e-7)
    logits = given["in.logits"]
    rebuilt = reconstruction_loss(
        given["in.features"], logits, means, with_root_of_eps(variances), labels, released=True
    )
    torch.testing.assert_close(rebuilt.detach(), given["out.reconstruction"], rtol=0, atol=1e-9)
    asl = asymmetric_loss(logits, labels, clamp=1e-7, reduction="sum")
    torch.testing.assert_close(asl, given["out.asl"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", [*CASES, *FURTHER])
@pytest.mark.parametrize("form", FORMS)
def test_the_right_forms_are_those_of_the_sheet(form, case):
    needs(case)
    given = case_of(form, case)
    means, variances, labels, features = parts(given)
    spread, some = with_root_of_eps(variances), int(labels.any(dim=1).sum())
    share = some / len(labels)  # the restatement divides by all samples
    torch.testing.assert_close(
        bhattacharyya(means, spread, features).detach(), given["restated.bhattacharyya"], rtol=0, atol=1e-9
    )
    for jaccard, name in (("outside", "outside"), (None, "none"), ("inside_log", "inside_exact")):
        loss = share * kmcl_loss(means, spread, labels, TAU, features=features, jaccard=jaccard)
        torch.testing.assert_close(loss.detach(), given[f"restated.kernel_{name}"], rtol=0, atol=1e-9)
    if "corrected.kernel" in given:
        how = {"features": features, "jaccard": "inside_log", "released": True}
        loss = kernel_contrast(bhattacharyya(means, spread), labels, TAU, jaccard="inside_log", released=True)
        torch.testing.assert_close(loss.detach(), given["corrected.kernel"].double(), rtol=0, atol=1e-9)
        loss = kmcl_loss(means, spread, labels, TAU, **how)
        torch.testing.assert_close(loss.detach(), given["out.kernel"], rtol=0, atol=1e-9)
    rows = given["restated.reconstruction_rows"]
    rebuilt = reconstruction_loss(given["in.features"], given["in.logits"], means, spread, labels)
    torch.testing.assert_close((rebuilt * some).detach(), rows.sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "case, diagonal, kernel", [("isotropic", 0, "bc"), ("anisotropic", 1, "bc"), ("rbf", 0, "rbf")]
)
def test_the_released_head_is_reproduced(case, diagonal, kernel):
    given = {
        name.removeprefix(f"{case}."): value for name, value in load_file(GOLDEN / "kmcl_head.safetensors").items()
    }
    head = KernelHead(4, 3, diagonal=bool(diagonal), kernel=kernel).double()
    start = "param."
    head.load_state_dict({name.removeprefix(start): value for name, value in given.items() if name.startswith(start)})
    found = head(given["in.features"])
    torch.testing.assert_close(found.logits, given["out.logits"])
    for value, name in ((found.means, "mean"), (found.variances, "variance")):
        expected = given[f"out.{name}"]
        torch.testing.assert_close(value, expected.unflatten(1, (4, 3)).mT if diagonal else expected)


def made(draw, samples=6, classes=4, features=None):
    shape = (samples, classes) if features is None else (samples, classes, features)
    means = torch.randn(shape, dtype=torch.float64, generator=draw)
    variances = 1 + torch.rand(shape, dtype=torch.float64, generator=draw)
    labels = torch.rand(samples, classes, generator=draw) < 0.5
    labels[0], labels[1:3, 0] = False, True
    return means, variances, labels


def loops(coefficients, labels, tau, jaccard):
    """The definition, as three loops."""
    count, classes = labels.shape
    total = torch.zeros((), dtype=torch.float64)
    for n in range(count):
        near = [i for i in range(count) if i != n and (labels[n] & labels[i]).any()]
        for i in near:
            index = (labels[n] & labels[i]).sum() / (labels[n] | labels[i]).sum()
            for k in range(classes):
                if labels[n, k] and labels[i, k]:
                    logits = coefficients[n, :, k] / tau
                    others = torch.cat([logits[:n], logits[n + 1 :]])
                    log = logits[i] - others.logsumexp(dim=0) + (index.log() if jaccard == "inside_log" else 0)
                    total -= (index if jaccard == "outside" else 1) * log / len(near)
    return total / labels.any(dim=1).sum()


@pytest.mark.parametrize("jaccard", ["outside", "inside_log", None])
@pytest.mark.parametrize("features", [None, 5])
def test_it_is_the_definition(draw, features, jaccard):
    means, variances, labels = made(draw, features=features)
    expected = loops(bhattacharyya(means, variances, 3), labels, TAU, jaccard)
    torch.testing.assert_close(kmcl_loss(means, variances, labels, TAU, features=3, jaccard=jaccard), expected)


def test_coefficients_are_similarities(draw):
    for means, variances, _ in (made(draw), made(draw, features=5)):
        found = bhattacharyya(means, variances, 5)
        torch.testing.assert_close(found.diagonal(), torch.ones(4, 6).double())
        torch.testing.assert_close(found, found.transpose(0, 1))
        assert found.min() > 0 and found.max() <= 1 + 1e-12


def test_constant_vectors_are_the_isotropic_case(draw):
    means, variances, _ = made(draw)
    wide = [part[:, :, None].expand(-1, -1, 7) for part in (means, variances)]
    torch.testing.assert_close(log_bhattacharyya(*wide), log_bhattacharyya(means, variances, 7))
    points = torch.randn(6, 7, dtype=torch.float64, generator=draw)
    torch.testing.assert_close(log_kernels(points, *wide), log_kernels(points, means, variances))


def test_one_feature_is_an_integral(draw):
    means, variances, _ = made(draw, 2, 1)
    points = torch.linspace(-40, 40, 40001, dtype=torch.float64)
    densities = torch.distributions.Normal(means[:, 0], variances[:, 0].sqrt()).log_prob(points[:, None]).exp()
    integral = torch.trapezoid(densities.prod(dim=1).sqrt(), points)
    torch.testing.assert_close(bhattacharyya(means, variances)[0, 1, 0], integral)


def test_shifts_rotations_and_scales_change_nothing(draw):
    means, variances, _ = made(draw, features=5)
    found = log_bhattacharyya(means, variances)
    torch.testing.assert_close(log_bhattacharyya(means + 3.7, variances), found)
    torch.testing.assert_close(log_bhattacharyya(2.5 * means, 2.5**2 * variances), found)
    points = torch.randn(6, 5, dtype=torch.float64, generator=draw)
    scaled = log_kernels(2.5 * points, 2.5 * means, 2.5**2 * variances)
    torch.testing.assert_close(scaled, log_kernels(points, means, variances))
    turn, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=draw))
    even = variances[:, :, :1].expand_as(means)
    torch.testing.assert_close(log_bhattacharyya(means @ turn, even), log_bhattacharyya(means, even))
    flat, spread = means[:, :, 0], variances[:, :, 0]
    torch.testing.assert_close(log_bhattacharyya(flat + 3.7, spread, 9), log_bhattacharyya(flat, spread, 9))


def test_order_does_not_matter(draw):
    means, variances, labels = made(draw, features=5)
    points, logits = torch.randn(6, 5).double(), torch.randn(6, 4).double()
    rows, classes = torch.randperm(6, generator=draw), torch.randperm(4, generator=draw)
    turned = [part[rows][:, classes] for part in (means, variances, labels)]
    torch.testing.assert_close(kmcl_loss(*turned), kmcl_loss(means, variances, labels))
    torch.testing.assert_close(
        reconstruction_loss(points[rows], logits[rows][:, classes], *turned),
        reconstruction_loss(points, logits, means, variances, labels),
    )


def test_the_reconstruction_is_a_share(draw):
    means, variances, labels = made(draw, features=5)
    points, logits = torch.randn(6, 5).double(), torch.randn(6, 4).double()
    every = torch.ones(6, 4).bool()
    assert reconstruction_loss(points, logits, means, variances, every) == 0
    assert reconstruction_loss(points, logits, means, variances, ~every) == 0
    loss = reconstruction_loss(points, logits, means, variances, labels)
    assert loss > 0
    joint = logits.sigmoid() * log_kernels(points, means, variances).exp()
    rows = -((joint * labels).sum(dim=1) / joint.sum(dim=1)).log()
    torch.testing.assert_close(loss, rows[1:].mean())


def test_one_label_each_is_supcon_in_the_slot_of_the_class(draw):
    z = F.normalize(torch.randn(8, 3, dtype=torch.float64, generator=draw))
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 0, 1])
    similar = (z @ z.T)[:, :, None].expand(-1, -1, 3)
    share = 7 / 8  # samples that have a positive: KMCL counts all that have labels, SupCon those
    found = kernel_contrast(similar, F.one_hot(labels), 0.3)
    torch.testing.assert_close(found, share * sup_con(z, labels, 0.3))


def test_a_jaccard_index_inside_the_logarithm_has_no_effect_on_the_gradient(draw):
    means, variances, labels = made(draw, features=5)
    means.requires_grad_()
    inside, without = (kmcl_loss(means, variances, labels, jaccard=how) for how in ("inside_log", None))
    assert torch.equal(*(torch.autograd.grad(loss, means)[0] for loss in (inside, without)))
    y = labels.double()
    shared = y @ y.T
    near = (shared > 0) & ~torch.eye(6).bool()
    index = shared / (y.sum(dim=1)[:, None] + y.sum(dim=1) - shared).clamp(min=1)
    constant = torch.where(near, -shared * index.clamp(min=1e-9).log(), 0).sum(dim=1) / near.sum(dim=1).clamp(min=1)
    torch.testing.assert_close((inside - without).detach(), constant.sum() / 5)


@pytest.mark.parametrize("anchors", [2**16, 1, 60])
def test_gradients_in_blocks_of_any_size(draw, monkeypatch, anchors):
    monkeypatch.setattr(module, "ANCHORS", anchors)
    means, variances, _ = made(draw, 5, 3, 9)
    leaves = [part.requires_grad_() for part in (means, variances)]
    assert torch.autograd.gradcheck(log_bhattacharyya, leaves)
    mu, v, nu, w = means[:, None], variances[:, None], means[None], variances[None]
    uneven = ((v + w) / (2 * (v * w).sqrt())).log()
    expected = -(uneven / 2 + (mu - nu).square() / (v + w) / 4).sum(dim=3)
    torch.testing.assert_close(log_bhattacharyya(means, variances), expected)


def test_nothing_underflows_in_single_precision(draw):
    points, logits = 30 * torch.randn(6, 2048, generator=draw), torch.randn(6, 4, generator=draw)
    means = torch.randn(6, 4, generator=draw).requires_grad_()
    variances = (1 + torch.rand(6, 4, generator=draw)).requires_grad_()
    labels = torch.rand(6, 4, generator=draw) < 0.5
    loss = reconstruction_loss(points, logits, means, variances, labels)
    gradients = torch.autograd.grad(loss, (means, variances))
    assert loss.isfinite() and all(one.isfinite().all() and one.any() for one in gradients)
    released = reconstruction_loss(points, logits, means, variances, labels, released=True)
    assert not any(one.any() for one in torch.autograd.grad(released, (means, variances)))


@pytest.mark.parametrize("labels", [torch.zeros(3, 2), torch.eye(3)[:, :2], torch.ones(1, 2)])
def test_without_pairs_the_loss_is_zero_and_has_a_gradient(labels):
    means = torch.randn(len(labels), 2, 4).requires_grad_()
    loss = kmcl_loss(means, torch.ones(len(labels), 2, 4), labels)
    (gradient,) = torch.autograd.grad(loss, means)
    assert loss == 0 and not gradient.any()


def test_half_precision_and_autocast_compute_in_single(draw):
    means, variances, labels = made(draw, features=5)
    single = [part.float() for part in (means, variances)]
    expected = kmcl_loss(*single, labels)
    with torch.autocast("cpu", torch.bfloat16):
        assert kmcl_loss(*single, labels) == expected
    assert kmcl_loss(*(part.bfloat16() for part in single), labels).dtype == torch.float32


@pytest.mark.parametrize(
    "diagonal, kernel, shape", [(0, "bc", 1), (0, "rbf", 1), (1, "bc", 2), (1, "rbf", 1), (1, "mks", 2)]
)
def test_what_a_variance_belongs_to(diagonal, kernel, shape):
    head = KernelHead(200, 3, diagonal=bool(diagonal), kernel=kernel, start="released")
    found = head(torch.rand(4, 200))
    size = (4, 3, 128) if diagonal else (4, 3)
    assert found.means.shape == found.variances.shape == size
    assert found.features.shape == (4, 128 if diagonal else 200)
    assert (found.variances > 1).all()
    if kernel == "rbf":
        assert (found.variances == found.variances.flatten(1)[:, :1].view(4, *[1] * (1 + diagonal))).all()
    if kernel == "mks":
        assert (found.variances == found.variances[:, :1]).all()


@pytest.mark.parametrize("jaccard", ["outside", "inside_log", None])
@pytest.mark.parametrize("features", [None, 9])
def test_few_labels_need_few_coefficients(draw, features, jaccard):
    means, variances, _ = made(draw, 7, 6, features)
    labels = torch.rand(7, 6, generator=draw) < 0.3
    labels[0], labels[1:3, 0] = False, True
    leaves = [part.requires_grad_() for part in (means, variances)]
    few = kmcl_loss(means, variances, labels, TAU, features=3, jaccard=jaccard)
    every = kernel_contrast(bhattacharyya(means, variances, 3), labels, TAU, jaccard=jaccard)
    torch.testing.assert_close(few, every)
    torch.testing.assert_close(few, loops(bhattacharyya(means, variances, 3), labels, TAU, jaccard))
    for one, other in zip(*(torch.autograd.grad(loss, leaves) for loss in (few, every)), strict=True):
        torch.testing.assert_close(one, other)
