"""The description that every artefact carries, and where artefacts came from."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from attar.core import store
from attar.core.artefact import Origin, kind_told, parquet, read_facts, read_tensors, write_facts
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


def refusal(folder, *, sealed=True):
    with pytest.raises(InputError) as found:
        read_facts(folder, "mixture", 1, "reduced mixture", sealed=sealed)
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
@pytest.mark.parametrize("sealed", [True, False])
def test_others_and_altered_ones_are_refused(change, sentence, sealed, tmp_path):
    write_facts(tmp_path, "mixture", 1, {"trace": [0.5]})
    facts = json.loads((tmp_path / "artefact.json").read_text())
    store.write_json(tmp_path / "artefact.json", facts | change)
    assert refusal(tmp_path, sealed=sealed) == sentence.replace("{folder}", str(tmp_path))


def test_one_without_a_digest_is_read_where_it_need_have_none(tmp_path):
    store.write_json(tmp_path / "artefact.json", {"kind": "mixture", "schema": 1})
    assert read_facts(tmp_path, "mixture", 1, "mixture", sealed=False) == {"kind": "mixture", "schema": 1}
    assert refusal(tmp_path).endswith("artefact.json is damaged: it is not an artefact's description.")
    store.write_json(tmp_path / "artefact.json", [])
    assert refusal(tmp_path, sealed=False).endswith("is damaged: it is not an artefact's description.")


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
