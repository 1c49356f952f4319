"""Views of samples: what is drawn anew of each image or row, every time that it is seen.

Everything is drawn for a whole batch at once, on the device where it lies, and for each sample anew. The draws are the
same on every device. Gradients pass to the pixels.

Recipes are those of papers: SimCLR's; the five kinds of AMCL's study, singly and together; KMCL's cutout with
RandAugment, and its affine maps for X-rays; and corruption for rows of a table, as in SCARF. Every single setting of a
recipe can be changed. Images whose mirror image is another thing, such as digits, are never mirrored, and images of one
channel keep their single channel: of the changes of colour they have brightness and contrast.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor

from attar.core.errors import InputError
from attar.core.sending import sent
from attar.core.settings import Range, Settings
from attar.embeddings.augmentation.affine import drawn_affine, warped
from attar.embeddings.augmentation.blur import blurred
from attar.embeddings.augmentation.colours import drawn_jitter, dropped, jittered_in, solarised, turns_of
from attar.embeddings.augmentation.corruption import corrupted
from attar.embeddings.augmentation.cutout import cut_out, fill_of
from attar.embeddings.augmentation.randaugment import MOST, rand_augmented
from attar.embeddings.augmentation.shared import Images, between, only, some
from attar.embeddings.sources import Inputs, Source
from attar.images.views.crops import draw_boxes, resized_crop

Recipe = Literal["auto", "simclr", "amcl", "kmcl", "kmcl-xray", "table", "none"]
Values = Mapping[str, Any]
Share = Annotated[float, Range(0, 1)]

COLOURS = (0.4, 0.4, 0.4, 0.1)
NOTHING: Values = {
    "crop": 0.0,
    "smallest_crop": 0.2,
    "flip": 0.0,
    "cutout": 0.0,
    "cutout_fill": "random",
    "affine": (0.0, 0.0, 0.0),
    "rand_augment": 0,
    "magnitude": 9.0,
    "jitter": 0.0,
    "colours": COLOURS,
    "grey": 0.0,
    "blur": 0.0,
    "sigma": (0.1, 2.0),
    "solarise": 0.0,
    "corruption": 0.0,
    "noise": 0.0,
}
"""What every setting is in a recipe that does not name it."""
KINDS: Mapping[str, Values] = {
    "a": {"crop": 1.0, "smallest_crop": 0.08},
    "b": {"blur": 0.5},
    "c": {"grey": 0.2},
    "d": {"jitter": 0.8},
    "e": {"flip": 0.5},
}
"""The five kinds of AMCL's study."""
SIMCLR: Values = {"crop": 1.0, "smallest_crop": 0.2, "flip": 0.5, "jitter": 0.8, "grey": 0.2}
"""SimCLR's recipe for CIFAR-10, with a larger smallest crop."""
LARGE = 64
"""Image side, in pixels, from which SimCLR's recipe has blur. Smaller images have few details to take away."""
RECIPES: Mapping[str, Values] = {
    "simclr": SIMCLR,
    "kmcl": {"cutout": 0.5, "rand_augment": 2},
    "kmcl-xray": {"cutout": 0.5, "affine": (45.0, 0.15, 0.15)},
    "table": {"corruption": 0.3},
    "none": {},
}
OF_TABLES = ("corruption", "noise")


