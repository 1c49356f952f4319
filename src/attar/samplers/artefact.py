"""A sampler on disk and in memory: its denoiser, its noise levels, how it is sampled, its origin, and its scores.

`sampler.safetensors` holds the parameters. A U-Net lies in the folders of diffusers instead, so that diffusers opens
it: see `attar.samplers.export`. `artefact.json` states the rest, with a digest of each file.
"""

import builtins
import copy
import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self, get_args

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from attar.core import artefact as core
from attar.core import store
from attar.core.card import SCORES
from attar.core.cell import Cell
from attar.core.checks import check_of, shown
from attar.core.errors import InputError
from attar.core.pictures import KEPT, kept_in
from attar.core.seeds import derived_seed
from attar.images.networks.architecture import device_of
from attar.samplers.card import TITLES, card
from attar.samplers.denoisers import Condition, Denoiser
from attar.samplers.sampling import Churn, euler, few_step, heun, noise_from
from attar.samplers.schedules import Grid, Levels, few
from attar.samplers.sources import pixels_of

SCHEMA = 1
KIND = "samplers"
WEIGHTS = "sampler.safetensors"
PREVIEW = "preview.png"
SAMPLER = "sampler"
"""The usual form."""
PORTION = 512
"""Samples that are made at once."""
PICTURED = 10
"""Samples of each class in a picture."""
Solver = Literal["heun", "few-step", "euler"]
_whole = check_of("seed", int)


@dataclass(frozen=True)
class Origin(core.Origin):
    """The origin of a sampler."""

    parameters: int
    teacher: int | None = None
    """Number of parameters of its teacher, if it has one."""
    teacher_calls: int | None = None
    """Number of calls of the teacher's network for a sample."""


