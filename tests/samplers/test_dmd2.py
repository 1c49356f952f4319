"""DMD2: who moves when and by what, backward simulation, its options, runs that are killed, and what is refused."""

import dataclasses
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from attar.core import engine
from attar.core.errors import InputError
from attar.core.extras import install
from attar.core.presets import table_of
from attar.core.runtime import Engine, Runtime
from attar.samplers.adapters import Lora, adapt, merged
from attar.samplers.artefact import Sampler
from attar.samplers.denoisers import Denoiser, broadcast, guided
from attar.samplers.dmd2 import DMD2, Critic, Pairing
from attar.samplers.edm import EDM
from attar.samplers.matching import matching_gradient
from attar.samplers.networks import network_named
from attar.samplers.schedules import VP, from_x0, to_x0
from attar.samplers.sources import Part, Points
from attar.samplers.teaching import Work
from attar.samplers.toys import drawn
from promises import EVERY_STEP, IN_ONE_GO, dying_in, files_of

PLAIN = DMD2(steps=6, batch=16, warm_start=0, half="off")
ALL = DMD2(
    steps=11,
    batch=16,
    calls=3,
    critic_steps=2,
    gan_weight=0.01,
    guidance=1.5,
    warm_start=3,
    weights_average=0.9,
    lr_warm_up=0.2,
    half="off",
    pairing=Pairing(regression_weight=0.25, pair_count=40, pair_levels=3),
    lora=Lora(lora_rank=2),
)
"""All options together."""


def machine(seed=0):
    return Runtime(Engine(device="cpu", quiet=True), seed)


@pytest.fixture(scope="module")
def work():
    """Points on a ring, and a teacher that knows them roughly, with and without labels."""
    source = drawn("ring", 400)
    method = EDM(network="mlp:width=32,depth=1", steps=150, batch=128, label_dropout=0.2)
    teacher = engine.run(method.resolve(Work(source), machine()), Work(source), machine())
    return Work(source, teacher)


def begun(work, method=PLAIN, seed=0):
    run = machine(seed)
    method = method.resolve(work, run)
    return method, method.build(work, run), run


def after(work, method, steps, seed=0):
    method, state, run = begun(work, method, seed)
    metrics = [method.step(state, run) for _ in range(steps)]
    return method, state, run, metrics


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(module, before):
    now = module.state_dict()
    return all(torch.equal(now[name], value) for name, value in before.items())


def grads(*modules):
    return [one.grad for module in modules for one in module.parameters()]


# ------------------------------------------------------------------------------------------------------- who moves when


@pytest.mark.parametrize("steps, every", [(7, 3), (5, 5), (6, 1), (3, 10)])
def test_the_critic_moves_in_each_step_and_the_student_in_every_kth(work, steps, every):
    method, state, _, _ = after(work, replace(PLAIN, steps=steps, critic_steps=every, gan_weight=0.01), steps)
    assert (state.judged, state.moved) == (steps, math.ceil(steps / every))
    counts = [{int(one["step"]) for one in who.state.values()} for who in (state.critic_optimizer, state.optimizer)]
    assert counts == [{steps}, {math.ceil(steps / every)}]
    assert method.total_steps == steps


def test_as_in_fastgen_one_of_them_moves_in_a_step(work):
    method = replace(PLAIN, steps=10, critic_steps=5, critic=Critic(critic_turns="other"))
    _, state, _, _ = after(work, method, 10)
    assert (state.judged, state.moved) == (8, 2)


def test_the_student_moves_first_and_the_critic_learns_the_same_samples(work, monkeypatch):
    seen = []
    for name in ("student_turn", "critic_turn"):
        turn = getattr(DMD2, name)

        def noted(self, samples, *given, turn=turn, name=name):
            seen.append((name, samples.detach().clone(), samples.requires_grad))
            return turn(self, samples, *given)

        monkeypatch.setattr(DMD2, name, noted)
    after(work, PLAIN, 2)
    assert [(name, learns) for name, _, learns in seen] == [
        ("student_turn", True),
        ("critic_turn", False),
        ("critic_turn", False),
    ]
    assert torch.equal(seen[0][1], seen[1][1])
    assert not torch.equal(seen[1][1], seen[2][1])


