"""The loop of methods whose batches are drawn by class: episodes, and batches of several samples of several classes.

The encoder sees support and query of an episode in one pass. What it has learned can be watched on episodes of classes
that are held out, on which the best epoch may be chosen.
"""

import copy
import dataclasses
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed, permutation
from attar.core.settings import Hidden, Range, Role
from attar.core.state import rebuilt
from attar.embeddings.distances import smooth_distances
from attar.embeddings.encoders import features_of
from attar.embeddings.fewshot.episodes import Pool
from attar.embeddings.fewshot.outcomes import episode_accuracy
from attar.embeddings.learner import Batch, Learner, Learning
from attar.embeddings.sources import Rows, Source
from attar.embeddings.views import Views

Features = Float[Tensor, "_sample d"]
USUAL_WAY = 20
"""Classes of a training episode, where there are as many."""
WATCHED_WAY = 5
"""Classes of an episode of held-out classes, where there are as many."""


@dataclass
class EpisodicLearning(Learning):
    """An encoder in training, with what its batches are drawn from and its best epoch."""

    best: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    """The encoder of the best epoch so far, if that one is kept."""
    best_score: float = -1.0
    pool: Pool | None = rebuilt(default=None)
    """The rows of `learn` by class."""
    valid: Rows = rebuilt(default=None)
    """The training rows of the classes that are held out."""


class Parts(NamedTuple):
    """Training rows by what they are for."""

    learn: Rows
    held: Rows
    valid: Rows


@dataclass(frozen=True, kw_only=True)
class ByClass(Learner):
    """Settings and loop of the methods whose batches are drawn by class."""

    epochs: Annotated[int, Range(1)] = 40
    """Passes over the training data, each of so many --episodes."""
    episodes: Annotated[int, Range(1)] = 100
    """Episodes, or batches, of an epoch."""
    weight_decay: Annotated[float, Range(0)] = 0.0
    """Weight decay. Biases and norms have none."""
    schedule: Literal["cosine", "onecycle", "steps", "constant"] = "steps"
    """Schedule of the step size: half a cosine down to zero, OneCycle, --cuts, or none."""
    cuts: tuple[float, ...] = (0.5,)
    """Shares of the epochs after which the step size is divided by ten, or multiplied by --cut-factor, with --schedule
    steps."""
    cut_factor: Annotated[float, Range(0, 1)] = 0.5
    """What each of the --cuts multiplies the step size by."""
    view: Annotated[Views, Role()] = field(default_factory=lambda: Views(recipe="none"))
    """How the samples are seen: as they are, unless --view.recipe or a setting of it says otherwise."""
    held_out_classes: Annotated[float, Range(0, 0.9)] = 0.0
    """Share of the training classes that the method does not learn from. Episodes of them are scored after each epoch,
    with five classes each, or as many as there are."""
    held_out_episodes: Annotated[int, Range(1)] = 200
    """Episodes of the held-out classes in each score."""
    keep_epoch: Literal["last", "best"] = "last"
    """Epoch whose encoder is kept: the last one, or the best one on the held-out classes."""
    batch: Annotated[int, Hidden()] = 2
    """Samples of a batch; filled in."""

    needs = "one"
    drawn_views = 1
    learning = EpisodicLearning

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep_epoch == "best" and not self.held_out_classes:
            raise InputError("keep_epoch is best, but no classes are held out. Give --held-out-classes 0.2.")

    @property
    @abstractmethod
    def size(self) -> tuple[int, int, int]:
        """Classes of a batch, and support and query samples of each."""

    @property
    def watched_size(self) -> tuple[int, int]:
        """Support and query samples of each class in episodes of held-out classes."""
        _, shot, query = self.size
        return shot, query

    def distances(
        self, queries: Float[Tensor, "query d"], prototypes: Float[Tensor, "way d"]
    ) -> Float[Tensor, "query way"]:
        """How far queries are from prototypes, by the distance that predictions go by."""
        return smooth_distances(queries, prototypes)

    # -------------------------------------------------------------------------------------------------------- the data

    @property
    def steps_per_epoch(self) -> int:
        """Steps per epoch: its episodes."""
        return self.episodes

    def resolve(self, source: Source, runtime: Runtime) -> Self:
        """The settings for these data.

        Raises:
            InputError: The data lack labels, or have fewer classes than an episode.
        """
        found = super().resolve(source, runtime)
        parts = found.parts(source)
        found = found.fitted(source, parts.learn)
        pool = found.pool_of(source, parts.learn)
        if pool.note:
            runtime.say(pool.note)
        if len(parts.valid):
            found.watched_pool(source, parts.valid)
        way, shot, query = found.size
        return dataclasses.replace(found, samples=len(parts.learn), batch=way * (shot + query))

    def fitted(self, source: Source, learn: Rows) -> Self:
        """The settings with what the classes decide."""
        return self

    def parts(self, source: Source) -> Parts:
        """The training rows to learn from, held-out samples, and those of held-out classes."""
        learn, held = source.held_out(self.held_out)
        labels = source.train.labels
        assert labels is not None
        classes = labels.unique()
        count = round(self.held_out_classes * len(classes))
        if self.held_out_classes and not 2 <= count < len(classes):
            raise InputError(
                f"held_out_classes of {self.held_out_classes:g} takes {count} of {len(classes)} classes of "
                f"{source.name}; at least 2 must be held out, and some be left."
            )
        chosen = classes[permutation(0, "held-out classes", len(classes))[:count]]
        apart = torch.isin(labels[learn], chosen)
        return Parts(learn[~apart], held[~torch.isin(labels[held], chosen)], learn[apart])

    def pool_of(self, source: Source, learn: Rows) -> Pool:
        """The rows of `learn` by class.

        Raises:
            InputError: There are fewer classes than a batch has.
        """
        assert source.train.labels is not None
        return Pool(source.train.labels[learn], *self.size, name=f"the training samples of {source.name}")

    def watched_pool(self, source: Source, valid: Rows) -> Pool:
        """The rows of the held-out classes by class.

        Raises:
            InputError: They have too few samples.
        """
        assert source.train.labels is not None
        labels = source.train.labels[valid]
        way = min(WATCHED_WAY, len(labels.unique()))
        return Pool(labels, way, *self.watched_size, name=f"the held-out classes of {source.name}")

    # -------------------------------------------------------------------------------------------------------- the loop

    def build(self, source: Source, runtime: Runtime) -> EpisodicLearning:
        """The encoder before the first step, and what batches are drawn from."""
        state = super().build(source, runtime)
        assert isinstance(state, EpisodicLearning)
        state.learn, state.held, state.valid = self.parts(source)
        state.pool = self.pool_of(source, state.learn)
        if self.keep_epoch == "best":
            state.best = nn.ModuleDict({"encoder": copy.deepcopy(state.kept[0])}).requires_grad_(False)
        return state

    def rows_at(self, state: Learning, runtime: Runtime) -> Rows:
        """The rows of an episode, support first."""
        assert isinstance(state, EpisodicLearning) and state.pool is not None
        return state.learn[torch.cat(state.pool.drawn(runtime.generator("episodes")))]

    def step(self, state: Learning, runtime: Runtime) -> Metrics:
        """One batch, and after each epoch a score of held-out classes."""
        learns = state.done < self.encoder_steps
        metrics = super().step(state, runtime)
        assert isinstance(state, EpisodicLearning)
        if not learns or not len(state.valid) or state.done % self.episodes:
            return metrics
        score = self._watched_score(state, runtime)
        if self.keep_epoch == "best":
            self._kept_best(state, score)
        return {**metrics, "held_out_accuracy": score}

    def _watched_score(self, state: EpisodicLearning, runtime: Runtime) -> float:
        """The accuracy on episodes of the held-out classes, which are the same after each epoch."""
        features = features_of(state.kept[0], state.source, state.valid, runtime).cpu()
        generator = torch.Generator().manual_seed(derived_seed(runtime.seed, "held-out episodes"))
        pool = self.watched_pool(state.source, state.valid)
        drawn = (pool.drawn(generator) for _ in range(self.held_out_episodes))
        scores = [
            episode_accuracy(features[support], features[query], pool.way, self.distances) for support, query in drawn
        ]
        return float(torch.tensor(scores).double().mean())

    def _kept_best(self, state: EpisodicLearning, score: float) -> None:
        """Remember the encoder if it is the best so far, and put the best one in its place at the end."""
        kept, best = state.kept[0], state.best["encoder"]
        if score > state.best_score:
            state.best_score = score
            best.load_state_dict(kept.state_dict())
        if state.done == self.encoder_steps:
            kept.load_state_dict(best.state_dict())


