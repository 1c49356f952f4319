"""Digits in colour as a table: a second type of data for a method that knows columns only.

A pixel is a number, coded as a share of its range (`--numbers share`), which makes the teacher an autoencoder of
pixels with their binary cross-entropy. The colour is the sensitive column, and goes with the label: large digits are
red more often. Decoded with no colour in particular, a digit has both.
"""

from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.seeds import permutation, uniform
from attar.tables.sources import Column, Rows, Schema, TableSource

SIDE, LEVELS, FIRST_LARGE = 8, 16, 5
CHANNELS = ("red", "green")
TEST_SHARE = 0.2


def coloured_digits(agreement: float = 0.8, seed: int = 0) -> TableSource:
    """The 1,797 digits of scikit-learn, 8 × 8 pixels each, in red or green.

    Columns: brightness of each pixel in either channel, the digit, its half (the label: 0-4 or 5-9) and the colour.

    Args:
        agreement: Share of digits from 5 to 9 that are red, and of those from 0 to 4 that are green.
        seed: Draws colours and the split into training and test rows.
    """
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    large = torch.from_numpy(digits >= FIRST_LARGE)
    agrees = uniform(seed, "colours", len(digits)) < agreement
    colour = torch.where(agrees == large, 0, 1)
    shown = torch.stack([colour == channel for channel in range(len(CHANNELS))], dim=1)
    light = torch.from_numpy(pixels)[:, None] * shown[:, :, None]
    facts = torch.stack([torch.from_numpy(digits), large, colour], dim=1)
    values = torch.cat([light.flatten(1), facts], dim=1).double()
    order = permutation(seed, "split of digits", len(digits))
    test = round(TEST_SHARE * len(digits))
    rows = Rows(_schema(), values)
    return TableSource(
        name="coloured-digits",
        train=rows.select(order[test:]),
        test=rows.select(order[:test]),
        split=f"80/20 by seed {seed}",
        again=partial(coloured_digits, agreement),
        notes=(f"{agreement:.0%} of digits from 5 to 9 are red, and of those from 0 to 4 green.",),
    )


def pictures(rows: Rows) -> Float[Tensor, "row 3 side side"]:
    """The digits of rows as pictures, with values from 0 to 1."""
    names = [column.name for column in rows.schema.columns]
    light = [rows.values[:, [names.index(name) for name in _pixels(channel)]] for channel in CHANNELS]
    found = torch.stack([*light, torch.zeros_like(light[0])], dim=1) / LEVELS
    return found.view(len(rows), 3, SIDE, SIDE).float()


def _pixels(channel: str) -> list[str]:
    return [f"{channel} {row} {column}" for row, column in np.ndindex(SIDE, SIDE)]


def _schema() -> Schema:
    light = [Column(name=name, whole=True, stored="int64") for channel in CHANNELS for name in _pixels(channel)]
    ten = tuple(str(digit) for digit in range(10))
    return Schema(
        columns=(
            *light,
            Column(name="digit", type="category", levels=ten, stored="string"),
            Column(name="half", role="label", type="category", levels=("0-4", "5-9"), stored="string"),
            Column(name="colour", role="sensitive", type="category", levels=CHANNELS, stored="string"),
        ),
        positive="5-9",
    )
