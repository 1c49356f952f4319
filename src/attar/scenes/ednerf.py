"""ED-NeRF: edit a scene by its latent field, with the gradient of a diffusion model and a prompt before and after.

Stage B of the paper. A latent field (stage A, `latent-field`) is rendered at a training pose and refined; DDS moves the
map from the source prompt to the target prompt, within a mask; outside it, the field is held to the latents of the
pictures. Prefer it where something in a photographed scene is to become something else and the rest must stay. With
`--score sds` it is the plain or masked SDS that the paper compares with. `ed-nerf-refit` is the other rival: every view
is edited by itself, in two dimensions, and the field is then fitted to what came out, as in the dataset updates of
Instruct-NeRF2NeRF (Haque et al., ICCV 2023, arXiv:2303.12789).

JangHo Park, Gihyun Kwon and Jong Chul Ye, ED-NeRF: Efficient Text-Guided Editing of 3D Scene with Latent Space NeRF,
ICLR 2024, arXiv:2310.02712. No code was released: the numbers here are ours, but for those of DDS.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core import store
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Hidden, Range
from attar.core.state import rebuilt
from attar.core.training import next_rows
from attar.images.networks.architecture import parameter_count
from attar.samplers.schedules import Levels
from attar.samplers.sources import Source
from attar.scenes.artefact import LatentField, Origin
from attar.scenes.edit import mask_digest, mask_for
from attar.scenes.editing import (
    Editing,
    Prompts,
    check_latents,
    rms,
    teacher_digest,
    teacher_levels,
    teacher_named,
)
from attar.scenes.fields import GridBase
from attar.scenes.fixed import TrainingRays
from attar.scenes.latent_field import kept
from attar.scenes.refinement import Refinement
from attar.scenes.scores import Mask, masked, surrogate
from attar.scenes.sources import Scene
from attar.scenes.work import Work, latents_of

Maps = Float[Tensor, "view channel height width"]


@dataclass(frozen=True)
class EditWork:
    """A scene with its latent field, the teacher that edits it, and where it may."""

    scene: Scene
    field: LatentField
    teacher: Any
    mask: Any = None
    """None: the scene's own mask, or where the prompts differ; otherwise as `mask_for` takes it."""

    @cached_property
    def base(self) -> Work:
        """The scene with the autoencoder of the field."""
        assert self.field.autoencoder is not None
        return Work(self.scene, self.field.autoencoder)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of scene, field, teacher and mask."""
        return teacher_digest(self.teacher, self.scene.fingerprint, field_digest(self.field), mask_digest(self.mask))

    @property
    def name(self) -> str:
        """The name of the scene."""
        return self.scene.name

    @property
    def prompt(self) -> str | None:
        """The source prompt where none is given: the class of the scene."""
        return class_of(self.scene)

    def __str__(self) -> str:
        return str(self.scene)


@dataclass
class Editor:
    """A field in the middle of an edit."""

    field: GridBase
    refinement: Refinement | None
    optimizer: torch.optim.Optimizer
    order: Int[Tensor, " row"]
    maps: Maps
    """Maps that are edited in two dimensions, by `ed-nerf-refit`; else empty."""
    done: int = 0
    rays: TrainingRays = rebuilt(default=None)
    latents: Maps = rebuilt(default=None)
    """Z, the latents of the training pictures."""
    before: Maps = rebuilt(default=None)
    """Maps of the training views before the edit."""
    mask: Mask | None = rebuilt(default=None)
    prompts: Prompts = rebuilt(default=None)
    levels: Levels = rebuilt(default=None)
    work: EditWork = rebuilt(default=None)


@dataclass(frozen=True, kw_only=True)
class EdNeRF(Editing):
    """An edit of a scene by its latent field, with the gradient of a diffusion model between two prompts.

    Park, Kwon and Ye, ICLR 2024, arXiv:2310.02712. Prefer it where one thing in a scene is to change and the rest to
    stay.
    """

    steps: Annotated[int, Range(1)] = 500
    """Steps in all."""
    batch: Annotated[int, Range(1)] = 4
    """Batch size: views per step, each a whole map."""
    lr: Annotated[float, Range(0)] = 1e-2
    """Step size (learning rate) of the field."""
    edit_refinement: bool = False
    """Whether the refinement layer learns too. Otherwise it stays as it was trained."""
    compared_with: Literal["rendered", "encoded"] = "rendered"
    """Source of DDS: the field's own maps before the edit (rendered), or the latents of the pictures (encoded)."""
    edit_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the edit's gradient, per pixel of the latents."""
    keep_outside: Annotated[float, Range(0)] = 1.0
    """λ_om, weight of the squared error of latents outside the mask."""
    keep_inside: Annotated[float, Range(0)] = 0.0
    """λ_im, weight of the same inside the mask."""
    variation_weight: Annotated[float, Range(0)] = 0.01
    """Weight of the total variation of the field's tensors."""
    mask_growth: Annotated[int, Range(0, 1000)] = 1
    """Pixels of the latents by which a mask is made larger on every side."""
    views: Annotated[int, Hidden()] = 0
    """Number of training views; filled in from the data."""

    name = "ed-nerf"
    usual_guidance = {"classes": 3.0, "texts": 7.5}  # noqa: RUF012

    @property
    def total_steps(self) -> int:
        """Number of steps of the run."""
        return self.steps

    def prepared(self, source: Any, task: Any, runtime: Runtime) -> EditWork:
        """The scene with the field and the teacher that a task names.

        Raises:
            InputError: The data are no scene, the field is of another scene, or there is no such teacher.
        """
        if not isinstance(source, Scene):
            raise InputError(f"{self.name} edits scenes, such as objects; {source.name} is none. Use image-edit.")
        self.checked(task, source.name, source.classes, class_of(source))
        field = task.field_of(source, runtime)
        field.scene.check(source)
        if field.autoencoder is None:
            raise InputError("the field has no autoencoder at hand, so that its latents cannot be edited.")
        latents: Source = latents_of(source, field.autoencoder)
        teacher = teacher_named(task.teacher.network, latents, runtime, steps=task.teacher.steps, guided=self.guided)
        check_latents(teacher, field.autoencoder, source.train.images[:1])
        return EditWork(source, field, teacher, task.mask)

    def resolve(self, work: EditWork, runtime: Runtime) -> Self:
        """The same settings with the source prompt filled in, after prompts and teacher were looked at.

        Raises:
            InputError: A prompt is missing or unknown, or the teacher has no unconditional branch for guidance.
        """
        self.prompts(work.teacher, work.prompt)
        prompt, guidance = self.source_prompt or work.prompt, self.guided_by(work.teacher)
        return dataclasses.replace(self, source_prompt=prompt, guidance=guidance, views=len(work.scene.train))

    def build(self, work: EditWork, runtime: Runtime) -> Editor:
        """The field as stage A has left it."""
        where, made = runtime.device, work.field
        field, layer = made.thawed()
        field = field.to(where)
        learned = [*field.parameters()]
        if layer is not None:
            layer = layer.to(where).requires_grad_(self.edit_refinement)
            learned += [*layer.parameters()] if self.edit_refinement else []
        optimizer = torch.optim.Adam(learned, self.lr, betas=(0.9, 0.99), fused=True)
        poses = work.scene.train.poses.to(where)
        rays = TrainingRays(made.camera, poses, made.near, made.far, field, made.samples)
        latents, prompts = work.base.latents.to(where), self.prompts(work.teacher, work.prompt)
        state = Editor(field, layer, optimizer, torch.zeros(self.views, dtype=torch.long), latents[:0].clone())
        state.rays, state.latents, state.work, state.prompts = rays, latents, work, prompts
        state.levels = teacher_levels(work.teacher)
        with torch.no_grad():
            rows = range(self.views)
            state.before = torch.cat([self.refined(state, rays.maps(field, [row])) for row in rows])
        state.mask = self.masks(work, state.before)
        return state

    def masks(self, work: EditWork, before: Maps) -> Mask | None:
        """The masks of the training views, on the pixels of latents.

        Args:
            work: The scene, its field and its teacher.
            before: Maps of the training views before the edit.
        """
        given = work.mask
        if given is None:
            given = "difference" if work.scene.masks is None else work.scene.masks
        prompts, levels = self.prompts(work.teacher, work.prompt), teacher_levels(work.teacher)
        return mask_for(self, given, before, work.scene.train.images, work.teacher, prompts, levels)

    @staticmethod
    def refined(state: Editor, maps: Maps) -> Maps:
        """Maps through the refinement layer, where there is one."""
        found: Tensor = maps if state.refinement is None else state.refinement(maps)
        return found

    def source(self, state: Editor, rows: Tensor) -> Maps:
        """z_src of views."""
        return (state.before if self.compared_with == "rendered" else state.latents)[rows]

    def step(self, state: Editor, runtime: Runtime) -> Metrics:
        """A few views: the edit's gradient within the mask, and the squared error of latents outside it."""
        rows = self.rows(state, runtime)
        rendered = state.rays.maps(state.field, rows.tolist())
        refined = self.refined(state, rendered)
        gradient = self.gradient(
            refined.detach(), self.source(state, rows), state.work.teacher, state.prompts, state.levels, runtime
        )
        mask = None if state.mask is None else state.mask[rows]
        gradient = masked(gradient, mask)
        pixels = refined[:, 0].numel()
        loss = self.edit_weight * surrogate(refined, gradient) / pixels
        held = kept_loss(rendered, refined, state.latents[rows], mask, self.keep_inside, self.keep_outside)
        loss = loss + held + self.variation_weight * state.field.variation()
        self.descend(state, loss)
        moved = rms(refined.detach(), state.before[rows])
        return {"gradient": gradient.square().mean().sqrt(), "kept": held.detach(), "moved": moved}

    def rows(self, state: Editor, runtime: Runtime) -> Tensor:
        """The views of the next step: every one once in each pass."""
        return next_rows(state.order, state.done, self.batch, runtime.generator("views"))

    def descend(self, state: Editor, loss: Tensor) -> None:
        """One step of the optimiser."""
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        state.done += 1

    def result(self, state: Editor, runtime: Runtime) -> LatentField:
        """The field as it is now."""
        before = state.work.field
        field, layer = kept(state.field), None if state.refinement is None else kept(state.refinement)
        count = parameter_count(field) + (0 if layer is None else parameter_count(layer))
        origin = Origin.made(state.work, self, runtime, parameters=count, autoencoder=before.origin.autoencoder)
        return dataclasses.replace(before, field=field, refinement=layer, origin=origin, scores={}, folder=None)

    def scored(self, made: LatentField, work: EditWork, runtime: Runtime) -> LatentField:
        """The edited field with what is measured of it on held-out poses."""
        from attar.scenes.judging import edit_scores

        return dataclasses.replace(made, scores=edit_scores(made, work, self, runtime))


