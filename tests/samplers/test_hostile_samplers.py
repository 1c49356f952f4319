"""What a user may get wrong with samplers: every bad input is one clear line, and nothing is lost."""

import dataclasses
import functools
import inspect
import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image

import attar
from attar.cli import main
from attar.core import store
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.samplers import metrics
from attar.samplers.artefact import Sampler
from attar.samplers.folders import schedule_of
from attar.samplers.foreign import schedule_named
from attar.samplers.learner import WATCHED
from attar.samplers.schedules import Grid
from attar.samplers.sources import Source
from attar.samplers.teaching import Work, teacher_named
from attar.samplers.toys import drawn
from promises import files_of

QUICK = {"network": "mlp:width=8,depth=1", "steps": 3, "batch": 16, "sampling_levels": 3}
DMD2 = {"steps": 6, "batch": 16, "pairing": {"pair_count": 16, "pair_levels": 3}}
EDM = ["train", "edm", "--steps", "3", "--batch", "16"]
QUIET = ["--device", "cpu", "--quiet"]


@pytest.fixture
def runtime(engine):
    return Runtime(engine, 0)


@pytest.fixture(scope="module")
def ring():
    return drawn("ring", 200)


@pytest.fixture(scope="module")
def teacher(ring, engine):
    return attar.train(ring, attar.EDM(**QUICK), engine=engine)


@pytest.fixture(scope="module")
def student(ring, teacher, engine):
    return attar.distill(ring, attar.Consistency(steps=2, batch=16), teacher=teacher, engine=engine)


def refusal(capsys, *words):
    """The one line of a refusal."""
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, words), *QUIET])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.startswith("attar: ") and error.count("\n") == 1
    return error


# What a user calls, without the checks of types that tests have besides.
unchecked = functools.partial(inspect.unwrap(Source.of_tensors.__func__), Source)
sampled = inspect.unwrap(Sampler.sample)


# ------------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--betas 1 1", "--betas takes two numbers, each from 0 to 0.999999, not '1 1'"),
        ("--betas 0.9 -1", "each from 0 to 0.999999, not '0.9 -1'"),
        ("--sigma-data 0", "sigma"),
        ("--sigma-max 0", "sigma_max is 0; give 0 < sigma_min < sigma_max"),
        ("--noise-mean 1e12", "from -20 to 20"),
        ("--network mlp:width=1e3", "width of mlp is '1e3'; it must be a whole number"),
        (
            "--schedule linear --sampling-levels 1001",
            "1001 noise levels are asked for, but there are 1000. Give fewer.",
        ),
        (
            "--schedule linear --sigma-min 0.5",
            "sigma_min is 0.5, but the schedule linear ends at 0.0100005. Leave it out.",
        ),
        ("--schedule scaled-linear --sigma-max 80", "sigma_max is 80, but the schedule scaled-linear ends at 14.6146."),
    ],
)
def test_settings_that_cannot_be_are_refused_before_the_first_step(words, told, capsys, tmp_path):
    assert told in refusal(capsys, *EDM, "--data", "ring", "--points", 200, *words.split(), "--out", tmp_path / "made")
    assert not (tmp_path / "made").exists() or not (tmp_path / "made" / "artefact.json").exists()


def test_the_ends_of_a_schedule_may_be_its_own(ring, runtime):
    grid = Grid(schedule="linear").resolve(ring.shape)
    assert grid.resolve(ring.shape) == grid


def test_a_half_life_of_zero_is_no_average(ring, runtime):
    method = attar.EDM(average_half_life=0.0).resolve(Work(ring), runtime)
    assert method.weights_average == 0 and method.resolve(Work(ring), runtime) == method
    assert attar.EDM(average_half_life=256.0).resolve(Work(ring), runtime).weights_average == 0.5


def test_the_highest_level_alone_can_be_matched(ring, teacher, engine):
    method = attar.DMD2.from_names(**DMD2, level_range=(0.9999, 1.0))
    assert attar.distill(ring, method, teacher=teacher, engine=engine).calls == 1


