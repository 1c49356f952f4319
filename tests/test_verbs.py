"""Verbs know no kind: they take whatever carries one, and refuse with the right verb."""

import inspect
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import attar
from attar.convolution import CompressConvolution
from attar.core.errors import InputError
from attar.graphs import GraphRandom
from attar.images.artefact import CondensedImages, Origin
from attar.mixtures import Runnalls

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Brightest:
    """The brightest images of each class: a method with no class of attar's beneath it."""

    ipc: int = 1

    name = "brightest"
    kind = "images"
    total_steps = 0

    def resolve(self, source, runtime):
        return self

    def build(self, source, runtime):
        return source

    def step(self, state, runtime):
        raise NotImplementedError

    def result(self, state, runtime):
        light = state.train.pixels.tensor.float().mean(dim=(1, 2, 3))
        rows = torch.cat([rows[light[rows].argsort(descending=True)[: self.ipc]] for rows in state.rows_of])
        images, labels = state.train.pixels[rows], state.train.labels[rows]
        origin = Origin.of(state, self, runtime)
        return CondensedImages(images, labels, state.classes, state.transform, state.flips, origin)


def test_a_method_needs_no_class_of_attars(digits, engine, tmp_path):
    made = attar.condense(digits, Brightest(ipc=2), out=tmp_path, engine=engine)
    assert (len(made.labels), made.origin.settings) == (20, {"ipc": 2})
    again = attar.condense(digits, Brightest(ipc=2), out=tmp_path, engine=engine)
    assert again.fingerprint == made.fingerprint
    with pytest.raises(InputError, match=r"holds a run with other settings \(ipc: 2 in the folder, 1 requested\)"):
        attar.condense(digits, Brightest(ipc=1), out=tmp_path, engine=engine)


@pytest.mark.parametrize(
    "verb, method, sentence",
    [
        (attar.condense, attar.KD(), "kd is used with `attar distill`, not `attar condense`."),
        (attar.distill, GraphRandom(), "graph-random is used with `attar condense`, not `attar distill`."),
        (attar.compress, attar.DM(), "dm is used with `attar condense`, not `attar compress`."),
        (attar.distill, Runnalls(), "runnalls is used with `attar compress`, not `attar distill`."),
        (attar.condense, CompressConvolution(), "conv is used with `attar compress`, not `attar condense`."),
        (attar.condense, attar.StoreLabels(), "labels is used with `attar label`, not `attar condense`."),
    ],
)
def test_a_method_of_another_verb_is_refused_with_the_right_one(verb, method, sentence):
    with pytest.raises(InputError) as refusal:
        verb("digits", method)
    assert str(refusal.value) == sentence


def test_what_says_no_kind_is_refused():
    with pytest.raises(InputError, match=r"object does not name its kind\. Set one, such as kind = 'images'"):
        attar.condense("digits", object())


def test_one_verb_distills_every_kind_of_model(engine):
    language = pytest.importorskip("attar.language", reason="transformers is not installed")
    rows = [f"the fox number {number} runs home" for number in range(12)]
    method = language.DistillLanguage.of(divergence="none", student="gpt2:layers=1,width=16", epochs=1, max_length=32)
    made = attar.distill(rows, method, answers=0, engine=engine)
    assert type(made) is language.DistilledLanguageModel
    assert set(made.scores) == {"student"}
    with pytest.raises(InputError, match=r"unknown argument of attar\.distill 'tokeniser'; did you mean 'tokenizer'"):
        attar.distill(rows, method, tokeniser="x", engine=engine)


def test_artefacts_of_several_kinds_are_not_evaluated_together(digits, engine):
    small = attar.condense(digits, attar.Random(ipc=1), engine=engine)
    mixture = attar.compress("standard-1d", Runnalls(n_components=5), engine=engine)
    with pytest.raises(InputError, match="these artefacts are of several kinds: images, mixtures"):
        attar.evaluate([small, mixture])


def test_type_checkers_know_what_a_method_makes():
    pytest.importorskip("mypy", reason="mypy is not installed: pip install '.[dev]'")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        str(HERE.parent / "pyproject.toml"),
        str(HERE / "typed.py"),
    ]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_mistyped_folder_is_offered_its_neighbour(tmp_path):
    (tmp_path / "random-1-0").mkdir()
    with pytest.raises(InputError, match=r"random-1-1 does not exist; did you mean '.*random-1-0'\?$"):
        attar.open_artefact(tmp_path / "random-1-1")


def test_a_student_by_the_name_of_the_inner_setting_is_refused_in_one_line(digits):
    with pytest.raises(InputError, match=r"^a module of your own is given as student=MODULE, not as module=\.$"):
        attar.distill(digits, attar.KD(student="mlp:width=4"), module=object())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: attar.condense("digits", attar.DM(), ouput="x"),
            "argument of attar.condense 'ouput'; did you mean 'out'",
        ),
        (lambda: attar.distill("digits", attar.KD(), sead=1), "argument of attar.distill 'sead'; did you mean 'seed'"),
        (lambda: attar.distill("digits", attar.KD(), techer=1), "of attar.distill 'techer'; did you mean 'teacher'"),
        (lambda: attar.train("digits", attar.Experts(), oot="x"), "argument of attar.train 'oot'; did you mean 'out'"),
        (lambda: attar.label("phrases", techer="x"), "argument of attar.label 'techer'; did you mean 'teacher'"),
        (
            lambda: attar.calibrate("digits", attar.TemperatureScaling(), classifyer=1),
            "calibrate needs classifier, not classifyer",
        ),
        (lambda: attar.import_set("x", "digits", method=1), "unknown argument of attar.import_set 'method'"),
        (lambda: attar.evaluate("x", reapeats=3, data="digits"), "there is no folder x"),
        (lambda: attar.open_artefact(path="x"), "argument of attar.open_artefact 'path'"),
        (lambda: attar.condense("digits"), r"^attar\.condense needs method\. Give method\.$"),
        (lambda: attar.condense(), "attar.condense needs data and method"),
        (lambda: attar.condense("digits", attar.DM(), "x"), "attar.condense takes data, method without a name"),
        (lambda: attar.condense("digits", attar.DM(), data="x"), "attar.condense is given data twice"),
    ],
)
def test_arguments_that_a_verb_does_not_take_are_refused_in_one_line(call, sentence):
    with pytest.raises(InputError, match=sentence) as refusal:
        call()
    assert "\n" not in str(refusal.value)


def test_a_checked_verb_keeps_its_signature_and_its_words():
    assert [*inspect.signature(attar.condense).parameters][:3] == ["data", "method", "reading"]
    assert attar.condense.__doc__.startswith("Turn a labelled data set")
    assert attar.condense.__module__ == "attar.verbs"


def test_imports_take_a_seed_and_a_machine():
    for verb in (attar.import_set, attar.import_teacher):
        assert {"seed", "engine", "say", "out"} <= set(inspect.signature(verb).parameters)
