"""BCE, focal and asymmetric losses: the authors' values and gradients, the limits of one another, extreme scores."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from attar.core.errors import InputError
from attar.embeddings.multilabel.asl import (
    ASL_SCRIPT,
    AsymmetricLoss,
    BinaryCrossEntropy,
    FocalLoss,
    asymmetric_loss,
    asymmetric_loss_one_label,
    bce_loss,
    focal_loss,
)

GOLDEN = Path(__file__).parents[1] / "golden"
RELEASED = json.loads((GOLDEN / "asl.json").read_text(encoding="utf-8"))
TENSORS = load_file(GOLDEN / "asl.safetensors")


def golden(case):
    start = f"{case}."
    return {name.removeprefix(start): value for name, value in TENSORS.items() if name.startswith(start)}


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(7, 5, dtype=torch.float64, generator=generator)
    return logits.requires_grad_(), torch.rand(7, 5, generator=generator) < 0.3


def value_and_gradient(loss, logits):
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.detach(), gradient


@pytest.mark.parametrize("case", RELEASED["asl"])
def test_the_released_losses_are_reproduced(case):
    how, given = RELEASED["asl"][case], golden(f"asl.{case}")
    logits = given["in.logits"].requires_grad_()
    settings = {"gamma_neg": how["gamma_neg"], "gamma_pos": how["gamma_pos"], "clip": how["clip"], "reduction": "sum"}
    for form, stop in (("out", how["weights_without_gradient"]), ("optimised.out", how["weights_without_gradient"])):
        loss = asymmetric_loss(logits, given["in.labels"], **settings, stop_weight_grad=stop, clamp=1e-8)
        value, gradient = value_and_gradient(loss, logits)
        torch.testing.assert_close(value, given[f"{form}.loss"], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(gradient, given[f"{form}.grad.logits"], rtol=1e-7, atol=1e-9)
    unclamped = asymmetric_loss(logits, given["in.labels"], **settings)
    torch.testing.assert_close(unclamped.detach(), given["restated.loss_unclamped"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", ["smoothing", "no_smoothing"])
def test_the_released_loss_of_one_label_is_reproduced(case):
    given = golden(f"asl_single_label.{case}")
    logits = given["in.logits"].requires_grad_()
    loss = asymmetric_loss_one_label(logits, given["in.labels"], smoothing=RELEASED["asl_single_label"][case]["eps"])
    value, gradient = value_and_gradient(loss, logits)
    torch.testing.assert_close(value, given["out.loss"])
    torch.testing.assert_close(gradient, given["out.grad.logits"])


@pytest.mark.parametrize("case", ["ordinary", "one"])
def test_the_asl_of_kmcls_code_is_reproduced(case):
    given = golden(f"kmcl_asl_gradient_on.{case}")
    logits = given["in.logits"].requires_grad_()
    how = {"gamma_neg": 4, "gamma_pos": 1, "clip": 0.05, "stop_weight_grad": False, "clamp": 1e-7, "reduction": "sum"}
    value, gradient = value_and_gradient(asymmetric_loss(logits, given["in.labels"], **how), logits)
    torch.testing.assert_close(value, given["out.asl"])
    torch.testing.assert_close(gradient, given["out.grad.logits"])


def test_without_focus_and_clip_it_is_binary_cross_entropy(batch):
    logits, labels = batch
    plain = asymmetric_loss(logits, labels, gamma_neg=0, gamma_pos=0, clip=0, reduction="sum")
    definition = F.binary_cross_entropy_with_logits(logits, labels.double(), reduction="sum")
    torch.testing.assert_close(plain, definition, rtol=0, atol=1e-12)
    torch.testing.assert_close(bce_loss(logits, labels, reduction="sum"), definition, rtol=0, atol=1e-12)


def test_equal_focus_is_the_focal_loss(batch):
    logits, labels = batch
    right = torch.where(labels, logits.sigmoid(), 1 - logits.sigmoid())
    definition = -((1 - right) ** 2 * right.log()).sum()
    torch.testing.assert_close(focal_loss(logits, labels, gamma=2, reduction="sum"), definition)
    both = {"gamma_neg": 2, "gamma_pos": 2, "clip": None, "stop_weight_grad": False}
    torch.testing.assert_close(asymmetric_loss(logits, labels, **both, reduction="sum"), definition)
    torch.testing.assert_close(focal_loss(logits, labels, gamma=0), bce_loss(logits, labels))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("stop", [True, False])
def test_an_absent_label_within_the_clip_has_neither_loss_nor_gradient(gamma, stop):
    logits = torch.tensor([[-2.95, -5.0, -200.0]], requires_grad=True)  # σ(−2.95) = .0497
    how = {"gamma_neg": gamma, "clip": 0.05, "stop_weight_grad": stop}
    value, gradient = value_and_gradient(asymmetric_loss(logits, torch.zeros(1, 3), **how), logits)
    assert value == 0 and not gradient.any()


def test_no_score_is_too_extreme_for_a_gradient():
    logits = torch.tensor([[-30.0, -500.0, -18.0]], requires_grad=True)
    value, gradient = value_and_gradient(asymmetric_loss(logits, torch.ones(1, 3), reduction="sum"), logits)
    torch.testing.assert_close(value, torch.tensor(548.0))
    torch.testing.assert_close(gradient, torch.full((1, 3), -1.0))
    _, capped = value_and_gradient(asymmetric_loss(logits, torch.ones(1, 3), clamp=1e-8, reduction="sum"), logits)
    torch.testing.assert_close(capped, torch.tensor([[0.0, 0.0, -1.0]]))


@pytest.mark.parametrize("gamma", [0.5, 1, 3])
def test_gradients_are_finite_for_every_focus(gamma):
    logits = torch.tensor([[-200.0, 200.0, 0.0, -2.9444389]] * 2, requires_grad=True)
    labels = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])
    for clip in (0.0, 0.05):
        how = {"gamma_neg": gamma, "gamma_pos": gamma, "clip": clip, "stop_weight_grad": False}
        value, gradient = value_and_gradient(asymmetric_loss(logits, labels, **how), logits)
        assert value.isfinite() and gradient.isfinite().all()


def test_gradients_are_those_of_the_formula(batch):
    logits, labels = batch
    for how in ({"gamma_pos": 1.0, "clip": 0.05}, {"gamma_pos": 1.0, "clip": 0.0}):
        assert torch.autograd.gradcheck(
            lambda s, h=how: asymmetric_loss(s, labels, **h, stop_weight_grad=False), logits
        )


def test_weights_without_a_gradient_leave_the_mode_alone(batch):
    logits, labels = batch
    with torch.no_grad():
        assert not asymmetric_loss(logits, labels).requires_grad
        assert not torch.is_grad_enabled()
    kept = asymmetric_loss(logits, labels, stop_weight_grad=True)
    free = asymmetric_loss(logits, labels, stop_weight_grad=False)
    assert kept == free
    assert not torch.equal(*(torch.autograd.grad(loss, logits)[0] for loss in (kept, free)))


def test_reductions_and_modules(batch):
    logits, labels = batch
    total = asymmetric_loss(logits, labels, **ASL_SCRIPT, reduction="sum")
    torch.testing.assert_close(AsymmetricLoss()(logits, labels), total / 7)
    torch.testing.assert_close(AsymmetricLoss(reduction="mean")(logits, labels), total / 35)
    torch.testing.assert_close(FocalLoss(1.5)(logits, labels), focal_loss(logits, labels, gamma=1.5))
    torch.testing.assert_close(BinaryCrossEntropy("mean")(logits, labels), bce_loss(logits, labels, reduction="mean"))


def test_half_precision_is_computed_in_single(batch):
    logits, labels = batch
    half = logits.detach().bfloat16()
    for loss in (asymmetric_loss, focal_loss, bce_loss):
        assert loss(half, labels).dtype == torch.float32
        assert loss(half, labels) == loss(half.float(), labels)


def test_shapes_that_differ_are_refused(batch):
    logits, labels = batch
    with pytest.raises(InputError) as refused:
        asymmetric_loss(logits.detach(), labels[:, :4])
    expected = "scores have shape (7, 5), but labels (7, 4). Give a label for each score."
    assert str(refused.value) == expected
