"""A kind and its method of another package work in every verb, without a line changed in attar."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import attar
from attar.cli import main
from attar.core import kinds, registry
from attar.core.errors import InputError
from attar.core.machine import Engine
from promises import dying, everything_in, hub

HERE = Path(__file__).parent / "wordlists"
POINTS = "[attar.kinds]\nwords = wordlists.kind:KIND\n\n[attar.methods]\ncommonest = wordlists.words:Commonest\n"
ENGINE = Engine(device="cpu", checkpoint_seconds=0, quiet=True)


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory):
    """The package on a path of its own, with the entry points that pip would have written."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(HERE, site / "wordlists", ignore=shutil.ignore_patterns("__pycache__"))
    facts = site / "wordlists-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: wordlists\nVersion: 1.0\n", encoding="utf-8")
    (facts / "entry_points.txt").write_text(POINTS, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        forget()
        yield
    for name in [name for name in sys.modules if name.split(".")[0] == "wordlists"]:
        del sys.modules[name]
    forget()


def forget():
    """What was looked up of other packages."""
    for cached in (kinds._further, registry._further):
        cached.cache_clear()


@pytest.fixture
def method():
    from wordlists.words import Commonest

    return Commonest(count=2)


@pytest.fixture
def made(method, tmp_path):
    attar.condense("proverb", method, out=tmp_path / "made", engine=ENGINE)
    return tmp_path / "made"


def printed(capsys, *words):
    main([str(word) for word in words])
    return capsys.readouterr().out


def test_it_is_listed(capsys):
    text = printed(capsys, "methods")
    assert "Lists of words" in text
    assert "the words that occur most often" in text
    assert printed(capsys, "methods", "words").count("\n") < 6
    assert "commonest" in printed(capsys, "condense")


def test_help_tells_of_its_settings(capsys):
    text = printed(capsys, "condense", "commonest", "--help")
    assert "Words that are kept." in text
    assert "The data: proverb, or a .words file with a word a line." in " ".join(text.split())
    everything = printed(capsys, "condense", "commonest", "--help-all")
    assert "Whether upper and lower case are one." in everything
    assert "Letters of the longest word that counts." in printed(capsys, "evaluate", "--help-all")


def test_its_data_are_described(capsys, tmp_path):
    assert printed(capsys, "data", "proverb") == "proverb: 10 words to count and 3 to test on\n"
    (tmp_path / "some.words").write_text("A a b B c", encoding="utf-8")
    assert "4 words to count" in printed(capsys, "data", tmp_path / "some.words", "--lower")


def test_it_condenses_from_the_command_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = printed(capsys, "condense", "commonest", "--count", "1", "--quiet")
    assert text.splitlines()[0] == "runs/commonest-proverb-1-seed0: the"
    assert (
        json.loads((tmp_path / "runs/commonest-proverb-1-seed0/artefact.json").read_text(encoding="utf-8"))["kind"]
        == "words"
    )


def test_killed_and_resumed_it_ends_in_the_same_bytes(method, made, tmp_path):
    with dying(method, 2):
        attar.condense("proverb", method, out=tmp_path / "killed", engine=ENGINE)
    assert not (tmp_path / "killed" / "artefact.json").exists()
    attar.condense("proverb", method, out=tmp_path / "killed", engine=ENGINE)
    for name in ("words.txt", "artefact.json", "run/metrics.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (made / name).read_bytes()


def test_it_opens_and_is_scored_beside_its_rival(made, capsys):
    opened = attar.open_artefact(made)
    assert opened.words == ("the", "early")
    found = attar.evaluate(opened)
    assert found.networks[0].score.value == pytest.approx(100 / 3)
    assert found.networks[0].beside[0].label == "the first words"
    assert "beside it, the first words" in printed(capsys, "evaluate", made, "--longest", "3")


def test_the_report_shows_it(made, capsys):
    page = Path(printed(capsys, "report", made.parent).strip()).read_text(encoding="utf-8")
    assert "the, early" in page
    assert "ists of words" in page


def test_only_its_files_are_pushed(made, capsys):
    with hub() as found:
        printed(capsys, "push", made, "ada/words")
    assert found.files == {"words.txt", "artefact.json", "README.md"}


def test_it_is_made_again_from_its_folder(made, capsys, tmp_path):
    printed(capsys, "condense", "--settings", made, "--out", tmp_path / "again", "--quiet")
    one, other = (everything_in(folder) for folder in (made, tmp_path / "again"))
    assert one["words.txt"] == other["words.txt"]
    assert json.loads(other["artefact.json"])["origin"]["settings"] == {"count": 2, "pieces": 3}


def test_another_verb_is_refused_with_the_right_one(method):
    with pytest.raises(InputError) as refusal:
        attar.distill("proverb", method)
    assert str(refusal.value) == "commonest is used with `attar condense`, not `attar distill`."


def test_a_package_that_does_not_load_is_left_out(tmp_path, monkeypatch):
    facts = tmp_path / "broken-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n", encoding="utf-8")
    lines = ["[attar.kinds]", "gone = broken.kind:KIND", "images = wordlists.kind:KIND"]
    (facts / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    with pytest.warns(UserWarning, match=r"the kind gone \(broken.kind:KIND\) could not be read: No module named"):
        assert set(kinds.kinds()) == {*kinds.built_in(), "words"}
    assert kinds.kinds()["images"].holds == "labelled images"
    monkeypatch.undo()
    forget()


def test_without_the_package_its_artefact_is_named(made, monkeypatch):
    monkeypatch.setattr(kinds, "_further", dict)
    with pytest.raises(
        InputError, match="holds an artefact of kind 'words', which this version of attar does not know"
    ):
        attar.open_artefact(made)
