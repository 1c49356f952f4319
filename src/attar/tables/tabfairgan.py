"""TabFairGAN: a Wasserstein GAN of tables whose last epochs raise the rate of good outcomes of the worse-off group.

Prefer it among rivals if demographic parity of the labels is what is asked for, and group and label have two levels
each. The term has a sign: nothing stops it at equal rates, so a long second phase favours the other group. A GAN of a
few epochs is no baseline; look at the marginals first.

Rajabi and Garibay, TabFairGAN: Fair Tabular Data Generation with Generative Adversarial Networks, Machine Learning and
Knowledge Extraction, 2022, arXiv:2109.00666. The released code differs in three ways, each a setting here. It divides
both rates by the batch size as well, so that the weight in effect is λ / batch. Its critic has no scalar output; the
mean of its features is the critic. It mixes real and generated rows entry by entry for the gradient penalty. It also
drops the last rows of an epoch, so that a table of fewer rows than a batch is never learned from; here that is one
batch. As in that code, the real rows of a step serve all its updates of the critic, and the fair epochs are the last.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.engine import Metrics
from attar.core.errors import InputError, unknown
from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.core.seeds import Generators, seeded
from attar.core.settings import Range
from attar.core.state import rebuilt
from attar.core.store import named, within
from attar.core.training import next_rows
from attar.tables.artefact import Generator
from attar.tables.coding import Entries, Quantiles, TableCode, gumbel, quantiles_of, table_code
from attar.tables.condensation import Trained, kept
from attar.tables.sources import Rows, Schema, TableSource

BETAS = (0.5, 0.999)
"""β₁ and β₂ of Adam, for all networks."""


@dataclass(frozen=True, kw_only=True)
class TabFairGAN(Trained):
    """A Wasserstein GAN of rows, whose last epochs raise the rate of good outcomes of the worse-off group.

    Rajabi and Garibay, MAKE 2022, arXiv:2109.00666. Group and label have two
    levels each. Nothing stops the rates at equality, so look at the other group's too.
    """

    batch: Annotated[int, Range(1)] = 256
    epochs: Annotated[int, Range(1)] = 200
    """Passes over the training data. The fair ones are the last of them."""
    fair_epochs: Annotated[int, Range(0)] = 50
    """Number of epochs, at the end, in which the generator is trained to be fair too. 0 for a plain GAN."""
    fair_weight: Annotated[float, Range(0)] = 0.5
    """Weight λ of the difference of the two groups' rates."""
    lr: Annotated[float, Range(0)] = 2e-4
    """Step size of Adam, for the generator and the critic."""
    fair_lr: Annotated[float, Range(0)] = 1e-4
    """Step size of Adam for the generator in the fair epochs."""
    critic_steps: Annotated[int, Range(1)] = 4
    """Updates of the critic before each of the generator."""
    gradient_penalty: Annotated[float, Range(0)] = 10.0
    """Weight of the gradient penalty."""
    gumbel_temperature: Annotated[float, Range(0.01)] = 0.2
    """Temperature τ of the relaxed levels that the generator makes."""
    quantiles: Annotated[int, Range(2)] = 2000
    """Number of quantiles by which numbers become uniform."""
    unprivileged: str | None = None
    """The group whose rate of good outcomes is raised. Default: that with the lower rate in the training rows."""
    fair_term: Literal["rates", "released"] = "rates"
    """Form of the difference. rates: of the two rates. released: the code's, which is divided by the batch size too."""
    critic_output: Literal["scalar", "features"] = "scalar"
    """Output of the critic. scalar: one number. features: the mean of its last hidden layer, as released."""
    mixing: Literal["rows", "entries"] = "rows"
    """Mixture of real and generated rows for the gradient penalty, by one share for each row, or for each entry."""

    name = "tabfairgan"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fair_epochs > self.epochs:
            raise InputError(f"fair_epochs is {self.fair_epochs}; it must be at most epochs, {self.epochs}.")

    @classmethod
    def paper(cls, data: str, *, variant: Literal["paper", "released"] = "paper") -> Self:
        """The settings of one of the released runs.

        Args:
            data: adult, bank, compas or law.
            variant: `paper` has the formulas of the paper, `released` those of the code.

        Raises:
            InputError: There is no run of the data set.
        """
        return published(cls, data, variant=variant)

    def resolve(self, source: TableSource, runtime: Runtime) -> Self:
        """The same settings with the numbers of rows filled in.

        Raises:
            InputError: There are more than two groups, or the group that is named is none.
        """
        groups = source.schema.groups
        if len(groups) != 2:
            what = f"{source.schema.sensitive.name} of {source.name} has {len(groups)}"
            raise InputError(f"tabfairgan needs two groups, but {what}. Join groups, or take another method.")
        if self.unprivileged is not None and self.unprivileged not in groups:
            raise unknown(f"group of {source.schema.sensitive.name}", self.unprivileged, groups)
        return super().resolve(source, runtime)

    def build(self, source: TableSource, runtime: Runtime) -> "State":
        """Both networks before the first step, and the training rows as a matrix."""
        code = table_code(source.train, lambda values: quantiles_of(values, self.quantiles))
        with seeded(runtime.generator("network")):
            maker = Maker(code, self.gumbel_temperature).to(runtime.device)
            critic = Critic(code.width, scalar=self.critic_output == "scalar").to(runtime.device)
        return State(
            maker=maker,
            critic=critic,
            optimizer=torch.optim.Adam(maker.parameters(), self.lr, betas=BETAS),
            fair_optimizer=torch.optim.Adam(maker.parameters(), self.fair_lr, betas=BETAS),
            critic_optimizer=torch.optim.Adam(critic.parameters(), self.lr, betas=BETAS),
            order=torch.arange(len(source.train)),
            code=code,
            entries=code.encode(source.train, runtime.generator("entries")).to(runtime.device),
            where=self.places(source, code),
            source=source,
        )

    def places(self, source: TableSource, code: TableCode) -> tuple[int, int, int]:
        """The entries of a good outcome, of the unprivileged group and of the other one.

        Raises:
            InputError: The training rows lack one of them.
        """
        rows, schema = source.train, source.schema
        label, sensitive = schema.label, schema.sensitive
        good = code.entry_of(label, label.levels.index(schema.positive))
        groups = [code.entry_of(sensitive, group) for group in (0, 1)]
        first, second = groups
        if good is None or first is None or second is None:
            missing = schema.positive if good is None else schema.groups[groups.index(None)]
            raise InputError(f"tabfairgan needs both groups and both outcomes, but no training row has {missing!r}.")
        if self.unprivileged is not None:
            worse = schema.groups.index(self.unprivileged)
        else:
            rates = [float(rows.labels[rows.groups == group].double().mean()) for group in (0, 1)]
            worse = rates.index(min(rates))
        return (good, second, first) if worse else (good, first, second)

    def step(self, state: "State", runtime: Runtime) -> Metrics:
        """Some updates of the critic on one batch, then one of the generator."""
        fair = state.done >= (self.epochs - self.fair_epochs) * self.steps_per_epoch
        rows = next_rows(state.order, state.done, self.batch, runtime.generator("order")).to(runtime.device)
        real = state.entries[rows]
        for _ in range(self.critic_steps):
            critic_loss = self.critic_update(state, real, runtime)
        made = state.maker(*state.maker.noise(len(rows), runtime.generator("noise"), runtime.device))
        good, unprivileged, privileged = (made[:, place] for place in state.where)
        gap = rate_gap(good, unprivileged, privileged, divided=self.fair_term == "released")
        loss = -state.critic(made).mean() - (self.fair_weight * gap if fair else 0.0)
        optimizer = state.fair_optimizer if fair else state.optimizer
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        state.done += 1
        return {"loss": loss.detach(), "critic_loss": critic_loss, "rate_gap": gap.detach()}

    def critic_update(self, state: "State", real: Entries, runtime: Runtime) -> Tensor:
        """One update of the critic; its loss."""
        generator = runtime.generator("noise")
        with torch.no_grad():
            made = state.maker(*state.maker.noise(len(real), generator, runtime.device))
        shares = torch.rand(len(real), 1 if self.mixing == "rows" else real.shape[1], generator=generator)
        penalty = gradient_penalty(state.critic, real, made, shares.to(real))
        loss = state.critic(made).mean() - state.critic(real).mean() + self.gradient_penalty * penalty
        state.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.critic_optimizer.step()
        return loss.detach()

    def generator_of(self, state: "State") -> "FittedMaker":
        """The generator in its present state."""
        return FittedMaker(state.code.schema, state.code, kept(state.maker))

    def learned(self, state: "State") -> Mapping[str, Tensor]:
        """The parameters of both networks."""
        networks = {"generator": state.maker, "critic": state.critic}
        return {f"{of}.{name}": one for of, network in networks.items() for name, one in network.named_parameters()}


