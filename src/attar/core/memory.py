"""The peak memory of a run: anonymous memory on a CPU, allocated tensors on a GPU."""

import os
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


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