# ----------------------------------------------------------------------------------------------------------------- data


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ("points", "training samples of samples are 'points'; give a tensor"),
        (torch.zeros(5), r"training samples of samples are \[5\] of float32; give numbers of shape \[samples, ...\]"),
        (torch.zeros(()), r"are \[\] of float32"),
        (torch.zeros(5, 0), r"are \[5, 0\] of float32"),
        (torch.zeros(5, 3, dtype=torch.complex64), r"are \[5, 3\] of complex64"),
        (torch.zeros(5, 3).to_sparse(), r"are \[5, 3\] of float32"),
        (torch.full((5, 3), 1e300, dtype=torch.float64), "a training sample of samples is not finite in float32"),
        ([[1.0], [2.0, 3.0]], "give a tensor"),
    ],
)
def test_what_is_no_table_of_samples_is_refused(train, told):
    with pytest.raises(InputError, match=told):
        unchecked(train, torch.zeros(4, 3))


@pytest.mark.parametrize(
    "labels", [torch.zeros(4), torch.zeros(4, 1).long(), torch.zeros(4).bool(), "ab", [0, 1, 2, 0]]
)
def test_what_are_no_class_numbers_is_refused(labels):
    with pytest.raises(InputError, match=r"^labels of samples"):
        unchecked(torch.zeros(4, 3), torch.zeros(4, 3), labels=(labels, labels), classes=("a", "b"))
    with pytest.raises(InputError, match="those of the training and those of the test samples"):
        unchecked(torch.zeros(4, 3), torch.zeros(4, 3), labels=(torch.zeros(4).long(),), classes=("a", "b"))


def test_arrays_lists_and_small_whole_numbers_are_samples_and_labels(engine):
    values = np.random.default_rng(0).normal(size=(40, 3))
    labels = ((np.arange(30) % 2).astype(np.int32), [0, 1] * 5)
    source = unchecked(values[:30], values[30:].tolist(), labels=labels, classes=["a", "b"])
    assert source.train.labels.dtype == torch.long and source.classes == ("a", "b")
    assert attar.train(source, attar.EDM(**QUICK), engine=engine).sample(3).shape == (3, 3)


def test_real_samples_that_are_equal_have_no_relative_distance():
    same, other = torch.ones(6, 2), torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    assert metrics.relative_frechet(same, same) == 0 and metrics.relative_frechet(same, other) == torch.inf


# ------------------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"n": 2.5}, "n is 2.5; it must be a whole number"),
        ({"n": "3"}, "n is '3'; it must be a whole number"),
        ({"n": 3, "seed": 0.5}, "seed is 0.5; it must be a whole number"),
        ({"labels": "abc"}, "labels is 'abc'; give a tensor, a row for each sample"),
        ({"labels": 3}, "labels is 3; give a tensor"),
        ({"labels": [True, False]}, "labels are"),
        ({"labels": [0.5]}, "labels are"),
        ({"labels": [9]}, "labels must be class numbers below 8"),
        ({"noise": torch.zeros(3, 2, dtype=torch.long)}, "noise is of torch.int64; give numbers of floating point"),
    ],
)
def test_what_cannot_be_sampled_is_refused(given, told, teacher):
    with pytest.raises(InputError) as refused:
        sampled(teacher, **given)
    assert told in str(refused.value)


def test_lists_and_arrays_name_classes_and_noise(teacher):
    wanted = teacher.sample(labels=torch.tensor([0, 3]), seed=1)
    assert torch.equal(sampled(teacher, labels=[0, 3], seed=1), wanted)
    assert torch.equal(sampled(teacher, np.int64(2), np.array([0, 3], dtype=np.int16), seed=np.int32(1)), wanted)
    assert sampled(teacher, noise=np.zeros((2, 2)), labels=[0, 3]).shape == (2, 2)


# ------------------------------------------------------------------------------------------------------------- teachers


def test_a_student_of_few_steps_is_no_diffusion_model(ring, student, engine):
    for method in (
        attar.Consistency(steps=2),
        attar.Progressive(steps=8, first_steps=2),
        attar.DMD2.from_names(**DMD2),
    ):
        with pytest.raises(InputError) as refused:
            attar.distill(ring, method, teacher=student, engine=engine)
        assert str(refused.value) == (
            f"the teacher is a student of few steps (by consistency), but {method.name} needs a diffusion model. Give "
            "its own teacher, or use pairs for a teacher of one call."
        )
    assert attar.distill(ring, attar.PairRegression(steps=2, pair_count=16), teacher=student, engine=engine).calls == 1


