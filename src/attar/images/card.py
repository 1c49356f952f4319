"""The card of an artefact: a README in the form that the hub reads, with its scores if there are any."""

import json
from collections.abc import Sequence
from typing import Any

import torch

from attar.core import card as core
from attar.core.cell import Cell

Condensed = Any
"""A `CondensedImages`. It is not imported here, because its file imports this one."""


def card(small: Condensed, scores: Sequence[Cell]) -> str:
    """The README of an artefact, with the scores stored beside it."""
    origin = small.origin
    share = 100 * small.bytes / origin.full_bytes if origin.full_bytes else 0.0
    whitened = ", then ZCA-whitened" if small.transform.whitening else ""
    return f"""{_header(small, scores)}
# {core.escaped(small.title)}

{len(small.labels)} images ({per_class(small)}) that replace {origin.full_images:,}: {small.bytes:,} bytes, \
{share:.2g} % of the full set.
{_labels(small)}

![preview](preview.png)
{core.score_table(scores, small.bytes)}
The parquet file holds the images in 8 bits, for viewing. Train on `images.safetensors` ({_space(small)}):

{core.fenced(_code(origin.source), "python")}

{core.made_again(origin)}

Normalised with mean {small.transform.mean} and standard deviation {small.transform.std} per channel \
({core.escaped(origin.statistics)}){whitened}.
Split: {core.escaped(origin.split)}. Data fingerprint: `{core.escaped(origin.fingerprint)}`.

Made with: {core.machine_line(origin.machine)}.

The images derive from {core.escaped(origin.source)}. The terms of that data set also apply to them.
"""


def _header(small: Condensed, scores: Sequence[Cell]) -> str:
    told = {"made": small, "scores": scores, "metric": "accuracy"}
    return core.dataset_header(small.title, "image-classification", len(small.labels), **told)


def _code(source: str) -> str:
    """How the set is opened and measured in Python."""
    name = json.dumps(source, ensure_ascii=False)
    return f'import attar\n\nsmall = attar.open_artefact(".")\nprint(attar.evaluate(small, {name}))'


def per_class(small: Condensed) -> str:
    """The number of images per class, in words."""
    return f"{core.per_class(small.hard_labels, len(small.classes))} per class"


def _labels(small: Condensed) -> str:
    text = "Labels: class numbers." if small.labels.ndim == 1 else "Labels: probabilities of every class."
    if small.teacher is not None:
        text += " " + small.teacher.note(len(small.labels))
    if small.soft is not None:
        text += " " + small.soft.note()
    return text if small.lr is None else f"{text} Learned step size: {small.lr:g}."


def _space(small: Condensed) -> str:
    return "8-bit pixels of real images" if small.images.dtype == torch.uint8 else "float32 network input, as learned"
