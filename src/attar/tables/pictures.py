"""Pictures of tables: the marginals of real and synthetic rows, and AUROC against DPD over a setting.

`attar evaluate` leaves the marginals beside a table in the folder `evaluation`, where the report and the hub find them.
"""

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core import store
from attar.core.artefact import Picture
from attar.tables.quality import cuts_of, total_variation
from attar.tables.sources import Column, Rows

FOLDER = "evaluation"
TITLES = {"marginals": "each column of the real and of the synthetic rows"}
REAL, SYNTHETIC, SPREAD = "#9aa3ad", "#0072b2", "#c8ccd0"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours."""
MARKS = "osD^vPX*<>"
PANELS, ACROSS, LEVELS, BINS = 16, 4, 9, 20
Draw = Callable[[Any], None]


@dataclass(frozen=True)
class Point:
    """A method in the picture of AUROC against DPD, both in per cent."""

    label: str
    auroc: float
    dpd: float
    auroc_spread: float = 0.0
    """Standard deviation over trainings or draws."""
    dpd_spread: float = 0.0
    text: str = ""
    """What is written beside the point, such as its β."""


def keep(artefacts: Sequence[Any], found: Any) -> None:
    """Write the marginals of tables that lie in folders of one's own, in place of earlier ones.

    Args:
        artefacts: Those that may be written to.
        found: A `Measurement`.
    """
    if found.source is None:
        return
    for one in (one for row in found.rows for one in row.artefacts):
        mine = one.folder is not None and any(one is other for other in artefacts) and os.access(one.folder, os.W_OK)
        drawn = marginals(found.source.train, one.rows) if mine else None
        if drawn is not None:
            store.make_folder(one.folder / FOLDER)
            store.write_bytes(one.folder / FOLDER / "marginals.png", drawn)


def kept_in(folder: Path | None) -> Iterator[Picture]:
    """The pictures that lie beside a table."""
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


# ----------------------------------------------------------------------------------------------------------- marginals


def marginals(real: Rows, synthetic: Rows) -> bytes | None:
    """The shares of levels or bins in each column, real beside synthetic, as PNG; None without matplotlib.

    Above each stands the total variation. At most 16 columns are drawn: label and groups, then those that differ most.
    """
    if not _can_draw():
        return None
    panels = [(column, *_shares(column, real, synthetic)) for column in real.schema.of_role("label", "sensitive")]
    others = [(column, *_shares(column, real, synthetic)) for column in real.schema.of_role("feature")]
    others.sort(key=lambda panel: -panel[3])
    panels += others[: PANELS - len(panels)]

    def draw(fig: Any) -> None:
        across = min(ACROSS, len(panels))
        axes = fig.subplots(-(-len(panels) // across), across, squeeze=False).flatten()
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        for axis, (column, shares, names, apart) in zip(axes, panels, strict=False):
            _draw_shares(axis, shares, names)
            axis.set_title(f"{_short(column.name, 20)}  (TV {apart:.2f})", fontsize=9)
        axes[0].legend(frameon=False, fontsize=8)

    rows = -(-len(panels) // ACROSS)
    return figure(draw, 2.9 * min(ACROSS, len(panels)), 2.1 * rows)


def _shares(column: Column, real: Rows, synthetic: Rows) -> tuple[Float[Tensor, "two level"], list[str], float]:
    """The shares of both, what each level or bin is called, and how far apart the shares are."""
    both = [rows.of(column) for rows in (real, synthetic)]
    if column.type == "category":
        names, size = [*column.levels], len(column.levels)
        coded = [torch.where((v >= 0) & (v < size), v, size).long() for v in both]
    else:
        cuts, names = _bins(both[0])
        coded = [torch.where(v.isnan(), len(cuts) + 1, torch.bucketize(v, cuts, right=True)) for v in both]
        gone = any(bool(v.isnan().any()) for v in both)
        size = len(cuts) + 1 + gone
        names += ["missing"] * gone
    counts = [torch.bincount(codes, minlength=size)[:size].double() / len(codes) for codes in coded]
    apart = total_variation(coded[0], coded[1], size)
    shares = torch.stack(counts)
    if column.type == "category" and size > LEVELS:
        order = shares[0].argsort(descending=True, stable=True)
        most, rest = order[: LEVELS - 1], order[LEVELS - 1 :]
        shares = torch.cat([shares[:, most], shares[:, rest].sum(dim=1, keepdim=True)], dim=1)
        names = [*(names[level] for level in most.tolist()), f"{len(rest)} others"]
    return shares, names, apart


def _bins(values: Float[Tensor, " row"]) -> tuple[Float[Tensor, " cut"], list[str]]:
    """Inner cuts of bins of equal width over the middle 98 % of the real numbers, with names; or each number a bin."""
    known = values[values.isfinite()]
    there = known.unique()
    if len(there) <= BINS:
        return (there[1:] + there[:-1]) / 2, [f"{value:.4g}" for value in there.tolist()] or [""]
    low, high = torch.quantile(known, torch.tensor([0.01, 0.99], dtype=known.dtype)).tolist()
    edges = torch.linspace(low, high, BINS + 1).double() if high > low else cuts_of(known, BINS)
    middles = (edges[1:] + edges[:-1]) / 2
    return edges[1:-1], [f"{value:.3g}" for value in middles.tolist()]


def _draw_shares(axis: Any, shares: Float[Tensor, "two level"], names: Sequence[str]) -> None:
    places = torch.arange(len(names)).double()
    for number, (colour, label) in enumerate([(REAL, "real"), (SYNTHETIC, "synthetic")]):
        axis.bar((places + 0.42 * (number - 0.5)).tolist(), shares[number].tolist(), 0.42, color=colour, label=label)
    shown = range(len(names)) if len(names) <= LEVELS else range(0, len(names), max(1, len(names) // 4))
    long = max(len(names[place]) for place in shown) > 5
    axis.set_xticks(list(shown), [_short(names[place], 12) for place in shown], fontsize=7, rotation=30 if long else 0)
    for label in axis.get_xticklabels():
        label.set_horizontalalignment("right" if long else "center")
    axis.tick_params(axis="y", labelsize=7)
    _without_frame(axis)


# ------------------------------------------------------------------------------------------------- AUROC against DPD


def worth_against_gap(
    curves: Mapping[str, Sequence[Point]],
    rivals: Sequence[Point] = (),
    *,
    gap: str = "DPD at ½ (%)",
    title: str = "",
) -> bytes | None:
    """AUROC against DPD, as PNG: a line for each method over its setting, and a mark for each rival.

    Up is useful, left is fair. None without matplotlib.

    Args:
        curves: For each method its points, in the order of the setting.
        rivals: Single points, such as real rows.
        gap: What stands below the horizontal axis.
        title: What stands above the picture.
    """
    if not _can_draw():
        return None

    def draw(fig: Any) -> None:
        axis = fig.subplots()
        for colour, (label, points) in zip(COLOURS, curves.items(), strict=False):
            across, up = [one.dpd for one in points], [one.auroc for one in points]
            spreads = {"xerr": [one.dpd_spread for one in points], "yerr": [one.auroc_spread for one in points]}
            axis.errorbar(
                across, up, **spreads, color=colour, ecolor=SPREAD, fmt="o-", markersize=5, label=label, zorder=3
            )
            for one in points:
                axis.annotate(
                    one.text, (one.dpd, one.auroc), (5, 4), textcoords="offset points", fontsize=7, color=colour
                )
        for number, one in enumerate(rivals):
            mark = MARKS[(number + 1) % len(MARKS)]
            axis.errorbar(
                one.dpd,
                one.auroc,
                xerr=one.dpd_spread or None,
                yerr=one.auroc_spread or None,
                fmt=mark,
                color="#444444",
                markerfacecolor="white" if number % 2 else "#444444",
                ecolor=SPREAD,
                label=one.label,
            )
        axis.axhline(50, color=SPREAD, linewidth=1, linestyle="--", zorder=0)
        axis.set_xlim(left=min(0.0, axis.get_xlim()[0]))
        axis.set_xlabel(gap)
        axis.set_ylabel("AUROC (%)")
        axis.set_title(title, fontsize=10)
        axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        _without_frame(axis)

    return figure(draw, 7.4, 4.4)


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


def _can_draw() -> bool:
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _without_frame(axis: Any) -> None:
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
