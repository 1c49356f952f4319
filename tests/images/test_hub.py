"""To the hub and back, with a hub that lies in a folder."""

import fnmatch
import shutil

import huggingface_hub
import pytest
from huggingface_hub import DatasetCard
from huggingface_hub.errors import LocalEntryNotFoundError, LocalTokenNotFoundError, OfflineModeIsEnabled

import attar
from attar.cli import main
from attar.core.errors import InputError


class Hub:
    """Remembers what was asked of it, and keeps files in a folder."""

    def __init__(self, folder):
        self.folder, self.asked, self.failing = folder, [], None

    def __call__(self, token=None):
        self.asked.append(("token", token))
        return self

    def create_repo(self, name, **settings):
        if self.failing:
            raise self.failing
        self.asked.append(("create", name, settings))
        return f"https://hub.example/datasets/{name}"

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, **settings):
        for path in folder_path.rglob("*"):
            inner = str(path.relative_to(folder_path))
            if path.is_file() and any(fnmatch.fnmatch(inner, pattern) for pattern in allow_patterns):
                (self.folder / repo_id / inner).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, self.folder / repo_id / inner)
        self.asked.append(("upload", settings))

    def download(self, name, **settings):
        if self.failing or not (self.folder / name).exists():
            raise self.failing or LocalEntryNotFoundError("not in the cache")
        return str(self.folder / name)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    fake = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", fake)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.download)
    return fake


@pytest.fixture
def small(digits, engine, tmp_path):
    return attar.condense(digits, attar.Random(ipc=2), out=tmp_path / "set", engine=engine)


def test_an_artefact_goes_up_without_its_run_and_comes_back(small, hub):
    assert small.to_hub("ada/digits-2", private=True, token="t") == "https://hub.example/datasets/ada/digits-2"
    files = {str(path.relative_to(hub.folder / "ada/digits-2")) for path in hub.folder.rglob("*") if path.is_file()}
    wanted = {"images.safetensors", "artefact.json", "README.md", "preview.png", "data/train-00000-of-00001.parquet"}
    assert files == wanted
    assert hub.asked[0] == ("token", "t")
    assert hub.asked[1] == ("create", "ada/digits-2", {"repo_type": "dataset", "private": True, "exist_ok": True})
    assert hub.asked[2][1]["commit_message"] == "digits, condensed by random"
    assert attar.open_artefact("ada/digits-2").fingerprint == small.fingerprint


def test_one_that_was_never_saved_goes_up_too(digits, engine, hub):
    attar.condense(digits, attar.Random(ipc=1), engine=engine).to_hub("ada/digits-1")
    assert len(attar.open_artefact("ada/digits-1").labels) == 10


def test_the_command_pushes_and_evaluate_takes_a_name(small, hub, capsys):
    main(["push", str(small.folder), "ada/two"])
    assert capsys.readouterr().out.strip() == "https://hub.example/datasets/ada/two"
    words = "--networks mlp:width=4 --repeats 1 --protocol quick --ceiling skip --beside skip --quiet"
    main(["evaluate", "ada/two", *words.split()])
    assert "from 20 images" in capsys.readouterr().out
    assert not (hub.folder / "ada/two" / "scores.json").exists()


def test_the_card_is_one_the_hub_reads(small):
    card = DatasetCard.load(small.folder / "README.md")
    assert card.data.pretty_name == "digits, condensed by random"
    assert card.data.size_categories == ["n<1K"]
    assert card.data.task_categories == ["image-classification"]
    assert card.data.to_dict()["configs"][0]["data_files"][0]["path"] == "data/train-00000-of-00001.parquet"


@pytest.mark.parametrize(
    "failure, sentence",
    [
        (LocalTokenNotFoundError("none"), "there is no token for the hub; run `hf auth login`, or give one (--token)."),
        (OfflineModeIsEnabled("offline"), "the hub cannot be reached for ada/x, and it is not in the cache."),
        (ConnectionError("gone"), "the hub cannot be reached for ada/x, and it is not in the cache."),
    ],
)
def test_what_goes_wrong_there_is_one_line_here(failure, sentence, small, hub):
    hub.failing = failure
    with pytest.raises(InputError) as refusal:
        small.to_hub("ada/x")
    assert str(refusal.value) == sentence
    assert attar.open_artefact(small.folder).fingerprint == small.fingerprint


def test_a_name_that_is_none_and_a_set_that_is_not_there(small, hub):
    with pytest.raises(InputError, match="'digits' is no name on the hub; give user/name"):
        small.to_hub("digits")
    with pytest.raises(InputError, match="the hub cannot be reached for no/where"):
        attar.open_artefact("no/where")
    with pytest.raises(InputError, match="holds no condensed set"):
        attar.open_artefact("nowhere")
