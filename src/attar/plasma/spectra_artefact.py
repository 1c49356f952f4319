"""Spectra of a run on disk and in memory: line profiles of its columns, and the depths at which they form.

`spectra.safetensors` holds the tensors, `artefact.json` states the rest with a digest, and `timing.json` holds the
seconds of each column, which differ from time to time.
"""

import builtins
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core import artefact as core
from attar.core import card, store
from attar.core.artefact import Origin
from attar.core.card import SCORES
from attar.core.cell import Cell
from attar.core.errors import InputError, unknown
from attar.plasma.nonlte import LINES
from attar.plasma.units import Units

SCHEMA, KIND, FORM = 1, "plasma", "spectra"
TENSORS, TIMING, PREVIEW = "spectra.safetensors", "timing.json", "preview.png"
DRAWN = {"spectra": "Spectra of each line at each time", "surfaces": "Depths of τ = 1 over the temperature"}
"""Pictures that matplotlib draws, and what they show."""
AT_CORE = ("tau", "depth", "intensity")
UNSEEN, UNSOLVED, MOVING, CONVERGED = range(4)
"""What became of a column: not reached yet, without a solution, kept though not converged, converged."""
CAVEAT = (
    "The thread is the simulated domain and its mirror image. Each column is a model of its own (1.5D): light that "
    "would come from its neighbours is left out, which matters for a thread about as wide as a photon travels."
)


