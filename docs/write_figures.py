"""Fill the tables of README.md and of the pages.

    python docs/write_figures.py

A table stands between `<!-- figures: NAME -->` and `<!-- /figures -->`. Figures come from `bench/results/`, lists of
kinds, methods and files from attar itself. A test compares, and sees that the figures in running text (`sentences`) are
those that were recorded.
"""

import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from attar.bench.cells import KINDS, NAMES, Cell, foot, lines, over, share
from attar.bench.published import published
from attar.bench.tables import QUICKLY
from attar.core.card import table
from attar.core.score import Interval, Score, paired, welch
from attar.graphs.crossvalidation import corrected_interval
from attar.images.sources import load

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

import encoders  # noqa: E402
import fair  # noqa: E402
import generators  # noqa: E402
import lists  # noqa: E402
import little  # noqa: E402
import plasmas  # noqa: E402
import speed  # noqa: E402
from results import recorded  # noqa: E402

PAGES = (DOCS.parent / "README.md", *sorted(DOCS.glob("[a-z]*.md")))
MARKED = re.compile(r"(<!-- figures: (.+?) -->\n).*?(<!-- /figures -->)", re.DOTALL)
LABELS = {"jsd 0.5": "JSD 0.5", "sft": "SFT"}
"""Rows of the language tables by another name."""
TITLES = {"random": "random", "class-mean": "class mean", "sre2l": "SRe2L", "relabel": "random, soft labels"}
"""Methods whose names in tables are not their names in capital letters."""
TWO_CLASSES = ("two classes", "subclass", "SKD")
"""Beginnings of rows that are compared with other rows of two classes."""


def cells_of(facts: dict[str, Any]) -> list[Cell]:
    """The cells of a recorded table."""
    return [Cell.from_json(cell) for cell in facts["cells"]]


def demo() -> str:
    """What `make demo` prints."""
    facts = recorded("demo")
    cells = cells_of(facts)
    source, full = load("digits"), Score(**facts["full"])
    protocol = f"{facts['protocol']['name']} protocol: {facts['protocol']['epochs']} epochs. {QUICKLY}."
    width = max(len(cell.label) for cell in cells)
    printed = lines(cells, full, None, source, "digits", width)
    return "\n".join(["```text", str(source), protocol, *printed, *foot(cells), "```"])


def five_rows() -> str:
    """Five rows of the demo's table, at ten images per class."""
    facts = recorded("demo")
    cells = [cell for cell in cells_of(facts) if cell.ipc == 10]
    random = next(cell for cell in cells if cell.label == "random")
    full = Score(**facts["full"])
    rows = [("all 1,297 images", full.number, "", f"{load('digits').bytes:,}")]
    for cell in cells:
        gain = "" if cell is random else str(over(cell, random))
        rows.append((f"{cell.label}, 10 images per class", cell.score.number, gain, f"{cell.bytes:,}"))
    return table(("networks are trained on", "test accuracy, %", "over random images [95 % interval]", "bytes"), rows)


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
            sizes = [f"{cell.bytes:,}", cell.time]
            rows.append([str(ipc), cell.labels, cell.label, cell.score.number, gain, share(cell.score, full), *sizes])
    return table(("per class", "learn", "method", "accuracy %", "over random", "kept", "bytes", "seconds"), rows)


def cifar10() -> str:
    """CIFAR-10, one image per class, beside the published figures."""
    known = published("cifar10", 1)
    rows = []
    for cell in cells_of(recorded("cifar10")):
        printed = known.get(NAMES.get(cell.label, cell.label.lower()), "")
        rows.append((cell.label, cell.score.number, f"{cell.bytes:,}", cell.time, printed))
    return table(("method", "accuracy %", "bytes", "seconds", "published %"), rows)


def families() -> str:
    """CIFAR-10 by one method of each family, beside the published figures."""
    known = published("cifar10", 1)
    cells = cells_of(recorded("cifar_families"))
    random = cells[0]
    rows = []
    for cell in cells:
        gain = "" if cell is random else str(over(cell, random))
        printed = known.get(cell.label.partition(":")[0], "")
        rows.append((titled(cell), cell.score.number, gain, f"{cell.bytes:,}", printed))
    return table(("method", "accuracy %", "over random", "bytes", "published %"), rows)


