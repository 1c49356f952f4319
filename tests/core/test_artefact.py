"""The description that every artefact carries, and where artefacts came from."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from attar.core import store
from attar.core.artefact import (
    Origin,
    Shareable,
    check_files,
    digests_of,
    kind_told,
    parquet,
    read_facts,
    read_tensors,
    write_facts,
)
from attar.core.errors import InputError


@dataclass(frozen=True)
class Wider(Origin):
    rows: int


def test_an_origin_is_made_of_source_method_and_machine(runtime):
    source = SimpleNamespace(name="digits", fingerprint="f")
    method = SimpleNamespace(name="dm", to_json=lambda: {"ipc": 1})
    origin = Wider.made(source, method, runtime, rows=5)
    assert origin == Wider("digits", "f", "dm", {"ipc": 1}, runtime.seed, runtime.describe(), 5)


def test_facts_come_back_as_they_were_written(tmp_path):
    write_facts(tmp_path, "mixture", 1, {"trace": [0.5], "pair": (1, 2)})
    assert read_facts(tmp_path, "mixture", 1, "mixture") == {
        "kind": "mixture",
        "schema": 1,
        "trace": [0.5],
        "pair": [1, 2],
    }


def refusal(folder):
    with pytest.raises(InputError) as found:
        read_facts(folder, "mixture", 1, "reduced mixture")
    return str(found.value)


def test_where_there_are_none_an_unfinished_run_is_named(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path} holds no reduced mixture (no artefact.json)."
    (tmp_path / "run").mkdir()
    store.write_json(tmp_path / "run" / "settings.json", {})
    assert refusal(tmp_path).endswith(
        "(no artefact.json); its run is unfinished. Run the same command again to resume it."
    )


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"kind": "graphs"}, "{folder} holds an artefact of kind 'graphs', not 'mixture'."),
        ({"schema": 2}, "{folder}/artefact.json has schema 2, but this attar reads up to 1. Upgrade attar."),
        (
            {"trace": []},
            "{folder}/artefact.json was altered after it was written: its contents do not match its digest.",
        ),
    ],
)
def test_others_and_altered_ones_are_refused(change, sentence, tmp_path):
    write_facts(tmp_path, "mixture", 1, {"trace": [0.5]})
    facts = json.loads((tmp_path / "artefact.json").read_text(encoding="utf-8"))
    store.write_json(tmp_path / "artefact.json", facts | change)
    assert refusal(tmp_path) == sentence.replace("{folder}", str(tmp_path))


@pytest.mark.parametrize(
    "facts",
    [
        {"kind": "mixture", "schema": 1},
        {"kind": "mixture", "schema": 1, "facts_digest": None},
        {"kind": "mixture", "schema": 1, "scores": {}, "origin": {"call": None}},
        {"kind": "mixture", "schema": 1, "scores": {}, "origin": []},
        [],
        None,
        "text",
        7,
    ],
)
def test_one_without_a_digest_is_refused(facts, tmp_path):
    store.write_json(tmp_path / "artefact.json", facts)
    assert refusal(tmp_path).endswith("artefact.json is damaged: it is not an artefact's description.")


def test_the_first_students_had_no_digest_and_are_told(tmp_path):
    facts = {"kind": "mixture", "schema": 1, "scores": {}, "origin": {"method": "kd"}}
    store.write_json(tmp_path / "artefact.json", facts)
    with pytest.warns(UserWarning, match=r"artefact\.json is of an early version of attar, which wrote no digest"):
        assert read_facts(tmp_path, "mixture", 1, "mixture") == facts


@pytest.mark.parametrize("schema", ["1", None, True, [], 1.5, math.nan])
def test_a_schema_that_is_no_number_is_refused(schema, tmp_path):
    store.write_json(tmp_path / "artefact.json", {"kind": "mixture", "schema": schema, "facts_digest": ""})
    assert refusal(tmp_path).endswith("is damaged: its schema is not a number.")


def test_numbers_that_are_not_finite_are_written_as_null(tmp_path):
    write_facts(tmp_path, "mixture", 1, {"kept": math.nan, "row": (1.0, -math.inf), "by": {"a": math.inf}})
    text = (tmp_path / "artefact.json").read_text(encoding="utf-8")
    assert "NaN" not in text and "Infinity" not in text
    found = read_facts(tmp_path, "mixture", 1, "mixture")
    assert (found["kept"], found["row"], found["by"]) == (None, [1.0, None], {"a": None})


class Odd(Shareable):
    """An artefact whose description may not say what is expected."""

    kind, repo_type, files, title = "odd", "model", (), "odd"

    def card(self, scores):
        return ""

    def save(self, folder):
        return self

    @classmethod
    def load(cls, folder, *, how=lambda facts: facts["weights"][0] + 1):
        how(store.read_json(Path(folder) / "artefact.json"))
        return cls()


@pytest.mark.parametrize(
    "facts", [{}, [], 3, None, {"weights": []}, {"weights": 1}, {"weights": ["a"]}, {"weights": {}}]
)
def test_what_a_kind_cannot_make_sense_of_is_told_on_one_line(facts, tmp_path):
    store.write_json(tmp_path / "artefact.json", facts)
    with pytest.raises(InputError, match="is damaged: it does not describe what lies beside it") as found:
        Odd.load(tmp_path)
    assert "\n" not in str(found.value)
    store.write_json(tmp_path / "artefact.json", {"weights": [1]})
    assert isinstance(Odd.load(tmp_path), Odd)


def test_the_error_of_a_full_memory_stays_what_it_is(tmp_path):
    store.write_json(tmp_path / "artefact.json", {})

    def fail(facts):
        raise RuntimeError("not enough memory: you tried to allocate 10 bytes")

    with pytest.raises(RuntimeError, match="not enough memory"):
        Odd.load(tmp_path, how=fail)


def test_every_file_that_others_read_is_checked(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    names = ["config.json", "model.safetensors"]
    digests = digests_of(tmp_path, names)
    check_files(tmp_path, names, digests)
    with pytest.warns(UserWarning, match=r"without digests of config\.json: damage to it is not noticed"):
        check_files(tmp_path, names, {"model.safetensors": digests["model.safetensors"]})
    for name in names:
        (tmp_path / name).write_text("other", encoding="utf-8")
        with pytest.raises(InputError, match=f"{name} was altered after it was written"):
            check_files(tmp_path, names, digests)
        (tmp_path / name).unlink()
        with pytest.raises(InputError, match=f"{name} is missing"):
            check_files(tmp_path, names, digests)
        (tmp_path / name).write_text(name, encoding="utf-8")
    for name in ("../secret", "/etc/passwd"):
        with pytest.raises(InputError, match="does not lie in the folder"):
            check_files(tmp_path, names, {**digests, name: ""})


def test_what_names_no_kind_is_of_images():
    assert (kind_told({"kind": "graphs"}), kind_told({}), kind_told([])) == ("graphs", "images", None)


def test_only_the_file_that_was_described_is_read(tmp_path):
    digest = store.write_tensors(tmp_path / "a.safetensors", {"x": torch.ones(2)}, {"schema": 1})
    tensors, plain = read_tensors(tmp_path / "a.safetensors", digest)
    assert (tensors["x"].tolist(), plain) == ([1.0, 1.0], {"schema": 1})
    store.write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)}, {"schema": 1})
    with pytest.raises(InputError, match=r"a\.safetensors is not the file that artefact\.json describes\."):
        read_tensors(tmp_path / "a.safetensors", digest)


def test_datasets_knows_the_types_of_an_export(tmp_path):
    import pyarrow
    from datasets import load_dataset

    data = parquet({"label": pyarrow.array([1, 0])}, {"label": {"names": ["a", "b"], "_type": "ClassLabel"}})
    (tmp_path / "train.parquet").write_bytes(data)
    table = load_dataset(
        "parquet", data_files=str(tmp_path / "*.parquet"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert table.features["label"].names == ["a", "b"]
    assert table["label"][:] == [1, 0]
