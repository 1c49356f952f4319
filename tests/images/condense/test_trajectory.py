import dataclasses
import math

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.presets import table_of
from attar.core.runtime import Engine, Runtime
from attar.images.condense.ast import balance, perturbed, representative
from attar.images.condense.trajectory import recognised
from attar.images.experts import Experts
from attar.images.networks.architecture import Architecture

ENGINE = Engine(device="cpu", compile="off", quiet=True)
SMALL = Architecture(width=8)
BRIEF = {
    "ipc": 2,
    "steps": 3,
    "student_steps": 4,
    "last_start": 3,
    "architecture": SMALL,
    "experts": Experts(experts=2, epochs=5),
}
PLAIN = {"start": "real", "clusters": None, "student_momentum": 0.0, "middle": "none", "balanced": False}
"""AST with everything off but its perturbation."""


def condensed(source, method, seed=0):
    return attar.condense(source, method, seed=seed, engine=ENGINE)


def built(source, method):
    runtime = Runtime(ENGINE)
    method = method.resolve(source, runtime)
    return method, method.build(source, runtime), runtime


# The methods among each other.


def test_tesla_is_mtt_for_one_student_step(few_digits):
    one = {**BRIEF, "student_steps": 1}
    mtt, tesla = (condensed(few_digits, kind(**one)) for kind in (attar.MTT, attar.TESLA))
    assert torch.allclose(tesla.images, mtt.images, atol=1e-6)
    mtt, tesla = (condensed(few_digits, kind(**BRIEF)) for kind in (attar.MTT, attar.TESLA))
    assert not torch.allclose(tesla.images, mtt.images, atol=1e-6)


def test_datm_with_classes_for_labels_and_neither_gate_nor_growth_is_mtt(few_digits):
    off = {"labels": "hard", "start": "real", "gate": None}
    datm, mtt = condensed(few_digits, attar.DATM(**BRIEF, **off)), condensed(few_digits, attar.MTT(**BRIEF))
    assert torch.equal(datm.images, mtt.images) and datm.lr == mtt.lr


def test_ast_with_everything_off_is_mtt(few_digits):
    ast = condensed(few_digits, attar.AST(**BRIEF, **PLAIN, perturbation=0.0))
    mtt = condensed(few_digits, attar.MTT(**BRIEF))
    assert torch.equal(ast.images, mtt.images) and ast.lr == mtt.lr


def test_edf_without_dropout_and_emphasis_is_datm(few_digits):
    edf = condensed(few_digits, attar.EDF(**BRIEF, parameter_dropout=0.0, emphasis=0.0))
    datm = condensed(few_digits, attar.DATM(**BRIEF))
    assert torch.equal(edf.images, datm.images) and torch.equal(edf.labels, datm.labels)


def test_an_average_that_forgets_at_once_is_no_average(few_digits):
    ftd = condensed(few_digits, attar.FTD(**BRIEF, average=0.0))
    assert torch.equal(ftd.images, condensed(few_digits, attar.MTT(**BRIEF)).images)
    slow = condensed(few_digits, attar.FTD(**BRIEF, average=0.999)).images
    start = condensed(few_digits, attar.MTT(**{**BRIEF, "lr": 0.0})).images
    assert (slow - start).norm() < 0.01 * (ftd.images - start).norm()


def test_both_exact_gradients_make_the_same_set(few_digits):
    short = {**BRIEF, "steps": 2}
    sets = [condensed(few_digits, attar.DATM(**short, gradient=way)) for way in ("adjoint", "unrolled")]
    assert torch.allclose(sets[0].images, sets[1].images, atol=1e-4)
    assert torch.allclose(sets[0].labels, sets[1].labels, atol=1e-5)
    assert sets[0].lr == pytest.approx(sets[1].lr, rel=1e-5)


# What each adds.


def test_a_loss_above_the_gate_changes_nothing(few_digits):
    shut = condensed(few_digits, attar.DATM(**BRIEF, gate=0.0))
    still = condensed(few_digits, attar.DATM(**{**BRIEF, "lr": 0.0}, label_lr=0.0, lr_lr=0.0))
    assert torch.equal(shut.images, still.images) and torch.equal(shut.labels, still.labels)
    assert shut.lr == still.lr == pytest.approx(0.01)
    method, state, runtime = built(few_digits, attar.DATM(**BRIEF, gate=0.0))
    method.step(state, runtime)
    assert not any(optimizer.state for optimizer in state.optimizers.values())


