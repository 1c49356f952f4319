"""Autoencoders and latent fields on disk and in memory.

`autoencoder.safetensors` and `latent-field.safetensors` hold the parameters, the latter those of the field, of its
refinement layer and of the autoencoder together, and the poses, so that it opens alone. `artefact.json` states the
rest, with a digest of each file.
"""

import builtins
import copy
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from attar.core import artefact as core
from attar.core import store
from attar.core.card import SCORES
from attar.core.cell import Cell
from attar.core.errors import InputError
from attar.core.pictures import KEPT, kept_in
from attar.core.store import named, within
from attar.samplers.sources import pixels_of
from attar.scenes.card import TITLES, autoencoder_card, field_card
from attar.scenes.codecs import Codec, Images, Latents, codec_from, codec_of
from attar.scenes.fields import FactorField, GridField, field_of
from attar.scenes.poses import checked, orbit
from attar.scenes.reading import SIMULATED
from attar.scenes.refinement import Refinement
from attar.scenes.rendering import Box, maps
from attar.scenes.sources import Camera, Pictures, Poses, Scene

SCHEMA = 1
KIND = "scenes"
PREVIEW, SHEET = "preview.png", "orbit.png"
FIELD, AUTOENCODER, EDITED = "latent-field", "autoencoder", "edited-images"
"""The forms."""
PORTION = 8
"""Views that are rendered at once."""
ORBIT = 24
"""Views of the animated preview."""
Maps = Float[Tensor, "view channel h w"]


@dataclass(frozen=True)
class Origin(core.Origin):
    """The origin of an artefact of this kind."""

    parameters: int
    autoencoder: str | None = None
    """Fingerprint of the autoencoder in whose latents the field lives."""


