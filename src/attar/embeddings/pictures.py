"""Pictures of what was measured: features in two dimensions, nearest neighbours, an episode, temperatures, uncertainty.

`attar evaluate` leaves them beside an encoder in the folder `evaluation`, where the report and the hub find them.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F

from attar.core import pictures as core
from attar.core.pictures import figure
from attar.core.seeds import derived_seed
from attar.embeddings.drawing import (
    COLOURS,
    OTHERS,
    RIGHT,
    WRONG,
    draw_classes,
    draw_image,
    draw_panels,
    in_the_plane,
    named,
    shares,
    short,
    spread_over_classes,
    title_over,
    without_frame,
)
from attar.embeddings.encoded import EncodedSource
from attar.embeddings.fewshot.outcomes import outcomes
from attar.embeddings.neighbours import nearest
from attar.embeddings.sources import evenly

TITLES = {
    "features": "test samples by class, in two dimensions by t-SNE",
    "neighbours": "test samples with their five nearest neighbours (green: same class, or most labels shared)",
    "episode": "an episode of one known sample a class (green: right)",
    "temperature": "temperature against the frequency of a class",
    "uncertainty": "uncertainty against the number of labels",
}
POINTS = 500
"""Most points in a picture of features: t-SNE takes about two seconds for them."""
QUERIES, NEIGHBOURS, PANELS = 6, 5, 6


def keep(artefacts: Sequence[Any], found: Any) -> None:
    """Write the pictures of encoders that lie in folders of one's own, in place of earlier ones.

    Args:
        artefacts: Those that may be written to.
        found: A `Measurement`.
    """
    for encoded in (one for row in found.encoded for one in row):
        made = next((one for one in artefacts if one.folder is not None and one.folder == encoded.made.folder), None)
        if made is not None and os.access(made.folder, os.W_OK):
            core.keep(made.folder, pictures_of(encoded), TITLES)


def pictures_of(encoded: EncodedSource) -> dict[str, bytes]:
    """All pictures that fit an encoder and its samples, as PNG by name; none if matplotlib is not installed."""
    draw: dict[str, Callable[[EncodedSource], bytes | None]] = {
        "features": features,
        "neighbours": neighbours,
        "episode": episode,
        "temperature": temperature,
        "uncertainty": uncertainty,
    }
    if not core.can_draw():
        return {}
    found = {name: picture(encoded) for name, picture in draw.items()}
    return {name: png for name, png in found.items() if png is not None}


# --------------------------------------------------------------------------------------------------------- the pictures


def features(encoded: EncodedSource) -> bytes | None:
    """The test samples in the plane; of several labels a panel for each of the six most frequent."""
    labels = encoded.labels
    if labels is None or len(labels) < 8:
        return None
    rows = evenly(len(labels), POINTS)
    points, labels = in_the_plane(encoded.test[rows]), labels[rows]
    names = encoded.source.test_classes
    if labels.ndim == 2:
        counts = labels.sum(dim=0)
        shown = counts.argsort(descending=True, stable=True)[:PANELS].tolist()
        return figure(lambda fig: draw_panels(fig, points, labels, shown, names), 7.5, 5.2)
    return figure(lambda fig: draw_classes(fig, points, labels, names), 7.0, 4.6)


def neighbours(encoded: EncodedSource) -> bytes | None:
    """Six test images, each beside the five training images that are nearest; of novel classes, test images."""
    source, labels = encoded.source, encoded.labels
    if source.tabular or labels is None or len(labels) <= NEIGHBOURS:
        return None
    queries = spread_over_classes(labels, QUERIES)
    part: Literal["train", "test"] = "test" if source.novel else "train"
    gallery = encoded.features(part)
    if len(gallery) <= NEIGHBOURS:
        return None
    _, found = nearest(encoded.test[queries], gallery, NEIGHBOURS + (part == "test"))
    rows = [
        [row for row in mine.tolist() if part == "train" or row != query]
        for query, mine in zip(queries.tolist(), found, strict=True)
    ]
    theirs = source.part(part).labels
    assert theirs is not None

    def draw(fig: Any) -> None:
        axes = fig.subplots(len(queries), NEIGHBOURS + 1, squeeze=False, gridspec_kw={"wspace": 0.1, "hspace": 0.1})
        for line, query in zip(axes, queries.tolist(), strict=True):
            here = rows[queries.tolist().index(query)][:NEIGHBOURS]
            draw_image(line[0], source, "test", query, named(labels[query], source.test_classes), "black")
            for axis, row in zip(line[1:], here, strict=True):
                right = shares(labels[query], theirs[row])
                names = source.test_classes if part == "test" else source.classes
                draw_image(axis, source, part, row, named(theirs[row], names), RIGHT if right else WRONG, framed=True)
        axes[0, 0].set_title("query", fontsize=9)
        title_over(axes[0, 1], "nearest test samples" if part == "test" else "nearest training samples")

    return figure(draw, 6.2, 1.05 * len(queries) + 0.2)


def episode(encoded: EncodedSource, way: int = 5, query: int = 5) -> bytes | None:
    """One episode of one shot: each class with its support and queries, and what each query was taken for."""
    from attar.embeddings.score import distances_of

    source, labels = encoded.source, encoded.labels
    if source.tabular or not source.novel or labels is None or labels.ndim == 2:
        return None
    generator = torch.Generator().manual_seed(derived_seed(encoded.runtime.seed, "episode in a picture"))
    (one,) = outcomes(encoded.test, labels, way, 1, query, 1, generator, distances=distances_of(encoded.made.method))
    classes = labels[one.support].tolist()

    def draw(fig: Any) -> None:
        axes = fig.subplots(way, query + 1, squeeze=False, gridspec_kw={"wspace": 0.1, "hspace": 0.1})
        for place, line in enumerate(axes):
            name = short(source.test_classes[classes[place]], 14)
            draw_image(line[0], source, "test", int(one.support[place]), name, "black")
            for number, axis in enumerate(line[1:]):
                at = place * query + number
                said = int(one.predicted[at])
                colour = RIGHT if said == place else WRONG
                word = short(source.test_classes[classes[said]], 14)
                draw_image(axis, source, "test", int(one.query[at]), word, colour, framed=True)
        axes[0, 0].set_title("known", fontsize=9)
        title_over(axes[0, 1], "queries, and what they are taken for")

    return figure(draw, 6.2, 1.05 * way + 0.2)


def temperature(encoded: EncodedSource) -> bytes | None:
    """The mean temperature of each class against its number of training samples."""
    labels = encoded.source.train.labels
    kinds = {
        name: value.float()
        for name, value in encoded.made.remembered.items()
        if name.endswith("temperature") and labels is not None and value.shape == (len(labels),)
    }
    if not kinds or labels is None:
        return None
    classes = len(encoded.source.classes)
    marks = F.one_hot(labels, classes).bool() if labels.ndim == 1 else labels
    sizes = marks.sum(dim=0)

    def draw(fig: Any) -> None:
        axes = fig.subplots(1, len(kinds), squeeze=False)[0]
        for axis, (name, value) in zip(axes, kinds.items(), strict=True):
            met = encoded.made.remembered.get(name.replace("temperature", "log_s"), value)
            known = (
                value.isfinite() & met.isfinite()
            )  # a sample that was never in a batch has no temperature of its own
            for number in range(classes):
                mine = value[marks[:, number] & known]
                if len(mine):
                    error = 2 * float(mine.std(correction=0)) / len(mine) ** 0.5
                    axis.errorbar(
                        float(sizes[number]), float(mine.mean()), error, fmt="o", color=COLOURS[0], ecolor=OTHERS
                    )
                    if classes <= 20:
                        word = short(encoded.source.classes[number], 12)
                        where = (float(sizes[number]), float(mine.mean()))
                        axis.annotate(word, where, (4, 4), textcoords="offset points", fontsize=8)
            if float(sizes.max()) > 4 * max(float(sizes.min()), 1.0):
                axis.set_xscale("log")
                for formatted in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
                    formatted(lambda value, _: f"{value:,.0f}")
                axis.tick_params(axis="x", which="both", labelsize=8)
            axis.set_xlabel("training samples of the class")
            axis.set_ylabel(f"{name.replace('_', ' ')}, mean ± 2 standard errors")
            without_frame(axis)

    return figure(draw, 5.2 * len(kinds), 3.8)


def uncertainty(encoded: EncodedSource) -> bytes | None:
    """How uncertain the method is of test samples with so many labels."""
    labels, found = encoded.labels, encoded.said.get("uncertainty")
    if found is None or labels is None or labels.ndim == 1:
        return None
    values, counts = found.flatten(1).mean(dim=1) if found.ndim > 1 else found, labels.sum(dim=1)
    there = [count for count in counts.unique().tolist() if int((counts == count).sum()) > 1]
    if not there:
        return None

    def draw(fig: Any) -> None:
        axis = fig.subplots()
        groups = [values[counts == count].numpy() for count in there]
        axis.boxplot(groups, positions=range(len(there)), showfliers=False, medianprops={"color": WRONG})
        words = [f"{count}\n({len(group)})" for count, group in zip(there, groups, strict=True)]
        axis.set_xticks(range(len(there)), words)
        axis.set_xlabel("labels of a test sample (number of samples)")
        axis.set_ylabel("uncertainty")
        without_frame(axis)

    return figure(draw, 5.2, 3.8)
