"""The training loop of all encoders: batches of views, a method's terms, one optimiser, and a linear classifier on top.

A method defines the heads that are trained with the encoder, what is remembered of samples, and the terms of its loss.
Everything else is here, once: the order of an epoch, schedules, averages of the weights, and checkpoints.
"""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from attar.core.artefact import Origin
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.seeds import seeded
from attar.core.sending import sent
from attar.core.settings import Hidden, Range, Role, Settings
from attar.core.state import rebuilt
from attar.core.training import set_lr
from attar.embeddings.artefact import TrainedEncoder
from attar.embeddings.averages import follow_, ramped
from attar.embeddings.encoders import Encoder, Features, encoder_named, features_of
from attar.embeddings.linear import LINEAR, Linear, LinearClassifier, classification_loss
from attar.embeddings.optim import optimizer_of, share_of
from attar.embeddings.sources import Inputs, Labels, Rows, Source, epoch_rows
from attar.embeddings.views import Views, drawn_view
from attar.images import layout

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class About:
    """What heads and memories need to know of the data."""

    classes: int
    samples: int
    """Number of training samples, held-out ones included: rows run up to it."""
    shape: tuple[int, ...]
    captions: tuple[str, ...] = ()
    """Captions of the training samples."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Facts of the heads that are built again for weights of a file, by name (see `facts_of`)."""


@dataclass
class Batch:
    """The samples of one step."""

    rows: Rows
    """Numbers of the training samples."""
    views: list[Inputs]
    """Each view of all samples."""
    labels: Labels | None
    epoch: int
    progress: float
    """Share of the run that is done before this step."""
    captions: tuple[str, ...] = ()
    """The caption of each sample, of image-text pairs."""


@dataclass
class Learning:
    """An encoder in training, with all that is trained and remembered beside it."""

    encoder: Encoder
    heads: nn.ModuleDict
    """Modules that are trained with the encoder."""
    slow: nn.ModuleDict
    """Modules that follow others by a moving average, without a gradient."""
    memory: nn.ModuleDict
    """Modules of buffers: queues, and what is remembered of each sample."""
    average: nn.ModuleDict
    """Moving averages of encoder and heads, if the method keeps them."""
    optimizer: torch.optim.Optimizer = None  # type: ignore[assignment]  # `build` needs the other fields to make it
    linear_optimizer: torch.optim.Optimizer | None = None
    done: int = 0
    source: Source = rebuilt(default=None)
    learn: Rows = rebuilt(default=None)
    """The training rows to learn from; the others are held out."""
    held: Rows = rebuilt(default=None)
    order: Rows = rebuilt(default=None)
    order_of: int = rebuilt(default=-1)
    """The epoch of that order."""
    frozen: Features | None = rebuilt(default=None)
    """Features of the frozen encoder, in the stage of the linear classifier."""
    watched: dict[str, float] = rebuilt(default_factory=dict)
    """The last score on the held-out samples."""
    handed: dict[str, Tensor] = rebuilt(default_factory=dict)
    """What `terms` hands to `settle` and `curves` of the same step, such as keys for a queue."""

    def learned(self) -> Iterator[nn.Parameter]:
        """The parameters of encoder, heads and memories, without the linear classifier's."""
        yield from (parameter for parameter in self.encoder.parameters() if parameter.requires_grad)
        for name, head in self.heads.items():
            if name != LINEAR:
                yield from head.parameters()
        yield from self.memory.parameters()

    @property
    def kept(self) -> tuple[Encoder, nn.ModuleDict]:
        """Encoder and heads as they are kept: their averages, where there are some."""
        if not self.average:
            return self.encoder, self.heads
        encoder, heads = self.average["encoder"], self.average["heads"]
        assert isinstance(encoder, Encoder) and isinstance(heads, nn.ModuleDict)
        return encoder, heads