@pytest.mark.parametrize("how", ["plain", "log", "clamped", "off"])
def test_the_step_size_is_learned_as_asked(how, few_digits):
    lr = condensed(few_digits, attar.MTT(**BRIEF, learn_lr=how, lr_lr=1e-5)).lr
    assert (lr == pytest.approx(0.01, abs=1e-7)) == (how == "off")
    still = condensed(few_digits, attar.MTT(**BRIEF, learn_lr=how, lr_lr=0.0)).lr
    assert still == pytest.approx(0.01)
    if how in ("log", "clamped"):
        assert condensed(few_digits, attar.MTT(**{**BRIEF, "steps": 1}, learn_lr=how, lr_lr=1e-2)).lr > 0


@pytest.mark.parametrize("kind", ["MTT", "TESLA", "DATM"])
@pytest.mark.parametrize("lr", [-0.003, 0.0])
def test_a_step_size_that_is_not_positive_is_said_once_and_trains_nothing(lr, kind, few_digits):
    said = []
    runtime = Runtime(ENGINE, say=said.append)
    method = getattr(attar, kind)(**{**BRIEF, "lr_lr": 0.0, "lr": 0.0}).resolve(few_digits, runtime)
    state = method.build(few_digits, runtime)
    said.clear()
    method.step(state, runtime)
    assert said == []
    with torch.no_grad():
        state.lr.fill_(lr)
    for _ in range(method.steps):
        method.step(state, runtime)
    assert said == [
        f"note: the student's step size became {lr:.3g} at step {method.steps}. Unless it becomes positive again, no "
        "network can be trained on the set. Start again with --learn-lr log."
    ]
    small = method.result(state, runtime)
    with pytest.raises(InputError, match=r"learned step size is .*, and no network .* again with --learn-lr log"):
        attar.evaluate(small, few_digits, networks=[SMALL], protocol="quick", engine=ENGINE)


@pytest.mark.parametrize("how", ["log", "clamped"])
def test_a_step_size_that_stays_positive_is_not_warned_of(how, few_digits):
    said = []
    runtime = Runtime(ENGINE, say=said.append)
    method = attar.MTT(**BRIEF, learn_lr=how, lr_lr=1e-2).resolve(few_digits, runtime)
    state = method.build(few_digits, runtime)
    said.clear()
    for _ in range(3):
        method.step(state, runtime)
    assert said == [] and method.result(state, runtime).lr > 0


def test_zero_has_no_logarithm(few_digits):
    with pytest.raises(InputError, match="student_lr is 0, which has no logarithm; give another --student-lr"):
        attar.MTT(**BRIEF, student_lr=0.0, learn_lr="log").resolve(few_digits, Runtime(ENGINE))


def test_start_epochs_are_drawn_below_a_bound_that_grows(few_digits):
    grown = {"first_start": 2, "grow_from": 3, "grow_over": 10, "last_start": 8}
    method, state, runtime = built(few_digits, attar.DATM(**{**BRIEF, **grown, "experts": Experts(experts=1)}))
    assert method.experts.epochs == 9
    seen = {}
    for done in (0, 4, 10, 100):
        state.done = done
        seen[done] = {method._epoch(state, runtime) for _ in range(100)}
    assert seen == {0: {2}, 4: {2, 3, 4}, 10: set(range(2, 8)), 100: set(range(2, 8))}


def test_experts_take_turns_in_a_new_order_each_round(few_digits):
    method, state, runtime = built(few_digits, attar.MTT(**{**BRIEF, "experts": Experts(experts=4)}))
    rounds = []
    for _ in range(4):
        for _ in range(4):
            method.step(state, runtime)
        rounds.append(state.order.tolist())
    assert all(sorted(order) == [0, 1, 2, 3] for order in rounds)
    assert len(set(map(tuple, rounds))) > 1


def test_a_student_takes_no_more_steps_than_the_expert_did(few_digits, digits, runtime):
    taken = [attar.MTT(ipc=1).resolve(source, runtime).student_steps for source in (few_digits, digits)]
    assert taken == [2, 12]  # one batch of 120 images an epoch, and six of 1,297, over two epochs
    small = condensed(few_digits, attar.MTT(ipc=1, steps=20, experts=Experts(experts=1), architecture=SMALL))
    assert small.images.isfinite().all()


def test_a_student_sees_every_image_before_any_again(few_digits):
    method, _, runtime = built(few_digits, attar.MTT(**{**BRIEF, "student_steps": 6}, batch=8))
    batches = list(method._batches(20, runtime))
    assert [len(batch.rows) for batch in batches] == [4, 8, 8] * 2
    for first in (0, 3):
        assert sorted(torch.cat([b.rows for b in batches[first : first + 3]]).tolist()) == list(range(20))


