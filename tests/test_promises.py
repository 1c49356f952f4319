"""What every method of every kind must do; a method joins by its line in `small.py`."""

import json
import shutil

import pytest

import attar
import small
from attar.cli import main
from attar.core.errors import InputError
from attar.core.flags import flags_of, words_of
from attar.core.registry import METHODS
from promises import (
    IN_ONE_GO,
    SEED_FREE,
    arriving,
    everything_in,
    files_of,
    hub,
    idle,
    scenario_of,
)

DATA = {
    "images": "digits",
    "graphs": "motifs",
    "mixtures": "standard-1d",
    "convolution": "digits",
    "classifiers": "digits",
    "language": "phrases",
    "embeddings": "mosaics",
    "tables": "applicants",
    "samplers": "ring",
    "scenes": "spheres",
    "plasma": "",
}
"""What a command reads, by kind."""
TEACHERS = {"classifiers": "alone", "language": "language", "samplers": "edm"}
"""Whose student is a command's teacher, by kind."""


def data_of(method, kind):
    """What a command of the method reads."""
    if METHODS[method.name].usual_data == "":  # it must be named
        return small.folder_of_plasma()
    return "digits" if getattr(method, "needs", "") == "one" else DATA[kind]


@pytest.fixture(scope="module", params=small.SMALL)
def scenario(request, tmp_path_factory):
    """Of every method."""
    return scenario_of(request.param, tmp_path_factory)


@pytest.fixture(scope="module", params=[*small.SMALL, *small.VARIANTS])
def any_scenario(request, tmp_path_factory):
    """Of every method, and of further settings of some."""
    return scenario_of(request.param, tmp_path_factory)


@pytest.fixture
def method(scenario):
    return scenario.method


def test_every_method_has_its_line():
    assert set(small.SMALL) == METHODS.keys() - {"experts"}
    assert {small.method_name(entry) for entry in small.VARIANTS} <= set(METHODS)


def test_it_opens_as_it_was_saved(any_scenario, tmp_path):
    attar.open_artefact(any_scenario.whole).save(tmp_path)
    assert files_of(tmp_path) == files_of(any_scenario.whole)


def test_the_same_seed_gives_the_same_bytes(any_scenario):
    assert any_scenario.bytes_of(any_scenario.again) == any_scenario.bytes_of(any_scenario.whole)


def test_another_seed_gives_another_artefact(scenario):
    one, other = (
        scenario.tensors_in(folder) for folder in (scenario.whole, scenario.run("other", seed=1, engine=IN_ONE_GO))
    )
    assert (one == other) == (scenario.entry in SEED_FREE)


def test_killed_in_its_first_a_middle_and_its_last_step_and_resumed_it_ends_in_the_same_bytes(any_scenario):
    if not any_scenario.steps:
        pytest.skip("nothing to interrupt: it has no steps of its own")
    any_scenario.assert_alike(any_scenario.again, any_scenario.whole)


def test_a_finished_run_is_read_and_not_repeated(scenario, method):
    before = everything_in(scenario.whole)
    with idle(method):
        scenario.run("whole")
    assert everything_in(scenario.whole) == before


def test_another_run_in_its_folder_is_refused_and_nothing_is_lost(scenario, method):
    before = everything_in(scenario.whole)
    with (
        idle(method),
        pytest.raises(InputError, match=r"holds a run with other settings \(seed: 0 in the folder, 1 requested\)"),
    ):
        scenario.run("whole", seed=1)
    assert everything_in(scenario.whole) == before


def test_a_folder_with_files_of_others_is_refused_and_left_as_it_is(scenario, method, tmp_path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with idle(method), pytest.raises(InputError, match="is not empty and holds no run of attar"):
        scenario.run(tmp_path)
    assert everything_in(tmp_path) == {"notes.txt": b"mine"}


def test_settings_survive_json(any_scenario):
    for settings in any_scenario.told_and_filled_in:
        assert type(settings).from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_settings_survive_the_command_line(any_scenario, tmp_path, tmp_path_factory):
    """All of them that are flags; a protocol's name, which is none, is a word for people."""
    method, kind = any_scenario.method, any_scenario.kind
    flags = flags_of(type(method))
    words = [METHODS[method.name].verb, method.name, *words_of(flags, method)]
    data = data_of(method, kind)
    words += ["--data", data] if data else []
    if METHODS[method.name].verb == "calibrate":
        words += ["--classifier", small.classifier_folder()]
    elif kind in TEACHERS and METHODS[method.name].verb == "distill":
        words += ["--teacher", str(scenario_of(TEACHERS[kind], tmp_path_factory).whole)]
    with arriving(method) as found:
        main([*words, "--out", str(tmp_path / "out"), "--device", "cpu", "--quiet"])
    assert [words_of(flags, one) for one in found] == [words_of(flags, method)]


def test_its_files_alone_go_to_the_hub(scenario, tmp_path):
    shutil.copytree(scenario.whole, tmp_path / "made")
    (tmp_path / "made" / "notes.txt").write_text("mine", encoding="utf-8")
    if METHODS[scenario.method.name].verb == "calibrate":  # without its classifier it is of no use there
        with hub() as found, pytest.raises(InputError, match=r"is not on the hub\. Push that first"):
            attar.open_artefact(tmp_path / "made").to_hub("ada/small")
        assert not found.names
        return
    with hub() as found:
        attar.open_artefact(tmp_path / "made").to_hub("ada/small")
    assert found.names == ["ada/small"]
    assert found.files == files_of(scenario.whole).keys()


def test_it_is_one_line_in_python_and_a_picture_in_a_notebook(scenario):
    artefact = attar.open_artefact(scenario.whole)
    line = repr(artefact)
    assert line == f"<{type(artefact).__name__}: {artefact.title} in {scenario.whole}>"
    assert len(line) < 300 and line.isprintable()
    drawn = artefact._repr_png_()
    assert drawn == artefact.picture()
    page = artefact._repr_html_()
    assert page.startswith("<div>") and page.endswith("</div>") and "<pre>" in page
    assert ("data:image/png;base64," in page) == (drawn is not None)
