"""Mixture reduction: how fast the greedy stage is and how its cost grows, and every method against OGGMR.

    python bench/mixtures.py --quick             # does it run
    python bench/mixtures.py speed growth plain  # the greedy stage alone, a few minutes
    python bench/mixtures.py random digits       # every rival, with win rates
    python bench/mixtures.py tracking            # what a reducer is worth in a tracker
    python bench/mixtures.py --record            # all of it, into bench/results/mixtures.json

Give parts by name, or none for all; what is recorded of other parts stays. Timed parts run in processes of their own.
Without --record nothing is written.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch

from attar.core.progress import as_text
from attar.core.score import paired
from attar.mixtures import (
    COWA,
    CTDGMR,
    GMRC,
    OGGMR,
    BruteForce,
    Direct,
    GaussianMixture,
    Runnalls,
    Salmond,
    West,
    Williams,
    distance,
    random_mixture,
)
from attar.mixtures.gaussians import Gaussians, log_pairs, log_self, log_table, merged
from attar.mixtures.greedy import Merged, distance_of, merge_globally
from attar.mixtures.merging import merge_groups, merge_shares
from attar.mixtures.reduction import Reducer
from attar.mixtures.runnalls import kl_bound
from attar.mixtures.sources import digits_mixture
from attar.mixtures.tracking import Scenario, fly, track

KINDS = ("angle", "nise", "ise")
OURS = ("oggmr", "oggmr, greedy only")
"""What every rival is compared with."""
TIME_TARGET, MEMORY_TARGET, RATIO_TARGET = 2.0, 1000.0, 10.0
"""Seconds and megabytes for 1,000 components into 50, and how many times faster than recomputing everything."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which; all unless given")
    parser.add_argument("--quick", action="store_true", help="tiny budgets")
    parser.add_argument("--record", action="store_true", help="write bench/results/mixtures.json")
    parser.add_argument("--rounds", type=int, default=5, help="times that each timed side has its turn")
    parser.add_argument("--mixtures", type=int, default=200, help="random mixtures")
    parser.add_argument("--fits", type=int, default=10, help="fits of the digits with different seeds")
    parser.add_argument("--flights", type=int, default=60, help="flights of the tracker")
    parser.add_argument("--only", default="", help="of random and digits: methods whose names begin like this")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.mixtures, args.fits, args.flights = 1, 3, 2, 2
    result: dict[str, Any] = {"machine": harness.machine()}
    for name in args.parts or PARTS:
        print(f"-- {name}", flush=True)
        result[name] = PARTS[name](args)
        if args.record and not args.quick:
            harness.record("mixtures.json", result, beside=True)


# ------------------------------------------------------------------------------------------------- the greedy stage


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """1,000 components in four dimensions into 50, pairs filtered, against the time and memory asked for."""
    count, left = (200, 20) if args.quick else (1000, 50)
    runs = timed_runs("filtered", args.rounds, count=count, left=left)
    row = {"components": count, "left": left, **runs}
    print(
        f"{count} into {left}: {row['seconds']:.2f} s (target {TIME_TARGET}), {row['peak_mb']:.0f} MB "
        f"(target {MEMORY_TARGET:.0f}), angle {row['angle']:.4f}, {row['evaluations']:,} candidates"
    )
    return row


