"""The machine during a run: device, precision, compilation and random generators, for every method."""

import copy
import ctypes
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from attar.core import processes, tracking
from attar.core.errors import InputError
from attar.core.launcher import rank, size
from attar.core.machine import Engine as Engine
from attar.core.notes import Speaker
from attar.core.precision import DTYPES
from attar.core.prepared import Prepared
from attar.core.processes import ALONE, Processes
from attar.core.seeds import Generators
from attar.core.version import __version__

if TYPE_CHECKING:
    from attar.core.provenance import Call

COMPILE_WORTH_IT = 1e13
"""Multiply-adds in a run from which half a minute of compiling pays on a CPU. A count and not a clock, so that the
choice, and with it every byte of the result, is the same each time."""


NOT_THE_SAME = (
    "deterministic: the same seed gives the same bytes on this kind of GPU with these versions, except where gradients "
    "pass through turned or scaled images (grid_sample, interpolate), cumsum or adaptive pooling."
)
"""What PyTorch has no deterministic form of on a GPU."""


class Runtime:
    """An engine brought to life for one run with one seed."""

    def __init__(
        self,
        engine: Engine | None = None,
        seed: int = 0,
        *,
        say: Callable[[str], None] | None = None,
        call: "Call | None" = None,
    ) -> None:
        self.engine = engine or Engine()
        self.seed = seed
        self.call = call
        if self.engine.trackers and rank() == 0:
            tracking.check_installed(self.engine.trackers)
        self.device = _device(self.engine.device)
        self.processes: Processes = processes.current(cpu=self.device.type == "cpu")
        if self.device.type == "cuda" and self.processes.count > 1:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.generator = Generators(seed)
        self.prepared = Prepared()
        self.folder: Path | None = None
        """Where the run lies, for what a method writes once and never changes; none of a run in memory."""
        first = self.processes.first
        self.say: Callable[[str], None] = (say if isinstance(say, Speaker) else Speaker(say)) if first else _nothing
        self._compiles = False
        if self.device.type == "cpu":
            _keep_freed_memory()
        _check_graphs(self.engine, self.device)
        if self.device.type == "cuda":
            _set_up_gpu(self.engine, self.say)

    def with_seed(self, seed: int) -> "Runtime":
        """The same machine with the generators of another seed."""
        other = copy.copy(self)
        other.seed, other.generator = seed, Generators(seed)
        return other

    def alone(self) -> "Runtime":
        """The same machine for work that this process does by itself, whatever the others do."""
        return self.among(ALONE)

    def among(self, processes: Processes) -> "Runtime":
        """The same machine for work that some of the processes do together, whatever the others do."""
        other = self.with_seed(self.seed)
        other.processes = processes
        return other

    def eager(self) -> "Runtime":
        """The same machine, with the same generators, where nothing is compiled."""
        other = copy.copy(self)
        other._compiles = False
        return other

    def see_to_float64(self, worker: Any, what: str) -> None:
        """Leave a GPU that has no float64, as those of Macs, to work that can do without it.

        Args:
            worker: Settings of a method or a scoring; their `float64` says whether they compute in it on the device.
            what: What the work is called.

        Raises:
            InputError: That GPU was asked for by its name.
        """
        if self.device.type != "mps" or not getattr(worker, "float64", False):
            return
        if self.engine.device != "auto":
            raise InputError(f"{what} computes in float64, which mps does not have. Give --device cpu.")
        self.device = torch.device("cpu")
        self.say(f"{what} computes in float64, which mps does not have, and works on the CPU.")

    def restore_generators(self, states: dict[str, Tensor]) -> None:
        """Put the generators back where a checkpoint has them, a GPU's on the GPU that this process has now."""
        here = {name.replace(f"@{_any_gpu(name)}", f"@{self.device}"): state for name, state in states.items()}
        self.generator.load_state_dict(here)

    def plan(self, multiply_adds: float) -> None:
        """Say how much work the run is in all, which decides whether compiling pays."""
        pays = multiply_adds > COMPILE_WORTH_IT and self.device.type != "mps"  # whose compiler is young
        wanted = self.engine.compile == "on" or (self.engine.compile == "auto" and pays)
        self._compiles = wanted and self._can_compile()

    @property
    def compiles(self) -> bool:
        """Whether `compiled` compiles."""
        return self._compiles

    @property
    def _graphs(self) -> bool:
        return self.engine.cuda_graphs and self.device.type == "cuda"

    @property
    def forward_dtype(self) -> torch.dtype:
        """The precision of passes without a gradient."""
        if self.engine.precision != "auto":
            return DTYPES[self.engine.precision]
        if self.device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
        # Uncompiled, a CPU loses more in casting between layers than it gains in multiplying.
        return torch.bfloat16 if self._compiles and _multiplies_bfloat16() else torch.float32

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether the hardware multiplies bfloat16 natively."""
        if self.device.type == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        return self.device.type == "cpu" and _multiplies_bfloat16()

    def autocast(self, *, training: bool = False) -> AbstractContextManager[Any]:
        """Mixed precision as the engine has it, for passes with or without a gradient."""
        dtype = self._dtype(training)
        return nullcontext() if dtype == torch.float32 else torch.autocast(self.device.type, dtype=dtype)

    def _dtype(self, training: bool) -> torch.dtype:
        return DTYPES[self.engine.train_precision] if training else self.forward_dtype

    def compiled(self, function: Callable[..., Any], *, training: bool = False) -> Callable[..., Any]:
        """The function in the precision of passes with or without a gradient, compiled for fixed shapes if that pays.

        An error in compiling is not fatal: the function goes on as it is, and that is said.
        """
        fast: Callable[..., Any] | None = None
        if self._compiles:
            # A table of many runs compiles the same function for each; past its limit torch quietly stops compiling.
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 512)
            fast = torch.compile(function, dynamic=False, mode="reduce-overhead" if self._graphs else None)
        elif self._dtype(training) == torch.float32:
            return function

        def call(*args: Any) -> Any:
            nonlocal fast
            with self.autocast(training=training):  # outside, where it does not break the compiled graph
                if fast is None:
                    return function(*args)
                try:
                    made = fast(*args)
                    return tree_map(_kept, made) if self._graphs else made
                except Exception as error:  # whatever the compiler trips over, eager mode computes the same
                    if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                        raise
                    fast, self._compiles = None, False
                    self.say(f"torch.compile failed ({type(error).__name__}); continuing without it.")
                    return function(*args)

        return call

    def describe(self) -> dict[str, Any]:
        """What a card says of the machine: versions and hardware, no names and no times."""
        import platform

        gpu = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None
        return {
            "attar": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "device": gpu or f"{platform.machine()} {'GPU (mps)' if self.device.type == 'mps' else 'CPU'}",
            "threads": torch.get_num_threads(),
            "forward_precision": str(self.forward_dtype).removeprefix("torch."),
            "train_precision": self.engine.train_precision,
            "compiled": self._compiles,
            **self._on_a_gpu(),
        }

    def _on_a_gpu(self) -> dict[str, Any]:
        """What a card says further of a GPU."""
        if self.device.type != "cuda":
            return {}
        engine = self.engine
        return {"tf32": engine.tf32, "deterministic": engine.deterministic, "cuda_graphs": self._graphs}

    def _can_compile(self) -> bool:
        if self.device.type == "cpu" and not any(map(shutil.which, ("g++", "c++", "clang++"))):
            self.say("no C++ compiler was found, so nothing is compiled. To install one on Debian: apt install g++.")
            return False
        return True


def _nothing(line: str) -> None:
    """What the other processes say."""


def _check_graphs(engine: Engine, device: torch.device) -> None:
    """Refuse CUDA graphs where there are none.

    Raises:
        InputError: There is no CUDA device, or nothing is compiled.
    """
    if engine.cuda_graphs and device.type != "cuda":
        raise InputError(f"cuda_graphs needs a GPU of CUDA, but this run is on {device}. Do not set --cuda-graphs.")
    if engine.cuda_graphs and engine.compile == "off":
        raise InputError("cuda_graphs records what is compiled, but compile is off. Set --compile on.")


def _set_up_gpu(engine: Engine, say: Callable[[str], None]) -> None:
    """Tell PyTorch, for this process, how to compute on a GPU."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = engine.tf32
    torch.backends.cudnn.benchmark = not engine.deterministic
    if engine.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS adds up in any order
        say(NOT_THE_SAME)
    torch.use_deterministic_algorithms(engine.deterministic, warn_only=True)


def _kept(made: Any) -> Any:
    """What a CUDA graph has made, out of the memory that its next run writes to."""
    return made.clone() if isinstance(made, Tensor) else made


def _any_gpu(name: str) -> str:
    device = name.rsplit("@", 1)[1]
    return device if device.startswith("cuda") else "no GPU"


def _device(name: str) -> torch.device:
    if name == "auto":
        others = "mps" if torch.backends.mps.is_available() and size() == 1 else "cpu"
        return torch.device("cuda" if torch.cuda.is_available() else others)
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} is not available here ({reason}). Try --device cpu.") from None
    return device


@cache
def _keep_freed_memory() -> None:
    """Have glibc reuse large blocks instead of unmapping them.

    Handing the pages back and faulting them in again at every step takes half of an eager step's time.
    """
    with suppress(OSError, AttributeError, TypeError):  # what each system without glibc says
        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 2**31 - 1)
        for size in (2**30, 2**25):  # older versions take 32 MB at most
            if mallopt(mmap_threshold, size):
                break


def _multiplies_bfloat16() -> bool:
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    avx = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(amx() or avx())
