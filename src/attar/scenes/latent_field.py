"""A radiance field in the latent space of an autoencoder, with a layer that refines its maps: stage A of ED-NeRF.

All training views are encoded once. A field of latents is fitted to them by volume rendering, together with a
refinement layer that repairs whole rendered maps, because the latents of one point in space differ from view to view.
Prefer it where a scene is to be edited by a latent diffusion model: rendering stays at the resolution of the latents.
With refine_weight 0 it is a plain latent NeRF, and with the identity as its autoencoder an ordinary RGB NeRF.

Park, Kwon and Ye, ED-NeRF: Efficient Text-Guided Editing of 3D Scene with Latent Space NeRF, ICLR 2024,
arXiv:2310.02712. The field is a grid, as in Chen et al., TensoRF, ECCV 2022, arXiv:2203.09517.
"""

import copy
import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.memory import machine_bytes
from attar.core.runtime import Runtime
from attar.core.settings import Hidden, Range, Settings
from attar.core.state import rebuilt
from attar.core.training import next_rows, set_lr
from attar.images.networks.architecture import parameter_count
from attar.scenes.artefact import LatentField, Origin, ScenePart
from attar.scenes.fields import Form, GridBase, field_of, sizes_of
from attar.scenes.fixed import TrainingRays
from attar.scenes.refinement import Refinement
from attar.scenes.work import Work

Maps = Float[Tensor, "view channel height width"]


