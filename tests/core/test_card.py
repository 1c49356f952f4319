"""Headers, tables, commands and scores of cards."""

import pytest
import torch
from huggingface_hub import DatasetCard, ModelCard

from attar.core import store
from attar.core.artefact import Origin
from attar.core.card import (
    EXPORT,
    cell,
    command,
    dataset_header,
    machine_line,
    model_header,
    per_class,
    remember_scores,
    remembered_scores,
    settings_table,
    table,
)

SCORE = {"value": 71.24, "spread": 2.0, "n": 3}


def row(network, protocol="field", value=1.0):
    return {"network": network, "protocol": protocol, "score": {**SCORE, "value": value}}


@pytest.mark.parametrize("rows, size", [(999, "n<1K"), (1_000, "1K<n<10K"), (2_000_000, "n>1M")])
def test_the_hub_reads_the_header_of_a_data_set(rows, size):
    data = DatasetCard(dataset_header("digits, condensed by dm", "graph-ml", rows)).data.to_dict()
    assert data == {
        "pretty_name": "digits, condensed by dm",
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": EXPORT}]}],
        "task_categories": ["graph-ml"],
        "size_categories": [size],
        "tags": ["dataset-distillation", "attar"],
    }


def test_the_hub_reads_the_header_of_a_model():
    text = model_header("knowledge-distillation", library="transformers", pipeline="text-generation")
    data = ModelCard(text).data.to_dict()
    tags = ["knowledge-distillation", "attar"]
    assert data == {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": tags}
    assert ModelCard(model_header("gaussian-mixture")).data.to_dict() == {
        "library_name": "attar",
        "tags": ["gaussian-mixture", "attar"],
    }


def test_tables_are_markdown_and_nested_settings_stand_in_their_place():
    assert table(("a", "b"), [(1, "x")]) == "| a | b |\n|---|---|\n| 1 | x |"
    settings = {"ipc": 2, "architecture": {"width": 4, "depth": 3}}
    rows = settings_table(settings, seed=7).splitlines()[2:]
    assert rows == ["| ipc | 2 |", "| width | 4 |", "| depth | 3 |", "| seed | 7 |"]
    assert machine_line({"torch": "2.13", "threads": 1}) == "torch 2.13, threads 1"


def test_a_command_has_a_flag_for_every_setting_that_is_not_left_open():
    settings = {"ipc": (1, 2), "zca": False, "siamese": True, "lr": None, "architecture": {"norm_kind": "two words"}}
    origin = Origin("digits", "f", "dm", settings, 3, {})
    assert command("condense", origin) == (
        "attar condense dm --data digits --ipc 1 2 --no-zca --siamese --norm-kind 'two words' --seed 3"
    )


def test_scores_replace_older_ones_of_the_same_network_and_protocol(tmp_path):
    assert remembered_scores(tmp_path) == []
    remember_scores(tmp_path, [row("convnet"), row("mlp")])
    remember_scores(tmp_path, [row("convnet", value=2.0), row("convnet", "quick")])
    assert remembered_scores(tmp_path) == [row("mlp"), row("convnet", value=2.0), row("convnet", "quick")]
    store.write_json(tmp_path / "scores.json", {"network": "mlp"})
    assert remembered_scores(tmp_path) == []
    store.write_json(tmp_path / "scores.json", [1, {"network": "mlp"}, row("mlp")])
    assert remembered_scores(tmp_path) == [row("mlp")]


def test_a_cell_shows_the_spread_or_a_dash():
    assert cell(SCORE) == "71.2 ± 2.0"
    assert cell(None) == "–"


def test_samples_of_a_class_in_figures():
    assert per_class(torch.tensor([0, 1, 0, 1]), 2) == "2"
    assert per_class(torch.tensor([0, 1, 1]), 2) == "1 to 2"
    assert per_class(torch.tensor([0]), 2) == "0 to 1"
