"""The public names of attar, read from its stubs and sources without importing either."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from lists import HOME

from attar.core.kinds import built_in
from attar.core.lazy import homes_of
from attar.core.registry import METHODS

PARENTS = {"Refused": "InputError"}
"""Errors that are told by the name of their parent."""
Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass
class Name:
    """One public function, class or constant."""

    module: str
    """The module that defines it."""
    name: str
    """What it is called there."""
    imports: list[str] = field(default_factory=list)
    """Names by which it is imported, the shortest first."""

    @property
    def path(self) -> str:
        """Its full name."""
        return f"{self.module}.{self.name}"

    @property
    def kind(self) -> str:
        """The kind whose page it stands on; `core` for what belongs to none."""
        home = self.module.split(".")[1]
        return home if home in built_in() else "core"

    @property
    def definition(self) -> Definition:
        """Where it is defined, as syntax.

        Raises:
            LookupError: It is not defined in its module.
        """
        return defined(self.module)[self.name][0]

    @property
    def is_method(self) -> bool:
        """Whether it is the settings of a method, which has a page of its own."""
        return (self.module, self.name) in {(entry.module, entry.settings) for entry in METHODS.values()}

    @property
    def docstring(self) -> str:
        """Its docstring; of a constant, the text below it. Empty if there is none."""
        return defined(self.module)[self.name][1]


def packages() -> list[str]:
    """The packages that list their public names in a stub."""
    stubs = sorted(HOME.rglob("__init__.pyi"))
    return [".".join(("attar", *stub.parent.relative_to(HOME).parts)) for stub in stubs]


@cache
def public() -> dict[str, Name]:
    """Every public name once, by its full name."""
    found: dict[str, Name] = {}
    for package in packages():
        for shown, home in homes_of(package).items():
            module, name = resolved(*home)
            one = found.setdefault(f"{module}.{name}", Name(module, name))
            one.imports.append(f"{package}.{shown}")
    for one in found.values():
        one.imports.sort(key=lambda text: (text.count("."), text))
    return dict(sorted(found.items()))


def resolved(module: str, name: str) -> tuple[str, str]:
    """The module that defines a name, and its name there: a module may have it from another one of attar."""
    for node in _body(module):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("attar"):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return resolved(node.module, alias.name)
    return module, name


@cache
def _body(module: str) -> list[ast.stmt]:
    path = HOME.joinpath(*module.split(".")[1:])
    file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    return ast.parse(file.read_text(encoding="utf-8")).body


@cache
def defined(module: str) -> dict[str, tuple[Definition, str]]:
    """What a module defines at its top, each with its docstring."""
    body = _body(module)
    found: dict[str, tuple[Definition, str]] = {}
    for at, node in enumerate(body):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = (node, ast.get_docstring(node) or "")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    found[target.id] = (node, _below(body, at))
    return found


def _below(body: list[ast.stmt], at: int) -> str:
    """The text below an assignment."""
    after = body[at + 1] if at + 1 < len(body) else None
    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
        return after.value.value
    return ""


# ------------------------------------------------------------------------------------------------------ what is lacking


def lacking(one: Name) -> Iterator[str]:
    """What the docstring of a name does not say: each a sentence.

    A function and a constructor explain all their parameters, and say what they raise. So far as a page shows methods
    of a class, they have a docstring, and say what they raise.
    """
    node = one.definition
    if not one.docstring:
        yield f"{one.path} has no docstring"
    elif isinstance(node, ast.FunctionDef):
        yield from (*_untold(node, one.docstring, one.path), *_silent(node, one.docstring, one.path))
    elif isinstance(node, ast.ClassDef) and not one.is_method:
        yield from _of_class(node, one.path)


def _of_class(node: ast.ClassDef, path: str) -> Iterator[str]:
    """What a constructor takes may stand in the docstring of the class."""
    for function in node.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        text = ast.get_docstring(function) or ""
        if function.name == "__init__":
            both = f"{ast.get_docstring(node)}\n{text}"
            yield from (*_untold(function, both, path), *_silent(function, both, path))
        elif not function.name.startswith("_"):
            yield from _silent(function, text, f"{path}.{function.name}")


def _untold(node: ast.FunctionDef, text: str, path: str) -> Iterator[str]:
    """The parameters that are not explained. A single one may be told in the summary."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    names = [one.arg for one in arguments if one.arg not in ("self", "cls") and not one.arg.startswith("_")]
    section = text.partition("Args:")[2]
    missing = [name for name in names if f"{name}:" not in section]
    if len(names) > 1 and missing:
        yield f"{path} does not explain {', '.join(missing)}"


def _silent(node: ast.FunctionDef, text: str, path: str) -> Iterator[str]:
    """The errors that a docstring does not name. What has no docstring has its parent's, and is not looked at."""
    for error in sorted(_raised(node)):
        if text and error not in text.partition("Raises:")[2]:
            yield f"{path} raises {error} and does not say so"


def _raised(node: ast.FunctionDef) -> set[str]:
    """The names of the errors that a function itself raises, but for those that leave something to a subclass."""
    found = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Raise) and one.exc is not None:
            called = one.exc.func if isinstance(one.exc, ast.Call) else one.exc
            if isinstance(called, ast.Name) and called.id[:1].isupper():
                found.add(called.id)
    return {PARENTS.get(name, name) for name in found} - {"NotImplementedError", "StopIteration"}
