"""Pictures of samplers: a sheet of samples by class, or points in the plane; and what an evaluation leaves beside them.

`attar evaluate` keeps them in the folder `evaluation`, where the report and the hub find them.
"""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attar.core import pictures as core
from attar.core.pictures import can_draw, figure
from attar.images.preview import preview
from attar.samplers.card import TITLES
from attar.samplers.sources import pixels_of

PER_CLASS = 10
POINTS = 2000
SECONDS = 60.0
"""Seconds above which the recall at other numbers of calls is not measured."""
COLOURS = ("#1f77b4", "#d62728")


def sheet(made: Any) -> bytes | None:
    """Samples of a `Sampler` as PNG: images of each class, or points; None of samples that are neither."""
    if made.pictures and made.shape[0] in (1, 3):
        count = max(len(made.classes), 1)
        labels = torch.arange(min(count, 20)).repeat_interleave(PER_CLASS)
        images = made.sample(len(labels), labels if made.classes else None, seed=0)
        names = made.classes or (made.origin.source,)
        return preview(pixels_of(images).permute(0, 2, 3, 1).numpy(), labels.numpy(), names)
    if len(made.shape) == 1 and made.shape[0] == 2 and can_draw():
        labels = made.labels_for(POINTS)
        return scatter({"": (made.sample(POINTS, labels, seed=0), labels)})
    return None


def scatter(drawn: dict[str, tuple[Tensor, Tensor | None]]) -> bytes:
    """Points in the plane side by side, one panel for each name, coloured by class."""

    def draw(fig: Any) -> None:
        axes = fig.subplots(1, len(drawn), squeeze=False, sharex=True, sharey=True)[0]
        for axis, (name, (points, labels)) in zip(axes, drawn.items(), strict=True):
            colours = None if labels is None else labels.numpy()
            axis.scatter(*points[:, :2].T.numpy(), s=2, c=colours, cmap="tab10", linewidths=0)
            axis.set_title(name)
            axis.set_aspect("equal")

    return figure(draw, 4.2 * len(drawn), 4.2)


# ------------------------------------------------------------------------------------------ what an evaluation leaves


def keep(artefacts: Sequence[Any], found: Any) -> None:
    """Write the pictures of samplers that lie in folders of one's own, in place of earlier ones.

    Args:
        artefacts: Those that may be written to.
        found: A `Measurement`.
    """
    if not can_draw():
        return
    for studied in found.studied:
        made = next((one for one in artefacts if one.folder is not None and one.folder == studied.one.folder), None)
        if made is not None and os.access(made.folder, os.W_OK):
            drawn = {"together": together(studied), "calls": calls(studied)}
            core.keep(made.folder, {name: png for name, png in drawn.items() if png is not None}, TITLES)


def together(studied: Any) -> bytes | None:
    """Real samples, and those of the sampler and of its rivals from the same noise; None of no images and no points."""
    given, source = studied.given.drawn, studied.against.source
    named = {rival.label: rival.drawn.samples for rival in studied.rivals if rival.drawn is not None}
    if len(source.shape) == 1 and source.shape[0] == 2:
        some = slice(POINTS)
        labels = None if given.labels is None else given.labels[some]
        real, theirs = source.train.all(POINTS), source.train.labels
        marks = None if theirs is None else theirs[torch.linspace(0, len(theirs) - 1, len(real)).round().long()]
        panels = {studied.one.origin.method: given.samples, **named}
        return scatter({"real": (real, marks), **{name: (one[some], labels) for name, one in panels.items()}})
    if not source.pictures or source.shape[0] not in (1, 3):
        return None
    rows = _spread(given.labels, len(given.samples))
    lines = {studied.one.origin.method: given.samples[rows], **{name: one[rows] for name, one in named.items()}}
    lines = {"real": _alike(source.train, None if given.labels is None else given.labels[rows], len(rows)), **lines}
    pixels = pixels_of(torch.cat(list(lines.values()))).permute(0, 2, 3, 1).numpy()
    return preview(pixels, torch.arange(len(lines)).repeat_interleave(len(rows)).numpy(), tuple(lines))


def _spread(labels: Tensor | None, count: int) -> Tensor:
    """The first sample of each of ten classes, as far as there are some; further ones up to ten."""
    if labels is None:
        return torch.arange(min(count, PER_CLASS))
    firsts = [int((labels == label).nonzero()[0, 0]) for label in labels.unique().tolist()[:PER_CLASS]]
    more = [row for row in range(min(count, 2 * PER_CLASS)) if row not in firsts]
    return torch.tensor((firsts + more)[:PER_CLASS])


def _alike(train: Any, labels: Tensor | None, count: int) -> Tensor:
    """Real samples of these classes, a different one each."""
    if labels is None:
        return train[torch.arange(min(count, len(train)))]
    taken: list[int] = []
    for label in labels.tolist():
        rows = (train.labels == label).nonzero()[:, 0].tolist()
        taken.append(next((row for row in rows if row not in taken), rows[0]))
    return train[torch.tensor(taken)]


def calls(studied: Any) -> bytes | None:
    """Recall and precision of the sampler and of its teacher at several numbers of calls; None if that takes long."""
    from attar.samplers.rivals import curve

    lines = {studied.one.origin.method: studied.one}
    if studied.teacher is not None:
        lines["teacher"] = studied.teacher
    found = {name: curve(one, studied.given, studied.against, studied.one, SECONDS) for name, one in lines.items()}
    found = {name: points for name, points in found.items() if points}
    if not found:
        return None
    floors = [one for one in studied.rivals if one.calls is None and "recall" in one.scores][:1]

    def draw(fig: Any) -> None:
        axis = fig.subplots()
        for colour, (name, points) in zip(COLOURS, found.items(), strict=False):
            across = [one.calls for one in points]
            axis.plot(across, [100 * one.recall for one in points], "o-", color=colour, label=f"{name}, recall")
            axis.plot(
                across,
                [100 * one.precision for one in points],
                "o:",
                color=colour,
                label=f"{name}, precision",
                alpha=0.5,
            )
        for rival in studied.rivals:
            if rival.label.startswith("pairs"):
                axis.plot(
                    rival.calls, rival.scores["recall"].value, "s", color="#444444", label=f"{rival.label}, recall"
                )
        for rival in floors:
            axis.axhline(rival.scores["recall"].value, color="#999999", linestyle="--", label=f"{rival.label}, recall")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_xlabel("calls of a network for a sample")
        axis.set_ylabel(f"per cent, k = {studied.against.k}")
        axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))

    return figure(draw, 7.4, 4.0)
