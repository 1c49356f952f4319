"""Errors of the machine and of libraries on one line, as the command prints them. Torch is not imported here."""

import errno
import re
from pathlib import Path

from attar.core.errors import FULL, LONGEST, OTHERS_ENDED, OthersEnded, with_short_words

HERE = Path(__file__).parents[1]
LIBRARIES = (
    "PIL.DecompressionBombError",
    "datasets.DatasetsError",
    "httpx.HTTPError",
    "huggingface_hub.HFValidationError",
    "huggingface_hub.HfHubHTTPError",
    "pyarrow.ArrowException",
    "ray.RayError",
    "safetensors.SafetensorError",
    "safetensors_rust.SafetensorError",
    "zipfile.BadZipFile",
    "zlib.error",
)
"""Errors by package and class that are about files, memory or the network, and not about how attar calls a library."""
MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""Words by which torch says, in errors of no class of its own, that there is not enough memory."""
TOO_LARGE = ("size calculation overflowed", "integer multiplication overflow", "array is too big", "allowed dimension")
"""Words of torch and NumPy for more elements than any machine could hold."""
GONE = ("closed by peer", "reset by peer", "broken pipe", "pair closure", "remote process exited", "comm was aborted")
"""Words of gloo, of NCCL and of the store when another process cannot be reached any more."""


def others_ended(error: BaseException) -> bool:
    """Whether an error says that another process of the run has ended."""
    text = str(error).lower()
    return isinstance(error, OthersEnded) or (isinstance(error, RuntimeError) and any(word in text for word in GONE))


def told(error: BaseException) -> str | None:
    """What went wrong, for errors of the machine and the listed ones of libraries; None for all others.

    An error of another kind is a mistake in attar.
    """
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    text = str(error).lower()
    if others_ended(error):
        return OTHERS_ENDED
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(word in text for word in MEMORY)):
        return f"there is not enough memory{_amount(error)}. Try smaller images, smaller batches or a smaller network."
    if isinstance(error, (RuntimeError, ValueError)) and any(word in text for word in TOO_LARGE):
        return f"this is too large for any memory ({_first_line(error)}). Lower the sizes."
    if isinstance(error, TypeError) and "mps" in text and "float64" in text:
        return "this computes in float64, which mps does not have. Give --device cpu."
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return f"a name is not valid UTF-8: {error.object[max(error.start - 30, 0) : error.end + 30]!a}. Rename it."
    if names.intersection(LIBRARIES):
        return f"{_first_line(error)} ({type(error).__name__})."
    return None


def _of_system(error: OSError) -> str:
    """The system's reason and the file, with what to do where that is always the same."""
    reason = error.strerror or _first_line(error) or type(error).__name__
    where = "" if error.filename is None else f" ({error.filename})"
    if error.errno in FULL:
        return f"the disk is full{where}. Make room, then run the same command again."
    if error.errno == errno.ENAMETOOLONG:
        return f"a path is too long{where}."
    return f"{reason[:1].lower()}{reason[1:]}{where}."


def _amount(error: BaseException) -> str:
    """How much was asked for, where the message says it."""
    found = re.search(r"allocate (\d+) bytes", str(error))
    if found:
        return f": {int(found[1]) / 1e9:,.1f} GB were asked for"
    found = re.search(r"allocate ([\d.]+ [KMGTP]iB)", str(error))
    return f": {found[1]} were asked for" if found else ""


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:LONGEST].rstrip(" .") if lines else type(error).__name__


def origin(error: BaseException) -> str:
    """An error with the place in attar where it came up: `KeyError: 'x', in attar/core/store.py, line 12`."""
    place, trace = "", error.__traceback__
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if path.is_relative_to(HERE):
            place = f", in {path.relative_to(HERE.parent)}, line {trace.tb_lineno}"
        trace = trace.tb_next
    words = f": {_first_line(error)}" if str(error).strip() else ""
    return f"{type(error).__name__}{words}{place}"


def on_one_line(text: str) -> str:
    """A message on one line, in which very long words are cut (see `with_short_words`).

    Characters that a terminal would obey, such as those of a file's name, are written as their codes.
    """
    line = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in " ".join(text.split()))
    return with_short_words(line)
