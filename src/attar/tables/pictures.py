"""Pictures of tables: the marginals of real and synthetic rows, and AUROC against DPD over a setting.

`attar evaluate` leaves the marginals beside a table in the folder `evaluation`, where the report and the hub find them.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attar.core import pictures as core
from attar.core.pictures import can_draw, figure
from attar.tables.card import TITLES
from attar.tables.design import one_hot
from attar.tables.quality import binned
from attar.tables.sources import Column, Rows

REAL, SYNTHETIC, SPREAD = "#9aa3ad", "#0072b2", "#c8ccd0"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours."""
MARKS = "osD^vPX*<>"
PANELS, ACROSS, LEVELS, BINS = 16, 4, 9, 20


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
        drawn = marginals_picture(one.tables, found.source.train) if mine else None
        if drawn is not None:
            core.keep(one.folder, {"marginals": drawn}, TITLES)


# ----------------------------------------------------------------------------------------------------------- marginals


@dataclass(frozen=True)
class Panel:
    """A column of the picture of marginals."""

    title: str
    names: list[str]
    """What each level or bin is called."""
    real: Float[Tensor, " level"] | None
    """The shares of the levels among real rows."""
    synthetic: Float[Tensor, "table level"]
    """Those in each table."""

    @property
    def apart(self) -> float:
        """The total variation between real and synthetic rows, of the mean over tables; 0 without real rows."""
        return 0.0 if self.real is None else 0.5 * float((self.real - self.synthetic.mean(dim=0)).abs().sum())

    @classmethod
    def of(cls, column: Column, tables: Sequence[Rows], real: Rows | None) -> "Panel":
        """Count the levels of a column, or its numbers in bins; rare levels of many are one."""
        whole = [rows.of(column) for rows in (*([] if real is None else [real]), *tables)]
        if column.type == "category":
            names, codes = [*column.levels], whole
        else:
            cuts, middles = _bins(whole[0])
            names = [_worded(value, column) for value in middles]
            codes = [binned(v, cuts, missing=len(names)) for v in whole]
            names += ["missing"] if any(bool(v.isnan().any()) for v in whole) else []
        shares = torch.stack([one_hot(v.double(), len(names)).mean(dim=0) for v in codes])
        if column.type == "category" and len(names) > LEVELS:
            order = shares[0].argsort(descending=True, stable=True)
            most, rest = order[: LEVELS - 1], order[LEVELS - 1 :]
            shares = torch.cat([shares[:, most], shares[:, rest].sum(dim=1, keepdim=True)], dim=1)
            names = [*(names[level] for level in most.tolist()), f"{len(rest)} others"]
        return cls(column.name, names, None if real is None else shares[0], shares[real is not None :])


def marginals_picture(tables: Sequence[Rows], real: Rows | None = None) -> bytes | None:
    """The shares of levels or bins in each column, real beside synthetic, as PNG; None without matplotlib.

    Whiskers reach over the tables. At most 16 columns are drawn: label and groups, then those that differ most from the
    real ones; above each stands its total variation.

    Args:
        tables: One or more tables of one schema.
        real: Rows to compare them with.
    """
    if not can_draw():
        return None
    schema = (tables[0] if real is None else real).schema
    first = [Panel.of(column, tables, real) for column in schema.of_role("label", "sensitive")]
    others = [Panel.of(column, tables, real) for column in schema.of_role("feature")]
    panels = [*first, *sorted(others, key=lambda panel: -panel.apart)][:PANELS]
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)

    def draw(fig: Any) -> None:
        axes = fig.subplots(down, across, squeeze=False).flatten()
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        for axis, panel in zip(axes, panels, strict=False):
            _draw_panel(axis, panel)
        if real is not None:
            fig.legend(
                *axes[0].get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside upper left", ncol=2
            )

    return figure(draw, 2.9 * across, 2.1 * down + 0.3 * (real is not None))


def _draw_panel(axis: Any, panel: Panel) -> None:
    count, places = len(panel.names), torch.arange(len(panel.names)).double()
    width = 0.84 if panel.real is None else 0.42
    if panel.real is not None:
        axis.bar((places - width / 2).tolist(), panel.real.tolist(), width, color=REAL, label="real")
    mean, centre = panel.synthetic.mean(dim=0), places if panel.real is None else places + width / 2
    reach = torch.stack([mean - panel.synthetic.amin(dim=0), panel.synthetic.amax(dim=0) - mean]).clamp(min=0)
    bars = {"yerr": reach.tolist(), "error_kw": {"elinewidth": 0.8}} if len(panel.synthetic) > 1 else {}
    axis.bar(centre.tolist(), mean.tolist(), width, color=SYNTHETIC, label="synthetic", **bars)
    shown = range(count) if count <= LEVELS else range(0, count, max(1, count // 4))
    slanted = max(len(panel.names[place]) for place in shown) * len(shown) > 24
    axis.set_xticks(list(shown), [_short(panel.names[place], 12) for place in shown], fontsize=7)
    for label in axis.get_xticklabels() if slanted else ():
        label.set(rotation=30, horizontalalignment="right", rotation_mode="anchor")
    axis.tick_params(axis="y", labelsize=7)
    told = "" if panel.real is None else f"  (TV {panel.apart:.2f})"
    axis.set_title(f"{_short(panel.title, 20)}{told}", fontsize=9)
    _without_frame(axis)


def _bins(values: Float[Tensor, " row"]) -> tuple[Float[Tensor, " cut"], list[float]]:
    """Inner cuts and middles of bins of equal width over the middle 98 % of the numbers; or each number a bin."""
    known = values[values.isfinite()]
    there = known.unique()
    if len(there) <= BINS:
        return (there[1:] + there[:-1]) / 2, there.tolist() or [0.0]
    low, high = torch.quantile(known, torch.tensor([0.01, 0.99], dtype=known.dtype)).tolist()
    low, high = (low, high) if high > low else (float(there[0]), float(there[-1]))
    edges = torch.linspace(low, high, BINS + 1).double()
    if bool((there == there.round()).all()):  # else bins would hold unequal numbers of whole numbers
        width = math.ceil((high - low + 1) / BINS)
        edges = torch.arange(low - 0.5, high + width, width).double()
    return edges[1:-1], ((edges[1:] + edges[:-1]) / 2).tolist()


def _worded(value: float, column: Column) -> str:
    """A number in few letters, or a date."""
    if column.dated:
        return str(np.datetime64(round(value), "D"))
    if abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value / 1000:.3g}k" if abs(value) >= 1e4 else f"{value:.0f}"


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
    if not can_draw():
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


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _without_frame(axis: Any) -> None:
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