@dataclass(frozen=True, kw_only=True)
class EdNeRFRefit(EdNeRF):
    """The rival of ED-NeRF that edits each view by itself and fits the field to what came out.

    As in the dataset updates of Haque et al., ICCV 2023, arXiv:2303.12789; named beside Park, Kwon and Ye, ICLR 2024,
    arXiv:2310.02712. Try it beside every edit: it is quicker.
    """

    flat_share: Annotated[float, Range(0, 1)] = 0.5
    """Share of the steps in which maps are edited in two dimensions; in the others the field is fitted to them."""
    flat_lr: Annotated[float, Range(0)] = 0.1
    """Step size of plain descent on the maps."""
    edit_refinement: bool = True
    """Whether the refinement layer learns too. Otherwise it stays as it was trained."""

    name = "ed-nerf-refit"

    def build(self, work: EditWork, runtime: Runtime) -> Editor:
        """The field, and its maps of all training views, which are edited first."""
        state = super().build(work, runtime)
        state.maps = state.before.clone()
        return state

    def step(self, state: Editor, runtime: Runtime) -> Metrics:
        """A step for all maps in two dimensions; later a fit of a few views."""
        if state.done < self.flat_share * self.total_steps:
            rows = torch.arange(self.views)
            gradient = self.gradient(
                state.maps, self.source(state, rows), state.work.teacher, state.prompts, state.levels, runtime
            )
            state.maps.copy_(self.stepped(state.maps, gradient, self.flat_lr, state.mask))
            state.done += 1
            return {"gradient": rms(gradient, torch.zeros_like(gradient)), "moved": rms(state.maps, state.before)}
        rows = self.rows(state, runtime)
        rendered = state.rays.maps(state.field, rows.tolist())
        refined = self.refined(state, rendered)
        wanted = state.maps[rows]
        held = kept_loss(rendered, refined, wanted, None, 1.0, 1.0)
        self.descend(state, held + self.variation_weight * state.field.variation())
        return {"kept": held.detach(), "moved": rms(refined.detach(), state.before[rows])}


def class_of(scene: Scene) -> str | None:
    """The name of a scene's class, if it is of one."""
    return None if scene.label is None else scene.classes[scene.label]


def kept_loss(
    rendered: Maps, refined: Maps, latents: Maps, mask: Mask | None, inside: float, outside: float
) -> Float[Tensor, ""]:
    """Mean over pixels of λ (‖Z - Ẑ‖² + ‖Z - F(Ẑ)‖²), with λ_im in the mask and λ_om outside it.

    Args:
        rendered: Ẑ, maps as the field has them.
        refined: F(Ẑ).
        latents: Z.
        mask: M; None is a mask of ones.
        inside: λ_im.
        outside: λ_om.
    """
    error = (rendered - latents).square().sum(dim=1) + (refined - latents).square().sum(dim=1)
    share = torch.ones_like(error) if mask is None else mask.to(error)
    return ((inside * share + outside * (1 - share)) * error).mean()


def field_digest(field: LatentField) -> str:
    """A digest of a field's parameters."""
    return store.digest_of(dict(field.learned), [field.samples, field.factor])
