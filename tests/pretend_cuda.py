"""A pretended GPU for machines without one: numbers are computed on the CPU, devices are kept account of.

Within `pretended_cuda()`, `torch.device("cuda")` can be used as if there were one. Each tensor's memory is marked with
the device on which it would lie. What CUDA refuses is refused: an operation on tensors of both devices, a generator of
the other device, `numpy()` of a tensor on the GPU. What costs time on a GPU is counted, with the line of attar that
asked for it: copies from host to device, and waits of the host for the device (`item`, `cpu`, `nonzero`, a mask).

Two modes share the work. `_Asking` sees what Python asks of torch: it takes "cuda" out of the arguments, answers
`tensor.device`, and moves tensors. `_Running` sees each operation that torch then runs, those of the backward pass and
inside `torch.func` too: it checks the devices of what goes in, and marks what comes out.

What it does not see: kernels that CUDA has not, or computes otherwise; memory; anything about time but the counts; and
which device the Python of a backward pass of one's own asks for (what that makes counts as on the GPU).
"""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)

WAITS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "equal",
    "bincount",
}
"""Operations after which the host must know what the device has computed."""
ACROSS = {"copy_", "_foreach_copy_", "set_", "resize_"}
"""Operations that may join two devices."""
INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}
"""Operations whose indices are brought to the device of what is indexed."""
FROM_VALUES = {"tensor", "as_tensor", "asarray", "new_tensor"}
"""Functions that make a tensor of what lies on the host."""
LIFTED = {"lift_fresh", "lift", "detach", "alias"}


class MixedDevicesError(RuntimeError):
    """What CUDA would have refused."""


@dataclass
class Account:
    """What was asked of the pretended GPU: how often, by the place in attar that asked."""

    copies: Counter[str] = field(default_factory=Counter)
    """From host to device."""
    waits: Counter[str] = field(default_factory=Counter)
    """Of the host for the device."""
    made: int = 0
    """Tensors that were made on the device."""
    doubles: Counter[str] = field(default_factory=Counter)
    """Those of them in float64, which the GPUs of Macs lack."""


class _Memory:
    """Which memory lies on the pretended GPU, and which on a device that nobody can tell."""

    def __init__(self) -> None:
        # A weak reference keeps the address from being used again, so that no mark outlives its memory.
        self._marks: dict[int, tuple[StorageWeakRef, torch.device | None]] = {}

    def device_of(self, tensor: Tensor) -> torch.device | None:
        """Where a tensor lies; None where it cannot be told, which goes with anything."""
        return self._marks.get(_storage(tensor)._cdata, (None, CPU))[1]

    def mark(self, tensor: Tensor, device: torch.device | None) -> None:
        storage = _storage(tensor)
        if device == CPU:
            self._marks.pop(storage._cdata, None)
        else:
            self._marks[storage._cdata] = (StorageWeakRef(storage), device)


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    functorch = torch._C._functorch
    with torch._C.DisableTorchFunction():
        while functorch.is_functorch_wrapped_tensor(tensor):
            tensor = functorch.get_unwrapped(tensor)
        if tensor.layout == torch.sparse_coo:
            tensor = tensor._values()
        elif tensor.layout != torch.strided:
            tensor = tensor.values()
        return tensor.untyped_storage()


class _Generators:
    """Stands for `torch.Generator`: one of the pretended GPU is one of the CPU that is remembered."""

    def __init__(self) -> None:
        self.real, self._on_cuda = torch.Generator, {}

    def device_of(self, generator: torch.Generator) -> torch.device:
        return CUDA if generator._cdata in self._on_cuda else CPU

    def made(self, device: Any = "cpu") -> torch.Generator:
        generator = self.real("cpu")
        if torch.device(device).type == "cuda":
            self._on_cuda[generator._cdata] = generator  # kept, so that its address stays its own
        return generator

    def stand_in(self) -> type:
        """A class that makes them, and to which every generator belongs."""
        generators = self

        class Kind(type):
            def __instancecheck__(cls, thing: object) -> bool:
                return isinstance(thing, generators.real)

            def __call__(cls, device: Any = "cpu") -> Any:
                return generators.made(device)

        return Kind("Generator", (), {})