@dataclass(frozen=True)
class ScenePart:
    """What a field keeps of its scene, so that it can be rendered alone."""

    name: str
    camera: Camera
    """Of the pictures."""
    near: float
    far: float
    box: Box
    poses: Poses
    """Of the training views."""
    held_out: Float[Tensor, "held 3 4"]
    """Of the held-out views."""

    @classmethod
    def of(cls, scene: Scene) -> Self:
        """The part of a scene."""
        return cls(
            scene.name,
            scene.camera,
            scene.near,
            scene.far,
            scene.box,
            scene.train.poses.clone(),
            scene.test.poses.clone(),
        )

    def check(self, scene: Scene) -> None:
        """Refuse a scene that is not this one, as far as its size, its poses and the names of simulated ones tell.

        Raises:
            InputError: It is another.
        """
        mine, other = self.camera, scene.camera
        if (mine.height, mine.width) != (other.height, other.width):
            raise InputError(
                f"the field was made of pictures of {mine.height}×{mine.width}, but those of {scene.name} are "
                f"{other.height}×{other.width}. Give the same --size."
            )
        for who, known, poses in (
            ("training", self.poses, scene.train.poses),
            ("held-out", self.held_out, scene.test.poses),
        ):
            if len(known) != len(poses):
                raise InputError(
                    f"the field was made of {self.name} with {len(known)} {who} views; {scene.name} has {len(poses)}. "
                    "Give the same data and --held-out-views."
                )
            if not torch.allclose(known, poses, rtol=0, atol=1e-4):
                raise InputError(f"the field was made from other views than those of {scene.name}. Give its own data.")
        if self.name != scene.name and not {self.name, scene.name}.isdisjoint(SIMULATED):
            raise InputError(f"the field was made of {self.name}, not of {scene.name}. Give its own data.")

    def facts(self) -> dict[str, Any]:
        """Plain values of all but the poses."""
        camera = dataclasses.asdict(self.camera)
        return {
            "name": self.name,
            "camera": camera,
            "near": self.near,
            "far": self.far,
            "box": list(map(list, self.box)),
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any], poses: Poses, held_out: Float[Tensor, "held 3 4"]) -> Self:
        """The inverse."""
        low, high = (tuple(map(float, corner)) for corner in facts["box"])
        camera = Camera(**facts["camera"])
        return cls(facts["name"], camera, float(facts["near"]), float(facts["far"]), (low, high), poses, held_out)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Autoencoder(core.Shareable):
    """Pictures into latents and back."""

    codec: Codec
    origin: Origin
    error: float
    """Root mean squared error of held-out pictures."""
    before: Images = field(compare=False, repr=False, default_factory=lambda: torch.zeros(0, 3, 1, 1))
    """A few held-out pictures, for the preview; not kept in the folder."""
    scores: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = field(default=None, compare=False)

    kind = KIND
    repo_type = "model"
    files = ("autoencoder.safetensors", core.ARTEFACT, core.CARD, PREVIEW, SCORES, KEPT)

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return f"An autoencoder of views of {self.origin.source}"

    @property
    def scale(self) -> float:
        """What the encoder's means are multiplied by."""
        return self.codec.scale

    @property
    def learned(self) -> dict[str, Tensor]:
        """The weights of the network."""
        return dict(self.codec.state_dict())

    @property
    def bytes(self) -> int:
        """Size of the parameters in bytes."""
        return sum(one.numel() * one.element_size() for one in self.codec.state_dict().values())

    @torch.no_grad()
    def encode(self, images: Images) -> Latents:
        """Latents of pictures between -1 and 1, of about unit standard deviation."""
        return torch.cat([self.codec.encode(part) for part in images.split(PORTION)])

    @torch.no_grad()
    def decode(self, latents: Latents) -> Images:
        """Pictures of latents."""
        return torch.cat([self.codec.decode(part) for part in latents.split(PORTION)])

    def save(self, folder: str | Path) -> Self:
        """Write it to a folder and return the saved copy. Each file is written whole or not at all.

        Raises:
            InputError: The folder cannot be written to.
        """
        folder = Path(folder)
        store.make_folder(folder)
        picture = self.picture()
        if picture is not None:
            store.write_bytes(folder / PREVIEW, picture)
        facts = {
            core.FORM: AUTOENCODER,
            "codec": self.codec.facts,
            "digest": store.write_tensors(folder / "autoencoder.safetensors", self.learned, {}),
            "error": self.error,
            "origin": dataclasses.asdict(self.origin),
            "scores": self.scores,
        }
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: The folder holds no autoencoder, or a file is missing, damaged or altered.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "autoencoder")
        tensors, _ = core.read_tensors(folder / "autoencoder.safetensors", facts["digest"])
        codec = codec_from(facts["codec"], tensors)
        assert codec is not None
        origin, error = Origin(**facts["origin"]), float(facts["error"])
        return cls(codec, origin, error, scores=facts["scores"], folder=folder)

    def picture(self) -> builtins.bytes | None:
        """Held-out pictures and what the decoder makes of their latents; of a saved one as it was drawn when made."""
        if self.folder is not None and (self.folder / PREVIEW).is_file():
            return (self.folder / PREVIEW).read_bytes()
        if not len(self.before):
            return None
        from attar.scenes.pictures import rows

        return rows({"held out": self.before, "decoded": self.decode(self.encode(self.before))})

    def shown(self, images: int = 10) -> core.Shown:
        """Sizes and pictures."""
        drawn = self.picture()
        return core.Shown(
            size=f"{self.codec.channels} channels, {self.codec.factor} times smaller",
            count=self.codec.channels,
            bytes=self.bytes,
            facts={"parameters": f"{self.origin.parameters:,}", "network": str(self.codec.words)},
            pictures=(*(() if drawn is None else (core.Picture("", drawn),)), *kept_in(self.folder, TITLES)),
        )

    def card(self, scores: list[Cell]) -> str:
        """The README of the autoencoder."""
        return autoencoder_card(self, scores)

    def __str__(self) -> str:
        codec = self.codec
        return (
            f"{codec.channels} channels of latents, {codec.factor} times smaller than the picture; "
            f"held-out error {self.error:.3f} (rms, of [-1, 1])"
        )


