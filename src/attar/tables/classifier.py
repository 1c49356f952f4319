"""A classifier of the rows of a table, trained by the loop of all classifiers: with any loss, dropout and recipe.

A row becomes an image of one pixel, whose channels are the features: numbers standardised by the training rows, and a
0/1 column for each level of a category. Use it to compare losses on little data (`--loss`), where gradient-boosted
trees are not what is compared. It makes a classifier that `attar evaluate` and `attar calibrate` open.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from jaxtyping import Float
from torch import Tensor

from attar.classifiers.classifier import Classifier
from attar.core.settings import Hidden, Range
from attar.images.data.pixels import InMemory, Split
from attar.images.data.whiten import Transform
from attar.images.sources import ImageSource
from attar.tables.design import Design, design
from attar.tables.sources import Rows, TableSource


@dataclass(frozen=True, kw_only=True)
class TableClassifier(Classifier):
    """Train a classifier of rows on labels."""

    network: str = "mlp"
    """The network, by words: mlp with a width and a number of hidden layers, as in mlp:width=64,depth=3."""
    epochs: Annotated[int, Range(1)] = 60
    """Passes over the training data."""
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    """Optimiser. SGD needs a larger step size (0.05)."""
    lr: Annotated[float, Range(0)] = 1e-3
    """Step size (learning rate)."""
    shift: Annotated[int | None, Hidden()] = 0
    """Rows are not shifted."""
    flips: Annotated[Literal["auto", "on", "off"], Hidden()] = "off"
    """Rows are not mirrored."""
    smallest_crop: Annotated[float | None, Hidden()] = None
    """Rows are not cropped."""
    turns: Annotated[bool, Hidden()] = False
    """Rows are not turned."""
    cutmix: Annotated[float, Hidden()] = 0.0
    """No box of another row is pasted."""

    kind = "tables"
    name = "table-classifier"


def as_images(source: TableSource | ImageSource) -> ImageSource:
    """The rows as images of one pixel, a channel for each feature; sensitive columns are among them.

    Class 1 is the desirable outcome.

    Raises:
        InputError: There are no features.
    """
    if isinstance(source, ImageSource):
        return source
    schema = source.schema
    fitted = design(schema, with_sensitive=True).fit(source.train)
    classes = sorted(schema.label.levels, key=lambda level: level == schema.positive)
    train, test = (_split(rows, fitted) for rows in (source.train, source.test))
    count = train.pixels.shape[0]
    plain = Transform((0.0,) * count, (1.0,) * count)
    return ImageSource(
        source.name,
        tuple(classes),
        train,
        test,
        plain,
        statistics="those of the training rows",
        split=source.split,
        flips=False,
        notes=source.notes,
    )


def _split(rows: Rows, fitted: Design) -> Split:
    return Split(InMemory(pixels(rows, fitted)), rows.labels)


def pixels(rows: Rows, fitted: Design) -> Float[Tensor, "row feature 1 1"]:
    """Rows as a network takes them."""
    return fitted.matrix(rows).float()[:, :, None, None].contiguous()
