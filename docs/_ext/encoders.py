"""Tables of encoders, as they are recorded in `bench/results/`. What is not recorded yet is left out."""

from collections.abc import Callable, Iterator, Mapping
from statistics import fmean

from results import Facts, lowest, recorded, there, times, took

from attar.core.card import table
from attar.core.score import Interval, Score, paired

Seeds = Mapping[str, Mapping[str, float]]
"""What was measured, by seed and by name."""
WORDS = {
    "multilabel": """### Several labels

`bench/multilabel.py`. Each seed is a split and a training, the same for all rows, so differences are in pairs of seeds.
The score of a method is that of its classifier, or of a linear probe on its features. Rows at the end train no
encoder.""",
    "self_supervised": """### Without labels

`bench/self_supervised.py`: 5,000 images of CIFAR-10, balanced and with a long tail, and a small ConvNet. Each seed is a
draw of the images and a training, the same for all rows. Scores are on 2,000 balanced test images.""",
    "few_shot": """### New classes

`bench/few_shot.py`. Omniglot: the 59 characters of Sanskrit and Tagalog are tested, the other 183 learned from. Digits:
5 to 9 are tested, 0 to 4 learned from. All rows of a seed have the same episodes.""",
}
"""What stands above a table, by its file."""
RIVAL, RANDOM, SIMCLR, PROTONET = "BCE", "random encoder, linear probe", "simclr", "protonet, unsquared"


def several_labels() -> str:
    """Samples with several labels: every row, in pairs of seeds with end-to-end training and with a random encoder."""
    return _parts(recorded("multilabel")["data"], _of_several_labels)


def _of_several_labels(cells: Facts) -> str:
    found: dict[str, Seeds] = {name: row["seeds"] for name, row in cells["rows"].items()}
    found |= _turned(cells.get("beside", {}))
    rival = next((name for name in found if name.startswith(RIVAL)), None)
    rows = []
    for name, seeds in found.items():
        gains = [_gain(seeds, found.get(other or "", {}), "map") if other != name else "" for other in (rival, RANDOM)]
        rows.append((name, _score(seeds, "map"), *gains, _score(seeds, "micro_f1")))
    return table(("row", "mAP, %", "over BCE, same views", "over a random encoder", "OF1, %"), rows)


