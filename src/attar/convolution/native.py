"""Build `sparse.cpp` once with the compiler of the machine, keep the library in attar's cache, and load it.

There is one library each for AVX-512, AVX2 and other processors. attar selects one when it runs, so machines may share
a cache. The library uses the OpenMP threads that PyTorch has started, not a second set of threads.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from attar.core import cache, store
from attar.core.errors import InputError

SOURCE = Path(__file__).with_name("sparse.cpp")
FLAGS = {
    "AVX512": ("-march=skylake-avx512", "-mprefer-vector-width=512"),
    "AVX2": ("-march=haswell",),
}
"""Compiler flags for each kind of processor, by PyTorch's name. Other processors use the compiler's default."""
PATIENCE = 120
"""Longest time that a compiler may take, in seconds."""


class Shape(ctypes.Structure):
    """The struct of the same name in `sparse.cpp`."""

    _fields_ = [
        (name, ctypes.c_int32)
        for name in (
            *("images", "channels", "height", "width", "filters", "out_height", "out_width"),
            *("kernel_height", "kernel_width", "stride_down", "stride_right", "pad_down", "pad_right"),
            *("slab", "slabs", "vectors", "blocks", "tile", "threads"),
        )
    ]


@dataclass(frozen=True)
class Library:
    """The compiled kernel, or the reason why there is none."""

    functions: Any
    why: str = ""


@lru_cache
def library() -> Library:
    """The kernel for this processor, from the cache or compiled now, which takes a second or two."""
    compiler = find_compiler()
    if compiler is None:
        return Library(None, "no C++ compiler was found (on Debian: apt install g++)")
    try:
        kernel = build(compiler, capability(), store.cache_folder() / "kernels")
        cache.use(kernel)
        return Library(_load(kernel))
    except (InputError, OSError, subprocess.SubprocessError) as error:
        return Library(None, f"the C++ compiler did not build the kernel ({_last_line(error)})")


def find_compiler() -> list[str] | None:
    """The C++ compiler in `$CXX`, or else the first of g++, c++ and clang++ that is installed."""
    asked = shlex.split(os.environ.get("CXX", ""))
    for words in (asked, ["g++"], ["c++"], ["clang++"]):
        if words and shutil.which(words[0]):
            return words
    return None


def capability() -> str:
    """The kind of processor that PyTorch reports: AVX512, AVX2, or another."""
    return torch.backends.cpu.get_cpu_capability()


def build(compiler: list[str], kind: str, folder: Path) -> Path:
    """Compile the kernel for a kind of processor if the folder does not have it, and return its path.

    Raises:
        InputError: The kernel that is there may be somebody else's.
        subprocess.SubprocessError: The compiler failed or took too long.
    """
    flags = ["-std=c++17", "-O3", "-fPIC", "-ffp-contract=fast", *FLAGS.get(kind, ())]
    threads = _openmp()
    key = [SOURCE.read_bytes(), *(word.encode() for word in (*compiler, *flags, str(threads), platform.machine()))]
    path = folder / f"sparse-{hashlib.blake2b(b'/'.join(key), digest_size=12).hexdigest()}.so"
    if path.exists():
        store.check_own(path)
        return path
    store.make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        part, whole = Path(scratch) / "sparse.o", Path(scratch) / "sparse.so"
        _run([*compiler, *flags, *(["-fopenmp"] if threads else []), "-c", str(SOURCE), "-o", str(part)])
        _run([*compiler, "-shared", str(part), *([str(threads)] if threads else []), "-o", str(whole)])
        whole.replace(path)
    return path


def _openmp() -> Path | None:
    """The OpenMP library that this process has loaded with PyTorch. Without it the kernel runs on one thread."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return None
    files = {line.split(maxsplit=5)[-1] for line in maps.read_text(encoding="utf-8").splitlines() if "/" in line}
    return next((Path(file) for file in sorted(files) if Path(file).name.startswith("libgomp")), None)


def _load(path: Path) -> Any:
    functions = ctypes.CDLL(str(path))
    functions.convolve.argtypes = [ctypes.POINTER(Shape), *[ctypes.c_void_p] * 7]
    functions.convolve.restype = functions.lanes.restype = ctypes.c_int
    return functions


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)


def _last_line(error: BaseException) -> str:
    """The most informative line of an error."""
    said = str(getattr(error, "stderr", None) or error).splitlines()
    return next((line.strip() for line in said if "error" in line.lower()), said[0] if said else type(error).__name__)
