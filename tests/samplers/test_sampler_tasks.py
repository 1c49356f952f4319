"""Training and distilling from the command: data, teachers by folder or by words, and what is refused."""

import dataclasses

import pytest
import torch

import attar
from attar.cli import main
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.samplers.learner import Student
from attar.samplers.tasks import Distill, Teacher
from attar.samplers.teaching import Work, teacher_named
from attar.samplers.toys import drawn

EDM = ("--network", "mlp:width=8,depth=1", "--steps", "3", "--batch", "16", "--sampling-levels", "3")
QUIET = ("--device", "cpu", "--quiet")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Copy(Student):
    """A student that is its teacher."""

    name = "copy"


@pytest.fixture
def runtime(engine):
    return Runtime(engine, 0)


@pytest.fixture(scope="module")
def ring():
    return drawn("ring", 200)


@pytest.fixture(scope="module")
def folder(ring, engine, tmp_path_factory):
    place = tmp_path_factory.mktemp("teacher") / "edm"
    method = attar.EDM(network="mlp:width=8,depth=1", steps=3, batch=16, sampling_levels=3)
    attar.train(ring, method, out=place, engine=engine)
    return place


# ------------------------------------------------------------------------------------------------------- from the shell


def test_a_model_is_trained_and_resumed_from_the_shell(tmp_path, capsys):
    command = ["train", "edm", "--data", "ring", "--points", "200", *EDM, "--out", str(tmp_path / "made"), *QUIET]
    main(command)
    first = (tmp_path / "made" / "sampler.safetensors").read_bytes()
    assert "a sample by 5 calls of a network" in capsys.readouterr().out
    main(command)
    assert (tmp_path / "made" / "sampler.safetensors").read_bytes() == first


def test_data_are_described(capsys):
    main(["data", "ring"])
    told = capsys.readouterr().out
    assert "ring: 8,000 training and 2,000 test points, 8 classes, 2" in told and "standard deviation" in told


@pytest.mark.parametrize("words", [["train", "edm"], ["distill", "pairs"], ["distill", "consistency"]])
def test_help_names_the_everyday_settings(words, capsys):
    main([*words, "--help"])
    told = capsys.readouterr().out
    assert "--steps" in told and "--data" in told and ("--teacher" in told) == (words[0] == "distill")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--data", "spiral"], "spiral"),
        (["--data", "ring", "--points", "5"], "points"),
        (["--data", "ring", "--network", "transformer"], "unknown network 'transformer'"),
        (["--data", "ring", "--network", "mlp:width=-1"], "width"),
        (["--data", "ring", "--network", "unet:width=8"], "unet takes images"),
        (["--data", "ring", "--sigma-min", "3", "--sigma-max", "2"], "give 0 < sigma_min < sigma_max"),
        (["--data", "ring", "--sigma-min", "9"], "give 0 < sigma_min < sigma_max"),
        (["--data", "ring", "--label-dropout", "1.5"], "label"),
        (["--data", "ring", "--steps", "0"], "steps"),
    ],
)
def test_what_cannot_be_trained_is_refused_on_one_line(words, told, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "edm", *words, "--out", str(tmp_path / "made"), *QUIET])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error
    assert not (tmp_path / "made" / "artefact.json").exists()


# ------------------------------------------------------------------------------------------------------------- teachers


def test_a_teacher_is_read_from_its_folder(folder, ring, runtime):
    teacher = teacher_named(str(folder), ring, runtime, steps=None, levels=None)
    assert teacher.calls == 5 and not any(one.requires_grad for one in teacher.denoiser.parameters())
    assert teacher_named(teacher, ring, runtime, steps=None, levels=9).calls == 17


def test_a_teacher_by_words_is_trained_once(ring, runtime):
    made = [teacher_named("mlp:width=4,depth=1", ring, runtime, steps=2, levels=None) for _ in range(2)]
    assert made[0].origin.settings["steps"] == 2 and made[0].network == "mlp:width=4,depth=1"
    assert all(torch.equal(one, made[1].learned[name]) for name, one in made[0].learned.items())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("runs/nothing", "runs/nothing is not in the cache"),
        ("tree:depth=3", "unknown network 'tree'"),
        (__file__, "is no folder of a sampler"),
    ],
)
def test_what_is_no_teacher_is_refused(given, told, ring, runtime):
    with pytest.raises(InputError) as raised:
        teacher_named(given, ring, runtime, steps=2, levels=None)
    assert told in str(raised.value)