def growth(args: argparse.Namespace) -> dict[str, Any]:
    """How the cost grows with the number of components: seconds ~ n^exponent, fitted to logs."""
    counts = (100, 200) if args.quick else (100, 200, 500, 1000, 2000)
    rows = {}
    for count in counts:
        rows[str(count)] = timed_runs("filtered", min(args.rounds, 3), count=count, left=count // 20)
        print(f"{count}: {rows[str(count)]['seconds']:.3f} s, {rows[str(count)]['peak_mb']:.0f} MB", flush=True)
    seconds = [rows[str(count)]["seconds"] for count in counts]
    exponent = float(np.polyfit(np.log(counts), np.log(seconds), 1)[0])
    print(f"seconds ~ n^{exponent:.2f}")
    return {"runs": rows, "exponent": exponent}


def plain(args: argparse.Namespace) -> dict[str, Any]:
    """All pairs, no filter: what is kept between rounds against searches that recompute everything.

    One of them has the same vectorised arithmetic and the same formula for what a merge changes; the other, up to fifty
    components, makes every candidate mixture and takes its distance, all candidates of a round in one batch.
    """
    rows = {}
    for count in (20, 30) if args.quick else (25, 50, 100, 150):
        settings = {"count": count, "left": max(count // 10, 2)}
        kept = timed_runs("unfiltered", args.rounds, **settings)
        rivals_ = ["recomputed", *(["defined"] if count <= 50 else [])]
        row = rows[str(count)] = {"seconds": {"kept": kept["seconds"]}, "ratio": {}}
        for name in rivals_:
            again = timed_runs(name, 1 if count > 50 or name == "defined" else args.rounds, **settings)
            if kept["labels"] != again["labels"]:
                raise SystemExit(f"{name}: other merges of {count} components")
            row["seconds"][name], row["ratio"][name] = again["seconds"], again["seconds"] / kept["seconds"]
        ratios = ", ".join(f"{name} {ratio:.1f} times as long" for name, ratio in row["ratio"].items())
        print(f"{count}: {kept['seconds']:.3f} s; {ratios} (target {RATIO_TARGET:.0f}); the same merges", flush=True)
    return rows


def timed_runs(worker: str, rounds: int, **settings: Any) -> dict[str, Any]:
    """Median seconds and highest peak over several processes."""
    with tempfile.TemporaryDirectory() as folder:
        reports = [harness.in_own_process(__file__, worker, Path(folder), **settings) for _ in range(rounds)]
    row: dict[str, Any] = reports[0]
    row["seconds_of_each_process"] = [report["seconds"] for report in reports]
    row["seconds"] = statistics.median(row["seconds_of_each_process"])
    row["peak_mb"] = max(report["peak_mb"] for report in reports)
    return row


def filtered(folder: str, count: int, left: int) -> dict[str, Any]:
    return timed(lambda f: merge_globally(f, left, "angle", keep=0, filter_cost=kl_bound), count)


def unfiltered(folder: str, count: int, left: int) -> dict[str, Any]:
    return timed(lambda f: merge_globally(f, left, "angle"), count)


def recomputed(folder: str, count: int, left: int) -> dict[str, Any]:
    return timed(lambda f: Recomputed(f, left), count)


def defined(folder: str, count: int, left: int) -> dict[str, Any]:
    return timed(lambda f: defined_search(f.mixture(), left), count)


def timed(search: Callable[[Gaussians], Any], count: int) -> dict[str, Any]:
    """One search of a random mixture, after a small one that loads what has to be loaded."""
    generator = torch.Generator().manual_seed(0)
    search(Gaussians.of(random_mixture(max(count // 10, 12), 4, generator)))
    f = random_mixture(count, 4, generator)
    parts = Gaussians.of(f)
    start = time.perf_counter()
    found = search(parts)
    seconds = time.perf_counter() - start
    labels = np.unique(found.labels, return_inverse=True)[1].tolist()
    angle = float(distance(f, found.components.mixture()))
    evaluations = found.evaluations
    report = {"seconds": seconds, "peak_mb": harness.peak_mb(), "angle": angle, "evaluations": evaluations}
    return report | {"labels": labels if count <= 200 else []}


def defined_search(f: GaussianMixture, left: int) -> Merged:
    """The definition, batched: all candidate mixtures of a round, and the distance of each to the original."""
    labels, evaluations = torch.arange(f.n_components), 0
    while (count := int(labels.max()) + 1) > left:
        i, j = torch.triu_indices(count, count, 1)
        groups = torch.arange(count).expand(len(i), -1)
        groups = torch.where(groups == j[:, None], i[:, None], groups - (groups > j[:, None]).long())
        values = []
        for portion in groups[:, labels].split(64):
            shares = torch.nn.functional.one_hot(portion, count - 1).double()
            batch = GaussianMixture(*(t.expand(len(portion), *t.shape) for t in f.tensors().values()), check=False)
            values.append(distance(f, merge_shares(batch, shares)))
        labels = groups[int(torch.cat(values).argmin())][labels]
        evaluations += len(i)
    return Merged(Gaussians.of(merge_groups(f, labels, left)), labels.numpy(), evaluations=evaluations)


class Recomputed:
    """A straightforward search: in every round, every pair's merge and its inner products with everything.

    It uses the same vectorised arithmetic and the same formula for what a merge changes; it only keeps nothing.
    """

    def __init__(self, f: Gaussians, left: int) -> None:
        self.f, self.components, self.labels, self.evaluations = f, f.copy(), np.arange(len(f)), 0
        self.scale = float(log_self(f).max())
        while len(self.components) > left:
            self._round()

    def _round(self) -> None:
        f, g, scale = self.f, self.components, self.scale
        i, j = np.triu_indices(len(g), 1)
        first, second = g.take(i), g.take(j)
        merge = merged(first, second)
        w, v, both = first.weights, second.weights, merge.weights
        gram = np.exp(log_table(g, g) - scale)
        with_f, with_g = np.exp(log_table(g, f) - scale) @ f.weights, gram @ g.weights
        merge_f = np.exp(log_table(merge, f) - scale) @ f.weights
        merge_g = np.exp(log_table(merge, g) - scale) @ g.weights
        lost = w**2 * gram[i, i] + v**2 * gram[j, j] + 2 * w * v * gram[i, j]
        lost += both**2 * np.exp(log_self(merge) - scale)
        lost -= 2 * both * (w * np.exp(log_pairs(first, merge) - scale) + v * np.exp(log_pairs(second, merge) - scale))
        a = float(f.weights @ np.exp(log_table(f, f) - scale) @ f.weights)
        b = g.weights @ with_f - (w * with_f[i] + v * with_f[j] - both * merge_f)
        c = g.weights @ with_g - 2 * (w * with_g[i] + v * with_g[j] - both * merge_g) + lost
        best = int(distance_of("angle", a, a - c, a - 2 * b + c).argmin())
        self.evaluations += len(i)
        keep = np.delete(np.arange(len(g)), j[best])
        self.components = g.take(keep)
        self.components.put(int(i[best]), merge.take([best]))
        self.labels = np.where(self.labels == j[best], i[best], self.labels - (self.labels > j[best]))


# -------------------------------------------------------------------------------------------------------- the rivals


def rivals(n_components: int, *, small: bool) -> dict[str, Reducer]:
    """Every method at the same number of components; OGGMR's two forms come first.

    CTDGMR begins with Runnalls' result, which is its best start; its paper's k-means stands beside it.
    """
    n: dict[str, Any] = {"n_components": n_components}
    best: dict[str, Any] = {"start": "runnalls"}
    methods: dict[str, Reducer] = {
        "oggmr": OGGMR(**n),
        "oggmr, greedy only": OGGMR(optimise=False, **n),
        "oggmr, greedy + weights": OGGMR(optimise=False, weights_qp=True, **n),
        "oggmr, 3 starts": OGGMR(starts=3, **n),
        "oggmr by nise": OGGMR(criterion="nise", **n),
        "salmond": Salmond(**n),
        "west (ise)": West(enhanced=False, **n),
        "west (kl)": West(enhanced=False, near="kl", **n),
        "enhanced west": West(**n),
        "cowa": COWA(**n),
        "runnalls": Runnalls(**n),
        "gmrc, clusters only": GMRC(optimise=False, **n),
        "gmrc": GMRC(**n),
        "williams, local": Williams(merge_cost="local", optimise=False, **n),
        "williams, global": Williams(optimise=False, **n),
        "williams, optimised": Williams(**n),
        "ctdgmr (kl)": CTDGMR(**best, **n),
        "ctdgmr (w2)": CTDGMR(cost="w2", **best, **n),
        "ctdgmr (ise)": CTDGMR(cost="ise", **best, **n),
        "ctdgmr (cs)": CTDGMR(cost="cauchy_schwarz", **best, **n),
        "ctdgmr (kl, entropic)": CTDGMR(regularisation=0.1, **best, **n),
        "ctdgmr (kl), from k-means": CTDGMR(**n),
        "direct ise": Direct(criterion="ise", **n),
        "direct nise": Direct(**n),
        "direct cs": Direct(criterion="cauchy_schwarz", **n),
    }
    return methods | ({"brute force": BruteForce(**n)} if small else {})


def random(args: argparse.Namespace) -> dict[str, Any]:
    """Random 4-D mixtures of ten components into five."""
    generator = torch.Generator().manual_seed(0)
    mixtures = [random_mixture(10, 4, generator) for _ in range(args.mixtures)]
    return compared(mixtures, rivals(5, small=True), args.only)


def digits(args: argparse.Namespace) -> dict[str, Any]:
    """The digits' mixture of forty components into ten, fitted from several seeds."""
    mixtures = [digits_mixture(random_state=seed) for seed in range(args.fits)]
    return compared(mixtures, rivals(10, small=False), args.only)


def compared(mixtures: Sequence[GaussianMixture], methods: dict[str, Reducer], only: str) -> dict[str, Any]:
    """Distances, time and evaluations of every method whose name begins with `only`, and how often OGGMR is nearer."""
    found: dict[str, dict[str, list[float]]] = {}
    chosen = [name for name in methods if name.startswith(only)]
    for name, method in methods.items():
        if name not in (*OURS, *chosen):
            continue
        rows = found[name] = {key: [] for key in (*KINDS, "seconds", "evaluations")}
        for number, f in enumerate(mixtures):
            reduction = method.reduce(f, seed=number)
            for kind in KINDS:
                rows[kind].append(reduction.distance(f, kind))
            rows["seconds"].append(reduction.seconds)
            rows["evaluations"].append(float(reduction.evaluations))
    result = {}
    for name in chosen:
        rows = found[name]
        result[name] = {key: summary(values) for key, values in rows.items()}
        for ours in OURS:
            if name != ours:
                result[name][f"{ours} nearer"] = {
                    kind: win_rate(found[ours][kind], rows[kind]) for kind in ("angle", "nise")
                }
    print(table(result))
    return result


def summary(values: list[float]) -> dict[str, float]:
    return {
        "mean": statistics.fmean(values),
        "median": statistics.median(values),
        "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
    }


def win_rate(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """The share of mixtures on which ours is nearer, of those where they differ, with Wilson's 95 % interval."""
    from scipy.stats import binomtest

    apart = [(one, other) for one, other in zip(ours, theirs, strict=True) if abs(one - other) > 1e-6]
    if not apart:
        return {"share": math.nan, "low": math.nan, "high": math.nan, "differ": 0}
    won = sum(one < other for one, other in apart)
    interval = binomtest(won, len(apart)).proportion_ci(method="wilson")
    share = won / len(apart)
    return {"share": share, "low": float(interval.low), "high": float(interval.high), "differ": len(apart)}


def table(result: dict[str, Any]) -> str:
    from rich.table import Table

    grid = Table(box=None, pad_edge=False)
    columns = ("method", "ISE", "NISE", "angle", "ms", "evaluations", "OGGMR nearer", "by NISE", "its greedy nearer")
    for column in columns:
        grid.add_column(column, justify="left" if column == "method" else "right")
    for name, row in result.items():
        grid.add_row(
            name,
            f"{row['ise']['mean']:.4f} ± {row['ise']['sd']:.4f}",
            f"{row['nise']['mean']:.4f}",
            f"{row['angle']['mean']:.4f}",
            f"{1e3 * row['seconds']['median']:.1f}",
            f"{row['evaluations']['mean']:,.0f}",
            *(share(row, ours, kind) for ours, kind in COMPARISONS),
        )
    return as_text(grid)


COMPARISONS = (("oggmr", "angle"), ("oggmr", "nise"), ("oggmr, greedy only", "angle"))


def share(row: dict[str, Any], ours: str, kind: str) -> str:
    rate = row.get(f"{ours} nearer", {}).get(kind)
    if rate is None:
        return ""
    if not rate["differ"]:
        return "never differ"
    return f"{100 * rate['share']:.0f} % [{100 * rate['low']:.0f}, {100 * rate['high']:.0f}]"


# ------------------------------------------------------------------------------------------------------- downstream


def tracking(args: argparse.Namespace) -> dict[str, Any]:
    """The same flights followed with every reducer: error, lost tracks, time of a reduction, angle lost by it."""
    scenario = Scenario(steps=6) if args.quick else Scenario()
    flights = [fly(scenario, torch.Generator().manual_seed(number)) for number in range(args.flights)]
    n: dict[str, Any] = {"n_components": 5}
    methods: dict[str, Reducer] = {
        "one gaussian": Runnalls(n_components=1),
        "salmond": Salmond(**n),
        "enhanced west": West(**n),
        "cowa": COWA(**n),
        "runnalls": Runnalls(**n),
        "gmrc, clusters only": GMRC(optimise=False, **n),
        "williams, local": Williams(merge_cost="local", optimise=False, **n),
        "oggmr, greedy only": OGGMR(optimise=False, **n),
        "oggmr": OGGMR(iterations=100, **n),
        "runnalls, 40 left": Runnalls(n_components=40),
    }
    errors: dict[str, list[float]] = {}
    result = {}
    for name, method in methods.items():
        tracks = [track(scenario, flight, method) for flight in flights]
        errors[name] = [one.root_mean_square for one in tracks]
        result[name] = {
            "rmse": summary(errors[name]),
            "lost": sum(one.lost for one in tracks),
            "components_before": float(torch.stack([one.grown for one in tracks]).mean()),
            "milliseconds": 1e3 * float(torch.stack([one.seconds for one in tracks]).median()),
            "angle": float(torch.stack([one.angles for one in tracks]).mean()),
        }
        row = result[name]
        print(
            f"{name}: error {row['rmse']['mean']:.2f} m (median {row['rmse']['median']:.2f}), {row['lost']} of "
            f"{len(flights)} lost, {row['components_before']:.0f} components before, "
            f"{row['milliseconds']:.1f} ms a reduction, angle {row['angle']:.4f}",
            flush=True,
        )
    for name in methods:
        if name != "runnalls":
            gap = paired(errors[name], errors["runnalls"])
            result[name]["rmse_minus_runnalls"] = [gap.difference, gap.low, gap.high]
            print(f"{name} - runnalls: {gap.difference:+.2f} m [{gap.low:+.2f}, {gap.high:+.2f}]")
    return result


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "speed": speed,
    "growth": growth,
    "plain": plain,
    "random": random,
    "digits": digits,
    "tracking": tracking,
}
WORKERS = {"filtered": filtered, "unfiltered": unfiltered, "recomputed": recomputed, "defined": defined}

if __name__ == "__main__" and not harness.run_worker(WORKERS):
    main()
