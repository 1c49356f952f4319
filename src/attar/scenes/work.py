"""What a field is made from: a scene, and the autoencoder in whose latents it lives."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attar.core import store
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.training import cached
from attar.samplers.sources import Source
from attar.scenes.artefact import Autoencoder, LatentField, StoredScene
from attar.scenes.codecs import USUAL, Codec, Identity, codec_in, codec_of
from attar.scenes.sources import Camera, Pictures, Scene

PORTION = 16


@dataclass(frozen=True)
class Work:
    """A scene, and an autoencoder where one is needed."""

    scene: Scene
    codec: Codec | None = None

    @property
    def name(self) -> str:
        """The name of the scene."""
        return self.scene.name

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the scene and of the autoencoder's parameters."""
        if self.codec is None:
            return self.scene.fingerprint
        return store.digest_of({}, [self.scene.fingerprint, self.codec_fingerprint])

    @cached_property
    def codec_fingerprint(self) -> str:
        """A digest of the autoencoder's parameters; of an object of the caller's own, of the latents that it gives."""
        assert self.codec is not None
        own = {"latents": self.latents} if self.codec.words is None else dict(self.codec.state_dict())
        return store.digest_of(own, [self.codec.words, self.codec.scale])

    @cached_property
    def latents(self) -> Tensor:
        """Z of the training views."""
        return self.encoded(self.scene.train.images)

    @cached_property
    def held_out(self) -> Tensor:
        """Z of the held-out views."""
        return self.encoded(self.scene.test.images)

    @property
    def camera(self) -> Camera:
        """The camera of the maps of latents."""
        assert self.codec is not None
        picture = self.scene.camera
        return picture.scaled(picture.height // self.codec.factor, picture.width // self.codec.factor)

    def encoded(self, images: Pictures) -> Tensor:
        """Latents of pictures.

        Raises:
            InputError: The autoencoder gives latents that are not finite.
        """
        assert self.codec is not None
        return encoded(self.codec, images)

    def __str__(self) -> str:
        return str(self.scene)


@torch.no_grad()
def encoded(codec: Codec, images: Pictures) -> Tensor:
    """Latents of pictures, portion by portion.

    Raises:
        InputError: They are not finite.
    """
    found = torch.cat([codec.encode(part).float() for part in images.split(PORTION)]) if len(images) else images
    if not found.isfinite().all():
        raise InputError("the autoencoder gives latents that are infinite or not numbers. Give another autoencoder.")
    return found


def latents_of(scene: Scene, autoencoder: Any) -> Source:
    """The latents of a scene as samples for `attar train edm`.

    Of a scene whose classes are known they are those of all its simulated scenes, with their classes, and the held-out
    views of the scene itself; of another scene they are those of its training and its held-out views.

    Args:
        scene: The scene.
        autoencoder: An `Autoencoder`, or anything with `encode` and `decode`.
    """
    codec = codec_of(autoencoder, scene.train.images)
    test = scene.test if len(scene.test) else scene.train
    held_out = encoded(codec, test.images)
    name = f"latents of {scene.name}"
    if not scene.others:
        return Source.of_tensors(encoded(codec, scene.train.images), held_out, name=name)
    parts = [encoded(codec, views.images) for views in scene.others]
    labels = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([len(part) for part in parts]))
    mine = torch.full((len(held_out),), scene.label or 0)
    return Source.of_tensors(torch.cat(parts), held_out, labels=(labels, mine), classes=scene.classes, name=name)


def codec_for(given: Any, scene: Scene, runtime: Runtime, *, steps: int | None) -> Codec:
    """An autoencoder: as given, from its folder, or by words, trained here on the scene's views and kept in the cache.

    Args:
        given: An `Autoencoder`, anything with `encode` and `decode`, a folder, words, or None for the usual one.
        scene: Whose views it learns from.
        runtime: The machine, and the seed of a training.
        steps: Steps of a training. Default: those of the method.

    Raises:
        InputError: There is no such autoencoder.
    """
    if given is not None and not isinstance(given, (str, Path)):
        return codec_of(given, scene.train.images)
    text = USUAL if given is None else str(given)
    if text == "identity":
        return Identity()
    path = Path(text)
    if path.is_dir():
        return _codec_of_folder(path, runtime)
    if path.is_file() or "/" in text:
        raise InputError(f"{text} is no folder of an autoencoder. Give one, or words such as {USUAL}.")
    from attar.scenes.autoencoder import TrainAutoencoder

    method, work = TrainAutoencoder(network=text, **({} if steps is None else {"steps": steps})), Work(scene)
    made: Autoencoder = cached(method.resolve(work, runtime), work, runtime, title="training the autoencoder")
    return made.codec


def scene_of(source: Any) -> Scene:
    """A source that is a scene.

    Raises:
        InputError: It is labelled images.
    """
    if not isinstance(source, Scene):
        raise InputError(f"{source.name} is no scene: give one, such as spheres. Images are edited by image-edit.")
    return source


def field_named(given: Any, scene: Scene, codec: Callable[[], Codec], runtime: Runtime) -> LatentField:
    """A latent field: as given, from its folder, or trained here with the usual settings and kept in the cache.

    Args:
        given: A `LatentField`, its folder, or None.
        scene: The scene.
        codec: Gives the autoencoder of a training.
        runtime: The machine, and the seed of a training.

    Raises:
        InputError: There is no such field.
    """
    if given is not None and not isinstance(given, (str, Path)):
        found: Any = given
    elif given is not None:
        found = StoredScene.load(Path(given))
        runtime.prepared.count(Path(given))
    else:
        from attar.scenes.latent_field import TrainLatentField

        work = Work(scene, codec())
        found = cached(TrainLatentField().resolve(work, runtime), work, runtime, title="training the latent field")
    if not isinstance(found, LatentField):
        raise InputError(f"{given} is no latent field. Give the folder of one.")
    return found


def _codec_of_folder(path: Path, runtime: Runtime) -> Codec:
    if not (path / "artefact.json").is_file():
        return codec_in(path)
    found = StoredScene.load(path)
    codec = found.codec if isinstance(found, Autoencoder) else getattr(found, "autoencoder", None)
    if codec is None:
        raise InputError(f"{path} holds no autoencoder.")
    runtime.prepared.count(path)
    return codec
