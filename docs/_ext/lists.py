"""Lists of what attar has, made from its own declarations: kinds, methods, and the files of the house."""

import ast
import json
from pathlib import Path

from attar.core.card import table
from attar.core.kinds import Kind, built_in
from attar.core.registry import METHODS, Entry

HOME = Path(__file__).parents[2] / "src" / "attar"
OTHER_FILES = {
    "__init__.pyi": "the public names, for type checkers",
    "presets.json": "the cells of the papers' tables: published settings, each with its source",
    "methods.json": "its methods in words: what help, the list of methods and the docs are made from",
    "parts.json": "the losses and heads of trainings in words, each with its class and paper",
    "py.typed": "a mark for type checkers",
    "bench/published.json": "the numbers of the papers, each with its source",
    "convolution/sparse.cpp": "the direct kernel in C++ with AVX-512 or AVX2",
    "core/glossary.json": "the sentence of every setting that several methods share",
    "images/data/imagenet.txt": "the WordNet ids of ImageNet's classes in their order",
    "classifiers/released/efficientnet-lite.json": "efficientnet-lite-pytorch's network: names of its tensors",
    "classifiers/released/mdistiller.json": "mdistiller's and RepDistiller's networks: names of their tensors",
    "classifiers/released/rded.json": "the observers of RDED, SRe2L and CV-DD: names of their tensors",
    "classifiers/released/timm.json": "timm's networks: names of their tensors",
    "classifiers/released/torchvision.json": "torchvision's networks: names of their tensors",
    "images/data/comp_dd.json": "the published subsets of Comp-DD",
    "images/data/fine_grained.json": "the six groups of classes of DCC",
    "plasma/tables/sheet.txt": "radiative losses of the optically thin corona: 27 points of CHIANTI's curve",
    "reporting/page.css": "the style of the report page",
    "tables.json": "the tables of `attar bench` in words",
    "verbs.json": "the verbs without a method in words",
    "reporting/page.js": "the few lines of script of the report page",
}
"""Files that have no docstring, by their path or their name."""
DEVICES = Path(__file__).parents[2] / "tests" / "devices.json"
SHOWN = ("dm", "dc", "dsa", "mtt", "sre2l", "gstam", "kd", "crd", "simclr", "dmd2", "language/sft")
"""Whose copies to a GPU are shown: one method or two of each family."""


def kinds(docs: str = "") -> str:
    """The kinds: what one holds, what becomes of it, the command, the methods by name, and the page.

    Args:
        docs: The way to the documentation's folder, with its slash.
    """
    rows = []
    for kind in built_in().values():
        mine = [entry for entry in METHODS.values() if entry.kind == kind.name]
        verbs = " ".join(f"`attar {verb}`" for verb in kind.tasks if any(entry.verb == verb for entry in mine))
        names = ", ".join(entry.name for entry in mine)
        rows.append((kind.holds, kind.makes, verbs, names, f"[{page_of(kind)}]({docs}{page_of(kind)}.md)"))
    return table(("you hold", "you get", "command", "methods", "page"), rows)


def page_of(kind: Kind) -> str:
    """The page of a kind, by its name in the documentation."""
    return kind.page or kind.name


def all_methods() -> str:
    """Every method, kind by kind and family by family."""
    parts = []
    for kind in built_in().values():
        mine = [entry for entry in METHODS.values() if entry.kind == kind.name]
        words = f"{kind.holds[0].upper()}{kind.holds[1:]}"
        parts.append(f"## {words}\n\nMore on the page [{page_of(kind)}]({page_of(kind)}.md).\n\n{_methods(mine)}")
    return "\n\n".join(parts)


def _methods(entries: list[Entry]) -> str:
    """The methods of a kind, those of one family together."""
    families = list(dict.fromkeys(entry.family for entry in entries))
    rows = [
        (
            f"[{entry.name}](methods/{entry.name}.md)",
            entry.family,
            f"`attar {entry.verb}`",
            entry.summary,
            _paper(entry),
        )
        for entry in sorted(entries, key=lambda entry: families.index(entry.family))
    ]
    return table(("method", "family", "command", "what it does", "paper"), rows)


def _paper(entry: Entry) -> str:
    if entry.paper is None:
        return ""
    first, *others = entry.paper.authors.split(" and ")[0].split(",")[0], *entry.paper.authors.split(" and ")[1:]
    return f"{first}{' et al.' if others else ''}, {entry.paper}"


def device_copies() -> str:
    """How often some methods copy to a GPU and wait for it, while they are built and in their third step."""
    known = json.loads(DEVICES.read_text(encoding="utf-8"))
    rows = [(f"`{name.split('/')[0]}`", *map(str, (*known[name][0], *known[name][3]))) for name in SHOWN]
    return table(("method", "copies to build it", "waits", "copies in its third step", "waits"), rows)


def house() -> str:
    """Every file of attar with its first line, folder by folder."""
    files = sorted(path for path in HOME.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    places = sorted({path.parent for path in files}, key=lambda place: place.relative_to(HOME).parts)
    return "\n\n".join(_folder(place, [path for path in files if path.parent == place]) for place in places)


def _folder(place: Path, files: list[Path]) -> str:
    """One folder: its own sentence, and a line for each of its files."""
    name = "/".join(("attar", *place.relative_to(HOME).parts))
    package = next((path for path in files if path.name == "__init__.py"), None)
    rows = [(f"`{path.name}`", first_line(path)) for path in files if path != package]
    head = f"## {name}/\n\n{first_line(package)}" if package else f"## {name}/"
    return f"{head}\n\n{table(('file', 'what is in it'), rows)}" if rows else head


def first_line(path: Path) -> str:
    """The first sentence of a file, or what is said of it here.

    Raises:
        KeyError: It has none, and nothing is said of it in `OTHER_FILES`.
    """
    if path.suffix == ".py":
        told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert told, f"{path} has no docstring"
        return " ".join(told.split("\n\n")[0].split())
    where = str(path.relative_to(HOME))
    return OTHER_FILES[where if where in OTHER_FILES else path.name]
