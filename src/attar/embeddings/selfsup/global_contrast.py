"""The global contrastive loss: each sample against all others of the data set, from batches as small as one likes.

A batch shows a few of a sample's negatives, and the logarithm of their mean is biased. So the loss remembers, for each
sample i, a moving average of that mean over its visits, of which log_s is the logarithm:

    log s_i ← log((1 - γ) s_i + γ mean_j exp(h_ij / τ_i)),    q_ij = exp(h_ij / τ_i) / s_i,

and its gradient is that of mean_j q_ij h_ij with fixed weights q. h_ij is how much nearer i is to the negative j than
to its own other view. With individual temperatures, each τ_i descends the dual of a distributionally robust loss, whose
weights diverge from uniform ones by at most ρ: d/dτ = log s + ρ - mean_j q_ij h_ij / τ_i, which is ρ - KL(q, uniform)
when γ = 1.

SogCLR: Yuan, Wu, Qiu, Du, Zhang, Zhou and Yang, Provable Stochastic Optimization for Global Contrastive Learning: Small
Batch Does Not Harm Performance, ICML 2022, arXiv:2202.12387. iSogCLR: Qiu, Hu, Yuan, Zhou, Zhang and Yang, Not All
Semantics are Created Equal, ICML 2023, arXiv:2305.11965.

The released losses keep s itself, which leaves the range of numbers at small τ; the bimodal ones keep s beside a shift
that cannot fall below 0, and then give no gradient. One logarithm does neither. They know first visits by batch and
epoch; here a sample's first visit is its own.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.precision import without_autocast
from attar.embeddings.checks import check_embeddings, checked_number
from attar.embeddings.gathering import gathered
from attar.embeddings.selfsup.normaliser import (
    LARGEST_STEP,
    count_of,
    falling_rate,
    log_mean_exp,
    log_normaliser,
    moved_temperature,
    temperature_gradient,
    weights,
)


class GlobalContrast(nn.Module):
    """The global contrastive loss (SogCLR), with temperatures of samples (iSogCLR) or one that is learned.

        contrast = GlobalContrast(samples=len(data), temperatures="individual", rho=0.3)
        loss = contrast(first, second, index)  # two views, or images and texts, and the samples' numbers
        loss.backward()

    Only the gradient means something: the value is no objective, is often negative, and need not fall. What is
    remembered lies in buffers, so that a state dict is complete: `log_s`, the log-normalisers, 0 where `seen` is not
    yet set; with individual temperatures `tau` and `u`, the moving average of d/dτ. They have an entry for each sample,
    `[samples]`, or, for image-text pairs, `[2, samples]`: images, then texts. Nothing is remembered in evaluation mode.

    Samples must keep their numbers. A number that occurs twice in a batch is one sample: its views are no negatives of
    one another, and the mean over its occurrences is what is remembered, as the mean over both views is.

    Args:
        samples: n, the number of samples; indices run from 0 to n - 1.
        pairs: Whether the two sides are images and texts. Then the negatives of an image are the texts of the other
            samples, and those of a text their images. Otherwise they are both views of the other samples.
        temperature: τ, or its first value.
        temperatures: "fixed", "individual" for each sample, or "global" for one parameter that is learned.
        gamma: γ, how fast normalisers follow. 1 is the batch alone.
        gamma_schedule: "constant", or "cosine" from 1 down to γ. The latter needs `progress` in every call.
        gamma_decay: Share of the run over which the cosine falls.
        rho: ρ, the bound on the divergence of the negatives' weights from uniform ones. It must be below the logarithm
            of the number of negatives, else τ sticks at its lower end.
        eta: η, the step size of individual temperatures. Keep it small for small τ: 1e-4 at τ = .01.
        beta: β, the share of the new gradient in u.
        temperature_range: Smallest and largest τ.
        largest_step: Share of itself by which an individual τ changes at most in a visit; None for no limit.
        gradient_limit: Largest size of G that enters u (the authors: 3, and 5 for pairs); None for no limit.
        hinge: c, to replace h by max(0, h + c)² (the authors: 0.8). The positive then counts through h alone.
        pos_weight: What the positive counts. "one": exactly 1, as released for two views. "normalised": the sum of the
            negatives' weights, as in the paper and for pairs. None: the usual one.
        normalise: Whether embeddings are divided by their length first.
        gather: Whether the batch is the joined one of all processes (`attar.embeddings.gathering`). Each of them then
            remembers what all have seen, so that one state dict is that of all.
        dtype: Type of what is remembered.
    """

    log_s: Tensor
    seen: Tensor
    tau: Tensor
    u: Tensor

    def __init__(
        self,
        samples: int,
        *,
        pairs: bool = False,
        temperature: float = 0.1,
        temperatures: Literal["fixed", "individual", "global"] = "fixed",
        gamma: float = 0.9,
        gamma_schedule: Literal["constant", "cosine"] = "constant",
        gamma_decay: float = 0.5,
        rho: float = 0.3,
        eta: float = 0.01,
        beta: float = 0.9,
        temperature_range: tuple[float, float] = (0.005, 1.0),
        largest_step: float | None = LARGEST_STEP,
        gradient_limit: float | None = None,
        hinge: float | None = None,
        pos_weight: Literal["one", "normalised"] | None = None,
        normalise: bool = True,
        gather: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        _check(samples, temperature, temperatures, gamma, gamma_schedule, temperature_range, pos_weight)
        _check_numbers(rho, eta, beta, gamma_decay, largest_step, gradient_limit, hinge, dtype)
        self.samples, self.pairs, self.temperatures = samples, pairs, temperatures
        self.gamma, self.gamma_schedule, self.gamma_decay = gamma, gamma_schedule, gamma_decay
        self.rho, self.eta, self.beta, self.temperature_range = rho, eta, beta, temperature_range
        self.largest_step, self.gradient_limit, self.hinge = largest_step, gradient_limit, hinge
        self.pos_weight = "normalised" if hinge is not None else pos_weight or ("normalised" if pairs else "one")
        self.normalise, self.gather = normalise, gather
        each = (2, samples) if pairs else (samples,)
        self.register_buffer("log_s", torch.zeros(each, dtype=dtype))
        self.register_buffer("seen", torch.zeros(each, dtype=torch.bool))
        if temperatures == "individual":
            self.register_buffer("tau", torch.full(each, float(temperature), dtype=dtype))
            self.register_buffer("u", torch.zeros(each, dtype=dtype))
        elif temperatures == "global":
            self.tau = nn.Parameter(torch.tensor(float(temperature), dtype=dtype))
        else:
            self.register_buffer("tau", torch.tensor(float(temperature), dtype=dtype))

    @property
    def mean_temperature(self) -> Tensor:
        """The mean temperature of the samples that were visited; of all while there is none."""
        if self.temperatures != "individual":
            return self.tau.detach()
        seen = self.seen.to(self.tau.dtype)
        return torch.where(seen.any(), (self.tau * seen).sum() / seen.sum().clamp(min=1), self.tau.mean())

    def forward(self, a: Tensor, b: Tensor, index: Tensor, *, progress: float | None = None) -> Tensor:
        """The loss of a batch, in single precision at least.

        Args:
            a: `[sample, d]`, first views, or images.
            b: `[sample, d]`, second views, or texts.
            index: `[sample]`, the number of each sample.
            progress: Share of the run that is done, for a γ that falls.

        Raises:
            InputError: A number is no sample's, the shapes differ, or there are no two different samples.
        """
        index = _checked(a, b, index, self.samples).to(self.log_s.device)
        dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
        with without_autocast(a):
            a, b = (F.normalize(z.to(dtype), dim=1) if self.normalise else z.to(dtype) for z in (a, b))
            if self.gather:
                a, b, index = gathered(a, b, index)
            return self._contrasted(a, b, index, self._gamma(progress))

    def _contrasted(self, a: Tensor, b: Tensor, index: Tensor, gamma: float) -> Tensor:
        same = index[:, None] == index
        if self.pairs:
            near, excluded = torch.stack([a @ b.T, b @ a.T]), same
        else:
            near = torch.stack([a @ torch.cat([b, a]).T, b @ torch.cat([a, b]).T])
            excluded = torch.cat([same, same], dim=1)
        _check_negatives(excluded)
        positive = (a * b).sum(dim=1)
        scores = near if self.pos_weight == "one" else near - positive[:, None]
        if self.hinge is not None:
            scores = (scores + self.hinge).relu().square()
        tau = self._tau(index).to(scores.dtype)
        logits = (scores.detach() / tau[..., None]).masked_fill(excluded, -math.inf)
        now = log_mean_exp(logits)
        before = self.log_s[..., index].masked_fill(~self.seen[..., index], -math.inf)
        log_s = log_normaliser(before.to(now.dtype).expand_as(now), now, gamma)
        each = (weights(logits, log_s) * scores).sum(dim=-1) / count_of(logits)
        if self.pos_weight == "one":
            each = each - positive
        loss = each.mean(dim=1).sum()
        gradient = temperature_gradient(logits, log_s, self.rho)
        if self.training:
            self._remember(index, log_s, gradient)
        if self.temperatures == "global":
            # Adds nothing to the value; its gradient is the mean of G.
            loss = loss + (self.tau - self.tau.detach()).to(loss.dtype) * gradient.mean()
        return loss

    def _gamma(self, progress: float | None) -> float:
        if self.gamma_schedule == "constant":
            return self.gamma
        if progress is None:
            raise InputError("gamma falls along a cosine, so give progress, the share of the run that is done.")
        return falling_rate(self.gamma, progress, self.gamma_decay)

    def _tau(self, index: Tensor) -> Tensor:
        """The temperature of each anchor."""
        if self.temperatures == "individual":
            return self.tau[..., index]
        if self.temperatures == "global":
            with torch.no_grad():
                self.tau.clamp_(*self.temperature_range)
        return self.tau.detach().expand(len(index))

    @torch.no_grad()
    def _remember(self, index: Tensor, log_s: Tensor, gradient: Tensor) -> None:
        """Write back what a visit leaves."""
        same = index[:, None] == index
        times = same.sum(dim=1).to(log_s.dtype).log()
        log_s = log_s[:, None].masked_fill(~same, -math.inf).logsumexp(dim=-1) - times
        gradient = (gradient[:, None] * same).sum(dim=-1) / same.sum(dim=1)
        if not self.pairs:
            log_s = log_s.logsumexp(dim=0) - math.log(2)
            gradient = gradient.mean(dim=0)
        if self.gradient_limit is not None:
            gradient = gradient.clamp(-self.gradient_limit, self.gradient_limit)
        self._write("log_s", index, log_s)
        self.seen[..., index] = self.seen[..., index] | log_s.isfinite()
        if self.temperatures == "individual":
            tau, u = (memory[..., index].to(gradient.dtype) for memory in (self.tau, self.u))
            tau, u = moved_temperature(
                tau,
                u,
                gradient,
                eta=self.eta,
                beta=self.beta,
                between=self.temperature_range,
                largest_step=self.largest_step,
            )
            self._write("tau", index, tau)
            self._write("u", index, u)

    def _write(self, name: str, index: Tensor, value: Tensor) -> None:
        """Set entries. A batch that is not finite leaves no trace, so that its loss can be skipped."""
        memory = getattr(self, name)
        memory[..., index] = torch.where(value.isfinite(), value.to(memory.dtype), memory[..., index])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move the memory, but never to half precision: its small steps would vanish."""

        def moved(tensor: Tensor) -> Tensor:
            found = fn(tensor)
            return tensor.to(found.device) if found.is_floating_point() and found.itemsize < 4 else found

        return super()._apply(moved, recurse)

    def extra_repr(self) -> str:
        """The settings, as `print` shows them."""
        what = "pairs" if self.pairs else "views"
        return f"samples={self.samples}, {what}, temperatures={self.temperatures}, gamma={self.gamma:g}"