def test_after_a_students_turn_critic_and_head_have_no_gradient_and_have_not_moved(work):
    method, state, run = begun(work, replace(PLAIN, gan_weight=0.1, critic=Critic(critic_turns="other")))
    before, head, student = copied(state.critic), copied(state.head), copied(state.student)
    method.step(state, run)
    assert grads(state.critic, state.head, state.student) == [None] * len(
        grads(state.critic, state.head, state.student)
    )
    assert same(state.critic, before) and same(state.head, head) and not same(state.student, student)
    assert all(one.requires_grad for one in (*state.critic.parameters(), *state.head.parameters()))


def test_the_critics_turn_moves_critic_and_head_alone(work):
    method, state, run, _ = after(work, replace(PLAIN, gan_weight=0.1), 1)
    before, head, student = copied(state.critic), copied(state.head), copied(state.student)
    method.step(state, run)
    assert same(state.student, student) and not same(state.critic, before) and not same(state.head, head)
    assert grads(state.critic, state.head, state.student) == [None] * len(
        grads(state.critic, state.head, state.student)
    )


def test_the_logit_moves_with_the_critic_and_not_with_the_teacher(work):
    method, state, run = begun(work, replace(PLAIN, gan_weight=0.1))
    x, labels = work.source.train[torch.arange(8)], torch.arange(8)
    again = torch.ones(8), torch.zeros(8, 2)
    with torch.no_grad():
        first = method.judged(x, labels, state, run, again)
        for parameter in state.teacher.parameters():
            parameter.add_(1.0)
        assert torch.equal(method.judged(x, labels, state, run, again), first)
        for parameter in state.critic.parameters():
            parameter.add_(0.1)
        assert not torch.equal(method.judged(x, labels, state, run, again), first)


def test_the_teacher_stays_as_it_is(work):
    before = copied(work.teacher.denoiser)
    _, state, _, _ = after(work, ALL, 11)
    assert same(work.teacher.denoiser, before)
    assert same(state.teacher, before)
    assert not any(one.requires_grad for one in state.teacher.parameters())


def test_student_and_critic_are_copies_that_learn(work):
    _, state, _ = begun(work)
    for module in (state.student, state.critic):
        assert all(one.requires_grad for one in module.parameters())
        assert same(module, copied(work.teacher.denoiser))
    assert state.student.boundary == work.teacher.grid.ends[0] and state.critic.boundary is None


# ---------------------------------------------------------------------------------------------- what the student learns


def test_the_students_slope_is_the_matching_gradient_over_the_number_of_values(work, monkeypatch):
    """And nothing goes through teacher, critic or the normaliser."""
    method, state, run = begun(work, replace(PLAIN, clip_norm=None))
    slopes = []
    monkeypatch.setattr(
        DMD2, "descend", lambda self, loss, *given: slopes.append(torch.autograd.grad(loss, samples)[0])
    )
    x, sigma = method.student_input(state, labels := torch.zeros(16, dtype=torch.long), run)
    samples = state.student(x, sigma, labels)
    gradient = method.gradient(samples.detach(), labels, state, machine(5))
    method.student_turn(samples, labels, state, machine(5))
    torch.testing.assert_close(slopes[0], gradient / samples.numel(), rtol=1e-6, atol=0)


def test_the_gradient_is_that_of_the_guided_teacher_and_the_critic_alone(work):
    method, state, _ = begun(work, replace(PLAIN, guidance=3.0))
    x, labels = work.source.train[torch.arange(16)], torch.zeros(16, dtype=torch.long)
    found = method.gradient(x, labels, state, machine(5))
    again = machine(5)
    sigma = method.drawn_levels(16, state, again, 0.02, 0.98).to(x)
    noisy = x + broadcast(sigma, x) * method.noise(x, again)
    teacher = guided(work.teacher.denoiser, 3.0)
    assert torch.equal(found, matching_gradient(x, teacher(noisy, sigma, labels), state.critic(noisy, sigma, labels)))


