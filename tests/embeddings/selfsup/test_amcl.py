"""AMCL: its objectives against their definitions and the losses that they reduce to, its heads, and small runs."""

import math
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch.distributions import MultivariateNormal

from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.embeddings.heads import Projector
from attar.embeddings.learner import About
from attar.embeddings.losses import barlow_twins, nt_xent
from attar.embeddings.losses.two_views import correlations
from attar.embeddings.selfsup.amcl import AMCL
from attar.embeddings.selfsup.amcl_losses import (
    amcl_barlow,
    amcl_moco,
    amcl_simclr,
    amcl_simsiam,
    best_temperature,
    gathered,
    omega,
    others,
)
from attar.embeddings.selfsup.moco import Momentum
from attar.embeddings.selfsup.multihead import Heads, PairTemperature, share_at_bounds, together
from attar.embeddings.selfsup.simsiam import simsiam
from attar.embeddings.sources import Source
from attar.verbs import run
from promises import dying

RELEASED = Path(os.environ.get("ATTAR_DATA", "")).parent / "fixtures" / "embeddings"
"""Where the numbers of the released code lie, on machines that have them."""
C, B, D = 3, 6, 5
SMALL = {"encoder": "convnet:norm=batch,width=8", "epochs": 2, "batch": 16, "projector": Projector(projected=16)}


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


def unit(draw, *shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=draw), dim=-1)


def between(draw, low, high, *shape):
    return low + (high - low) * torch.rand(*shape, dtype=torch.float64, generator=draw)


# ---------------------------------------------------------------------------------------------------- one pair, one τ


def test_a_positive_is_a_normal_variable(draw):
    z, positive = unit(draw, 2, 8)
    for tau in (0.05, 0.3, 1.7):
        normal = MultivariateNormal(z, tau * torch.eye(8, dtype=torch.float64))
        ours = -(z @ positive) / tau + omega(torch.tensor(tau, dtype=torch.float64), 8) + 4 * math.log(2 * math.pi)
        torch.testing.assert_close(ours, -normal.log_prob(positive))


@pytest.mark.parametrize("cosine, wanted", [(0.3, 0.010938), (-0.2, 0.01875)])
def test_the_best_temperature_is_where_the_term_is_lowest(cosine, wanted):
    grid = torch.linspace(math.log(1e-4), math.log(10), 200_001, dtype=torch.float64).exp()
    terms = -cosine / grid + omega(grid, 128)
    assert float(grid[terms.argmin()]) == pytest.approx(best_temperature(cosine, 128), rel=1e-4)
    assert best_temperature(cosine, 128) == pytest.approx(wanted, rel=1e-4)
    assert best_temperature(0.6, 128, beta=0.5) == 0


def test_a_negative_has_no_best_temperature():
    grid = torch.linspace(math.log(1e-3), math.log(1e3), 20_001, dtype=torch.float64).exp()
    terms = 0.3 / grid - omega(grid, 128)
    assert grid[terms.argmax()] == pytest.approx(best_temperature(0.3, 128), rel=1e-3)
    assert terms.argmin() in (0, len(grid) - 1)


# ------------------------------------------------------------------------------------------------------- what it is


@pytest.mark.parametrize("among", [False, True], ids=["2.1", "2.4"])
@pytest.mark.parametrize("negatives", ["max", "topk", "softmax"])
def test_gathered_is_its_definition(draw, negatives, among):
    s, t = between(draw, -1, 1, C, B, B), between(draw, 0.05, 1, C, B, B)
    partner, beta, kappa, wanted = torch.arange(B).roll(3), 0.2, 2, 0.0
    for c in range(C):
        for i in range(B):
            p = int(partner[i])
            wanted += (-s[c, i, p] / t[c, i, p] + beta * omega(t[c, i, p], D)) / B
            allowed = [j for j in range(B) if j != i and (among or j != p)]
            if negatives == "softmax":
                wanted += torch.logsumexp(torch.stack([s[c, i, j] / t[c, i, j] for j in allowed]), 0) / B
                wanted -= beta * sum(omega(t[c, i, j], D) for j in allowed) / len(allowed) / B
            else:
                hard = sorted(allowed, key=lambda j, c=c, i=i: -s[c, i, j])[: 1 if negatives == "max" else kappa]
                wanted += sum(s[c, i, j] / t[c, i, j] - beta * omega(t[c, i, j], D) for j in hard) / len(hard) / B
    given = {"hardest": kappa, "positive_among": among, "regularise_negatives": True}
    ours = gathered(s, t, partner, others(B, s.device), width=D, beta=beta, negatives=negatives, **given)
    torch.testing.assert_close(ours, wanted)


