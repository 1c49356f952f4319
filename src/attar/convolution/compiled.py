"""The backend of the sparse loops: Numba if it is installed, otherwise plain PyTorch."""

import importlib
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch

from attar.convolution import loops as plain
from attar.core.errors import InputError, unknown
from attar.core.extras import install

BLOCK = 64
"""Largest number of filters in one pass over the entries. An output of 17×17 then fits the second-level cache."""
MATHS = {"contract", "reassoc", "arcp", "nsz"}
"""Fast-math flags for the compiler. The flag that excludes NaN is missing, because packing looks for NaN."""
LOOPS = ("encode_cpo", "multiply_cpo", "encode_cps", "multiply_cps", "pack_rows", "multiply_rows")

Choice = Literal["auto", "numba", "torch"]


@dataclass(frozen=True)
class Backend:
    """The backend that runs the loops, and a note about it."""

    name: str
    loops: Any = None
    """Compiled functions of `loops.py`; None for PyTorch."""
    note: str = ""
    """Reason why it is not the fastest backend; empty if it is."""


@lru_cache
def numba_loops() -> Any:
    """The functions of `loops.py`, each compiled at its first call; None if Numba is not installed."""
    fresh = "numba" not in sys.modules
    try:
        numba = importlib.import_module("numba")
    except ImportError:
        return None
    if fresh:
        _widest_registers(numba)
    compile_ = numba.njit(parallel=True, fastmath=MATHS, cache=True, error_model="numpy")
    with _same_threads():
        numba.set_num_threads(1)
    fast = {name: compile_(_parallel(getattr(plain, name), numba.prange)) for name in LOOPS}
    return types.SimpleNamespace(**{name: _with_threads(loop, numba) for name, loop in fast.items()})


@contextmanager
def _same_threads() -> Iterator[None]:
    """Keep PyTorch's number of threads. Both share one OpenMP, and Numba changes its number when it starts threads."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def _with_threads(loop: Callable[..., Any], numba: Any) -> Callable[..., Any]:
    """The loop, running on as many threads as PyTorch uses."""

    def call(*given: Any) -> Any:
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        return loop(*given)

    return call


def _widest_registers(numba: Any) -> None:
    """Make LLVM use registers of 512 bits if the processor has them. By default it uses 256 bits, a tenth slower here.

    The setting applies to the whole process, so it is not changed if other code has imported Numba.
    """
    features = importlib.import_module("llvmlite.binding").get_host_cpu_features().flatten()
    if "+avx512f" in features and numba.config.CPU_FEATURES is None:
        numba.config.CPU_FEATURES = f"{features},-prefer-256-bit"


def _parallel(function: Callable[..., Any], prange: Any) -> Callable[..., Any]:
    """The function with Numba's `prange`, without the wrapper of a type checker."""
    bare = inspect.unwrap(function)
    return types.FunctionType(bare.__code__, {**bare.__globals__, "prange": prange}, bare.__name__)


def backend_of(choice: str) -> Backend:
    """The backend for CPO and CPS.

    Raises:
        InputError: The name is unknown, or is numba although Numba is not installed.
    """
    if choice not in ("auto", "numba", "torch"):
        raise unknown("backend", choice, ("auto", "numba", "torch"))
    loops = numba_loops() if choice != "torch" else None
    if loops is not None:
        return Backend("numba", loops)
    if choice == "numba":
        raise InputError(f"numba is not installed: {install('convolution')}.")
    note = f"numba is not installed ({install('convolution')}): sparse loops run on plain PyTorch, slowly."
    return Backend("torch", None, note if choice == "auto" else "")


def shares(filters: int) -> int:
    """Number of blocks into which filters are divided: equally many per thread, and no block above `BLOCK` filters."""
    threads = torch.get_num_threads()
    each = -(-filters // (BLOCK * threads))
    return min(each * threads, filters)
