"""Where a large teacher lies: dealt to GPUs, the CPU's memory and a folder by accelerate; and its precision.

This file does not import torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from attar.core.errors import InputError, shortened
from attar.core.settings import Settings, Words


@dataclass(frozen=True, kw_only=True)
class Teacher(Settings):
    """A teacher: which model, where its parameters lie, and in which precision."""

    itself: ClassVar[str] = "model"

    model: Annotated[Any, Words()] = None
    """A trained network: folder or hub name of a causal model. It is read by transformers. Without it a student is
    trained alone."""
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = None
    """How the teacher's layers are dealt to the GPUs, as `device_map` of transformers: auto fills one after the other,
    balanced_low_0 leaves the first GPU to the student. What does not fit goes to the CPU's memory, then to
    --teacher.offload. Default: the whole teacher on the device of the run; auto with one of the next two settings."""
    memory: tuple[str, ...] = ()
    """Most memory that the teacher may take on each device: 0=20GiB 1=20GiB cpu=64GiB. Default: what is free."""
    offload: str | None = None
    """Folder for layers of the teacher that fit nowhere else. They are read from disk in every pass, from the teacher's
    own files where their form allows it."""
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    """Precision in which the teacher is read. Default: that of its file."""

    @property
    def asks(self) -> bool:
        """Whether a place or a precision is set."""
        return self.deals or self.precision is not None

    @property
    def deals(self) -> bool:
        """Whether the teacher is dealt to several places."""
        return bool(self.device_map or self.memory or self.offload)

    def arguments(self) -> dict[str, Any]:
        """What `from_pretrained` is given.

        Raises:
            InputError: The memory of a device is not of the form DEVICE=SIZE, a device is named twice or is not there,
                or the folder cannot be used.
        """
        given: dict[str, Any] = {"dtype": self.precision} if self.precision else {}
        if not self.deals:
            return given
        given["device_map"] = self.device_map or "auto"
        if self.memory:
            several = [_memory(word) for word in self.memory]
            given["max_memory"] = dict(several)
            if len(given["max_memory"]) < len(several):
                raise InputError("--teacher.memory names a device twice. Give each one once.")
            _check_gpus(given["max_memory"])
        if self.offload is not None:
            given["offload_folder"] = str(_usable(Path(self.offload).expanduser()))
        return given


def check_alone(teacher: Teacher, processes: int) -> None:
    """Check that a teacher on several GPUs is not dealt out by several processes, each of which would take them all.

    Raises:
        InputError: It would be.
    """
    if teacher.deals and processes > 1:
        raise InputError(
            f"--teacher.device-map deals one teacher to all GPUs, but there are {processes} processes. Start one "
            "process, or leave the teacher whole on each GPU."
        )


def _memory(word: str) -> tuple[int | str, int]:
    """A device and its number of bytes: `0=20GiB`, `cpu=64GiB`."""
    from accelerate.utils.modeling import convert_file_size_to_int

    device, _, size = word.partition("=")
    try:
        if not (device.isdigit() or device in ("cpu", "disk")):
            raise ValueError
        count = int(convert_file_size_to_int(size))
        if count < 0:
            raise ValueError
        return int(device) if device.isdigit() else device, count
    except ValueError:
        raise InputError(
            f"--teacher.memory {shortened(word)!r} is not DEVICE=SIZE. Give the number of a GPU or cpu, and a size: "
            "0=20GiB cpu=64GiB."
        ) from None


def _check_gpus(memory: Mapping[int | str, int]) -> None:
    """Check that the GPUs that are named are there.

    Raises:
        InputError: One is not.
    """
    import torch

    count = torch.accelerator.device_count() if hasattr(torch, "accelerator") else torch.cuda.device_count()
    away = [device for device in memory if isinstance(device, int) and device >= count]
    if away:
        there = (
            f"there are GPUs 0 to {count - 1}" if count > 1 else "there is GPU 0 alone" if count else "there is no GPU"
        )
        raise InputError(f"--teacher.memory names GPU {away[0]}, but {there} here. Give what is there, or cpu.")


def _usable(folder: Path) -> Path:
    from attar.core.store import make_folder

    if folder.exists() and not folder.is_dir():
        raise InputError(f"--teacher.offload {folder} is a file. Give a folder.")
    make_folder(folder)
    return folder