@dataclass
class _Call:
    """A function that Python has called: where its tensors lie, and the device that was asked for."""

    name: str
    devices: set[torch.device]
    asked: torch.device | None

    @property
    def home(self) -> torch.device | None:
        """Where a tensor lies that torch makes on the way, of no other tensor."""
        if self.asked is not None:
            return self.asked
        known = self.devices or {CPU}
        return next(iter(known)) if len(known) == 1 else None


class _Machine:
    """What both modes know."""

    def __init__(self) -> None:
        self.memory, self.generators, self.account = _Memory(), _Generators(), Account()
        self.calls: list[_Call] = []

    def copied(self, source: Tensor | None, *, what: str) -> None:
        if source is None or source.numel():
            self.account.copies[f"{what} {_place()}"] += 1

    def waited(self, what: str) -> None:
        self.account.waits[f"{what} {_place()}"] += 1

    def moved(self, tensor: Tensor, device: torch.device) -> Tensor:
        """A tensor on a device: itself, or a copy that gradients go through."""
        here = self.memory.device_of(tensor)
        if here is None or here == device:
            return tensor
        if device == CUDA:
            self.copied(tensor, what="to")
        else:
            self.waited("cpu")
        there = tensor.clone()
        self.memory.mark(there, device)
        return there


class _Asking(TorchFunctionMode):
    """Takes the pretended GPU out of what Python asks of torch, and answers for it."""

    def __init__(self, machine: _Machine) -> None:
        self.machine = machine

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if func is torch.device:
            return func(*args, **kwargs)
        if name == "__get__":
            return self._property(func, args)
        special = getattr(self, f"on_{name}", None)
        return special(func, args, kwargs) if special else self._called(name, func, args, kwargs)

    def _property(self, func: Any, args: Any) -> Any:
        name = func.__self__.__name__
        if name not in ("device", "is_cuda", "is_cpu"):
            return func(*args)
        device = self.machine.memory.device_of(args[0]) or CPU
        return device if name == "device" else (device == CUDA) == (name == "is_cuda")

    def _called(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        machine, found = self.machine, []
        args, kwargs = _without_cuda(args, found), _without_cuda(kwargs, found)
        given = list(_tensors((args, kwargs)))
        devices = {machine.memory.device_of(tensor) for tensor in given} - {None}
        machine.calls.append(_Call(name, devices, found[0] if found else None))
        try:
            made = func(*args, **kwargs)
        finally:
            machine.calls.pop()
        if found:
            made = self._placed(name, made, given, found[0])
        elif name == "new_tensor" and devices == {CUDA}:
            made = self._placed(name, made, [], CUDA)
        return made

    def _placed(self, name: str, made: Any, given: list[Tensor], device: torch.device) -> Any:
        """What a function has made, on the device that it was asked for."""
        memory = self.machine.memory
        theirs = {_storage(tensor)._cdata: memory.device_of(tensor) for tensor in given}
        if not isinstance(made, Tensor):
            return made
        if _storage(made)._cdata in theirs:
            return self.machine.moved(made, device)
        if name in FROM_VALUES and device == CUDA and CUDA not in theirs.values():
            self.machine.copied(made, what=name)
        memory.mark(made, device)
        return made

    # What is answered otherwise, by the name of the function

    def on_to(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        found: list[torch.device] = []
        (tensor, *rest), kwargs = _without_cuda(args, found), _without_cuda(kwargs, found)
        others = [one for one in (*rest, kwargs.get("other")) if isinstance(one, Tensor)]
        wanted = found[0] if found else self.machine.memory.device_of(others[0]) if others else None
        result = func(tensor, *rest, **kwargs)
        return result if wanted is None else self.machine.moved(result, wanted)

    def on_cuda(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        return self.machine.moved(args[0], CUDA)

    def on_cpu(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        return self.machine.moved(args[0], CPU)

    def on_tolist(self, func: Any, args: Any, kwargs: Any) -> Any:
        if self.machine.memory.device_of(args[0]) == CUDA:
            self.machine.waited("tolist")
        return func(*args, **kwargs)

    def on_numpy(self, func: Any, args: Any, kwargs: Any) -> Any:
        if self.machine.memory.device_of(args[0]) == CUDA:
            raise MixedDevicesError(f"can't convert a tensor on cuda to numpy; call cpu() first ({_place()})")
        return func(*args, **kwargs)

    on___array__ = on_numpy

    def on__parse_to(self, func: Any, args: Any, kwargs: Any) -> Any:
        found: list[torch.device] = []
        device, *rest = func(*_without_cuda(args, found), **_without_cuda(kwargs, found))
        return (found[0] if found else device, *rest)

    def on_get_device(self, func: Any, args: Any, kwargs: Any) -> int:
        return 0 if self.machine.memory.device_of(args[0]) == CUDA else -1

    def on___deepcopy__(self, func: Any, args: Any, kwargs: Any) -> Any:
        tensor, memo = args
        if type(tensor) is not Tensor or tensor.requires_grad:  # those are cloned; the memory of others is copied
            return func(*args, **kwargs)
        return memo.setdefault(id(tensor), tensor.clone())

    def on_is_pinned(self, func: Any, args: Any, kwargs: Any) -> bool:
        return False

    def on_pin_memory(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        return args[0]


class _Running(TorchDispatchMode):
    """Checks the devices of each operation that torch runs, and marks where its result lies."""

    def __init__(self, machine: _Machine) -> None:
        super().__init__()
        self.machine = machine

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        memory, name = self.machine.memory, func._schema.name.partition("::")[2]
        given = list(_tensors((args, kwargs)))
        places = [(tensor, memory.device_of(tensor)) for tensor in given]
        device = self._device(name, places, args, kwargs)
        self._count(name, places, args, kwargs)
        made = func(*args, **kwargs)
        theirs = {_storage(tensor)._cdata for tensor in given}
        for tensor in _tensors(made):
            if _storage(tensor)._cdata not in theirs:
                memory.mark(tensor, device)
                self.machine.account.made += device == CUDA
                if device == CUDA and tensor.dtype == torch.float64:
                    self.machine.account.doubles[f"{name} {_place()}"] += 1
        return made

    def _device(self, name: str, places: Any, args: Any, kwargs: Any) -> torch.device | None:
        """Where the result lies.

        Raises:
            MixedDevicesError: What goes in lies on both, and the operation cannot join them.
        """
        if name in INDEXING:
            places = self._indexed(name, places, args)
        large = {device for tensor, device in places if device == CUDA or (device and tensor.ndim)}
        if len(large) == 2 and name not in ACROSS:
            shapes = [(tuple(tensor.shape), str(device)) for tensor, device in places]
            raise MixedDevicesError(f"{name}: tensors on both devices, {shapes} ({_place()})")
        call = self.machine.calls[0] if self.machine.calls else _Call(name, set(), None)
        devices = {device for _, device in places}
        if name in ACROSS and places:
            device = places[0][1]
        elif not devices:
            device = call.home
        elif CUDA in devices:
            device = CUDA
        else:
            device = None if None in devices else CPU
        generator = kwargs.get("generator") or next((a for a in args if isinstance(a, torch.Generator)), None)
        if generator is not None and device and self.machine.generators.device_of(generator) != device:
            theirs = self.machine.generators.device_of(generator)
            raise MixedDevicesError(f"{name}: a generator on {theirs} for a tensor on {device} ({_place()})")
        return device

    def _indexed(self, name: str, places: Any, args: Any) -> Any:
        """What is left to be compared once indices are where they must be."""
        memory, (first, indices) = self.machine.memory, args[:2]
        home = memory.device_of(first)
        for index in (index for index in indices if index is not None):
            there = memory.device_of(index)
            if home == CPU and there == CUDA:
                raise MixedDevicesError(f"{name}: an index on cuda into a tensor on the CPU ({_place()})")
            if home == CUDA and there == CPU:
                self.machine.copied(index, what="index")
            filled = "put" in name and args[2].numel() == 1  # which CUDA does without looking for the places
            if home == CUDA and index.dtype in (torch.bool, torch.uint8) and not filled:
                self.machine.waited("mask")
        skipped = {id(index) for index in indices if index is not None}
        kept = [(tensor, device) for tensor, device in places if id(tensor) not in skipped]
        return [kept[0], *((tensor, device) for tensor, device in kept[1:] if tensor.numel() > 1)]

    def _count(self, name: str, places: Any, args: Any, kwargs: Any) -> None:
        if name == "copy_" and {device for _, device in places} == {CPU, CUDA}:
            if places[0][1] == CUDA:
                self.machine.copied(places[1][0], what="copy_")
            else:
                self.machine.waited("copy_")
        on_cuda = any(device == CUDA for _, device in places)
        counting = self.machine.calls and self.machine.calls[0].name == "one_hot"  # CUDA does not look at the classes
        repeats = name == "repeat_interleave" and kwargs.get("output_size") is None
        if on_cuda and not counting and (name in WAITS or repeats):
            self.machine.waited(name.lstrip("_"))


def _without_cuda(given: Any, found: list[torch.device]) -> Any:
    """Arguments with the CPU in place of each device; those that were named are found."""
    if isinstance(given, torch.device) or (isinstance(given, str) and given.partition(":")[0] in ("cpu", "cuda")):
        found.append(CUDA if str(given).startswith("cuda") else CPU)
        return CPU
    if isinstance(given, list):
        return [_without_cuda(one, found) for one in given]
    if type(given) is tuple:
        return tuple(_without_cuda(one, found) for one in given)
    if isinstance(given, dict):
        return {name: _without_cuda(one, found) for name, one in given.items()}
    return given


def _tensors(given: Any) -> Iterator[Tensor]:
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, (list, tuple)):
        for one in given:
            yield from _tensors(one)
    elif isinstance(given, dict):
        for one in given.values():
            yield from _tensors(one)


def _place() -> str:
    """The line of attar that is at work, or of its caller where there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if "/src/attar/" in file:
            return f"{file.rpartition('/src/attar/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def _on_this_machine() -> dict[str, Callable[..., Any]]:
    """What `torch.cuda` answers where there is a GPU."""
    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: "a pretended GPU",
        "get_device_capability": lambda device=None: (8, 0),
        "get_device_properties": lambda device=None: SimpleNamespace(name="a pretended GPU", total_memory=2**34),
        "is_bf16_supported": lambda including_emulation=True: including_emulation,
        "set_device": lambda device: None,
        "device": lambda device: contextlib.nullcontext(),
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: None,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "max_memory_allocated": lambda device=None: 0,
        "reset_peak_memory_stats": lambda device=None: None,
        "is_current_stream_capturing": lambda: False,
    }


@contextlib.contextmanager
def pretended_cuda() -> Iterator[Account]:
    """Within, there is a GPU; the account tells what was asked of it."""
    machine, fork = _Machine(), torch.random.fork_rng

    def fork_rng(devices: Any = None, *rest: Any, **settings: Any) -> Any:
        return fork([], *rest, **settings)

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch, "Generator", machine.generators.stand_in()))
        stack.enter_context(mock.patch.object(torch.random, "fork_rng", fork_rng))
        for name, answer in _on_this_machine().items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        stack.enter_context(_Running(machine))
        stack.enter_context(_Asking(machine))
        yield machine.account
