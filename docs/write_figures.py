"""Fill the tables of README.md and of the pages with the figures that are recorded in `bench/results/`.

    python docs/write_figures.py

A table stands between `<!-- figures: NAME -->` and `<!-- /figures -->`. A test compares, and sees that the figures in
running text (`sentences`) are those that were recorded. Tables of speed, mixtures and convolutions are not filled yet.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attar.bench.tables import KINDS, QUICKLY, Cell, over, share
from attar.bench.tables import table as grid
from attar.core.card import table
from attar.core.kinds import kind_named
from attar.core.progress import as_text
from attar.core.registry import METHODS
from attar.core.score import Interval, Score, paired
from attar.graphs.crossvalidation import corrected_interval
from attar.images.sources import load

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "bench" / "results"
PAGES = (DOCS.parent / "README.md", DOCS / "choosing.md", DOCS / "measured.md")
MARKED = re.compile(r"(<!-- figures: (.+?) -->\n).*?(\n<!-- /figures -->)", re.DOTALL)
LABELS = {"jsd 0.5": "JSD 0.5", "sft": "SFT"}
"""Rows of the language tables by another name."""
TWO_CLASSES = ("two classes", "subclass", "SKD")
"""Beginnings of rows that are compared with other rows of two classes."""


def recorded(name: str) -> dict[str, Any]:
    """A file of `bench/results/`."""
    facts: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return facts


def cells_of(facts: dict[str, Any]) -> list[Cell]:
    """The cells of a recorded table."""
    return [Cell(**{**cell, "values": tuple(map(tuple, cell["values"]))}) for cell in facts["cells"]]


def digits() -> str:
    """What `make demo` prints."""
    facts = recorded("digits")
    cells = [Cell(**{**vars(cell), "labels": "soft" if cell.label == "RDED" else "hard"}) for cell in cells_of(facts)]
    source, full = load("digits"), Score(**facts["full"])
    protocol = f"{facts['protocol']['name']} protocol: {facts['protocol']['epochs']} epochs. {QUICKLY}."
    foot = "± over sets and networks; seconds of one set; 95 % intervals by Welch over condensed sets."
    return "\n".join(["```", str(source), protocol, as_text(grid(cells, full, None, source, "digits")), foot, "```"])


def leagues() -> str:
    """Every family on digits, by what networks learn."""
    facts, source = recorded("digits_all"), load("digits")
    full = Score(**facts["full"])
    rows = [["all", "hard", "full data", full.number, "", "100.0", f"{source.bytes:,}", "0.6"]]
    cells = cells_of(facts)
    for ipc in sorted({cell.ipc for cell in cells}):
        here = sorted((cell for cell in cells if cell.ipc == ipc), key=lambda cell: KINDS.index(cell.labels))
        random = next(cell for cell in here if cell.label == "random")
        for cell in here:
            gain = "" if cell is random else str(over(cell, random))
            sizes = [f"{cell.bytes:,}", f"{cell.seconds:.1f}"]
            rows.append([str(ipc), cell.labels, cell.label, cell.score.number, gain, share(cell.score, full), *sizes])
    return table(("per class", "learn", "method", "accuracy %", "over random", "kept", "bytes", "seconds"), rows)


def cifar10() -> str:
    """CIFAR-10, one image per class, beside the published figures."""
    from attar.bench.published import published
    from attar.bench.tables import NAMES

    known = published("cifar10", 1)
    rows = []
    for cell in cells_of(recorded("cifar10")):
        printed = known.get(NAMES.get(cell.label, cell.label.lower()), "")
        rows.append((cell.label, cell.score.number, f"{cell.seconds:.1f}", printed))
    return table(("method", "accuracy %", "seconds", "published %"), rows)


def students(name: str) -> Callable[[], str]:
    """Students by every method, in pairs of seeds with the student alone and with KD."""

    def filled() -> str:
        found = {label: row["values"] for label, row in recorded(f"distillation_{name}")["rows"].items()}
        rows = []
        for label, values in found.items():
            two = label.startswith(TWO_CLASSES)
            rivals = ("two classes", "subclass labels") if two else ("student alone", "KD")
            gains = ["" if label == rival else str(paired(values, found[rival])) for rival in rivals]
            rows.append((label, Score.of(values).number, *gains))
        return table(("method", "accuracy %", "over the student alone", "over KD"), rows)

    return filled


def sweep() -> str:
    """Labels and a teacher's logits on one head and on two, at several step sizes."""
    facts = recorded("distillation_digits_sweep")
    rows = [(label, *(Score.of(cell["values"]).number for cell in row)) for label, row in facts["rows"].items()]
    return table(("accuracy %", *(f"lr {rate:g}" for rate in facts["rates"])), rows)