def test_against_the_sample_it_is_sds_and_nothing_but_the_student_moves(work):
    method, state, run = begun(work, replace(PLAIN, critic=Critic(against="sample")))
    x, labels = work.source.train[torch.arange(16)], torch.zeros(16, dtype=torch.long)
    found = method.gradient(x, labels, state, machine(5))
    again = machine(5)
    sigma = method.drawn_levels(16, state, again, 0.02, 0.98).to(x)
    noisy = x + broadcast(sigma, x) * method.noise(x, again)
    assert torch.equal(found, matching_gradient(x, work.teacher.denoiser(noisy, sigma, labels), x))
    before = copied(state.critic)
    for _ in range(3):
        method.step(state, run)
    assert same(state.critic, before) and (state.moved, state.judged) == (3, 0)


def test_levels_are_those_of_the_grid_between_two_shares(work):
    method, state, run = begun(work)
    grid = method.levels.levels(1000).flip(0)
    for shares, ends in [((0.02, 0.98), (20, 980)), ((0.0, 1.0), (0, 999))]:
        drawn = torch.searchsorted(grid, method.drawn_levels(40_000, state, run, *shares).contiguous())
        assert (int(drawn.min()), int(drawn.max())) == ends
        width = ends[1] - ends[0] + 1
        assert abs(float(drawn.double().mean()) - sum(ends) / 2) < 4 * width / math.sqrt(12 * 40_000)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "flow"])
def test_whatever_a_teacher_predicts_the_student_is_the_same(work, prediction):
    plain = replace(work.teacher, denoiser=wrapped(work.teacher.denoiser, "x0"))
    other = replace(work.teacher, denoiser=wrapped(work.teacher.denoiser, prediction))
    method = replace(PLAIN, steps=4, critic_steps=2, gan_weight=0.01)
    students = [after(replace(work, teacher=teacher), method, 4)[1] for teacher in (plain, other)]
    assert not same(students[0].student, copied(plain.denoiser))
    for one, two in zip(*(state.student.parameters() for state in students), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8)


def wrapped(denoiser, prediction):
    """A denoiser in float64 whose network is asked for ε, v or the flow, which is turned back into x0."""
    made = Denoiser(Predicting(denoiser.thawed().double(), prediction), denoiser.sigma_data)
    return made.requires_grad_(False)


class Predicting(torch.nn.Module):
    def __init__(self, inner, prediction):
        super().__init__()
        self.inner, self.prediction = inner, prediction

    def forward(self, x, noise, labels):
        sigma = (4 * noise).exp()[:, None]
        skip, out, scale = self.inner.scalings(sigma)
        exploding, alpha = x / scale, 1 / (1 + sigma**2).sqrt()  # preserving: α² + σ² = 1
        if self.prediction == "flow":
            alpha = 1 / (1 + sigma)
        preserving, noise_share = alpha * exploding, alpha * sigma
        clean = self.inner(exploding, sigma[:, 0], labels)
        output = from_x0(clean, preserving, alpha, noise_share, self.prediction)
        return (to_x0(output, preserving, alpha, noise_share, self.prediction) - skip * exploding) / out

    def encoded(self, x, noise, labels):
        return self.inner.network.encoded(x, noise, labels)


# -------------------------------------------------------------------------------------------------- backward simulation


def blind(work):
    """The same task with real samples that are not numbers."""
    train = Part(Points(torch.full((320, 2), math.nan)), work.source.train.labels, pictures=False)
    return replace(work, source=replace(work.source, train=train))


@pytest.mark.parametrize("calls", [1, 4])
def test_without_a_gan_term_no_real_sample_is_used(work, calls):
    method = replace(PLAIN, calls=calls, critic_steps=2)
    seen, unseen = (after(one, method, 6)[1] for one in (work, blind(work)))
    assert same(unseen.student, copied(seen.student)) and same(unseen.critic, copied(seen.critic))
    assert all(one.isfinite().all() for one in unseen.student.parameters())


