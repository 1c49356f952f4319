"""Frozen image encoders, by name, to build a labeller on, with class features if they can compute them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.core import store
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.images import layout
from attar.images.data.whiten import Transform
from attar.images.labels.captions import Clip, TinyClip, captions_of, clip_named, squared, tiny_clip
from attar.images.networks.blocks import Network, Shape
from attar.images.sources import ImageSource
from attar.images.training import TrainedNetwork

TINY = "tiny"
"""The name of the small CLIP that is trained on the data."""
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Mean and standard deviation with which every released CLIP normalises images."""
SCALE = 100.0
"""Factor of cosines for an encoder without its own scale: that of CLIP."""

Images = Float[Tensor, "image channel height width"]
Head = Float[Tensor, "class feature"]


class Look(nn.Module):
    """The map from a data set's network input to an encoder's input.

    Args:
        side: Side of the square input of the encoder; None does not scale images.
        transform: Transform of the data set's pixels to network input, if the encoder normalises in another way.
    """

    def __init__(self, side: int | None = None, transform: Transform | None = None) -> None:
        super().__init__()
        self.side, self.transform = side, transform
        self.own = Transform(CLIP_MEAN, CLIP_STD)

    def forward(self, images: Images) -> Float[Tensor, "image _channel _height _width"]:
        """Un-normalise, repeat a grey channel, scale and normalise, as far as necessary."""
        if self.transform is not None:
            images = self.transform.inverse(images).expand(-1, 3, -1, -1)
        images = images if self.side is None else squared(images, self.side)
        return images if self.transform is None else self.own.forward(images)


class Embedding(nn.Module):
    """The part of a network before its classifier."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.network.classifier = nn.Identity()

    def forward(self, images: Images) -> Float[Tensor, "image feature"]:
        """The input of the classifier."""
        return self.network.embed(images)


@dataclass
class Encoder:
    """A frozen image encoder."""

    name: str
    tower: nn.Module
    """Frozen network that maps the encoder's input to features."""
    look: Look
    clip: Clip | None = None
    """CLIP whose image half the encoder is, if it is one."""

    @cached_property
    def digest(self) -> str:
        """A fingerprint of the encoder's weights."""
        return self.clip.digest if self.clip else store.digest_of(self.tower.state_dict(), None)

    @property
    def scale(self) -> float:
        """The factor of cosines before any fitting."""
        return self.clip.scale if self.clip else SCALE

    def words(self, caption: str, classes: Sequence[str]) -> str:
        """A fingerprint of the tokens of the captions."""
        return store.digest_of(self._reader().tokens(captions_of(caption, classes)), None)

    @torch.no_grad()
    def text_head(self, caption: str, classes: Sequence[str]) -> Head:
        """The features of each class's caption, of length one, as in CLIP's zero-shot classifier.

        Raises:
            InputError: The encoder does not read text.
        """
        clip = self._reader()
        tokens = clip.tokens(captions_of(caption, classes))
        parts = [
            clip.read({name: values[rows] for name, values in tokens.items()})
            for rows in torch.arange(len(classes)).split(256)
        ]
        return F.normalize(torch.cat(parts).float(), dim=1)

    @torch.no_grad()
    def mean_head(self, source: ImageSource, runtime: Runtime) -> Head:
        """The mean features of each class's training images, of length one."""
        tower = self.tower.to(runtime.device)
        means = []
        for rows in source.rows_of:
            parts = rows.split(layout.at_once(source.shape, runtime))
            seen = [F.normalize(tower(self.look(source.inputs(p, runtime.device))).float(), dim=1) for p in parts]
            means.append(torch.cat(seen).mean(dim=0))
        self.tower.to("cpu")
        return F.normalize(torch.stack(means), dim=1).cpu()

    def _reader(self) -> Clip:
        if self.clip is None:
            raise InputError(f"the encoder in {self.name} does not read text. Give --class-features mean.")
        return self.clip


def encoder_for(name: str, source: ImageSource, tiny: TinyClip, caption: str, runtime: Runtime) -> Encoder:
    """An encoder for the images of a source. The tiny one is trained on the source.

    Raises:
        InputError: There is no such encoder, or it does not take such images.
    """
    if name != TINY:
        return open_encoder(name, source.shape, source.transform)
    return _of_clip(name, tiny_clip(source, tiny, caption, runtime), None)


def open_encoder(name: str, shape: Shape, transform: Transform, folder: Path | None = None) -> Encoder:
    """An encoder by name: a folder with a network trained here, a CLIP in a folder or on the hub, or the tiny one.

    Args:
        name: The folder, the name on the hub, or `tiny`.
        shape: The shape of the images.
        transform: The transform of their pixels to network input.
        folder: The folder of the tiny one.

    Raises:
        InputError: There is no such encoder, or it takes other images.
    """
    if name == TINY:
        assert folder is not None, "the tiny one is known by its folder only"
        return _of_clip(name, Clip.load(folder), None)
    if not (Path(name) / "network.safetensors").is_file():
        return _of_clip(name, clip_named(name), transform)
    found = TrainedNetwork.load(Path(name))
    if found.shape != shape or not isinstance(found.network, Network):
        raise InputError(f"the network in {name} was trained on images of {found.shape}, but these are {shape}.")
    return Encoder(name, Embedding(found.network).eval().requires_grad_(False), Look())


def _of_clip(name: str, clip: Clip, transform: Transform | None) -> Encoder:
    clip.model.eval().requires_grad_(False)
    return Encoder(name, clip.vision, Look(clip.side, transform), clip)
