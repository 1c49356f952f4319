"""One page per method, made from its registry entry, its docstrings, its settings, and the recorded figures."""

import dataclasses
import inspect
import json
import re
import textwrap
from pathlib import Path
from typing import Any, get_type_hints

from attar.bench.published import datasets, published
from attar.bench.tables import NAMES
from attar.cli import VERBS, usage
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
    "classifiers": "A student",
    "language": "A student",
}
"""What a method's picture shows, by the kind of thing it makes smaller."""
LABELS = NAMES | {"k-means, pixels": "k-means", "k-means, embeddings": "k-means"}
"""Rows of the recorded tables whose label is not the method's name in lower case."""


def write_pages(app: Any) -> None:
    """Write `methods/NAME.md` for every method, their index, and the commands' page."""
    folder = DOCS / "methods"
    folder.mkdir(exist_ok=True)
    for stale in folder.glob("*.md"):
        if stale.stem not in (*METHODS, "index"):
            stale.unlink()
    for entry in METHODS.values():
        _write(folder / f"{entry.name}.md", page(entry))
    rows = "\n".join(f"| [{e.name}]({e.name}.md) | {e.summary} | {_cited(e)} |" for e in METHODS.values())
    table = f"| method | what it does | paper |\n|---|---|---|\n{rows}"
    tree = "```{toctree}\n:hidden:\n\n" + "\n".join(METHODS) + "\n```"
    _write(folder / "index.md", f"# Methods\n\n{table}\n\n{tree}\n")
    verbs = "\n".join(f"| `attar {verb} {words}` | {what} |" for verb, (words, what) in VERBS.items())
    _write(DOCS / "_verbs.md", f"| command | what it does |\n|---|---|\n{verbs}\n\n```text\n{usage()}```\n")


def page(entry: Entry) -> str:
    """The page of a method."""
    settings = entry.load()
    module = inspect.getmodule(settings)
    assert module is not None
    parts = [f"# {settings.__name__}", f"`attar {entry.verb} {entry.name}` · {entry.summary}", _preview(entry)]
    parts += [_prose(settings), "## When to use it", _prose(module), "## Settings", _settings(settings)]
    parts += [_presets(entry, settings)]
    parts += ["## Figures", _figures(entry)] if entry.kind == "images" else []
    parts += [_paper(entry)]
    parts += [f"Source: `src/{module.__name__.replace('.', '/')}.py`."]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cited(entry: Entry) -> str:
    return f"{entry.paper.authors.split(',')[0]} et al., {entry.paper.venue} {entry.paper.year}" if entry.paper else ""


def _prose(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def _preview(entry: Entry) -> str:
    if not (DOCS / "previews" / f"{entry.name}.png").exists():
        return ""
    return f"![{SHOWN[entry.kind]} by {entry.name}.](../previews/{entry.name}.png)"


def _settings(settings: Any) -> str:
    lines = ["| setting | type | default | what it is |", "|---|---|---|---|"]
    hints = get_type_hints(settings)
    for field in dataclasses.fields(settings):
        kind = getattr(hints[field.name], "__name__", None) or str(hints[field.name])
        kind = str(hints[field.name]) if "[" in str(hints[field.name]) or "|" in str(hints[field.name]) else kind
        cells = [f"`{field.name}`", f"`{_short(kind)}`", f"`{_default(field)}`", _sentence(settings, field.name)]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _short(kind: str) -> str:
    """A type as a person would write it."""
    kind = re.sub(r"\b(typing|attar\.[a-z.]+)\.", "", kind)
    kind = re.sub(r"^Optional\[(.*)\]$", r"\1, or nothing", kind)
    return kind.replace("Union[int, tuple[int, ...]]", "int, or tuple[int, ...]")


def _default(field: Any) -> str:
    value = field.default if field.default is not dataclasses.MISSING else field.default_factory()
    if value is None:
        return "–"
    return value.name if hasattr(value, "name") else "the field's" if dataclasses.is_dataclass(value) else str(value)


def _sentence(settings: Any, name: str) -> str:
    """The sentence under a field, wherever in the family the field is."""
    for kind in settings.__mro__:
        if name in getattr(kind, "__annotations__", {}):
            lines = inspect.getsource(kind).splitlines()
            start = next(i for i, line in enumerate(lines) if line.strip().startswith(f"{name}:"))
            text = "\n".join(lines[start + 1 :])
            if text.lstrip().startswith('"""'):
                return " ".join(text.split('"""')[1].split())
    return ""


def _presets(entry: Entry, settings: Any) -> str:
    if not hasattr(settings, "paper"):
        return ""
    count = "gpc" if entry.kind == "graphs" else "ipc"
    command = f"`{settings.__name__}.paper(data, {count}=...)`, or `--paper DATA` on the command line"
    return f"## Published settings\n\n{command}. {_prose(settings.paper).splitlines()[0]}"


def _figures(entry: Entry) -> str:
    """Measured cells of this method with random selection, beside what papers print."""
    lines = ["| data | per class | random % | this % | published % | measured with |", "|---|---|---|---|---|---|"]
    for name in TABLES:
        file = RESULTS / f"{name}.json"
        facts = json.loads(file.read_text()) if file.exists() else {"cells": []}
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
    score = Score.of([value for values in cell["values"] for value in values])
    return f"{score.value:.1f} ± {score.spread:.1f}"


def _paper(entry: Entry) -> str:
    if entry.paper is None:
        return ""
    return f"## Cite\n\n```bibtex\n{textwrap.dedent(entry.paper.bibtex(entry.name))}\n```"


def _write(path: Path, text: str) -> None:
    """Write only what changed, so that Sphinx does not build anew what is the same."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's hook."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}
