"""TVAE: a variational autoencoder of tables; a number is told by a mode of its distribution and a place in that.

Prefer it to a copula if columns depend on one another in more than one direction and there are some thousands of rows;
with fewer rows, or a few epochs, a copula is the better table. It knows nothing of fairness.

Xu, Skoularidou, Cuesta-Infante and Veeramachaneni, Modeling Tabular Data using Conditional GAN, NeurIPS 2019,
arXiv:1907.00503. Written from the formulas. CTGAN, of the same paper, is left out: its code is not under an open
licence. Numbers are standardised before their modes are fitted, so that the scale of a column does not matter. A table
of fewer rows than a batch is one batch. What is drawn stays within the range of the training rows.
"""

import itertools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.engine import Metrics
from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.core.seeds import Generators, seeded
from attar.core.settings import Range
from attar.core.state import rebuilt
from attar.core.store import named, within
from attar.core.training import next_rows
from attar.tables.artefact import Generator
from attar.tables.coding import Entries, TableCode, Values, drawn_choices, gumbel, table_code
from attar.tables.condensation import Trained, kept
from attar.tables.sources import Rows, Schema, TableSource

Latent = Float[Tensor, "row latent"]


@dataclass(frozen=True, kw_only=True)
class TVAE(Trained):
    """A variational autoencoder of rows, whose numbers are told by a mode of their distribution and a place in it.

    Xu, Skoularidou, Cuesta-Infante and Veeramachaneni, NeurIPS 2019, arXiv:1907.00503. Prefer it to a copula if there
    are some thousands of rows and time to train.
    """

    lr: Annotated[float, Range(0)] = 1e-3
    """Step size of Adam."""
    weight_decay: Annotated[float, Range(0)] = 1e-5
    """Weight decay, added to the gradient."""
    latents: Annotated[int, Range(1)] = 128
    """Size of the code of a row, whose prior is a standard normal distribution."""
    width: Annotated[int, Range(1)] = 128
    """Width of the network: units of each hidden layer."""
    depth: Annotated[int, Range(1)] = 2
    """Depth of the network: hidden layers of the encoder, and of the decoder."""
    fit_weight: Annotated[float, Range(0)] = 2.0
    """Weight of the reconstruction. That of the divergence to the prior is 1."""
    modes: Annotated[int, Range(1, 100)] = 10
    """Largest number of modes of a number's distribution."""
    levels: Literal["drawn", "likeliest"] = "drawn"
    """Levels of rows that are made. drawn: by their probabilities, as in the paper. likeliest: the largest ones, as
    released."""

    name = "tvae"

    @classmethod
    def paper(cls, data: str, *, variant: Literal["paper", "released"] = "paper") -> Self:
        """The published settings, which are the same for all data sets.

        Args:
            data: adult, census, covertype, credit, intrusion or news.
            variant: `released` takes the likeliest levels.

        Raises:
            InputError: The table does not have the data set.
        """
        return published(cls, data, variant=variant)

    def build(self, source: TableSource, runtime: Runtime) -> "State":
        """The autoencoder before the first step, and the training rows as a matrix."""
        seed = int(torch.randint(2**31, (), generator=runtime.generator("modes")))
        code = table_code(source.train, lambda values: modes_of(values, self.modes, seed=seed))
        with seeded(runtime.generator("network")):
            network = Autoencoder(code.width, self.latents, (self.width,) * self.depth).to(runtime.device)
        return State(
            network=network,
            optimizer=torch.optim.Adam(network.parameters(), self.lr, weight_decay=self.weight_decay),
            order=torch.arange(len(source.train)),
            code=code,
            entries=code.encode(source.train, runtime.generator("entries")).to(runtime.device),
            source=source,
        )

    def step(self, state: "State", runtime: Runtime) -> Metrics:
        """One batch."""
        rows = next_rows(state.order, state.done, self.batch, runtime.generator("order")).to(runtime.device)
        entries = state.entries[rows]
        mean, log_variance = state.network.encode(entries)
        noise = torch.randn(len(rows), self.latents, generator=runtime.generator("noise")).to(runtime.device)
        decoded = state.network.decoder(mean + (log_variance / 2).exp() * noise)
        fit = reconstruction(decoded, entries, state.network.deviations, state.code.numbers, state.code.choices)
        divergence = to_prior(mean, log_variance)
        loss = self.fit_weight * fit + divergence
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        with torch.no_grad():
            state.network.deviations.clamp_(*DEVIATIONS)
        state.done += 1
        return {"loss": loss.detach(), "reconstruction": fit.detach(), "divergence": divergence.detach()}

    def generator_of(self, state: "State") -> "Decoder":
        """The decoder in its present state."""
        code, network = state.code, kept(state.network)
        return Decoder(code.schema, code, network.decoder, network.deviations, self.levels)

    def learned(self, state: "State") -> Mapping[str, Tensor]:
        """The parameters of the autoencoder."""
        return dict(state.network.named_parameters())


