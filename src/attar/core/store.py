"""Files that are written atomically, hold nothing executable, and are checked against a digest when they are read."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attar.core.errors import InputError


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: a reader, or a run killed at any moment, sees the old bytes or the new ones."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}.") from error


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically, with its keys in the order given."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def check_output(path: Path | None, *, mark: bytes = b"") -> None:
    """See that a file for figures or a page can be written, and that nothing else is lost by it.

    Args:
        path: The file, if one was asked for.
        mark: What an older one of the kind begins with. Default: it is JSON, and no part of an artefact or a run.

    Raises:
        InputError: It is a folder, its folder is missing, or it holds something else.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder. Give the name of a file.")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a folder, so {path.name} cannot be written there. Make it first.")
    if path.exists() and not (_begins(path, mark) if mark else _holds_figures(path)):
        raise InputError(f"{path} exists and holds something else. Give another file, or delete it.")


def _begins(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


def _holds_figures(path: Path) -> bool:
    try:
        facts = read_json(path)
    except InputError:
        return False
    return isinstance(facts, dict) and not facts.keys() & {"facts_digest", "method", "schema", "peak_memory"}


def sweep(folder: Path) -> None:
    """Remove the drafts of writes that a kill cut off."""
    for path in folder.rglob("*.tmp"):
        if is_draft(path):
            path.unlink(missing_ok=True)


def is_draft(path: Path) -> bool:
    """Whether a file is a write that is not finished yet, or never will be."""
    return path.name.startswith(".") and path.suffix == ".tmp"


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        InputError: The file is missing or is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} is missing.") from None
    except (ValueError, RecursionError):  # no text, no JSON, a number of thousands of digits, or nested without end
        raise InputError(f"{path} is damaged: it is not JSON.") from None


def read_cost(path: Path) -> dict[str, float | None]:
    """What a run took, `seconds` and `peak_memory`; None for what is not there or is no number."""
    try:
        facts = read_json(path)
    except InputError:
        facts = None
    return cost_in(facts)


def cost_in(facts: Any) -> dict[str, float | None]:
    """The same from what such a file says; earlier ones said the seconds alone."""
    known = facts if isinstance(facts, dict) else {"seconds": facts}
    return {name: _amount(known.get(name)) for name in ("seconds", "peak_memory")}


def _amount(value: Any) -> float | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and 0 <= value < 1e18 else None


def remembered(path: Path | None, measure: Callable[[], Any]) -> Any:
    """A measurement of plain values made once and kept in a file, or made now where there is no file to be."""
    if path is None:
        return measure()
    if not path.exists():
        write_json(path, measure())
    return read_json(path)


def digest_of(tensors: dict[str, Tensor], plain: Any) -> str:
    """A fingerprint of named tensors and plain values: names, types, shapes and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def write_tensors(path: Path, tensors: dict[str, Tensor], plain: Any) -> str:
    """Write tensors and plain values to one safetensors file, and return their digest, which it also holds."""
    from safetensors.torch import save

    digest = digest_of(tensors, plain)
    # One metadata entry: the format does not keep the order of several, and the same run must give the same bytes.
    header = {"attar": json.dumps({"digest": digest, "plain": plain}, sort_keys=True)}
    write_bytes(path, save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, header))
    return digest


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read what `write_tensors` wrote.

    Raises:
        InputError: The file is missing, truncated, altered, a pickle, or not one of attar's.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path} is missing.")
    with path.open("rb") as file:
        start = file.read(9)
        # A safetensors file begins with the length of its header, which may look like a pickle's mark; then comes "{".
        if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") and start[8:] != b"{":
            raise InputError(f"{path} is a pickle, which can run code when read; attar reads safetensors only.")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("attar", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is damaged or truncated: {error}.") from None
    if header is None:
        raise InputError(f"{path} was not written by attar: it carries no settings.")
    if not isinstance(header, dict) or digest_of(tensors, header.get("plain")) != header.get("digest"):
        raise InputError(f"{path} was altered after it was written: its contents do not match its digest.")
    return tensors, header["plain"]


def write_rows(path: Path, rows: Tensor, plain: dict[str, Any]) -> None:
    """Write a tensor of which `Rows` can read one row at a time, each with a digest of its own."""
    digests = [digest_of({"row": row}, None) for row in rows]
    write_tensors(path, {"rows": rows}, {**plain, "digests": digests})


class Rows:
    """Rows of a tensor on disk, read one at a time and checked as they are read."""

    def __init__(self, path: Path) -> None:
        """Open what `write_rows` wrote.

        Raises:
            InputError: The file is missing, truncated, a pickle, or not one of attar's.
        """
        from safetensors import SafetensorError, safe_open

        self.path = path
        if not path.is_file():
            raise InputError(f"{path} is missing.")
        try:
            with safe_open(path, framework="pt") as file:
                self.plain = json.loads((file.metadata() or {}).get("attar", "null"))["plain"]
                self.shape = tuple(file.get_slice("rows").get_shape())
        except (SafetensorError, json.JSONDecodeError, OSError, TypeError, KeyError):
            raise InputError(f"{path} is damaged or truncated, or attar did not write it.") from None

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: int) -> Tensor:
        from safetensors import safe_open

        with safe_open(self.path, framework="pt") as file:
            row: Tensor = file.get_slice("rows")[index]
        if digest_of({"row": row}, None) != self.plain["digests"][index]:
            raise InputError(f"{self.path} was altered after it was written: row {index} does not match its digest.")
        return row


def make_folder(path: Path) -> None:
    """Make a folder that can be written to, or say in the first second that it cannot."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{os.getpid()}.tmp"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror}.") from error


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder against other processes; the lock goes when the process does, however it ends."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another process is working in {folder.parent}. Wait for it, or choose another --out."
            ) from None
        yield


def cache_folder() -> Path:
    """Where trained networks and ceilings are kept between runs: `$ATTAR_CACHE`, or the user's cache folder."""
    base = os.environ.get("ATTAR_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "attar"
    folder = Path(base)
    make_folder(folder)
    return folder


def copy_files(source: Path, target: Path, names: list[str]) -> None:
    """Copy named files and folders, each file atomically."""
    for name in names:
        origin = source / name
        for path in sorted(origin.rglob("*")) if origin.is_dir() else [origin]:
            if path.is_file():
                place = target / path.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(place, path.read_bytes())


def remove(path: Path) -> None:
    """Delete a file or a folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
