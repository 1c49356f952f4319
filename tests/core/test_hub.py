"""To the hub and back, with a hub that lies in a folder: a data set and a model may bear the same name."""

import contextlib
import fnmatch
import importlib
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import DatasetCard, ModelCard
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from torch import nn

import attar
from attar import verbs
from attar.cli import main
from attar.convolution.artefact import ConvolutionPlan, LayerChoice, WholeNetwork
from attar.convolution.timing import Median
from attar.core import hub as ours
from attar.core.errors import InputError
from attar.graphs.coresets import GraphRandom
from attar.language.phrases import drawn
from attar.mixtures import Runnalls


class GoneError(RepositoryNotFoundError):
    """What the hub answers of a name that it does not know."""

    def __init__(self):
        Exception.__init__(self, "404")


class RefusedError(HfHubHTTPError):
    """What the hub answers when it is not well."""

    def __init__(self):
        Exception.__init__(self, "500\nmore")


class Hub:
    """Remembers what was asked of it, keeps files in a folder, and gives out those alone that are asked for."""

    def __init__(self, folder):
        self.folder, self.asked, self.failing, self.absent = folder, [], None, LocalEntryNotFoundError("not cached")

    def __call__(self, token=None):
        self.asked.append(("token", token))
        return self

    def place(self, name, repo_type):
        return self.folder / "hub" / repo_type / name

    def create_repo(self, name, **settings):
        if self.failing:
            raise self.failing
        self.asked.append(("create", name, settings))
        return f"https://hub.example/{settings['repo_type']}s/{name}"

    def upload_folder(self, *, repo_id, repo_type, folder_path, allow_patterns, **settings):
        copy(Path(folder_path), self.place(repo_id, repo_type), allow_patterns)
        self.asked.append(("upload", settings))

    def download(self, name, *, repo_type, revision, allow_patterns):
        if self.failing:
            raise self.failing
        if not self.place(name, repo_type).exists():
            raise self.absent
        self.asked.append(("download", repo_type, revision))
        copy(self.place(name, repo_type), self.folder / "cache" / repo_type / name, allow_patterns)
        return str(self.folder / "cache" / repo_type / name)


def copy(source, target, patterns):
    for inner in files_in(source):
        if any(fnmatch.fnmatch(inner, pattern) for pattern in patterns):
            (target / inner).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / inner, target / inner)


def files_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with contextlib.suppress(ImportError):  # which takes the real names with it when it is first imported
        importlib.import_module("transformers.utils.hub")
    fake = Hub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", fake)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.download)
    return fake


@pytest.fixture
def small(digits, engine, tmp_path):
    return attar.condense(digits, attar.Random(ipc=2), out=tmp_path / "set", engine=engine)


def condensed_images(out, engine):
    return attar.condense("digits", attar.Random(ipc=1), out=out, engine=engine)


def condensed_graphs(out, engine):
    return attar.condense("motifs", GraphRandom(gpc=1), out=out, engine=engine)


def student(out, engine):
    return attar.distill("digits", attar.Alone(student="mlp:width=4", epochs=1), out=out, engine=engine)


def language_model(out, engine):
    pytest.importorskip("transformers", reason="pip install '.[transformers]'")
    from attar.language.verbs import train

    parts = {part: list(drawn(count, part)) for part, count in {"train": 16, "validation": 4, "test": 4}.items()}
    sizes = "gpt2:layers=1,width=16,heads=2"
    return train(parts, sizes, out=out, engine=engine, answers=1, epochs=1, max_length=64)


def mixture(out, engine):
    return verbs.compress("standard-1d", Runnalls(n_components=5), out=out, engine=engine)


def plan(out, engine):
    network = nn.Sequential(nn.Conv2d(2, 3, 3))
    layer = LayerChoice.dense("0", network[0], (2, 8, 8), 1.0, "its input has no zeros")
    time = Median(2.0, 1.9, 2.1, 31)
    whole = WholeNetwork(10, 1, 0.0, 2.0, 10, "nchw", time, time, Median(1.0, 0.9, 1.1, 31))
    made = ConvolutionPlan((layer,), whole, {"runs": 31}, {"threads": 1}, network.state_dict())
    return made if out is None else made.save(out)