@dataclass(frozen=True, kw_only=True)
class Views(Settings):
    """How views are drawn. What is not given is as in the recipe."""

    recipe: Recipe = "auto"
    """Views of papers: simclr, amcl (see kinds), kmcl (cutout, RandAugment), kmcl-xray (cutout, affine maps), table
    (corruption), none. auto: simclr for images, table for tables. Other settings change a recipe."""
    kinds: str = "abcde"
    """Kinds of change of the recipe amcl, by letters: a crop, b blur, c grey, d colours, e flip."""
    crop: Share | None = None
    """Share of images of which a random part is scaled to the whole. Default: as the recipe has it."""
    smallest_crop: Annotated[float, Range(0.01, 1)] | None = None
    """Smallest share of an image's area in a crop. Default: 0.2, with amcl 0.08."""
    flip: Share | None = None
    """Share of images that are mirrored. Default: as the recipe has it. Digits are never mirrored."""
    cutout: Share | None = None
    """Side of a square that is painted over, as a share of the image's. 0: none. Default: as the recipe has it."""
    cutout_fill: Literal["random", "mean", "black"] | None = None
    """Colour of that square: a random one, the image's mean, or black. Default: random."""
    affine: tuple[float, ...] | None = None
    """Largest rotation in degrees, shift as a share of the side, and change of scale. KMCL's X-rays: 45 0.15 0.15.
    Default: as the recipe has it."""
    rand_augment: Annotated[int, Range(0, 14)] | None = None
    """Number of RandAugment's changes of each image, n. Default: as the recipe has it."""
    magnitude: Annotated[float, Range(0, MOST)] | None = None
    """Magnitude of RandAugment's changes, m. Default: 9."""
    jitter: Share | None = None
    """Share of images whose colours are changed. Default: as the recipe has it."""
    colours: tuple[float, ...] | None = None
    """Largest change of brightness, contrast, saturation and hue. Default: 0.4 0.4 0.4 0.1."""
    grey: Share | None = None
    """Share of images that lose their colours. Default: as the recipe has it."""
    blur: Share | None = None
    """Share of images that are blurred. Default: as the recipe has it; simclr blurs half of those from 64 pixels on."""
    sigma: tuple[float, ...] | None = None
    """Smallest and largest standard deviation of the blur, in pixels. Default: 0.1 2."""
    solarise: Share | None = None
    """Share of images whose pixels are inverted where they are brighter than half. Default: as the recipe has it."""
    corruption: Share | None = None
    """Share of a row's features that are replaced by values of other training rows. Default: 0.3 for tables."""
    noise: Annotated[float, Range(0)] | None = None
    """Standard deviation of noise on every feature of a table, in those of the features. Default: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.kinds or len({*self.kinds} & KINDS.keys()) < len(self.kinds):
            raise InputError(f"kinds is {self.kinds!r}; give letters of {''.join(KINDS)}, each once.")
        for name, most in (("affine", (180, 1, 0.99)), ("colours", (10, 10, 10, 0.5)), ("sigma", (100, 100))):
            self._check_numbers(name, most)
        if self.sigma is not None and not 0 < self.sigma[0] <= self.sigma[1]:
            raise InputError(f"sigma is {_told(self.sigma)}; give the smallest, above 0, and the largest: 0.1 2.")

    def _check_numbers(self, name: str, most: tuple[float, ...]) -> None:
        found = getattr(self, name)
        if found is None:
            return
        if len(found) != len(most) or any(not 0 <= one <= top for one, top in zip(found, most, strict=True)):
            raise InputError(
                f"{name} is {_told(found) or 'empty'}; it must be {len(most)} numbers from 0 to at most {_told(most)}."
            )

    @property
    def whole(self) -> bool:
        """Whether every setting has its value."""
        return self.recipe != "auto" and all(getattr(self, name) is not None for name in NOTHING)

    def resolve(self, source: Source) -> Self:
        """The settings for these samples, each with its value.

        Raises:
            InputError: A recipe or a setting is not for such samples.
        """
        recipe = self.recipe if self.recipe != "auto" else "table" if source.tabular else "simclr"
        given = {name: getattr(self, name) for name in NOTHING if getattr(self, name) is not None}
        self._check_fits(source, recipe, given)
        usual = {**NOTHING, **self._recipe(recipe, source)}
        if not source.tabular:
            usual |= {} if source.flips else {"flip": 0.0}
            usual |= {} if source.shape[0] == 3 else {"grey": 0.0}
        return dataclasses.replace(self, recipe=recipe, **{**usual, **given})

    def _recipe(self, recipe: str, source: Source) -> Values:
        if recipe == "amcl":
            return {name: value for kind in self.kinds for name, value in KINDS[kind].items()}
        if recipe == "simclr" and min(source.shape[1:]) >= LARGE:
            return {**SIMCLR, "blur": 0.5}
        return RECIPES[recipe]

    def _check_fits(self, source: Source, recipe: str, given: Values) -> None:
        what = "a table" if source.tabular else "a set of images"
        if recipe != "none" and source.tabular != (recipe == "table"):
            right = "table" if source.tabular else "simclr"
            raise InputError(f"view.recipe is {recipe}, but {source.name} is {what}. Give {right}, or none.")
        for name, value in given.items():
            foreign = source.tabular != (name in OF_TABLES)
            if foreign and value not in (NOTHING[name], *_off(name)):
                kind = "tables" if name in OF_TABLES else "images"
                raise InputError(f"view.{name} is {_told(value)}, but {source.name} is {what}; it is for {kind}.")
        if given.get("flip") and not source.flips:
            raise InputError(f"view.flip is {given['flip']:g}, but images of {source.name} are not to be mirrored.")


def _off(name: str) -> tuple[float, ...]:
    """What switches a setting off, besides its value in a recipe without it."""
    return () if isinstance(NOTHING[name], (str, tuple)) else (0,)


def _told(value: Any) -> str:
    return " ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else str(value)


def drawn_view(plain: Inputs, how: Views, source: Any, generator: torch.Generator) -> Inputs:
    """A view of samples: pixels in [0, 1], or rows of a table.

    Args:
        plain: The samples, before normalisation.
        how: The settings.
        source: The data they are of: whether images may be mirrored, and the rows whose values replace others.
        generator: Draws what is random. It is on the CPU.
    """
    how = how if how.whole else how.resolve(source)
    if plain.ndim == 2:
        return row_view(plain, how, source, generator)
    return image_view(plain, how, generator)


def row_view(rows: Inputs, how: Views, source: Any, generator: torch.Generator) -> Inputs:
    """A view of rows of a table."""
    assert how.corruption is not None
    rows = corrupted(rows, source.train.samples.tensor, how.corruption, generator)
    if how.noise:
        spread = torch.tensor(source.transform.std).to(rows)
        rows = rows + how.noise * spread * torch.randn(rows.shape, generator=generator).to(rows)
    return rows


def image_view(images: Images, how: Views, generator: torch.Generator) -> Images:
    """A view of images, by settings that have all their values.

    The order is: crop and flip, cutout, affine maps, RandAugment, colours, grey, blur, solarise.
    """
    assert how.affine is not None and how.magnitude is not None and how.cutout_fill is not None
    crop, colours, device = _drawn_crop(images, how, generator), None, images.device
    changed = bool(how.cutout or any(how.affine) or how.rand_augment)
    if not changed:  # then all that is drawn goes to the device together
        colours = _drawn_colours(len(images), how, generator)
    crop, colours = sent((crop, colours), device)
    images = _cropped(images, crop)
    if changed:
        images = _changed(images, how, generator)
        colours = sent(_drawn_colours(len(images), how, generator), device)
    assert colours is not None
    return _coloured(images, colours)


@dataclass(frozen=True)
class Crop:
    """Boxes of crops, and which images are mirrored: all of them by a mask, or without crops by their rows."""

    boxes: Tensor | None
    flipped: Tensor | None


def _drawn_crop(images: Images, how: Views, generator: torch.Generator) -> Crop:
    count = len(images)
    flipped = torch.rand(count, generator=generator) < how.flip if how.flip else None
    if not how.crop:
        return Crop(None, None if flipped is None else flipped.nonzero().flatten())
    assert how.smallest_crop is not None
    boxes = draw_boxes(count, generator, smallest=how.smallest_crop, oblong=images.shape[3] / images.shape[2])
    if how.crop < 1:
        whole = torch.rand(count, 1, generator=generator) >= how.crop
        boxes = torch.where(whole, torch.tensor([0.0, 0.0, 1.0, 1.0]), boxes)
    return Crop(boxes, flipped)


def _cropped(images: Images, crop: Crop) -> Images:
    """Crops and mirror images, in one interpolation."""
    if crop.boxes is not None:
        return resized_crop(images, crop.boxes, flipped=crop.flipped)
    return images if crop.flipped is None else only(crop.flipped, images, lambda some: some.flip(3))


def _changed(images: Images, how: Views, generator: torch.Generator) -> Images:
    """Cutout, affine maps and RandAugment."""
    assert how.affine is not None and how.magnitude is not None and how.cutout_fill is not None
    count = len(images)
    if how.cutout:
        fill = fill_of(images, how.cutout_fill, generator)
        images = cut_out(images, how.cutout, torch.rand(count, 2, generator=generator), fill)
    if any(how.affine):
        degrees, shift, zoom = how.affine
        images = warped(images, *drawn_affine(count, degrees, shift, zoom, generator))
    if how.rand_augment:
        images = rand_augmented(images, how.rand_augment, how.magnitude, generator)
    return images


@dataclass(frozen=True)
class Colours:
    """The rows of each change of colour, and what it takes; None where there is no such change."""

    jittered: tuple[Tensor, list[list[Tensor]], Tensor] | None
    grey: Tensor | None
    blurred: tuple[Tensor, Tensor] | None
    solarised: tuple[Tensor, Tensor] | None


def _drawn_colours(count: int, how: Views, generator: torch.Generator) -> Colours:
    jittered = grey = blurred = solarised = None
    if how.jitter:
        assert how.colours is not None
        rows = some(how.jitter, count, generator)
        order, factors = drawn_jitter(len(rows), how.colours, generator)
        jittered = rows, turns_of(order), factors
    if how.grey:
        grey = some(how.grey, count, generator)
    if how.blur:
        assert how.sigma is not None
        rows = some(how.blur, count, generator)
        blurred = rows, between(how.sigma[0], how.sigma[1], len(rows), generator)
    if how.solarise:
        rows = some(how.solarise, count, generator)
        solarised = rows, torch.full((len(rows),), 0.5)
    return Colours(jittered, grey, blurred, solarised)


def _coloured(images: Images, drawn: Colours) -> Images:
    if drawn.jittered is not None:
        rows, turns, factors = drawn.jittered
        images = only(rows, images, partial(jittered_in, turns=turns, factors=factors))
    if drawn.grey is not None:
        images = only(drawn.grey, images, dropped)
    if drawn.blurred is not None:
        images = only(drawn.blurred[0], images, partial(blurred, sigma=drawn.blurred[1]))
    if drawn.solarised is not None:
        images = only(drawn.solarised[0], images, partial(solarised, threshold=drawn.solarised[1]))
    return images