def test_classes_in_another_order_are_told(ring, teacher, engine):
    other = dataclasses.replace(ring, classes=ring.classes[::-1])
    told = r"makes samples of other classes: '0' stands where ring has '7'\. Give the data that it learned from"
    with pytest.raises(InputError, match=f"the teacher {told}"):
        attar.distill(other, attar.Consistency(steps=2), teacher=teacher, engine=engine)
    with pytest.raises(InputError, match=f"the sampler {told}"):
        attar.evaluate(teacher, other, engine=engine, beside="skip")


def test_a_teacher_lies_in_the_home_folder(ring, teacher, runtime, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    teacher.save(tmp_path / "runs" / "teacher")
    found = teacher_named("~/runs/teacher", ring, runtime, steps=None, levels=None)
    assert found.folder == tmp_path / "runs" / "teacher"


# ------------------------------------------------------------------------------------------------------- runs that stop


def test_a_watched_run_that_is_stopped_ends_in_the_same_bytes(ring, teacher, tmp_path):
    """In a turn of the critic, and between two scores, which the curves go on with."""
    method = attar.DMD2.from_names(**DMD2, warm_start=1, critic_steps=3, gan_weight=0.01, watch=2)
    engine = Engine(device="cpu", quiet=True)
    attar.distill(ring, method, teacher=teacher, out=tmp_path / "whole", engine=engine)
    step = type(method).step

    def stopped(self, state, runtime):
        found = step(self, state, runtime)
        if state.done == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(method), "step", stopped)
        with pytest.raises(KeyboardInterrupt, match="stopped after step 3 of 6"):
            attar.distill(ring, method, teacher=teacher, out=tmp_path / "again", engine=engine)
    attar.distill(ring, method, teacher=teacher, out=tmp_path / "again", engine=engine)
    assert files_of(tmp_path / "again") == files_of(tmp_path / "whole")
    curves = [(tmp_path / name / "run" / "metrics.jsonl").read_text(encoding="utf-8") for name in ("whole", "again")]
    assert curves[0] == curves[1]
    last = json.loads(curves[0].splitlines()[3])
    assert set(WATCHED) <= last.keys() | last.get("values", {}).keys()


def test_prompts_teach_no_model_of_their_own(capsys, tmp_path):
    (tmp_path / "prompts.txt").write_text("a\nb\n", encoding="utf-8")
    assert "only images or points can be learned from" in refusal(capsys, *EDM, "--data", tmp_path / "prompts.txt")


# ------------------------------------------------------------------------------------------------------------- folders


@pytest.fixture(scope="module")
def folder(teacher, tmp_path_factory):
    place = tmp_path_factory.mktemp("saved") / "teacher"
    teacher.save(place)
    return place


@pytest.mark.parametrize(
    "change",
    [
        {"steps": -1},
        {"steps": "a"},
        {"solver": "foo"},
        {"shape": []},
        {"class_shares": []},
        {"class_shares": [9.0] * 8},
        {"class_shares": ["x"] * 8},
        {"grid": {}},
        {"sigma_data": 0},
        {"given": ["x"]},
        {"given": [-1.0]},
    ],
)
def test_a_folder_that_describes_no_sampler_is_refused(change, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "bad")
    path = tmp_path / "bad" / "artefact.json"
    facts = json.loads(path.read_text(encoding="utf-8")) | change
    facts.pop("facts_digest")
    path.write_text(json.dumps({**facts, "facts_digest": store.digest_of({}, facts)}), encoding="utf-8")
    with pytest.raises(InputError, match=r"bad/artefact\.json is damaged"):
        attar.open_artefact(tmp_path / "bad")


def test_settings_that_a_trained_teacher_does_not_need_are_told(folder, ring, engine):
    said = []
    runtime = Runtime(engine, 0, say=said.append)
    with pytest.raises(InputError, match=r"prediction is v, but .* is a sampler of attar, which needs none"):
        teacher_named(str(folder), ring, runtime, steps=None, levels=None, prediction="v")
    teacher_named(str(folder), ring, runtime, steps=5, levels=None)
    assert said == [f"note: {folder} is trained already, so the steps of a teacher's training play no part."]


def test_a_folder_that_is_not_there_is_no_network(folder, ring, runtime, monkeypatch):
    monkeypatch.chdir(folder.parent)
    with pytest.raises(InputError, match=r"^teachr is no folder of a sampler; did you mean 'teacher'\?$"):
        teacher_named("teachr", ring, runtime, steps=None, levels=None)
    with pytest.raises(InputError, match=r"^other is no folder of a sampler. Give one, or a network by words"):
        teacher_named("other", ring, runtime, steps=None, levels=None)