def language(data: str) -> Callable[[], str]:
    """Language models: divergences, then each level with all before it."""

    def filled() -> str:
        found = dict(recorded("language")["cells"][data])
        teacher = found.pop("teacher")
        names = list(found)
        before = dict(zip(names[6:], ["forward", *names[6:-1]], strict=True))
        rows = [("teacher", _three(teacher["cross_entropy"]), "", "", *_text(teacher), "")]
        for name, seeds in found.items():
            entropy = [one["cross_entropy"] for one in seeds]
            rivals = [other if other in found and other != name else None for other in ("sft", before.get(name))]
            gains = [_nats(paired(entropy, [one["cross_entropy"] for one in found[r]])) if r else "" for r in rivals]
            score = Score.of(entropy)
            spread = f" ± {_three(score.spread)}" if score.spread is not None else ""
            own = _three(_mean(seeds, "own_divergence"))
            text = _text({name: _mean(seeds, name) for name in ("rouge_l", "repetition")})
            rows.append((LABELS.get(name, name), f"{_three(score.value)}{spread}", *gains, *text, own))
        heads = ("cross-entropy, nats", "minus SFT", "minus the row it builds on", "ROUGE-L", "repetition")
        return table(("row", *heads, "divergence on own answers"), rows)

    return filled


def _mean(seeds: list[dict[str, float]], name: str) -> float:
    return sum(one[name] for one in seeds) / len(seeds)


def _three(value: float) -> str:
    return f"{value:.3f}"


def _text(measures: dict[str, float]) -> tuple[str, str]:
    return f"{measures['rouge_l']:.1f}", _three(measures["repetition"])


def _nats(found: Interval) -> str:
    return f"{found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def graphs() -> str:
    """Condensed graphs over ten folds, differences with corrected intervals."""
    rows = []
    for name, cell in recorded("graphs")["cells"].items():
        last = {row["method"].removeprefix("graph-"): row["last"] for row in cell["rows"]}

        def gain(method: str, rival: str, last: Any = last, ratio: float = cell["test_to_train"]) -> str:
            return str(corrected_interval(last[method], last[rival], ratio))

        mean = {method: f"{sum(values) / len(values):.1f}" for method, values in last.items()}
        real = [mean[method] for method in ("start", "random", "herding", "k-center")]
        ours = [mean["gstam"], gain("gstam", "start"), gain("gstam", "herding")]
        rows.append([name.removesuffix(" per class"), *real, mean["doscond"], gain("doscond", "start"), *ours])
    heads = ("start", "random", "herding", "K-center", "DosCond", "over start", "GSTAM", "over start", "over herding")
    return table(("data, per class", *heads), rows)


def families() -> str:
    """All methods by what one holds and how they go about it."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for entry in METHODS.values():
        place = (kind_named(entry.kind).holds, entry.verb, entry.family)
        groups.setdefault(place, []).append(f"`{entry.name}`")
    rows = [(holds, f"`attar {verb}`", family, " ".join(names)) for (holds, verb, family), names in groups.items()]
    return table(("what one holds", "verb", "family", "methods"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "methods": families,
    "digits": digits,
    "digits-all": leagues,
    "cifar10": cifar10,
    "students of digits": students("digits"),
    "students of cifar10": students("cifar10"),
    "two heads or one": sweep,
    "tinyshakespeare": language("tinyshakespeare"),
    "t0-instructions": language("t0-instructions"),
    "graphs": graphs,
}


def sentences() -> Iterator[tuple[str, str]]:
    """Figures in running text, by page: each must stand there as it was recorded."""
    for name in ("cifar_families", "atom_cifar10_subset"):
        for cell in cells_of(recorded(name)):
            yield "measured.md", cell.score.number
    comp_dd = recorded("comp_dd_tiny43")
    for half in ("easy", "hard"):
        for cell in cells_of(comp_dd[half]):
            yield "measured.md", cell.score.number
    for cell in cells_of(recorded("fine_grained")["tables"]["dogs, 1"]):
        yield "measured.md", cell.score.number
    for row in recorded("continual_digits")["methods"].values():
        last = [sum(order[-1]) / len(order[-1]) for order in row["values"]]
        yield "measured.md", Score.of(last).number
    best = next(cell for cell in cells_of(recorded("digits_all")) if (cell.label, cell.ipc) == ("DM", 1))
    yield "measured.md", f"({best.score.number})"
    yield "README.md", f"DM {best.score.number}"


def written(page: str) -> str:
    """A page with its tables as recorded."""

    def fill(found: re.Match[str]) -> str:
        return f"{found[1]}{TABLES[found[2]]()}{found[3]}"

    return MARKED.sub(fill, page)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(written(path.read_text()))
    for page, figure in sentences():
        path = next(path for path in PAGES if path.name == page)
        if figure not in " ".join(path.read_text().split()):
            print(f"{page} does not say {figure}")