@pytest.mark.parametrize("calls", [1, 4])
def test_what_the_student_is_given_hangs_on_no_real_sample(work, calls):
    method = replace(PLAIN, calls=calls, gan_weight=0.1)
    given = []
    for one in (work, blind(work)):
        resolved, state, run = begun(one, method)
        given.append(resolved.student_input(state, torch.zeros(16, dtype=torch.long), run))
    torch.testing.assert_close(given[0], given[1], rtol=0, atol=0)
    assert given[1][0].isfinite().all()


def test_one_call_is_given_noise_at_the_highest_level(work):
    method, state, run = begun(work)
    x, sigma = method.student_input(state, None, run)
    assert float(sigma) == pytest.approx(5.0)
    assert abs(float((x / sigma).square().mean()) - 1) < 4 * math.sqrt(2 / x.numel())


def test_the_level_is_shared_by_the_batch_and_uniform(work):
    method, state, run = begun(work, replace(PLAIN, calls=4, batch=1))
    levels, draws = method.few_levels(), 500
    drawn = [float(method.student_input(state, None, run)[1]) for _ in range(draws)]
    assert (torch.diff(levels) < 0).all()
    for level in levels.float().tolist():
        share = sum(one == pytest.approx(level) for one in drawn) / draws
        assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / draws)


def test_no_gradient_goes_through_earlier_calls(work, monkeypatch):
    method, state, run = begun(work, replace(PLAIN, calls=4))
    seen = []
    forward = Denoiser.forward
    monkeypatch.setattr(
        Denoiser,
        "forward",
        lambda self, *given: (seen.append(torch.is_grad_enabled() and self is state.student), forward(self, *given))[1],
    )
    for _ in range(8):
        x, _ = method.student_input(state, torch.zeros(16, dtype=torch.long), run)
        assert not x.requires_grad
    assert seen and not any(seen)


def test_the_result_is_called_at_the_levels_that_it_was_trained_at(work):
    method, state, run, _ = after(work, replace(PLAIN, calls=4), 1)
    made = method.result(state, run)
    assert (made.calls, made.solver, made.levels().tolist()) == (4, "few-step", method.few_levels().tolist())
    fine = work.teacher.grid.levels(1000)
    assert made.levels().tolist() == fine[[0, 250, 500, 750]].tolist()
    lower, _, _ = begun(work, replace(PLAIN, calls=2, first_level=400))
    assert lower.few_levels().tolist() == fine[[600, 800]].tolist()


# ------------------------------------------------------------------------------------------------------ pairs, adapters


def test_a_warm_start_learns_pairs_and_leaves_the_critic(work):
    method = replace(PLAIN, steps=60, warm_start=40, pairing=Pairing(pair_count=64, pair_levels=5))
    method, state, run = begun(work, method)
    before = copied(state.critic)
    losses = [float(method.step(state, run)["loss"]) for _ in range(40)]
    assert same(state.critic, before) and (state.moved, state.judged, state.paired) == (0, 0, 40)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    method.step(state, run)
    assert (state.moved, state.judged) == (1, 1)
    assert {int(one["step"]) for one in state.optimizer.state.values()} == {1}, "moments of the warm start are gone"


def test_the_step_size_falls_in_the_warm_start_and_again_after_it():
    method = replace(PLAIN, steps=30, warm_start=10, lr=0.1, lr_warm_up=0.1, pairing=Pairing(pair_lr=1.0))
    found = [method.lr_at(done) for done in range(30)]
    assert found[:10] == pytest.approx([1 - done / 10 for done in range(10)])
    rise = [0.5, 1.0] + [1.0] * 18
    assert found[10:] == pytest.approx([0.1 * rise[done] * (1 - done / 20) for done in range(20)])


