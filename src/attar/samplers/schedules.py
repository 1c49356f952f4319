"""Noise levels: Karras' grid, variance-preserving schedules, and predictions of noise, velocity or flow as x0.

Notation: x_t = α x0 + σ ε. Variance exploding (EDM): α = 1. Levels descend, from the most noise to the least.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError, unknown
from attar.core.settings import Hidden, Range, Settings, words

Levels = Float[Tensor, " level"]
Prediction = Literal["x0", "epsilon", "v", "flow"]
"""What a network predicts: the clean sample, the noise ε, the velocity v = α ε - σ x0, or the flow ε - x0."""


@dataclass(frozen=True, kw_only=True)
class Grid(Settings):
    """The noise levels of a diffusion model."""

    sigma_min: Annotated[float, Range(0)] | None = None
    """Smallest noise level. Default: 0.01 of points, 0.02 of images up to 16 pixels, 0.002 of larger ones."""
    sigma_max: Annotated[float, Range(0)] | None = None
    """Largest noise level. Default: 5 of points, 20 of images up to 16 pixels, 80 of larger ones."""
    rho: Annotated[float, Range(1, 100)] = 7.0
    """Power ρ of Karras' grid: the larger, the more levels are small."""
    schedule: Literal["karras", "linear", "scaled-linear"] = "karras"
    """Schedule of the noise levels: Karras' grid, or the 1,000 steps of a variance-preserving diffusion whose β
    (linear) or √β (scaled-linear, as in Stable Diffusion) rises linearly, in variance-exploding form."""
    table_by: Annotated[str, Hidden()] = ""
    """The variance-preserving schedule of a teacher from elsewhere, by words; filled in from it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.sigma_min, self.sigma_max
        for name, end in (("sigma_min", low), ("sigma_max", high)):
            if end == 0:
                raise InputError(f"{name} is 0; give 0 < sigma_min < sigma_max.")
        if low is not None and high is not None and not low < high:
            raise InputError(f"sigma_min is {low} and sigma_max {high}; give 0 < sigma_min < sigma_max.")

    def resolve(self, shape: tuple[int, ...]) -> "Grid":
        """The same grid with its ends filled in for samples of a shape.

        Raises:
            InputError: Ends are given of a schedule that has its own.
        """
        side = max(shape[1:], default=0)
        low, high = (0.01, 5.0) if not side else (0.02, 20.0) if side <= SMALL else (0.002, 80.0)
        if self.tabled:
            table = self.table()
            low, high = float(table[0]), float(table[-1])
            for name, end, own in (("sigma_min", self.sigma_min, low), ("sigma_max", self.sigma_max, high)):
                if end is not None and not math.isclose(end, own, rel_tol=1e-4):
                    raise InputError(
                        f"{name} is {end:g}, but the schedule {self.schedule} ends at {own:.6g}. Leave it out."
                    )
            return replace(self, sigma_min=low, sigma_max=high)
        return replace(self, sigma_min=self.sigma_min or low, sigma_max=self.sigma_max or high)

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest level, after `resolve`."""
        assert self.sigma_min is not None and self.sigma_max is not None, "resolve it first"
        return self.sigma_min, self.sigma_max

    def levels(self, count: int) -> Levels:
        """So many levels, from σ_max down: of Karras' grid to σ_min, of a table the steps T - 1 - j (T // count)."""
        if not self.tabled:
            return karras(count, *self.ends, self.rho)
        return few(self.table().flip(0), count)

    def few(self, count: int, fine: int = 1000) -> Levels:
        """The levels of a few-step sampler: T - 1 - j (T // count) of a fine grid, DMD2's 999, 749, 499 and 249."""
        return few(self.levels(min(fine, len(self.table())) if self.tabled else fine), count)

    @property
    def tabled(self) -> bool:
        """Whether the levels are those of a variance-preserving schedule."""
        return self.schedule != "karras" or bool(self.table_by)

    def table(self) -> Levels:
        """The levels of a variance-preserving schedule, ascending."""
        return VP.named(self.table_by or self.schedule).exploding()


