"""Small teachers and scenes for the tests of edits."""

import functools
from typing import Any

from attar.core.runtime import Engine, Runtime
from attar.samplers.edm import EDM
from attar.samplers.teaching import Work

ENGINE = Engine(device="cpu", compile="off", quiet=True)


@functools.cache
def digits() -> Any:
    """The digits, as samples."""
    from attar.samplers.reading import Reading

    return Reading().load("digits")


def trained(source: Any, **settings: Any) -> Any:
    """A diffusion model of a source that has learned for a few steps."""
    runtime, work = Runtime(ENGINE, 0), Work(source)
    given: dict[str, Any] = {"network": "mlp:width=16,depth=1", "steps": 3, "batch": 32, **settings}
    method = EDM(**given).resolve(work, runtime)
    state = method.build(work, runtime)
    for _ in range(method.total_steps):
        method.step(state, runtime)
    return method.result(state, runtime)


@functools.cache
def teacher(dropout: float = 0.0) -> Any:
    """A small teacher of digits."""
    return trained(digits(), label_dropout=dropout)


@functools.cache
def objects() -> Any:
    """Six small views of an object, two of them held out, and views of all classes."""
    from attar.scenes.simulated import simulated

    return simulated("objects", 16, 6, 2)


@functools.cache
def field() -> Any:
    """A latent field of the object that has learned for a few steps."""
    import torch

    from attar.scenes.codecs import codec_named
    from attar.scenes.latent_field import TrainLatentField
    from attar.scenes.work import Work as SceneWork

    codec = codec_named("conv:width=8,latents=2,halvings=1", torch.Generator().manual_seed(2))
    work, runtime = SceneWork(objects(), codec.eval().requires_grad_(False)), Runtime(ENGINE, 0)
    method = TrainLatentField(voxels=6, steps=8, batch=2, ray_samples=8, refine_width=8).resolve(work, runtime)
    state = method.build(work, runtime)
    for _ in range(method.total_steps):
        method.step(state, runtime)
    return method.result(state, runtime)


@functools.cache
def scene_teacher() -> Any:
    """A small teacher of the object's latents."""
    from attar.scenes.work import latents_of

    return trained(latents_of(objects(), field().autoencoder), label_dropout=0.1)
