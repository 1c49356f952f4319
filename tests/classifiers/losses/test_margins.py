"""Losses of margins: derivatives, convexity, calibration, the released code's numbers, and large margins."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from attar.classifiers.losses import (
    BCE,
    CrossEntropy,
    ExpHinge,
    Exponential,
    Focal,
    Hinge,
    InverseLogHinge,
    InvHinge,
    LogHinge,
    SquaredHinge,
    bce,
    exponential,
    focal,
)
from attar.classifiers.losses.scores import margins_of
from attar.core.losses import Loss, LossName

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "fixed_margin_losses.safetensors")
CASES = sorted({name.partition(".")[0] for name in GOLDEN})
RELEASED = {
    "BCELoss": BCE(),
    "BinFocal": Focal(),
    "Hinge": Hinge(),
    "EXP": Exponential(),
    "Log_Hinge": LogHinge(),
    "Inv_Hinge": InvHinge(),
    "Exp_Hinge": ExpHinge(),
    "Inv_Log_Hinge": InverseLogHinge(),
}
CONVEX = [
    BCE(),
    BCE(0.2),
    Hinge(),
    SquaredHinge(),
    Exponential(),
    LogHinge(),
    InvHinge(),
    ExpHinge(),
    InverseLogHinge(),
]
SLOPES = {
    "BCE": lambda s: -torch.sigmoid(-s),
    "Hinge": lambda s: -(s < 1).double(),
    "SquaredHinge": lambda s: -2 * (1 - s).clamp(min=0),
    "Exponential": lambda s: -(-s).exp(),
    "LogHinge": lambda s: -1 / s.clamp(min=1),
    "InvHinge": lambda s: -1 / s.clamp(min=1) ** 2,
    "ExpHinge": lambda s: -(1 - s.clamp(min=1)).exp(),
    "InverseLogHinge": lambda s: -math.e / ((t := s.clamp(min=1) + math.e - 1) * t.log() ** 2),
}
ABOVE = {("extreme", "EXP"): slice(2), ("kink", "Hinge"): slice(3, None)}
"""Rows that can be compared: beyond, e^900 is no number of double precision, and at s = 1 a hinge has many slopes."""
AT_ZERO = {"BCE": -0.5, "SquaredHinge": -2.0}
names = lambda loss: type(loss).__name__  # noqa: E731


def slope(loss, margins):
    margins = margins.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss.of_margins(margins).sum(), margins)
    return found


@pytest.mark.parametrize("name", RELEASED)
@pytest.mark.parametrize("case", CASES)
def test_the_released_code_gives_the_same_where_it_is_right(case, name):
    score = GOLDEN[f"{case}.in.score"].clone().requires_grad_()
    wanted = {
        key.partition(".ref.")[2]: value for key, value in GOLDEN.items() if key.startswith(f"{case}.{name}.ref.")
    }
    target = GOLDEN[f"{case}.in.target"]
    loss = RELEASED[name](score, target)
    loss.backward()
    rows = ABOVE.get((case, name), slice(None))
    assert rows != slice(None) or torch.isclose(loss, wanted["loss"], rtol=1e-12)
    assert torch.allclose(score.grad[rows], wanted["grad.score"][rows], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", CONVEX, ids=names)
def test_losses_are_convex_and_calibrated(loss):
    grid = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    values = loss.of_margins(grid)
    assert (values.diff().diff() > -1e-9 * values[1:-1].abs().clamp(min=1)).all()
    found = slope(loss, torch.zeros(1, dtype=torch.float64))
    smoothed = 1 - getattr(loss, "smoothing", 0.0)
    assert found < 0 and torch.isclose(found, smoothed * torch.tensor([AT_ZERO.get(names(loss), -1.0)]).double())


@pytest.mark.parametrize(
    "loss", [one for one in CONVEX if names(one) in SLOPES and not getattr(one, "smoothing", 0)], ids=names
)
def test_derivatives_are_those_of_the_table_and_of_differences(loss):
    margins = torch.tensor([-20, -3.1, -0.5, 0, 0.4, 0.99, 1.01, 1.5, 4.2, 20], dtype=torch.float64)
    found, step = slope(loss, margins), 1e-6
    assert torch.allclose(found, SLOPES[names(loss)](margins), rtol=1e-12, atol=1e-15)
    differences = (loss.of_margins(margins + step) - loss.of_margins(margins - step)) / (2 * step)
    assert torch.allclose(found, differences, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("loss", [BCE(0.3), Focal(), Focal(0.5), CrossEntropy()], ids=names)
def test_derivatives_of_the_others_are_those_of_differences(loss):
    margins = torch.tensor([-20, -3.1, -0.5, 0, 0.4, 1.5, 4.2, 20], dtype=torch.float64)
    assert torch.autograd.gradcheck(loss.of_margins, margins.requires_grad_())


def test_hinges_meet_at_one():
    one = torch.ones(1, dtype=torch.float64)
    for loss in (LogHinge(), InvHinge(), ExpHinge(), InverseLogHinge()):
        assert loss.of_margins(one) == 0 and slope(loss, one) == -1
        assert torch.isclose(slope(loss, one + 1e-9), -one)
    assert slope(Hinge(), one) == 0


@pytest.mark.parametrize("loss", [*CONVEX, Focal(), CrossEntropy()], ids=names)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_margins_and_zeros_are_finite(loss, dtype):
    margins = torch.tensor([-200, -89, 0, 1, 89, 200], dtype=dtype)
    values, slopes = loss.of_margins(margins), slope(loss, margins)
    assert values.isfinite().all() and slopes.isfinite().all() and values.dtype == dtype
    assert float(slopes[0]) < 0 or type(loss) is Focal


def test_the_exponential_loss_goes_on_as_a_line():
    margins = torch.tensor([-200.0, -60.0, -59.0, 3.0])
    assert torch.allclose(exponential(margins)[1:], (-margins[1:]).exp())
    assert torch.isclose(slope(Exponential(), margins)[0], -torch.tensor(60.0).exp())
    assert torch.isfinite(exponential(torch.full((4096,), -200.0)).sum())


def test_known_limits():
    margins = torch.linspace(-8, 8, 33, dtype=torch.float64)
    assert torch.allclose(focal(margins, 0.0), bce(margins))
    assert torch.allclose(bce(margins, 0.2), 0.9 * bce(margins) + 0.1 * bce(-margins))
    lowest = margins[bce(margins, 0.2).argmin()]
    assert abs(float(lowest) - math.log(0.9 / 0.1)) < 0.5


def test_two_logits_are_the_softmax_and_several_one_against_the_rest():
    draw = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(9, 2, generator=draw, dtype=torch.float64), torch.randint(2, (9,), generator=draw)
    wanted = F.cross_entropy(logits, labels, reduction="none")
    assert torch.allclose(BCE().values(logits, labels), wanted)
    assert torch.allclose(CrossEntropy().values(logits, labels), wanted)
    smooth = F.cross_entropy(logits, labels, reduction="none", label_smoothing=0.3)
    assert torch.allclose(BCE(0.3).values(logits, labels), smooth)
    one = logits[:, 1:]
    assert torch.allclose(
        CrossEntropy().values(one, labels),
        F.binary_cross_entropy_with_logits(one[:, 0], labels.double(), reduction="none"),
    )
    logits, labels = torch.randn(9, 5, generator=draw), torch.randint(5, (9,), generator=draw)
    rest = F.binary_cross_entropy_with_logits(logits, F.one_hot(labels, 5).float(), reduction="none").mean(dim=1)
    assert torch.allclose(BCE().values(logits, labels), rest)
    assert margins_of(logits, labels).shape == (9, 5)


def test_every_name_is_a_loss_that_takes_logits():
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    for name in LossName.__args__:
        built = Loss(name=name).built()
        assert built.values(logits, labels).shape == (6,)
        assert built.pseudo == (name == "ensloss")
        assert built(logits[:, 0], labels == 1).ndim == 0