@dataclass(frozen=True)
class LatentField(core.Shareable):
    """A radiance field of latents, with the layer that refines its maps and the autoencoder that decodes them."""

    field: GridField | FactorField
    refinement: Refinement | None
    """F_φ; None of a field whose maps are decoded as they are."""
    autoencoder: Codec | None
    """None if it was an object of the caller's own, which is not saved: see `with_autoencoder`."""
    scene: ScenePart
    samples: int
    """Intervals of each ray."""
    factor: int
    """How many times smaller a side of a map is than that of a picture."""
    origin: Origin
    scores: dict[str, Any] = dataclasses.field(default_factory=dict)
    folder: Path | None = dataclasses.field(default=None, compare=False)

    kind = KIND
    repo_type = "model"
    files = (
        *("latent-field.safetensors", core.ARTEFACT, core.CARD),
        *(PREVIEW, SHEET, SCORES, KEPT),
    )

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return f"A latent field of {self.origin.source}, by {self.origin.method}"

    @property
    def camera(self) -> Camera:
        """The camera of the maps of latents."""
        picture = self.scene.camera
        return picture.scaled(picture.height // self.factor, picture.width // self.factor)

    @property
    def near(self) -> float:
        """Distance at which rays begin."""
        return self.scene.near

    @property
    def far(self) -> float:
        """Distance at which rays end."""
        return self.scene.far

    @property
    def poses(self) -> Poses:
        """Those of the training views."""
        return self.scene.poses

    @property
    def learned(self) -> dict[str, Tensor]:
        """The parameters of the field and its refinement layer."""
        parts = {"field": self.field, "refinement": self.refinement}
        found: dict[str, Tensor] = {}
        for part, module in parts.items():
            found |= {} if module is None else named(part, module.state_dict())
        return found

    @property
    def bytes(self) -> int:
        """Size of the parameters of field and refinement layer in bytes."""
        return sum(one.numel() * one.element_size() for one in self.learned.values())

    # ------------------------------------------------------------------------------------------------------------ views

    def maps(self, poses: Poses) -> Maps:
        """Maps of latents as the field alone has them, with a gradient where one is wanted.

        Args:
            poses: Camera to world.
        """
        return maps(self.field, self.camera, poses, self.near, self.far, self.samples)

    @torch.no_grad()
    def render_latents(self, poses: Poses, *, refined: bool = True) -> Maps:
        """Maps of latents.

        Args:
            poses: Camera to world, `[view, 3, 4]`.
            refined: Whether they are refined, where there is a refinement layer.

        Raises:
            InputError: There is no pose.
        """
        if not len(checked(poses)):
            raise InputError("there is no pose. Give one or more, [view, 3, 4].")
        layer = self.refinement if refined and self.refinement is not None else nn.Identity()
        return torch.cat([layer(self.maps(part)) for part in poses.to(self.poses).split(PORTION)])

    @torch.no_grad()
    def render(self, poses: Poses, *, refined: bool = True) -> Pictures:
        """Pictures between -1 and 1.

        Args:
            poses: Camera to world, `[view, 3, 4]`.
            refined: Whether maps are refined before they are decoded.

        Raises:
            InputError: The autoencoder is not at hand.
        """
        if self.autoencoder is None:
            raise InputError("the autoencoder of this field is not saved with it. Give it by with_autoencoder.")
        decode, latents = self.autoencoder.decode, self.render_latents(poses, refined=refined)
        return torch.cat([decode(part) for part in latents.split(PORTION)]).clamp(-1, 1)

    def novel(self, count: int = ORBIT) -> Pictures:
        """So many pictures from a path around the scene."""
        return self.render(self.orbit(count))

    def orbit(self, count: int = ORBIT) -> Poses:
        """So many poses on a path around the scene, from those of the training views.

        Raises:
            InputError: Fewer than one are asked for.
        """
        if count < 1:
            raise InputError(f"count is {count}; give 1 or more.")
        return orbit(self.poses, count)

    def images(self, poses: Poses) -> UInt8[Tensor, "view 3 height width"]:
        """Pictures as 8-bit pixels."""
        return pixels_of(self.render(poses))

    def with_autoencoder(self, thing: Any) -> Self:
        """The same field with an autoencoder at hand: anything with `encode` and `decode`."""
        camera = self.scene.camera
        return dataclasses.replace(self, autoencoder=codec_of(thing, torch.zeros(1, 3, camera.height, camera.width)))

    def thawed(self) -> tuple[GridField | FactorField, Refinement | None]:
        """Copies of field and refinement layer, whose parameters learn."""
        made = copy.deepcopy((self.field, self.refinement))
        for module in made:
            if module is not None:
                module.requires_grad_(True)
        return made

    # ------------------------------------------------------------------------------------------------------- its folder

    def save(self, folder: str | Path) -> Self:
        """Write it to a folder and return the saved copy. Each file is written whole or not at all.

        Raises:
            InputError: The folder cannot be written to.
        """
        folder = Path(folder)
        store.make_folder(folder)
        for name, drawn in ((PREVIEW, self.picture()), (SHEET, self.moving())):
            if drawn is not None:
                store.write_bytes(folder / name, drawn)
        tensors = {**self.learned, "poses": self.scene.poses, "held_out": self.scene.held_out}
        codec = self.autoencoder
        if codec is not None and codec.words is not None:
            tensors |= named("autoencoder", codec.state_dict())
        facts = {
            core.FORM: FIELD,
            "field": {
                "form": getattr(self.field, "form", "dense"),
                "sizes": list(self.field.sizes),
                "channels": self.field.channels,
                "rank": getattr(self.field, "rank", 1),
            },
            "refinement": None if self.refinement is None else {"width": self.refinement.width},
            "codec": None if codec is None or codec.words is None else codec.facts,
            "scene": self.scene.facts(),
            "samples": self.samples,
            "factor": self.factor,
            "digest": store.write_tensors(folder / "latent-field.safetensors", tensors, {}),
            "origin": dataclasses.asdict(self.origin),
            "scores": self.scores,
        }
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: The folder holds no latent field, or a file is missing, damaged or altered.
            ValueError: A number in it means nothing.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "latent field")
        tensors, _ = core.read_tensors(folder / "latent-field.safetensors", facts["digest"])

        scene = ScenePart.from_facts(facts["scene"], tensors["poses"], tensors["held_out"])
        samples, factor = int(facts["samples"]), int(facts["factor"])
        if min(samples, factor) < 1 or min(scene.camera.height, scene.camera.width) < factor:
            raise ValueError(f"{samples} intervals of a ray, and maps {factor} times smaller than {scene.camera}")
        about = facts["field"]
        x, y, z = map(int, about["sizes"])
        made = field_of(about["form"], scene.box, (x, y, z), int(about["channels"]), int(about["rank"]), None)
        made.load_state_dict(within("field", tensors))
        layer = None
        if facts["refinement"] is not None:
            layer = Refinement(made.channels, int(facts["refinement"]["width"]))
            layer.load_state_dict(within("refinement", tensors))
            layer.eval().requires_grad_(False)
        return cls(
            field=made.eval().requires_grad_(False),
            refinement=layer,
            autoencoder=None if facts["codec"] is None else codec_from(facts["codec"], within("autoencoder", tensors)),
            scene=scene,
            samples=samples,
            factor=factor,
            origin=Origin(**facts["origin"]),
            scores=facts["scores"],
            folder=folder,
        )

    def picture(self) -> builtins.bytes | None:
        """A sheet of views from a path around the scene; of a saved field the one that was drawn when it was made."""
        return self._drawn(PREVIEW)

    def moving(self) -> builtins.bytes | None:
        """The same views as an animated PNG."""
        return self._drawn(SHEET)

    def _drawn(self, name: str) -> builtins.bytes | None:
        if self.folder is not None and (self.folder / name).is_file():
            return (self.folder / name).read_bytes()
        if self.autoencoder is None:
            return None
        from attar.scenes.pictures import animated, sheet

        return animated(self.novel()) if name == SHEET else sheet(self.novel())

    def shown(self, images: int = 10) -> core.Shown:
        """Sizes and pictures, the first of them moving."""
        drawn = {"a path around the scene": self.moving(), "": self.picture()}
        pictures = [core.Picture(label, png) for label, png in drawn.items() if png is not None]
        return core.Shown(
            size=" × ".join(map(str, self.field.sizes)) + " voxels",
            count=self.field.sizes[0] * self.field.sizes[1] * self.field.sizes[2],
            bytes=self.bytes,
            facts={
                "latents": f"{self.field.channels} channels, {self.camera.height}×{self.camera.width}",
                "parameters": f"{self.origin.parameters:,}",
                "refinement layer": "none" if self.refinement is None else f"{self.refinement.width} channels",
            },
            pictures=(*pictures, *kept_in(self.folder, TITLES)),
        )

    def card(self, scores: list[Cell]) -> str:
        """The README of the field."""
        return field_card(self, scores)

    def __str__(self) -> str:
        sizes, camera = "×".join(map(str, self.field.sizes)), self.camera
        layer = "without a refinement layer" if self.refinement is None else "with a refinement layer"
        channels = f"{self.field.channels} channels, {layer}"
        return f"a field of {sizes} voxels and {channels}; maps of {camera.height}×{camera.width}"


class StoredScene(core.Stored, LatentField):
    """What lies in a folder of this kind."""

    forms = MappingProxyType(
        {
            FIELD: "attar.scenes.artefact:LatentField",
            AUTOENCODER: "attar.scenes.artefact:Autoencoder",
            EDITED: "attar.scenes.edited:EditedImages",
        }
    )
