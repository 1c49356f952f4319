"""What a condensed set of graphs says of itself: a README in the form the hub reads, with its scores."""

import shlex
from pathlib import Path
from typing import Any

import torch

from attar.core import store
from attar.core.errors import InputError
from attar.core.settings import flat

SCORES = "scores.json"

Condensed = Any
"""A `CondensedGraphs`, which itself imports this file."""


def card(small: Condensed, export: str, scores: list[dict[str, Any]]) -> str:
    """The README of an artefact.

    Args:
        small: The condensed set.
        export: Where its parquet file lies.
        scores: What `remembered_scores` finds beside it.
    """
    origin = small.origin
    settings = "\n".join(f"| {name} | {value} |" for name, value in flat(origin.settings))
    machine = ", ".join(f"{name} {value}" for name, value in origin.machine.items())
    return f"""---
pretty_name: {origin.source}, condensed by {origin.method}
configs:
- config_name: default
  data_files:
  - split: train
    path: {export}
task_categories:
- graph-ml
size_categories:
- {"n<1K" if len(small) < 1000 else "1K<n<10K"}
tags:
- dataset-distillation
- attar
---
# {origin.source}, condensed by {origin.method}

{small} and {per_class(small)} stand for {origin.full_graphs:,}. Every node has {small.feat.shape[2]} features.

![preview](preview.png)
{_score_table(scores)}
The parquet file is for viewing. Train on `graphs.safetensors`, or on what it gives PyTorch Geometric:

```python
import attar

small = attar.open_artefact(".")
loader = small.to_pyg()
```

## How it was made

```
{command(small)}
```

| setting | value |
|---|---|
{settings}
| seed | {origin.seed} |

Split: {origin.split}. Scored by {origin.metric}. Data fingerprint: `{origin.fingerprint}`.

Made with: {machine}.

The graphs derive from {origin.source}; the terms of that data set hold for them too.
"""


def remembered_scores(folder: Path) -> list[dict[str, Any]]:
    """The scores beside an artefact; none if there are none, or none that can be read."""
    try:
        scores = store.read_json(folder / SCORES)
    except InputError:
        return []
    return [row for row in scores if isinstance(row, dict) and "score" in row] if isinstance(scores, list) else []


def per_class(small: Condensed) -> str:
    """How many graphs a class has, in words."""
    counts = torch.bincount(small.labels, minlength=len(small.classes))
    low, high = int(counts.min()), int(counts.max())
    return f"{low} a class" if low == high else f"{low} to {high} a class"


def command(small: Condensed) -> str:
    """The command that makes it again; nested settings are flags like any other."""
    origin = small.origin
    words = ["attar", "condense", origin.method, "--data", origin.source]
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


def _score_table(scores: list[dict[str, Any]]) -> str:
    if not scores:
        return ""
    lines = [
        "",
        "| network | protocol | chosen epoch | last epoch | networks | all the data, last epoch |",
        "|---|---|---|---|---|---|",
    ]
    for row in scores:
        cells = [_cell(row["score"]), _cell(row["last"]), str(row["score"]["n"]), _cell(row.get("full"))]
        lines.append(f"| {row['network']} | {row['protocol']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _cell(score: dict[str, Any] | None) -> str:
    return f"{score['value']:.1f} ± {score['spread']:.1f}" if score else "–"