@dataclass(frozen=True, kw_only=True)
class Episodic(ByClass):
    """Settings of the methods that learn from episodes."""

    train_way: Annotated[int, Range(2)] | None = None
    """Classes of a training episode. More than when tested is usual (20 to 60). Default: 20, or all if there are
    fewer."""
    train_shot: Annotated[int, Range(1)] = 5
    """Support samples of each class in a training episode. As many as when tested is usual."""
    train_query: Annotated[int, Range(1)] = 15
    """Query samples of each class in a training episode."""

    @property
    def size(self) -> tuple[int, int, int]:
        """Classes of an episode, and support and query samples of each."""
        return self.train_way or USUAL_WAY, self.train_shot, self.train_query

    def fitted(self, source: Source, learn: Rows) -> Self:
        """The settings with the number of classes of an episode."""
        if self.train_way is not None:
            return self
        way = classes_with(self.train_shot + self.train_query, source, learn, USUAL_WAY)
        return dataclasses.replace(self, train_way=way)

    def embedded(self, batch: Batch, state: Learning) -> tuple[Features, Features]:
        """The features of support and query, from one pass."""
        way, shot, query = self.size
        support, queries = state.encoder(batch.views[0]).split([way * shot, way * query])
        return support, queries


def classes_with(samples: int, source: Source, learn: Rows, most: int) -> int:
    """How many classes have so many samples: two at least, and no more than `most`."""
    assert source.train.labels is not None
    _, counts = source.train.labels[learn].unique(return_counts=True)
    return max(2, min(most, int((counts >= samples).sum())))
