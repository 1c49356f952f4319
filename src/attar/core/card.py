"""Parts of an artefact's card: headers for the hub, tables, commands that make the artefact again, and scores."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from attar.core import front
from attar.core.cell import Cell
from attar.core.provenance import ARTEFACT, Call
from attar.core.score import Score
from attar.core.scores import SCORES as SCORES
from attar.core.settings import flat

EXPORT = "data/train-00000-of-00001.parquet"
"""Where the parquet file of a condensed set lies."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The hub's words for how many rows there are."""


def dataset_header(
    title: str,
    task: str,
    rows: int,
    *,
    path: str = EXPORT,
    made: Any = None,
    scores: Sequence[Cell] = (),
    metric: str = "",
) -> str:
    """The first lines of a data set's card, which the hub reads.

    Args:
        title: What it is called there.
        task: The hub's word for what it is for.
        rows: How many samples there are.
        path: The parquet file.
        made: The artefact, whose origin tells the data that it was made from.
        scores: Its scores.
        metric: What is measured, where columns are networks.
    """
    from huggingface_hub import DatasetCardData

    size = next((name for most, name in SIZES if rows < most), "n>1M")
    files = [{"split": "train", "path": path}]
    data = DatasetCardData(
        pretty_name=front.clean(title),
        configs=[{"config_name": "default", "data_files": files}],
        task_categories=[task],
        size_categories=[size],
        tags=["dataset-distillation", "attar"],
        source_datasets=(front.data_on_hub(made.origin) if made is not None else None) or None,
    )
    return _header(data, [] if made is None else front.results(made, scores, task=task, metric=metric))


def model_header(
    tag: str,
    *,
    library: str = "attar",
    pipeline: str | None = None,
    made: Any = None,
    scores: Sequence[Cell] = (),
    split: str | None = "test",
) -> str:
    """The first lines of a model's card, which the hub reads.

    Args:
        tag: What it is found by, besides `attar`.
        library: What opens it.
        pipeline: The hub's word for what it is for, if there is one.
        made: The artefact, whose origin tells the data and models that it was made from.
        scores: Its scores.
        split: The part of the data on which it was measured.
    """
    from huggingface_hub import ModelCardData

    origin = getattr(made, "origin", None)
    models, relation = front.models_on_hub(origin)
    data = ModelCardData(
        library_name=library,
        pipeline_tag=pipeline,
        tags=[tag, "attar"],
        base_model=(models[0] if len(models) == 1 else models) or None,
        base_model_relation=relation,
        datasets=front.data_on_hub(origin) or None,
    )
    index = [] if origin is None else front.results(made, scores, task=pipeline or tag, split=split)
    return _header(data, index)


def _header(data: Any, index: list[dict[str, Any]]) -> str:
    """Front matter: where a licence goes, what the hub reads, and the scores as its model index."""
    facts = {**data.to_dict(), **({"model-index": index} if index else {})}
    return f"---\n{front.NO_TERMS}\n{front.as_yaml(facts)}\n---"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [_row(columns), "|" + "---|" * len(columns), *map(_row, rows)]
    return "\n".join(lines)


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def escaped(text: Any) -> str:
    """Text from elsewhere for a line of Markdown: on one line, with nothing that begins a tag, a link or code."""
    return _cell(_unlinked(text))


def _cell(text: Any) -> str:
    """Markdown for a cell: on one line, with nothing that ends a cell or begins a tag."""
    line = " ".join(str(text).split())
    return line.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _unlinked(text: Any) -> str:
    return str(text).replace("](", "] (").replace("`", "'")


def fenced(text: str, written_in: str = "") -> str:
    """Text as a block of code, which nothing in it can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{written_in}\n{text}\n{fence}"


def score_table(cells: Sequence[Cell], size: int | None = None) -> str:
    """Scores, each with what it is read with below it; nothing where there are none.

    Args:
        cells: The scores.
        size: Bytes of the artefact, where they are counted.
    """
    rows: list[tuple[str, ...]] = []
    for cell in cells:
        above = cell.kept_above_chance
        kept = "" if cell.kept is None else f"{cell.kept:.1f} %"
        kept += "" if above is None else f", above chance {above:.1f} %"
        how = _unlinked(", ".join(filter(None, (cell.protocol, cell.note))))
        rows.append((f"**{_unlinked(cell.column)}**", how, str(cell.score), *_sized(cell.score, size), kept))
        rows += [
            (f"beside it, {_unlinked(o.label)}", "", str(o.score), *_sized(o.score, o.bytes), "")
            for o in cell.read_with
        ]
    return f"\n{table(('', 'protocol', 'score', 'values', 'bytes', 'kept'), rows)}\n" if rows else ""


def _sized(score: Score, size: int | None) -> tuple[str, str]:
    return str(score.n), "" if size is None else f"{size:,}"


def settings_table(settings: Mapping[str, Any], **more: Any) -> str:
    """A row a setting, those of nested settings in their place; and a row for whatever else is named."""
    rows = [*flat(dict(settings)), *more.items()]
    return table(("setting", "value"), [tuple(map(_unlinked, row)) for row in rows])


def machine_line(machine: Mapping[str, Any]) -> str:
    """What it was made with, as `Runtime.describe` tells it."""
    return escaped(", ".join(f"{name} {value}" for name, value in machine.items()))


def made(origin: Any) -> str:
    """How a student was made: the command, its settings, the machine, and the data by its fingerprint."""
    return f"""{commands(origin)}{_taught(origin)}{settings_table(origin.settings, seed=origin.seed)}

Made with: {machine_line(origin.machine)}. Data fingerprint: `{escaped(origin.fingerprint)}`."""


def made_again(origin: Any) -> str:
    """How an artefact was made: the commands that make it again, and all settings."""
    return f"""## How it was made

{commands(origin)}{_taught(origin)}{settings_table(origin.settings, seed=origin.seed)}"""


def _taught(origin: Any) -> str:
    """The teachers of a student, where they were named."""
    names = [escaped(name) for name in front.teachers_of(origin)]
    return f"Teacher{'s' * (len(names) > 1)}: {', '.join(names)}.\n\n" if names else ""


def commands(origin: Any) -> str:
    """The command that was given, and the one that takes every setting from beside the card; nothing of older ones."""
    if origin.call is None:
        return ""
    call = Call(**origin.call)
    command = call.command(origin.method, origin.seed)
    released = origin.method.partition("import:")[2]
    if released:
        told = f"\n\n{fenced(command)}" if command else ""
        return f"Imported from a released file ({escaped(released)}).{told}\n\n"
    if not command:
        return ""
    return f"""{fenced(command)}

This command takes every setting from the artefact, so it does not depend on later defaults:

{fenced(call.again(ARTEFACT))}

"""


def per_class(labels: Int[Tensor, " sample"], classes: int) -> str:
    """How many samples a class has, in figures."""
    counts = torch.bincount(labels, minlength=classes)
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low} to {high}"
