"""Teachers that accelerate has dealt out: they stay where they are, and their tensors come into memory one by one."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


def placed(teacher: nn.Module, device: torch.device) -> nn.Module:
    """A teacher on a device. One that accelerate has dealt out, or that is quantised, stays where it is."""
    places = set(getattr(teacher, "hf_device_map", {}).values())
    offloaded = any(parameter.device.type == "meta" for parameter in teacher.parameters())
    if len(places) > 1 or offloaded or getattr(teacher, "is_quantized", False):
        return teacher
    return teacher.to(device)


class Stored(Mapping[str, Tensor]):
    """The tensors of some models by name, each brought into memory only when it is looked at.

    Args:
        models: Models by what they are called; None for none.
    """

    def __init__(self, models: Mapping[str, nn.Module | None]) -> None:
        self._models = {who: model for who, model in models.items() if model is not None}
        self._places = {
            f"{who}/{name}": (who, name, tensor)
            for who, model in self._models.items()
            for name, tensor in model.state_dict().items()
        }

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __getitem__(self, key: str) -> Tensor:
        who, name, tensor = self._places[key]
        if tensor.device.type != "meta":
            return tensor
        from accelerate.utils import align_module_device

        home, _, own = name.rpartition(".")
        module = self._models[who].get_submodule(home)
        with align_module_device(module, "cpu"):
            found: Tensor = getattr(module, own).detach().clone()
        return found
