"""The network of a sampler in its folder: safetensors, and for a U-Net the folders that diffusers opens.

A student in boundary form is a whole `ConsistencyModelPipeline`: `model_index.json`, `scheduler` and `unet`. diffusers
names noise levels by their place on Karras' grid, so that of a student with other levels, and of a teacher, there is
`unet` alone.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attar.core import artefact as core
from attar.core import store
from attar.core.errors import InputError
from attar.core.kinds import imported
from attar.core.seeds import Generators
from attar.samplers.networks import network_named
from attar.samplers.schedules import karras
from attar.samplers.unet import UNet

WEIGHTS = "sampler.safetensors"
UNET = "unet/diffusion_pytorch_model.safetensors"
DRAFT = ".draft-"
GRIDS = (1000, 40, 18, *range(2, 257))
"""Numbers of levels of the grids among which that of a student is looked for."""
CLOSE = 1e-6


def write_network(folder: Path, made: Any) -> dict[str, Any]:
    """Write the parameters of a `Sampler`, and return what `artefact.json` says of them.

    Raises:
        InputError: The network is a module of the caller's own, which nothing could build again, or its parameters
            are not finite.
    """
    if made.network is None:
        raise InputError("a sampler with a network of one's own cannot be saved: name the network by words.")
    network = made.denoiser.network
    if isinstance(network, UNet):
        return write_unet(folder, made, network)
    return {"digest": store.write_tensors(folder / WEIGHTS, network.state_dict(), {})}


def read_network(folder: Path, facts: dict[str, Any], shape: tuple[int, ...], classes: int) -> nn.Module:
    """The inverse of `write_network`: the network by its words, with the stored parameters.

    Raises:
        InputError: A file is missing, damaged or altered, or the parameters are not finite.
    """
    if "digests" not in facts:
        tensors, _ = core.read_tensors(folder / WEIGHTS, facts["digest"])
    else:
        core.check_files(folder, [UNET], facts["digests"])
        tensors = {f"model.{name}": tensor for name, tensor in read_unet(folder / UNET).items()}
    network = network_named(facts["network"], shape, classes, Generators(0)("network"))
    network.load_state_dict(tensors)
    return network


def write_unet(folder: Path, made: Any, network: UNet) -> dict[str, Any]:
    """Write a U-Net as diffusers does, as a pipeline where the sampler is one.

    Returns:
        The digests of the files, and the places of the levels on the scheduler's grid for `timesteps=` of the pipeline.
    """
    for left_by_a_kill in folder.glob(f"{DRAFT}*"):
        store.remove(left_by_a_kill)
    store.check_finite(network.state_dict(), f"{folder / UNET} is not written")
    places = scheduled(made)
    with tempfile.TemporaryDirectory(prefix=DRAFT, dir=folder) as draft:
        if places is None:
            network.model.save_pretrained(Path(draft) / "unet", safe_serialization=True)
        else:
            pipeline(made, *places).save_pretrained(draft, safe_serialization=True)
        names = sorted(str(path.relative_to(draft)) for path in Path(draft).rglob("*") if path.is_file())
        digests = core.digests_of(Path(draft), names)
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (Path(draft) / name).replace(folder / name)
    return {"digests": digests, "timesteps": None if places is None else places[1]}


def read_unet(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file of diffusers, whose digest is checked before."""
    from safetensors.torch import load_file

    tensors = load_file(path)
    store.check_finite(tensors, f"{path} is of a run that diverged")
    return tensors


def pipeline(made: Any, grid: int, places: list[int]) -> Any:
    """A student as diffusers' `ConsistencyModelPipeline`, on the CPU.

    The scheduler works in float32, in which it subtracts σ_min² from the square of a level that is cut to σ_min. σ_min
    is rounded to float32 first, since the root of what is left would otherwise not be a number.

    Args:
        made: A `Sampler` with a U-Net in boundary form.
        grid: Number of levels of the scheduler's grid.
        places: Those of the sampler's levels on it.
    """
    low, high = made.grid.ends
    scheduler = imported("diffusers:CMStochasticIterativeScheduler", "samplers")(
        num_train_timesteps=grid,
        sigma_min=float(torch.tensor(low)),
        sigma_max=high,
        sigma_data=made.denoiser.sigma_data,
        rho=made.grid.rho,
        clip_denoised=made.clamp,
    )
    whole = imported("diffusers:ConsistencyModelPipeline", "samplers")
    return whole(unet=made.denoiser.network.model, scheduler=scheduler)


def scheduled(made: Any) -> tuple[int, list[int]] | None:
    """The number of levels of a grid of diffusers' scheduler, and the places of a student's levels on it, descending.

    None of a sampler that is no pipeline: one in EDM's form, of images that are not square, or of levels on no grid.
    """
    square = len(made.shape) == 3 and made.shape[1] == made.shape[2]
    if made.solver != "few-step" or not square or made.grid.schedule != "karras":
        return None
    low, high = made.grid.ends
    if made.denoiser.boundary != low:
        return None
    levels = made.levels()
    for count in GRIDS:
        grid = karras(count, low, high, made.grid.rho)
        gaps = (grid.log() - levels.log()[:, None]).abs()
        if (gaps.amin(dim=1) < CLOSE).all():
            return count, gaps.argmin(dim=1).flip(0).tolist()
    return None
