"""Masks of what an edit may change: given ones, where a denoiser sees the prompts differ, and CLIPSeg's.

A mask lies on the pixels of the latents. It must cover what has to change: an edit through a mask that leaves out half
of a shape fails in silence.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.core.foreign import check_no_code
from attar.core.kinds import imported
from attar.samplers.denoisers import Condition, Denoising, Noisy
from attar.samplers.schedules import Levels
from attar.scenes.scores import Mask, drawn_steps, levels_at, noise_predicted

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Statistics of the pictures that CLIPSeg learned from, in the order of the channels."""


def given_mask(mask: Tensor, size: tuple[int, int], pictures: tuple[int, int], count: int) -> Mask:
    """A mask on the pixels of latents: as it is, or where a mask on pictures covers at least half of them.

    Args:
        mask: `[height, width]` for all views, or `[view, height, width]`, of zeros and ones or in between.
        size: Height and width of the latents.
        pictures: Height and width of the pictures that they stand for.
        count: Number of views.

    Raises:
        InputError: The mask is of another size, of another number of views, or not between 0 and 1.
    """
    mask = mask.float()
    if mask.ndim not in (2, 3) or tuple(mask.shape[-2:]) not in (size, pictures):
        raise InputError(
            f"the mask is {list(mask.shape)}; its height and width must be {_words(size)} as of the latents, "
            f"or {_words(pictures)} as of the pictures."
        )
    if mask.ndim == 3 and len(mask) != count:
        raise InputError(f"the mask is of {len(mask)} views, but there are {count}. Give one for each, or one for all.")
    if not ((mask >= 0) & (mask <= 1)).all():
        raise InputError("the mask has values below 0 or above 1. Give 1 where the edit may change something, else 0.")
    mask = mask.expand(count, *mask.shape[-2:])
    if tuple(mask.shape[-2:]) == size:
        return mask.clone()
    return (F.adaptive_avg_pool2d(mask[:, None], size)[:, 0] >= 0.5).float()


@torch.no_grad()
def difference_mask(
    denoiser: Denoising,
    z: Noisy,
    target_condition: Condition,
    source_condition: Condition,
    levels: Levels,
    generator: torch.Generator,
    *,
    draws: int = 16,
    percentile: float = 90.0,
    low: int = 50,
    high: int = 948,
) -> Mask:
    """Where |ε̂(z + σ ε; y_trg) - ε̂(z + σ ε; y_src)|, averaged over channels and draws of (t, ε), is large.

    It needs no further network, only the two prompts.

    Args:
        denoiser: D, without guidance.
        z: The latents before the edit.
        target_condition: y_trg.
        source_condition: y_src.
        levels: A table of 1,000 levels, descending.
        generator: Draws t and ε.
        draws: Number of draws.
        percentile: The pixels of each sample above this percentile are in the mask.
        low: Smallest step t.
        high: Largest step t.
    """
    total = torch.zeros_like(z[:, 0])
    for _ in range(draws):
        sigma = levels_at(drawn_steps(len(z), generator, low, high), levels).to(z)
        noise = torch.randn(z.shape, generator=generator).to(z)
        wanted = noise_predicted(denoiser, z, sigma, noise, target_condition)
        known = noise_predicted(denoiser, z, sigma, noise, source_condition)
        total += (wanted - known).abs().mean(dim=1)
    edge = torch.quantile(total.flatten(1).double(), percentile / 100, dim=1)
    return (total > edge[:, None, None]).to(z)


def grown(mask: Mask, pixels: int) -> Mask:
    """A mask that reaches so many pixels further on every side."""
    if not pixels:
        return mask
    return F.max_pool2d(mask[:, None], 2 * pixels + 1, stride=1, padding=pixels)[:, 0]


class CLIPSeg:
    """CLIPSeg from a folder of transformers: where a picture shows what a text says.

    Lüddecke and Ecker, Image Segmentation Using Text and Image Prompts, CVPR 2022, arXiv:2112.10003.

    Args:
        folder: With the model and its tokenizer, as `save_pretrained` writes them.

    Raises:
        InputError: transformers is not installed, or the folder holds no such model.
    """

    def __init__(self, folder: str | Path) -> None:
        self.model, self.tokenizer = opened(folder, "CLIPSegForImageSegmentation", "CLIPSeg")

    @torch.no_grad()
    def mask(self, images: Float[Tensor, "batch 3 height width"], text: str, threshold: float = 0.5) -> Mask:
        """1 where the probability of the text is at least a threshold, on the pixels of the images.

        Args:
            images: Between -1 and 1.
            text: What is looked for.
            threshold: The least probability.
        """
        side = self.model.config.vision_config.image_size
        ids = self.tokenizer([text] * len(images), return_tensors="pt", padding=True)
        logits = self.model(
            input_ids=ids["input_ids"],
            attention_mask=ids["attention_mask"],
            pixel_values=seen_by(images, side, MEAN, STD),
        ).logits
        logits = logits.reshape(len(images), 1, *logits.shape[-2:])
        found = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return (found[:, 0].sigmoid() >= threshold).float()


def opened(folder: str | Path, model: str, what: str) -> tuple[Any, Any]:
    """A model of transformers and its tokenizer from a folder; nothing is downloaded, and no code in it is run.

    Args:
        folder: As `save_pretrained` writes it.
        model: The class of transformers.
        what: What the model is called in an error.

    Raises:
        InputError: transformers is not installed, or the folder holds no such model.
    """
    path = Path(folder).expanduser()
    if not str(folder) or not path.is_dir():
        raise InputError(f"{str(folder) or 'nothing'} is no folder. Give the folder of a {what} model of transformers.")
    check_no_code(path)
    made = imported(f"transformers:{model}", "scenes", needed_by=what)
    tokens = imported("transformers:AutoTokenizer", "scenes", needed_by=what)
    how = {"local_files_only": True, "trust_remote_code": False}
    try:
        return made.from_pretrained(path, use_safetensors=True, **how).eval(), tokens.from_pretrained(path, **how)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise InputError(f"{folder} holds no {what} model of transformers with its tokenizer: {reason}") from None


def seen_by(
    images: Float[Tensor, "batch 3 height width"], side: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "batch 3 side side"]:
    """Images between -1 and 1 as a network with these statistics sees them: scaled to a square, and normalised."""
    scaled = F.interpolate(images, size=(side, side), mode="bicubic", align_corners=False, antialias=True)
    shift, scale = (images.new_tensor(numbers).view(1, 3, 1, 1) for numbers in (mean, std))
    return ((scaled.clamp(-1, 1) + 1) / 2 - shift) / scale


def _words(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