def test_the_hardest_can_be_summed_as_in_the_released_code(draw):
    s, t = between(draw, -1, 1, C, B, 9), between(draw, 0.05, 1, C, B, 9)
    wanted = 0.0
    for c in range(C):
        for i in range(B):
            hard = sorted(range(1, 9), key=lambda j, c=c, i=i: -s[c, i, j])[:4]
            mean = sum(s[c, i, j] / t[c, i, j] for j in hard) / 4
            pushed = sum(t[c, i, j].log() + 1 / t[c, i, j] for j in hard)
            wanted += (-s[c, i, 0] / t[c, i, 0] + 0.2 * omega(t[c, i, 0], D) + mean - 0.2 * pushed) / B
    given = {"negatives": "topk", "hardest": 4, "summed": True}
    partner = torch.zeros(B, dtype=torch.long)
    torch.testing.assert_close(gathered(s, t, partner, width=D, beta=0.2, **given), wanted)


def test_one_head_and_one_temperature_are_nt_xent(draw):
    views = unit(draw, 2, B, D)
    z, t = views.flatten(0, 1), torch.full((1, 2 * B, 2 * B), 0.3, dtype=torch.float64)
    torch.testing.assert_close(amcl_simclr(z[None], t, beta=0.0), nt_xent(*views, 0.3))


def test_equal_heads_add_up(draw):
    z = unit(draw, 1, 2 * B, D)
    t = between(draw, 0.1, 1, 1, 2 * B, 2 * B)
    for negatives in ("softmax", "topk", "max"):
        one, all_ = (
            amcl_simclr(z.expand(n, -1, -1), t.expand(n, -1, -1), beta=0.1, negatives=negatives) for n in (1, C)
        )
        torch.testing.assert_close(all_, C * one)


def test_heads_of_one_temperature_are_their_nt_xents(draw):
    views = unit(draw, 2, C, B, D)
    alone = PairTemperature(D, 0.3, 0.3, 0.3).double()
    z = torch.cat([*views], dim=1)
    each = [nt_xent(*pair, 0.3) for pair in views.transpose(0, 1)]
    torch.testing.assert_close(amcl_simclr(z, alone(z, z), beta=0.0), torch.stack(each).sum())


def test_max_is_the_hardest_one(draw):
    s, t = between(draw, -1, 1, C, B, 9), between(draw, 0.05, 1, C, B, 9)
    given = {"positive": torch.arange(B), "width": D, "beta": 0.3}
    torch.testing.assert_close(
        gathered(s, t, negatives="max", **given), gathered(s, t, negatives="topk", hardest=1, **given)
    )


@pytest.mark.parametrize("among", [False, True], ids=["2.1", "2.4"])
def test_a_cold_softmax_is_the_maximum(draw, among):
    s, t = between(draw, -1, 1, C, B, 9), torch.full((C, B, 9), 1e-3, dtype=torch.float64)
    given = {"positive": torch.arange(B), "width": D, "beta": 0.0, "positive_among": among}
    soft, hard = (gathered(s, t, negatives=negatives, **given) for negatives in ("softmax", "max"))
    torch.testing.assert_close(1e-3 * soft, 1e-3 * hard, atol=C * 1e-3 * math.log(9), rtol=0)
    torch.testing.assert_close(soft, hard, rtol=1e-4, atol=1e-2)


