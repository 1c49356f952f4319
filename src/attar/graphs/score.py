"""The quality of a condensed set of graphs: fresh networks are trained on it and tested once on real test graphs.

Every set is tested on the split it was made with, so that it was not made from the test graphs. The score is that of
the last epoch, which needs no other labels. The test score at the epoch with the best validation score is given beside
it, because papers report it, although the validation graphs outnumber the condensed graphs.
"""

import dataclasses
import itertools
import time
from collections.abc import Sequence
from typing import Any, Literal

import torch

from attar.core.cell import Cell, Measure
from attar.core.dealing import deal, in_order
from attar.core.errors import InputError
from attar.core.evaluation import Evaluation, Row
from attar.core.progress import Line
from attar.core.rows import rows_of
from attar.core.runtime import Runtime
from attar.core.score import Score
from attar.core.seeds import derived_seed
from attar.core.training import ceiling_starts
from attar.graphs.artefact import CondensedGraphs
from attar.graphs.networks import Architecture, network_named
from attar.graphs.protocols import Protocol, protocol_named
from attar.graphs.scoring import Scoring
from attar.graphs.sources import GraphSource
from attar.graphs.together import train_on_condensed
from attar.graphs.trained import TrainGraphNetwork, trained
from attar.graphs.training import Outcome

When = Literal["auto", "run", "skip"]
CHOSEN = "at the epoch with the best validation score"
"""Label of the score that papers report, which is shown beside that of the last epoch."""
UNITS = {"accuracy": "%", "roc-auc": "% AUC"}
"""Units of scores, by metric."""


def measure(sets: Sequence[CondensedGraphs], source: GraphSource, how: Scoring, runtime: Runtime) -> Evaluation:
    """Train fresh networks on condensed sets: a row for each method, a column for each kind of network.

    Args:
        sets: Condensed sets. Each is tested on the split that it was made with.
        source: The data that the sets were condensed from.
        how: The networks and the protocol of training.
        runtime: The machine and the seed.

    Raises:
        InputError: A network or protocol is unknown, or a set has other classes or features than the source.
    """
    start, how = time.perf_counter(), dataclasses.replace(how, protocol=protocol_named(how.protocol))
    _check(sets, source)
    rows = []
    for label, members in rows_of(sets, lambda small: {"graphs": len(small)}):
        first, jobs = members[0], [(one, _own_split(one, source, runtime)) for one in members]
        rows.append(
            Row.of(
                label,
                members,
                [_cell(label, network, jobs, how, runtime) for network in how.networks],
                count=len(first),
                bytes=first.bytes,
                full_count=first.origin.full_graphs,
                full_bytes=first.origin.full_bytes,
            )
        )
    return Evaluation(tuple(rows), "graphs", seconds=round(time.perf_counter() - start, 3))


def _cell(
    label: str, network: Any, sets: Sequence[tuple[CondensedGraphs, GraphSource]], how: Scoring, runtime: Runtime
) -> Cell:
    """The scores of one kind of network on the sets of a row, with the scores to compare them with."""
    kind = network_named(network) if isinstance(network, str) else network
    name = network if isinstance(network, str) else network.kind
    source, unit = sets[0][1], UNITS[sets[0][1].metric]
    seeds = [derived_seed(runtime.seed, f"repeat {repeat}") for repeat in range(how.repeats)]
    every = [(pair, seed) for pair in sets for seed in seeds]
    mine, numbers = [every[index] for index in runtime.processes.share(len(every))], itertools.count(1)

    def tell(outcome: Outcome) -> None:
        runtime.say(f"{name} on {label}: network {next(numbers)} of {len(mine)}, {outcome.last:.1f} {unit}")

    quiet = runtime.engine.quiet or not runtime.processes.first
    with Line(f"{name} on {label}", len(mine) * how.protocol.epochs, quiet=quiet) as line:
        jobs, own = [pair for pair, _ in mine], [seed for _, seed in mine]
        outcomes = train_on_condensed(jobs, kind, how.protocol, own, runtime.alone(), watch=line.at, tell=tell)
    found = runtime.processes.collect(outcomes)
    by_set = [found[start : start + how.repeats] for start in range(0, len(found), how.repeats)]
    chosen = [[outcome.chosen for outcome in outcomes] for outcomes in by_set]
    return Cell.of(
        [[outcome.last for outcome in outcomes] for outcomes in by_set],
        unit,
        column=name,
        protocol=how.protocol.told,
        trained=how.protocol.to_json(),
        full=full_score(source, kind, how.protocol, seeds, how.ceiling, runtime),
        whole=f"all {sets[0][0].origin.full_graphs:,}",
        chance=chance(source),
        further={CHOSEN: Measure.of(chosen, unit)},
    )


def full_score(
    source: GraphSource, kind: Architecture, protocol: Protocol, seeds: Sequence[int], when: When, runtime: Runtime
) -> Score | None:
    """The score of the same networks trained on all training graphs, at the last epoch; None if not available."""
    if when == "skip":
        return None
    method = TrainGraphNetwork(architecture=kind, protocol=protocol).resolve(source)
    what = f"all {len(source.train):,} graphs"
    if when == "auto" and not ceiling_starts(method, source, seeds, runtime, what=what):
        return None
    values: dict[int, float] = {}
    for numbers, together in deal(len(seeds), runtime.processes, 0.0, runtime.device):
        machine = runtime.among(together)
        for number in numbers:
            values[number] = trained(source, kind, protocol, machine, seed=seeds[number]).outcome.last
    return Score.of(in_order(values, runtime.processes), UNITS[source.metric])


def chance(source: GraphSource) -> float:
    """The score of guessing, in per cent: the share of the largest class of the test graphs, or 50 for ROC-AUC."""
    if source.metric == "roc-auc":
        return 50.0
    return 100 * float(torch.bincount(source.test.labels).max()) / len(source.test)


def _check(sets: Sequence[CondensedGraphs], source: GraphSource) -> None:
    if not sets:
        raise InputError("there is no condensed set to evaluate; give one or more.")
    for small in sets:
        if small.classes != source.classes or small.feat.shape[2] != source.features:
            raise InputError(
                f"the condensed set has {len(small.classes)} classes and {small.feat.shape[2]} features per node, but "
                f"{source.name} has {len(source.classes)} and {source.features}. Give the data it was condensed from."
            )


def _own_split(small: CondensedGraphs, source: GraphSource, runtime: Runtime) -> GraphSource:
    """The source with the split that the set was made with."""
    if small.origin.content != source.content:
        runtime.say(f"note: the graphs of {source.name} differ from those that this set was condensed from.")
    if small.origin.split.kind == "given" and source.given is None:
        return source
    return source.at(small.origin.split)
