"""What an encoder is compared with: the samples themselves, a random encoder, ExtraTrees, and BCE with the same views.

All are measured as the encoder is. A score that raw features or a random encoder reach as well is no merit of training.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.core.training import affordable, cached, is_cached, seconds_for
from attar.embeddings.answers import Answer, Scores, with_threshold
from attar.embeddings.encoded import EncodedSource, represented
from attar.embeddings.encoders import AT_ONCE, encoder_named
from attar.embeddings.multilabel.endtoend import MultiLabel
from attar.embeddings.probe import Features, Labels, spread
from attar.embeddings.sources import Source
from attar.images import layout

When = Literal["auto", "run", "skip"]
LARGEST_SIDE = 32
"""Larger images are scaled down to so many pixels before they count as raw features."""
TREES, TRIED = 300, 3
BCE = "BCE, same encoder, views and epochs"


@dataclass(frozen=True)
class Untrained:
    """Features of both parts that no training has made."""

    label: str
    train: Features
    test: Features


def raw_of(encoded: EncodedSource) -> Untrained:
    """The samples themselves, normalised and flattened."""
    source = encoded.source
    parts = []
    for name in ("train", "test"):
        rows = torch.arange(len(source.part(name)))
        pieces = [_flat(source.inputs(some, part=name)) for some in rows.split(AT_ONCE)]
        parts.append(torch.cat(pieces))
    return Untrained(encoded.words, *parts)


def random_of(encoded: EncodedSource) -> Untrained | None:
    """A fresh encoder of the same architecture; None if only its maker can build one."""
    made, runtime = encoded.made, encoded.runtime
    if made.encoder.name is None:
        return None
    generator = torch.Generator().manual_seed(derived_seed(runtime.seed, "random encoder"))
    fresh = layout.place(encoder_named(made.encoder.name, encoded.source, generator), runtime)
    label = "its encoder before training" if made.encoder.name.startswith("transformers:") else "random encoder"
    parts = [represented(fresh, encoded.source, part, runtime) for part in ("train", "test")]
    return Untrained(label, *parts)


def trees_judge(labels_are_several: bool, classes: int, seed: int = 0) -> Callable[[Features, Labels], Any]:
    """ExtraTrees of scikit-learn, with 300 trees."""

    def learn(features: Features, labels: Labels) -> Callable[[Features], Scores]:
        forest = _forest(TREES, seed).fit(features.numpy(), labels.numpy().astype(int))

        def predict(others: Features) -> Scores:
            found = forest.predict_proba(others.numpy())
            if not labels_are_several:
                return spread(found, forest.classes_, classes)
            several = found if isinstance(found, list) else [found]
            known = forest.classes_ if isinstance(found, list) else [forest.classes_]
            yes = [spread(one, there, 2)[:, 1] for one, there in zip(several, known, strict=True)]
            return torch.stack(yes, dim=1)

        return predict

    return learn


def trees_seconds(features: Features, labels: Labels) -> float:
    """About how long a forest takes, from a few of its trees."""
    start = time.perf_counter()
    _forest(TRIED, 0).fit(features.numpy(), labels.numpy().astype(int))
    return (time.perf_counter() - start) * TREES / TRIED


def bce_answers(
    members: Sequence[Any], source: Source, when: When, threshold: float | None, runtime: Runtime
) -> list[Answer]:
    """Networks that BCE trains end to end, with the encoder, epochs, batch size and views of the first of artefacts.

    They are kept in the cache. Under `auto` training of more than ten minutes in all is not started.

    Args:
        members: Artefacts; there is a network for the seed of each, up to three.
        source: Samples with several labels, in the split of the first.
        when: Whether to train.
        threshold: As for the score itself.
        runtime: The machine.
    """
    made = members[0]
    method = _bce_like(made.method)
    if method is None or made.encoder.name is None:
        return []
    method = method.resolve(source, runtime)
    seeds = [one.origin.seed for one in members[:3]]
    missing = [seed for seed in seeds if not is_cached(method, source, seed)]
    estimate = seconds_for(method, source, runtime) * len(missing) if missing and when == "auto" else 0.0
    if not affordable(BCE, estimate, when, runtime):
        return []
    found = []
    for seed in seeds:
        trained = cached(method, source, runtime.with_seed(seed), title=f"beside it, {BCE}")
        found.append(classifier_answer(EncodedSource.of(trained, source, runtime), threshold))
    return found


def classifier_answer(encoded: EncodedSource, threshold: float | None) -> Answer:
    """What the classifier on top of an encoder says of the test samples.

    The threshold of several labels is chosen on the samples that its method has held out.
    """
    if encoded.source.labelled != "several":
        return Answer(encoded.said["logits"].softmax(dim=1))
    scores, labels = encoded.said["logits"].sigmoid(), encoded.source.train.labels
    if threshold is not None or not len(encoded.held) or labels is None:
        return with_threshold(scores, threshold)
    return with_threshold(
        scores, None, encoded.answers(encoded.train[encoded.held])["logits"].sigmoid(), labels[encoded.held]
    )


def _bce_like(method: Any) -> Any:
    """Settings of end-to-end training by BCE that are those of a method otherwise; None if it is that itself."""
    if isinstance(method, MultiLabel) and method.loss == "bce":
        return None
    shared = {name: getattr(method, name) for name in ("encoder", "epochs", "batch", "view", "held_out")}
    return MultiLabel(loss="bce", **shared)


def _forest(trees: int, seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(trees, random_state=seed, n_jobs=torch.get_num_threads())


def _flat(samples: Tensor) -> Features:
    if samples.ndim == 4 and max(samples.shape[2:]) > LARGEST_SIDE:
        high, wide = (min(side, LARGEST_SIDE) for side in samples.shape[2:])
        samples = F.adaptive_avg_pool2d(samples, (high, wide))
    return samples.flatten(1).float()
