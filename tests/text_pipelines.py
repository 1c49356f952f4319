"""Text-to-image pipelines of diffusers on disk, tiny and untrained."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

WORDS = ("a", "red", "blue", "green", "tall", "small", "picture", "of", "thing", "house", "tree", "cat")
PROMPTS = ("a red house", "a blue tree", "a small green cat", "a picture of a tall thing")
SD = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1, "sample_size": 8}
VAE = {
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 4,
    "layers_per_block": 1,
}
SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def tokenizer(words: tuple[str, ...] = WORDS, length: int = 12) -> Any:
    """CLIP's tokenizer with a vocabulary of a few words and all letters."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz,."
    merges: list[tuple[str, str]] = []
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    for word in words:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            if (parts[0], parts[1]) not in merges:
                merges.append((parts[0], parts[1]))
                tokens.append(parts[0] + parts[1])
            parts = [parts[0] + parts[1], *parts[2:]]
    tokens = [*dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"])]
    vocab = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=length)


def save_pipeline(folder: Path, *, sdxl: bool = False, prediction: str = "epsilon", seed: int = 0) -> Path:
    """A Stable Diffusion or SDXL pipeline with weights drawn at random, as diffusers saves one."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        words = tokenizer()
        shape = {"vocab_size": len(words), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
        ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": 1}
        config = CLIPTextConfig(**shape, **ends, num_attention_heads=2, max_position_embeddings=12, projection_dim=10)
        encoders = [CLIPTextModel(config), *([CLIPTextModelWithProjection(config)] if sdxl else [])]
        added = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 6 * 4 + 10,
        }
        unet = UNet2DConditionModel(
            **SD,
            cross_attention_dim=16 * len(encoders),
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            **(added if sdxl else {}),
        )
        vae = AutoencoderKL(**VAE)
    scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False, steps_offset=1, prediction_type=prediction)
    pipeline(sdxl, unet, vae, scheduler, encoders, [words] * len(encoders)).save_pretrained(folder)
    return folder


def pipeline(sdxl: bool, unet: Any, vae: Any, scheduler: Any, encoders: list[Any], tokenizers: list[Any]) -> Any:
    """A pipeline of diffusers of its parts."""
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    if sdxl:
        return StableDiffusionXLPipeline(
            vae, *encoders, *tokenizers, unet, scheduler, force_zeros_for_empty_prompt=True, add_watermarker=False
        )
    return StableDiffusionPipeline(
        vae, encoders[0], tokenizers[0], unet, scheduler, None, None, requires_safety_checker=False
    )


def captioned_pictures(place: Path) -> Path:
    """Pictures of several sizes in a folder with their captions, as JSON lines; the file of these."""
    rows = []
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 16 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
        rows.append({"file_name": f"{number}.png", "text": PROMPTS[number % len(PROMPTS)]})
    (place / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return place / "metadata.jsonl"
