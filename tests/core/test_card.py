"""Headers, tables and scores of cards."""

import pytest
import torch
from huggingface_hub import DatasetCard, ModelCard

from attar.core.card import (
    EXPORT,
    dataset_header,
    escaped,
    machine_line,
    model_header,
    per_class,
    score_table,
    settings_table,
    table,
)
from attar.core.cell import Beside, Cell, Measure
from attar.core.score import Score


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


@pytest.mark.parametrize("title", ["a: b", "- {x}", "# no comment", "'quoted\"", "two | words", "*", "null"])
def test_any_title_is_a_title(title):
    assert DatasetCard(dataset_header(title, "graph-ml", 9)).data.pretty_name == title


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


def test_nothing_in_a_cell_ends_it():
    assert escaped("a|b\nc <script>") == "a\\|b c &lt;script>"
    assert escaped("a\\|b") == "a\\\\\\|b"
    assert table(("x|y",), [("a|b",)]) == "| x\\|y |\n|---|\n| a\\|b |"


def test_below_a_score_stands_what_it_is_read_with():
    """B4: 97.5 is read with random images of as many bytes, which have 99.7."""
    cell = Cell.of(
        [[97.0, 98.0]],
        column="convnet",
        protocol="field",
        full=Score(99.9),
        whole="all 1,297",
        chance=10.0,
        further={"at the last look": Measure.of([[50.0]])},
        beside=(Beside("random, as many bytes", Score(99.7, spread=0.1, n=2), 40, 3000),),
    )
    lines = score_table([cell], 2888).strip().splitlines()[2:]
    assert lines == [
        "| **convnet** | field | 97.5 ± 0.7 % | 2 | 2,888 | 97.6 %, above chance 97.3 % |",
        "| beside it, at the last look |  | 50.0 % | 1 |  |  |",
        "| beside it, all 1,297 |  | 99.9 % | 1 |  |  |",
        "| beside it, always guessing |  | 10.0 % | 1 |  |  |",
        "| beside it, random, as many bytes |  | 99.7 ± 0.1 % | 2 | 3,000 |  |",
    ]
    assert score_table([]) == ""


def test_samples_of_a_class_in_figures():
    assert per_class(torch.tensor([0, 1, 0, 1]), 2) == "2"
    assert per_class(torch.tensor([0, 1, 1]), 2) == "1 to 2"
    assert per_class(torch.tensor([0]), 2) == "0 to 1"
