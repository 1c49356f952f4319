"""What every edit by score distillation shares: its settings, its prompts, its gradient, and the teacher of latents."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core import store
from attar.core.errors import InputError, unknown
from attar.core.runtime import Runtime
from attar.core.settings import Range, Settings
from attar.core.training import cached
from attar.samplers.denoisers import Condition, Noisy
from attar.samplers.schedules import Levels
from attar.samplers.sources import Source
from attar.scenes.codecs import Codec, KLCodec
from attar.scenes.scores import (
    STEPS,
    Mask,
    Weighting,
    check_steps,
    dds_gradient,
    drawn_steps,
    levels_at,
    masked,
    sds_gradient,
)

OTHER = 0.25
"""Relative distance from which two autoencoders give other latents."""
DROPPED = 0.1
"""Share of the samples that a teacher which is trained here sees without their label, so that guidance is possible."""


@dataclass(frozen=True)
class Prompts:
    """The conditions of an edit, each for one sample, and the condition of guidance."""

    target: Tensor
    source: Tensor
    null: Tensor | None
    """None: no label."""

    def of(self, count: int, device: torch.device) -> tuple[Condition, Condition, Condition]:
        """Target, source and null of so many samples."""

        def several(one: Tensor | None) -> Condition:
            return None if one is None else one.to(device).expand(count, *one.shape)

        return several(self.target), several(self.source), several(self.null)


@dataclass(frozen=True, kw_only=True)
class Editing(Settings):
    """Settings of edits by score distillation."""

    source_prompt: str | None = None
    """What is there before the edit: a class, or a text for a teacher of texts. Default: the scene's class."""
    target_prompt: str | None = None
    """What is wanted, a class or a text. Default: none; give one."""
    score: Literal["dds", "sds"] = "dds"
    """Whose gradient edits. dds: what the teacher says of the target, less what it says of the source at the same
    noise. sds: less the noise itself, which forgets the source."""
    guidance: Annotated[float, Range(0, 1000)] | None = None
    """Scale w of the teacher's classifier-free guidance, in both branches. 1: none. Default: 7.5 of texts; of classes 1
    in images and 3 in scenes."""
    weighting: Weighting = "uniform"
    """Weight w(t) of noise levels. uniform: 1. sds: the variance 1 - ᾱ of the noise. latent-nerf: √ᾱ (1 - ᾱ)."""
    noise_from: Annotated[int, Range(0, STEPS - 1)] = 50
    """Smallest noise that is drawn, as a step of the teacher's 1,000 from the least noise to the most."""
    noise_to: Annotated[int, Range(0, STEPS - 1)] = 948
    """Largest noise that is drawn, likewise."""
    mask_percentile: Annotated[float, Range(0, 100)] = 90.0
    """Percentile of the difference between the prompts above which a pixel is in the mask difference."""
    mask_draws: Annotated[int, Range(1, 10_000)] = 16
    """Number of draws of noise over which that difference is averaged."""
    mask_growth: Annotated[int, Range(0, 1000)] = 0
    """Pixels of the latents by which a mask is made larger on every side."""

    kind = "scenes"
    verb = "distill"
    usual_guidance = {"classes": 1.0, "texts": 7.5}  # noqa: RUF012
    """Scale of guidance by what a teacher knows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self.noise_from, self.noise_to)

    def prompts(self, teacher: Any, source: str | None) -> Prompts:
        """The conditions of the prompts for a teacher.

        Args:
            teacher: A sampler.
            source: The source prompt, if none is set.

        Raises:
            InputError: A prompt is missing, or is no class of a teacher that knows only classes.
        """
        target, known = (condition_of(teacher, text) for text in self.texts(teacher.classes, source))
        return Prompts(target, known, None if teacher.classes else condition_of(teacher, ""))

    def texts(self, classes: Sequence[str], source: str | None) -> tuple[str, str]:
        """The prompts, target and source.

        Args:
            classes: Those that a teacher knows, for the message.
            source: The source prompt, if none is set.

        Raises:
            InputError: One is missing.
        """
        texts = {"--target-prompt": self.target_prompt, "--source-prompt": self.source_prompt or source}
        for flag, text in texts.items():
            if not text or not text.strip():
                choices = f", one of {', '.join(classes[:12])}" if classes else ""
                raise InputError(f"an edit needs a prompt: give {flag}{choices}.")
        target, known = map(str, texts.values())
        return target, known

    def checked(self, task: Any, name: str, classes: Sequence[str], source: str | None) -> None:
        """Look at prompts and mask before anything is trained.

        Args:
            task: With the teacher and the mask.
            name: Of the data.
            classes: Their classes, which a teacher that is trained here knows.
            source: The source prompt, if none is set.

        Raises:
            InputError: A prompt is missing or unknown, there is no such mask, or there are no classes to learn.
        """
        from attar.scenes.edit import check_mask

        here = trained_here(task.teacher.network)
        if here and not classes:
            raise InputError(f"{name} {UNCLASSED}")
        for text in self.texts(() if not here and of_texts(task.teacher.network) else classes, source):
            if here and text not in classes:
                raise unknown("class of the teacher", text, classes)
        check_mask(task.mask)

    @property
    def guided(self) -> bool:
        """Whether the settings ask for guidance, which needs a teacher that knows samples without a label."""
        return (self.usual_guidance["classes"] if self.guidance is None else self.guidance) != 1

    def guided_by(self, teacher: Any) -> float:
        """The scale of guidance of a teacher.

        Raises:
            InputError: The teacher never saw a sample without its label, so that guidance means nothing.
        """
        usual = self.usual_guidance["classes" if teacher.classes else "texts"]
        scale = usual if self.guidance is None else self.guidance
        dropped = teacher.origin.settings.get("label_dropout")
        if scale != 1 and teacher.classes and dropped == 0:
            raise InputError(
                f"guidance is {scale:g}, but the teacher never saw a sample without its label. Train it with "
                f"--label-dropout {DROPPED}, or give --guidance 1."
            )
        return scale

    def gradient(
        self, z: Noisy, source: Noisy, teacher: Any, prompts: Prompts, levels: Levels, runtime: Runtime
    ) -> Noisy:
        """The gradient for latents, at noise that is drawn now.

        Args:
            z: Latents as they are.
            source: The same before the edit.
            teacher: A sampler.
            prompts: The conditions.
            levels: The 1,000 levels of the teacher, descending.
            runtime: Draws noise and its levels.
        """
        steps = drawn_steps(len(z), runtime.generator("levels"), self.noise_from, self.noise_to)
        sigma = levels_at(steps, levels).to(z)
        noise = torch.randn(z.shape, generator=runtime.generator("noise")).to(z)
        target, known, null = prompts.of(len(z), z.device)
        assert self.guidance is not None, "resolve it first"
        how: dict[str, Any] = {"guidance": self.guidance, "null": null, "weighting": self.weighting}
        if self.score == "sds":
            return sds_gradient(teacher.denoiser, z, sigma, noise, target, **how)
        return dds_gradient(teacher.denoiser, z, source, sigma, noise, target, known, **how)

    def stepped(self, z: Noisy, gradient: Noisy, lr: float, mask: Mask | None) -> Noisy:
        """A step z - η M ⊙ g of plain descent, which leaves what lies outside the mask as it is, bit by bit."""
        return z - lr * masked(gradient, mask)


def condition_of(teacher: Any, prompt: str) -> Tensor:
    """What a teacher is told of one sample: the number of a class, or the embedding of a text.

    Raises:
        InputError: There is no such class, or the teacher knows neither classes nor texts.
    """
    if teacher.classes:
        if prompt not in teacher.classes:
            raise unknown("class of the teacher", prompt, teacher.classes)
        return torch.tensor(list(teacher.classes).index(prompt))
    parts = getattr(teacher, "parts", None)
    if parts is None:
        raise InputError("the teacher knows neither classes nor texts, so that prompts mean nothing to it.")
    found: Tensor = (parts.embed([prompt]) if prompt else parts.null())[0].cpu()
    return found


UNCLASSED = "has no classes that a teacher could learn here. Give --teacher, the folder of a sampler."


def teacher_named(given: Any, latents: Source, runtime: Runtime, *, steps: int | None, guided: bool = False) -> Any:
    """A teacher of latents: as given, from its folder, or EDM trained on them here and kept in the cache.

    Args:
        given: A `Sampler`, the folder of one, a text-to-image pipeline of diffusers or its folder, words of a network,
            or None for the usual network.
        latents: The latents that it must know.
        runtime: The machine.
        steps: Steps of a training. Default: those of EDM.
        guided: Whether a training hides some labels, so that guidance is possible.

    Raises:
        InputError: There is no such teacher, it is of latents of another shape, or there are no classes to learn.
    """
    found = _found(given, latents, runtime, steps, DROPPED if guided else 0.0)
    makes, parts = tuple(found.shape), getattr(found, "parts", None)
    if parts is not None and latents.pictures:
        makes = (latents.shape[0], *(parts.factor * side for side in parts.side))
    if makes != latents.shape:
        raise InputError(
            f"the teacher makes samples of shape {list(makes)}, but {latents.name} has {list(latents.shape)}. "
            f"Give a teacher that learned from these latents{_advice(found, latents)}."
        )
    found.denoiser.to(runtime.device).eval().requires_grad_(False)
    return found


def _advice(teacher: Any, latents: Source) -> str:
    """What would make latents fit a teacher of texts."""
    if (parts := getattr(teacher, "parts", None)) is None:
        return ""
    if not latents.pictures and teacher.shape[0] != latents.shape[0]:
        return ", or make the field with the teacher's own autoencoder, as --autoencoder"
    return f", or read the pictures with --size {parts.factor * parts.side[0]}"


def trained_here(given: Any) -> bool:
    """Whether a teacher is None, or words of a network, and so is trained here."""
    return given is None or (isinstance(given, str) and not Path(given).is_dir() and "/" not in given)


def of_texts(given: Any) -> bool:
    """Whether a teacher is a text-to-image pipeline of diffusers: an open one, its folder, or its name on the hub."""
    from attar.samplers.folders import TEXT, check_parts, kind_of_unet, local, looks_foreign

    if hasattr(given, "text_encoder") and hasattr(given, "unet"):
        return True
    if not looks_foreign(given):
        return False
    folder = local(given)
    check_parts(folder)
    if kind_of_unet(folder) != TEXT:
        return False
    if not (folder / "unet").is_dir():
        raise InputError(f"{given} has no text_encoder, so prompts mean nothing to it. Give the folder of a pipeline.")
    return True


def _found(given: Any, latents: Source, runtime: Runtime, steps: int | None, dropped: float) -> Any:
    from attar.samplers.teaching import Work
    from attar.samplers.teaching import teacher_named as sampler_named

    if not trained_here(given):
        if of_texts(given):
            from attar.samplers.pipeline import text_sampler

            return text_sampler(given, runtime)
        return sampler_named(given, latents, runtime.with_seed(0), steps=steps, levels=None)
    if not latents.classes:
        raise InputError(f"{latents.name} {UNCLASSED}")
    from attar.samplers.edm import EDM

    method = EDM(network="auto" if given is None else given, steps=steps, label_dropout=dropped)
    work, seeded = Work(latents), runtime.with_seed(0)
    return cached(method.resolve(work, seeded), work, seeded, title="training the teacher")


def codec_of_teacher(teacher: Any) -> Codec | None:
    """The autoencoder of a teacher of texts; None of a teacher of pictures or of latents from elsewhere."""
    parts = getattr(teacher, "parts", None)
    return None if parts is None else KLCodec(parts.vae).eval().requires_grad_(False)


@torch.no_grad()
def check_latents(teacher: Any, codec: Codec, picture: Float[Tensor, "1 3 height width"]) -> None:
    """Refuse a field whose latents are not those that a teacher of texts knows.

    Args:
        teacher: A sampler.
        codec: The autoencoder of the field.
        picture: One picture.

    Raises:
        InputError: The teacher's own autoencoder gives other latents.
    """
    own = codec_of_teacher(teacher)
    if own is None:
        return
    wanted, found = own.encode(picture), codec.encode(picture)
    if not found.shape == wanted.shape or rms(found, wanted) > OTHER * rms(wanted, torch.zeros_like(wanted)):
        raise InputError(
            "the field lives in other latents than those of the teacher's own autoencoder. Make the field with that: "
            "--autoencoder with the folder of the teacher."
        )


def teacher_levels(teacher: Any) -> Levels:
    """The 1,000 levels of a teacher, descending."""
    grid = teacher.grid
    if grid.tabled and len(table := grid.table()) < STEPS:
        short: Levels = table.flip(0)[torch.linspace(0, len(table) - 1, STEPS).round().long()]
        return short
    found: Levels = grid.levels(STEPS)
    return found


def teacher_digest(teacher: Any, *more: Any) -> str:
    """A digest of a teacher's parameters and levels, and of further plain values."""
    parts = getattr(teacher, "parts", None)
    around = [] if parts is None else [parts.text_digest, parts.image_digest]
    return store.digest_of(dict(teacher.learned), [teacher.levels().tolist(), *around, *more])


def within(images: Float[Tensor, "image channel height width"]) -> Float[Tensor, ""]:
    """The spread of a set: the root of the mean squared distance of its values from those of its mean."""
    return (images - images.mean(dim=0)).square().mean().sqrt()


def rms(one: Tensor, other: Tensor) -> Float[Tensor, ""]:
    """The root of the mean squared difference."""
    return (one - other).square().mean().sqrt()
