"""What every edit by score distillation shares: its settings, its prompts, its gradient, and the teacher of latents."""

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
    """What is wanted, in the same form. Default: none; give one."""
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
        texts = {"--target-prompt": self.target_prompt, "--source-prompt": self.source_prompt or source}
        for flag, text in texts.items():
            if not text:
                raise InputError(f"an edit needs a prompt: give {flag}{_choices(teacher)}.")
        target, known = (condition_of(teacher, str(text)) for text in texts.values())
        return Prompts(target, known, None if teacher.classes else condition_of(teacher, ""))

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


def _choices(teacher: Any) -> str:
    return f", one of {', '.join(teacher.classes[:12])}" if teacher.classes else ""


def teacher_named(given: Any, latents: Source, runtime: Runtime, *, steps: int | None, guided: bool = False) -> Any:
    """A teacher of latents: as given, from its folder, or EDM trained on them here and kept in the cache.

    Args:
        given: A `Sampler`, the folder of one, words of a network, or None for the usual network.
        latents: The latents that it must know.
        runtime: The machine.
        steps: Steps of a training. Default: those of EDM.
        guided: Whether a training hides some labels, so that guidance is possible.

    Raises:
        InputError: There is no such teacher, it is of latents of another shape, or there are no classes to learn.
    """
    found = _found(given, latents, runtime, steps, DROPPED if guided else 0.0)
    if tuple(found.shape) != latents.shape:
        raise InputError(
            f"the teacher makes samples of shape {list(found.shape)}, but {latents.name} has {list(latents.shape)}. "
            "Give a teacher that learned from these latents."
        )
    found.denoiser.to(runtime.device).eval().requires_grad_(False)
    return found


def _found(given: Any, latents: Source, runtime: Runtime, steps: int | None, dropped: float) -> Any:
    from attar.samplers.teaching import Work
    from attar.samplers.teaching import teacher_named as sampler_named

    if given is not None and (not isinstance(given, str) or Path(given).is_dir() or "/" in given):
        return sampler_named(given, latents, runtime.with_seed(0), steps=steps, levels=None)
    if not latents.classes:
        raise InputError(
            f"{latents.name} has no classes that a teacher could learn here. Give --teacher, the folder of a sampler."
        )
    from attar.samplers.edm import EDM

    method = EDM(network="auto" if given is None else given, steps=steps, label_dropout=dropped)
    work, seeded = Work(latents), runtime.with_seed(0)
    return cached(method.resolve(work, seeded), work, seeded, title="training the teacher")


def teacher_levels(teacher: Any) -> Levels:
    """The 1,000 levels of a teacher, descending."""
    found: Levels = teacher.grid.levels(STEPS)
    return found


def teacher_digest(teacher: Any, *more: Any) -> str:
    """A digest of a teacher's parameters and levels, and of further plain values."""
    return store.digest_of(dict(teacher.learned), [teacher.levels().tolist(), *more])


def within(images: Float[Tensor, "image channel height width"]) -> Float[Tensor, ""]:
    """The spread of a set: the root of the mean squared distance of its values from those of its mean."""
    return (images - images.mean(dim=0)).square().mean().sqrt()


def rms(one: Tensor, other: Tensor) -> Float[Tensor, ""]:
    """The root of the mean squared difference."""
    return (one - other).square().mean().sqrt()
