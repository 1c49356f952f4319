"""A CLIP on disk as `transformers` saves one, small and untrained."""

from pathlib import Path

import torch

from attar.images.labels.captions import library, word_tokenizer


def save_clip(folder: Path, captions: list[str], *, seed: int = 0) -> str:
    """A CLIP for images of 12×12 in colour, with weights drawn at random, as the library saves one."""
    tokenizer = word_tokenizer(captions)
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": 3}
    vision = {"image_size": 12, "patch_size": 4}
    config = library().CLIPConfig(text_config={**tower, **text}, vision_config={**tower, **vision}, projection_dim=8)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        library().CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def save_clipseg(folder: Path, captions: list[str]) -> Path:
    """A CLIPSeg for images of 16×16 in colour, with weights drawn at random, as transformers saves one."""
    tokenizer = word_tokenizer(captions)
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = library().CLIPSegConfig(
        text_config={**tower, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": 3},
        vision_config={**tower, "image_size": 16, "patch_size": 4},
        projection_dim=8,
        extract_layers=[0, 1],
        reduce_dim=8,
        conditional_layer=0,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=8,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        library().CLIPSegForImageSegmentation(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
