"""A tracker whose mixture grows at every step and has to be reduced: what a reducer is worth downstream.

One target flies in the plane, quietly or in a turn of speed, and is seen among false alarms or not at all. Prediction
multiplies the components by the kinds of motion, data association by the measurements that each could have caused, and
a reducer brings them back. State: position and velocity in two dimensions, in metres and metres per second.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from attar.mixtures.distances import distance
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.reduction import Reducer

Step = Float[Tensor, "step 4"]
Measurements = Float[Tensor, "_ 2"]

REAL = torch.float64


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A target and a sensor."""

    steps: int = 30
    """Steps of a flight."""
    interval: float = 1.0
    """Seconds between them."""
    accelerations: tuple[float, ...] = (0.5, 6.0)
    """Standard deviations of the random acceleration in each kind of motion, in m/s²."""
    odds: tuple[float, ...] = (0.9, 0.1)
    """Their probabilities, drawn anew at each step."""
    noise: float = 3.0
    """Standard deviation of a measured coordinate, in metres."""
    detection: float = 0.8
    """Probability that the target is seen."""
    clutter: float = 1e-3
    """False alarms per square metre."""
    side: float = 200.0
    """Side of the square around the target in which false alarms are drawn, in metres."""
    forget: float = 1e-5
    """Weight below which a hypothesis is dropped before reduction, by whatever method."""
    lost: float = 30.0
    """Distance in metres from which on the last estimates count as of something else."""

    @property
    def motion(self) -> Float[Tensor, "4 4"]:
        """F: positions move on by velocity."""
        motion = torch.eye(4, dtype=REAL)
        motion[0, 2] = motion[1, 3] = self.interval
        return motion

    @property
    def push(self) -> Float[Tensor, "4 2"]:
        """G: what an acceleration, constant for one interval, does."""
        t = self.interval
        return torch.tensor([[t * t / 2, 0], [0, t * t / 2], [t, 0], [0, t]], dtype=REAL)


@dataclass(frozen=True)
class Flight:
    """What happened, and what was seen of it."""

    truth: Step
    seen: tuple[Measurements, ...]
    """Measurements of each step, the target's (if any) among false alarms."""


@dataclass(frozen=True)
class Track:
    """What a tracker made of a flight."""

    estimates: Step
    """Means of the reduced mixtures."""
    errors: Float[Tensor, " step"]
    """Distance of estimated from true positions, in metres."""
    lost: bool
    """Whether it was somewhere else at the end."""
    grown: Float[Tensor, " step"]
    """Components before each reduction."""
    angles: Float[Tensor, " step"]
    """Angle between the mixtures before and after each reduction."""
    seconds: Float[Tensor, " step"]
    """Wall time of each reduction."""

    @property
    def root_mean_square(self) -> float:
        """Root of the mean squared error of position, in metres."""
        return float(self.errors.square().mean().sqrt())


def fly(scenario: Scenario, generator: torch.Generator) -> Flight:
    """Draw a flight and its measurements."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=REAL, generator=generator)

    state = torch.cat([50 * draw(2), 5 * draw(2)])
    truth, seen = [], []
    for _ in range(scenario.steps):
        kind = int(torch.multinomial(torch.tensor(scenario.odds), 1, generator=generator))
        state = scenario.motion @ state + scenario.push @ (scenario.accelerations[kind] * draw(2))
        truth.append(state)
        alarms = int(torch.poisson(torch.tensor(scenario.clutter * scenario.side**2), generator=generator))
        found = state[:2] + scenario.side * (torch.rand(alarms, 2, dtype=REAL, generator=generator) - 0.5)
        if torch.rand((), generator=generator) < scenario.detection:
            found = torch.cat([found, (state[:2] + scenario.noise * draw(2))[None]])
        seen.append(found)
    return Flight(torch.stack(truth), tuple(seen))


def track(scenario: Scenario, flight: Flight, reducer: Reducer) -> Track:
    """Follow a target, beginning near its first true state.

    Args:
        scenario: The target and the sensor.
        flight: What is seen.
        reducer: Applied after every step that leaves more components than it allows.
    """
    spread = torch.tensor([10.0, 10.0, 5.0, 5.0], dtype=REAL).square()
    f = GaussianMixture(torch.ones(1, dtype=REAL), flight.truth[:1], torch.diag(spread)[None])
    estimates, rows = [], []
    for number, seen in enumerate(flight.seen):
        grown = associate(predict(f, scenario) if number else f, seen, scenario)
        seconds, angle, f = 0.0, 0.0, grown
        if grown.n_components > reducer.n_components:
            found = reducer.reduce(grown, seed=number)
            f, seconds, angle = found.mixture, found.seconds, float(distance(grown, found.mixture))
        estimates.append(f.mean())
        rows.append([float(grown.n_components), angle, seconds])
    means = torch.stack(estimates)
    errors = (means[:, :2] - flight.truth[:, :2]).norm(dim=1)
    grown_to, angles, seconds_each = torch.tensor(rows, dtype=REAL).unbind(1)
    return Track(means, errors, bool(errors[-3:].mean() > scenario.lost), grown_to, angles, seconds_each)


def predict(f: GaussianMixture, scenario: Scenario) -> GaussianMixture:
    """Σ_i Σ_k w_i p_k N(F μ_i, F S_i Fᵀ + σ_k² G Gᵀ): every component moves in every way."""
    odds, sizes = (torch.tensor(values, dtype=REAL) for values in (scenario.odds, scenario.accelerations))
    noise = sizes.square()[:, None, None] * (scenario.push @ scenario.push.T)
    full, motion, kinds = f.full(), scenario.motion, len(odds)
    moved = motion @ full.covariances @ motion.T
    covariances = moved[:, None] + noise
    means = (full.means @ motion.T)[:, None].expand(-1, kinds, -1)
    weights = full.weights[:, None] * odds
    return GaussianMixture(weights.flatten(), means.flatten(0, 1), covariances.flatten(0, 1), check=False)


def associate(f: GaussianMixture, seen: Measurements, scenario: Scenario) -> GaussianMixture:
    """Every component unseen, with weight w_i (1 - P_D), or as the cause of z: w_i P_D N(z; Hμ_i, HS_iHᵀ + R) / λ."""
    full = f.full()
    innovation = full.covariances[:, :2, :2] + scenario.noise**2 * torch.eye(2, dtype=REAL)
    gain = torch.linalg.solve(innovation, full.covariances[:, :2, :]).mT  # S Hᵀ (H S Hᵀ + R)⁻¹
    away = seen - full.means[:, None, :2]
    normal = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=REAL), innovation[:, None])
    likely = normal.log_prob(away).exp() * scenario.detection / scenario.clutter
    updated = full.means[:, None] + torch.einsum("cde,cme->cmd", gain, away)
    sharper = full.covariances - gain @ full.covariances[:, :2, :]
    sharper = ((sharper + sharper.mT) / 2)[:, None].expand(-1, len(seen), -1, -1)
    weights = full.weights[:, None] * torch.cat([torch.full((len(likely), 1), 1 - scenario.detection), likely], 1)
    means = torch.cat([full.means[:, None], updated], 1).flatten(0, 1)
    covariances = torch.cat([full.covariances[:, None], sharper], 1).flatten(0, 1)
    shares = (weights / weights.sum()).flatten()
    kept = shares > scenario.forget
    shares = shares[kept] / shares[kept].sum()
    return GaussianMixture(shares, means[kept], covariances[kept], check=False)