KINDS = [
    (condensed_images, "dataset", "images.safetensors"),
    (condensed_graphs, "dataset", "graphs.safetensors"),
    (student, "model", "student.safetensors"),
    (language_model, "model", "model.safetensors"),
    (mixture, "model", "mixture.safetensors"),
    (plan, "model", "network.safetensors"),
]


@pytest.mark.parametrize("make, repo_type, truth", KINDS)
def test_every_kind_goes_up_by_the_command_and_comes_back_by_its_name(
    make, repo_type, truth, engine, hub, tmp_path, capsys
):
    made = make(tmp_path / "made", engine)
    main(["push", str(tmp_path / "made"), "ada/small"])
    assert capsys.readouterr().out.strip() == f"https://hub.example/{repo_type}s/ada/small"
    assert hub.asked[-2:] == [
        ("create", "ada/small", {"repo_type": repo_type, "private": False, "exist_ok": True}),
        ("upload", {"commit_message": made.title}),
    ]
    there = hub.place("ada/small", repo_type)
    assert files_in(there) == {name for name in files_in(tmp_path / "made") if not name.startswith("run/")}
    for again in (attar.open_artefact("ada/small"), type(made).from_hub("ada/small", revision="v1")):
        assert type(again) is type(made)
        assert again.title == made.title
    assert hub.asked[-1] == ("download", repo_type, "v1")
    whole = (tmp_path / "made" / truth).read_bytes()
    assert (tmp_path / "cache" / repo_type / "ada/small" / truth).read_bytes() == whole


@pytest.mark.parametrize("make, repo_type, truth", KINDS)
def test_one_that_was_never_saved_goes_up_too_with_a_card_the_hub_reads(make, repo_type, truth, engine, hub):
    make(None, engine).to_hub("ada/small", token="t", message="at last")
    assert hub.asked[0] == ("token", "t")
    assert hub.asked[-1] == ("upload", {"commit_message": "at last"})
    there = hub.place("ada/small", repo_type)
    assert {"artefact.json", "README.md", truth} <= files_in(there)
    card = (DatasetCard if repo_type == "dataset" else ModelCard).load(there / "README.md")
    assert "attar" in card.data.tags
    assert repo_type == "dataset" or card.data.library_name in ("attar", "transformers")
    assert card.text.lstrip().startswith("# ")


def test_an_artefact_goes_up_without_its_run_and_comes_back(small, hub):
    address = small.to_hub("ada/digits-2", private=True, token="t")
    assert address == "https://hub.example/datasets/ada/digits-2"
    wanted = {"images.safetensors", "artefact.json", "README.md", "preview.png", "data/train-00000-of-00001.parquet"}
    assert files_in(hub.place("ada/digits-2", "dataset")) == wanted
    assert hub.asked[0] == ("token", "t")
    assert hub.asked[1] == ("create", "ada/digits-2", {"repo_type": "dataset", "private": True, "exist_ok": True})
    assert hub.asked[2][1]["commit_message"] == "digits, condensed by random"
    assert attar.open_artefact("ada/digits-2").fingerprint == small.fingerprint


def test_the_command_pushes_and_evaluate_takes_a_name(small, hub, capsys):
    main(["push", str(small.folder), "ada/two"])
    assert capsys.readouterr().out.strip() == "https://hub.example/datasets/ada/two"
    words = "--networks mlp:width=4 --repeats 1 --protocol quick --ceiling skip --beside skip --quiet"
    main(["evaluate", "ada/two", *words.split()])
    assert "from 20 images" in capsys.readouterr().out
    assert "scores.json" not in files_in(hub.folder / "cache")


@pytest.mark.parametrize(
    "make, words, said",
    [
        (student, "", "accuracy: "),
        (condensed_graphs, "--networks gcn:width=8 --repeats 1 --protocol quick --ceiling skip", "from 2 graphs"),
    ],
)
def test_evaluate_takes_names_of_other_kinds(make, words, said, engine, hub, capsys):
    make(None, engine).to_hub("ada/small")
    main(["evaluate", "ada/small", *words.split(), "--device", "cpu", "--compile", "off", "--quiet"])
    assert said in capsys.readouterr().out