@dataclass(frozen=True)
class Spectra(core.Shareable):
    """Line profiles of columns of a run at some times, and where they form."""

    intensity: Float[Tensor, "time column line wavelength"]
    """In W m⁻² Hz⁻¹ sr⁻¹; zero where there is no solution."""
    tau: Float[Tensor, "time column line wavelength"]
    """Optical depth of the whole column."""
    depth: Float[Tensor, "time column line wavelength"]
    """Where τ = 1, in m from the near face; -1 where the column is thinner."""
    contribution: Float[Tensor, "time column line point"]
    """What a metre adds to the intensity at the wavelength of the largest τ, in W m⁻³ Hz⁻¹ sr⁻¹."""
    balance: Float[Tensor, "time column line"]
    """Integral of that, with what shines through, over the intensity."""
    hydrogen_change: Float[Tensor, "time column"]
    """Largest relative change of the hydrogen density by the conservation of pressure."""
    iterations: Int[Tensor, "time column"]
    state: Int[Tensor, "time column"]
    """What became of a column: 3 converged, 2 not converged but kept, 1 without a solution."""
    temperature: Float[Tensor, "time column point"]
    """Of the columns, in K."""
    seconds: Float[Tensor, "time column"]
    """CPU time of each column."""
    times: tuple[float, ...]
    """In L_0/c_s0."""
    places: tuple[float, ...]
    """Of the columns along x, in L_0."""
    step: float
    """Distance between two points of a column, in m."""
    lines: tuple[str, ...]
    """Names, as in `attar.plasma.nonlte.LINES`."""
    units: Units
    """Of the run."""
    origin: Origin
    folder: Path | None = field(default=None, compare=False)

    kind = KIND
    repo_type = "dataset"
    files = (TENSORS, TIMING, core.ARTEFACT, core.CARD, PREVIEW, *(f"{name}.png" for name in DRAWN), SCORES)

    @property
    def name(self) -> str:
        """What it is called as a source."""
        return self.origin.source

    @property
    def fingerprint(self) -> str:
        """A digest of the profiles."""
        return store.digest_of({"intensity": self.intensity}, list(self.lines))

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return f"Spectra of {self.origin.source}: {', '.join(self.labels)}"

    @property
    def labels(self) -> list[str]:
        """The lines as they are called."""
        return [LINES[name].label for name in self.lines]

    @property
    def wavelengths(self) -> Float[np.ndarray, "line wavelength"]:
        """In vacuum, in nm."""
        return np.stack([LINES[name].wavelengths for name in self.lines])

    @property
    def seen(self) -> Bool[np.ndarray, "time column"]:
        """Which columns have a solution."""
        return self.state.numpy() >= MOVING

    @property
    def bytes(self) -> int:
        """Size of the profiles in bytes."""
        return self.intensity.numel() * self.intensity.element_size()

    @property
    def deepest(self) -> Int[Tensor, "time column line"]:
        """The wavelength of the largest τ."""
        return self.tau.argmax(dim=-1)

    def at_core(self, name: str) -> Float[np.ndarray, "time column line"]:
        """`tau`, `depth` or `intensity` at the wavelength of the largest τ; NaN where there is none.

        Args:
            name: Which.
        """
        if name not in AT_CORE:
            raise unknown("quantity at the core", name, list(AT_CORE))
        found = getattr(self, name).gather(-1, self.deepest[..., None])[..., 0].double().numpy()
        gone = ~self.seen[..., None] | ((found < 0) if name == "depth" else np.zeros_like(found, dtype=bool))
        return np.where(gone, np.nan, found)

    @property
    def middle(self) -> float:
        """Depth of the plane of the mirror, in m."""
        return self.step * self.temperature.shape[-1] / 2

    # ----------------------------------------------------------------------------------------------------- in words

    def facts(self) -> dict[str, str]:
        """What there is to say of all columns, by what it is called."""
        total, solved = self.state.numel(), int(self.seen.sum())
        converged = int((self.state == CONVERGED).sum())
        seconds = self.seconds[self.seconds > 0]
        found = {
            "columns": f"{len(self.places)} at each of {len(self.times)} times",
            "times": ", ".join(f"{time:.4g}" for time in self.times) + " L_0/c_s0",
            "converged": f"{converged} of {total}",
            "kept though not converged": str(solved - converged),
            "without a solution": str(int((self.state == UNSOLVED).sum())),
        }
        if solved:
            change = float(self.hydrogen_change[self.seen].max())
            found["largest change of n_H"] = f"{100 * change:.2g} %"
            errors = (self.balance[self.seen] - 1).abs()
            found["contributions add up to the intensity"] = f"within {100 * float(errors.max()):.2g} %"
        if len(seconds):
            found["CPU-seconds a column"] = f"{float(seconds.median()):.3g} (median)"
        return found

    def table(self) -> list[list[str]]:
        """For each line and time: the mean intensity of the core, τ, and the depth of τ = 1."""
        rows = [
            [
                "line",
                "t, L_0/c_s0",
                "core (mean), W m⁻² Hz⁻¹ sr⁻¹",
                "τ (median)",
                "columns with τ > 1",
                "depth of τ = 1 (median), Mm",
            ]
        ]
        core, tau, depth = (self.at_core(name) for name in ("intensity", "tau", "depth"))
        for index, label in enumerate(self.labels):
            for number, time in enumerate(self.times):
                if not self.seen[number].any():
                    continue
                thick = np.isfinite(depth[number, :, index])
                where = f"{np.median(depth[number, thick, index]) / 1e6:.3f}" if thick.any() else "none"
                rows.append(
                    [
                        label,
                        f"{time:.4g}",
                        f"{np.nanmean(core[number, :, index]):.3g}",
                        f"{np.nanmedian(tau[number, :, index]):.3g}",
                        f"{int(thick.sum())} of {int(self.seen[number].sum())}",
                        where,
                    ]
                )
        return rows

    def __str__(self) -> str:
        converged = int((self.state == CONVERGED).sum())
        left = self.state.numel() - converged
        told = f"{converged} of {self.state.numel()} columns converged"
        kept = f"; {left} did not and {'is' if left == 1 else 'are'} marked" if left else ""
        return f"{', '.join(self.labels)} of {len(self.places)} columns at {len(self.times)} times: {told}{kept}"

    # ------------------------------------------------------------------------------------------------------ on disk

    def save(self, folder: str | Path) -> Self:
        """Write it to a folder and return the saved copy. Each file is written whole or not at all.

        Raises:
            InputError: The folder cannot be written to.
        """
        from attar.plasma.spectra_pictures import drawn

        folder = Path(folder)
        store.make_folder(folder)
        for name, png in {"preview": self.picture(), **drawn(self)}.items():
            store.write_bytes(folder / f"{name}.png", png)
        store.write_json(folder / TIMING, {"seconds": self.seconds.tolist()})
        names = ("intensity", "tau", "depth", "contribution", "balance", "hydrogen_change", "temperature")
        tensors = {name: getattr(self, name) for name in (*names, "iterations", "state")}
        facts = {
            core.FORM: FORM,
            "digest": store.write_tensors(folder / TENSORS, tensors, {"lines": list(self.lines)}),
            "lines": list(self.lines),
            "times": list(self.times),
            "places": list(self.places),
            "step": self.step,
            "units": self.units.to_json(),
            "origin": dataclasses.asdict(self.origin),
        }
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: The folder holds no spectra, or a file is missing, damaged or altered.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "spectra")
        tensors, _ = core.read_tensors(folder / TENSORS, facts["digest"])
        wanted = (len(facts["times"]), len(facts["places"]), len(facts["lines"]))
        if tuple(tensors["intensity"].shape[:3]) != wanted or not set(facts["lines"]) <= set(LINES):
            raise InputError(
                f"{folder / core.ARTEFACT} is damaged: its times, places and lines are not those of {TENSORS}."
            )
        return cls(
            **tensors,
            seconds=_seconds_in(folder, tensors["state"].shape),
            times=tuple(facts["times"]),
            places=tuple(facts["places"]),
            step=float(facts["step"]),
            lines=tuple(facts["lines"]),
            units=Units.from_json(facts["units"]),
            origin=Origin(**facts["origin"]),
            folder=folder,
        )

    def picture(self) -> builtins.bytes:
        """Spectra of each line over τ = 1 and the temperature, a column of maps for each time, as PNG."""
        from attar.plasma.spectra_pictures import preview

        return preview(self)

    def shown(self, images: int = 10) -> core.Shown:
        """Numbers and pictures."""
        from attar.plasma.spectra_pictures import drawn

        pictures = [core.Picture(DRAWN[name], png) for name, png in drawn(self).items()]
        first = core.Picture("spectra, and depths of τ = 1 over the temperature", self.picture())
        return core.Shown(
            size=f"{len(self.places)} columns, {len(self.times)} times",
            count=self.state.numel(),
            bytes=self.bytes,
            facts=self.facts(),
            table=self.table(),
            text=CAVEAT,
            pictures=(first, *pictures),
        )

    def card(self, scores: list[Cell]) -> str:
        """The README."""
        here = [name for name in DRAWN if self.folder is None or (self.folder / f"{name}.png").is_file()]
        pictures = "".join(f"\n![{DRAWN[name]}]({name}.png)\n" for name in here)
        facts = {name: value for name, value in self.facts().items() if not name.startswith("CPU")}
        head, *rows = self.table()
        return f"""{card.model_header("simulation", made=self, scores=scores, split=None)}
# {card.escaped(self.title)}

{card.escaped(str(self))}.

![Spectra, and depths of τ = 1 over the temperature](preview.png)

{CAVEAT}

{card.table(("", ""), facts.items())}

{card.table(head, rows)}

Intensities are in W m⁻² Hz⁻¹ sr⁻¹, wavelengths in nm in vacuum, depths in m from the face that is nearest to the
observer. `timing.json` has the CPU-seconds of each column.
{pictures}
```python
import attar

spectra = attar.open_artefact(".")
spectra.wavelengths, spectra.intensity  # [line, wavelength], [time, column, line, wavelength]
spectra.at_core("depth")  # of τ = 1, [time, column, line]; NaN where a column is thinner
```

{card.made_again(self.origin)}

Made with: {card.machine_line(self.origin.machine)}.
"""


def _seconds_in(folder: Path, shape: torch.Size) -> Float[Tensor, "time column"]:
    """CPU time of each column, as `timing.json` has it; zeros where it is missing or damaged."""
    try:
        return torch.tensor(store.read_json(folder / TIMING)["seconds"], dtype=torch.float64).reshape(shape)
    except (InputError, OSError, KeyError, TypeError, ValueError, RuntimeError):
        return torch.zeros(shape, dtype=torch.float64)