@dataclass
class State:
    """Both networks, their optimisers, and the order of the present epoch."""

    maker: "Maker"
    critic: "Critic"
    optimizer: torch.optim.Optimizer
    fair_optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer
    order: Tensor
    code: TableCode = rebuilt()
    entries: Entries = rebuilt()
    where: tuple[int, int, int] = rebuilt()
    source: TableSource = rebuilt()
    done: int = 0


# ------------------------------------------------------------------------------------------------------------ the terms


def rate_gap(
    good: Float[Tensor, " row"],
    unprivileged: Float[Tensor, " row"],
    privileged: Float[Tensor, " row"],
    *,
    divided: bool = False,
) -> Float[Tensor, ""]:
    """Σ y u / Σ u - Σ y p / Σ p, the difference of the two groups' rates of good outcomes.

    Args:
        good: y, how far each row has a good outcome, from 0 to 1.
        unprivileged: u, how far it is of the one group.
        privileged: p, how far it is of the other.
        divided: Whether it is divided by the number of rows too, as in the released code.
    """
    least = torch.finfo(good.dtype).tiny  # a batch may have no row of a group
    one, other = ((good * group).sum() / group.sum().clamp(min=least) for group in (unprivileged, privileged))
    return (one - other) / len(good) if divided else one - other


