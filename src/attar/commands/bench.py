"""`attar bench TABLE`: measured beside published. Only the table that is named gets imported."""

import functools
import inspect
import re
from collections.abc import Callable

from attar.core.errors import unknown
from attar.core.kinds import imported

TABLES = {
    "demo": ("attar.bench.tables", "a few methods on scikit-learn's digits; two minutes"),
    "digits": ("attar.bench.tables", "the fast methods on the same digits; minutes"),
    "digits-all": ("attar.bench.tables", "every family of methods on digits, by what networks learn from; an hour"),
    "cifar10": ("attar.bench.tables", "the published tables' rivals on CIFAR-10; needs --data, hours on a CPU"),
    "grid": ("attar.bench.grid", "any methods by images per class and seed, on any data"),
    "continual": ("attar.bench.continual", "class-incremental learning with condensed sets as memory"),
    "velocity": ("attar.bench.velocity", "how fast the tangent kernel turns in training on condensed sets"),
    "comp-dd": ("attar.bench.comp_dd", "classes that are easy and hard to look at, and what condensing keeps of each"),
    "search": ("attar.bench.search", "architecture search with condensed sets as proxies"),
}


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: attar bench TABLE ...\n\ntables:")
        for name, (_, what) in TABLES.items():
            print(f"  {name:<12}{what}")
        print("\nAll settings of a table: attar bench TABLE --help")
        return
    table, *rest = arguments
    if table not in TABLES:
        raise unknown("table", table, TABLES)
    home = TABLES[table][0]
    words = arguments if home == "attar.bench.tables" else rest
    _parse(imported(f"{home}:command"), f"attar bench {table}", words)


def _parse(function: Callable[..., None], name: str, arguments: list[str]) -> None:
    """Call a function with the settings that the words after the table's name give."""
    import tyro

    _join_lines()
    for told in (function, inspect.unwrap(function)):
        told.__doc__ = re.sub(r"\n {8,}", " ", inspect.cleandoc(told.__doc__ or ""))
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    tyro.cli(function, prog=name, args=arguments, config=config)


@functools.cache
def _join_lines() -> None:
    """Let the sentences of settings flow: tyro joins their lines before it takes the indentation off."""
    from tyro import _strings

    name = "remove_single_line_breaks"
    join = getattr(_strings, name, None)
    if join is not None:
        setattr(_strings, name, lambda text: join(inspect.cleandoc(text)))