def _turned(beside: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, dict[str, float]]]:
    """Rivals by name and seed, in place of by seed and name."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for seed, values in beside.items():
        for name, value in values.items():
            found.setdefault(name, {})[seed] = {"map": value}
    return found


def without_labels() -> str:
    """Encoders trained without labels: neighbours and a probe, in pairs of seeds with SimCLR."""
    return _parts(recorded("self_supervised")["data"], _of_two_views)


def _of_two_views(cells: Facts) -> str:
    found: dict[str, Seeds] = {name: row["seeds"] for name, row in cells["rows"].items()}
    rows = []
    for name, seeds in found.items():
        measured = []
        for measure in ("knn", "probe"):
            gain = _gain(seeds, found.get(SIMCLR, {}), measure) if name != SIMCLR else ""
            measured += [_score(seeds, measure), gain]
        rows.append((name, *measured, _score(seeds, "knn, rare classes"), _mean(seeds, "seconds", ".0f")))
    heads = ("row", "kNN, %", "over SimCLR", "probe, %", "over SimCLR", "kNN, three rarest classes, %", "seconds")
    return table(heads, rows)


def few_shots() -> str:
    """New classes: accuracy over episodes, in pairs of seeds with a prototypical network."""
    found = recorded("few_shot")
    return _parts({name: facts for name, facts in found.items() if name != "machine"}, _of_few_shots)


def _of_few_shots(facts: Facts) -> str:
    columns = list(next(iter(facts["rows"].values())))
    rows = []
    for name, cells in facts["rows"].items():
        scores = [Score.of(cells[column]["seeds"]).number if column in cells else "" for column in columns]
        rows.append((name, *scores))
    gains = [
        (name, *(_difference(cells, column) for column in columns))
        for name, cells in facts["rows"].items()
        if name != PROTONET
    ]
    over = table((f"minus {PROTONET}", *columns), gains)
    return f"{table(('row, %', *columns), rows)}\n\n{over}"


def _difference(cells: Facts, column: str) -> str:
    """A recorded difference with its interval."""
    found = cells.get(column, {}).get(f"minus {PROTONET}")
    if found is None:
        return ""
    known = None not in (found["low"], found["high"])
    return str(Interval(**found)) if known else f"{found['difference']:+.1f}"


def small_batches() -> str:
    """The mean gradient of small batches beside that of the whole set."""
    rows = []
    for gamma, facts in recorded("small_batches")["gradients"].items():
        name = f"{gamma} (the batch alone, as SimCLR)" if gamma == "1" else gamma
        rows.append((name, f"{facts['cosine']:.3f}", f"{facts['length']:.2f}"))
    return table(("γ", "cosine with the gradient of the set", "length, relative to it"), rows)


def temperatures() -> str:
    """The temperature of a sample and the size of its class."""
    rows = []
    for rho, facts in recorded("small_batches")["temperatures"].items():
        found, ordered = facts["random_orders"], facts["in_order"]["spearman"]
        ends = f"{found['mean_temperature'][0]:.2f}, {found['mean_temperature'][-1]:.2f}"
        rows.append((rho, f"{ordered:+.2f}", f"{found['spearman']:+.2f} ± {found['deviation']:.2f}", ends))
    sizes = recorded("small_batches")["temperatures"]["0.4"]["class_sizes"]
    heads = ("rank correlation, frequent classes alike", "over random orders of the classes")
    return table(("ρ", *heads, f"mean τ of classes of {sizes[0]} and of {sizes[-1]} images"), rows)


def steps() -> Iterator[tuple[str, ...]]:
    """Losses and scores beside their rivals, as rows of the table of speed."""
    if there("contrast"):
        for name in recorded("contrast")["rows"]:
            yield _contrast(name)
    if there("mixture_similarity"):
        for name in recorded("mixture_similarity")["parts"]:
            yield _similarity(name)
    if there("multilabel_map"):
        for name, words in (("distinct", "distinct scores"), ("ties", "nearly all scores tied")):
            yield _average_precision(name, words)


def _contrast(name: str) -> tuple[str, ...]:
    facts = lowest("contrast", lambda all_: all_["rows"][name], lambda row: row["ratio"]["attar"])
    loss, _, views = name.partition("-")
    sides = [f"{took(facts['seconds'][side])}, {_megabytes(facts['peak_mb'][side])}" for side in ("rival", "attar")]
    what = {"supcon": "SupCon", "nt_xent": "NT-Xent"}[loss]
    return f"{what} of {int(views):,} views, rival pytorch-metric-learning", *sides, times(facts["ratio"]["attar"])


def _similarity(name: str) -> tuple[str, ...]:
    facts = lowest("mixture_similarity", lambda all_: all_["parts"][name], lambda row: row.get("ratio", 0.0))
    sides = [
        f"{took(facts[side]['seconds'])}, {_megabytes(facts[side]['mb'])}" if side in facts else ""
        for side in ("rival", "attar")
    ]
    what = f"similarities of {'KMCL' if 'kernels' in name else 'ProbMCL'}, {_sizes(name, facts['sizes'])}"
    return what, *sides, times(facts["ratio"]) if "ratio" in facts else ""


def _sizes(name: str, sizes: Facts) -> str:
    form = name.partition(", ")[2] or "isotropic"
    count = f"{sizes['classes']} classes" if "classes" in sizes else f"{sizes['components']} components"
    width = f", D = {sizes['d']}" if sizes["d"] else ""
    return f"{form}, {sizes['samples']} samples, {count}{width}"


def _average_precision(name: str, words: str) -> tuple[str, ...]:
    facts = lowest("multilabel_map", lambda all_: all_, lambda one: _lead(one, name))
    seconds = facts["seconds"][name]
    what = f"mAP of {facts['samples']:,} × {facts['classes']}, {words}, rival scikit-learn"
    return what, took(seconds["scikit-learn"]), took(seconds["attar"]), times(_lead(facts, name))


def _lead(facts: Facts, name: str) -> float:
    lead: float = facts["seconds"][name]["scikit-learn"] / facts["seconds"][name]["attar"]
    return lead


def _megabytes(megabytes: float) -> str:
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{max(megabytes, 0.0):.0f} MB"


# ------------------------------------------------------------------------------------------------------------ the parts


def _parts(found: Mapping[str, Facts], made: Callable[[Facts], str]) -> str:
    """One table for each part, below its name."""
    parts = []
    for name, facts in found.items():
        about = facts.get("source", "").partition(": ")[2] or _about(facts.get("about", {}))
        parts.append(f"**{name}**{f' ({about})' if about else ''}\n\n{made(facts)}")
    return "\n\n".join(parts)


def _about(facts: Facts) -> str:
    if not facts:
        return ""
    trained = f"{facts['encoder']}, {facts['epochs']} epochs of 100 episodes"
    return f"{trained}, tested on {facts['episodes_tested']} episodes, {facts['seeds']} seeds"


def _score(seeds: Seeds, measure: str) -> str:
    values = [one[measure] for one in seeds.values() if measure in one]
    return Score.of(values).number if values else ""


def _mean(seeds: Seeds, measure: str, form: str) -> str:
    values = [one[measure] for one in seeds.values() if measure in one]
    return f"{fmean(values):{form}}" if values else ""


def _gain(seeds: Seeds, others: Seeds, measure: str) -> str:
    """The difference over the seeds that both have."""
    both = [seed for seed in seeds if seed in others]
    return str(paired(*([side[seed][measure] for seed in both] for side in (seeds, others)))) if both else ""


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "several labels": ("multilabel", several_labels),
    "without labels": ("self_supervised", without_labels),
    "few shots": ("few_shot", few_shots),
    "small batches": ("small_batches", small_batches),
    "temperatures": ("small_batches", temperatures),
}
"""By name, the file of a table and what makes it."""


def filled(name: str) -> Callable[[], str]:
    """What makes a table; nothing as long as its file is not recorded."""
    file, made = TABLES[name]
    above = f"{WORDS[file]}\n\n" if file in WORDS else ""
    return lambda: f"{above}{made()}" if there(file) else ""


def sentences() -> Iterator[tuple[str, str]]:
    """Figures in running text."""
    if there("small_batches"):
        facts = recorded("small_batches")["gradients"]
        yield "measured.md", f"alone has {100 * facts['1']['length']:.0f} % of its length"
        yield "measured.md", f"γ = 0.03 it has {100 * facts['0.03']['length']:.0f} %"
        found = recorded("small_batches")["temperatures"]["0.4"]
        alike, orders = (found[name]["spearman"] for name in ("in_order", "random_orders"))
        yield "measured.md", f"correlation is {alike:.1f} if the classes that look most alike"
        yield "measured.md", f"and {orders:.1f} over random orders"
