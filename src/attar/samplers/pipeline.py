"""A text-conditioned sampler on disk and in memory: a folder that diffusers opens as its own pipeline.

`unet`, `vae`, the text encoders, the tokenizers and `LCMScheduler` lie in the folders of diffusers, as safetensors,
beside `artefact.json` with a digest of each file and the steps of the student.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from attar.core import artefact as core
from attar.core import card as cards
from attar.core.cell import Cell
from attar.core.errors import InputError
from attar.core.kinds import imported
from attar.core.pictures import KEPT
from attar.core.scores import SCORES
from attar.samplers.artefact import PREVIEW
from attar.samplers.denoisers import Condition, Denoiser
from attar.samplers.folders import (
    INDEX,
    PARTS,
    check_nothing_added,
    kind_of_unet,
    local,
    prediction_of,
    schedule_of,
    scheduler_in,
    shape_of,
    unet_in,
    write_model,
)
from attar.samplers.foreign import LEVELS, WRAPPED, ForeignSampler, Steps, described, origin_of, rewrapped
from attar.samplers.schedules import Grid
from attar.samplers.sources import pixels_of
from attar.samplers.text import EXTRA, TextDenoiser, TextParts, TextUNet, check_unet, parts_in

PIPELINE = "pipeline"
"""The form of a sampler that is told by text."""
PICTURED = 8
"""Prompts whose images are drawn on the card."""
PORTION = 4
"""Latents that are made at once."""


@dataclass(frozen=True)
class PipelineSampler(ForeignSampler):
    """A text-conditioned sampler: a teacher from a folder of diffusers, or a student of one."""

    parts: TextParts = None  # type: ignore[assignment]
    prompts: tuple[str, ...] = ()
    """Some prompts that it was distilled on; the picture shows them."""

    form = PIPELINE
    files = (  # type: ignore[assignment]
        core.ARTEFACT,
        core.CARD,
        PREVIEW,
        SCORES,
        KEPT,
        INDEX,
        *(f"{part}/*" for part in PARTS),
    )

    def sample(  # type: ignore[override]
        self,
        prompts: str | Sequence[str],
        *,
        seed: int = 0,
        steps: int | None = None,
        noise: Float[Tensor, "sample c h w"] | None = None,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "sample 3 y x"]:
        """Images of prompts, between -1 and 1.

        Args:
            prompts: A text, or several.
            seed: Of the noise. An image does not depend on how many follow it.
            steps: Number of noise levels. Default: as it was made for.
            noise: Standard normal noise of the latents' shape, in place of the seed's.
            device: Where the networks work.

        Raises:
            InputError: There is no prompt, or shapes do not fit.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise InputError("prompts are empty or no texts. Give one text, or several.")
        told = self.parts.embed(texts, device).cpu()
        latents = self.latents(told, seed=seed, steps=steps, noise=noise, device=device)
        return self.parts.decode(latents, device).clamp(-1, 1)

    def images(  # type: ignore[override]
        self, prompts: str | Sequence[str], **how: Any
    ) -> UInt8[Tensor, "sample 3 y x"]:
        """Images of prompts as 8-bit pixels; see `sample`."""
        return pixels_of(self.sample(prompts, **how))

    @torch.no_grad()
    def latents(
        self,
        condition: Float[Tensor, "sample value"],
        *,
        seed: int = 0,
        steps: int | None = None,
        noise: Float[Tensor, "sample c h w"] | None = None,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "sample c h w"]:
        """Latents for embeddings, as `TextParts.embed` gives them.

        Raises:
            InputError: Shapes do not fit.
        """
        self.denoiser.to(device)
        started = self._started(len(condition), seed, noise)
        return self.from_noise(started, condition, seed=seed, steps=steps, at_once=PORTION)

    def _checked(self, labels: Tensor | None, n: int, seed: int) -> Condition:
        raise InputError("this sampler is told by prompts. Use sample(prompts).")

    @property
    def timesteps(self) -> list[int]:
        """The steps of a sampling run, as the schedulers of diffusers number them.

        Raises:
            InputError: A level is none of the schedule.
        """
        denoiser = self.denoiser
        assert isinstance(denoiser, TextDenoiser)
        _, _, times = denoiser.schedule.place(self.levels())
        if not torch.equal(times, times.round()):
            raise InputError("the noise levels are no steps of the teacher's schedule, so diffusers cannot take them.")
        return [int(time) for time in times]

    # ------------------------------------------------------------------------------------------------------- its folder

    def written(self, folder: Path) -> dict[str, Any]:
        """Write the pipeline, and return what `artefact.json` says of it."""
        network = self.denoiser.network
        assert isinstance(network, TextUNet) and isinstance(self.denoiser, TextDenoiser), "made by text_sampler"
        scheduler, parts = lcm_scheduler(self), self.parts
        written: dict[str, Any] = {"unet": network.unet, "vae": parts.vae, "scheduler": scheduler}
        for suffix, encoder, tokenizer in zip(("", "_2"), parts.encoders, parts.tokenizers, strict=False):
            written |= {f"text_encoder{suffix}": encoder, f"tokenizer{suffix}": tokenizer}
        return {
            WRAPPED: described(self.denoiser),
            "bounded": self.denoiser.bounded,
            "timesteps": self.timesteps,
            "prompts": list(self.prompts),
            "digests": write_model(folder, written, {INDEX: index_of(written, parts)}),
        }

    @classmethod
    def read(cls, folder: Path, facts: dict[str, Any], further: dict[str, Any]) -> Denoiser:
        """The inverse of `written`."""
        parts: TextParts = further["parts"]
        network = TextUNet(unet_in(folder / "unet"), parts.tokens, parts.pooled)
        made = rewrapped(network, facts, TextDenoiser)
        assert isinstance(made, TextDenoiser)
        made.bounded = bool(facts["bounded"])
        return made

    @classmethod
    def further(cls, folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
        """The fields that other samplers do not have; all files are checked first."""
        core.check_files(folder, facts["digests"], facts["digests"])
        check_nothing_added(folder, PARTS, facts["digests"])
        parts = parts_in(folder, tuple(facts["shape"][1:]), scheduler_in(folder))
        return {"parts": parts, "prompts": tuple(facts["prompts"])}

    def picture(self) -> bytes | None:
        """Images of some prompts as PNG; of a saved sampler those that were drawn when it was made."""
        if self.folder is not None and (self.folder / PREVIEW).is_file():
            return (self.folder / PREVIEW).read_bytes()
        if not self.prompts:
            return None
        from attar.images.preview import preview

        shown = self.prompts[:PICTURED]
        pixels = self.images(shown).permute(0, 2, 3, 1).numpy()
        return preview(pixels, torch.arange(len(shown)).numpy(), tuple(_short(text) for text in shown))

    def card(self, scores: list[Cell]) -> str:
        """The README, with the lines that open it in diffusers and in attar."""
        return pipeline_card(self, scores)


def _short(text: str, most: int = 40) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def lcm_scheduler(made: PipelineSampler) -> Any:
    """The scheduler by which diffusers samples as attar does: `LCMScheduler` with the teacher's schedule.

    Raises:
        InputError: The sampler is not of a few steps, or its schedule is none of diffusers'.
    """
    denoiser = made.denoiser
    assert isinstance(denoiser, TextDenoiser) and isinstance(denoiser.schedule, Steps)
    kept = ("beta_schedule", "beta_start", "beta_end", "num_train_timesteps", "trained_betas", "rescale_betas_zero_snr")
    config = {name: made.parts.scheduler[name] for name in kept if name in made.parts.scheduler}
    names = {"epsilon": "epsilon", "v": "v_prediction", "x0": "sample"}
    if denoiser.prediction not in names:
        raise InputError("diffusers samples no flow models of this kind in a few steps.")
    scheduler = imported("diffusers:LCMScheduler", EXTRA)
    return scheduler(
        **config,
        prediction_type=names[denoiser.prediction],
        original_inference_steps=made.steps,
        timestep_scaling=10.0,
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
        steps_offset=1,
    )


def index_of(written: dict[str, Any], parts: TextParts) -> dict[str, Any]:
    """What `model_index.json` says: the pipeline, and the class of each part."""
    import diffusers

    name = "StableDiffusionXLPipeline" if parts.sdxl else "StableDiffusionPipeline"
    index: dict[str, Any] = {"_class_name": name, "_diffusers_version": diffusers.__version__}
    for part, what in written.items():
        library = "transformers" if part.startswith(("text", "tokenizer")) else "diffusers"
        index[part] = [library, type(what).__name__]
    if parts.sdxl:
        return index | {"force_zeros_for_empty_prompt": parts.zeros}
    absent = [None, None]
    return index | {"safety_checker": absent, "feature_extractor": absent, "requires_safety_checker": False}


def text_sampler(
    given: Any, runtime: Any, *, prediction: str | None = None, prompts: Sequence[str] = ()
) -> PipelineSampler:
    """A teacher of images from text: a folder of diffusers, a name on the hub, or an open pipeline.

    Args:
        given: The folder, `user/name`, or a pipeline of diffusers.
        runtime: The machine.
        prediction: What it predicts. Default: as its scheduler says.
        prompts: Some prompts for pictures.

    Raises:
        InputError: A part is missing or damaged, or of a kind that attar does not know.
    """
    if isinstance(given, (str, Path)):
        folder = local(given)
        config, where = scheduler_in(folder), str(given)
        unet = unet_in(folder / "unet")
        parts = parts_in(folder, side_of(unet), config)
    else:
        config, where, unet = dict(given.scheduler.config), type(given).__name__, given.unet
        suffixes = ("", "_2") if getattr(given, "text_encoder_2", None) is not None else ("",)
        encoders = tuple(getattr(given, f"text_encoder{suffix}") for suffix in suffixes)
        tokenizers = tuple(getattr(given, f"tokenizer{suffix}") for suffix in suffixes)
        if any(part is None for part in (*encoders, *tokenizers, given.vae)):
            raise InputError(f"{where} lacks a tokenizer, a text encoder or its VAE, so prompts mean nothing to it.")
        zeros = bool(given.config.get("force_zeros_for_empty_prompt", True))
        parts = TextParts(given.vae, tokenizers, encoders, config, side_of(unet), zeros)
    check_unet(unet, parts, where)
    if not all(parts.side):
        raise InputError(f"the network of {where} does not say its sample_size.")
    schedule = schedule_of(config, where)
    network: nn.Module = TextUNet(unet, parts.tokens, parts.pooled)
    denoiser = TextDenoiser(network, prediction_of(config, where, prediction), schedule, sigma_data=1.0, pure=True)
    denoiser.requires_grad_(False)
    return PipelineSampler(
        denoiser=denoiser,
        network=None,
        grid=schedule.grid() if isinstance(schedule, Steps) else Grid(),
        steps=LEVELS,
        solver="heun",
        shape=shape_of(unet, (0, 0, 0)),
        classes=(),
        class_shares=(),
        pictures=False,
        origin=origin_of(denoiser, where, runtime),
        parts=parts,
        prompts=tuple(prompts[:PICTURED]),
    )


def side_of(unet: Any) -> tuple[int, int]:
    """Height and width of a U-Net's samples; 0 where it does not say them."""
    _, height, width = shape_of(unet, (0, 0, 0))
    return height, width


def opened_sampler(given: Any, source: Any, runtime: Any, *, prediction: str | None, schedule: str | None) -> Any:
    """A teacher from a folder of diffusers, or a name on the hub, whether it is told by text or by classes.

    Args:
        given: The folder, or `user/name`.
        source: The data: prompts, or images.
        runtime: The machine.
        prediction: What it predicts. Default: as its scheduler says.
        schedule: How it adds noise, of a network without a scheduler.

    Raises:
        InputError: Data and model do not fit one another, or a part is missing.
    """
    from attar.samplers.folders import TEXT, check_parts, pixel_sampler
    from attar.samplers.prompts import Prompts

    folder = local(given)
    check_parts(folder)
    told_by_text = kind_of_unet(folder) == TEXT
    if told_by_text:
        texts = source.texts if isinstance(source, Prompts) else ()
        if not texts:
            raise InputError(f"{given} is told by text, but {source.name} has no prompts. Give --data prompts.txt.")
        return text_sampler(folder, runtime, prediction=prediction, prompts=texts)
    if isinstance(source, Prompts):
        raise InputError(
            f"{source.name} holds prompts, but {given} has no text encoder: it makes images of classes. Give the "
            "folder of a text-to-image pipeline."
        )
    return pixel_sampler(folder, source, runtime, prediction=prediction, schedule=schedule)


def pipeline_card(made: PipelineSampler, scores: list[Cell]) -> str:
    """The README of a text-conditioned sampler."""
    origin, steps = made.origin, made.timesteps
    name = "StableDiffusionXLPipeline" if made.parts.sdxl else "StableDiffusionPipeline"
    shown = "".join(f"- {cards.escaped(text)}\n" for text in made.prompts[:PICTURED])
    told = f"The picture shows:\n\n{shown}\n" if shown else ""
    image = "![samples](preview.png)\n" if made.prompts else ""
    words = {"library": "diffusers", "pipeline": "text-to-image"}
    header = cards.model_header("diffusion-distillation", made=made, scores=scores, **words)
    return f"""{header}
# {cards.escaped(made.title)}

{cards.escaped(str(made))}. It makes images of prompts.

{image}
{told}```python
from diffusers import {name}

pipeline = {name}.from_pretrained("FOLDER")
image = pipeline("a prompt", timesteps={steps}, guidance_scale=0).images[0]
```

```python
import attar

sampler = attar.open_artefact("FOLDER")
images = sampler.sample(["a prompt"], seed=0)  # between -1 and 1; `images` gives pixels
```
{cards.score_table(scores)}
The student was distilled under the teacher's guidance, so it needs none: `guidance_scale=0`.

{cards.made_again(origin)}

Made with: {cards.machine_line(origin.machine)}. Data fingerprint: `{cards.escaped(origin.fingerprint)}`.

The images derive from the teacher and its data. The terms of both also apply to them.
"""