@dataclass
class State:
    """The autoencoder, its optimiser, and the order of the present epoch."""

    network: "Autoencoder"
    optimizer: torch.optim.Optimizer
    order: Tensor
    code: TableCode = rebuilt()
    entries: Entries = rebuilt()
    source: TableSource = rebuilt()
    done: int = 0


# ------------------------------------------------------------------------------------------------------------ the terms


def reconstruction(
    decoded: Entries,
    entries: Entries,
    deviations: Float[Tensor, " entry"],
    numbers: list[int],
    choices: list[slice],
) -> Float[Tensor, ""]:
    """Σ (α - tanh d)² / 2σ² + log σ over numbers, and the cross-entropy of every choice; the mean over rows.

    Args:
        decoded: d, what the decoder says.
        entries: The rows: numbers α, and choices as a one among zeros.
        deviations: σ of each entry; those of choices are not used.
        numbers: Which entries are numbers.
        choices: The entries of each choice.
    """
    spread = deviations[numbers]
    gaps = (entries[:, numbers] - decoded[:, numbers].tanh()) / spread
    loss = (gaps.square() / 2 + spread.log()).sum()
    for place in choices:
        loss = loss - (entries[:, place] * F.log_softmax(decoded[:, place], dim=1)).sum()
    return loss / len(entries)


def to_prior(mean: Latent, log_variance: Latent) -> Float[Tensor, ""]:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ (μ² + σ² - 1 - log σ²), the mean over rows."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2 / len(mean)


# ---------------------------------------------------------------------------------------------------------- the network


DEVIATIONS = (0.01, 1.0)
"""Smallest and largest learned deviation σ of a number."""