def test_a_folder_of_another_kind_is_no_teacher(ring, runtime, engine, tmp_path):
    attar.condense("digits", attar.Random(ipc=1), out=tmp_path / "images", engine=engine)
    with pytest.raises(InputError, match=r"kind 'images', not 'samplers'"):
        teacher_named(str(tmp_path / "images"), ring, runtime, steps=None, levels=None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no sampler"):
        teacher_named(str(tmp_path / "empty"), ring, runtime, steps=None, levels=None)


def test_a_student_needs_a_teacher_of_the_same_samples(folder, ring, runtime):
    with pytest.raises(InputError, match=r"copy needs a teacher. Give --teacher."):
        Copy().resolve(Work(ring), runtime)
    teacher = teacher_named(str(folder), ring, runtime, steps=None, levels=None)
    with pytest.raises(InputError, match=r"the teacher makes samples of shape .* of 8 classes, but moons has"):
        Copy().resolve(Work(drawn("moons", 100), teacher), runtime)
    assert Copy().resolve(Work(ring, teacher), runtime).levels == teacher.grid


def test_a_student_starts_as_its_teacher_in_boundary_form(folder, ring, runtime):
    teacher = teacher_named(str(folder), ring, runtime, steps=None, levels=None)
    work = Work(ring, teacher)
    method = Copy(calls=2).resolve(work, runtime)
    made = method.result(method.build(work, runtime), runtime)
    assert made.denoiser.boundary == teacher.grid.ends[0] and made.network == teacher.network
    assert (made.calls, made.solver, made.origin.teacher_calls) == (2, "few-step", 5)
    torch.testing.assert_close(made.levels(), teacher.grid.few(2))
    assert work.fingerprint != Work(ring).fingerprint


def test_conditions_are_drawn_in_the_shares_of_the_data(ring):
    uneven = ring.subset((ring.train.labels < 2).nonzero().flatten())
    labels = Work(uneven).conditions(2000, torch.Generator().manual_seed(0), torch.device("cpu"))
    share = uneven.class_shares[0]
    assert labels.max() == 1
    assert abs((labels == 0).float().mean() - share) < 4 * (share * (1 - share) / 2000) ** 0.5


def test_the_folder_of_a_teacher_is_followed(folder):
    assert Distill(teacher=Teacher(network=str(folder))).earlier == str(folder)
    assert Distill(teacher=Teacher(network="mlp:width=4")).earlier is None


# ------------------------------------------------------------------------------------------------------------- the loop


def test_every_real_sample_is_seen_once_in_a_pass(ring, runtime):
    method = attar.EDM(network="mlp:width=4,depth=1", batch=40, steps=8).resolve(Work(ring), runtime)
    state, rows = method.build(Work(ring), runtime), []
    for _ in range(4):
        rows.append(method.drawn(state, runtime).rows)
        state.done += 1
    assert sorted(torch.cat(rows).tolist()) == list(range(160))


def test_the_step_size_rises_and_falls_in_straight_lines(ring, runtime):
    method = attar.EDM(lr=1.0, steps=100, lr_warm_up=0.1).resolve(Work(ring), runtime)
    assert method.lr_at(4) == pytest.approx(0.5 * 0.96) and method.lr_at(50) == pytest.approx(0.5)
    assert dataclasses.replace(method, lr_decay="none").lr_at(50) == 1.0


def test_the_average_of_the_weights_is_what_is_kept(ring, runtime):
    settings = {"network": "mlp:width=4,depth=1", "steps": 5, "batch": 16}
    work = Work(ring)
    for average in (0.0, 0.9):
        method = attar.EDM(**settings, weights_average=average).resolve(work, runtime)
        state = method.build(work, runtime)
        before = state.student.network.enter.weight.detach().clone()
        method.step(state, runtime)
        moved = state.student.network.enter.weight.detach()
        decay = min(average, 1 / 10)
        wanted = moved + decay * (before - moved) if average else moved
        torch.testing.assert_close(state.kept.network.enter.weight.detach(), wanted)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "radam"])
def test_every_optimiser_steps(optimizer, ring, runtime):
    method = attar.EDM(network="mlp:width=4,depth=1", steps=2, batch=8, optimizer=optimizer, clip_norm=0.1)
    method = method.resolve(Work(ring), runtime)
    state = method.build(Work(ring), runtime)
    assert float(method.step(state, runtime)["loss"]) > 0