def test_soft_labels_start_from_experts_that_are_right(few_digits):
    method, state, runtime = built(few_digits, attar.DATM(**BRIEF))
    rows = recognised(state, 2, Runtime(ENGINE))
    assert few_digits.targets[rows].tolist() == state.labels.tolist()
    answers = torch.stack([state.flat.logits(state.pool.vector(e, 5), state.images.detach()) for e in range(2)])
    right = answers.argmax(dim=2) == state.labels
    for image in torch.nonzero(right.any(dim=0)).flatten().tolist():
        wanted = answers[right[:, image], image].mean(dim=0)
        assert torch.allclose(state.label_logits[image].detach(), wanted, atol=1e-5)
    found = method.result(state, runtime)
    assert torch.allclose(found.labels.sum(dim=1), torch.ones(20))


def test_assigned_labels_are_what_the_expert_to_be_reached_answers(few_digits):
    method, state, runtime = built(few_digits, attar.TESLA(**BRIEF, assigned_labels=True))
    method.targets(state, 1, 2, runtime)
    wanted = state.flat.logits(state.pool.vector(1, 4), state.images.detach())
    assert torch.allclose(state.label_logits, wanted, atol=1e-6)


def test_the_lost_factor_is_a_half_and_the_preset_knows(few_digits):
    start = condensed(few_digits, attar.TESLA(**{**BRIEF, "lr": 0.0})).images
    one = {**BRIEF, "steps": 1}
    whole, half = (condensed(few_digits, attar.TESLA(**one, lost_factor=lost)).images for lost in (False, True))
    assert torch.allclose(half - start, (whole - start) / 2, atol=1e-6)
    paper, released = (attar.TESLA.paper("cifar10", ipc=1, variant=v) for v in ("paper", "released"))
    assert released.lost_factor and not paper.lost_factor and released.lr == 2 * paper.lr == 1000


# AST.


def test_the_balance_is_that_of_the_code():
    found = [balance(epoch, 20) for epoch in (0, 9, 10, 19)]
    assert found == pytest.approx([0.557, 0.732, 1.292, 1.760], abs=1e-3)
    assert found[2] == pytest.approx(math.log(8, 5))
    rising = [balance(epoch, 20) for epoch in range(20)]
    assert rising == sorted(rising)


def test_balancing_is_another_step_size(few_digits):
    method, state, runtime = built(few_digits, attar.MTT(**BRIEF))
    from attar.images.condense.adjoint import Task, match

    start = state.pool.vector(0, 2)
    batches = list(method._batches(20, runtime))
    points = method.waypoints(state, 0, 2, runtime)
    factor = balance(2, 3)
    scaled = match(
        state.student, state.images, state.labels, torch.tensor(0.01), Task(start, batches, points, 0, factor)
    )
    faster = match(state.student, state.images, state.labels, torch.tensor(0.01 * factor), Task(start, batches, points))
    assert float(scaled.loss) == pytest.approx(float(faster.loss), rel=1e-5)
    # Single precision rounds a sum to 1e-7 of its largest terms, so pixels near zero are held to that.
    largest = float(faster.images.abs().max())
    assert torch.allclose(scaled.images, faster.images, rtol=1e-3, atol=1e-6 * largest)
    assert float((scaled.images - faster.images).norm() / faster.images.norm()) < 1e-5