def test_moco_tells_a_key_from_the_queue(draw):
    query, key, queue = unit(draw, C, B, D), unit(draw, C, B, D).requires_grad_(), unit(draw, C, 4, D)
    t = torch.full((C, B, 5), 0.2, dtype=torch.float64)
    logits = torch.cat([(query * key).sum(-1, keepdim=True), query @ queue.mT], dim=-1) / 0.2
    wanted = sum(F.cross_entropy(one, torch.zeros(B, dtype=torch.long)) for one in logits)
    found = amcl_moco(query.requires_grad_(), key, queue, t, beta=0.0)
    torch.testing.assert_close(found, wanted.detach() + 0 * found)
    found.backward()
    assert key.grad is None and query.grad.isfinite().all()


def test_an_empty_queue_leaves_the_positive(draw):
    query, key = unit(draw, C, B, D), unit(draw, C, B, D)
    t = torch.full((C, B, 1), 0.5, dtype=torch.float64)
    wanted = (-(query * key).sum(-1) / 0.5 + 0.1 * omega(t[..., 0], D)).sum(0).mean()
    for negatives in ("topk", "max"):
        empty = query.new_zeros(C, 0, D)
        torch.testing.assert_close(amcl_moco(query, key, empty, t, beta=0.1, negatives=negatives), wanted)


def test_simsiam_at_temperature_one_is_the_negative_cosine(draw):
    p, z = unit(draw, 2, 1, B, D), unit(draw, 2, 1, B, D)
    one = torch.ones(1, B, dtype=torch.float64)
    cosines = [(p[0] * z[1]).sum(-1), (p[1] * z[0]).sum(-1)]
    ours = amcl_simsiam(cosines[0], one, cosines[1], one, width=D, beta=0.0)
    torch.testing.assert_close(ours, simsiam(p[0], z[1], p[1], z[0]).sum())
    torch.testing.assert_close(amcl_simsiam(cosines[0], one, cosines[1], one, width=D, beta=0.5) - ours, one[0, 0])


def test_barlow_at_temperature_one_is_barlow_twins(draw):
    views = torch.randn(2, C, B, D, dtype=torch.float64, generator=draw)
    found, one = correlations(*views), torch.ones(C, D, D, dtype=torch.float64)
    torch.testing.assert_close(
        amcl_barlow(found, one, 5e-3, beta=0.0), sum(barlow_twins(*pair) for pair in views.transpose(0, 1))
    )
    # Ω(1) = 1: each of the D entries on the diagonal adds β, each of the others takes β away.
    regularised = amcl_barlow(found, one, 5e-3, beta=0.1) - amcl_barlow(found, one, 5e-3, beta=0.0)
    torch.testing.assert_close(regularised, torch.tensor(0.1 * C * (D - D * (D - 1)), dtype=torch.float64))
    t = between(draw, 0.5, 2, C, D, D)
    eye = torch.eye(D, dtype=torch.bool)
    wanted = ((1 - found / t) ** 2)[:, eye].sum() + 5e-3 * (found**2 / t)[:, ~eye].sum()
    wanted = wanted + 0.1 * (omega(t, D)[:, eye].sum() - omega(t, D)[:, ~eye].sum())
    torch.testing.assert_close(amcl_barlow(found, t, 5e-3, beta=0.1), wanted)


# ---------------------------------------------------------------------------------------------- heads and temperatures


@pytest.fixture
def phi():
    torch.manual_seed(0)
    return PairTemperature(D, 0.05, 1.0, 0.2).double()


def test_temperatures_are_symmetric_and_in_their_range(draw, phi):
    for parameter in (phi.describe[0].weight, phi.describe[2].weight):
        torch.nn.init.normal_(parameter, std=0.4)
    z = unit(draw, C, B, D)
    t = phi(z, z)
    torch.testing.assert_close(t, t.mT)
    assert t.min() >= 0.05 and t.max() <= 1.0 and t.std() > 0.1
    torch.testing.assert_close(phi.of_pairs(z, z), t.diagonal(dim1=1, dim2=2))
    assert t.diagonal(dim1=1, dim2=2).mean() < t.mean()
    assert 0 < share_at_bounds(t, 0.05, 1.0) < 1


