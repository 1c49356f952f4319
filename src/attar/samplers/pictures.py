"""Pictures of samplers: a sheet of samples by class, or points in the plane."""

from typing import Any

import torch
from torch import Tensor

from attar.core.pictures import can_draw, figure
from attar.images.preview import preview

PER_CLASS = 10
POINTS = 2000


def sheet(made: Any) -> bytes | None:
    """Samples of a `Sampler` as PNG: images of each class, or points; None of samples that are neither."""
    if made.pictures and made.shape[0] in (1, 3):
        from attar.samplers.artefact import pixels_of

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