def test_pairs_are_the_guided_teachers(work):
    method, state, run = begun(work, replace(ALL, guidance=4.0))
    noise, samples, labels = method.made_pairs(state, run)
    x, levels = noise.double() * 5.0, work.teacher.grid.levels(3).tolist()
    teacher = guided(work.teacher.denoiser, 4.0)
    for sigma, following in zip(levels, [*levels[1:], 0.0], strict=True):
        slope = (x - teacher(x, torch.tensor(sigma), labels)) / sigma
        ahead = x + (following - sigma) * slope
        if following:
            again = (ahead - teacher(ahead, torch.tensor(following), labels)) / following
            ahead = x + (following - sigma) * (slope + again) / 2
        x = ahead
    torch.testing.assert_close(samples, x.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("network", ["mlp:width=16,depth=2", "conv"])
def test_adapters_start_at_zero_and_are_added_to_the_weights(network):
    pytest.importorskip("peft")
    if network == "conv":
        made = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(4, 2, 1))
        given = (torch.randn(5, 2, 4, 4),)
    else:
        made = network_named(network, (2,), 3, torch.Generator().manual_seed(0))
        given = (torch.randn(5, 2), torch.zeros(5), torch.arange(5) % 3)
    before, names = made(*given), list(made.state_dict())
    weights = copied(made)
    adapt(made, Lora(lora_rank=3, lora_alpha=6), torch.Generator().manual_seed(1))
    torch.testing.assert_close(made(*given), before)
    learned = [name for name, one in made.named_parameters() if one.requires_grad]
    assert learned and all("lora" in name for name in learned)
    with torch.no_grad():
        for name, one in made.named_parameters():
            if "lora_B" in name:
                one.normal_(generator=torch.Generator().manual_seed(2))
    whole = merged(made)
    assert list(whole.state_dict()) == names
    torch.testing.assert_close(whole(*given), made(*given), rtol=1e-4, atol=1e-4)
    assert not torch.equal(whole(*given), before)
    assert any("lora" in name for name in made.state_dict()), "the one in training keeps its adapters"
    kept = {name.replace(".base_layer", ""): value for name, value in made.state_dict().items() if "lora" not in name}
    assert all(torch.equal(kept[name], value) for name, value in weights.items())


# ----------------------------------------------------------------------------------------------------------------- runs


def test_a_run_brings_the_student_to_the_ring(work):
    """Where the teacher in one call lands in the middle."""
    parts = (replace(part, labels=None) for part in (work.source.train, work.source.test))
    source = replace(work.source, classes=(), **dict(zip(("train", "test"), parts, strict=True)))
    how = EDM(network="mlp:width=32,depth=1", steps=300, batch=128, lr=1e-2, weights_average=0.95)
    teacher = engine.run(how.resolve(Work(source), machine()), Work(source), machine())
    method = DMD2(steps=300, batch=64, lr=2e-3, warm_start=0)
    made = engine.run(method.resolve(Work(source, teacher), machine()), Work(source, teacher), machine())
    away = [float((one.sample(500, steps=1).norm(dim=1) - 1).abs().median()) for one in (made, teacher)]
    assert away[0] < 0.3 < 0.6 < away[1], away


def test_options_together_and_killed_in_a_critics_turn_give_the_same_bytes(work, tmp_path):
    pytest.importorskip("peft")

    def run(name, engine_settings):
        here = Runtime(engine_settings)
        return engine.run(ALL.resolve(work, here), work, here, out=tmp_path / name)

    whole = run("whole", IN_ONE_GO)
    for turn in (1, 5, 3):
        with dying_in(DMD2, "critic_turn", turn):
            run("again", EVERY_STEP)
    again = run("again", EVERY_STEP)
    for one, other in zip(whole.denoiser.parameters(), again.denoiser.parameters(), strict=True):
        assert torch.equal(one, other)
    bytes_of = [files_of(tmp_path / name) for name in ("whole", "again")]
    assert bytes_of[0]["sampler.safetensors"] == bytes_of[1]["sampler.safetensors"]
    assert set(load_file(tmp_path / "whole" / "sampler.safetensors")) == set(work.teacher.denoiser.network.state_dict())
    opened = Sampler.load(tmp_path / "whole")
    torch.testing.assert_close(opened.sample(20, seed=3), whole.sample(20, seed=3))


