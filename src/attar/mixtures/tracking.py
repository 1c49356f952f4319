"""A tracker whose mixture grows at every step and has to be reduced; it tests what a reducer is worth in use.

One target flies in the plane. It moves steadily or accelerates strongly, and is detected among false alarms or not at
all. Prediction multiplies the number of components by the number of kinds of motion. Data association multiplies it by
the number of measurements plus one. A reducer then lowers it again. The state is position and velocity in two
dimensions, in metres and metres per second.
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
    """Parameters of a target and a sensor."""

    steps: int = 30
    """Number of steps of a flight."""
    interval: float = 1.0
    """Time between two steps, in seconds."""
    accelerations: tuple[float, ...] = (0.5, 6.0)
    """Standard deviations of the random acceleration in each kind of motion, in m/s²."""
    odds: tuple[float, ...] = (0.9, 0.1)
    """Probability of each kind of motion. The kind is drawn again at each step."""
    noise: float = 3.0
    """Standard deviation of a measured coordinate, in metres."""
    detection: float = 0.8
    """Probability that the target is detected."""
    clutter: float = 1e-3
    """Mean number of false alarms per square metre."""
    side: float = 200.0
    """Side of the square around the target in which false alarms are drawn, in metres."""
    forget: float = 1e-5
    """Weight at or below which a hypothesis is removed before the reduction, with every method."""
    lost: float = 30.0
    """Mean error of the last three estimates, in metres, above which the target counts as lost."""

    @property
    def motion(self) -> Float[Tensor, "4 4"]:
        """The matrix F of motion: the velocity changes the position."""
        motion = torch.eye(4, dtype=REAL)
        motion[0, 2] = motion[1, 3] = self.interval
        return motion

    @property
    def push(self) -> Float[Tensor, "4 2"]:
        """The matrix G: the effect of an acceleration that is constant for one interval."""
        t = self.interval
        return torch.tensor([[t * t / 2, 0], [0, t * t / 2], [t, 0], [0, t]], dtype=REAL)


@dataclass(frozen=True)
class Flight:
    """The true states of a target, and the measurements."""

    truth: Step
    seen: tuple[Measurements, ...]
    """Measurements of each step: false alarms, and the target if it was detected."""


@dataclass(frozen=True)
class Track:
    """The result of tracking a flight."""

    estimates: Step
    """Means of the reduced mixtures."""
    errors: Float[Tensor, " step"]
    """Distance of estimated from true positions, in metres."""
    lost: bool
    """Whether the tracker had lost the target at the end."""
    grown: Float[Tensor, " step"]
    """Number of components before each reduction."""
    angles: Float[Tensor, " step"]
    """Angle between the mixtures before and after each reduction."""
    seconds: Float[Tensor, " step"]
    """Wall time of each reduction."""

    @property
    def root_mean_square(self) -> float:
        """The root mean squared error of position, in metres."""
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
    """Track a target, beginning near its first true state.

    Args:
        scenario: The parameters of the target and the sensor.
        flight: The flight and its measurements.
        reducer: Reducer that is applied after every step with more components than it should leave.
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
    """The prediction Σ_i Σ_k w_i p_k N(F μ_i, F S_i Fᵀ + σ_k² G Gᵀ): every component moves in every kind of motion."""
    odds, sizes = (torch.tensor(values, dtype=REAL) for values in (scenario.odds, scenario.accelerations))
    noise = sizes.square()[:, None, None] * (scenario.push @ scenario.push.T)
    full, motion, kinds = f.full(), scenario.motion, len(odds)
    moved = motion @ full.covariances @ motion.T
    covariances = moved[:, None] + noise
    means = (full.means @ motion.T)[:, None].expand(-1, kinds, -1)
    weights = full.weights[:, None] * odds
    return GaussianMixture(weights.flatten(), means.flatten(0, 1), covariances.flatten(0, 1), check=False)


def associate(f: GaussianMixture, seen: Measurements, scenario: Scenario) -> GaussianMixture:
    """The mixture after measurements.

    Each component occurs undetected, with weight w_i (1 - P_D), and as the cause of each measurement z, with weight
    w_i P_D N(z; Hμ_i, HS_iHᵀ + R) / λ.
    """
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
