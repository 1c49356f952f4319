"""SimSiam: its loss, where its gradient goes, and small runs."""

import pytest
import torch
import torch.nn.functional as F

from attar.core.runtime import Engine, Runtime
from attar.embeddings.heads import Projector
from attar.embeddings.selfsup.simsiam import SimSiam, simsiam, spread, still_cosine
from attar.embeddings.sources import Source

SMALL = {
    "encoder": "convnet:norm=batch,width=8",
    "epochs": 2,
    "batch": 16,
    "projector": Projector(projected=16, projector_norm=True, projector_last_norm=True),
    "predictor_width": 8,
}


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


def normal(draw, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=draw)


def test_it_is_the_negative_cosine_of_both_ways(draw):
    p1, z2, p2, z1 = normal(draw, 4, 6, 5)
    pairs = [*zip(p1, z2, strict=True), *zip(p2, z1, strict=True)]
    wanted = sum(-0.5 * float(a @ b / a.norm() / b.norm()) / 6 for a, b in pairs)
    assert float(simsiam(p1, z2, p2, z1)) == pytest.approx(wanted)
    assert float(simsiam(p1, 3 * p1, p2, 5 * p2)) == pytest.approx(-1)
    assert float(simsiam(p1, -p1, p2, -p2)) == pytest.approx(1)


def test_targets_have_no_gradient(draw):
    p1, z2, p2, z1 = (normal(draw, 6, 5).requires_grad_() for _ in range(4))
    simsiam(p1, z2, p2, z1).backward()
    assert z1.grad is z2.grad is None and p1.grad.abs().max() > 0 and p2.grad.abs().max() > 0


def test_heads_are_apart(draw):
    p1, z2, p2, z1 = normal(draw, 4, 3, 6, 5)
    each = torch.stack([simsiam(*(one[head] for one in (p1, z2, p2, z1))) for head in range(3)])
    torch.testing.assert_close(simsiam(p1, z2, p2, z1), each)


def test_half_precision_gives_a_loss_in_single(draw):
    p, z = normal(draw, 2, 6, 5).half()
    assert still_cosine(p, z).dtype == torch.float32


def test_spread_tells_collapse(draw):
    assert float(spread(normal(draw, 4000, 8))) == pytest.approx(1, abs=0.02)
    assert float(spread(torch.ones(6, 8) * torch.arange(1, 7)[:, None])) == pytest.approx(0, abs=1e-6)


def test_small_runs_do_not_collapse(few_digits):
    source = Source.of_images(few_digits)
    runtime = Runtime(Engine(device="cpu", compile="off", quiet=True), 0)
    method = SimSiam(**{**SMALL, "epochs": 12, "batch": 30}).resolve(source, runtime)
    state = method.build(source, runtime)
    rows = [dict(method.step(state, runtime)) for _ in range(method.total_steps)]
    assert sum(float(row["loss"]) for row in rows[-8:]) < sum(float(row["loss"]) for row in rows[:8])
    assert float(rows[-1]["spread"]) > 0.5
    torch.testing.assert_close(
        F.normalize(state.heads["projector"](torch.randn(30, state.encoder.width))).norm(dim=1), torch.ones(30)
    )