def test_only_kernels_are_perturbed_and_by_little(few_digits):
    _, state, runtime = built(few_digits, attar.MTT(**BRIEF))
    vector = state.pool.vector(0, 1)
    assert perturbed(vector, state.flat, 0.0, runtime.generator("x")) is vector
    moved = [perturbed(vector, state.flat, 1.0, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(moved[0], moved[1]) and not torch.equal(moved[0], moved[2])
    before, after = state.flat.parameters(vector), state.flat.parameters(moved[0])
    for name, weights in before.items():
        change = (after[name] - weights).norm()
        if weights.ndim == 4:
            assert 0 < change <= weights.abs().max()
        else:
            assert change == 0


def test_the_middle_is_matched_where_the_expert_was(few_digits):
    settings = {**BRIEF, "student_steps": 10, "span": 3}
    method, state, runtime = built(few_digits, attar.AST(**settings, middle="rising"))
    points = method.waypoints(state, 1, 2, runtime)
    assert {step: round(point.weight, 3) for step, point in points.items()} == {3: 0.333, 6: 0.667, 10: 1.0}
    assert torch.equal(points[6].target, state.pool.vector(1, 4))
    equal = dataclasses.replace(method, middle="equal").waypoints(state, 1, 2, runtime)
    assert {point.weight for point in equal.values()} == {1.0}
    one = dataclasses.replace(method, span=1).waypoints(state, 1, 2, runtime)
    assert list(one) == [10]


def test_representatives_are_real_each_once_and_as_many_as_asked(few_digits):
    generator = torch.Generator().manual_seed(0)
    answers = torch.randn(12, 10, generator=generator)
    for count, clusters in ((1, 1), (4, 4), (4, 2), (12, 12)):
        chosen = representative(answers, count, clusters, torch.Generator().manual_seed(1))
        assert len(set(chosen.tolist())) == count
        assert torch.equal(chosen, representative(answers, count, clusters, torch.Generator().manual_seed(1)))
    one = representative(answers, 1, 1, generator)
    assert int(one) == int((answers - answers.mean(dim=0)).norm(dim=1).argmin())
    start = condensed(few_digits, attar.AST(**{**BRIEF, "lr": 0.0}))
    real = few_digits.inputs(torch.arange(len(few_digits.train)))
    for image, label in zip(start.images, start.labels, strict=True):
        (same,) = torch.nonzero((real == image).all(dim=(1, 2, 3))).flatten()[:1]
        assert few_digits.targets[same] == label


# Presets and refusals.


@pytest.mark.parametrize("name", ["MTT", "TESLA", "FTD", "DATM", "AST", "EDF"])
def test_published_cells_are_settings_and_others_are_refused(name):
    method = getattr(attar, name)
    known = {"MTT": "cifar10", "TESLA": "cifar10", "FTD": "cifar10", "DATM": "cifar10", "AST": "cifar100"}
    data = known.get(name, "imagenette")
    assert method.paper(data, ipc=1).ipc == 1
    with pytest.raises(InputError, match=rf"{name} has no cell {data}-3\. Cells: {data}-1"):
        method.paper(data, ipc=3)
    with pytest.raises(InputError, match=f"{name} has no cell of 'svhn'"):
        method.paper("svhn", ipc=1)


@pytest.mark.parametrize("name", ["MTT", "TESLA", "FTD", "DATM", "AST", "EDF"])
def test_every_published_cell_fits_its_experts(name):
    for cell in table_of(getattr(attar, name)).cells:
        method = getattr(attar, name).paper(cell.data, ipc=int(cell.size))
        assert method.last_start - 1 + method.span <= method.experts.epochs


def cells_of(kind):
    return [(cell.data, int(cell.size)) for cell in table_of(getattr(attar, kind)).cells]


@pytest.mark.parametrize(
    "kind, data, ipc", [(kind, *cell) for kind in ("MTT", "TESLA", "FTD", "DATM", "AST") for cell in cells_of(kind)]
)
def test_no_value_of_a_published_cell_follows_from_another(kind, data, ipc):
    method = getattr(attar, kind).paper(data, ipc=ipc)
    for name in ("steps", "student_steps", "last_start", "batch", "student_lr", "augmentation"):
        assert getattr(method, name) is not None
    depths = {"tiny-imagenet": 4, "imagenet": 4, "imagefruit": 5}
    assert method.architecture.depth == depths.get(data, 3)
    assert method.experts.experts in (50, 100) and method.experts.epochs in (50, 100)
    assert kind != "FTD" or method.average is not None
    assert kind != "AST" or method.start == "real" or ipc % method.clusters == 0
    assert method.augmentation == "color_crop_cutout_flip_scale_rotate"
    assert method.student_lr == (0.001 if (kind, data, ipc) in SLOW else 0.01)


SLOW = {("MTT", "cifar10", 10), ("MTT", "cifar10", 50), ("FTD", "cifar10", 10)}
"""The cells in which β starts lower."""


def test_settings_that_leave_nothing_to_match_are_refused(few_digits):
    with pytest.raises(InputError, match=r"first_start is 3; it must be below last_start, 3\."):
        condensed(few_digits, attar.DATM(**BRIEF, first_start=3))
    with pytest.raises(InputError, match="experts have 5 epochs, but students follow them up to epoch 6"):
        condensed(few_digits, attar.MTT(**{**BRIEF, "span": 4}))
    with pytest.raises(InputError, match=r"clusters is 3; it must divide ipc, 2\."):
        condensed(few_digits, attar.AST(**BRIEF, clusters=3))
    with pytest.raises(InputError, match=r"parameter_dropout is 1\.0; it must be from 0 to 0\.99"):
        attar.EDF(parameter_dropout=1.0)


def test_matching_trajectories_beats_the_images_it_started_from(digits):
    from attar.images.protocols import PROTOCOLS
    from attar.images.score import train_and_test

    network = Architecture(width=16)
    settings = {
        "ipc": 1,
        "steps": 40,
        "student_steps": 10,
        "lr": 20.0,
        "architecture": network,
        "experts": Experts(experts=3, lr=0.05, batch=64),
    }

    def score(method):
        return train_and_test(condensed(digits, method), digits, network, PROTOCOLS["quick"], 2, Runtime(ENGINE, 0))

    learned, start = score(attar.MTT(**settings)), score(attar.MTT(**{**settings, "lr": 0.0, "steps": 1}))
    assert sum(learned) / 2 > sum(start) / 2 + 8