def test_a_run_killed_in_its_warm_start_gives_the_same_bytes(work, tmp_path):
    def run(name, settings):
        here = Runtime(settings)
        return engine.run(ALL.resolve(work, here), work, here, out=tmp_path / name)

    whole = run("whole", IN_ONE_GO)
    with dying_in(DMD2, "warm_turn", 2):
        run("again", EVERY_STEP)
    assert torch.equal(run("again", EVERY_STEP).sample(9), whole.sample(9))


def test_metrics_have_the_same_names_in_each_step(work):
    _, _, _, metrics = after(work, ALL, 11)
    names = {"loss", "critic_loss", "matching_gradient", "logit_real", "logit_fake", "regression_loss"}
    assert [set(one) for one in metrics] == [{"loss"}] * 3 + [names] * 8
    assert all(math.isfinite(float(value)) for one in metrics for value in one.values())


def test_the_average_is_the_result_where_there_is_one(work):
    method, state, run, _ = after(work, replace(PLAIN, weights_average=0.5), 6)
    made = method.result(state, run)
    assert same(made.denoiser, copied(state.average)) and not same(made.denoiser, copied(state.student))


def test_networks_may_multiply_in_half_precision_and_nothing_else_does(work):
    method, state, run = begun(work, replace(PLAIN, half="on", gan_weight=0.1, calls=2))
    assert {one.multiplies for one in (state.student, state.critic, state.teacher)} == {torch.bfloat16}
    x, labels = work.source.train[torch.arange(16)], torch.zeros(16, dtype=torch.long)
    assert method.gradient(x, labels, state, run).dtype == torch.float32
    method.step(state, run)
    assert {one.dtype for one in state.student.parameters()} == {torch.float32}
    assert method.result(state, run).denoiser.multiplies is None


