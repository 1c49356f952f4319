"""Pictures of what was measured: features in two dimensions, nearest neighbours, an episode, temperatures, uncertainty.

`attar evaluate` leaves them beside an encoder in the folder `evaluation`, where the report and the hub find them.
"""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.core import store
from attar.core.artefact import Picture
from attar.core.seeds import derived_seed
from attar.embeddings.encoded import EncodedSource
from attar.embeddings.fewshot.outcomes import outcomes
from attar.embeddings.neighbours import nearest
from attar.embeddings.sources import Rows

FOLDER = "evaluation"
TITLES = {
    "features": "test samples by class, in two dimensions by t-SNE",
    "neighbours": "test samples with their five nearest neighbours (green: same class, or most labels shared)",
    "episode": "an episode of one known sample a class (green: right)",
    "temperature": "temperature against the frequency of a class",
    "uncertainty": "uncertainty against the number of labels",
}
POINTS = 500
"""Most points in a picture of features: t-SNE takes about two seconds for them."""
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c6d31", "#000000", "#b2df8a", "#6a3d9a")
"""Okabe and Ito's colours, with three more."""
OTHERS, RIGHT, WRONG = "#c8ccd0", "#009e73", "#d55e00"
QUERIES, NEIGHBOURS, PANELS = 6, 5, 6
Draw = Callable[[Any], None]


def keep(artefacts: Sequence[Any], found: Any) -> None:
    """Write the pictures of encoders that lie in folders of one's own, in place of earlier ones.

    Args:
        artefacts: Those that may be written to.
        found: A `Measurement`.
    """
    for encoded in (one for row in found.encoded for one in row):
        made = next((one for one in artefacts if one.folder is not None and one.folder == encoded.made.folder), None)
        if made is None or not os.access(made.folder, os.W_OK):
            continue
        drawn = pictures_of(encoded)
        if drawn:
            store.make_folder(made.folder / FOLDER)
        for name in TITLES:
            path = made.folder / FOLDER / f"{name}.png"
            if name in drawn:
                store.write_bytes(path, drawn[name])
            else:
                path.unlink(missing_ok=True)


def kept_in(folder: Path | None) -> Iterator[Picture]:
    """The pictures that lie beside an encoder."""
    for title, path in _files(folder):
        yield Picture(title, path.read_bytes())


def links(folder: Path | None) -> Iterator[str]:
    """The same as links for a card that lies in the folder."""
    for title, path in _files(folder):
        yield f"![{title}]({FOLDER}/{path.name})"


def _files(folder: Path | None) -> Iterator[tuple[str, Path]]:
    for name, title in TITLES.items():
        if folder is not None and (path := folder / FOLDER / f"{name}.png").is_file():
            yield title, path


def pictures_of(encoded: EncodedSource) -> dict[str, bytes]:
    """All pictures that fit an encoder and its samples, as PNG by name; none if matplotlib is not installed."""
    draw: dict[str, Callable[[EncodedSource], bytes | None]] = {
        "features": features,
        "neighbours": neighbours,
        "episode": episode,
        "temperature": temperature,
        "uncertainty": uncertainty,
    }
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
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
        return figure(lambda fig: _panels(fig, points, labels, shown, names), 7.5, 5.2)
    return figure(lambda fig: _by_class(fig, points, labels, names), 7.0, 4.6)


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
            _image(line[0], source, "test", query, named(labels[query], source.test_classes), "black")
            for axis, row in zip(line[1:], here, strict=True):
                right = shares(labels[query], theirs[row])
                names = source.test_classes if part == "test" else source.classes
                _image(axis, source, part, row, named(theirs[row], names), RIGHT if right else WRONG, framed=True)
        axes[0, 0].set_title("query", fontsize=9)
        _over(axes[0, 1], "nearest test samples" if part == "test" else "nearest training samples")

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
            _image(line[0], source, "test", int(one.support[place]), name, "black")
            for number, axis in enumerate(line[1:]):
                at = place * query + number
                said = int(one.predicted[at])
                colour = RIGHT if said == place else WRONG
                word = short(source.test_classes[classes[said]], 14)
                _image(axis, source, "test", int(one.query[at]), word, colour, framed=True)
        axes[0, 0].set_title("known", fontsize=9)
        _over(axes[0, 1], "queries, and what they are taken for")

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
            _bare(axis)

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
        _bare(axis)

    return figure(draw, 5.2, 3.8)


# ------------------------------------------------------------------------------------------------------------ the parts


def figure(draw: Draw, width: float, height: float) -> bytes:
    """A PNG of so many inches, the same bytes each time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(fig)
    draw(fig)
    sink = io.BytesIO()
    fig.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()


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


def evenly(count: int, most: int) -> Rows:
    """At most so many rows, at equal distances."""
    return torch.arange(count) if count <= most else (torch.arange(most) * count) // most


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


def _by_class(fig: Any, points: np.ndarray, labels: Tensor, names: Sequence[str]) -> None:
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
    _plane(axis)


def _panels(fig: Any, points: np.ndarray, labels: Tensor, shown: Sequence[int], names: Sequence[str]) -> None:
    across = min(3, len(shown))
    axes = fig.subplots(-(-len(shown) // across), across, squeeze=False, sharex=True, sharey=True).flatten()
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    for axis, number in zip(axes, shown, strict=False):
        has = labels[:, number].numpy()
        axis.scatter(*points[~has].T, s=7, color=OTHERS, linewidths=0)
        axis.scatter(*points[has].T, s=9, color=COLOURS[0], linewidths=0)
        axis.set_title(f"{short(names[number], 22)} ({int(has.sum())})", fontsize=9)
        _plane(axis)


def _plane(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_color(OTHERS)


def _over(axis: Any, words: str) -> None:
    """A title that reaches over the columns to the right."""
    drawn = axis.text(0, 1.04, words, fontsize=9, transform=axis.transAxes, verticalalignment="bottom")
    drawn.set_in_layout(False)


def _bare(axis: Any) -> None:
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _image(
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
