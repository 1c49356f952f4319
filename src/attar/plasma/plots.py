"""The plots of a run, as the paper has them: maps at three times, losses beside energies, and the light of Si IV.

They lie beside a run in the folder `evaluation`, where the card, the report and the hub find them.
"""

from collections.abc import Mapping
from typing import Any

from attar.core.pictures import can_draw, figure
from attar.plasma.maps import lengths, maps, moment
from attar.plasma.series import START_UP, columns_of, started
from attar.plasma.thin import light_curve

TITLES: Mapping[str, str] = {
    "snapshots": "Temperature, density and losses at three times, of the simulated half of the thread",
    "energies": "Losses, and changes of energy",
    "line": "Light of Si IV by the labelled Gaussian",
}
"""The plots, by the names of their files."""


def drawn(run: Any) -> dict[str, bytes]:
    """The plots of a run as PNG, by name; none without matplotlib, or of a run that has only begun."""
    if not can_draw() or len(run.times) < 2:
        return {}
    grid = run.grid
    aspect = min(max(grid.rows * grid.dy / (grid.columns * grid.dx), 0.2), 3.0)
    times = three(len(run.times))
    return {
        "snapshots": figure(lambda fig: snapshots(fig, run, times), 10, len(times) * (2.9 * aspect + 0.25) + 1.1),
        "energies": figure(lambda fig: energies(fig, run), 10, 3.6),
        "line": figure(lambda fig: line(fig, run), 10, 3.6),
    }


def three(count: int) -> list[int]:
    """Three snapshots at equal distances, the last one among them; fewer where there are not three after the first."""
    return sorted({round(part * (count - 1) / 3) for part in (1, 2, 3)} - {0})


def snapshots(fig: Any, run: Any, times: list[int]) -> None:
    """Maps at some times, a row each; each quantity has one range of colours for all times."""
    found = [maps(run, index) for index in times]
    scale, unit = lengths(run)
    grid, x, y = run.grid, run.origin_x, run.origin_y
    ends = (x, x + grid.columns * grid.dx, y, y + grid.rows * grid.dy)
    axes = fig.subplots(len(times), 3, squeeze=False, sharex=True, sharey=True)
    look: dict[str, Any] = {"origin": "lower", "cmap": "inferno", "interpolation": "nearest"}
    for place in range(3):
        column = [row[place] for row in found]
        shown = [one.ends for one in column if one.values is not None] or [(0.0, 0.0)]
        look |= {"vmin": min(end[0] for end in shown), "vmax": max(end[1] for end in shown)}
        image = None
        for axis, one in zip(axes[:, place], column, strict=True):
            if one.values is None:
                axis.text(0.5, 0.5, "no losses", ha="center", transform=axis.transAxes)
            else:
                image = axis.imshow(one.values, extent=[end * scale for end in ends], **look)
        if image is not None:
            title = column[0].title.replace("^-3", "$^{-3}$")
            fig.colorbar(image, ax=list(axes[:, place]), label=title, location="top", aspect=30)
    for row, index in enumerate(times):
        axes[row, 0].set_ylabel(f"y [{unit}]")
        axes[row, 0].set_title(moment(run, index).replace("L_0/c_s0", "$L_0/c_{s0}$"), fontsize=10, loc="left")
    for axis in axes[-1]:
        axis.set_xlabel(f"x [{unit}]")


def energies(fig: Any, run: Any) -> None:
    """Losses per time; and what was radiated beside the changes of the thermal and the kinetic energy."""
    of = columns_of(run.series)
    left, right = fig.subplots(1, 2)
    power = run.units.energy * run.units.length**2 / run.units.time
    if run.cooling == "off":
        left.text(0.5, 0.5, "no cooling", ha="center", transform=left.transAxes)
    else:
        left.plot(of["time"], of["losses"] * power, color="tab:red")
        left.set_yscale("log")
    left.set_ylabel("losses, per metre of depth [W/m]")
    share = 100 / of["thermal"][0]
    first = started(of["time"])
    if run.cooling != "off":
        radiated = of["radiated"] - of["radiated"][first]
        right.plot(of["time"][first:], share * radiated[first:], color="tab:red", label="radiated")
    for name, colour in (("thermal", "tab:orange"), ("kinetic", "tab:blue")):
        change = of[name] - of[name][first]
        right.plot(of["time"][first:], share * change[first:], color=colour, label=f"{name} energy")
    right.set_ylabel(f"change since t = {of['time'][first]:.3g}\n[% of the thermal energy of the start]")
    right.axhline(0, color="grey", linewidth=0.5)
    right.legend(loc="center right")
    for axis in (left, right):
        _clock(axis, run)


def line(fig: Any, run: Any) -> None:
    """The light of the line: as it is, and relative to a time after the gas has settled."""
    absolute = light_curve(run)
    first = started(absolute.times)
    shines = absolute.light > 0
    left, right = fig.subplots(1, 2)
    left.plot(absolute.times[shines], absolute.light[shines], color="tab:purple")
    left.set_ylabel(r"Si IV: mean over x of $\Sigma_y\,\rho^2 G(T)$")
    if shines[first]:
        right.plot(absolute.times[shines], absolute.light[shines] / absolute.light[first], color="tab:purple")
    right.set_ylabel(f"Si IV, relative to t = {absolute.times[first]:.3g}")
    right.axhline(1, color="grey", linewidth=0.5)
    fig.suptitle(absolute.label, fontsize=10)
    for axis in (left, right):
        if shines.any():
            axis.set_yscale("log")
        _clock(axis, run)


def _clock(axis: Any, run: Any) -> None:
    """Time in both units, and the part in which the gas settles."""
    seconds = run.units.time
    end = float(run.measured("time")[-1])
    axis.set_xlim(0, end)
    axis.set_xlabel("t [$L_0/c_{s0}$]")
    if end > START_UP:
        axis.axvspan(0, START_UP, color="lightgrey", alpha=0.5, linewidth=0)
    axis.secondary_xaxis("top", functions=(lambda t: t * seconds, lambda s: s / seconds)).set_xlabel("t [s]")