def easy_and_hard() -> str:
    """Methods on the classes that are easy and on those that are hard to look at."""
    facts = recorded("comp_dd_tiny43")
    halves = [facts[half] for half in ("easy", "hard")]
    empty = [f"{half['complexity']:.1f}" for half in halves]
    full = [Score(**half["full"]).number if half.get("full") else "" for half in halves]
    rows = [("complexity: the share of a picture that its map leaves out", *empty, "")]
    rows += [("all the data", *full, "")] if any(full) else []
    for easy, hard in zip(*(cells_of(half) for half in halves), strict=True):
        gap = welch(hard.by_set, easy.by_set)
        rows.append((titled(easy), easy.score.number, hard.score.number, str(gap)))
    return table(("method", "easy, %", "hard, %", "hard minus easy"), rows)


def titled(cell: Cell) -> str:
    """The method of a row without its settings, as tables have it."""
    name = cell.label.partition(":")[0]
    return TITLES.get(name, name.upper())


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


def graph_bytes() -> str:
    """The bytes of those sets, on average over folds."""
    rows = []
    for name, cell in recorded("graphs")["cells"].items():
        size = {row["method"].removeprefix("graph-"): row["bytes"] for row in cell["rows"]}
        methods = ("start", "random", "herding", "k-center", "doscond", "gstam")
        rows.append([name.removesuffix(" per class"), *(f"{size[method]:,.0f}" for method in methods)])
    return table(("bytes, per class", "start", "random", "herding", "K-center", "DosCond", "GSTAM"), rows)


TABLES: dict[str, Callable[[], str]] = {
    **speed.TABLES,
    "kinds": partial(lists.kinds, "docs/"),
    "kinds of the docs": lists.kinds,
    "methods": lists.all_methods,
    "house": lists.house,
    "device copies": lists.device_copies,
    "demo": demo,
    "five rows": five_rows,
    "digits-all": leagues,
    "cifar10": cifar10,
    "families of cifar10": families,
    "easy and hard classes": easy_and_hard,
    "students of digits": students("digits"),
    "students of cifar10": students("cifar10"),
    "two heads or one": sweep,
    "tinyshakespeare": language("tinyshakespeare"),
    "t0-instructions": language("t0-instructions"),
    "graphs": graphs,
    "graph bytes": graph_bytes,
    **{name: encoders.filled(name) for name in encoders.TABLES},
    **{name: little.filled(name) for name in little.TABLES},
    **fair.TABLES,
    **generators.TABLES,
    **plasmas.TABLES,
}


def sentences() -> Iterator[tuple[str, str]]:
    """Figures in running text, by page: each must stand there as it was recorded."""
    yield from speed.sentences()
    yield from encoders.sentences()
    yield from little.sentences()
    yield from plasmas.sentences()
    yield from (("measured.md", text) for text in (*_of_images(), *_of_graphs(), *_of_students(), *_of_language()))
    cells = cells_of(recorded("digits_all"))
    taught = {cell.label: cell for cell in cells if (cell.ipc, cell.labels) == (10, "taught")}
    for page in ("measured.md", "choosing.md", "numbers.md"):
        yield page, taught["random, taught"].score.number
    yield "numbers.md", taught["RDED, taught"].score.number
    yield "choosing.md", taught["SRe2L"].score.number
    easy = {cell.label: cell for cell in cells_of(recorded("comp_dd_tiny43")["easy"])}
    scores = {name: f"{cell.score.value:.1f}" for name, cell in easy.items()}
    datm, mtt = (next(score for name, score in scores.items() if name.startswith(method)) for method in ("datm", "mtt"))
    yield "choosing.md", f"DATM {datm}, MTT {mtt}, random {scores['random']} %"
    yield "numbers.md", f"{Score(**recorded('demo')['full']).number}"