def test_maps_are_judged_too(work):
    """A convolutional network, whose features are maps."""

    class Maps(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.leave = torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.Conv2d(8, 1, 3, padding=1)

        def encoded(self, x, noise, labels):
            return torch.nn.functional.silu(self.enter(x) + noise[:, None, None, None])

        def forward(self, x, noise, labels):
            return self.leave(self.encoded(x, noise, labels))

    from attar.samplers.sources import Source

    pixels = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    source = Source.of_tensors(pixels, pixels)
    denoiser = Denoiser(Maps(), 0.5).requires_grad_(False)
    teacher = replace(
        work.teacher, denoiser=denoiser, shape=(1, 8, 8), classes=(), class_shares=(), network=None, solver="heun"
    )
    _, state, _, metrics = after(Work(source, teacher), replace(PLAIN, gan_weight=0.1), 3)
    assert isinstance(state.head[0], torch.nn.Conv2d)
    assert math.isfinite(float(metrics[-1]["logit_real"]))


# ------------------------------------------------------------------------------------------------------------- settings


def test_a_fifth_of_the_steps_is_a_warm_start_by_default(work):
    assert replace(PLAIN, warm_start=None, steps=100).resolve(work, machine()).warm_start == 20
    assert replace(PLAIN, warm_start=None, steps=100_000).resolve(work, machine()).warm_start == 2000


def test_every_published_cell_is_made_and_has_no_warm_start_but_one():
    cells = table_of(DMD2).cells
    assert len(cells) == 10
    for cell in cells:
        method = DMD2.paper(cell.name)
        assert method.warm_start == (2000 if cell.name == "sdxl-1-step" else 0)
        rise = method.lr_warm_up * (method.total_steps - method.warm_start)
        assert rise == pytest.approx(0 if "fastgen" in cell.name else 500)


@pytest.mark.parametrize(
    "name, settings",
    [
        ("imagenet-64", {"critic_steps": 5, "lr": 2e-6, "batch": 280, "gan_weight": 0.0, "steps": 410_000}),
        ("imagenet-64-gan", {"lr": 2e-6, "gan_weight": 3e-3, "steps": 200_000}),
        ("imagenet-64-resumed", {"lr": 5e-7, "gan_weight": 3e-3, "steps": 140_000}),
        ("sd15", {"critic_steps": 10, "lr": 1e-5, "batch": 2048, "guidance": 1.75, "steps": 39_000}),
        ("sd15-resumed", {"critic_steps": 10, "lr": 5e-7, "gan_weight": 1e-3, "guidance": 1.75}),
        ("sdxl-4-step", {"calls": 4, "guidance": 8.0, "gan_weight": 5e-3, "batch": 128, "first_level": 1000}),
        ("sdxl-4-step-lora", {"calls": 4, "lr": 5e-5, "lora": Lora(lora_rank=64, lora_alpha=8)}),
        ("sdxl-1-step", {"calls": 1, "first_level": 400, "lr": 5e-7}),
        ("cifar10-fastgen", {"batch": 2048, "gan_weight": 1e-3, "steps": 100_000, "critic_steps": 5}),
        ("imagenet-64-dmd", {"critic_steps": 1, "gan_weight": 0.0}),
    ],
)
def test_published_settings(name, settings):
    method = DMD2.paper(name)
    assert {key: getattr(method, key) for key in settings} == settings


REFUSED = [
    (
        {"gan_weight": 0.1, "critic": Critic(against="sample")},
        "the GAN term reads the critic's features; against sample there is none. Set gan_weight to 0.",
    ),
    (
        {"critic_steps": 1, "critic": Critic(critic_turns="other")},
        "critic_turns is other and critic_steps 1, so the critic never moves. Set critic_steps to 2.",
    ),
    ({"level_range": (0.98, 0.02)}, "level_range is 0.98 0.02; give two shares that rise, such as 0.02 0.98."),
    ({"level_range": (0.5, 1.5)}, "level_range is 0.5 1.5; give two shares that rise, such as 0.02 0.98."),
    ({"warm_start": 7}, "warm_start is 7, but steps in all are 6. Give fewer, or more steps."),
    ({"calls": 5, "first_level": 3}, "5 noise levels are asked for, but there are 3. Give fewer."),
]


@pytest.mark.parametrize("settings, sentence", REFUSED)
def test_settings_that_do_not_fit_are_refused(work, settings, sentence):
    with pytest.raises(InputError) as refused:
        replace(PLAIN, **settings).resolve(work, machine())
    assert str(refused.value) == sentence


def test_a_teacher_that_always_saw_labels_is_not_guided(work):
    origin = dataclasses.replace(work.teacher.origin, settings={"label_dropout": 0})
    with pytest.raises(InputError) as refused:
        replace(PLAIN, guidance=2.0).resolve(replace(work, teacher=replace(work.teacher, origin=origin)), machine())
    assert str(refused.value) == (
        "guidance is 2, but the teacher always saw labels (label_dropout 0). Set it to 1, or train the teacher with "
        "--label-dropout 0.1."
    )


def test_without_classes_there_is_nothing_to_guide_by(work):
    source = replace(work.source, classes=(), train=replace(work.source.train, labels=None))
    with pytest.raises(InputError) as refused:
        replace(PLAIN, guidance=2.0).resolve(replace(work, source=source), machine())
    assert str(refused.value) == "guidance is 2, but ring has no classes to guide by. Set it to 1."


def test_a_missing_peft_is_told(monkeypatch, work):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(InputError) as refused:
        begun(work, replace(PLAIN, lora=Lora(lora_rank=2)))
    assert str(refused.value) == f"lora_rank needs peft: {install('samplers')}."


def test_a_variance_preserving_grid_has_the_same_levels_everywhere(work):
    """Its few levels are the steps 999, 749, 499 and 249 of its table."""
    grid = replace(work.teacher.grid, schedule="scaled-linear")
    method = replace(PLAIN, calls=4, levels=grid)
    table = VP.scaled_linear().exploding()
    assert method.few_levels().tolist() == table[[999, 749, 499, 249]].tolist()