def test_temperatures_start_where_they_should_and_learn(draw):
    torch.manual_seed(0)
    phi, z = PairTemperature(128, 0.05, 1.0, 0.2), unit(draw, C, 64, 128).float()
    t = phi(z, z)
    torch.testing.assert_close(t, torch.full_like(t, 0.2), rtol=0.1, atol=0)
    assert share_at_bounds(t, 0.05, 1.0) == 0
    amcl_simclr(z, t, beta=0.1).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in phi.parameters())


def test_heads_can_be_permuted(draw, phi):
    z, order = unit(draw, C, 2 * B, D), [2, 0, 1]
    for negatives in ("softmax", "topk", "max"):
        first, again = (amcl_simclr(some, phi(some, some), beta=0.1, negatives=negatives) for some in (z, z[order]))
        torch.testing.assert_close(first, again)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_all_heads_together_are_each_alone(draw, layers):
    torch.manual_seed(0)
    heads = Heads(
        [Projector(projector_layers=layers, projector_width=7, projected=D).build(4) for _ in range(C)]
    ).double()
    features = torch.randn(B, 4, dtype=torch.float64, generator=draw)
    alone = torch.stack([head(features) for head in heads.each])
    torch.testing.assert_close(heads(features), alone)
    torch.testing.assert_close(together(heads.each, features.expand(C, B, 4)), alone)


def test_losses_are_in_single_precision(draw, phi):
    z, phi = unit(draw, C, 2 * B, D), phi.float()
    with torch.autocast("cpu", torch.bfloat16):
        half = amcl_simclr(z.bfloat16(), torch.full((C, 2 * B, 2 * B), 0.2, dtype=torch.bfloat16), beta=0.1)
    assert half.dtype == torch.float32
    assert amcl_simclr(z, torch.full((C, 2 * B, 2 * B), 0.2).double(), beta=0.1).dtype == torch.float64


def test_pieces_of_the_released_code():
    if not RELEASED.is_dir():
        pytest.skip("the numbers of the released code are not at hand")
    tensors = load_file(RELEASED / "amcl_pieces.safetensors")
    for case in ("ordinary", "one_pair"):
        own = {name.removeprefix(f"{case}."): t for name, t in tensors.items() if name.startswith(f"{case}.")}
        x, width = own["projector.in.x"], own["projector.out.0"].shape[1]
        made = Heads([Projector(projector_width=7, projected=width).build(x.shape[1]) for _ in range(3)]).double()
        for number, head in enumerate(made.each):
            start = f"projector.param.{number}."
            head.load_state_dict({n.removeprefix(start): t for n, t in own.items() if n.startswith(start)})
        torch.testing.assert_close(made(x), torch.stack([own[f"projector.out.{c}"] for c in range(3)]))
        regularised = []
        for c in range(3):
            a, b = own[f"temperature.in.a.{c}"], own[f"temperature.in.b.{c}"]
            cosine, scaled = F.cosine_similarity(a, b), own[f"temperature.out.scaled.{c}"]
            t = cosine / scaled.diagonal()
            # The released code divides the cosine of every pair by the temperature of every other one.
            torch.testing.assert_close(scaled, cosine / t[:, None])
            regularised.append(0.1 * omega(t, width).mean())
        torch.testing.assert_close(torch.stack(regularised).sum(), own["restated.regulariser_dprime"].squeeze())


# ----------------------------------------------------------------------------------------------------------- small runs


def trained(method, source, seed=0, steps=None, **engine):
    runtime = Runtime(Engine(device="cpu", compile="off", quiet=True, **engine), seed)
    method = method.resolve(source, runtime)
    state = method.build(source, runtime)
    metrics = [dict(method.step(state, runtime)) for _ in range(steps or method.total_steps)]
    return method, state, metrics


@pytest.fixture(scope="module")
def images(shapes):
    return Source.of_images(shapes)


