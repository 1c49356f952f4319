"""Models from elsewhere as denoisers: networks that predict noise, velocity, flow or x0, with a schedule of their own.

`Wrapped(module, prediction, schedule)` is D(x, σ, condition) in variance-exploding form, whatever the module predicts
and however it is told the time: x is scaled by α, the time is looked up, and the answer is turned into x0 in float64.
Teachers that predict ε, v or flow then give the same student as one that predicts x0.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core import store
from attar.core.artefact import Shown
from attar.core.errors import InputError, unknown
from attar.core.precision import widest
from attar.images.networks.architecture import parameter_count
from attar.samplers.artefact import PICTURED, Origin, Sampler
from attar.samplers.denoisers import Condition, Denoiser, Noisy, broadcast
from attar.samplers.schedules import VP, Grid, Levels, Prediction, to_x0

PREDICTIONS: dict[str, Prediction] = {
    "x0": "x0",
    "sample": "x0",
    "epsilon": "epsilon",
    "v": "v",
    "v_prediction": "v",
    "flow": "flow",
    "flow_prediction": "flow",
}
"""What a network may predict, by attar's names and those of diffusers."""
EDM = "edm"
"""What a network predicts that is preconditioned as in EDM, or in the boundary form of consistency models."""
WRAPPED = "wrapped"
"""The form of a sampler whose network lies in the folders of diffusers."""
LEVELS = 50
"""Noise levels of the sampling of a teacher from elsewhere, where none are given."""
NEAR = 1e-4
"""A time this near to a step of the schedule is that step: levels are kept in float32 too."""
SigmaEach = Float[Tensor, " _batch"]


@runtime_checkable
class Schedule(Protocol):
    """How a model mixes sample and noise, x_t = α x0 + σ_t ε, by the level σ = σ_t / α."""

    @property
    def words(self) -> str:
        """The schedule by words; empty of one that has none."""

    def place(self, sigma: SigmaEach) -> tuple[SigmaEach, SigmaEach, SigmaEach]:
        """α, σ_t, and the time that the network is told, for levels σ in float64."""

    def grid(self) -> Grid:
        """The noise levels for sampling and training."""


@dataclass(frozen=True)
class Steps:
    """A variance-preserving schedule of numbered steps; a level between two steps is a fraction, linear in ln σ."""

    schedule: VP
    whole: bool = False
    """Whether the network takes whole step numbers only; the nearest is told."""

    @property
    def words(self) -> str:
        """The schedule by words, if it has any."""
        return self.schedule.words

    @cached_property
    def _logs(self) -> Levels:
        """The logarithm of σ at every step."""
        return self.schedule.exploding().log()

    def place(self, sigma: SigmaEach) -> tuple[SigmaEach, SigmaEach, SigmaEach]:
        """α = (1 + σ²)^-½, α σ, and the step."""
        table = self._logs.to(sigma.device)
        wanted = sigma.log().clamp(table[0], table[-1])
        below = (torch.searchsorted(table, wanted, right=True) - 1).clamp(0, max(len(table) - 2, 0))
        above = (below + 1).clamp(max=len(table) - 1)
        width = (table[above] - table[below]).clamp(min=torch.finfo(torch.float64).tiny)
        time = below + (wanted - table[below]) / width
        nearest = time.round()
        time = nearest if self.whole else torch.where((time - nearest).abs() < NEAR, nearest, time)
        alpha = (1 + sigma.square()).rsqrt()
        return alpha, sigma * alpha, time

    def grid(self) -> Grid:
        """Its own steps if it has a name, and Karras' grid between its ends otherwise."""
        table = self.schedule.exploding()
        low, high = float(table[0]), float(table[-1])
        if not self.words:
            return Grid(sigma_min=low, sigma_max=high)
        plain = self.words in ("linear", "scaled-linear")
        named: dict[str, Any] = {"schedule": self.words} if plain else {"table_by": self.words}
        return Grid(sigma_min=low, sigma_max=high, **named)


@dataclass(frozen=True)
class Flow:
    """A straight path from sample to noise, x_t = (1 - t) x0 + t ε: t = σ / (1 + σ)."""

    scale: float = 1.0
    """The network is told t times this: 1, or 1,000 in diffusers."""
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    @property
    def words(self) -> str:
        """The path by words."""
        return f"flow:scale={self.scale:g}"

    def place(self, sigma: SigmaEach) -> tuple[SigmaEach, SigmaEach, SigmaEach]:
        """1 / (1 + σ), σ / (1 + σ), and the latter times `scale`."""
        time = sigma / (1 + sigma)
        return 1 / (1 + sigma), time, time * self.scale

    def grid(self) -> Grid:
        """Karras' grid."""
        return Grid(sigma_min=self.sigma_min, sigma_max=self.sigma_max)