def gradient_penalty(
    critic: nn.Module, real: Entries, made: Entries, shares: Float[Tensor, "... #entry"]
) -> Float[Tensor, ""]:
    """Mean of (‖∇ critic‖ - 1)² at mixtures of real and generated rows; of several outputs the sum is differentiated.

    Gulrajani, Ahmed, Arjovsky, Dumoulin and Courville, Improved Training of Wasserstein GANs, NeurIPS 2017.
    """
    mixed = (shares * real + (1 - shares) * made).requires_grad_()
    (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    return (slope.norm(dim=1) - 1).square().mean()


# --------------------------------------------------------------------------------------------------------- the networks


class Maker(nn.Module):
    """Noise as wide as a row, a hidden layer as wide, and a layer of numbers (ReLU) and relaxed choices."""

    def __init__(self, code: TableCode, temperature: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(code.width, code.width)
        self.heads = nn.Linear(code.width, code.width)
        self.numbers, self.choices, self.temperature = code.numbers, code.choices, temperature

    def noise(self, count: int, generator: torch.Generator, device: torch.device) -> tuple[Entries, Entries]:
        """Input noise, and the Gumbel noise of choices, for so many rows."""
        width = self.hidden.in_features
        inputs = torch.randn(count, width, generator=generator)
        return inputs.to(device), gumbel(torch.Size((count, width)), generator).to(device)

    def forward(self, inputs: Entries, noise: Entries) -> Entries:
        """Rows: numbers of at least 0, and choices that sum to 1."""
        heads = self.heads(F.relu(self.hidden(inputs)))
        made = torch.zeros_like(heads)
        made[:, self.numbers] = F.relu(heads[:, self.numbers])
        for place in self.choices:
            made[:, place] = ((heads[:, place] + noise[:, place]) / self.temperature).softmax(dim=1)
        return made


class Critic(nn.Module):
    """Two layers as wide as a row, with leaky ReLUs, and a scalar output or none."""

    def __init__(self, width: int, *, scalar: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, width), nn.LeakyReLU())
        self.output = nn.Linear(width, 1) if scalar else nn.Identity()

    def forward(self, rows: Entries) -> Float[Tensor, "row output"]:
        """How real each row looks."""
        found: Tensor = self.output(self.body(rows))
        return found


@dataclass(frozen=True)
class FittedMaker(Generator):
    """A fitted generator of rows."""

    schema: Schema
    code: TableCode
    network: Maker

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Rows:
        """So many rows. The largest of relaxed levels is one that is drawn by its probability."""
        noise = self.network.noise(n, Generators(seed)("sample"), torch.device("cpu"))
        made: Tensor = self.network(*noise)
        return self.code.decode(made)

    def tensors(self) -> dict[str, Tensor]:
        """The weights, and what became of each column."""
        return {**named("network", self.network.state_dict()), **named("code", self.code.tensors())}

    def facts(self) -> dict[str, Any]:
        """The temperature of relaxed levels."""
        return {"temperature": self.network.temperature}

    @classmethod
    def restored(cls, schema: Schema, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Self:
        """The inverse of `tensors` and `facts`."""
        code = TableCode.of_tensors(schema, within("code", tensors), Quantiles.of_tensors)
        network = Maker(code, facts["temperature"])
        network.load_state_dict(within("network", tensors))
        return cls(schema, code, network)
