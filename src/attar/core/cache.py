"""The cache folder: what lies in it, what running processes use, and how to make room.

A process notes what it uses, until it ends, in a file in `held`, and holds a lock beside it as long as it lives. What a
living process has noted is not removed, nor a folder in which a run is at work.
"""

import atexit
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.core import store
from attar.core.errors import InputError

GROUPS = {
    "networks": "trained networks",
    "experts": "trained experts",
    "teachers": "outputs of teachers",
    "rows": "rows computed of prompts",
    "arrow": "data sets as memory maps",
    "digests": "digests of pictures",
    "kernels": "compiled kernels",
    "columns": "spectra of columns",
    "sunlight": "light of the quiet Sun",
    "chianti": "losses from CHIANTI",
}
"""What lies in the folders whose parts are entries of their own."""
DOWNLOADED, DOWNLOADS = re.compile("ogbg_[a-z]+"), "downloaded data"
"""Folders that are one entry. All others are not attar's, and are left alone."""
HELD = "held"
"""The folder with what is in use."""
SECONDS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
BYTES = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}

_mine: dict[tuple[int, Path], tuple[Any, set[str]]] = {}
"""By process and cache folder: the lock that this process holds while it lives, and what it has noted."""


@dataclass(frozen=True)
class Entry:
    """One thing in the cache."""

    path: Path
    what: str
    bytes: int
    used: float
    """When it was last used, in seconds since 1970."""

    @property
    def days(self) -> int:
        """Whole days since then."""
        return max(int((time.time() - self.used) / SECONDS["d"]), 0)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"path": str(self.path), "what": self.what, "bytes": self.bytes, "used": round(self.used)}


def use(path: Path) -> None:
    """Note that an entry of the cache is in use until this process ends, and that it was used now.

    A cache that cannot be written to, or has no locks, is not noted in: nothing can be removed from it either.
    """
    root = store.cache_folder()
    if not path.is_relative_to(root):
        return
    name, key = path.relative_to(root).as_posix(), (os.getpid(), root)
    with suppress(InputError, OSError, NotImplementedError):
        if key not in _mine or name not in _mine[key][1]:
            _note(root / HELD, name, key)
        if path.exists():
            os.utime(path)


def _note(folder: Path, name: str, key: tuple[int, Path]) -> None:
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with store.locked(folder, wait=True):
        if key not in _mine:
            # Processes in several containers may have the same number.
            lock = FileLock(folder / f"{key[0]}-{secrets.token_hex(4)}.lock", thread_local=False)
            lock.acquire(blocking=False)
            atexit.register(_let_go, lock, key[0])
            _mine[key] = lock, set()
        with Path(_mine[key][0].lock_file).with_suffix(".txt").open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        _mine[key][1].add(name)


def _let_go(lock: Any, process: int) -> None:
    if os.getpid() == process:
        lock.release()


def entries() -> list[Entry]:
    """All that attar has put into the cache, the longest unused first."""
    root = store.cache_folder()
    found = []
    for path in root.iterdir():
        if path.name in GROUPS and path.is_dir():
            found += [_entry(one, GROUPS[path.name]) for one in path.iterdir()]
        elif DOWNLOADED.fullmatch(path.name) and path.is_dir():
            found.append(_entry(path, DOWNLOADS))
    return sorted(found, key=lambda entry: entry.used)


def _entry(path: Path, what: str) -> Entry:
    size, used = 0, 0.0
    for one in (path, *path.rglob("*")):
        with suppress(OSError):  # gone meanwhile
            status = one.lstat()
            size += 0 if one.is_dir() else status.st_size
            used = max(used, status.st_mtime)
    return Entry(path, what, size, used)


def rule_of(text: str) -> Callable[[Sequence[Entry]], list[Entry]]:
    """What to remove, from `30d` (unused for so long) or `2GB` (the longest unused, until so much is left).

    Raises:
        InputError: It is neither.
    """
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([A-Za-z]+)", text.strip())
    number, unit = (float(found[1]), found[2]) if found else (0.0, "")
    if unit.lower() in SECONDS:
        return lambda every: [one for one in every if one.used <= time.time() - number * SECONDS[unit.lower()]]
    if unit.upper() in BYTES:
        return lambda every: _above(every, number * BYTES[unit.upper()])
    raise InputError(
        f"{text!r} is neither an age nor a size. Give an age such as 30d, 4w or 12h, or a size such as 2GB."
    )


def _above(every: Sequence[Entry], most: float) -> list[Entry]:
    """The longest unused entries, without which the rest is no larger than asked."""
    left, chosen = float(sum(one.bytes for one in every)), []
    for one in every:
        if left <= most:
            break
        chosen.append(one)
        left -= one.bytes
    return chosen


@dataclass(frozen=True)
class Pruned:
    """What was removed, and what was left because it is in use."""

    removed: tuple[Entry, ...]
    in_use: tuple[Entry, ...]


def prune(rule: Callable[[Sequence[Entry]], list[Entry]], *, dry: bool = False) -> Pruned:
    """Remove entries that no process uses.

    Args:
        rule: Says which, of all entries with the longest unused first.
        dry: Whether to say only what would be removed.

    Raises:
        InputError: The cache cannot be written to.
    """
    folder = store.cache_folder() / HELD
    store.make_folder(folder)
    removed, in_use = [], []
    with store.locked(folder, wait=True):
        held = _held(folder)
        for number, entry in enumerate(rule(entries())):
            name = entry.path.relative_to(folder.parent).as_posix()
            gone = folder / f"{os.getpid()}-{number}.gone"
            if name in held or _at_work(entry.path) or not (dry or _moved(entry.path, gone)):
                in_use.append(entry)
            else:
                removed.append(entry)
    for path in folder.glob("*.gone"):
        store.remove(path)
    return Pruned(tuple(removed), tuple(in_use))


def _moved(path: Path, place: Path) -> bool:
    """Take an entry out of the cache at once; whoever looks for it afterwards makes it anew."""
    try:
        path.rename(place)
    except OSError:  # Windows does not move what is open
        return False
    return True


def _held(folder: Path) -> set[str]:
    """What living processes have noted; the notes of others are removed."""
    names: set[str] = set()
    for lock in folder.glob("*.lock"):
        notes = lock.with_suffix(".txt")
        if _is_held(lock):
            names.update(notes.read_text(encoding="utf-8", errors="replace").splitlines() if notes.exists() else ())
        else:
            notes.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
    return names


def _at_work(path: Path) -> bool:
    """Whether a run is at work in a folder."""
    return any(lock.is_file() and _is_held(lock) for lock in (path / "lock", path / "run" / "lock"))


def _is_held(lock: Path) -> bool:
    from filelock import FileLock, Timeout

    mine = FileLock(lock, fallback_to_soft=False)
    try:
        mine.acquire(blocking=False)
    except (Timeout, OSError, NotImplementedError):
        return True
    mine.release()
    return False
