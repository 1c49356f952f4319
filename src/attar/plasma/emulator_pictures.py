"""Pictures of an emulator beside its teacher, which an evaluation leaves in the folder `evaluation`."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from attar.core import pictures as core
from attar.core.pictures import can_draw, figure
from attar.plasma.emulator_card import TITLES
from attar.plasma.profile_errors import rms_over_peak

PANELS = (3, 4)
TEACHER, STUDENT = "#222222", "#d62728"
ERRORS = 0.3
"""Largest error over the peak that a colour tells apart."""


def keep(artefacts: Sequence[Any], found: Any) -> None:
    """Write the pictures of emulators that lie in folders of one's own, in place of earlier ones.

    Args:
        artefacts: Those that may be written to.
        found: A `Measurement`.
    """
    if not can_draw():
        return
    for studied in found.studied:
        made = next((one for one in artefacts if one.folder is not None and one.folder == studied.one.folder), None)
        if made is not None and os.access(made.folder, os.W_OK):
            core.keep(made.folder, {"profiles": profiles(studied), "errors": errors(studied)}, TITLES)


def profiles(studied: Any) -> bytes:
    """Twelve held-out profiles or fewer, by teacher and emulator, from the best one to the worst, as PNG."""
    truth, wavelengths = studied.test.known.profiles.numpy(), studied.test.known.wavelengths.numpy()
    error = rms_over_peak(studied.profiles, truth)
    count = min(PANELS[0] * PANELS[1], len(error))
    high = -(-count // PANELS[1])
    rows = np.argsort(error)[np.linspace(0, len(error) - 1, count).round().astype(int)]
    away = 1e3 * (wavelengths - 0.5 * (wavelengths[0] + wavelengths[-1]))

    def draw(fig: Any) -> None:
        axes = fig.subplots(high, PANELS[1], squeeze=False).ravel()
        for place, axis in enumerate(axes):
            if place >= count:
                axis.set_axis_off()
                continue
            row = rows[place]
            axis.plot(away, truth[row], color=TEACHER, label=studied.one.teacher)
            axis.plot(away, studied.profiles[row], color=STUDENT, linestyle="--", label="emulator")
            axis.set_title(f"rms/peak {error[row]:.3f}", fontsize=9)
            axis.tick_params(labelsize=7)
            axis.yaxis.get_offset_text().set_fontsize(7)
            axis.set_ylim(bottom=0)
        axes[0].legend(frameon=False, fontsize=8)
        fig.supxlabel("wavelength from the centre of the window, pm", fontsize=9)
        fig.supylabel("intensity, W m⁻² Hz⁻¹ sr⁻¹", fontsize=9)

    return figure(draw, 11.0, 1.0 + 2.0 * high)


def errors(studied: Any) -> bytes:
    """Profiles of the teacher and errors of the emulator, over the peak, with columns by the centre of profiles."""
    truth, wavelengths = studied.test.known.profiles.numpy(), studied.test.known.wavelengths.numpy()
    peak = truth.max(axis=1, keepdims=True)
    order = np.argsort(truth @ wavelengths / truth.sum(axis=1))
    away = 1e3 * (wavelengths - 0.5 * (wavelengths[0] + wavelengths[-1]))
    extent = (away[0], away[-1], 0, len(truth))

    def draw(fig: Any) -> None:
        axes = fig.subplots(1, 2, sharey=True)
        maps = (
            ("profiles of the teacher, over the peak", (truth / peak)[order], "inferno", (0, 1)),
            ("errors of the emulator, over the peak", ((studied.profiles - truth) / peak)[order], "RdBu_r", None),
        )
        for axis, (title, values, colours, ends) in zip(axes, maps, strict=True):
            low, high = ends or (-ERRORS, ERRORS)
            shown = axis.imshow(
                values,
                aspect="auto",
                origin="lower",
                extent=extent,
                cmap=colours,
                vmin=low,
                vmax=high,
                interpolation="nearest",
            )
            axis.set_title(title, fontsize=10)
            axis.set_xlabel("wavelength from the centre of the window, pm")
            fig.colorbar(shown, ax=axis)
        axes[0].set_ylabel("held-out columns, by the centre of their profiles")

    return figure(draw, 10.0, 5.0)
