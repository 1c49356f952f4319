"""Text-conditioned latent models of diffusers as teachers: Stable Diffusion 1 and 2, and SDXL with its two encoders.

A prompt's embedding, with SDXL's pooled one and its sizes, is one row of numbers. So it is a condition like any other:
it is drawn, stored and cut into batches as class numbers are. Podell et al., SDXL, ICLR 2024, arXiv:2307.01952; Rombach
et al., High-Resolution Image Synthesis with Latent Diffusion Models, CVPR 2022, arXiv:2112.10752.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core import store
from attar.core.errors import InputError
from attar.core.kinds import imported
from attar.samplers.denoisers import Condition, broadcast
from attar.samplers.folders import check_parts, opened, quiet
from attar.samplers.foreign import Wrapped, bottleneck

EXTRA = "scenes"
ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection")
LONGEST = 1024
"""Tokens beyond which a tokenizer does not say how many its encoder takes."""
LCM_SCALING, LCM_DATA = 10.0, 0.5
"""Factor of the time, and σ_d, in the boundary form of latent consistency models."""
PORTION = 4
"""Images that are decoded at once."""


class TextUNet(nn.Module):
    """diffusers' `UNet2DConditionModel` as a network that takes a row of numbers as its condition.

    Args:
        unet: The model.
        tokens: Number of tokens of a prompt.
        pooled: Values of the pooled embedding of SDXL; 0 of models without one.
    """

    def __init__(self, unet: Any, tokens: int, pooled: int = 0) -> None:
        super().__init__()
        self.unet, self.tokens, self.pooled = unet, tokens, pooled
        width = unet.config.cross_attention_dim
        self.width = int(width if isinstance(width, int) else width[0])

    def forward(self, x: Tensor, time: Tensor, condition: Condition = None) -> Tensor:
        """Its prediction."""
        found: Tensor = self.unet(x, time, **self.told(condition, x), return_dict=False)[0]
        return found

    def encoded(self, x: Tensor, time: Tensor, condition: Condition = None) -> Tensor:
        """The features of its bottleneck."""
        return bottleneck(self.unet, lambda: self.unet(x, time, **self.told(condition, x)))

    def told(self, condition: Condition, x: Tensor) -> dict[str, Any]:
        """The condition as the model takes it.

        Raises:
            InputError: There is none, or it has another size.
        """
        if condition is None:
            raise InputError("a text-conditioned model needs prompts. Give --data prompts.txt.")
        rows, sizes = condition.to(x.device, x.dtype).expand(len(x), -1), 6 if self.pooled else 0
        cut = self.tokens * self.width
        if rows.shape[1] != cut + self.pooled + sizes:
            raise InputError(
                f"an embedding has {rows.shape[1]:,} values, but the model takes {cut + self.pooled + sizes:,}."
            )
        told: dict[str, Any] = {"encoder_hidden_states": rows[:, :cut].reshape(len(x), self.tokens, self.width)}
        if self.pooled:
            told["added_cond_kwargs"] = {
                "text_embeds": rows[:, cut : cut + self.pooled],
                "time_ids": rows[:, cut + self.pooled :],
            }
        return told


class TextDenoiser(Wrapped):
    """A text-conditioned model as a denoiser; students have the boundary form of latent consistency models.

    D = c_skip α x + c_out x0 with c_skip = σ_d² / ((s t)² + σ_d²), c_out = s t / √((s t)² + σ_d²), s = 10, σ_d = 0.5:
    that of diffusers' `LCMScheduler`, which is x0 but for the first few steps (Luo et al., Latent Consistency Models,
    arXiv:2310.04378).
    """

    bounded = False

    def student(self, sigma_min: float) -> Self:
        """A copy whose parameters learn; its boundary is step 0, whatever σ_min is."""
        made = self.thawed()
        made.bounded = True
        return made

    def _formed(self, x0: Tensor, x: Tensor, sigma: Tensor, time: Tensor) -> Tensor:
        if not self.bounded:
            return x0
        scaled, alpha = LCM_SCALING * time, (1 + sigma.square()).rsqrt()
        skip = LCM_DATA**2 / (scaled.square() + LCM_DATA**2)
        out = scaled / (scaled.square() + LCM_DATA**2).sqrt()
        return broadcast(out, x) * x0 + broadcast(skip * alpha, x) * x


@dataclass(frozen=True)
class TextParts:
    """What stands around the U-Net: tokenizers and text encoders, and the VAE."""

    vae: Any
    tokenizers: tuple[Any, ...]
    encoders: tuple[Any, ...]
    scheduler: dict[str, Any]
    """The configuration of the scheduler that it came with."""
    side: tuple[int, int]
    """Height and width of its latents."""
    zeros: bool = True
    """Whether no prompt is a row of zeros in SDXL, and not the empty text."""
    cached: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def sdxl(self) -> bool:
        """Whether it has SDXL's two encoders."""
        return len(self.encoders) == 2

    @property
    def tokens(self) -> int:
        """Number of tokens of a prompt."""
        return min(_longest(*pair) for pair in zip(self.tokenizers, self.encoders, strict=True))

    @property
    def pooled(self) -> int:
        """Values of the pooled embedding."""
        return int(self.encoders[-1].config.projection_dim) if self.sdxl else 0

    @property
    def factor(self) -> int:
        """Pixels to a latent's side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @cached_property
    def text_digest(self) -> str:
        """A digest of the encoders and the tokenizers."""
        words = [json.dumps(sorted(tokenizer.get_vocab().items())) for tokenizer in self.tokenizers]
        tensors = {
            f"{index}/{name}": one for index, e in enumerate(self.encoders) for name, one in e.state_dict().items()
        }
        return store.digest_of(tensors, [words, self.tokens, self.side, self.zeros])

    @cached_property
    def image_digest(self) -> str:
        """A digest of the VAE."""
        return store.digest_of(dict(self.vae.state_dict()), [self.vae.config.scaling_factor])

    # ------------------------------------------------------------------------------------------------------------ text

    @torch.no_grad()
    def embed(self, prompts: Sequence[str], device: torch.device | str = "cpu") -> Float[Tensor, "prompt value"]:
        """A row of numbers for each prompt: the embeddings of its tokens, and of SDXL the pooled one and the sizes."""
        hidden, pooled = [], None
        for tokenizer, encoder in zip(self.tokenizers, self.encoders, strict=True):
            found = tokenizer(
                list(prompts), padding="max_length", max_length=self.tokens, truncation=True, return_tensors="pt"
            )
            with placed(encoder, device):
                mask = found.attention_mask.to(device) if getattr(encoder.config, "use_attention_mask", False) else None
                out = encoder(found.input_ids.to(device), attention_mask=mask, output_hidden_states=self.sdxl)
            hidden.append(out.hidden_states[-2] if self.sdxl else out[0])
            pooled = out[0]
        rows = torch.cat(hidden, dim=-1).flatten(1)
        if not self.sdxl:
            return rows
        assert pooled is not None
        return torch.cat([rows, pooled, self._sizes(len(prompts)).to(rows)], dim=1)

    def null(self, device: torch.device | str = "cpu") -> Float[Tensor, "1 value"]:
        """The row of no prompt."""
        row = self.embed([""], device)
        if self.sdxl and self.zeros:
            row[:, :-6] = 0
        return row

    def _sizes(self, count: int) -> Tensor:
        """Original size, crop and target size of SDXL: the whole picture."""
        height, width = (side * self.factor for side in self.side)
        return torch.tensor([[height, width, 0, 0, height, width]]).expand(count, -1)

    # ---------------------------------------------------------------------------------------------------------- images

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "sample c h w"], device: torch.device | str = "cpu"
    ) -> Float[Tensor, "sample 3 y x"]:
        """Images between -1 and 1, as far as the VAE keeps to that, of scaled latents."""
        found, kind = [], next(self.vae.parameters()).dtype
        with placed(self.vae, device):
            for part in latents.split(PORTION):
                found.append(self.vae.decode(self._unscaled(part.to(device, kind)), return_dict=False)[0].float().cpu())
        return torch.cat(found)

    @torch.no_grad()
    def encode(self, pictures: Sequence[Path], device: torch.device | str = "cpu") -> Float[Tensor, "sample c h w"]:
        """Scaled latents of pictures: the mode of what the VAE gives, times its scaling factor.

        Raises:
            InputError: A picture cannot be read.
        """
        height, width = (side * self.factor for side in self.side)
        images = torch.stack([read_picture(path, height, width) for path in pictures])
        kind = next(self.vae.parameters()).dtype
        with placed(self.vae, device):
            found = [self.vae.encode(part.to(device, kind)).latent_dist.mode() for part in images.split(PORTION)]
        return self._scaled(torch.cat(found).float()).cpu()

    def _moments(self, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Mean and standard deviation of latents by channel, of VAEs that name them."""
        mean, std = (getattr(self.vae.config, name, None) for name in ("latents_mean", "latents_std"))
        if mean is None or std is None:
            return 0.0, 1.0
        return tuple(torch.tensor(one).to(like).view(1, -1, 1, 1) for one in (mean, std))  # type: ignore[return-value]

    def _unscaled(self, latents: Tensor) -> Tensor:
        mean, std = self._moments(latents)
        return latents * std / self.vae.config.scaling_factor + mean

    def _scaled(self, latents: Tensor) -> Tensor:
        mean, std = self._moments(latents)
        return (latents - mean) * self.vae.config.scaling_factor / std


