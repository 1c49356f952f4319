"""A reduced mixture on disk and in memory.

`mixture.safetensors` holds the reduced mixture, the original, and the assignment of components. `artefact.json` says
how the mixture was made. `README.md` and `preview.png` present it to readers.
"""

import builtins
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from jaxtyping import Int
from torch import Tensor

from attar.core import artefact as core
from attar.core import store
from attar.core.card import SCORES, escaped, machine_line, made_again, model_header, score_table
from attar.core.cell import Cell, Measure
from attar.mixtures.distances import UNITS, distance
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.parameters import CovarianceType
from attar.mixtures.preview import preview

SCHEMA = 1
KIND = "mixtures"
TENSORS = "mixture.safetensors"
TIMING = "timing.json"
"""File with the wall time of an artefact that was made without a run folder."""
PICTURE = "preview.png"
SHOWN = ("angle", "nise", "ise")


@dataclass(frozen=True)
class ReducedMixture(core.Shareable):
    """A mixture of few components that stands for one of many."""

    mixture: GaussianMixture
    original: GaussianMixture
    assignment: Int[Tensor, " component"]
    """For each original component, the number of the component it was merged into, before any optimisation."""
    trace: tuple[float, ...]
    """Values of the method, step by step: costs of merges, objectives, or distances to the original."""
    evaluations: int
    """Number of candidates that were tried."""
    seconds: float | None
    """Wall time of the reduction; None if it is not known."""
    origin: core.Origin
    folder: Path | None = field(default=None, compare=False)
    """Folder in which it was last saved."""

    kind = KIND
    repo_type = "model"
    files = (TENSORS, core.ARTEFACT, PICTURE, core.CARD, SCORES)

    @property
    def title(self) -> str:
        """A title of a few words: the source and the method."""
        return f"{self.origin.source}, reduced by {self.origin.method}"

    def distance(self, kind: str = "angle") -> float:
        """Distance from the original, of any kind in `attar.mixtures.distances`."""
        return float(distance(self.original, self.mixture, kind))

    @property
    def bytes(self) -> int:
        """Bytes of the reduced mixture's parameters in double precision."""
        return 8 * self.mixture.parameters

    def save(self, folder: str | Path) -> Self:
        """Write the artefact to a folder and return the saved copy. Each file is written whole or not at all."""
        folder = Path(folder)
        store.make_folder(folder)
        reduced, original = self.mixture.tensors(), self.original.tensors()
        tensors = {**reduced, **{f"original_{name}": tensor for name, tensor in original.items()}}
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}  # both may be one mixture
        tensors["assignment"] = self.assignment
        kinds = {"covariance_type": self.mixture.covariance_type, "original_type": self.original.covariance_type}
        digest = store.write_tensors(folder / TENSORS, tensors, kinds)
        facts = {
            "digest": digest,
            "trace": list(self.trace),
            "evaluations": self.evaluations,
            "distance": {kind: self.distance(kind) for kind in SHOWN},
            "origin": asdict(self.origin),
        }
        picture = self.picture()
        if picture is not None:
            store.write_bytes(folder / PICTURE, picture)
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: The folder does not hold a reduced mixture, or a file is truncated, altered, a pickle, or of a
                newer schema.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "reduced mixture")
        tensors, kinds = core.read_tensors(folder / TENSORS, facts["digest"])
        reduced = _mixture(tensors, "", kinds["covariance_type"])
        original = _mixture(tensors, "original_", kinds["original_type"])
        return cls(
            mixture=reduced,
            original=original,
            assignment=tensors["assignment"],
            trace=tuple(facts["trace"]),
            evaluations=facts["evaluations"],
            seconds=core.seconds_of(folder, TIMING),
            origin=core.Origin(**facts["origin"]),
            folder=folder,
        )

    def picture(self) -> builtins.bytes | None:
        """A PNG of both mixtures; None if matplotlib is not installed."""
        return preview(self.original, self.mixture)

    @property
    def first_scores(self) -> tuple[Cell, ...]:
        """Its distances to the original."""
        distances = {kind: Measure.of([[self.distance(kind)]], UNITS.get(kind, ""), "lower") for kind in SHOWN}
        return tuple(Cell(one.score, one.values, column=kind) for kind, one in distances.items())

    def shown(self, images: int = 10) -> core.Shown:
        """The sizes of both mixtures, their distances and a picture."""
        g, f = self.mixture, self.original
        drawn = self.picture()
        return core.Shown(
            size=f"{g.n_components:,} of {f.n_components:,} components",
            count=g.n_components,
            bytes=self.bytes,
            share=100 * g.parameters / f.parameters,
            facts={
                "dimension": f"{g.dimension}",
                "covariances": g.covariance_type,
                "candidates tried": f"{self.evaluations:,}",
            },
            scores=self.first_scores,
            pictures=() if drawn is None else (core.Picture("", drawn),),
        )

    def __str__(self) -> str:
        g, f = self.mixture, self.original
        share = 100 * g.parameters / f.parameters
        return (
            f"{g.n_components} of {f.n_components} components in {g.dimension}-D by {self.origin.method}: "
            f"{self.bytes:,} bytes, {share:.1f} % of the original\n"
            f"distance: {self._distances()}\n"
            f"{self.evaluations:,} evaluations{'' if self.seconds is None else f' in {self.seconds:.2f} s'}"
        )

    def _distances(self) -> str:
        angle = self.distance("angle")
        others = ", ".join(f"{kind} {self.distance(kind):.5g}" for kind in SHOWN[1:])
        return f"angle {angle:.5f} ({100 * angle / (math.pi / 2):.2f} % of a right angle), {others}"

    def card(self, scores: list[Cell]) -> str:
        """The text of README.md."""
        pictured = self.folder is not None and (self.folder / PICTURE).exists()
        origin, g, f = self.origin, self.mixture, self.original
        picture = f"![both mixtures]({PICTURE})\n\n" if pictured else ""
        return f"""{model_header("gaussian-mixture", made=self, scores=scores, split=None)}
# {escaped(self.title)}

{g.n_components} Gaussians in {g.dimension} dimensions that stand for {f.n_components}. Distance to the original:
{self._distances()}.

{picture}```python
from attar.mixtures import ReducedMixture

small = ReducedMixture.load(".")
print(small.mixture.weights, small.distance("angle"))
```
{score_table(scores, self.bytes)}
{made_again(origin)}

Fingerprint of the original: `{escaped(origin.fingerprint)}`. Made with {machine_line(origin.machine)}.
"""


def _mixture(tensors: dict[str, Tensor], prefix: str, kind: CovarianceType) -> GaussianMixture:
    weights, means, covariances = (tensors[prefix + name] for name in ("weights", "means", "covariances"))
    return GaussianMixture(weights, means, covariances, kind)
