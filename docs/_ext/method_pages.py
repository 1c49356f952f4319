"""One page per method, made from the registry's data, its docstrings, and the recorded figures."""

import inspect
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attar.bench.cells import NAMES
from attar.bench.published import datasets, published
from attar.cli import usage
from attar.commands.verbs import VERBS
from attar.core.kinds import kind_named
from attar.core.presets import has_table, table_of
from attar.core.registry import METHODS, Entry
from attar.core.score import Score

DOCS = Path(__file__).parents[1]
RESULTS = DOCS.parent / "bench" / "results"
TABLES = ("digits", "cifar10")
SHOWN = {
    "images": "Digits, one row per class,",
    "graphs": "Generated graphs, one row per class,",
    "mixtures": "A mixture before and after,",
    "convolution": "The layers of a network",
    "classifiers": "How reliable a classifier of digits is, calibrated",
    "language": "A student",
    "tables": "Columns of the real and of the synthetic rows,",
    "embeddings": "An encoder",
    "plasma": "Temperature, density and losses of a plasma",
}
"""What a method's picture shows, by the kind of thing it makes smaller."""
LABELS = NAMES | {"k-means, pixels": "k-means", "k-means, embeddings": "k-means"}
"""Rows of the recorded tables whose label is not the method's name in lower case."""


def write_pages(app: Any) -> None:
    """Write `methods/NAME.md` for every method, and the commands' table."""
    write_folder(DOCS / "methods", {entry.name: page(entry) for entry in METHODS.values()})
    verbs = "\n".join(f"| `attar {verb} {words}` | {what} |" for verb, (words, what) in VERBS.items())
    _write(DOCS / "_verbs.md", f"| command | what it does |\n|---|---|\n{verbs}\n\n```text\n{usage()}```\n")


def page(entry: Entry) -> str:
    """The page of a method."""
    settings = entry.load()
    module = inspect.getmodule(settings)
    assert module is not None
    parts = [f"# {settings.__name__}", f"`attar {entry.verb} {entry.name}` · {entry.summary}", _preview(entry)]
    parts += [_prose(settings), "## When to use it", _prose(module), "## Settings", _settings(entry)]
    parts += [_presets(entry, settings)]
    parts += ["## Figures", _figures(entry)] if entry.kind == "images" else []
    parts += [_paper(entry)]
    parts += [f"Source: `src/{module.__name__.replace('.', '/')}.py`."]
    return "\n\n".join(part for part in parts if part) + "\n"


def _prose(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def _preview(entry: Entry) -> str:
    if not (DOCS / "previews" / f"{entry.name}.png").exists():
        return ""
    return f"![{SHOWN[entry.kind]} by {entry.name}.](../previews/{entry.name}.png)"


def _settings(entry: Entry) -> str:
    """All settings as they stand in the registry's data, those that one changes first at the top."""
    lines = ["| setting | flag | type | unless given | what it is |", "|---|---|---|---|---|"]
    for flag in entry.flags:
        default = "–" if flag.default == "nothing" else f"`{flag.default}`"
        cells = [f"`{flag.setting}`", f"`{flag.flag}`", flag.type, default, flag.sentence]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _presets(entry: Entry, settings: Any) -> str:
    if not hasattr(settings, "paper"):
        return ""
    size = kind_named(entry.kind).size
    count = f", {size}=..." if size in inspect.signature(settings.paper).parameters else ""
    command = f"`{settings.__name__}.paper(name{count})`, or `--paper NAME` on the command line"
    told = f"## Published settings\n\n{command}. {_prose(settings.paper).splitlines()[0]}"
    return f"{told}\n\n{_cells(settings)}" if has_table(settings) else told


def _cells(settings: Any) -> str:
    """The cells of a method's table: the sizes of every data set, where they are from, and what to know."""
    table = table_of(settings)
    rows: dict[tuple[str, str, str], list[str]] = {}
    for cell in table.cells:
        rows.setdefault((cell.data, cell.source, cell.note), []).append(cell.size)
    lines = [f"| cell | {table.size or ''} | source | note |", "|---|---|---|---|"]
    lines += [f"| {data} | {', '.join(sizes)} | {source} | {note} |" for (data, source, note), sizes in rows.items()]
    return "\n\n".join(filter(None, (table.note, "\n".join(lines))))


def _figures(entry: Entry) -> str:
    """Measured cells of this method with random selection, beside what papers print."""
    lines = ["| data | per class | random % | this % | published % | measured with |", "|---|---|---|---|---|---|"]
    for name in TABLES:
        file = RESULTS / f"{name}.json"
        facts = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"cells": []}
        for cell in facts["cells"]:
            if LABELS.get(cell["label"], cell["label"].lower()) == entry.name:
                lines.append(_row(cell, name, facts, entry))
    return "\n".join(lines) if len(lines) > 2 else "Not yet measured in a recorded table."


def _row(cell: dict[str, Any], name: str, facts: dict[str, Any], entry: Entry) -> str:
    ipc = cell["ipc"]
    known = published(name, ipc) if name in datasets() else {}
    random = next((c for c in facts["cells"] if (c["label"], c["ipc"]) == ("random", ipc)), None)
    sets, networks = len(cell["values"]), sum(map(len, cell["values"]))
    how = f"{facts['protocol']['name']} protocol, {networks} networks on {sets} sets"
    label = f" ({cell['label'].split(', ')[1]})" if ", " in cell["label"] else ""
    printed = known.get(entry.name, "")
    return f"| {name}{label} | {ipc} | {_score(random)} | {_score(cell)} | {printed} | {how} |"


def _score(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return ""
    return Score.of([value for values in cell["values"] for value in values]).number


def _paper(entry: Entry) -> str:
    if entry.paper is None:
        return ""
    return f"## Cite\n\n```bibtex\n{textwrap.dedent(entry.paper.bibtex(entry.name))}\n```"


def write_folder(folder: Path, pages: Mapping[str, str]) -> None:
    """Write pages by their names, and remove all others from their folder."""
    folder.mkdir(exist_ok=True)
    for stale in folder.glob("*.md"):
        if stale.stem not in pages:
            stale.unlink()
    for name, text in pages.items():
        _write(folder / f"{name}.md", text)


def _write(path: Path, text: str) -> None:
    """Write only what changed, so that Sphinx does not build anew what is the same."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's hook."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}
