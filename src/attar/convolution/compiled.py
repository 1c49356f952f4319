"""Which machinery runs the sparse loops: Numba where it is installed, plain PyTorch where not."""

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

BLOCK = 64
"""Filters that one pass over the entries serves at most: an output of 17×17 places then fits the second-level cache."""
MATHS = {"contract", "reassoc", "arcp", "nsz"}
"""Liberties that the compiler may take with sums. Not that nothing is NaN: packing looks for that."""
LOOPS = ("encode_cpo", "multiply_cpo", "encode_cps", "multiply_cps", "pack_rows", "multiply_rows")

Choice = Literal["auto", "numba", "torch"]


@dataclass(frozen=True)
class Backend:
    """What runs the loops, and what there is to say about it."""

    name: str
    loops: Any = None
    """The functions of `loops.py`, compiled; None for PyTorch."""
    note: str = ""
    """Why it is not the fastest one; empty where it is."""


@lru_cache
def numba_loops() -> Any:
    """The functions of `loops.py`, each compiled when first called; None where Numba is not installed."""
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
    """Leave PyTorch its number of threads: where Numba starts its own, it sets that of the OpenMP both share."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def _with_threads(loop: Callable[..., Any], numba: Any) -> Callable[..., Any]:
    """The loop on as many threads as PyTorch uses."""

    def call(*given: Any) -> Any:
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        return loop(*given)

    return call


def _widest_registers(numba: Any) -> None:
    """Have LLVM use registers of 512 bits where there are some; by itself it takes 256, a tenth slower here.

    It is a setting of the whole process, so it is left alone where somebody else has brought Numba in.
    """
    features = importlib.import_module("llvmlite.binding").get_host_cpu_features().flatten()
    if "+avx512f" in features and numba.config.CPU_FEATURES is None:
        numba.config.CPU_FEATURES = f"{features},-prefer-256-bit"


def _parallel(function: Callable[..., Any], prange: Any) -> Callable[..., Any]:
    """The function with Numba's `prange`, without what a checker of types has wrapped around it."""
    bare = inspect.unwrap(function)
    return types.FunctionType(bare.__code__, {**bare.__globals__, "prange": prange}, bare.__name__)


def backend_of(choice: str) -> Backend:
    """What runs CPO and CPS.

    Raises:
        InputError: An unknown name, or Numba asked for and not installed.
    """
    if choice not in ("auto", "numba", "torch"):
        raise unknown("backend", choice, ("auto", "numba", "torch"))
    loops = numba_loops() if choice != "torch" else None
    if loops is not None:
        return Backend("numba", loops)
    if choice == "numba":
        raise InputError("numba is not installed: pip install 'attar[convolution]'.")
    note = "numba is not installed (pip install 'attar[convolution]'): sparse loops run on plain PyTorch, slowly."
    return Backend("torch", None, note if choice == "auto" else "")


def shares(filters: int) -> int:
    """Into how many blocks filters are cut: as many for each thread, none above `BLOCK`."""
    threads = torch.get_num_threads()
    each = -(-filters // (BLOCK * threads))
    return min(each * threads, filters)
