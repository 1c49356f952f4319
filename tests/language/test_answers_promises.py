"""The promises of every method, kept by stored answers too, which no method has the name of."""

import json
import shutil
from functools import cached_property

import pytest

import attar
import attar.language as language
import small
import test_promises as battery
from attar.cli import main
from attar.core.flags import flags_of, words_of
from promises import EVERY_STEP, IN_ONE_GO, Scenario, arriving, files_of, hub

test_a_finished_run_is_read_and_not_repeated = battery.test_a_finished_run_is_read_and_not_repeated
test_a_folder_with_files_of_others_is_refused_and_left_as_it_is = (
    battery.test_a_folder_with_files_of_others_is_refused_and_left_as_it_is
)
test_another_run_in_its_folder_is_refused_and_nothing_is_lost = (
    battery.test_another_run_in_its_folder_is_refused_and_nothing_is_lost
)
test_another_seed_gives_another_artefact = battery.test_another_seed_gives_another_artefact
test_it_is_one_line_in_python_and_a_picture_in_a_notebook = (
    battery.test_it_is_one_line_in_python_and_a_picture_in_a_notebook
)
test_it_opens_as_it_was_saved = battery.test_it_opens_as_it_was_saved
test_killed_in_its_first_a_middle_and_its_last_step_and_resumed_it_ends_in_the_same_bytes = (
    battery.test_killed_in_its_first_a_middle_and_its_last_step_and_resumed_it_ends_in_the_same_bytes
)
test_settings_survive_json = battery.test_settings_survive_json
test_the_same_seed_gives_the_same_bytes = battery.test_the_same_seed_gives_the_same_bytes

SETTINGS = {
    "answers": {"top": 8, "max_length": 96, "batch": 9},
    "answers/int8 of all": {"top": 300, "max_length": 96, "batch": 40, "logits": "int8"},
}


class Stored(Scenario):
    """Answers of the small teacher to the small text, and its runs."""

    kind = "language"

    @cached_property
    def method(self):
        return language.StoreAnswers(**SETTINGS[self.entry])

    def run(self, name, method=None, **settings):
        folder = self.place / name
        language.label(
            small.data_of("language"),
            method or self.method,
            teacher=small.writer(),
            tokenizer=small.tokenizer(),
            answers=0,
            out=folder,
            **{"engine": EVERY_STEP, **settings},
        )
        return folder

    def filled_in(self, folder):
        settings = json.loads((folder / "run" / "settings.json").read_text(encoding="utf-8"))["settings"]
        return language.StoreAnswers.from_json(settings)


@pytest.fixture(scope="module", params=SETTINGS)
def any_scenario(request, tmp_path_factory):
    return Stored(request.param, tmp_path_factory.mktemp("answers"))


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    return Stored("answers", tmp_path_factory.mktemp("answers"))


@pytest.fixture
def method(scenario):
    return scenario.method


def test_settings_survive_the_command_line(scenario, tmp_path):
    small.writer().save_pretrained(tmp_path / "teacher")
    small.tokenizer().save_pretrained(tmp_path / "teacher")
    flags, given = flags_of(language.StoreAnswers), language.StoreAnswers(top=5, logits="int8", context=3, batch=2)
    words = ["label", *words_of(flags, given), "--data", "phrases", "--teacher", str(tmp_path / "teacher")]
    with arriving(given) as found:
        main([*words, "--out", str(tmp_path / "out"), "--device", "cpu", "--quiet"])
    assert found == [given]
    assert not (tmp_path / "out").exists()


def test_its_files_alone_go_to_the_hub(scenario, tmp_path):
    shutil.copytree(scenario.whole, tmp_path / "made")
    (tmp_path / "made" / "notes.txt").write_text("mine", encoding="utf-8")
    with hub() as found:
        attar.open_artefact(tmp_path / "made").to_hub("ada/small")
    assert found.names == ["ada/small"]
    assert found.files == files_of(scenario.whole).keys()


def test_a_copy_elsewhere_is_whole_and_trains_alike(scenario, tmp_path):
    """What is saved elsewhere does not need the folder that it was made in."""
    attar.open_artefact(scenario.whole).save(tmp_path / "copy")
    method = language.DistillLanguage.of(student="gpt2:layers=1,width=16,heads=2", epochs=1, max_length=96)
    made = [
        language.distill(small.data_of("language"), method, stored_answers=folder, answers=0, engine=IN_ONE_GO)
        for folder in (scenario.whole, tmp_path / "copy")
    ]
    one, other = (student.model.state_dict() for student in made)
    assert all(one[name].equal(other[name]) for name in one)