@dataclass(frozen=True)
class Exploding:
    """x = x0 + σ ε as in EDM; the network is told σ."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    words: str = "exploding"

    def place(self, sigma: SigmaEach) -> tuple[SigmaEach, SigmaEach, SigmaEach]:
        """1, σ and σ."""
        return torch.ones_like(sigma), sigma, sigma

    def grid(self) -> Grid:
        """Karras' grid."""
        return Grid(sigma_min=self.sigma_min, sigma_max=self.sigma_max)


def schedule_named(given: Any) -> Schedule:
    """A schedule: as given, of a `VP`, or by words.

    Args:
        given: A schedule, a `VP`, or words: flow, exploding, linear, scaled-linear or cosine, with options.

    Raises:
        InputError: There is no such schedule.
    """
    if isinstance(given, VP):
        return Steps(given)
    if not isinstance(given, str):
        return given
    name, _, rest = given.partition(":")
    if name == "exploding":
        return Exploding()
    if name != "flow":
        return Steps(VP.named(given))
    try:
        scale = float(rest.removeprefix("scale=")) if rest else 1.0
        if not 0 < scale < math.inf:
            raise ValueError
        return Flow(scale)
    except ValueError:
        raise InputError(f"the schedule {given!r} is not known; give flow, or flow:scale=1000.") from None


