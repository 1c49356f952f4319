"""The quality of encoders, frozen: kNN and a linear probe, mAP of several labels, few-shot episodes, recall of pairs.

Every encoder is tested on the split that it was trained with. What is chosen (the strength of a probe, a threshold) is
chosen on training samples. The rivals beside a score are measured in the same way.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from attar.core.cell import Beside, Cell, Measure
from attar.core.errors import InputError
from attar.core.evaluation import Evaluation, Row
from attar.core.rows import rows_of
from attar.core.runtime import Runtime
from attar.core.score import Score, around
from attar.core.seeds import derived_seed
from attar.core.training import affordable
from attar.embeddings.answers import (
    Answer,
    accuracy,
    checked_labels,
    constant_answer,
    judged,
    neighbours_judge,
    of_several,
    probe_answer,
)
from attar.embeddings.data.splits import own_split
from attar.embeddings.encoded import EncodedSource
from attar.embeddings.encoders import Features
from attar.embeddings.fewshot.outcomes import Distances, outcomes
from attar.embeddings.neighbours import usual_neighbours
from attar.embeddings.retrieval import AT, chance_of_recall, recalls
from attar.embeddings.rivals import (
    BCE,
    Untrained,
    bce_answers,
    classifier_answer,
    random_of,
    raw_of,
    trees_judge,
    trees_seconds,
)
from attar.embeddings.scoring import Measured, Scoring
from attar.embeddings.sources import Source

KNN, PROBE, CLASSIFIER = "kNN", "linear probe", "its classifier"
MAP, MICRO = "mAP", "OF1 (micro-F1)"
TREES_JUDGED = 3
"""Tenths of the training samples on which the threshold of a forest is chosen."""
USUAL_WAY = 5
"""Classes of an episode, unless asked otherwise."""
WITH_MICRO = ("CP", "CR", "CF1", "OP", "OR", "CF1 of the top 3", "OF1 of the top 3")


@dataclass(frozen=True)
class Got:
    """What was measured of one encoder or rival in one column, in per cent."""

    values: list[float]
    """One value, or one for each episode."""
    further: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    chance: float | None = None

    @property
    def score(self) -> Score:
        """The mean; of episodes with its 95 % interval."""
        return over_episodes(self.values) if len(self.values) > 1 else Score(self.values[0])


Columns = dict[str, Got]


@dataclass(frozen=True)
class EpisodeCell(Cell):
    """A score over episodes. That of a single encoder has the interval of its mean, not the spread of episodes."""

    def of_set(self, index: int) -> "EpisodeCell":
        """The same of one of the encoders."""
        one = super().of_set(index)
        return dataclasses.replace(one, score=over_episodes(self.values[index]))


@dataclass(frozen=True)
class Measurement(Evaluation):
    """What was measured, with what is needed to draw it."""

    encoded: tuple[tuple[EncodedSource, ...], ...] = field(default=(), repr=False, compare=False)
    """The encoders of each row with their samples and features."""


def measure(encoders: Sequence[Any], source: Source, how: Scoring, runtime: Runtime) -> Evaluation:
    """Measure frozen encoders: a row for each method, a column for each measure.

    Args:
        encoders: Trained encoders. Each is tested on the split that it was trained with.
        source: The samples.
        how: What is measured, and its settings. Rivals are measured under `auto` only if there is a single row.
        runtime: The machine; its seed draws episodes and random encoders.

    Raises:
        InputError: There is no encoder, it takes other samples, or nothing can be measured by these labels.
    """
    start = time.perf_counter()
    if not encoders:
        raise InputError("there is no encoder to evaluate; give one or more.")
    grouped = rows_of(encoders, lambda one: {"data": one.origin.fingerprint})
    if len(grouped) > 1 and how.beside == "auto":
        how = dataclasses.replace(how, beside="skip")
    rows, kept = [], []
    for label, members in grouped:
        encoded = [EncodedSource.of(one, own_samples(one, source, runtime), runtime) for one in members]
        rows.append(_row(label, members, encoded, how, runtime))
        kept.append(tuple(encoded))
    taken = round(time.perf_counter() - start, 3)
    return Measurement(tuple(rows), "parameters", "encoders", "episodes", seconds=taken, encoded=tuple(kept))


def own_samples(made: Any, source: Source, runtime: Runtime) -> Source:
    """The source in the split that an encoder was trained with.

    Raises:
        InputError: The samples have another form than those of its training, or another split.
    """
    if tuple(source.shape) != tuple(made.shape):
        raise InputError(
            f"the encoder takes samples of shape {tuple(made.shape)}, but those of {source.name} have "
            f"{tuple(source.shape)}. Give the data that it was trained on."
        )
    return own_split(made, source, runtime)


def measures_of(encoded: EncodedSource, asked: Sequence[Measured]) -> tuple[Measured, ...]:
    """What is measured: what was asked for, or what fits the labels.

    Raises:
        InputError: Something cannot be measured by these labels.
    """
    source, name = encoded.source, encoded.source.name
    paired = source.paired and encoded.made.paired
    if not asked:
        found: list[Measured] = ["recall"] if paired else []
        if source.test.labels is not None:
            by_label: dict[str, list[Measured]] = {"one": ["knn", "probe"], "several": ["map"]}
            found += ["episodes"] if source.novel else by_label.get(source.labelled, [])
        if not found:
            raise InputError(
                f"{name} has no labels, so there is nothing to measure its encoder by. Give --data with labels."
            )
        return tuple(found)
    for one in asked:
        if one == "recall" and not paired:
            raise InputError(f"recall needs image-text pairs and a text encoder, but {_without(encoded)} has none.")
        if one != "recall":
            labels = checked_labels(source.test.labels, name)
            if one == "map" and labels.ndim == 1:
                raise InputError(f"map needs several labels for each sample, but those of {name} have one each.")
            if one == "episodes" and labels.ndim == 2:
                raise InputError(f"episodes need one label for each sample, but those of {name} have several.")
            if one != "episodes" and source.novel:
                raise InputError(f"{one} needs test samples of the training classes, but {name} is tested on others.")
    return tuple(asked)


def _without(encoded: EncodedSource) -> str:
    return encoded.source.name if not encoded.source.paired else encoded.made.origin.method


def _row(label: str, members: Sequence[Any], encoded: Sequence[EncodedSource], how: Scoring, runtime: Runtime) -> Row:
    names = measures_of(encoded[0], how.measures)
    found: list[Columns] = []
    began = time.perf_counter()
    for number, one in enumerate(encoded, start=1):
        columns = of_encoder(one, names, how)
        found.append(columns)
        told = ", ".join(f"{column} {got.score}" for column, got in columns.items())
        runtime.say(f"{label}: encoder {number} of {len(encoded)}, {told}")
    took = (time.perf_counter() - began) / len(encoded)
    beside = list(rivals_of(members, encoded[0], names, how, took, runtime))
    cells = [
        _cell(column, [columns[column] for columns in found], beside)
        for column in found[0]
        if all(c.get(column) for c in found)
    ]
    return Row.of(label, members, cells, count=members[0].parameters)


def _cell(column: str, found: Sequence[Got], beside: Sequence[tuple[str, dict[str, Score]]]) -> Cell:
    """A column of a row, with the scores to compare it with."""
    values = tuple(tuple(got.values) for got in found)
    means = [statistics.fmean(row) for row in values]
    episodic = len(values[0]) > 1
    score = found[0].score if len(found) == 1 else Score.of(means)
    family = EpisodeCell if episodic else Cell
    return family(
        score,
        values,
        column=column,
        chance=found[0].chance,
        further={name: Measure.of([[got.further[name]] for got in found]) for name in found[0].further},
        beside=tuple(Beside(label, scores[column]) for label, scores in beside if column in scores),
        notes=tuple(got.note for got in found),
    )


def over_episodes(values: Sequence[float]) -> Score:
    """The mean over episodes with its 95 % interval."""
    mean, error = statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5
    interval = around(mean, error, len(values) - 1)
    return Score(mean, n=len(values), interval=(interval.low, interval.high))


# ---------------------------------------------------------------------------------------------------------- the columns


def of_encoder(encoded: EncodedSource, names: Sequence[Measured], how: Scoring) -> Columns:
    """Everything that is measured of an encoder."""
    found: Columns = {}
    if "recall" in names:
        found |= _recalls(encoded)
    if "map" in names:
        found |= _of_several(encoded, how)
        names = [name for name in names if name != "map"]
    found |= of_features(lambda: encoded.train, lambda: encoded.test, encoded, names, how)
    if encoded.classifies and encoded.source.labelled == "one" and PROBE in found:
        answer = classifier_answer(encoded, None)
        found[CLASSIFIER] = Got([accuracy(answer.scores, checked_labels(encoded.labels, ""))], chance=_largest(encoded))
    return found


def _of_several(encoded: EncodedSource, how: Scoring) -> Columns:
    """Several labels, by the classifier of the method or by a linear probe; other ways are further measures."""
    labels, classes = checked_labels(encoded.source.train.labels, encoded.source.name), len(encoded.source.classes)
    right = checked_labels(encoded.labels, encoded.source.name)
    probe = probe_answer(encoded.train, labels, encoded.test, classes, how.label_threshold)
    voted = judged(neighbours_judge(classes, how), encoded.train, labels, encoded.test, how.label_threshold)
    others = {"by kNN": voted}
    if encoded.classifies:
        found = _columns_of(classifier_answer(encoded, how.label_threshold), encoded)
        others = {f"by a {PROBE}": probe, **others}
    else:
        found = _columns_of(probe, encoded, PROBE)
    further = {name: of_several(answer, right)["mAP"] for name, answer in others.items()}
    return {**found, MAP: dataclasses.replace(found[MAP], further=further)}


def of_features(
    train: Callable[[], Features],
    test: Callable[[], Features],
    encoded: EncodedSource,
    names: Sequence[Measured],
    how: Scoring,
) -> Columns:
    """Everything that is measured of features, whosever they are."""
    found: Columns = {}
    source, classes = encoded.source, len(encoded.source.classes)
    for name in names:
        if name == "recall":
            continue
        right = checked_labels(encoded.labels, source.name)
        if name == "episodes":
            found |= _episodes(test(), encoded, how)
            continue
        labels = checked_labels(source.train.labels, source.name)
        if name == "knn":
            count = min(how.neighbours or usual_neighbours(len(labels)), len(labels))
            answer = judged(neighbours_judge(classes, how), train(), labels, test(), how.label_threshold)
            note, column = f"{count} neighbours", KNN
        else:
            answer = probe_answer(train(), labels, test(), classes, how.label_threshold)
            note, column = "", PROBE
        if name == "map":
            found |= _columns_of(answer, encoded, PROBE)
        elif right.ndim == 2:
            told = of_several(answer, right)
            found[f"{MAP} of {column}"] = Got([told["mAP"]], note=note, chance=_constant(encoded)["mAP"])
        else:
            found[column] = Got([accuracy(answer.scores, right)], note=note, chance=_largest(encoded))
    return found


def _columns_of(answer: Answer, encoded: EncodedSource, by: str = "") -> Columns:
    """mAP, and micro-F1 with the other measures at a threshold."""
    told, chance = of_several(answer, checked_labels(encoded.labels, encoded.source.name)), _constant(encoded)
    further = {name: told[name] for name in WITH_MICRO if name in told}
    note = f"by a {by}" if by else ""
    return {
        MAP: Got([told["mAP"]], note=note, chance=chance["mAP"]),
        MICRO: Got([told["OF1"]], further, ", ".join(filter(None, (note, answer.note))), chance["OF1"]),
    }


def _constant(encoded: EncodedSource) -> dict[str, float]:
    """The measures of always guessing the labels that are frequent among the training samples."""
    labels = checked_labels(encoded.source.train.labels, encoded.source.name)
    right = checked_labels(encoded.labels, encoded.source.name)
    return of_several(constant_answer(labels, len(right)), right)


def _largest(encoded: EncodedSource) -> float:
    """The share of the largest class of the test samples, in per cent."""
    labels = checked_labels(encoded.labels, encoded.source.name)
    return 100 * float(torch.bincount(labels).max()) / len(labels)


def distances_of(method: Any) -> Distances | None:
    """The distance of a method that compares features as they are; None for methods that compare directions."""
    found: Distances | None = getattr(method, "distances", None)
    return found


def _episodes(features: Features, encoded: EncodedSource, how: Scoring) -> Columns:
    """A column for each number of ways and shots; the same episodes for every encoder."""
    found = {}
    labels = checked_labels(encoded.labels, encoded.source.name)
    for way in how.ways or (min(USUAL_WAY, len(labels.unique())),):
        for shot in how.shots:
            seed = derived_seed(encoded.runtime.seed, f"episodes of {way} ways, {shot} shots")
            generator = torch.Generator().manual_seed(seed)
            given = (way, shot, how.queries, how.test_episodes, generator)
            values = [
                one.accuracy for one in outcomes(features, labels, *given, distances=distances_of(encoded.made.method))
            ]
            found[f"{way}-way {shot}-shot"] = Got(values, chance=100 / way)
    return found


def _recalls(encoded: EncodedSource) -> Columns:
    """A column for each direction: recall at 1, with recall at 5 and 10."""
    captions = encoded.source.test.captions
    images, texts = encoded.made.pair_features(encoded.test, captions)
    found = {}
    for way, by_count in recalls(images, texts, captions).items():
        first, *others = AT
        further = {f"at {k}": 100 * by_count[k] for k in others}
        chance = 100 * chance_of_recall(captions, first)
        found[f"{way}, recall at {first}"] = Got([100 * by_count[first]], further, chance=chance)
    return found


# ----------------------------------------------------------------------------------------------------------- the rivals


def rivals_of(
    members: Sequence[Any],
    encoded: EncodedSource,
    names: Sequence[Measured],
    how: Scoring,
    seconds: float,
    runtime: Runtime,
) -> list[tuple[str, dict[str, Score]]]:
    """The scores of the rivals by label and column, measured on the samples of the first encoder.

    Args:
        members: The encoders of the row.
        encoded: The first of them.
        names: What is measured.
        how: The settings of the measurement.
        seconds: How long it took for one encoder.
        runtime: The machine and the seed.
    """
    names = [name for name in names if name != "recall"]
    if how.beside == "skip" or not names:
        return []
    found: list[tuple[str, dict[str, Score]]] = []
    several = encoded.source.labelled == "several"
    raw = raw_of(encoded)
    wider = max(1.0, raw.test.shape[1] / encoded.made.encoder.width)
    for untrained, share in ((raw, wider), (random_of(encoded), 1.0)):
        if untrained is None or not affordable(untrained.label, share * seconds, how.beside, runtime):
            continue
        runtime.say(f"beside it, {untrained.label}")
        found += _of_untrained(untrained, encoded, names, how)
    if "episodes" not in names:
        found += _of_trees(raw, encoded, names, how, runtime)
    if several and "map" in names:
        answers = bce_answers(members, encoded.source, how.beside, how.label_threshold, runtime)
        if answers:
            told = [of_several(answer, checked_labels(encoded.labels, "")) for answer in answers]
            found.append((BCE, {MAP: Score.of([one["mAP"] for one in told])}))
            chosen = "" if answers[0].chosen_on else f", {answers[0].note}"
            found.append((f"{BCE}{chosen}", {MICRO: Score.of([one["OF1"] for one in told])}))
    return found


def _of_untrained(
    one: Untrained, encoded: EncodedSource, names: Sequence[Measured], how: Scoring
) -> list[tuple[str, dict[str, Score]]]:
    """Raw features or a random encoder, measured as the encoder is; of several labels also by kNN."""
    columns = of_features(lambda: one.train, lambda: one.test, encoded, names, how)
    scores = {column: got.score for column, got in columns.items()}
    if CLASSIFIER not in scores and PROBE in scores and encoded.classifies:
        scores[CLASSIFIER] = scores[PROBE]
    if "map" not in names:
        return [(one.label, scores)]
    labels = checked_labels(encoded.source.train.labels, encoded.source.name)
    judge = neighbours_judge(len(encoded.source.classes), how)
    told = of_several(
        judged(judge, one.train, labels, one.test, how.label_threshold),
        checked_labels(encoded.labels, encoded.source.name),
    )
    voted = {MAP: Score(told["mAP"]), MICRO: Score(told["OF1"])}
    return [(f"{one.label}, linear probe", scores), (f"{one.label}, kNN", voted)]


def _of_trees(
    raw: Untrained, encoded: EncodedSource, names: Sequence[Measured], how: Scoring, runtime: Runtime
) -> list[tuple[str, dict[str, Score]]]:
    """ExtraTrees on the samples themselves, in all columns."""
    source = encoded.source
    labels, right = checked_labels(source.train.labels, source.name), checked_labels(encoded.labels, source.name)
    several, label = labels.ndim == 2, f"ExtraTrees on {raw.label}"
    seconds = trees_seconds(raw.train, labels) * (1 + several * TREES_JUDGED) if how.beside == "auto" else 0.0
    if not affordable(label, seconds, how.beside, runtime):
        return []
    runtime.say(f"beside it, {label}")
    judge = trees_judge(several, len(source.classes))
    answer = judged(judge, raw.train, labels, raw.test, how.label_threshold, most=TREES_JUDGED)
    if not several:
        reached = Score(accuracy(answer.scores, right))
        return [(label, dict.fromkeys((KNN, PROBE, CLASSIFIER), reached))]
    told = of_several(answer, right)
    scores = {MAP: Score(told["mAP"]), MICRO: Score(told["OF1"])}
    return [(label, scores | {f"{MAP} of {column}": scores[MAP] for column in (KNN, PROBE)})]
