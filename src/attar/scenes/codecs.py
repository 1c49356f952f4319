"""What turns pictures into latents and back: a small convolutional network, diffusers' AutoencoderKL, or anything else.

Latents are the mean of the encoder times a scale that gives them a standard deviation of about 1 (Rombach et al., CVPR
2022, arXiv:2112.10752). With attention a latent pixel depends on the whole picture, as with the autoencoders of latent
diffusion models.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError, unknown
from attar.core.jsonfiles import read_json
from attar.core.seeds import seeded
from attar.core.settings import Range, Settings, words
from attar.scenes.blocks import Attention, Residual, groups_of

Images = Float[Tensor, "image 3 height width"]
Latents = Float[Tensor, "image channel h w"]
USUAL = "conv:width=32,latents=4,halvings=2"
"""The autoencoder that is trained where none is named."""


@dataclass(frozen=True, kw_only=True)
class ConvWords(Settings):
    """Settings of the convolutional autoencoder, as words: conv:width=32,latents=4,halvings=2."""

    width: Annotated[int, Range(4, 1024)] = 32
    """Channels at the resolution of the latents."""
    latents: Annotated[int, Range(1, 256)] = 4
    """Channels of the latents."""
    halvings: Annotated[int, Range(0, 5)] = 2
    """How often the side of a picture is halved."""
    attention: Annotated[int, Range(0, 1)] = 1
    """Whether the middle of encoder and decoder attends over the whole map: 1 or 0."""


class Codec(nn.Module):
    """Pictures between -1 and 1 into latents, and back.

    Args:
        channels: Of the latents.
        factor: How many times smaller a side of the latents is.
        words: What it is, by words; None of an object of the caller's own, which cannot be saved.
        scale: What the encoder's means are multiplied by.
    """

    def __init__(self, channels: int, factor: int, words: str | None, scale: float = 1.0) -> None:
        super().__init__()
        self.channels, self.factor, self.words, self.scale = channels, factor, words, float(scale)

    def means(self, images: Images) -> Latents:
        """The encoder's means, before they are scaled."""
        raise NotImplementedError

    def pictured(self, means: Latents) -> Images:
        """Pictures of the encoder's means."""
        raise NotImplementedError

    def encode(self, images: Images) -> Latents:
        """Latents of pictures.

        Raises:
            InputError: They are no pictures in colour, or their sides are no multiples of the factor.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"pictures are {list(images.shape)}; give [image, 3, height, width], between -1 and 1.")
        height, width = images.shape[2:]
        if height % self.factor or width % self.factor:
            raise InputError(
                f"pictures are {height}×{width}; the autoencoder needs sides that are multiples of {self.factor}. "
                "Give --size."
            )
        return self.scale * self.means(images)

    def decode(self, latents: Latents) -> Images:
        """Pictures of latents; they may leave [-1, 1] a little.

        Raises:
            InputError: They are no latents of this autoencoder.
        """
        if latents.ndim != 4 or latents.shape[1] != self.channels:
            raise InputError(f"latents are {list(latents.shape)}; give [image, {self.channels}, height, width].")
        return self.pictured(latents / self.scale)

    @property
    def facts(self) -> dict[str, Any]:
        """What `codec_from` needs besides the parameters."""
        return {"words": self.words, "scale": self.scale}


class Identity(Codec):
    """Latents that are the pictures themselves, with which a latent field is an ordinary RGB field."""

    def __init__(self) -> None:
        super().__init__(3, 1, "identity")

    def means(self, images: Images) -> Latents:
        """The pictures."""
        return images

    def pictured(self, means: Latents) -> Images:
        """The latents."""
        return means


class ConvCodec(Codec):
    """A convolutional autoencoder with residual blocks and attention in its middle.

    Args:
        how: Its sizes.
        words: The same by words.
    """

    def __init__(self, how: ConvWords, words: str) -> None:
        super().__init__(how.latents, 2**how.halvings, words)
        widths = [max(how.width >> (how.halvings - level), 8) for level in range(how.halvings + 1)]
        enter: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
        leave: list[nn.Module] = [nn.Conv2d(how.latents, widths[-1], 3, padding=1), *_middle(widths[-1], how.attention)]
        for narrow, wide in itertools.pairwise(widths):
            enter += [nn.SiLU(), nn.Conv2d(narrow, wide, 3, stride=2, padding=1)]
        for narrow, wide in reversed(list(itertools.pairwise(widths))):
            leave += [nn.SiLU(), nn.Upsample(scale_factor=2), nn.Conv2d(wide, narrow, 3, padding=1)]
        last = [nn.GroupNorm(groups_of(widths[-1]), widths[-1]), nn.SiLU()]
        self.encoder = nn.Sequential(
            *enter, *_middle(widths[-1], how.attention), *last, nn.Conv2d(widths[-1], how.latents, 3, padding=1)
        )
        self.decoder = nn.Sequential(*leave, nn.SiLU(), nn.Conv2d(widths[0], 3, 3, padding=1))

    def means(self, images: Images) -> Latents:
        """The encoder's output."""
        found: Tensor = self.encoder(images)
        return found

    def pictured(self, means: Latents) -> Images:
        """The decoder's output."""
        found: Tensor = self.decoder(means)
        return found


def _middle(width: int, attention: int) -> list[nn.Module]:
    return [Residual(width), *([Attention(width)] if attention else []), Residual(width)]