@dataclass(frozen=True)
class Sampler(core.Shareable):
    """A denoiser with the levels at which it is called: a diffusion model, or a student of a few steps."""

    denoiser: Denoiser
    network: str | None
    """The network by words; None of a module of the caller's own."""
    grid: Grid
    """The levels that it was trained on."""
    steps: int
    """Number of noise levels of a sampling run."""
    solver: Solver
    """heun, euler: along the probability-flow ODE; few-step: x0, noise, x0, …"""
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    class_shares: tuple[float, ...]
    """The share of each class among samples without a wanted class."""
    pictures: bool
    """Whether samples are images between -1 and 1."""
    origin: Origin
    churn: Churn = field(default_factory=Churn)
    floor: float = 0.0
    """Noise that few-step samples keep between two steps, σ_min of consistency models; where Euler's method ends."""
    clamp: bool = False
    """Whether few-step samples are cut to [-1, 1] after each call."""
    given: tuple[float, ...] | None = None
    """The levels of the few-step and the Euler solver, where they are not those of the grid."""
    scores: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = field(default=None, compare=False)

    kind = KIND
    form = SAMPLER
    """What tells it apart from other forms of the kind."""
    repo_type = "model"
    files = (WEIGHTS, core.ARTEFACT, core.CARD, PREVIEW, SCORES, KEPT, "unet/*", "scheduler/*", "model_index.json")

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return f"A sampler of {self.origin.source}, by {self.origin.method}"

    @property
    def learned(self) -> dict[str, Tensor]:
        """The weights of the network."""
        return dict(self.denoiser.state_dict())

    @property
    def bytes(self) -> int:
        """Size of the parameters in bytes."""
        return sum(one.numel() * one.element_size() for one in self.denoiser.parameters())

    @property
    def calls(self) -> int:
        """Number of calls of the network for a sample (NFE)."""
        return self.calls_at(self.steps)

    def calls_at(self, steps: int) -> int:
        """Number of calls of the network for a sample, for so many levels."""
        return 2 * steps - 1 if self.solver == "heun" else steps

    def levels(self, steps: int | None = None) -> Levels:
        """The noise levels of a sampling run, descending.

        Args:
            steps: How many. Default: as it was made for.

        Raises:
            InputError: The few-step levels are given, and others are asked for.
        """
        if steps is not None and _whole("steps", steps) < 1:
            raise InputError(f"steps is {steps}; give 1 or more.")
        if self.given is not None and steps in (None, len(self.given)):
            return torch.tensor(self.given, dtype=torch.float64)
        wanted = self.steps if steps is None else steps
        if self.solver == "euler" and self.given is not None:
            return few(torch.tensor(self.given, dtype=torch.float64), wanted)
        if self.solver == "few-step":
            return self.grid.few(wanted)
        return self.grid.levels(wanted)

    def labels_for(self, n: int, seed: int = 0) -> Int[Tensor, " sample"] | None:
        """Class numbers of so many samples, in the shares of the training samples; None without classes.

        The numbers are as near to the shares as whole numbers can be, so that chance in labels is no part of a score.
        """
        if not self.classes:
            return None
        edges = (torch.tensor(self.class_shares, dtype=torch.float64).cumsum(0) * n).round().long()
        edges[-1] = n
        counts = torch.diff(edges, prepend=torch.zeros(1, dtype=torch.long))
        labels = torch.repeat_interleave(torch.arange(len(self.classes)), counts)
        return labels[torch.randperm(n, generator=torch.Generator().manual_seed(derived_seed(seed, "labels")))]

    @torch.no_grad()
    def sample(
        self,
        n: int | None = None,
        labels: Tensor | None = None,
        *,
        seed: int = 0,
        steps: int | None = None,
        noise: Float[Tensor, "sample ..."] | None = None,
    ) -> Float[Tensor, "sample ..."]:
        """New samples; images lie between -1 and 1.

        Args:
            n: How many. Default: as many as there are labels or noise.
            labels: Class numbers. Default: in the shares of the training samples.
            seed: Of noise and labels. A sample does not depend on how many are drawn after it.
            steps: Number of noise levels. Default: as it was made for.
            noise: Standard normal noise to start from, in place of the seed's.

        Raises:
            InputError: Nothing is asked for, labels are no class numbers, or numbers or shapes do not fit.
        """
        labels, noise = _tensor("labels", labels), _tensor("noise", noise)
        n = next((len(one) for one in (labels, noise) if one is not None), 0) if n is None else _whole("n", n)
        if n < 1:
            raise InputError(f"n is {n}; give 1 or more, or labels.")
        seed = _whole("seed", seed)
        labels = self._checked(labels, n, seed)
        return self.from_noise(self._started(n, seed, noise), labels, seed=seed, steps=steps)

    def from_noise(
        self,
        noise: Float[Tensor, "sample ..."],
        condition: Condition,
        *,
        seed: int,
        steps: int | None,
        at_once: int = PORTION,
    ) -> Float[Tensor, "sample ..."]:
        """What is made of noise, some samples at once, on the device of the network; see `sample`."""
        found, where = [], device_of(self.denoiser)
        self.denoiser.eval()
        for number, part in enumerate(noise.split(at_once)):
            mine = None if condition is None else condition[number * at_once :][: len(part)].to(where)
            fresh = torch.Generator().manual_seed(derived_seed(seed, f"fresh noise {number}"))
            found.append(self.run(part.to(where), mine, fresh, steps).float().cpu())
        return torch.cat(found)

    def _started(self, n: int, seed: int, noise: Tensor | None) -> Float[Tensor, "sample ..."]:
        """The noise of so many samples: as given, or the seed's."""
        if noise is None:
            draw = torch.Generator().manual_seed(derived_seed(seed, "samples"))
            return torch.randn(n, *self.shape, generator=draw)
        if tuple(noise.shape) != (n, *self.shape):
            raise InputError(f"noise is {list(noise.shape)}; give {[n, *self.shape]}.")
        if not noise.is_floating_point():
            raise InputError(f"noise is of {noise.dtype}; give numbers of floating point.")
        return noise

    def run(self, noise: Tensor, labels: Tensor | None, draw: torch.Generator, steps: int | None = None) -> Tensor:
        """Samples from noise, as `sample` makes each portion."""
        levels = self.levels(steps).to(noise.device)
        if self.solver == "heun":
            stirred = noise_from(draw, noise) if self.churn.churn else None
            return heun(self.denoiser, noise, levels, labels, churn=self.churn if stirred else None, draw=stirred)
        if self.solver == "euler":
            return euler(self.denoiser, noise, levels, labels, floor=self.floor)
        how: dict[str, Any] = {"floor": self.floor, "clamp": self.clamp}
        return few_step(self.denoiser, noise, levels, labels, draw=noise_from(draw, noise), **how)

    def images(self, n: int | None = None, labels: Tensor | None = None, **how: Any) -> UInt8[Tensor, "sample c h w"]:
        """New images as 8-bit pixels; see `sample`.

        Raises:
            InputError: The samples are no images.
        """
        if not self.pictures:
            raise InputError(f"samples of {self.origin.source} are no images. Use sample.")
        return pixels_of(self.sample(n, labels, **how))

    def _checked(self, labels: Tensor | None, n: int, seed: int) -> Tensor | None:
        if labels is None:
            return self.labels_for(n, seed)
        whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
        if len(labels) != n or labels.ndim != 1 or not whole:
            raise InputError(f"labels are {list(labels.shape)} of {labels.dtype}; give {n} whole numbers.")
        if not self.classes or not ((labels >= 0) & (labels < len(self.classes))).all():
            raise InputError(f"labels must be class numbers below {len(self.classes)}.")
        return labels.long()

    # ------------------------------------------------------------------------------------------------------- its folder

    def save(self, folder: str | Path) -> Self:
        """Write it to a folder and return the saved copy. Each file is written whole or not at all.

        Raises:
            InputError: The folder cannot be written to, or the network is a module of the caller's own.
        """
        folder = Path(folder)
        store.make_folder(folder)
        picture = self.picture()
        if picture is not None:
            store.write_bytes(folder / PREVIEW, picture)
        facts = {
            core.FORM: self.form,
            "network": self.network,
            **self.written(folder),
            "sigma_data": self.denoiser.sigma_data,
            "boundary": self.denoiser.boundary,
            "grid": self.grid.to_json(),
            "steps": self.steps,
            "solver": self.solver,
            "levels": self.levels().tolist(),
            "given": None if self.given is None else list(self.given),
            "floor": self.floor,
            "clamp": self.clamp,
            "churn": self.churn.to_json(),
            "shape": list(self.shape),
            "classes": list(self.classes),
            "class_shares": list(self.class_shares),
            "pictures": self.pictures,
            "origin": dataclasses.asdict(self.origin),
            "scores": self.scores,
        }
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: The folder holds no sampler, or a file is missing, damaged or altered.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "sampler")
        further = cls.further(folder, facts)
        made = cls(
            denoiser=cls.read(folder, facts, further).eval(),
            network=facts["network"],
            grid=Grid.from_json(facts["grid"]),
            steps=int(facts["steps"]),
            solver=facts["solver"],
            shape=tuple(map(int, facts["shape"])),
            classes=tuple(facts["classes"]),
            class_shares=tuple(facts["class_shares"]),
            pictures=bool(facts["pictures"]),
            origin=Origin(**facts["origin"]),
            churn=Churn.from_json(facts["churn"]),
            floor=float(facts["floor"]),
            clamp=bool(facts.get("clamp", False)),
            given=None if facts["given"] is None else tuple(facts["given"]),
            scores=facts["scores"],
            folder=folder,
            **further,
        )
        wrong = made.unsound()
        if wrong:
            raise InputError(f"{folder / core.ARTEFACT} is damaged: its {wrong} cannot be.")
        return made

    def unsound(self) -> str | None:
        """What of it no sampler can have; None of a whole one."""
        if None in (self.grid.sigma_min, self.grid.sigma_max):
            return "grid"
        numbers = (
            *self.levels(),
            *self.class_shares,
            self.denoiser.sigma_data,
            self.denoiser.boundary or 0.0,
            self.floor,
        )
        alike = len(self.class_shares) == len(self.classes) and (
            not self.classes or abs(sum(self.class_shares) - 1) < 1e-3
        )
        held = {
            "shape": bool(self.shape) and min(self.shape) > 0,
            "class_shares": alike and min(self.class_shares, default=0.0) >= 0,
            "solver": self.solver in get_args(Solver),
            "levels": bool((self.levels() > 0).all()),
            "sigma_data": self.denoiser.sigma_data > 0,
            "numbers": all(map(math.isfinite, numbers)),
        }
        return next((name for name, fine in held.items() if not fine), None)

    def written(self, folder: Path) -> dict[str, Any]:
        """Write the network, and return what `artefact.json` says of it.

        Raises:
            InputError: It is a module of the caller's own, which nothing could build again.
        """
        from attar.samplers.export import write_network

        return write_network(folder, self)

    @classmethod
    def read(cls, folder: Path, facts: dict[str, Any], further: dict[str, Any]) -> Denoiser:
        """The inverse of `written`, with what `further` gave."""
        from attar.samplers.export import read_network

        network = read_network(folder, facts, tuple(map(int, facts["shape"])), len(facts["classes"]))
        return Denoiser(network, facts["sigma_data"], facts["boundary"])

    @classmethod
    def further(cls, folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
        """Fields that only this form has, from its folder, before its network is read."""
        return {}

    def student(self, **fields: Any) -> "Sampler":
        """A sampler that was distilled from this one, of the form that its students have."""
        return Sampler(**fields)

    def picture(self) -> builtins.bytes | None:
        """A sheet of samples as PNG; of a saved sampler the one that was drawn when it was made."""
        if self.folder is not None and (self.folder / PREVIEW).is_file():
            return (self.folder / PREVIEW).read_bytes()
        from attar.samplers.pictures import sheet

        return sheet(self)

    def shown(self, images: int = PICTURED) -> core.Shown:
        """The sizes, the levels, and pictures."""
        drawn = self.picture()
        teacher, calls = self.origin.teacher, self.origin.teacher_calls
        return core.Shown(
            size=f"{self.calls} calls of a network",
            count=self.calls,
            bytes=self.bytes,
            share=100 * self.calls / calls if calls else None,
            facts={
                "parameters": f"{self.origin.parameters:,}" + (f", teacher {teacher:,}" if teacher else ""),
                "noise levels": ", ".join(f"{level:.3g}" for level in self.levels().tolist()[:8])
                + (" …" if self.steps > 8 else ""),
                "network": self.network or "a module of the caller's own",
            },
            pictures=(*(() if drawn is None else (core.Picture("", drawn),)), *kept_in(self.folder, TITLES)),
        )

    def card(self, scores: list[Cell]) -> str:
        """The README of the sampler."""
        return card(self, scores)

    def __str__(self) -> str:
        calls = self.origin.teacher_calls
        instead = f" instead of {calls}" if calls else ""
        return (
            f"a sample by {self.calls} call{'s' if self.calls > 1 else ''}{instead} of a network of "
            f"{self.origin.parameters:,} parameters"
        )


class StoredSampler(core.Stored, Sampler):
    """What lies in a folder of this kind."""

    forms = MappingProxyType(
        {
            SAMPLER: "attar.samplers.artefact:Sampler",
            "wrapped": "attar.samplers.foreign:ForeignSampler",
            "pipeline": "attar.samplers.pipeline:PipelineSampler",
        }
    )
    extra = "samplers"


def _tensor(name: str, given: Any) -> Tensor | None:
    """A tensor, or what can be one.

    Raises:
        InputError: It cannot.
    """
    if given is None:
        return None
    try:
        found = torch.as_tensor(given)
    except (RuntimeError, TypeError, ValueError):
        found = torch.empty(())
    if not found.ndim:
        raise InputError(f"{name} is {shown(given)}; give a tensor, a row for each sample.")
    return found


def kept(denoiser: Denoiser) -> Denoiser:
    """A copy of a denoiser on the CPU, which later steps do not change."""
    made = copy.deepcopy(denoiser).cpu().eval().requires_grad_(False)
    made.multiplies = None
    return made