def few(levels: Levels, count: int) -> Float[Tensor, " _few"]:
    """So many of many levels, at equal distances from the first on.

    Raises:
        InputError: There are fewer.
    """
    if count > len(levels):
        there = "is" if len(levels) == 1 else "are"
        raise InputError(f"{count} noise levels are asked for, but there {there} {len(levels)}. Give fewer.")
    return levels[torch.arange(count) * (len(levels) // count)]


SMALL = 16
"""Side up to which images count as small."""


def karras(count: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Levels:
    """σ_i = (σ_max^{1/ρ} + i/(n-1) (σ_min^{1/ρ} - σ_max^{1/ρ}))^ρ in float64, descending.

    Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS 2022, arXiv:2206.00364,
    equation 5. A single level is σ_max.

    Args:
        count: n, the number of levels.
        sigma_min: The last level.
        sigma_max: The first level.
        rho: ρ; larger values put more levels near the end.
    """
    steps = torch.arange(count, dtype=torch.float64) / max(count - 1, 1)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (high + steps * (low - high)) ** rho


@dataclass(frozen=True)
class VP:
    """A variance-preserving schedule by ᾱ_t, t = 0 … T-1: α_t = √ᾱ_t, σ_t = √(1 - ᾱ_t)."""

    alphas_cumprod: Float[Tensor, " step"]
    words: str = ""
    """The schedule by words, where `named` knows it."""

    def __post_init__(self) -> None:
        table = self.alphas_cumprod
        if table.ndim != 1 or len(table) < 2 or not ((table > 0) & (table < 1)).all():
            name = f" {self.words}" if self.words else ""
            raise InputError(f"the schedule{name} cannot be: it needs two steps or more, and each β between 0 and 1.")

    @classmethod
    def named(cls, text: str) -> "VP":
        """A schedule by words: linear, scaled-linear or cosine, with options: linear:steps=1000,low=0.0001,high=0.02.

        `zero_snr=1` scales it so that the last step is noise alone (Lin et al., WACV 2024, arXiv:2305.08891), as near
        to that as diffusers goes.

        Raises:
            InputError: There is no such schedule, or an option is unknown or no number.
        """
        name, given = words(text)
        made = {"linear": cls.linear, "scaled-linear": cls.scaled_linear, "cosine": cls.cosine}
        if name not in made:
            raise unknown("schedule", name, made)
        try:
            options: dict[str, Any] = {key: (int if key == "steps" else float)(value) for key, value in given.items()}
        except ValueError:
            raise InputError(f"an option of the schedule {text!r} is no number.") from None
        zero = options.pop("zero_snr", 0)
        if options.get("steps", 2) < 2:
            raise InputError(f"the schedule {text!r} has {options['steps']} steps; give two or more.")
        try:
            found = made[name](**options)
        except TypeError:
            raise InputError(f"the schedule {text!r} has an unknown option; it takes steps, low and high.") from None
        return cls(_to_zero_snr(found.alphas_cumprod) if zero else found.alphas_cumprod, text)

    @classmethod
    def linear(cls, steps: int = 1000, low: float = 1e-4, high: float = 0.02) -> "VP":
        """β rises linearly (Ho, Jain and Abbeel, DDPM, NeurIPS 2020, arXiv:2006.11239)."""
        words = _in_words("linear", {"steps": steps, "low": low, "high": high}, (1000, 1e-4, 0.02))
        return cls((1 - torch.linspace(low, high, steps, dtype=torch.float64)).cumprod(0), words)

    @classmethod
    def scaled_linear(cls, steps: int = 1000, low: float = 8.5e-4, high: float = 0.012) -> "VP":
        """√β rises linearly, as in Stable Diffusion."""
        betas = torch.linspace(low**0.5, high**0.5, steps, dtype=torch.float64).square()
        words = _in_words("scaled-linear", {"steps": steps, "low": low, "high": high}, (1000, 8.5e-4, 0.012))
        return cls((1 - betas).cumprod(0), words)

    @classmethod
    def cosine(cls, steps: int = 1000) -> "VP":
        """ᾱ_t falls as cos² (Nichol and Dhariwal, ICML 2021, arXiv:2102.09672), with β at most 0.999."""
        place = (torch.arange(steps + 1, dtype=torch.float64) / steps + 0.008) / 1.008 * torch.pi / 2
        kept = place.cos().square()
        return cls(
            (kept[1:] / kept[:-1]).clamp(min=1 - 0.999).cumprod(0), _in_words("cosine", {"steps": steps}, (1000,))
        )

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def alpha(self, t: Tensor) -> Tensor:
        """α_t."""
        return self.alphas_cumprod.to(t.device)[t].sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """σ_t."""
        return (1 - self.alphas_cumprod.to(t.device)[t]).sqrt()

    def exploding(self) -> Levels:
        """The level σ_t / α_t of each step in the variance-exploding form, ascending in t."""
        return ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()


def _in_words(name: str, options: dict[str, float], usual: tuple[float, ...]) -> str:
    """A schedule by words; without its options where they are the usual ones."""
    given = ",".join(f"{key}={value!r}" for key, value in options.items())
    return name if tuple(options.values()) == usual else f"{name}:{given}"


def _to_zero_snr(alphas_cumprod: Float[Tensor, " step"]) -> Float[Tensor, " step"]:
    """√ᾱ shifted and scaled so that its last value is 0 and its first stays; the last is then 2⁻²⁴, as in diffusers."""
    root = alphas_cumprod.sqrt()
    found = ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
    found[-1] = 2.0**-24
    return found


def to_x0(output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, prediction: Prediction) -> Tensor:
    """The clean sample that a prediction stands for, in float64.

    Args:
        output: What the network gave for `x`.
        x: Noisy samples α x0 + σ ε.
        alpha: α, of a shape that broadcasts.
        sigma: σ, likewise.
        prediction: What the network predicts.
    """
    output, x, alpha, sigma = output.double(), x.double(), alpha.double(), sigma.double()
    if prediction == "x0":
        return output
    if prediction == "epsilon":
        return (x - sigma * output) / alpha
    if prediction == "v":
        return (alpha * x - sigma * output) / (alpha.square() + sigma.square())
    return (x - sigma * output) / (alpha + sigma)


def from_x0(x0: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, prediction: Prediction) -> Tensor:
    """The inverse of `to_x0`: what a network of that prediction gives where the clean sample is `x0`.

    Args:
        x0: Clean samples.
        x: Noisy samples, αx0 + σε.
        alpha: α, of a shape that broadcasts.
        sigma: σ, of a shape that broadcasts.
        prediction: What the network predicts.
    """
    x0, x, alpha, sigma = x0.double(), x.double(), alpha.double(), sigma.double()
    epsilon = (x - alpha * x0) / sigma
    return {"x0": x0, "epsilon": epsilon, "v": alpha * epsilon - sigma * x0, "flow": epsilon - x0}[prediction]
