"""`attar cache`: print what lies in the cache, and make room in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attar.core.flags import parse
from attar.core.help import HELP, settings_help
from attar.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attar.core.cache import Entry

USAGE = "usage: attar cache [--prune AGE | SIZE] ..."
ABOUT = (
    "Print what lies in the cache: networks, experts and outputs of teachers that were computed beside runs, and "
    "copies of data. What is removed is made again when it is needed. What a running process uses is never removed."
)


@dataclass(frozen=True, kw_only=True)
class Given(Settings):
    """What is listed, and what is removed."""

    prune: str | None = None
    """What to remove: entries that were not used for so long (30d, 4w, 12h), or the longest unused ones until no more
    than so much is left (2GB). Default: nothing."""
    dry_run: bool = False
    """Whether to print only what would be removed."""
    entries: bool = False
    """Whether to list every entry by itself."""
    json: Path | None = None
    """File to which the list is written too, as JSON."""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if any(word in HELP for word in arguments):
        print(settings_help(USAGE, {"settings": Given}, about=ABOUT))
        return
    given = parse({"given": Given()}, arguments, program="attar cache")["given"]

    from attar.core import cache, store

    store.check_output(given.json)
    if given.prune is None:
        found = cache.entries()
        print(listed(found, each=given.entries))
    else:
        done = cache.prune(cache.rule_of(given.prune), dry=given.dry_run)
        found = list(done.removed)
        print("\n".join(_removed(done, given)))
    if given.json is not None:
        store.write_json(given.json, [one.to_json() for one in found])


def _removed(done: Any, given: Given) -> list[str]:
    """What was removed, in a line or a list, and what was not."""
    verb = "would be removed" if given.dry_run else "removed"
    lines = [listed(done.removed, each=True)] if given.entries and done.removed else []
    lines.append(f"{_many(done.removed)} {verb}, {_size(done.removed)}")
    if done.in_use:
        lines.append(f"{_many(done.in_use)} in use, {_size(done.in_use)}, left as they are")
    return lines


def listed(found: "Sequence[Entry]", *, each: bool = False) -> str:
    """Entries as a table: a row for each kind of thing, or for each of them."""
    from rich.table import Table

    from attar.core.progress import as_text
    from attar.core.store import cache_folder

    folder = cache_folder()
    if not found:
        return f"{folder} is empty"
    grid = Table(show_edge=False, pad_edge=False)
    grid.add_column("what")
    for heading in ("entry",) if each else ("entries",):
        grid.add_column(heading, justify="left" if each else "right")
    grid.add_column("size", justify="right")
    grid.add_column("last used", justify="right")
    rows = [(one.what, str(one.path.relative_to(folder)), [one]) for one in reversed(found)] if each else _kinds(found)
    for what, name, group in rows:
        grid.add_row(what, name, _size(group), _ago(min(one.days for one in group)))
    return f"{as_text(grid)}\n{_many(found)}, {_size(found)} in {folder}"


def _kinds(found: "Sequence[Entry]") -> "list[tuple[str, str, list[Entry]]]":
    groups: dict[str, list[Entry]] = {}
    for one in found:
        groups.setdefault(one.what, []).append(one)
    rows = [(what, f"{len(group):,}", group) for what, group in groups.items()]
    return sorted(rows, key=lambda row: -sum(one.bytes for one in row[2]))


def _many(found: "Sequence[Entry]") -> str:
    return "1 entry" if len(found) == 1 else f"{len(found):,} entries"


def _size(found: "Sequence[Entry]") -> str:
    total = sum(one.bytes for one in found)
    return (
        f"{total / 1e9:,.1f} GB" if total >= 1e9 else f"{total / 1e6:,.1f} MB" if total >= 1e5 else f"{total:,} bytes"
    )


def _ago(days: int) -> str:
    return ("today", "yesterday")[days] if days < 2 else f"{days:,} days ago"