def read_picture(path: Path, height: int, width: int) -> Float[Tensor, "3 h w"]:
    """A picture between -1 and 1: its middle in the wanted form, scaled.

    Raises:
        InputError: It cannot be read.
    """
    from PIL import Image, ImageOps

    from attar.images.data.decoding import Unreadable, decode
    from attar.images.data.form import Form

    try:
        pixels = decode(path, Form(size=None), grey=False, where=lambda: str(path))
    except Unreadable as why:
        raise InputError(f"{path} {why}.") from None
    image = ImageOps.fit(Image.fromarray(pixels), (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


@contextmanager
def placed(module: nn.Module, device: torch.device | str) -> Iterator[None]:
    """Have a module on a device for a while, and on the CPU again after that: it is needed once."""
    module.to(device)
    try:
        yield
    finally:
        module.to("cpu")


def _longest(tokenizer: Any, encoder: Any) -> int:
    """Tokens that an encoder takes."""
    most, told = int(encoder.config.max_position_embeddings), int(tokenizer.model_max_length)
    return min(most, told) if told <= LONGEST else most


# ----------------------------------------------------------------------------------------------------- reading a folder


def parts_in(folder: Path, side: tuple[int, int], scheduler: dict[str, Any]) -> TextParts:
    """The parts around the U-Net in a pipeline's folder.

    Args:
        folder: Of diffusers.
        side: Height and width of latents.
        scheduler: Its configuration.

    Raises:
        InputError: A part is missing or damaged, or of a kind that attar does not know.
    """
    named = check_parts(folder)
    encoders, tokenizers = [], []
    for suffix in ("", "_2"):
        part = f"text_encoder{suffix}"
        if not (folder / part).is_dir():
            continue
        name = named.get(part) or ENCODERS[bool(suffix)]
        if name not in ENCODERS:
            raise InputError(f"{folder / part} is a {name}; attar reads {' and '.join(ENCODERS)}.")
        encoders.append(opened(folder / part, name, "transformers"))
        tokenizers.append(tokenizer_in(folder / f"tokenizer{suffix}"))
    if not encoders:
        raise InputError(f"{folder} has no text_encoder, so prompts mean nothing to it.")
    if len(encoders) == 1 and not (folder / "text_encoder").is_dir():
        raise InputError(f"{folder} has only the second text encoder, as SDXL's refiner; give the base model.")
    index = (
        json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        if (folder / "model_index.json").is_file()
        else {}
    )
    vae = opened(folder / "vae", "AutoencoderKL")
    zeros = bool(index.get("force_zeros_for_empty_prompt", True))
    return TextParts(vae, tuple(tokenizers), tuple(encoders), scheduler, side, zeros)


def tokenizer_in(folder: Path) -> Any:
    """The tokenizer in a folder.

    Raises:
        InputError: It is missing or damaged.
    """
    if not folder.is_dir():
        raise InputError(f"{folder.parent} has no {folder.name}, so prompts cannot be read.")
    from attar.core.foreign import NO_CODE, check_no_code

    check_no_code(folder)
    made = imported("transformers:AutoTokenizer", EXTRA)
    with quiet():
        try:
            return made.from_pretrained(folder, local_files_only=True, **NO_CODE)
        except Exception as error:  # what a damaged file raises depends on the tokenizer
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise InputError(f"{folder} is damaged: the tokenizer does not open ({reason}).") from None


def check_unet(unet: Any, parts: TextParts, where: str) -> None:
    """Check that a U-Net takes what the parts around it give.

    Raises:
        InputError: It does not.
    """
    channels = int(parts.vae.config.latent_channels)
    if unet.config.in_channels != channels:
        raise InputError(
            f"the network of {where} takes {unet.config.in_channels} channels, but its VAE gives {channels}; attar "
            "reads text-to-image models only."
        )
    if unet.config.time_cond_proj_dim is not None:
        raise InputError(f"the network of {where} is itself distilled with guidance as an input; give its teacher.")
    width = sum(int(encoder.config.hidden_size) for encoder in parts.encoders)
    told = unet.config.cross_attention_dim
    if (told if isinstance(told, int) else told[0]) != width:
        raise InputError(f"the network of {where} takes embeddings of {told} values, but its encoders give {width}.")
    added = unet.config.addition_embed_type
    if (added == "text_time") != parts.sdxl or added not in (None, "text_time"):
        raise InputError(f"the network of {where} wants further conditions ({added}) that its encoders do not give.")
    if parts.sdxl:
        size = 6 * unet.config.addition_time_embed_dim + parts.pooled
        if unet.config.projection_class_embeddings_input_dim != size:
            raise InputError(
                f"the network of {where} takes further conditions of "
                f"{unet.config.projection_class_embeddings_input_dim} values, but there are {size}; SDXL's refiner is "
                "no teacher."
            )
