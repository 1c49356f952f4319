"""The sentence under each setting of a class, which is read from the file of the class."""

import ast
import inspect
from functools import cache
from pathlib import Path


def owner(family: type, field: str) -> type:
    """The class that has a field last: the family, or a base of it."""
    return next(base for base in family.__mro__ if field in inspect.get_annotations(base))


def sentence_of(family: type, field: str) -> str:
    """The sentence under a field, in the class of the family that has it last."""
    for base in family.__mro__:
        sentence = _sentences(base).get(field) if field in inspect.get_annotations(base) else None
        if sentence:
            return sentence
    return ""


@cache
def _sentences(family: type) -> dict[str, str]:
    try:
        file = inspect.getsourcefile(family)
    except TypeError:
        file = None
    return _sentences_in(Path(file)).get(family.__qualname__, {}) if file and Path(file).exists() else {}


@cache
def _sentences_in(file: Path) -> dict[str, dict[str, str]]:
    """The sentences of every class of a file, by the class's qualified name."""
    found: dict[str, dict[str, str]] = {}
    _collect(ast.parse(file.read_text(encoding="utf-8")), "", found)
    return found


def _collect(node: ast.AST, prefix: str, found: dict[str, dict[str, str]]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            found[f"{prefix}{child.name}"] = _under_fields(child)
            _collect(child, f"{prefix}{child.name}.", found)
        elif isinstance(child, ast.FunctionDef):
            _collect(child, f"{prefix}{child.name}.<locals>.", found)


def _under_fields(node: ast.ClassDef) -> dict[str, str]:
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