@dataclass
class Learning:
    """A field and its refinement layer in training."""

    field: GridBase
    refinement: Refinement | None
    optimizers: list[torch.optim.Optimizer]
    """Of the field, and of the refinement layer."""
    order: Int[Tensor, " row"]
    rays: TrainingRays = rebuilt()
    latents: Tensor = rebuilt()
    work: Work = rebuilt()
    done: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainLatentField(Settings):
    """Fit a field of latents with a layer that refines its maps (Park, Kwon and Ye, ICLR 2024, arXiv:2310.02712)."""

    steps: Annotated[int, Range(1)] = 600
    """Steps in all."""
    batch: Annotated[int, Range(1)] = 4
    """Batch size: views per step, each a whole map."""
    tensors: Form = "dense"
    """Tensors of the field: dense, vm (planes and lines), or cp (lines alone)."""
    voxels: Annotated[int, Range(2, 1024)] = 24
    """Voxels along the longest side of the box."""
    field_rank: Annotated[int, Range(1, 1024)] = 16
    """Components of a field of low rank."""
    ray_samples: Annotated[int, Range(1, 4096)] = 64
    """Intervals of each ray."""
    lr: Annotated[float, Range(0)] = 5e-2
    """Step size (learning rate) of the field, which falls to a tenth by equal factors."""
    refine_lr: Annotated[float, Range(0)] = 1e-3
    """Step size of the refinement layer, which falls in the same way."""
    refine_width: Annotated[int, Range(4, 1024)] = 32
    """C, channels of the refinement layer's blocks."""
    field_weight: Annotated[float, Range(0)] = 1.0
    """λ_rec, weight of the squared error of the field's own maps."""
    refine_weight: Annotated[float, Range(0)] = 1.0
    """λ_ref, weight of the squared error of refined maps. 0: no refinement layer, a plain latent NeRF."""
    refine_after: Annotated[float, Range(0, 1)] = 0.25
    """Share of the run in which the field learns alone."""
    variation_weight: Annotated[float, Range(0)] = 0.1
    """Weight of the total variation of the field's tensors."""
    sparse_rays: bool = True
    """Whether the rays of training views are kept as sparse matrices, which is faster and takes more memory."""
    views: Annotated[int, Hidden()] = 0
    """Number of training views; filled in from the data."""

    kind = "scenes"
    name = "latent-field"
    verb = "train"
    needs_autoencoder = True

    @property
    def total_steps(self) -> int:
        """Number of steps of the run."""
        return self.steps

    def resolve(self, work: Work, runtime: Runtime) -> Self:
        """The same settings with what follows from the data filled in."""
        if work.codec is None:
            raise InputError("a latent field needs an autoencoder. Give --autoencoder.")
        return dataclasses.replace(self, views=len(work.scene.train))

    def build(self, work: Work, runtime: Runtime) -> Learning:
        """The state before the first step."""
        scene, latents = work.scene, work.latents.to(runtime.device)
        channels, draw = latents.shape[1], runtime.generator("field")
        sizes = sizes_of(scene.box, self.voxels)
        if self.tensors == "dense":
            check_memory(sizes, channels)
        field = field_of(self.tensors, scene.box, sizes, channels, self.field_rank, draw)
        with torch.no_grad():
            field.background.copy_(latents.mean(dim=(0, 2, 3)))
        field = field.to(runtime.device)
        layer = None
        if self.refine_weight:
            layer = Refinement.drawn(channels, self.refine_width, runtime.generator("refinement")).to(runtime.device)
        poses = scene.train.poses.to(runtime.device)
        rays = TrainingRays(work.camera, poses, scene.near, scene.far, field, self.ray_samples, sparse=self.sparse_rays)
        learned = [(field, self.lr), *([] if layer is None else [(layer, self.refine_lr)])]
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(module.parameters(), rate, betas=(0.9, 0.99), fused=True) for module, rate in learned
        ]
        return Learning(field, layer, optimizers, torch.zeros(self.views, dtype=torch.long), rays, latents, work)

    def step(self, state: Learning, runtime: Runtime) -> Metrics:
        """Whole maps of a few views."""
        rows = next_rows(state.order, state.done, self.batch, runtime.generator("views"))
        rendered, wanted = state.rays.maps(state.field, rows.tolist()), state.latents[rows.to(state.latents.device)]
        alone = map_error(rendered, wanted)
        loss = self.field_weight * alone + self.variation_weight * state.field.variation()
        told = {"alone": alone.detach()}
        layer = state.refinement if state.done >= self.refine_after * self.total_steps else None
        if layer is not None:
            refined = map_error(layer(rendered), wanted)
            loss = loss + self.refine_weight * refined
            told["refined"] = refined.detach()
        self._descend(state, loss, refining=layer is not None)
        state.done += 1
        return {"loss": loss.detach(), **told}

    def _descend(self, state: Learning, loss: Tensor, *, refining: bool) -> None:
        fall = 0.1 ** (state.done / self.total_steps)
        active = state.optimizers if refining else state.optimizers[:1]
        for optimizer, rate in zip(active, (self.lr, self.refine_lr), strict=False):
            set_lr(optimizer, rate * fall)
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in active:
            optimizer.step()

    def result(self, state: Learning, runtime: Runtime) -> LatentField:
        """The field as it is now."""
        codec = state.work.codec
        assert codec is not None
        field, layer = kept(state.field), None if state.refinement is None else kept(state.refinement)
        count = parameter_count(field) + (0 if layer is None else parameter_count(layer))
        origin = Origin.made(state.work, self, runtime, parameters=count, autoencoder=state.work.codec_fingerprint)
        scene = ScenePart.of(state.work.scene)
        return LatentField(field, layer, codec, scene, self.ray_samples, codec.factor, origin)


def check_memory(sizes: tuple[int, int, int], channels: int) -> None:
    """Refuse a dense grid that this machine cannot hold.

    Args:
        sizes: Nodes along each axis.
        channels: Of the latents.

    Raises:
        InputError: Its values, their gradient and Adam's two means take more than all memory.
    """
    wanted, most = 16 * math.prod(sizes) * (1 + channels), machine_bytes()
    if most is not None and wanted > most:
        raise InputError(
            f"a dense field of {'×'.join(map(str, sizes))} voxels takes {wanted / 1e9:,.0f} GB in training, but this "
            f"machine has {most / 1e9:,.0f} GB. Lower --voxels, or give --tensors vm."
        )


def map_error(found: Maps, wanted: Maps) -> Float[Tensor, ""]:
    """Mean over rays of the squared distance of latents, ‖Z - Ẑ‖².

    Args:
        found: Ẑ, the rendered maps.
        wanted: Z, those of the encoder.
    """
    return (found - wanted).square().sum(dim=1).mean()


def kept(module: Any) -> Any:
    """A copy on the CPU, which later steps do not change."""
    made: nn.Module = copy.deepcopy(module).cpu().eval()
    return made.requires_grad_(False)
