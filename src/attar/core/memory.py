"""The memory of a run: its peak (anonymous memory on a CPU, allocated tensors on a GPU), and what may stay on a GPU."""

import os
import weakref
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
KEPT_SHARE = 0.25
"""Share of a device's memory in which all data together may be kept beside a run."""


def anonymous_bytes() -> int | None:
    """Memory that this process holds and no file backs (so no mapped pages); None where the system does not tell."""
    if not STATUS.exists():
        return None
    line = next((line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("RssAnon")), None)
    return int(line.split()[1]) * 1024 if line else None


def machine_bytes() -> int | None:
    """All memory of this machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


_promised: dict[tuple[str, int], dict[tuple[int, str], int]] = {}
"""For each device, how many bytes each owner may keep there."""


def may_stay_on(device: torch.device, size: int, owner: object, what: str = "") -> bool:
    """Whether data of so many bytes may be kept in a device's memory, beside those of all other owners.

    If they may, they count until their owner is gone.

    Args:
        device: The device.
        size: Bytes of the data.
        owner: The object that keeps them.
        what: Which of its data. The answer for the same data stays the same.
    """
    if device.type == "cpu":
        return False
    on_gpu = device.type == "cuda"
    whole = torch.cuda.get_device_properties(device).total_memory if on_gpu else machine_bytes()
    promised, key = _promised.setdefault((device.type, device.index or 0), {}), (id(owner), what)
    if promised.get(key, -1) >= size:
        return True
    others = sum(promised.values()) - promised.get(key, 0)
    if whole is not None and others + size > KEPT_SHARE * whole:
        return False
    if key not in promised:
        weakref.finalize(owner, promised.pop, key, None)
    promised[key] = size
    return True


class PeakMemory:
    """The most that was seen, looking from time to time (on a GPU the allocator itself keeps watch)."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes: int | None = None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def look(self) -> None:
        """Look now."""
        on_gpu = self.device.type == "cuda"
        now = torch.cuda.max_memory_allocated(self.device) if on_gpu else anonymous_bytes()
        if now is not None:
            self.bytes = max(now, self.bytes or 0)
