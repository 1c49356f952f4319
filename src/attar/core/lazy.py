"""Lazy packages: a public name imports its module when it is first used.

The names are listed once, in the `__init__.pyi` beside the package's `__init__.py`, which type checkers read too:
`from attar.images.condense.dm import DM as DM`.
"""

import ast
import importlib
import pkgutil
import sys
from collections.abc import Callable
from functools import cache
from typing import Any


def lazily(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The `__getattr__`, `__dir__` and `__all__` of a package whose stub says where its names live."""
    homes = homes_of(package)

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, original = homes[name]
        return getattr(importlib.import_module(module), original)

    return get, lambda: sorted({*vars(sys.modules[package]), *homes}), sorted(homes)


@cache
def homes_of(package: str) -> dict[str, tuple[str, str]]:
    """Each public name of a package: the module it lives in, and what it is called there."""
    stub = pkgutil.get_data(package, "__init__.pyi")
    assert stub is not None, f"{package} has no __init__.pyi"
    homes: dict[str, tuple[str, str]] = {}
    for line in ast.parse(stub).body:
        if isinstance(line, ast.ImportFrom):
            assert line.module and not line.level, f"{package}/__init__.pyi: import from a module by its whole name"
            homes |= {alias.asname or alias.name: (line.module, alias.name) for alias in line.names}
    return homes
