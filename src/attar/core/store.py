"""Files that are written atomically, hold nothing executable, and are checked against a digest when they are read."""

import errno
import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attar.core.errors import InputError, unwritable
from attar.core.jsonfiles import number, parsed, valid
from attar.core.jsonfiles import read_json as read_json


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: a reader, or a run killed at any moment, sees the old bytes or the new ones.

    Raises:
        InputError: It cannot be written. What was written of it is removed.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write text atomically. File names that are not UTF-8 are escaped in it."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically, with its keys in the order given; numbers that are not finite become null."""
    write_text(path, json.dumps(valid(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


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


def read_cost(path: Path) -> dict[str, float | None]:
    """What a run took: `seconds`, those of them in which it was `prepared`, and `peak_memory`; None where unknown."""
    try:
        facts = read_json(path)
    except InputError:
        facts = None
    return cost_in(facts)


def cost_in(facts: Any) -> dict[str, float | None]:
    """The same from what such a file says; earlier ones said the seconds alone."""
    known = facts if isinstance(facts, dict) else {"seconds": facts}
    found = {name: number(known.get(name)) for name in ("seconds", "prepared", "peak_memory")}
    return {name: None if value is None or value < 0 else value for name, value in found.items()}


def remembered(path: Path | None, measure: Callable[[], Any]) -> Any:
    """A measurement of plain values made once and kept in a file, or made now where there is no file to be."""
    if path is None:
        return measure()
    if not path.exists():
        write_json(path, measure())
    return read_json(path)


def digest_of(tensors: Mapping[str, Tensor], plain: Any) -> str:
    """A fingerprint of named tensors and plain values: names, types, shapes and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """A fingerprint of the bytes of a file."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], plain: Any) -> str:
    """Write tensors and plain values to one safetensors file, and return their digest, which it also holds.

    Raises:
        InputError: A tensor is not finite, or the file cannot be written.
    """
    from safetensors.torch import save

    here = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    check_finite(here, f"{path} is not written")
    digest = digest_of(here, plain)
    # One metadata entry: the format does not keep the order of several, and the same run must give the same bytes.
    header = {"attar": json.dumps({"digest": digest, "plain": plain}, sort_keys=True)}
    write_bytes(path, save(here, header))
    return digest


def named(home: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with a name in front of theirs."""
    return {f"{home}.{name}": tensor for name, tensor in tensors.items()}


def within(home: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `named`: the tensors of one home."""
    prefix = f"{home}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read what `write_tensors` wrote.

    Raises:
        InputError: The file is missing, truncated, altered, a pickle, not one of attar's, or its tensors are not
            finite.
    """
    from safetensors import SafetensorError, safe_open

    _refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = parsed((file.metadata() or {}).get("attar", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError(f"{path} is damaged or truncated: {error}.") from None
    if header is None:
        raise InputError(f"{path} was not written by attar: it carries no settings.")
    if (
        not isinstance(header, dict)
        or "plain" not in header
        or digest_of(tensors, header["plain"]) != header.get("digest")
    ):
        raise InputError(f"{path} was altered after it was written: its contents do not match its digest.")
    check_finite(tensors, f"{path} is of a run that diverged")
    return tensors, header["plain"]


def _refuse_pickle(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} is missing.")
    with path.open("rb") as file:
        start = file.read(9)
    # A safetensors file begins with the length of its header, which may look like a pickle's mark; then comes "{".
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") and start[8:] != b"{":
        raise InputError(f"{path} is a pickle, which can run code when read; attar reads safetensors only.")


def check_finite(tensors: Mapping[str, Tensor], told: str) -> None:
    """Check that no tensor holds infinite values or values that are not numbers.

    A mask of zeros and -∞, as attention has, is allowed.

    Args:
        tensors: By name.
        told: The beginning of the message.

    Raises:
        InputError: One does.
    """
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise InputError(f"{told}: {name} holds values that are infinite or not numbers.")


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite, or it is a mask of zeros and -∞."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.numel():
        return True
    values = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    values = values.detach().float() if values.element_size() == 1 else values.detach()
    low, high = (float(end) for end in values.aminmax())
    if math.isfinite(low) and math.isfinite(high):
        return True
    return low == -math.inf and high <= 0 and bool(((values == 0) | (values == low)).all())


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
        _refuse_pickle(path)
        try:
            with safe_open(path, framework="pt") as file:
                self.plain = parsed((file.metadata() or {}).get("attar", "null"))["plain"]
                self.shape = tuple(file.get_slice("rows").get_shape())
        except (SafetensorError, ValueError, OSError, TypeError, KeyError):
            raise InputError(f"{path} is damaged or truncated, or attar did not write it.") from None

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: int) -> Tensor:
        from safetensors import safe_open

        with safe_open(self.path, framework="pt") as file:
            row: Tensor = file.get_slice("rows")[index]
        if digest_of({"row": row}, None) != self.plain["digests"][index]:
            raise InputError(f"{self.path} was altered after it was written: row {index} does not match its digest.")
        check_finite({f"row {index}": row}, f"{self.path} is of a run that diverged")
        return row


def make_folder(path: Path) -> None:
    """Make a folder that can be written to, or say in the first second that it cannot."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{os.getpid()}.tmp"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(f"to {path}", error) from error


WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
"""Numbers of the errors of file systems that have no locks."""


@contextmanager
def locked(folder: Path, *, wait: bool = False, name: str = "lock") -> Iterator[None]:
    """Hold a folder against other processes; the lock goes when the process does, however it ends.

    Raises:
        InputError: Another process holds it, it cannot be written to, or its file system has no locks.
    """
    from filelock import FileLock, Timeout

    path = folder / name
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        raise InputError(
            f"another process is working in {folder.parent}. Wait for it, or choose another --out."
        ) from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in WITHOUT_LOCKS:
            raise unwritable(path, error) from error
        raise InputError(
            f"the file system of {folder} has no locks, and two processes could spoil each other's files. "
            "Choose a folder on another disk (ATTAR_CACHE names the cache)."
        ) from None
    try:
        yield
    finally:
        lock.release()


def cache_folder() -> Path:
    """Where trained networks and ceilings are kept between runs: `$ATTAR_CACHE`, or the user's cache folder."""
    base = os.environ.get("ATTAR_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "attar"
    folder = Path(base)
    make_folder(folder)
    return folder


def check_own(path: Path) -> None:
    """Check that only this user could have written a file of compiled code, and the folder in which it lies.

    Raises:
        InputError: Others could.
    """
    if not hasattr(os, "getuid"):  # Windows keeps the folders of a user for the user
        return
    for place in (path, path.parent):
        status = place.stat()
        if status.st_uid not in (os.getuid(), 0) or status.st_mode & stat.S_IWOTH:
            raise InputError(
                f"{place} may have been written by others, and {path.name} is code. Delete it, or set ATTAR_CACHE to "
                "a folder of your own."
            )


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
