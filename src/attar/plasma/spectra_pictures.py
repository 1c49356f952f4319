"""Pictures of spectra: maps of each line over x and wavelength, and the depths of τ = 1 over the temperature."""

import io
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from attar.core.pictures import can_draw, figure
from attar.plasma.nonlte import LIGHT_SPEED, LINES
from attar.plasma.pictures import GAP, coloured

WIDE, FLAT, HIGH = 220, 90, 260
"""Pixels of a map: width, height of a spectrum's, height of the temperature's."""
COLOURS = {"h-alpha": (255, 110, 180), "ca-k": (90, 200, 255), "mg-h": (130, 255, 90)}
NOTE = "thread: the domain and its mirror image; every column alone (1.5D), without light from its neighbours"


def preview(spectra: Any) -> bytes:
    """Maps of each line (x to the right, wavelength upwards), and below log T with the depths of τ = 1 in colours.

    There is a column of maps for each time; maps of one line have one scale.
    """
    from PIL import Image

    times = len(spectra.times)
    rows = [_row(np.concatenate(list(_profiles(spectra, line)), axis=1), times, FLAT) for line in _numbers(spectra)]
    heat = np.log10(spectra.temperature.double().numpy())
    maps = _row(np.concatenate([one.T for one in heat], axis=1), times, HIGH)
    for number, one in enumerate(maps):
        _mark(one, spectra, number)
    whole = np.concatenate([_beside(row) for row in (*rows, maps)], axis=0)
    sink = io.BytesIO()
    Image.fromarray(whole).save(sink, format="PNG")
    return sink.getvalue()


def _numbers(spectra: Any) -> range:
    return range(len(spectra.lines))


def _profiles(spectra: Any, line: int) -> Float[np.ndarray, "time wavelength column"]:
    """Profiles of a line as maps, wavelength rising upwards."""
    return np.moveaxis(spectra.intensity[:, :, line].double().numpy(), 1, 2)


def _row(values: Float[np.ndarray, "few narrow"], times: int, height: int) -> list[UInt8[np.ndarray, "high wide 3"]]:
    """Maps of all times in one scale, enlarged."""
    from PIL import Image

    parts = np.split(coloured(values), times, axis=1)
    sharp = Image.Resampling.NEAREST
    return [np.array(Image.fromarray(part).resize((WIDE, height), sharp)) for part in parts]


def _mark(pixels: UInt8[np.ndarray, "high wide 3"], spectra: Any, time: int) -> None:
    """Mark the depths of τ = 1 of each line on a map of the temperature."""
    deep, columns = spectra.temperature.shape[-1] * spectra.step, len(spectra.places)
    for line, name in enumerate(spectra.lines):
        for column, depth in enumerate(spectra.at_core("depth")[time, :, line]):
            if np.isfinite(depth):
                middle = HIGH - 1 - round(float(depth) / deep * (HIGH - 1))
                left, right = round(column * WIDE / columns), max(round((column + 1) * WIDE / columns), 1)
                pixels[max(middle - 1, 0) : middle + 2, left:right] = COLOURS[name]


def _beside(maps: list[UInt8[np.ndarray, "high wide 3"]]) -> UInt8[np.ndarray, "higher all 3"]:
    height = maps[0].shape[0]
    space, parts = np.full((height, GAP, 3), 255, dtype=np.uint8), [maps[0]]
    for one in maps[1:]:
        parts += [space, one]
    row = np.concatenate(parts, axis=1)
    return np.concatenate((row, np.full((GAP, row.shape[1], 3), 255, dtype=np.uint8)), axis=0)


def drawn(spectra: Any) -> dict[str, bytes]:
    """The plots of matplotlib by name; none where it is not installed, or nothing is solved yet."""
    if not can_draw() or not spectra.seen.any():
        return {}
    times, lines = len(spectra.times), len(spectra.lines)
    return {
        "spectra": figure(lambda fig: _spectra(fig, spectra), 1.2 + 2.5 * times, 0.8 + 1.9 * lines),
        "surfaces": figure(lambda fig: _surfaces(fig, spectra), 1.2 + 2.5 * times, 3.6),
    }


def _edges(values: Any) -> Float[np.ndarray, " edge"]:
    """Borders between values, and beyond the first and the last."""
    values = np.asarray(values, dtype=float)
    if len(values) == 1:
        return np.array([values[0] - 0.5, values[0] + 0.5])
    inner = 0.5 * (values[1:] + values[:-1])
    return np.concatenate(([2 * values[0] - inner[0]], inner, [2 * values[-1] - inner[-1]]))


def _spectra(fig: Any, spectra: Any) -> None:
    """Intensity over x and the distance from the line's centre in km/s, a row for each line."""
    axes = fig.subplots(len(spectra.lines), len(spectra.times), sharex=True, sharey=True, squeeze=False)
    x = _edges(spectra.places)
    for line, (name, row) in enumerate(zip(spectra.lines, axes, strict=True)):
        shift = (LINES[name].wavelengths / LINES[name].wavelength - 1) * LIGHT_SPEED / 1e3
        maps = _profiles(spectra, line) * 1e9
        for number, axis in enumerate(row):
            image = axis.pcolormesh(x, _edges(shift), maps[number], cmap="inferno", vmin=0, vmax=maps.max())
            if line == 0:
                axis.set_title(f"t = {spectra.times[number]:.4g} $L_0/c_{{s0}}$", fontsize=9)
        row[0].set_ylabel(f"{LINES[name].label}\nkm/s from centre", fontsize=8)
        fig.colorbar(image, ax=list(row), label="nW m⁻² Hz⁻¹ sr⁻¹", shrink=0.9)
    for axis in axes[-1]:
        axis.set_xlabel("x in $L_0$", fontsize=8)
    fig.supxlabel(NOTE, fontsize=7)


def _surfaces(fig: Any, spectra: Any) -> None:
    """Log T over x and depth, with the depth of τ = 1 of each line at the wavelength of the largest τ."""
    axes = fig.subplots(1, len(spectra.times), sharex=True, sharey=True, squeeze=False)[0]
    heat = np.log10(spectra.temperature.double().numpy())
    depth = (np.arange(heat.shape[-1] + 1)) * spectra.step / 1e6
    found = spectra.at_core("depth") / 1e6
    for number, axis in enumerate(axes):
        image = axis.pcolormesh(
            _edges(spectra.places), depth, heat[number].T, cmap="inferno", vmin=heat.min(), vmax=heat.max()
        )
        for line, name in enumerate(spectra.lines):
            colour = tuple(part / 255 for part in COLOURS[name])
            axis.plot(spectra.places, found[number, :, line], ".-", color=colour, ms=3, lw=1, label=LINES[name].label)
        axis.axhline(spectra.middle / 1e6, color="white", lw=0.5, ls=":")
        axis.set_title(f"t = {spectra.times[number]:.4g} $L_0/c_{{s0}}$", fontsize=9)
        axis.set_xlabel("x in $L_0$", fontsize=8)
    axes[0].set_ylabel("depth in Mm (τ = 1 in colours)", fontsize=8)
    axes[-1].legend(fontsize=7, loc="upper right")
    fig.colorbar(image, ax=list(axes), label="log T in K")
    fig.supxlabel(f"{NOTE}; dotted: mirror", fontsize=7)
