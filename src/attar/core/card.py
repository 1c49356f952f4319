"""What the cards of artefacts share: headers that the hub reads, tables, the command that makes it again, scores."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from attar.core import store
from attar.core.errors import InputError
from attar.core.settings import flat

SCORES = "scores.json"
EXPORT = "data/train-00000-of-00001.parquet"
"""Where the parquet file of a condensed set lies."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The hub's words for how many rows there are."""


def dataset_header(title: str, task: str, rows: int) -> str:
    """The first lines of a data set's card, which the hub reads.

    Args:
        title: What it is called there.
        task: The hub's word for what it is for.
        rows: How many samples there are.
    """
    return f"""---
pretty_name: {title}
configs:
- config_name: default
  data_files:
  - split: train
    path: {EXPORT}
task_categories:
- {task}
size_categories:
- {next((name for most, name in SIZES if rows < most), "n>1M")}
tags:
- dataset-distillation
- attar
---"""


def model_header(tag: str, *, library: str = "attar", pipeline: str | None = None) -> str:
    """The first lines of a model's card, which the hub reads.

    Args:
        tag: What it is found by, besides `attar`.
        library: What opens it.
        pipeline: The hub's word for what it is for, if there is one.
    """
    task = f"pipeline_tag: {pipeline}\n" if pipeline else ""
    return f"---\nlibrary_name: {library}\n{task}tags:\n- {tag}\n- attar\n---"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [_row(columns), "|" + "---|" * len(columns), *map(_row, rows)]
    return "\n".join(lines)


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def score_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with an empty line before and after it; nothing where there are no scores."""
    rows = list(rows)
    return f"\n{table(columns, rows)}\n" if rows else ""


def settings_table(settings: Mapping[str, Any], **more: Any) -> str:
    """A row a setting, those of nested settings in their place; and a row for whatever else is named."""
    return table(("setting", "value"), [*flat(dict(settings)), *more.items()])


def machine_line(machine: Mapping[str, Any]) -> str:
    """What it was made with, as `Runtime.describe` tells it."""
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def made(origin: Any) -> str:
    """How a student was made: its settings, the machine, and the data by its fingerprint."""
    return f"""{settings_table(origin.settings, seed=origin.seed)}

Made with: {machine_line(origin.machine)}. Data fingerprint: `{origin.fingerprint}`."""


def made_again(how: str, origin: Any) -> str:
    """How a condensed set was made: the command, and all settings."""
    return f"""## How it was made

```
{how}
```

{settings_table(origin.settings, seed=origin.seed)}"""


def command(verb: str, origin: Any) -> str:
    """The command that makes it again; nested settings are flags like any other.

    Args:
        verb: What `attar` is asked to do.
        origin: An `attar.core.artefact.Origin`.
    """
    words = ["attar", verb, origin.method, "--data", origin.source]
    for name, value in flat(origin.settings):
        words += _flag(name, value)
    return shlex.join([*words, "--seed", str(origin.seed)])


def _flag(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, *map(str, value)] if isinstance(value, (list, tuple)) else [flag, str(value)]


def remembered_scores(folder: Path) -> list[dict[str, Any]]:
    """The scores beside an artefact; none if there are none, or none that can be read."""
    try:
        scores = store.read_json(folder / SCORES)
    except InputError:
        return []
    return [row for row in scores if isinstance(row, dict) and "score" in row] if isinstance(scores, list) else []


def remember_scores(folder: Path, scores: list[dict[str, Any]]) -> None:
    """Keep scores beside an artefact, in place of older ones of the same networks and protocols."""
    replaced = {(row["network"], row["protocol"]) for row in scores}
    kept = [row for row in remembered_scores(folder) if (row["network"], row["protocol"]) not in replaced]
    store.write_json(folder / SCORES, [*kept, *scores])


def cell(score: dict[str, Any] | None) -> str:
    """A score with its spread; a dash where there is none."""
    return f"{score['value']:.1f} ± {score['spread']:.1f}" if score else "–"


def per_class(labels: Int[Tensor, " sample"], classes: int) -> str:
    """How many samples a class has, in figures."""
    counts = torch.bincount(labels, minlength=classes)
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low} to {high}"
