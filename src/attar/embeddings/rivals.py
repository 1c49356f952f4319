"""What an encoder is compared with: the samples themselves, a random encoder, ExtraTrees, and BCE with the same views.

All are measured as the encoder is. A score that raw features or a random encoder reach as well is no merit of training.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.core import engine
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.core.training import LONG, cached, network_folder, seconds_for
from attar.embeddings.encoders import encoder_named
from attar.embeddings.measures import Answer, Labels, Scores, with_threshold
from attar.embeddings.multilabel.endtoend import MultiLabel
from attar.embeddings.seen import Seen, represented
from attar.embeddings.sources import Source
from attar.images import layout

Feats = Float[Tensor, "_sample _width"]
When = Literal["auto", "run", "skip"]
LARGEST_SIDE = 32
"""Larger images are scaled down to so many pixels before they count as raw features."""
TREES, TRIED = 300, 3
BCE = "BCE, same encoder, views and epochs"


@dataclass(frozen=True)
class Untrained:
    """Features of both parts that no training has made."""

    label: str
    train: Feats
    test: Feats


def raw_of(seen: Seen) -> Untrained:
    """The samples themselves, normalised and flattened."""
    source = seen.source
    parts = []
    for name in ("train", "test"):
        rows = torch.arange(len(source.part(name)))
        pieces = [_flat(source.inputs(some, part=name)) for some in rows.split(512)]
        parts.append(torch.cat(pieces))
    return Untrained(seen.words, *parts)


def random_of(seen: Seen) -> Untrained | None:
    """A fresh encoder of the same architecture; None if only its maker can build one."""
    made, runtime = seen.made, seen.runtime
    if made.encoder.name is None:
        return None
    generator = torch.Generator().manual_seed(derived_seed(runtime.seed, "random encoder"))
    fresh = layout.place(encoder_named(made.encoder.name, seen.source, generator), runtime)
    label = "its encoder before training" if made.encoder.name.startswith("transformers:") else "random encoder"
    parts = [represented(fresh, seen.source, part, runtime) for part in ("train", "test")]
    return Untrained(label, *parts)


def trees_judge(labels_are_several: bool, classes: int, seed: int = 0) -> Callable[[Feats, Labels], Any]:
    """ExtraTrees of scikit-learn, with 300 trees."""

    def learn(features: Feats, labels: Labels) -> Callable[[Feats], Scores]:
        forest = _forest(TREES, seed).fit(features.numpy(), labels.numpy().astype(int))

        def predict(others: Feats) -> Scores:
            found = forest.predict_proba(others.numpy())
            if not labels_are_several:
                return _columns(found, forest.classes_, classes)
            several = found if isinstance(found, list) else [found]
            known = forest.classes_ if isinstance(found, list) else [forest.classes_]
            yes = [_columns(one, there, 2)[:, 1] for one, there in zip(several, known, strict=True)]
            return torch.stack(yes, dim=1)

        return predict

    return learn


def trees_seconds(features: Feats, labels: Labels) -> float:
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
    missing = [seed for seed in seeds if not engine.finished(network_folder(method, source, seed))]
    estimate = seconds_for(method, source, runtime) * len(missing) if missing and when == "auto" else 0.0
    if not affordable(BCE, estimate, when, runtime):
        return []
    found = []
    for seed in seeds:
        trained = cached(method, source, runtime.with_seed(seed), title=f"beside it, {BCE}")
        found.append(classifier_answer(Seen.of(trained, source, runtime), threshold))
    return found


def classifier_answer(seen: Seen, threshold: float | None) -> Answer:
    """What the classifier on top of an encoder says of the test samples.

    The threshold of several labels is chosen on the samples that its method has held out.
    """
    if seen.source.labelled != "several":
        return Answer(seen.said["logits"].softmax(dim=1))
    scores, labels = seen.said["logits"].sigmoid(), seen.source.train.labels
    if threshold is not None or not len(seen.held) or labels is None:
        return with_threshold(scores, threshold)
    return with_threshold(scores, None, seen.answers(seen.train[seen.held])["logits"].sigmoid(), labels[seen.held])


def affordable(label: str, seconds: float, when: When, runtime: Runtime) -> bool:
    """Whether a rival is measured: always if asked, else up to ten minutes; where it is not, that is said."""
    if when == "run":
        return True
    if when == "skip":
        return False
    if seconds > LONG:
        runtime.say(
            f"{label} is not measured beside it: it would take about {seconds / 60:.0f} minutes here. "
            "Measure it with --beside run."
        )
    return seconds <= LONG


def _bce_like(method: Any) -> Any:
    """Settings of end-to-end training by BCE that are those of a method otherwise; None if it is that itself."""
    if isinstance(method, MultiLabel) and method.loss == "bce":
        return None
    shared = {name: getattr(method, name) for name in ("encoder", "epochs", "batch", "view", "held_out")}
    return MultiLabel(loss="bce", **shared)


def _forest(trees: int, seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(trees, random_state=seed, n_jobs=torch.get_num_threads())


def _columns(found: np.ndarray, there: np.ndarray, classes: int) -> Scores:
    """Probabilities of all classes, zero for those that were not in training."""
    scores = torch.zeros(len(found), classes, dtype=torch.float64)
    scores[:, torch.from_numpy(np.asarray(there, dtype=np.int64))] = torch.from_numpy(found)
    return scores


def _flat(samples: Tensor) -> Feats:
    if samples.ndim == 4 and max(samples.shape[2:]) > LARGEST_SIDE:
        high, wide = (min(side, LARGEST_SIDE) for side in samples.shape[2:])
        samples = F.adaptive_avg_pool2d(samples, (high, wide))
    return samples.flatten(1).float()