@dataclass(frozen=True, kw_only=True)
class Learner(Settings):
    """Settings and training loop of the methods that train an encoder."""

    encoder: str = "auto"
    """Encoder, by words: convnet:norm=batch,width=64, conv4, resnet12, mlp:width=256, and all networks of attar;
    transformers:FOLDER, with its weights if ,pretrained=true follows; or the folder of a trained encoder or student, to
    start from. auto: a ConvNet for images, an MLP for tables."""
    epochs: Annotated[int, Range(1)] = 100
    """Passes over the training data."""
    batch: Annotated[int, Range(2)] = 128
    """Batch size: samples per step, each in all its views."""
    optimizer: Literal["sgd", "adam", "adamw", "lars"] = "adam"
    """Optimiser: SGD, Adam, AdamW, or LARS for large batches. SGD and LARS need a much larger step size."""
    lr: Annotated[float, Range(0)] = 1e-3
    """Step size (learning rate)."""
    momentum: Annotated[float, Range(0, 1)] = 0.9
    """Momentum of SGD and LARS, or β₁ of Adam."""
    weight_decay: Annotated[float, Range(0)] = 1e-4
    """Weight decay. Biases and norms have none."""
    schedule: Literal["cosine", "onecycle", "steps", "constant"] = "cosine"
    """Schedule of the step size: half a cosine down to zero, OneCycle, --cuts, or none."""
    cuts: tuple[float, ...] = (0.6, 0.8)
    """Shares of the epochs after which the step size is divided by ten, or multiplied by --cut-factor, with --schedule
    steps."""
    cut_factor: Annotated[float, Range(0, 1)] = 0.1
    """What each of the --cuts multiplies the step size by."""
    cycle_rise: Annotated[float, Range(0, 1)] = 0.3
    """Share of the run in which the step size rises, with --schedule onecycle (KMCL: 0.2)."""
    lr_warm_up: Annotated[float, Range(0, 1)] = 0.0
    """Share of the run over which the step size rises first, linearly, step by step."""
    clip_norm: Annotated[float, Range(0)] | None = None
    """Norm to which a longer gradient of all that is learned is cut. Default: no limit."""
    weights_average: Annotated[float, Range(0, 1)] = 0.0
    """Decay of a moving average of the weights, which then is the result (KMCL: 0.9997). It is smaller in the first
    steps. 0: no average."""
    held_out: Annotated[float, Range(0, 0.9)] = 0.0
    """Share of the training samples that is held out: the method does not learn from them. Thresholds are chosen on
    them."""
    watch: Annotated[int, Range(0)] = 0
    """Interval between scores while training, in epochs: kNN, or mAP of several labels, on held-out ones. 0: none."""
    view: Annotated[Views, Role()] = field(default_factory=Views)
    """How the views of a sample are drawn."""
    linear: Annotated[Linear, Role()] = field(default_factory=Linear)
    """A linear classifier that is trained at the end, on features of the frozen encoder."""
    samples: Annotated[int, Hidden()] = 0
    """Number of samples to learn from; filled in from the data."""

    name = "learner"
    kind = "embeddings"
    verb = "train"
    learning: ClassVar[type[Learning]] = Learning
    """What its state is."""
    drawn_views: ClassVar[int] = 2
    """How many views of each sample a step needs."""
    needs: ClassVar[Literal["none", "labels", "one", "several", "captions"]] = "none"
    """What must be known of the training samples."""
    inputs: ClassVar[Literal["any", "images"]] = "any"
    """What the method takes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.cuts) != sorted(self.cuts) or any(not 0 < cut <= 1 for cut in self.cuts):
            raise InputError(f"cuts are {self.cuts}; they must rise, from above 0 to at most 1.")
        if self.watch and not self.held_out:
            raise InputError(f"watch is {self.watch}, but no samples are held out. Give --held-out 0.1.")

    # ------------------------------------------------------------------------------------------ what a method fills in

    def modules(self, width: int, about: About) -> dict[str, nn.Module]:
        """The heads that are trained with the encoder, by name.

        Args:
            width: Number of the encoder's features.
            about: The data.
        """
        return {}

    def memories(self, width: int, about: About) -> dict[str, nn.Module]:
        """Modules of buffers: what the method remembers between steps."""
        return {}

    def followers(self, state: Learning) -> dict[str, nn.Module]:
        """Modules to be followed by a moving average, by name; the loop copies them into `state.slow`."""
        return {}

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """The weighted terms of the loss."""
        raise NotImplementedError

    def settle(self, batch: Batch, state: Learning) -> None:
        """Update followers and memories, after the step of the optimiser."""

    def curves(self, state: Learning) -> Metrics:
        """Further values for the curves, such as a mean temperature."""
        return {}

    def outputs(self, features: Features, heads: nn.ModuleDict) -> dict[str, Tensor]:
        """What the heads say of features at test time, by name: `logits`, `uncertainty`, ..."""
        return {"logits": heads[LINEAR](features)} if LINEAR in heads else {}

    def memories_kept(self, state: Learning) -> dict[str, Tensor]:
        """Tensors of one entry per training sample that the artefact keeps, such as temperatures."""
        return {}

    # -------------------------------------------------------------------------------------------------------- the loop

    @property
    def steps_per_epoch(self) -> int:
        """Steps per epoch. A last batch of one sample is dropped, because batch norm cannot take it."""
        return max(1, self.samples // self.batch + (self.samples % self.batch > 1))

    @property
    def encoder_steps(self) -> int:
        """Steps in which the encoder is trained."""
        return self.epochs * self.steps_per_epoch

    @property
    def total_steps(self) -> int:
        """Number of steps of the run."""
        return self.encoder_steps + self.linear.steps(self.samples)

    def resolve(self, source: Source, runtime: Runtime) -> Self:
        """The settings for these data.

        Raises:
            InputError: The data lack what the method needs, or are a single sample.
        """
        self.check(source)
        learn, _ = source.held_out(self.held_out)
        if len(learn) < 2:
            raise InputError(f"{source.name} has {len(learn)} sample to learn from; an encoder needs two or more.")
        linear = self.linear.resolve(source)
        view = self.view.resolve(source)
        return dataclasses.replace(self, samples=len(learn), linear=linear, view=view)

    def check(self, source: Source) -> None:
        """Check that the data are of the form that the method needs.

        Raises:
            InputError: They are not.
        """
        name, has = source.name, source.labelled
        if self.inputs == "images" and source.tabular:
            raise InputError(f"{self.name} needs images, but {name} is a table.")
        if self.needs == "captions" and not source.paired:
            raise InputError(f"{self.name} needs pairs of image and text, but {name} has no captions. Give --captions.")
        if self.needs in ("labels", "one", "several") and has == "none":
            raise InputError(f"{self.name} needs labels, but {name} has none.")
        if self.needs == "one" and has == "several":
            raise InputError(f"{self.name} needs one label for each sample, but {name} has several.")
        if self.needs == "several" and has == "one":
            raise InputError(f"{self.name} needs samples with several labels, but those of {name} have one each.")

    def work(self, source: Source) -> float:
        """Encoders run eagerly."""
        return 0.0

    def build(self, source: Source, runtime: Runtime) -> Learning:
        """The encoder, its heads and memories before the first step."""
        about = About(len(source.classes), len(source.train), source.shape, source.train.captions)
        encoder = encoder_named(self.encoder, source, runtime.generator("network"), say=runtime.say)
        generator = runtime.generator("heads")
        with seeded(generator):
            heads = self.modules(encoder.width, about)
        if self.linear.epochs:
            with seeded(generator):
                heads[LINEAR] = LinearClassifier(encoder.width, about.classes)
        with seeded(generator):
            memory = nn.ModuleDict(self.memories(encoder.width, about))
        place = runtime.device
        state = self.learning(
            layout.place(encoder, runtime),  # type: ignore[arg-type]
            nn.ModuleDict(heads).to(place),
            nn.ModuleDict(),
            memory.to(place),
            nn.ModuleDict(),
        )
        for name, module in self.followers(state).items():
            state.slow[name] = copy.deepcopy(module).requires_grad_(False)
        if self.weights_average:
            state.average = nn.ModuleDict({"encoder": encoder, "heads": state.heads})
            state.average = copy.deepcopy(state.average).requires_grad_(False)
        state.optimizer = optimizer_of(list(state.learned()), self)
        if self.linear.epochs:
            state.linear_optimizer = self.linear.optimizer_of(state.heads[LINEAR].parameters())
        state.source = source
        state.learn, state.held = source.held_out(self.held_out)
        return state

    def step(self, state: Learning, runtime: Runtime) -> Metrics:
        """One batch: the encoder with its heads first, then the linear classifier alone."""
        if state.done >= self.encoder_steps:
            return self._classifier_step(state, runtime)
        batch = self.drawn(state, runtime)
        set_lr(state.optimizer, self.lr * share_of(self, batch.progress))
        state.encoder.train()
        state.heads.train()
        with runtime.autocast(training=True):
            terms = self.terms(batch, state)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(list(state.learned()), self.clip_norm)
        state.optimizer.step()
        self.settle(batch, state)
        if state.average:
            decay = ramped(self.weights_average, state.done)
            follow_(state.average["encoder"], state.encoder, decay)
            follow_(state.average["heads"], state.heads, decay)
        state.done += 1
        metrics: dict[str, Tensor | float] = {"loss": loss.detach()}
        if len(terms) > 1:
            metrics |= {name: term.detach() for name, term in terms.items()}
        return {**metrics, **self.curves(state), **self._watched(state, runtime)}

    def drawn(self, state: Learning, runtime: Runtime) -> Batch:
        """The batch of the next step: its rows, and their views."""
        epoch = state.done // self.steps_per_epoch
        rows = self.rows_at(state, runtime)
        plain = state.source.unit(rows, runtime.device)
        labels = state.source.train.labels
        views = [self.seen(plain, state, runtime) for _ in range(self.drawn_views)]
        picked = None if labels is None else sent(labels[rows], runtime.device)
        given = state.source.train.captions
        captions = tuple(given[row] for row in rows.tolist()) if given else ()
        return Batch(rows, views, picked, epoch, state.done / self.encoder_steps, captions)

    def rows_at(self, state: Learning, runtime: Runtime) -> Rows:
        """The rows of the next step: every row once in each epoch."""
        epoch, number = divmod(state.done, self.steps_per_epoch)
        if state.order_of != epoch:
            state.order, state.order_of = epoch_rows(state.learn, runtime.seed, epoch), epoch
        return state.order[number * self.batch :][: self.batch]

    def seen(self, plain: Inputs, state: Learning, runtime: Runtime) -> Inputs:
        """A view of samples, as network input."""
        view = drawn_view(plain, self.view, state.source, runtime.generator("views"))
        found = state.source.transform.forward(view)
        return found if state.source.tabular else layout.ordered(found, runtime)

    def encoded(self, batch: Batch, state: Learning) -> list[Features]:
        """The features of every view, from one pass."""
        return list(state.encoder(torch.cat(batch.views)).chunk(len(batch.views)))

    def _classifier_step(self, state: Learning, runtime: Runtime) -> Metrics:
        """One batch of the linear classifier, on features of the frozen encoder in evaluation mode."""
        if state.frozen is None:
            encoder, _ = state.kept
            state.frozen = features_of(encoder, state.source, state.learn, runtime)
            state.heads[LINEAR].fit_scale_(state.frozen)  # type: ignore[operator]
        number = state.done - self.encoder_steps
        epoch, place = divmod(number, self.linear.steps_per_epoch(self.samples))
        order = epoch_rows(torch.arange(self.samples), runtime.seed, self.epochs + epoch)
        rows = order[place * self.linear.batch :][: self.linear.batch]
        labels = state.source.train.labels
        assert labels is not None and state.linear_optimizer is not None
        head = state.heads[LINEAR].train()
        set_lr(state.linear_optimizer, self.linear.lr_at(number, self.samples))
        logits = head(state.frozen[rows.to(state.frozen.device)])
        loss = classification_loss(logits, labels[state.learn[rows]].to(logits.device), self.linear.loss)
        state.linear_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.linear_optimizer.step()
        if state.average:
            state.average["heads"][LINEAR].load_state_dict(head.state_dict())  # type: ignore[index]
        state.done += 1
        return {"loss": loss.detach()}

    def heads_of(
        self, width: int, classes: int, samples: int, shape: tuple[int, ...], facts: Mapping[str, Any] | None = None
    ) -> nn.ModuleDict:
        """The heads for weights that are read from a file."""
        heads = self.modules(width, About(classes, samples, shape, facts=facts or {}))
        if self.linear.epochs:
            heads[LINEAR] = LinearClassifier(width, classes)
        return nn.ModuleDict(heads)

    def _watched(self, state: Learning, runtime: Runtime) -> dict[str, float]:
        """The score on the held-out samples, new at the end of every so many epochs: not every step is logged."""
        if self.watch and state.done % (self.watch * self.steps_per_epoch) == 0:
            from attar.embeddings.watching import held_out_score

            state.watched = held_out_score(self, *state.kept, state, runtime)
        return state.watched

    def result(self, state: Learning, runtime: Runtime) -> TrainedEncoder:
        """The encoder with its heads."""
        encoder, heads = state.kept
        return TrainedEncoder(
            encoder=copy.deepcopy(encoder).cpu().eval(),
            heads=copy.deepcopy(heads).cpu().eval(),
            method=self,
            classes=state.source.classes,
            shape=state.source.shape,
            labelled=state.source.labelled,
            normalise=state.source.transform,
            samples=len(state.source.train),
            remembered={name: value.cpu() for name, value in self.memories_kept(state).items()},
            origin=Origin.made(state.source, self, runtime),
        )


def repeated(labels: Tensor, views: int) -> Tensor:
    """The labels of several views of the same samples, stacked view by view."""
    return torch.cat([labels] * views)