# --------------------------------------------------------------------------------------------------------- bad input


def _check(
    samples: int,
    temperature: float,
    temperatures: str,
    gamma: float,
    schedule: str,
    between: tuple[float, float],
    pos_weight: str | None,
) -> None:
    if not isinstance(between, (tuple, list)) or len(between) != 2:
        raise InputError(f"temperature_range is {between}; give two numbers, the smallest and the largest.")
    low, high = between
    if samples < 2:
        raise InputError(f"samples is {samples}; a contrast needs 2 or more.")
    if not 0 < gamma <= 1:
        raise InputError(f"gamma is {gamma:g}; it must be above 0 and at most 1.")
    if not 0 < low <= high < math.inf:
        raise InputError(f"temperature_range is {low:g} to {high:g}; give two positive numbers that rise.")
    if not 0 < temperature < math.inf:
        raise InputError(f"temperature is {temperature:g}; it must be positive.")
    if temperatures != "fixed" and not low <= temperature <= high:
        raise InputError(f"temperature is {temperature:g}, outside of temperature_range, {low:g} to {high:g}.")
    for name, given, known in (
        ("temperatures", temperatures, ("fixed", "individual", "global")),
        ("gamma_schedule", schedule, ("constant", "cosine")),
        ("pos_weight", pos_weight, ("one", "normalised", None)),
    ):
        if given not in known:
            raise InputError(f"{name} is {given!r}; give {' or '.join(str(one) for one in known)}.")


