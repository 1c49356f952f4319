"""A reduced mixture on disk and in memory.

`mixture.safetensors` holds the reduced mixture, the original, and which component went where; `artefact.json` says how
it was made, `timing.json` how long that took, and `README.md` and `preview.png` are for looking at it.
"""

import builtins
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from attar.core import store
from attar.core.errors import InputError
from attar.core.settings import flat
from attar.mixtures.distances import distance
from attar.mixtures.mixture import CovarianceType, GaussianMixture
from attar.mixtures.preview import preview

SCHEMA = 1
SHOWN = ("angle", "nise", "ise")


@dataclass(frozen=True)
class Origin:
    """Where a reduced mixture came from."""

    source: str
    fingerprint: str
    method: str
    settings: dict[str, Any]
    seed: int
    machine: dict[str, Any]


@dataclass(frozen=True)
class ReducedMixture:
    """A mixture of few components that stands for one of many."""

    mixture: GaussianMixture
    original: GaussianMixture
    assignment: Int[Tensor, " component"]
    """For each original component, the one it was merged into before anything was optimised."""
    trace: tuple[float, ...]
    """What the method looked at, step by step."""
    evaluations: int
    """Candidates that were tried."""
    seconds: float
    """Wall time of the reduction."""
    origin: Origin
    folder: Path | None = field(default=None, compare=False)
    """Where it was last saved."""

    def distance(self, kind: str = "angle") -> float:
        """How far it is from the original, in any kind of `attar.mixtures.distances`."""
        return float(distance(self.original, self.mixture, kind))

    @property
    def bytes(self) -> int:
        """Bytes of the numbers that the reduced mixture needs, in double precision."""
        return 8 * self.mixture.parameters

    def save(self, folder: str | Path) -> "ReducedMixture":
        """Write it to a folder, every file whole or not at all; return it as saved there."""
        folder = Path(folder)
        store.make_folder(folder)
        reduced, original = self.mixture.tensors(), self.original.tensors()
        tensors = {**reduced, **{f"original_{name}": tensor for name, tensor in original.items()}}
        tensors["assignment"] = self.assignment
        kinds = {"covariance_type": self.mixture.covariance_type, "original_type": self.original.covariance_type}
        digest = store.write_tensors(folder / "mixture.safetensors", tensors, kinds)
        facts = {
            "schema": SCHEMA,
            "kind": "mixture",
            "digest": digest,
            "trace": list(self.trace),
            "evaluations": self.evaluations,
            "distance": {kind: self.distance(kind) for kind in SHOWN},
            "origin": asdict(self.origin),
        }
        facts["facts_digest"] = store.digest_of({}, facts)
        store.write_json(folder / "artefact.json", facts)
        # Apart from the rest, which is the same each time.
        store.write_json(folder / "timing.json", {"seconds": self.seconds})
        picture = self.picture()
        if picture is not None:
            store.write_bytes(folder / "preview.png", picture)
        store.write_bytes(folder / "README.md", self._card(pictured=picture is not None).encode())
        return replace(self, folder=folder)

    @classmethod
    def load(cls, folder: str | Path) -> "ReducedMixture":
        """Read what `save` wrote.

        Raises:
            InputError: Not a reduced mixture, or truncated, altered, a pickle, or of a newer schema.
        """
        folder = Path(folder)
        path = folder / "artefact.json"
        if not path.is_file():
            raise InputError(f"{folder} holds no reduced mixture (no artefact.json).")
        facts = store.read_json(path)
        _check_facts(facts, path)
        tensors, kinds = store.read_tensors(folder / "mixture.safetensors")
        if store.digest_of(tensors, kinds) != facts["digest"]:
            raise InputError(f"{folder / 'mixture.safetensors'} is not the file that artefact.json describes.")
        reduced = _mixture(tensors, "", kinds["covariance_type"])
        original = _mixture(tensors, "original_", kinds["original_type"])
        timing = folder / "timing.json"
        return cls(
            mixture=reduced,
            original=original,
            assignment=tensors["assignment"],
            trace=tuple(facts["trace"]),
            evaluations=facts["evaluations"],
            seconds=float(store.read_json(timing)["seconds"]) if timing.is_file() else math.nan,
            origin=Origin(**facts["origin"]),
            folder=folder,
        )

    def picture(self) -> builtins.bytes | None:
        """Both mixtures as PNG; None where matplotlib is not installed."""
        return preview(self.original, self.mixture)

    def __str__(self) -> str:
        g, f = self.mixture, self.original
        share = 100 * g.parameters / f.parameters
        return (
            f"{g.n_components} of {f.n_components} components in {g.dimension}-D by {self.origin.method}: "
            f"{self.bytes:,} bytes, {share:.1f} % of the original's\n"
            f"distance: {self._distances()}\n"
            f"{self.evaluations:,} evaluations in {self.seconds:.2f} s"
        )

    def _distances(self) -> str:
        angle = self.distance("angle")
        others = ", ".join(f"{kind} {self.distance(kind):.5g}" for kind in SHOWN[1:])
        return f"angle {angle:.5f} ({100 * angle / (math.pi / 2):.2f} % of a right angle), {others}"

    def _card(self, *, pictured: bool) -> str:
        origin, g, f = self.origin, self.mixture, self.original
        rows = "\n".join(f"| {name} | {value} |" for name, value in flat(origin.settings))
        machine = ", ".join(f"{name} {value}" for name, value in origin.machine.items())
        picture = "![both mixtures](preview.png)\n\n" if pictured else ""
        return f"""# {origin.source}, reduced by {origin.method}

{g.n_components} Gaussians in {g.dimension} dimensions that stand for {f.n_components}; {self._distances()}.

{picture}```python
from attar.mixtures import ReducedMixture

small = ReducedMixture.load(".")
print(small.mixture.weights, small.distance("angle"))
```

| setting | value |
|---|---|
{rows}
| seed | {origin.seed} |

Fingerprint of the original: `{origin.fingerprint}`. Made with {machine}.
"""


def _mixture(tensors: dict[str, Tensor], prefix: str, kind: CovarianceType) -> GaussianMixture:
    weights, means, covariances = (tensors[prefix + name] for name in ("weights", "means", "covariances"))
    return GaussianMixture(weights, means, covariances, kind)


def _check_facts(facts: Any, path: Path) -> None:
    if not isinstance(facts, dict) or "facts_digest" not in facts:
        raise InputError(f"{path} is damaged: it is not an artefact's description.")
    if facts.get("kind") != "mixture":
        raise InputError(f"{path} describes {facts.get('kind', 'images')}, not a reduced mixture.")
    if facts.get("schema", 0) > SCHEMA:
        raise InputError(f"{path} has schema {facts['schema']}; this attar reads up to {SCHEMA}. Upgrade attar.")
    rest = {name: value for name, value in facts.items() if name != "facts_digest"}
    if store.digest_of({}, rest) != facts["facts_digest"]:
        raise InputError(f"{path} was altered after it was written: its contents do not match its digest.")