@pytest.mark.parametrize("adaptive", [True, False], ids=["adaptive", "fixed"])
@pytest.mark.parametrize("framework", ["simclr", "moco", "simsiam", "barlow"])
def test_every_framework_learns(images, framework, adaptive):
    more = {"keys": Momentum(queue=13, both_ways=adaptive, key_parts=2)} if framework == "moco" else {}
    _, state, metrics = trained(AMCL(framework=framework, adaptive=adaptive, **SMALL, **more), images)
    assert all(math.isfinite(float(row["loss"])) for row in metrics)
    assert ("at_bounds" in metrics[-1]) == adaptive and ("spread" in metrics[-1]) == (framework == "simsiam")
    assert all(float(p.grad.abs().max()) > 0 for name, p in state.heads.named_parameters() if p.ndim > 1), framework
    if framework == "moco":
        assert all(len(queue.keys) == 13 for queue in state.memory["queues"])
        assert torch.equal(state.memory["queues"][0].keys, state.memory["queues"][1].keys) is False


@pytest.mark.parametrize("negatives", ["softmax", "topk", "max"])
@pytest.mark.parametrize("framework", ["simclr", "moco"])
def test_options_go_together(images, framework, negatives):
    further = {"positive_among": True, "regularise_negatives": True, "per_dimension": True, "hardest": 100, "heads": 2}
    method = AMCL(framework=framework, negatives_by=negatives, single_wide=True, **SMALL, **further)
    _, state, metrics = trained(method, images)
    assert len(state.heads["projectors"].each) == 1
    assert state.heads["projectors"].each[0][0].out_features == 1024
    assert all(math.isfinite(float(row["loss"])) for row in metrics)


@pytest.mark.parametrize("framework", ["simclr", "moco", "simsiam", "barlow"])
def test_networks_in_half_precision_have_losses_in_single(images, framework):
    runs = [
        trained(AMCL(framework=framework, **SMALL), images, steps=2, train_precision=precision)[2]
        for precision in ("float32", "bfloat16")
    ]
    assert all(row["loss"].dtype == torch.float32 for row in runs[1])
    assert float(runs[1][0]["loss"]) == pytest.approx(float(runs[0][0]["loss"]), rel=0.05, abs=0.05)


def test_a_wide_head_has_as_many_weights_as_the_heads():
    def weights(**settings):
        made = AMCL(heads=4, projector=Projector(projector_width=8, projected=6), **settings)
        made = made.modules(16, About(3, 60, (3, 16, 16)))
        return sum(p.numel() for p in made["projectors"].parameters() if p.ndim > 1)

    assert weights() == weights(single_wide=True)


def test_it_resumes_with_queues_and_followers(images, tmp_path):
    method = AMCL(framework="moco", **SMALL, keys=Momentum(queue=13))
    often = Engine(device="cpu", compile="off", quiet=True, checkpoint_seconds=0)
    whole = run("train", images, method, out=tmp_path / "whole", engine=often)
    for step in (2, 4):
        with dying(method, step):
            run("train", images, method, out=tmp_path / "again", engine=often)
    again = run("train", images, method, out=tmp_path / "again", engine=often)
    assert {name: t.numpy().tobytes() for name, t in whole.learned.items()} == {
        name: t.numpy().tobytes() for name, t in again.learned.items()
    }


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"contrast_temperature": 0.01}, "contrast_temperature is 0.01; adaptive temperatures must start between"),
        (
            {"temperature_range": (0.3, 1.0)},
            "contrast_temperature is 0.2; .* between the smallest, 0.3, and the largest, 1.",
        ),
        ({"temperature_range": (0.05,)}, "temperature_range is 0.05; give the smallest, above 0, and the largest"),
        ({"temperature_range": (1.0, 0.05)}, "temperature_range is 1 0.05; give the smallest"),
        ({"heads": 0}, "heads"),
    ],
)
def test_what_is_wrong_is_said(settings, words):
    with pytest.raises(InputError, match=words):
        AMCL(**settings)
    assert AMCL(contrast_temperature=0.01, adaptive=False).start == 0.01