def test_the_card_is_one_the_hub_reads(small):
    card = DatasetCard.load(small.folder / "README.md")
    assert card.data.pretty_name == "digits, condensed by random"
    assert card.data.size_categories == ["n<1K"]
    assert card.data.task_categories == ["image-classification"]
    assert card.data.to_dict()["configs"][0]["data_files"][0]["path"] == "data/train-00000-of-00001.parquet"


@pytest.mark.parametrize(
    "failure, sentence",
    [
        (LocalTokenNotFoundError("none"), "there is no token for the hub. Run `hf auth login`, or give --token."),
        (OfflineModeIsEnabled("offline"), "the hub cannot be reached, and ada/x is not in the cache."),
        (ConnectionError("gone"), "the hub cannot be reached, and ada/x is not in the cache."),
        (GoneError(), "ada/x is not on the hub, or you have no access to it. Check the name and the token."),
        (RefusedError(), "the hub refuses ada/x (500)."),
    ],
)
def test_what_goes_wrong_there_is_one_line_here(failure, sentence, small, hub):
    hub.failing = failure
    with pytest.raises(InputError) as refusal:
        small.to_hub("ada/x")
    assert str(refusal.value) == sentence
    with pytest.raises(InputError) as refusal:
        attar.open_artefact("ada/x")
    assert str(refusal.value) == f"there is no folder ada/x here, and {sentence}"
    assert attar.open_artefact(small.folder).fingerprint == small.fingerprint


def test_a_mistake_of_our_own_is_not_hidden(small, hub):
    hub.failing = KeyError("ours")
    with pytest.raises(KeyError):
        small.to_hub("ada/x")


def test_a_name_that_is_none_and_an_artefact_that_is_not_there(small, hub):
    with pytest.raises(InputError, match=r"'digits' is not a name on the hub\. Give user/name"):
        small.to_hub("digits")
    with pytest.raises(InputError, match=r"'digits' is not a name on the hub\. Give user/name"):
        attar.CondensedImages.from_hub("digits")
    with pytest.raises(InputError, match="the hub cannot be reached, and no/where"):
        attar.open_artefact("no/where")
    hub.absent = GoneError()
    with pytest.raises(InputError, match="no/where is not on the hub, or you have no access to it"):
        attar.open_artefact("no/where")
    with pytest.raises(InputError, match="there is no folder nowhere"):
        attar.open_artefact("nowhere")


def test_a_repository_without_an_artefact_is_named(hub):
    hub.place("ada/bert", "model").mkdir(parents=True)
    (hub.place("ada/bert", "model") / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"ada/bert is on the hub, but attar did not make it: it holds no artefact"):
        attar.open_artefact("ada/bert")


def test_that_one_type_is_absent_says_nothing_where_the_other_cannot_be_reached(monkeypatch):
    def download(name, *, repo_type, **settings):
        raise GoneError() if repo_type == "dataset" else RefusedError()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(InputError, match=r"the hub refuses ada/x \(500\)"):
        ours.find("ada/x", "artefact.json")


def test_a_data_set_and_a_model_may_bear_one_name(engine, hub, small):
    student(None, engine).to_hub("ada/digits")
    assert type(attar.open_artefact("ada/digits")) is attar.DistilledClassifier
    small.to_hub("ada/digits")
    assert type(attar.open_artefact("ada/digits")) is attar.CondensedImages
    assert type(attar.DistilledClassifier.from_hub("ada/digits")) is attar.DistilledClassifier


def test_another_kind_of_that_name_is_refused(engine, hub):
    mixture(None, engine).to_hub("ada/five")
    with pytest.raises(InputError, match="holds an artefact of kind 'mixtures', not 'classifiers'"):
        attar.DistilledClassifier.from_hub("ada/five")


def test_a_folder_that_is_none_is_not_looked_for_on_the_hub(hub, capsys):
    with pytest.raises(SystemExit):
        main(["push", "no/folder", "ada/x"])
    assert capsys.readouterr().err.strip() == "attar: no/folder is not a folder."
    assert hub.asked == []
