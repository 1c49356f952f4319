"""Parts of the pictures of an evaluation: figures, points in the plane, images with a word below them."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.embeddings.sources import Rows, evenly

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c6d31", "#000000", "#b2df8a", "#6a3d9a")
"""Okabe and Ito's colours, with three more."""
OTHERS, RIGHT, WRONG = "#c8ccd0", "#009e73", "#d55e00"


def in_the_plane(points: Float[Tensor, "sample width"]) -> Float[np.ndarray, "sample two"]:
    """Points by t-SNE of their directions, from their 50 first principal components; by these alone if they are few."""
    from sklearn.manifold import TSNE

    rows = F.normalize(points.double())
    rows = rows - rows.mean(dim=0)
    _, _, directions = torch.linalg.svd(rows, full_matrices=False)
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    reduced = (rows @ (directions * largest.sign()).t())[:, :50]
    if len(points) < 50 or float(reduced.std()) < 1e-9:
        return F.pad(reduced, (0, 1))[:, :2].numpy()
    start = (1e-4 * reduced[:, :2] / reduced[:, 0].std().clamp(min=1e-12)).float().numpy()
    start = np.pad(start, ((0, 0), (0, 2 - start.shape[1])))
    plane = TSNE(2, perplexity=min(30.0, len(points) / 4), init=start, random_state=0, n_jobs=1)
    return plane.fit_transform(reduced.float().numpy())


def spread_over_classes(labels: Tensor, count: int) -> Rows:
    """The first sample of each of several classes at equal distances; of several labels, samples at equal distances."""
    if labels.ndim == 2:
        return evenly(len(labels), count)
    there = labels.unique()
    picked = there[evenly(len(there), count)]
    rows = [int((labels == one).nonzero()[0]) for one in picked]
    rest = [row for row in range(len(labels)) if row not in rows]
    return torch.tensor((rows + rest)[:count])


def shares(one: Tensor, other: Tensor) -> bool:
    """Whether samples are of one class; of several labels, whether they share more than half of theirs (Jaccard)."""
    if one.ndim == 0:
        return bool(one == other)
    together = int((one | other).sum())
    return together == 0 or 2 * int((one & other).sum()) > together


def named(label: Tensor, names: Sequence[str]) -> str:
    """The class of a sample, or its labels, in few letters."""
    if label.ndim == 0:
        return short(names[int(label)], 14)
    words = " ".join(short(names[place], 9) for place in label.nonzero().flatten().tolist()) or "none"
    return words if len(words) <= 20 else f"{words[:20].rsplit(' ', 1)[0]} …"


def short(text: str, most: int) -> str:
    """A text of at most so many letters, without some from its middle: names of classes often differ at their ends."""
    return text if len(text) <= most else f"{text[: most - most // 3 - 1]}…{text[-(most // 3) :]}"


def draw_classes(fig: Any, points: np.ndarray, labels: Tensor, names: Sequence[str]) -> None:
    """Points in the plane, coloured by their class."""
    axis = fig.subplots()
    counts = torch.bincount(labels, minlength=len(names))
    shown = counts.argsort(descending=True, stable=True)[: len(COLOURS)].sort().values.tolist()
    rest = ~torch.isin(labels, torch.tensor(shown))
    if rest.any():
        axis.scatter(*points[rest.numpy()].T, s=9, color=OTHERS, linewidths=0, label="others")
    for colour, number in zip(COLOURS, [n for n in shown if counts[n]], strict=False):
        axis.scatter(
            *points[(labels == number).numpy()].T, s=13, color=colour, linewidths=0, label=short(names[number], 20)
        )
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=1.8)
    frame_plane(axis)


def draw_panels(fig: Any, points: np.ndarray, labels: Tensor, shown: Sequence[int], names: Sequence[str]) -> None:
    """Points in the plane, once for each of several labels."""
    across = min(3, len(shown))
    axes = fig.subplots(-(-len(shown) // across), across, squeeze=False, sharex=True, sharey=True).flatten()
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    for axis, number in zip(axes, shown, strict=False):
        has = labels[:, number].numpy()
        axis.scatter(*points[~has].T, s=7, color=OTHERS, linewidths=0)
        axis.scatter(*points[has].T, s=9, color=COLOURS[0], linewidths=0)
        axis.set_title(f"{short(names[number], 22)} ({int(has.sum())})", fontsize=9)
        frame_plane(axis)


def frame_plane(axis: Any) -> None:
    """A thin frame, and no numbers: t-SNE has no unit."""
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_color(OTHERS)


def title_over(axis: Any, words: str) -> None:
    """A title that reaches over the columns to the right."""
    drawn = axis.text(0, 1.04, words, fontsize=9, transform=axis.transAxes, verticalalignment="bottom")
    drawn.set_in_layout(False)


def without_frame(axis: Any) -> None:
    """Only the two axes."""
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def draw_image(
    axis: Any, source: Any, part: Literal["train", "test"], row: int, word: str, colour: str, *, framed: bool = False
) -> None:
    """One sample as a picture with a word below it."""
    pixels = source.unit(torch.tensor([row]), part=part)[0].permute(1, 2, 0).clamp(0, 1).numpy()
    if pixels.shape[2] == 1:
        axis.imshow(pixels[:, :, 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axis.imshow(pixels, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_xlabel(word, fontsize=8, color=colour, labelpad=2)
    for side in axis.spines.values():
        side.set_color(colour if framed else OTHERS)
        side.set_linewidth(3 if framed else 0.8)
