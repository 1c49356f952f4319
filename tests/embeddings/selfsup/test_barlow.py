"""Barlow Twins: its exact facts, the numbers of released losses, and small runs."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attar.core.runtime import Engine, Runtime
from attar.embeddings.heads import Projector
from attar.embeddings.losses import barlow_twins
from attar.embeddings.losses.two_views import correlations, standardised
from attar.embeddings.selfsup.barlow import Barlow
from attar.embeddings.sources import Source

RELEASED = Path(os.environ.get("ATTAR_DATA", "")).parent / "fixtures" / "embeddings"
"""Where the numbers of the released code lie, on machines that have them."""
SMALL = {
    "encoder": "convnet:norm=batch,width=8",
    "epochs": 2,
    "batch": 16,
    "projector": Projector(projected=16, projector_norm=True),
}


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


def normal(draw, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=draw)


def whitened(z):
    """The same with uncorrelated features of mean zero and variance one."""
    centred = z - z.mean(dim=0)
    return torch.linalg.qr(centred).Q * len(z) ** 0.5


def test_equal_whitened_views_cost_nothing(draw):
    z = whitened(normal(draw, 12, 5))
    assert float(barlow_twins(z, z)) == pytest.approx(0, abs=1e-15)


def test_copies_of_one_feature_cost_their_pairs(draw):
    z = normal(draw, 12, 1).expand(12, 5)
    assert float(barlow_twins(z, z, 5e-3)) == pytest.approx(5e-3 * 5 * 4)


def test_order_scale_and_offset_of_features_do_not_matter(draw):
    a, b = normal(draw, 2, 12, 5)
    value, order = barlow_twins(a, b), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(barlow_twins(a[:, order], b[:, order]), value)
    torch.testing.assert_close(barlow_twins(3 * a - 7, 0.1 * b + 40), value)
    torch.testing.assert_close(barlow_twins(b, a), value)


def test_correlations_are_numpys(draw):
    import numpy as np

    a, b = normal(draw, 2, 12, 4)
    wanted = np.corrcoef(a.numpy(), b.numpy(), rowvar=False)[:4, 4:]
    torch.testing.assert_close(correlations(a, b), torch.from_numpy(wanted))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0.0, 3.3, 1e6])
def test_a_constant_feature_correlates_with_nothing(draw, dtype, level):
    a, b = normal(draw, 2, 12, 4).to(dtype)
    a[:, 2] = level
    a.requires_grad_()
    found = correlations(a, b)
    assert found[2].abs().max() == 0 and found.isfinite().all()
    barlow_twins(a, b).backward()
    assert a.grad.isfinite().all()


def test_released_losses():
    if not RELEASED.is_dir():
        pytest.skip("the numbers of the released code are not at hand")
    index = json.loads((RELEASED / "index.json").read_text(encoding="utf-8"))["fixtures"]
    cases = next(facts for facts in index if facts["fixture"] == "barlow_twins")["cases"]
    tensors = load_file(RELEASED / "barlow_twins.safetensors")
    for case, facts in cases.items():
        own = {name.removeprefix(f"{case}."): t for name, t in tensors.items() if name.startswith(f"{case}.")}
        ours = barlow_twins(own["in.a"], own["in.b"], facts["lambda_param"])
        if "restated.loss_sheet" in own:
            torch.testing.assert_close(ours, own["restated.loss_sheet"].squeeze(), atol=1e-15, rtol=1e-9)
            a, b = (standardised(own[f"in.{side}"]) for side in "ab")
            # The unbiased deviation of a released code makes every correlation too small by (B - 1) / B.
            shrunk = a.T @ b / len(a) * (len(a) - 1) / len(a)
            diagonal = shrunk.diagonal()
            theirs = (1 - diagonal).square().sum()
            theirs = theirs + facts["lambda_param"] * (shrunk.square().sum() - diagonal.square().sum())
            torch.testing.assert_close(theirs, own["cl.out.loss"].squeeze())
        else:
            assert case == "constant_feature" and ours.isfinite()
            torch.testing.assert_close(ours, own["out.loss"].squeeze(), rtol=1e-3, atol=0)


def test_small_runs_learn(few_digits):
    source = Source.of_images(few_digits)
    runtime = Runtime(Engine(device="cpu", compile="off", quiet=True), 0)
    method = Barlow(**{**SMALL, "epochs": 12, "batch": 32, "lr": 3e-3}).resolve(source, runtime)
    state = method.build(source, runtime)
    losses = [float(method.step(state, runtime)["loss"]) for _ in range(method.total_steps)]
    assert method.steps_per_epoch == 120 // 32
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])
