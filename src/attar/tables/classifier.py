"""A classifier of the rows of a table, trained by the loop of all classifiers: with any loss, dropout and recipe.

A row becomes an image of one pixel, whose channels are the features: numbers standardised by the training rows, and a
0/1 column for each level of a category. Use it to compare losses on little data (`--loss`), where gradient-boosted
trees are not what is compared. The classifier keeps the columns of its table: `predict_proba` and `predict` take a
DataFrame. `attar evaluate` measures it beside trees and by group, `attar calibrate` calibrates it on reserved rows, and
`attar distill` makes a smaller one of it.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from attar.classifiers.classifier import Classifier
from attar.core.settings import Hidden, Range


@dataclass(frozen=True, kw_only=True)
class TableClassifier(Classifier):
    """Train a classifier of rows on labels."""

    network: str = "mlp"
    """The network, by words: mlp with a width, a number of hidden layers and batch norm or none, as in
    mlp:width=64,depth=3,norm=batch."""
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