class Wrapped(Denoiser):
    """A model from elsewhere as D(x, σ, condition) → x0.

    Args:
        module: A network called as module(x_t, t, condition), or module(x_t, t) where there is no condition. It gives
            a tensor, or what holds one as `.sample` or first. A function can only teach: it has nothing to learn.
        prediction: What it predicts: x0 (or sample), epsilon, v (or v_prediction), or flow (ε - x0).
        schedule: How it mixes sample and noise: a `VP`, a `Steps`, a `Flow`, an `Exploding`, or words: linear,
            scaled-linear, cosine, flow, exploding.
        sigma_data: Standard deviation of the data; weights and the boundary form of students use it.
        pure: Whether few-step sampling gives it noise alone at first, in place of α σ_1 z, as diffusers does; for
            numbered steps only.

    Raises:
        InputError: The prediction or the schedule is not known.
    """

    def __init__(
        self,
        module: nn.Module | Callable[..., Any],
        prediction: str,
        schedule: Any = "exploding",
        *,
        sigma_data: float = 0.5,
        pure: bool = False,
    ) -> None:
        network = module if isinstance(module, nn.Module) else Function(module)
        super().__init__(network, sigma_data)
        if prediction not in PREDICTIONS:
            raise unknown("prediction", str(prediction), PREDICTIONS)
        self.prediction = PREDICTIONS[prediction]
        self.schedule = schedule_named(schedule)
        self.pure = pure and isinstance(self.schedule, Steps)

    def forward(self, x: Noisy, sigma: Tensor, labels: Condition = None) -> Noisy:
        """The clean samples, in the precision of `x`; the network works in that of its parameters.

        Raises:
            InputError: The network gives another shape.
        """
        levels, scaled, (alpha, spread, time) = self._placed(x, sigma)
        output = self._told(self.network, scaled, time, labels)
        if output.shape != x.shape:
            raise InputError(f"the network gives {list(output.shape)} for samples of {list(x.shape)}.")
        x0 = to_x0(output, scaled, broadcast(alpha, x), broadcast(spread, x), self.prediction)
        return self._formed(x0, x.to(widest(x.device)), levels, time).to(x)

    def encoded(self, x: Noisy, sigma: Tensor, labels: Condition = None) -> Float[Tensor, "batch ..."]:
        """The network's features for noisy samples.

        Raises:
            InputError: The network has no `encoded`.
        """
        if not hasattr(self.network, "encoded"):
            raise InputError(
                f"{type(self.network).__name__} has no encoded(x, t, condition), whose features the discriminator "
                "reads. Add it, or set gan_weight to 0."
            )
        _, scaled, (_, _, time) = self._placed(x, sigma)
        encoded: Any = self.network.encoded
        return self._told(encoded, scaled, time, labels).float()

    def student(self, sigma_min: float) -> Self:
        """A copy in the boundary form, whose parameters learn.

        Raises:
            InputError: It has no parameters.
        """
        made = self.thawed()
        made.boundary = sigma_min
        return made

    def thawed(self) -> Self:
        """A copy of the same form, whose parameters learn.

        Raises:
            InputError: It has no parameters.
        """
        if not any(True for _ in self.network.parameters()):
            raise InputError("the teacher is a function without parameters, from which no student can start.")
        return copy.deepcopy(self).requires_grad_(True)

    def _placed(self, x: Noisy, sigma: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """σ of each sample and α x, in float64, with α, σ_t and the time."""
        levels = sigma.to(x.device, widest(x.device)).expand(len(x))
        place = self.schedule.place(levels)
        return levels, broadcast(place[0], x) * x.to(widest(x.device)), place

    def _formed(self, x0: Tensor, x: Tensor, sigma: Tensor, time: Tensor) -> Tensor:
        """x0, or the boundary form c_skip' x + (1 - σ_min / σ) (x0 - c_skip x), which is x at σ_min.

        c_skip and c_skip' are those of EDM and of the boundary form, whose network is F = (x0 - c_skip x) / c_out.
        """
        if self.boundary is None:
            return x0
        skip = self.sigma_data**2 / (sigma.square() + self.sigma_data**2)
        mine, _, _ = self.scalings(sigma)
        share = 1 - self.boundary / sigma
        return broadcast(mine, x) * x + broadcast(share, x) * (x0 - broadcast(skip, x) * x)

    def _told(self, function: Callable[..., Any], scaled: Tensor, time: Tensor, labels: Condition) -> Tensor:
        parameter = next(iter(self.network.parameters()), None)
        kind = scaled.dtype if parameter is None else parameter.dtype
        given = (scaled.to(kind), time.to(kind))
        with torch.autocast(scaled.device.type, dtype=self.multiplies, enabled=self.multiplies is not None):
            return tensor_of(function(*given) if labels is None else function(*given, labels))


class Function(nn.Module):
    """A function as a module without parameters."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Any) -> Any:
        """What the function gives."""
        return self.function(*given)


def tensor_of(output: Any) -> Tensor:
    """The tensor that a network gave: itself, `.sample`, or the first of several."""
    found = output.sample if hasattr(output, "sample") else output[0] if isinstance(output, (tuple, list)) else output
    if not isinstance(found, Tensor):
        raise InputError(f"the network gives a {type(found).__name__}; it must give a tensor.")
    return found


# ------------------------------------------------------------------------------------------------ networks of diffusers


class ClassUNet(nn.Module):
    """diffusers' `UNet2DModel` as a network of this package: numbers of classes, and features of its bottleneck.

    Args:
        unet: The model.
        classes: Number of classes of the data; a further row of the model's is that of samples without a label.
        times: The model is told so many times the time.
    """

    def __init__(self, unet: Any, classes: int = 0, times: float = 1.0) -> None:
        super().__init__()
        self.unet, self.classes, self.times = unet, classes, times
        self.rows = int(getattr(unet.config, "num_class_embeds", None) or 0)

    def forward(self, x: Tensor, time: Tensor, labels: Condition = None) -> Tensor:
        """Its prediction; a second half of the channels, a learned variance, is left out."""
        told = self.numbers(labels, x)
        found: Tensor = self.unet(x, self.times * time, class_labels=told, return_dict=False)[0]
        return found[:, : x.shape[1]]

    def encoded(self, x: Tensor, time: Tensor, labels: Condition = None) -> Tensor:
        """The features of its bottleneck."""
        told = self.numbers(labels, x)
        return bottleneck(self.unet, lambda: self.unet(x, self.times * time, class_labels=told))

    def numbers(self, labels: Condition, x: Tensor) -> Tensor | None:
        """Class numbers as the model takes them.

        Raises:
            InputError: Samples without a label, where the model has no row for them.
        """
        if not self.rows:
            return None
        given = torch.full((len(x),), -1, device=x.device) if labels is None else labels.expand(len(x))
        if self.rows == self.classes and bool((given < 0).any()):
            raise InputError(
                f"the model has rows for {self.rows} classes and none for samples without a label, which guidance "
                "needs. Set guidance to 1."
            )
        return torch.where(given < 0, self.classes, given)


class _Reached(Exception):  # noqa: N818
    """The forward pass has come as far as it is wanted."""


def bottleneck(network: nn.Module, run: Callable[[], Any]) -> Float[Tensor, "batch ..."]:
    """What the middle block of a U-Net of diffusers gives; the decoder is not run.

    Args:
        network: The U-Net, with or without adapters.
        run: Calls it.

    Raises:
        InputError: It has no middle block.
    """
    middle = next((part for name, part in network.named_modules() if name.rpartition(".")[2] == "mid_block"), None)
    if middle is None:
        raise InputError(f"{type(network).__name__} has no middle block, whose features the discriminator reads.")
    found: list[Tensor] = []

    def stop(module: nn.Module, given: Any, output: Any) -> None:
        found.append(tensor_of(output))
        raise _Reached

    handle = middle.register_forward_hook(stop)
    try:
        run()
    except _Reached:
        pass
    finally:
        handle.remove()
    return found[0]


# --------------------------------------------------------------------------------------------------- samplers from them


@dataclass(frozen=True)
class ForeignSampler(Sampler):
    """A sampler around a model from elsewhere: a teacher, or a student of one."""

    form = WRAPPED

    def student(self, **fields: Any) -> Self:
        """A sampler made from this teacher: the same form, with other fields."""
        fresh: dict[str, Any] = {"scores": {}, "folder": None, "given": None, "floor": 0.0}
        return dataclasses.replace(self, **(fresh | fields))

    def written(self, folder: Path) -> dict[str, Any]:
        """Write the network as diffusers has it, and return what `artefact.json` says of it.

        Raises:
            InputError: It is a module of the caller's own, which nothing could build again.
        """
        network = self.denoiser.network
        if not isinstance(network, ClassUNet):
            raise InputError(
                f"a sampler with a network of one's own ({type(network).__name__}) cannot be saved: only those of "
                "diffusers can be built again. Leave out --out."
            )
        from attar.samplers.folders import write_model

        return {
            WRAPPED: described(self.denoiser),
            "digests": write_model(folder, {"unet": network.unet}, {}),
        }

    def shown(self, images: int = PICTURED) -> Shown:
        """The sizes, the levels, the class of the network, and pictures."""
        found, network = super().shown(images), self.denoiser.network
        name = type(getattr(network, "unet", network)).__name__
        return dataclasses.replace(found, facts={**found.facts, "network": name})

    @classmethod
    def read(cls, folder: Path, facts: dict[str, Any], further: dict[str, Any]) -> Denoiser:
        """The inverse of `written`."""
        from attar.core.artefact import check_files
        from attar.samplers.folders import unet_in

        check_files(folder, facts["digests"], facts["digests"])
        network = ClassUNet(unet_in(folder / "unet"), len(facts["classes"]), facts[WRAPPED].get("times", 1.0))
        if facts[WRAPPED]["prediction"] == EDM:
            return Denoiser(network, facts["sigma_data"], facts["boundary"])
        return rewrapped(network, facts)


def described(denoiser: Denoiser) -> dict[str, Any]:
    """How a model is wrapped, as plain values."""
    if not isinstance(denoiser, Wrapped):
        return {"prediction": EDM, "times": denoiser.network.times}
    schedule = denoiser.schedule
    table = schedule.schedule.alphas_cumprod.tolist() if isinstance(schedule, Steps) and not schedule.words else None
    return {
        "prediction": denoiser.prediction,
        "schedule": schedule.words,
        "alphas_cumprod": table,
        "whole": isinstance(schedule, Steps) and schedule.whole,
        "pure": denoiser.pure,
    }


def rewrapped(network: nn.Module, facts: Mapping[str, Any], kind: type[Wrapped] = Wrapped) -> Wrapped:
    """The inverse of `described`."""
    told = facts[WRAPPED]
    schedule: Any = told["schedule"]
    if told["alphas_cumprod"] is not None:
        schedule = VP(torch.tensor(told["alphas_cumprod"], dtype=torch.float64))
    schedule = schedule_named(schedule)
    if told["whole"]:
        schedule = dataclasses.replace(schedule, whole=True)
    made = kind(network, told["prediction"], schedule, sigma_data=facts["sigma_data"], pure=told["pure"])
    made.boundary = facts["boundary"]
    return made


def sampler_of(denoiser: Denoiser, source: Any, runtime: Any, *, name: str = "elsewhere") -> Sampler:
    """A teacher around a denoiser from elsewhere, for samples of a source.

    Args:
        denoiser: A `Wrapped`, or a `Denoiser` of the caller's own.
        source: Samples of the shape and the classes that it makes.
        runtime: The machine.
        name: Where it came from.
    """
    grid = denoiser.schedule.grid() if isinstance(denoiser, Wrapped) else Grid().resolve(source.shape)
    return ForeignSampler(
        denoiser=denoiser,
        network=None,
        grid=grid,
        steps=LEVELS,
        solver="heun",
        shape=source.shape,
        classes=source.classes,
        class_shares=source.class_shares,
        pictures=source.pictures,
        origin=origin_of(denoiser, name, runtime),
    )


def origin_of(denoiser: Denoiser, name: str, runtime: Any) -> Origin:
    """The origin of a model from elsewhere."""
    return Origin(
        source=name,
        fingerprint=store.digest_of(dict(denoiser.state_dict()), None),
        method="elsewhere",
        settings={},
        seed=0,
        machine=runtime.describe(),
        parameters=parameter_count(denoiser),
    )