class KLCodec(Codec):
    """diffusers' AutoencoderKL."""

    def __init__(self, model: Any) -> None:
        config = model.config
        super().__init__(
            int(config.latent_channels), 2 ** (len(config.block_out_channels) - 1), "kl", config.scaling_factor
        )
        self.model = model

    def means(self, images: Images) -> Latents:
        """The means of the encoder's distribution, less the model's shift, or by its moments, if it has such."""
        found: Tensor = self.model.encode(images).latent_dist.mean
        shift, spread = self._moments(found)
        return (found - shift) / spread

    def pictured(self, means: Latents) -> Images:
        """The decoder's output."""
        shift, spread = self._moments(means)
        found: Tensor = self.model.decode(means * spread + shift).sample
        return found

    def _moments(self, like: Latents) -> tuple[Any, Any]:
        """What is taken away from latents, and what they are divided by, of models that name either."""
        config = self.model.config
        mean, std = (getattr(config, name, None) for name in ("latents_mean", "latents_std"))
        if mean is None or std is None:
            return float(getattr(config, "shift_factor", None) or 0.0), 1.0
        return tuple(like.new_tensor(one).view(1, -1, 1, 1) for one in (mean, std))  # type: ignore[return-value]

    @property
    def facts(self) -> dict[str, Any]:
        """With the configuration of the model."""
        config = {name: value for name, value in dict(self.model.config).items() if not name.startswith("_")}
        return {**super().facts, "config": config}


class OwnCodec(Codec):
    """An object of the caller's own with `encode` and `decode`.

    Args:
        thing: The object. What `encode` gives is taken as the latents.
        like: Pictures, by which the channels and the factor are found.
    """

    def __init__(self, thing: Any, like: Images) -> None:
        with torch.no_grad():
            latents = thing.encode(like[:1])
        if not isinstance(latents, Tensor) or latents.ndim != 4 or not _whole(like[:1], latents):
            raise InputError(f"encode of {type(thing).__name__} must give latents [image, channel, h, w].")
        super().__init__(latents.shape[1], like.shape[2] // latents.shape[2], None)
        self.thing = thing

    def means(self, images: Images) -> Latents:
        """What the object gives."""
        found: Tensor = self.thing.encode(images)
        return found

    def pictured(self, means: Latents) -> Images:
        """What the object gives."""
        found: Tensor = self.thing.decode(means)
        return found


def _whole(images: Images, latents: Latents) -> bool:
    """Whether the sides of pictures are the same multiple of those of latents."""
    high, wide = latents.shape[2:]
    return min(high, wide) > 0 and images.shape[2] % high == 0 and wide * (images.shape[2] // high) == images.shape[3]


def codec_named(text: str, generator: torch.Generator) -> Codec:
    """A codec with fresh parameters, by words: conv or kl with options, or identity.

    Raises:
        InputError: There is no such codec or option.
    """
    from attar.samplers.networks import options_of

    name, given = words(text)
    if name == "identity":
        return Identity()
    if name not in ("conv", "kl"):
        raise unknown("autoencoder", name, ("conv", "kl", "identity"))
    how = options_of(ConvWords, name, given)
    with seeded(generator):
        return ConvCodec(how, text) if name == "conv" else KLCodec(_fresh_kl(how))


def codec_from(facts: dict[str, Any], tensors: dict[str, Tensor]) -> Codec | None:
    """The codec that `facts` and its parameters describe; None of an object of the caller's own."""
    text = facts["words"]
    if text is None:
        return None
    made = KLCodec(_kl_class().from_config(facts["config"])) if text == "kl" else codec_named(text, _nothing())
    made.load_state_dict(tensors)
    made.scale = float(facts["scale"])
    return made.eval().requires_grad_(False)


def codec_in(folder: Path) -> Codec:
    """The AutoencoderKL of diffusers in a folder; that of a whole pipeline lies in its folder `vae`.

    Raises:
        InputError: There is none, it holds code, or diffusers is not installed.
    """
    place = folder / "vae" if (folder / "vae").is_dir() else folder
    if not (place / "config.json").is_file():
        raise InputError(f"{folder} holds no autoencoder: no artefact.json of attar and no config.json of diffusers.")
    if any(folder.rglob("*.py")):
        raise InputError(f"{folder} holds code, which is not run. Give a folder with weights and configuration alone.")
    config = read_json(place / "config.json")
    name = config.get("_class_name") if isinstance(config, dict) else None
    if name != "AutoencoderKL":
        raise InputError(f"{place} holds no AutoencoderKL of diffusers: its config.json names {name}.")
    from attar.samplers.folders import opened

    _kl_class()
    return KLCodec(opened(place, "AutoencoderKL")).eval().requires_grad_(False)


def codec_of(thing: Any, like: Images) -> Codec:
    """A codec of an object: as it is, a model of diffusers, or anything with `encode` and `decode`."""
    if isinstance(thing, Codec):
        return thing
    if isinstance(getattr(thing, "codec", None), Codec):
        return thing.codec
    if hasattr(getattr(thing, "config", None), "latent_channels"):
        return KLCodec(thing).eval().requires_grad_(False)
    if not (hasattr(thing, "encode") and hasattr(thing, "decode")):
        raise InputError(f"{type(thing).__name__} is no autoencoder: it needs encode and decode.")
    return OwnCodec(thing, like)


def _fresh_kl(how: ConvWords) -> Any:
    widths = [max(how.width >> (how.halvings - level), 8) for level in range(how.halvings + 1)]
    count = len(widths)
    return _kl_class()(
        down_block_types=("DownEncoderBlock2D",) * count,
        up_block_types=("UpDecoderBlock2D",) * count,
        block_out_channels=tuple(widths),
        latent_channels=how.latents,
        norm_num_groups=groups_of(min(widths)),
        layers_per_block=1,
        mid_block_add_attention=bool(how.attention),
        scaling_factor=1.0,
    )


def _kl_class() -> Any:
    from attar.core.kinds import imported

    return imported("diffusers:AutoencoderKL", "scenes", needed_by="AutoencoderKL")


def _nothing() -> torch.Generator:
    return torch.Generator().manual_seed(0)
