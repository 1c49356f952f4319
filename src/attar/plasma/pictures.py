"""The preview of a run: maps of log T, log ρ and losses side by side, drawn without matplotlib."""

import io
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from attar.plasma.cooling import Cooling
from attar.plasma.states import conserved

SIDE = 240
"""Pixels of the longer side of a map."""
GAP = 8
INFERNO = (
    (0, 0, 4),
    (40, 11, 84),
    (101, 21, 110),
    (159, 42, 99),
    (212, 72, 66),
    (245, 125, 21),
    (250, 193, 39),
    (252, 255, 164),
)
"""A few colours of a map of equal steps in lightness, from dark to bright."""


def preview(run: Any) -> bytes:
    """Log T, log ρ and losses of the last snapshot, as PNG; y rises upwards."""
    from PIL import Image

    last = run.snapshots[-1].double().numpy()
    heat, density = run.temperature(-1), last[0]
    maps = [np.log10(np.maximum(heat, 1.0)), np.log10(density), losses_of(run, last)]
    drawn = [_scaled(coloured(one)) for one in maps]
    space = np.full((drawn[0].shape[0], GAP, 3), 255, dtype=np.uint8)
    whole = np.concatenate([drawn[0], space, drawn[1], space, drawn[2]], axis=1)
    sink = io.BytesIO()
    Image.fromarray(whole).save(sink, format="PNG")
    return sink.getvalue()


def losses_of(run: Any, states: Float[np.ndarray, "5 row column"]) -> Float[np.ndarray, "row column"]:
    """log10 of the losses per volume, from a millionth of the largest on; all equal where there are none."""
    if run.cooling == "off":
        return np.zeros(states.shape[1:])
    table = run.losses.cut() if run.cooling == "cut" else run.losses
    rate = Cooling(table, run.units.tau, run.units.unit_temperature).rate(conserved(states))
    return np.log10(np.maximum(rate, max(float(rate.max()), 1e-300) * 1e-6))


def coloured(values: Float[np.ndarray, "row column"]) -> UInt8[np.ndarray, "row column 3"]:
    """A map from its smallest to its largest value in colours; the first row below."""
    low, high = float(values.min()), float(values.max())
    share = np.flipud(values - low) / (high - low if high > low else 1.0)
    stops, colours = np.linspace(0, 1, len(INFERNO)), np.array(INFERNO, dtype=float)
    return np.stack([np.interp(share, stops, colours[:, part]) for part in range(3)], axis=-1).round().astype(np.uint8)


def _scaled(pixels: UInt8[np.ndarray, "row column 3"]) -> UInt8[np.ndarray, "row column 3"]:
    from PIL import Image

    height, width = pixels.shape[:2]
    factor = SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    how = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(pixels).resize(size, how))