def test_a_folder_of_another_method_is_told_in_a_few_words(ring, teacher, engine, tmp_path, capsys):
    attar.train(ring, attar.EDM(**QUICK), out=tmp_path / "made", engine=engine)
    with pytest.raises(InputError, match=r"other settings \(method: edm in the folder, pairs requested\)\. Choose"):
        attar.distill(ring, attar.PairRegression(steps=2), teacher=teacher, out=tmp_path / "made", engine=engine)


def test_a_sampler_with_pictures_of_its_evaluation_is_no_data(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "made")
    (tmp_path / "made" / "evaluation").mkdir()
    for name in ("calls", "together"):
        Image.new("RGB", (8, 8)).save(tmp_path / "made" / "evaluation" / f"{name}.png")
    with pytest.raises(SystemExit):
        main(["data", str(tmp_path / "made")])
    assert "is an artefact, no data. To see it: attar report" in capsys.readouterr().err


def test_pictures_of_one_class_are_learned(tmp_path, engine, capsys):
    (tmp_path / "faces" / "all").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(30):
        pixels = draw.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "faces" / "all" / f"{number}.png")
    small = ["--network", "mlp:width=8,depth=1", "--sampling-levels", "2", "--watch", "2"]
    main([*EDM, *small, "--data", str(tmp_path / "faces"), "--out", str(tmp_path / "made"), *QUIET])
    main(["evaluate", str(tmp_path / "made"), "--data", str(tmp_path / "faces"), "--beside", "skip", *QUIET])
    assert attar.open_artefact(tmp_path / "made").classes == ("all",)
    assert "recall" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"trained_betas": []}, "two steps or more, and each β between 0 and 1"),
        ({"trained_betas": 5}, "the schedule"),
        ({"trained_betas": ["a"]}, "the scheduler of here is damaged"),
        ({"trained_betas": [2.0, 3.0]}, "each β between 0 and 1"),
        ({"beta_end": 5}, "each β between 0 and 1"),
        ({"beta_start": "x"}, "the scheduler of here is damaged"),
        ({"beta_schedule": ["linear"]}, "attar knows linear"),
        ({"num_train_timesteps": 0}, "has 0 steps (num_train_timesteps)"),
        ({"num_train_timesteps": "abc"}, "the scheduler of here is damaged"),
    ],
)
def test_schedulers_that_cannot_be_are_refused(config, told):
    with pytest.raises(InputError) as refused:
        schedule_of({"beta_schedule": "linear", **config}, "here")
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "words", ["linear:steps=0", "linear:steps=-1", "linear:low=5,high=9", "flow:scale=nan", "flow:scale=0", "flow:x=3"]
)
def test_schedules_by_words_that_cannot_be_are_refused(words):
    with pytest.raises(InputError, match="the schedule"):
        schedule_named(words)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"sample_size": "x"}, "has the sample_size 'x'; it must be one whole number or two"),
        ({"class_embed_type": "identity"}, "takes classes as 'identity'; attar gives their numbers only"),
        ({"class_embed_type": "timestep"}, "its weights are not all there"),
    ],
)
def test_networks_of_diffusers_that_cannot_teach_are_refused(config, told, tmp_path, runtime):
    diffusers = pytest.importorskip("diffusers")
    sides = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (8,)}
    unet = diffusers.UNet2DModel(8, 1, 1, norm_num_groups=4, layers_per_block=1, num_class_embeds=11, **sides)
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(tmp_path / "made")
    path = tmp_path / "made" / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | config), encoding="utf-8")
    digits = attar.samplers.Reading().load("digits")
    with pytest.raises(InputError) as refused:
        teacher_named(str(tmp_path / "made"), digits, runtime, steps=None, levels=None)
    assert told in str(refused.value)


def test_a_teacher_that_must_be_trained_first_is_announced_once(ring, engine):
    said = []
    for _ in range(2):
        teacher_named("mlp:width=5,depth=1", ring, Runtime(engine, 0, say=said.append), steps=2, levels=None)
    assert said == [
        "the teacher, mlp:width=5,depth=1, is trained on ring by edm first, for 2 steps; it is kept in the cache. To "
        "use one of your own, give --teacher FOLDER."
    ]
