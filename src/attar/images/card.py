"""What an artefact says of itself: a README in the form the hub reads, with its scores where there are any."""

import shlex
from pathlib import Path
from typing import Any

import torch

from attar.core import store
from attar.core.errors import InputError
from attar.core.settings import flat

SCORES = "scores.json"
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The hub's words for how many rows there are."""

Condensed = Any
"""A `CondensedImages`, which itself imports this file."""


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
    share = 100 * small.bytes / origin.full_bytes if origin.full_bytes else 0.0
    whitened = ", then ZCA-whitened" if small.transform.whitening else ""
    return f"""---
pretty_name: {origin.source}, condensed by {origin.method}
configs:
- config_name: default
  data_files:
  - split: train
    path: {export}
task_categories:
- image-classification
size_categories:
- {next((name for most, name in SIZES if len(small.labels) < most), "n>1M")}
tags:
- dataset-distillation
- attar
---
# {origin.source}, condensed by {origin.method}

{len(small.labels)} images ({per_class(small)}) that stand for {origin.full_images:,}: {small.bytes:,} bytes, \
{share:.2g} % of the full set.
{_labels(small)}

![preview](preview.png)
{_score_table(scores)}
The parquet file holds the images in 8 bits, for viewing. Train on `images.safetensors` ({_space(small)}):

```python
import attar

small = attar.open_artefact(".")
print(attar.evaluate(small, "{origin.source}"))
```

## How it was made

```
{command(small)}
```

| setting | value |
|---|---|
{settings}
| seed | {origin.seed} |

Normalised with mean {small.transform.mean} and spread {small.transform.std} per channel \
({origin.statistics}){whitened}.
Split: {origin.split}. Data fingerprint: `{origin.fingerprint}`.

Made with: {machine}.

The images derive from {origin.source}; the terms of that data set hold for them too.
"""


def remembered_scores(folder: Path) -> list[dict[str, Any]]:
    """The scores beside an artefact; none if there are none, or none that can be read."""
    try:
        scores = store.read_json(folder / SCORES)
    except InputError:
        return []
    return [row for row in scores if isinstance(row, dict) and "score" in row] if isinstance(scores, list) else []


def per_class(small: Condensed) -> str:
    """How many images a class has, in words."""
    counts = torch.bincount(small.hard_labels, minlength=len(small.classes))
    low, high = int(counts.min()), int(counts.max())
    return f"{low} per class" if low == high else f"{low} to {high} per class"


def _labels(small: Condensed) -> str:
    text = "Labels: class numbers." if small.labels.ndim == 1 else "Labels: probabilities of every class."
    if small.teacher is not None:
        text += " " + small.teacher.note(len(small.labels))
    if small.soft is not None:
        text += " " + small.soft.note()
    return text if small.lr is None else f"{text} Learned step size: {small.lr:g}."


def _space(small: Condensed) -> str:
    return "8-bit pixels of real images" if small.images.dtype == torch.uint8 else "float32 network input, as learned"


def _score_table(scores: list[dict[str, Any]]) -> str:
    if not scores:
        return ""
    lines = [
        "",
        "| network | protocol | accuracy % | networks | kept % | all the data % |",
        "|---|---|---|---|---|---|",
    ]
    for row in scores:
        score, full = row["score"], row.get("full")
        kept = f"{row['kept']:.1f}" if row.get("kept") is not None else "–"
        whole = f"{full['value']:.1f}" if full else "–"
        accuracy = f"{score['value']:.1f} ± {score['spread']:.1f}"
        lines.append(f"| {row['network']} | {row['protocol']} | {accuracy} | {score['n']} | {kept} | {whole} |")
    return "\n".join([*lines, ""])


def command(small: Condensed) -> str:
    """The command that makes it again; nested settings are flags like any other."""
    origin = small.origin
    words = ["attar", "condense", origin.method, "--data", origin.source]
    if origin.method.startswith("import:"):
        return f"imported from a released file ({origin.method.removeprefix('import:')})"
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
