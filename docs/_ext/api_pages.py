"""A page of the API for each kind, and one for what belongs to none, made from the public names."""

import ast
import re
from pathlib import Path
from typing import Any

from api_names import Name, public
from lists import page_of
from method_pages import write_folder

from attar.core.kinds import built_in
from attar.core.registry import METHODS

DOCS = Path(__file__).parents[1]
TITLES = {
    "core": "Verbs, engine and scores",
    **{name: f"{kind.holds[0].upper()}{kind.holds[1:]}" for name, kind in built_in().items()},
}
"""The pages in their order, with their titles."""
LOOKS_LIKE_MARKUP = re.compile(r"\||(?<=\w)_(?!\w)")
"""A bar, which would begin a substitution, and an underscore at the end of a word, which would make it a link."""
PARTS = (
    ("Methods", "The settings of a method; each has a page of its own, which explains them."),
    ("Functions", ""),
    ("Classes", ""),
    ("Constants", ""),
)


def write_pages(_: Any) -> None:
    """Write `api/KIND.md` for every kind, and `api/core.md`."""
    write_folder(DOCS / "api", {kind: page(kind) for kind in TITLES})


def page(kind: str) -> str:
    """The page of a kind: its methods, functions, classes and constants, each once."""
    mine = [one for one in public().values() if one.kind == kind]
    parts = [f"# {TITLES[kind]}"]
    if kind in built_in():
        parts.append(f"How to use them: [{page_of(built_in()[kind])}](../{page_of(built_in()[kind])}.md).")
    for part, about in PARTS:
        some = sorted((one for one in mine if part_of(one) == part), key=lambda one: one.imports[0].lower())
        if some:
            parts += [f"## {part}", about, *(entry(one) for one in some)]
    return "\n\n".join(filter(None, parts)) + "\n"


def part_of(one: Name) -> str:
    """The part of its page that a name stands in."""
    if one.is_method:
        return "Methods"
    if isinstance(one.definition, ast.FunctionDef):
        return "Functions"
    return "Classes" if isinstance(one.definition, ast.ClassDef) else "Constants"


def entry(one: Name) -> str:
    """One name: how it is imported, and its docstring."""
    several = ", ".join(f"`{name}`" for name in one.imports)
    method = next(
        (each.name for each in METHODS.values() if (each.module, each.settings) == (one.module, one.name)), ""
    )
    link = f" · [{method}](../methods/{method}.md)" if method else ""
    part = part_of(one)
    directive = {"Functions": "autofunction", "Constants": "autodata"}.get(part, "autoclass")
    settings = "(**settings)" if part == "Methods" else ""
    lines = [f".. {directive}:: {one.path}{settings}"]
    lines += ["   :no-members:"] if part == "Methods" else ["   :no-value:"] if part == "Constants" else []
    block = "\n".join(["```{eval-rst}", *lines, "```"])
    return f"### {one.imports[0].rpartition('.')[2]}\n\n{several}{link}\n\n{block}"


def as_it_stands(_app: Any, _what: str, _name: str, _thing: Any, _options: Any, lines: list[str]) -> None:
    """Keep what docutils would take for markup in formulas: |x| and p_. Before napoleon."""
    for at, line in enumerate(lines):
        parts = line.split("`")
        parts[::2] = [LOOKS_LIKE_MARKUP.sub(r"\\\g<0>", part) for part in parts[::2]]
        lines[at] = "`".join(parts)


def without_types(_app: Any, what: str, _name: str, _thing: Any, _options: Any, lines: list[str]) -> None:
    """Put back what napoleon takes for a type: the words before a colon in the first line of a field. After it."""
    told = [line for line in lines if line.startswith(":type: ")]
    if what in ("attribute", "data", "property") and told:
        rest = [line for line in lines if line not in told]
        lines[:] = [f"{told[0].removeprefix(':type: ')}: {rest[0]}", *rest[1:]]


def without_links(_app: Any, tree: Any) -> None:
    """Show the types of signatures as plain text: `bytes` would lead to whatever has that name."""
    from sphinx import addnodes

    for signature in tree.findall(addnodes.desc_signature):
        for link in list(signature.findall(addnodes.pending_xref)):
            link.replace_self(link.children)


def skipped(_app: Any, _what: str, name: str, _thing: Any, skip: bool, _options: Any) -> bool | None:
    """Leave out what scikit-learn adds to its estimators for the routing of metadata."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's hook."""
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", as_it_stands, priority=400)
    app.connect("autodoc-process-docstring", without_types, priority=600)
    app.connect("autodoc-skip-member", skipped)
    app.connect("doctree-read", without_links)
    return {"parallel_read_safe": True}