def _check_numbers(
    rho: float,
    eta: float,
    beta: float,
    gamma_decay: float,
    largest_step: float | None,
    gradient_limit: float | None,
    hinge: float | None,
    dtype: torch.dtype,
) -> None:
    shares = {"beta": beta, "gamma_decay": gamma_decay}
    sizes = {"rho": rho, "eta": eta, "largest_step": largest_step, "gradient_limit": gradient_limit, "hinge": hinge}
    for name, value in shares.items():
        checked_number(name, value, most=1.0)
    for name, size in sizes.items():
        if size is not None:
            checked_number(name, size)
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"dtype is {dtype}; what is remembered needs torch.float32 or torch.float64.")


def _checked(a: Tensor, b: Tensor, index: Tensor, samples: int) -> Tensor:
    """The numbers of the samples, as int64.

    Raises:
        InputError: They are no numbers of samples, or the shapes differ.
    """
    check_embeddings(a, "the first side")
    check_embeddings(b, "the second side")
    if a.shape != b.shape:
        raise InputError(f"the sides have shapes {list(a.shape)} and {list(b.shape)}; both must be [sample, d].")
    if not isinstance(index, Tensor):
        raise InputError(f"index is of type {type(index).__name__}; give a tensor of whole numbers.")
    if index.dtype.is_floating_point or index.dtype.is_complex or index.dtype == torch.bool:
        raise InputError(
            f"index is {str(index.dtype).removeprefix('torch.')}; give whole numbers, one for each sample."
        )
    if index.shape != a.shape[:1]:
        raise InputError(f"index has shape {list(index.shape)} for {len(a)} samples; give one number for each.")
    index = index.long()
    for worst in (index.min().item(), index.max().item()) if len(index) else ():
        if not 0 <= worst < samples:
            raise InputError(f"index has {worst}, but there are {samples} samples: numbers from 0 to {samples - 1}.")
    return index


def _check_negatives(excluded: Tensor) -> None:
    if not len(excluded) or bool(excluded.all()):
        raise InputError("all samples of the batch are one and the same, so there are no negatives. Give two or more.")
