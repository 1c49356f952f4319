"""Files that are written atomically, hold nothing executable, and are checked against a digest when they are read."""

import errno
import hashlib
import json
import math
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from attar.core.errors import InputError, unwritable
from attar.core.jsonfiles import number, parsed, valid
from attar.core.jsonfiles import read_json as read_json
from attar.core.notes import note

LOCKLESS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
"""Numbers of the errors of file systems that have no locks."""
NAMES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.uint32: "U32",
    torch.float32: "F32",
    torch.complex64: "C64",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.uint64: "U64",
}
"""How a safetensors file calls the types of numbers. The last ones come first in it."""
ORDER = {dtype: number for number, dtype in enumerate(NAMES)}
SAMPLE = 2**22
"""Bytes by whose writing the time of more is estimated."""


@contextmanager
def draft_of(path: Path) -> Iterator[BinaryIO]:
    """A file beside another, which takes its place when all is written: a reader, or a kill, never sees half of it.

    Raises:
        InputError: It cannot be written. What was written of it is removed.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically (see `draft_of`)."""
    with draft_of(path) as file:
        file.write(data)


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
    digest = _digest_of_plain(plain)
    for name in sorted(tensors):
        _take_in(digest, name, tensors[name].detach().cpu().contiguous())
    return digest.hexdigest()


def _digest_of_plain(plain: Any) -> Any:
    return hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=16)


def _take_in(digest: Any, name: str, tensor: Tensor) -> memoryview:
    """Add a tensor to a fingerprint; return its bytes, of which no copy is made."""
    data = tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else memoryview(b"")
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(data)
    return data


def file_digest(path: Path) -> str:
    """A fingerprint of the bytes of a file."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], plain: Any) -> str:
    """Write tensors and plain values to one safetensors file, and return their digest, which it also holds.

    One tensor at a time is brought to the CPU, digested and written, so that memory does not double. The digest stands
    in front of the tensors and is written last.

    Raises:
        InputError: A tensor is not finite, or of a type that such files do not have; or the file cannot be written.
    """
    check_plain(tensors, f"{path} is not written")
    digest, header = _digest_of_plain(plain), _Header(tensors, plain)
    with draft_of(path) as file:
        for name in sorted(tensors):
            tensor = tensors[name].detach().resolve_conj().cpu().contiguous()
            check_finite({name: tensor}, f"{path} is not written")
            data = _take_in(digest, name, tensor)
            file.seek(header.place_of(name))
            file.write(data)
        file.seek(0)
        file.write(header.text(digest.hexdigest()))
    return str(digest.hexdigest())


class _Header:
    """What a safetensors file has in front of its tensors, in the library's own order, so that its bytes are equal."""

    def __init__(self, tensors: Mapping[str, Tensor], plain: Any) -> None:
        self.plain = plain
        self.entries: dict[str, dict[str, Any]] = {}
        end = 0
        for name in sorted(tensors, key=lambda name: (-ORDER[tensors[name].dtype], name)):
            tensor, start = tensors[name], end
            end += tensor.numel() * tensor.element_size()
            kind = NAMES[tensor.dtype]
            self.entries[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
        self.length = len(self.text("0" * 32))

    def place_of(self, name: str) -> int:
        """Where in the file the bytes of a tensor begin."""
        return self.length + int(self.entries[name]["data_offsets"][0])

    def text(self, digest: str) -> bytes:
        """The header; it is as long with any digest."""
        # One metadata entry: the format does not keep the order of several, and the same run must give the same bytes.
        ours = json.dumps({"digest": digest, "plain": self.plain}, sort_keys=True)
        entries = {"__metadata__": {"attar": ours}, **self.entries}
        words = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
        words += b" " * (-len(words) % 8)
        return len(words).to_bytes(8, "little") + words


def seconds_to_write(folder: Path, size: int) -> float:
    """About how long `write_tensors` takes for so many bytes, from a sample of them that is written and removed.

    Args:
        folder: Where.
        size: Bytes. Where it is no larger than the sample, nothing is written and nothing expected.
    """
    if size <= SAMPLE:
        return 0.0
    sample, place = torch.frombuffer(bytearray(os.urandom(SAMPLE)), dtype=torch.uint8), folder / ".sample.tmp"
    start = time.monotonic()
    write_tensors(place, {"sample": sample}, None)
    seconds = time.monotonic() - start
    place.unlink(missing_ok=True)
    return seconds * size / SAMPLE


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


def check_plain(tensors: Mapping[str, Tensor], told: str) -> None:
    """Check that a safetensors file can hold all tensors.

    Raises:
        InputError: One is sparse, quantised, without values, or of another type of numbers.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in NAMES or tensor.layout != torch.strided or tensor.is_meta:
            kind = str(tensor.dtype if tensor.dtype not in NAMES else tensor.layout).removeprefix("torch.")
            raise InputError(
                f"{told}: {name} is {'without values' if tensor.is_meta else kind}, which no safetensors file holds. "
                "Keep plain tensors of a usual type in a state."
            )


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


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder against other processes; the lock goes when the process does, however it ends.

    Where the file system has no locks, that is told, and the folder is used without.

    Raises:
        InputError: Another process holds it, or it cannot be written to.
    """
    from filelock import FileLock, Timeout

    path = folder / "lock"
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        raise InputError(
            f"another process is working in {folder.parent}. Wait for it, or choose another --out."
        ) from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in LOCKLESS:
            raise unwritable(path, error) from error
        note(f"{folder.parent} lies on storage without locks. Let no other process work in it.", stacklevel=3)
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
                with path.open("rb") as file, draft_of(place) as copy:
                    shutil.copyfileobj(file, copy, 2**22)


def remove(path: Path) -> None:
    """Delete a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