def _of_images() -> Iterator[str]:
    digits = {(cell.label, cell.ipc): cell.score for cell in cells_of(recorded("digits_all"))}
    one = {name: f"{digits[name, 1].value:.1f}" for name in ("random", "class mean")}
    best = digits["DM", 1].number
    yield f"random {one['random']}, class mean {one['class mean']}, DM {best}"
    yield f"K-center chooses reach {digits['K-center', 10].value:.1f}"
    yield f"({best})"
    yield f"({digits['DSA', 1].value:.1f}, {digits['DCC', 1].value:.1f})"
    names = {"SRe2L": "SRe2L", "CDA": "CDA", "RDED": "RDED, taught"}
    yield ", ".join(f"{name} {digits[label, 10].value:.1f}" for name, label in names.items())
    cifar = {cell.label: cell.score for cell in cells_of(recorded("cifar10"))}
    known = published("cifar10", 1)
    printed = {name: f"{known[name.lower()].value:.1f}" for name in ("DM", "DataDAM")}
    yield f"DM {cifar['DM'].value:.1f} (published: {printed['DM']})"
    yield f"DataDAM {cifar['DataDAM'].value:.1f} (published: {printed['DataDAM']}"
    for cell in cells_of(recorded("atom_cifar10_subset")):
        yield cell.score.number
    subset = {cell.label.split(":")[0].lower(): cell.by_set for cell in cells_of(recorded("atom_cifar10_subset"))}
    yield str(paired(subset["atom"], subset["datadam"]))
    dogs = recorded("fine_grained")["tables"]["dogs, 1"]
    yield f"all the data {dogs['full']['value']:.1f}"
    for cell in cells_of(dogs):
        yield cell.score.number
    found = recorded("continual_digits")["methods"]
    last = {name: [sum(order[-1]) / len(order[-1]) for order in row["values"]] for name, row in found.items()}
    for values in last.values():
        yield Score.of(values).number
    yield str(paired(last["dm:steps=100"], last["random"]))
    ranks = {row["way"].split(":")[0]: row["rho_all"] for row in recorded("search_digits")["rows"]}
    names = {"random": "random", "DM": "dm", "DataDAM": "datadam", "as many steps on all the data": "early stopping"}
    yield ", ".join(f"{name} {ranks[way]:.2f}" for name, way in names.items())


def _of_graphs() -> Iterator[str]:
    cell = recorded("graphs")["cells"]["NCI1, 10 per class"]
    last = {row["method"]: row["last"] for row in cell["rows"]}
    yield str(corrected_interval(last["doscond"], last["graph-start"], cell["test_to_train"]))


def _of_students() -> Iterator[str]:
    digits, cifar = (recorded(f"distillation_{name}")["rows"] for name in ("digits", "cifar10"))

    def score(rows: dict[str, Any], label: str) -> str:
        return f"{Score.of(rows[label]['values']).value:.1f}"

    def gain(rows: dict[str, Any], label: str, rival: str) -> str:
        return str(paired(rows[label]["values"], rows[rival]["values"]))

    yield f"alone {score(digits, 'student alone')}, KD {score(digits, 'KD')} ({gain(digits, 'KD', 'student alone')})"
    yield ", ".join(f"{name} {score(digits, name)}" for name in ("DKD", "DHKD", "KD++"))
    plain = score(digits, "subclass labels")
    yield f"SKD reaches {score(digits, 'SKD')}, and plain training on subclass labels {plain}"
    yield gain(digits, "SKD", "subclass labels")
    yield f"alone {score(cifar, 'student alone')}, " + ", ".join(
        f"{name} {score(cifar, name)}" for name in ("KD", "DKD", "DHKD", "KD++")
    )
    yield f"{score(cifar, 'student alone, twice as long')} alone with twice the epochs"
    for label in ("KD", "ReviewKD"):
        yield gain(cifar, label, "student alone")
    ranks = [
        sum(one["rank"] for one in cell["diagnoses"]) / len(cell["diagnoses"])
        for row in recorded("distillation_digits_sweep")["rows"].values()
        for cell in row
    ]
    yield f"between {min(ranks):.1f} and {max(ranks):.1f}"
    for name in ("digits", "cifar10"):
        facts = recorded(f"distillation_{name}")
        yield f"{facts['sizes']['teacher']['parameters']:,} parameters"
        yield f"{facts['teacher']:.1f} %"


def _of_language() -> Iterator[str]:
    for name in ("tinyshakespeare", "t0-instructions"):
        found = recorded("language")["cells"][name]
        values = {row: [one["cross_entropy"] for one in found[row]] for row in ("forward", "sft")}
        gain = paired(values["sft"], values["forward"])
        yield f"{gain.difference:.2f} [{gain.low:.2f}, {gain.high:.2f}]"
        gap = _mean(found["sft"], "cross_entropy") - found["teacher"]["cross_entropy"]
        words = "of a gap of " if name == "tinyshakespeare" else "of "
        yield f"{gain.difference:.2f}{' nats' if name == 'tinyshakespeare' else ''} {words}{gap:.2f}"


def written(page: str) -> str:
    """A page with its tables as recorded."""

    def fill(found: re.Match[str]) -> str:
        table = TABLES[found[2]]()
        return f"{found[1]}{table}\n{found[3]}" if table else f"{found[1]}{found[3]}"

    return MARKED.sub(fill, page)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
    for page, figure in sentences():
        path = next(path for path in PAGES if path.name == page)
        if figure not in " ".join(path.read_text(encoding="utf-8").split()):
            print(f"{page} does not say {figure}")