class Autoencoder(nn.Module):
    """The encoder's mean and variance of a row's code, and the decoder of codes."""

    def __init__(self, entries: int, latents: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.body = layers(entries, *hidden)
        self.mean = nn.Linear(hidden[-1], latents)
        self.log_variance = nn.Linear(hidden[-1], latents)
        self.decoder = decoder_of(entries, latents, *hidden)
        self.deviations = nn.Parameter(torch.full((entries,), 0.1))

    def encode(self, entries: Entries) -> tuple[Latent, Latent]:
        """Mean and logarithm of the variance."""
        hidden = self.body(entries)
        return self.mean(hidden), self.log_variance(hidden)


def layers(*widths: int) -> nn.Sequential:
    """Linear layers of these widths, each with a ReLU behind it."""
    pairs = [(nn.Linear(one, other), nn.ReLU()) for one, other in itertools.pairwise(widths)]
    return nn.Sequential(*(layer for pair in pairs for layer in pair))


@dataclass(frozen=True)
class Decoder(Generator):
    """A fitted generator: codes drawn from the prior, decoded."""

    schema: Schema
    code: TableCode
    network: nn.Sequential
    deviations: Float[Tensor, " entry"]
    levels: Literal["drawn", "likeliest"]

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Rows:
        """So many rows."""
        generator, first = Generators(seed)("sample"), first_linear(self.network)
        entries: Tensor = self.network(torch.randn(n, first.in_features, generator=generator))
        numbers, spread = self.code.numbers, self.deviations
        noise = torch.randn(n, len(numbers), generator=generator)
        entries[:, numbers] = (entries[:, numbers].tanh() + spread[numbers] * noise).clamp(-1, 1)
        if self.levels == "drawn":
            entries = drawn_choices(entries, self.code.choices, generator)
        return self.code.decode(entries)

    def tensors(self) -> dict[str, Tensor]:
        """The decoder's weights, its deviations, and what became of each column."""
        return {
            **named("network", self.network.state_dict()),
            **named("code", self.code.tensors()),
            "deviations": self.deviations,
        }

    def facts(self) -> dict[str, Any]:
        """The widths of the layers, and how levels are drawn."""
        linear = [one for one in self.network.modules() if isinstance(one, nn.Linear)]
        return {"widths": [one.in_features for one in linear], "levels": self.levels}

    @classmethod
    def restored(cls, schema: Schema, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Self:
        """The inverse of `tensors` and `facts`."""
        code = TableCode.of_tensors(schema, within("code", tensors), Modes.of_tensors)
        network = decoder_of(code.width, *facts["widths"])
        network.load_state_dict(within("network", tensors))
        return cls(schema, code, network, tensors["deviations"], facts["levels"])


def decoder_of(entries: int, *widths: int) -> nn.Sequential:
    """A decoder of codes of the first width, with hidden layers of the others."""
    return nn.Sequential(layers(*widths), nn.Linear(widths[-1], entries))


def first_linear(network: nn.Module) -> nn.Linear:
    """The layer that takes a network's input."""
    return next(one for one in network.modules() if isinstance(one, nn.Linear))


# ---------------------------------------------------------------------------------------------------- modes of a number


@dataclass(frozen=True)
class Modes:
    """A number as the choice of a mode k and its place (x - μₖ) / 4σₖ in it; a missing one is a mode of its own."""

    means: Float[Tensor, " mode"]
    spreads: Float[Tensor, " mode"]
    weights: Float[Tensor, " mode"]
    """0 of the only mode of a column without values."""
    span: Float[Tensor, " 2"]
    """Smallest and largest value of the training rows."""
    missing: bool
    """Whether there is a last mode for missing values."""
    number = True

    @property
    def choices(self) -> int:
        """The number of modes."""
        return len(self.means) + self.missing

    def encode(self, values: Values, generator: torch.Generator) -> Entries:
        """A place, and a one at a mode that is drawn by its probability given the value."""
        gone = values.isnan()
        there = torch.where(gone, self.means[0], values)
        away = (there.unsqueeze(1) - self.means) / self.spreads
        logits = self.weights.log() - self.spreads.log() - away.square() / 2
        mode = (logits + gumbel(logits.shape, generator)).argmax(dim=1)
        place = away.gather(1, mode.unsqueeze(1)) / 4
        mode[gone], place[gone] = self.choices - 1, 0.0
        return torch.cat([place.clamp(-WITHIN, WITHIN), F.one_hot(mode, self.choices).double()], dim=1)

    def decode(self, entries: Entries) -> Values:
        """μₖ + 4σₖ α for the largest mode k, within the range of the training rows."""
        mode = entries[:, 1:].argmax(dim=1)
        gone = (mode == len(self.means)) | (self.weights.sum() == 0)
        mode = mode.clamp(max=len(self.means) - 1)
        values = self.means[mode] + 4 * self.spreads[mode] * entries[:, 0]
        return torch.where(gone, torch.nan, values.clamp(*self.span.tolist()))

    def tensors(self) -> dict[str, Tensor]:
        """The modes, to be saved."""
        modes = {"means": self.means, "spreads": self.spreads, "weights": self.weights}
        return {**modes, "span": self.span, "missing": torch.tensor(self.missing)}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The modes whose `tensors` these are."""
        means, spreads, weights, span = (tensors[name] for name in ("means", "spreads", "weights", "span"))
        return cls(means, spreads, weights, span, bool(tensors["missing"]))


WITHIN = 0.99
"""Largest place in a mode, which tanh can reach."""
RAREST = 0.005
"""Weight below which a mode is left out."""


def modes_of(values: Values, most: int = 10, *, seed: int = 0) -> Modes:
    """The modes of a number, by a variational Gaussian mixture.

    Args:
        values: In which missing ones are NaN.
        most: The largest number of modes.
        seed: Of the mixture's start.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import BayesianGaussianMixture

    there = values[~values.isnan()]
    missing = len(there) < len(values)
    different = there.unique()
    if len(different) < 2:
        only, one = different[:1] if len(different) else torch.zeros(1).double(), torch.ones(1).double()
        return Modes(only, one, one.clone() * len(different), only.expand(2).clone(), missing)
    shift, scale = there.mean(), there.std(correction=0)
    count = min(most, len(different))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture = BayesianGaussianMixture(
            n_components=count,
            weight_concentration_prior_type="dirichlet_process",
            weight_concentration_prior=1e-3,
            random_state=seed,
        ).fit(((there - shift) / scale).unsqueeze(1).numpy())
    weights = torch.from_numpy(mixture.weights_).double()
    kept = weights > RAREST
    means = torch.from_numpy(mixture.means_[:, 0]).double()[kept] * scale + shift
    spreads = torch.from_numpy(mixture.covariances_[:, 0, 0]).double()[kept].sqrt() * scale
    span = torch.stack([there.min(), there.max()])
    return Modes(means, spreads, weights[kept] / weights[kept].sum(), span, missing)
