"""From each record of `bench/results/` to rows of the page "Results": one reader for each form."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from board import Row, Table
from results import Facts

from attar.bench.cells import Cell, over
from attar.core.score import Better, Interval, Score
from attar.graphs.crossvalidation import corrected_interval

Values = dict[str, list[float]]
MULTILABEL_RIVAL, PROTONET, SIMCLR = "BCE", "protonet, unsquared", "simclr"
COUNTS = {"random": 200, "digits": 10, "tracking": 24}
"""Mixtures, fits and flights of `bench/mixtures.py`, which its record does not count."""
HARD = ("student alone", "label smoothing", "two classes", "subclass labels")
"""Beginnings of students' names that have no teacher; what follows a comma may name one."""
FAIR = {"AUROC": "higher", "DPD": "lower"}
"""Measures of tables that are shown, and which way is better."""
SAMPLERS: dict[str, Better] = {"rFD, MLP (%)": "lower", "recall": "higher", "class accuracy": "higher"}
EDITS: dict[str, tuple[str, Better]] = {
    "target_accuracy": ("%", "higher"),
    "rms_to_source": ("", "lower"),
    "background": ("dB", "higher"),
}


# --------------------------------------------------------------------------------------------------------------- images


def cells(command: str, data: str = "", part: str = "") -> Callable[[Facts], Iterator[Row]]:
    """The reader of a table of `attar bench`.

    Args:
        command: What measures it again; `{methods}` are its rows, as they are given on the command line.
        data: The name of the data. Default: the one in the record.
        part: The part of the record that is the table. Default: all of it.
    """

    def read(facts: Facts) -> Iterator[Row]:
        mine = facts[part] if part else facts
        found = [Cell.from_json(one) for one in mine["cells"]]
        methods = " ".join(dict.fromkeys(one.label for one in found))
        for ipc in sorted({one.ipc for one in found}):
            here = {one.label: one for one in found if one.ipc == ipc}
            table = Table(
                kind="images",
                command=command.format(methods=methods),
                data=data or mine["data"],
                metric="accuracy",
                budget=f"{ipc} per class",
            )
            yield from table.of_scores(
                {label: one.score for label, one in here.items()},
                "random",
                lambda one, other, by=here: over(by[one], by[other]),
                labels={label: one.labels for label, one in here.items()},
                sizes={label: one.bytes for label, one in here.items()},
            )

    return read


def parts(*readers: Callable[[Facts], Iterator[Row]]) -> Callable[[Facts], Iterator[Row]]:
    """The reader of a record that holds several tables."""
    return lambda facts: (row for read in readers for row in read(facts))


def fine_grained(facts: Facts) -> Iterator[Row]:
    """Groups of classes that look alike."""
    for name, table in facts["tables"].items():
        group = name.partition(", ")[0]
        yield from cells("python bench/fine_grained.py", f"{table['data']}, {group}")(table)


def continual(facts: Facts) -> Iterator[Row]:
    """Accuracy over all classes after the last step, by order of the classes."""
    settings = facts["settings"]
    table = Table(
        kind="images",
        command="attar bench continual",
        data=f"{facts['data']}, class by class",
        metric="accuracy after the last step",
        budget=f"{settings['ipc']} per class",
        labels="hard",
    )
    ends = {name: [statistics.fmean(order[-1]) for order in one["values"]] for name, one in facts["methods"].items()}
    yield from table.of(ends, "random")


def search(facts: Facts) -> Iterator[Row]:
    """How proxies rank networks."""
    settings = facts["settings"]
    table = Table(
        kind="images",
        command=f"attar bench search --sampled {settings['sampled']}",
        data=f"{facts['data']}, {settings['sampled']} networks",
        metric="rank correlation",
        budget=f"{settings['ipc']} per class",
        unit="",
        labels="hard",
    )
    yield from table.of(
        {one["way"]: [one["rho_all"]] for one in facts["rows"] if one["way"] != "all the data"}, "random"
    )


# --------------------------------------------------------------------------------------------------------- other kinds


def graphs(facts: Facts) -> Iterator[Row]:
    """Condensed graphs over folds, after the last epoch."""
    for name, cell in facts["cells"].items():
        data, _, budget = name.partition(", ")
        values = {one["method"]: one["last"] for one in cell["rows"]}
        table = Table(
            kind="graphs",
            command="python bench/graphs.py --repeats 1 --steps 150 --real-batch 64 --epochs 150",
            data=data,
            metric="accuracy",
            budget=budget,
            labels="hard",
        )

        def gap(one: str, other: str, by: Values = values, ratio: float = cell["test_to_train"]) -> Interval:
            return corrected_interval(by[one], by[other], ratio)

        sizes = {one["method"]: round(one["bytes"]) for one in cell["rows"]}
        yield from table.of_scores(
            {name: Score.of(some) for name, some in values.items()}, "graph-start", gap, sizes=sizes
        )


def mixtures(facts: Facts) -> Iterator[Row]:
    """Reduced mixtures, and reducers in a tracker."""
    for part, data, budget in (("random", "random mixtures", "10 → 5"), ("digits", "digits", "40 → 10")):
        scores = {
            name: Score(one["nise"]["mean"], "", "lower", one["nise"]["sd"], COUNTS[part])
            for name, one in facts[part].items()
        }
        table = Table(
            kind="mixtures",
            command=f"python bench/mixtures.py {part} --record",
            data=data,
            metric="NISE",
            budget=f"{budget} components",
        )
        yield from table.of_scores(scores, "runnalls")
    flights = {
        name: Score(one["rmse"]["mean"], "m", "lower", one["rmse"]["sd"], COUNTS["tracking"])
        for name, one in facts["tracking"].items()
    }
    table = Table(
        kind="mixtures",
        command=f"python bench/mixtures.py tracking --flights {COUNTS['tracking']} --record",
        data="flights through clutter",
        metric="rms error",
        budget="5 components",
    )
    yield from table.of_scores(flights, "runnalls")


def convolution(facts: Facts) -> Iterator[Row]:
    """Whole networks with their plans: milliseconds of a call."""
    for name, one in facts.items():
        if not isinstance(one, dict) or "whole" not in one:
            continue
        network, _, threads = name.partition(", ")
        whole = one["whole"]
        scores = {
            label: Score(found["value"], "ms", "lower", None, found["n"], (found["low"], found["high"]))
            for label, found in ((label, whole[label]) for label in ("dense", "planned"))
        }
        table = Table(
            kind="convolution",
            command="python bench/convolution.py --parts networks --record convolution.json",
            data=network,
            metric="time of a call",
            budget=threads.replace("1 threads", "1 thread"),
        )
        yield from table.of_scores(scores, "dense")


def students(data: str, command: str) -> Callable[[Facts], Iterator[Row]]:
    """Classifiers that are distilled, in pairs of seeds with the student alone."""

    def read(facts: Facts) -> Iterator[Row]:
        values = {name: one["values"] for name, one in facts["rows"].items()}
        parameters = facts["sizes"]["student"]["parameters"]
        table = Table(
            kind="classifiers",
            command=command,
            data=data,
            metric="accuracy",
            budget=f"{parameters:,} parameters",
            labels="taught",
        )
        two = [name for name in values if name.startswith(("two classes", "subclass", "SKD"))]
        for some, rival, classes in (
            ([name for name in values if name not in two], "student alone", ""),
            (two, "two classes", ", odd or even"),
        ):
            mine = {name: values[name] for name in some}
            hard = {name: "hard" for name in mine if name.startswith(HARD) and "KD" not in name}
            yield from table.at(data=f"{data}{classes}").of(mine, rival, labels=hard)

    return read


def sweep(facts: Facts) -> Iterator[Row]:
    """One head and two, at several step sizes."""
    for at, rate in enumerate(facts["rates"]):
        values = {name: row[at]["values"] for name, row in facts["rows"].items()}
        table = Table(
            kind="classifiers",
            command="python bench/distillation.py --sweep",
            data="digits, 300 images",
            metric="accuracy",
            budget=f"lr {rate:g}",
            labels="taught",
        )
        yield from table.of(values, "KD", labels={"CE": "hard"})


def calibrated_teachers(facts: Facts) -> Iterator[Row]:
    """Students of calibrated teachers, and calibrators of networks once these are recorded."""
    teachers = facts["parts"]["teachers-digits"]
    values = by_name(teachers["seeds"], lambda one: one["student"])
    table = Table(
        kind="classifiers",
        command="python bench/calibration.py --part teachers-digits",
        data="digits, 600 images",
        metric="accuracy",
        labels="taught",
    )
    yield from table.of(values, "student alone", labels={"student alone": "hard"})
    networks = facts["parts"].get("networks", {"seeds": {}})["seeds"]
    if networks:
        values = by_name(networks, lambda one: one["test images"]["ece"])
        table = table.at(
            command="python bench/calibration.py", data="cifar10, 10,000 images", metric="ECE15", labels=""
        )
        yield from table.at(better="lower").of(values, "ts")


def losses(facts: Facts) -> Iterator[Row]:
    """Losses on little data."""
    for data, rows in facts["small"].items():
        values = {name: list(one["accuracy"].values()) for name, one in rows.items()}
        table = Table(
            kind="classifiers",
            command=f"python bench/ensloss.py --data {data}",
            data=data,
            metric="accuracy",
            budget="100 images" if "v" in data else "0.7 of the rows",
            labels="hard",
        )
        yield from table.of(values, "BCE")


def dropout(facts: Facts) -> Iterator[Row]:
    """Multi-sample dropout after the last of the epochs that all rows were looked at."""
    for data, cell in facts["data"].items():
        last = str(cell["looks"][-1])
        values = {name: [run["error"][last] for run in one["seeds"].values()] for name, one in cell["rows"].items()}
        values = {name: some for name, some in values.items() if some}
        table = Table(
            kind="classifiers",
            command=f"python bench/multi_sample_dropout.py --data {data}",
            data=data,
            metric="error",
            budget=f"{last} epochs",
            better="lower",
            labels="hard",
        )
        for share in dict.fromkeys(name.partition(", ")[0] for name in values):
            alike = {name: some for name, some in values.items() if name.startswith(f"{share}, ")}
            yield from table.of(alike, f"{share}, M 1")


def language(facts: Facts) -> Iterator[Row]:
    """Language models: cross-entropy and ROUGE-L of the references."""
    measures: tuple[tuple[str, str, str, Better], ...] = (
        ("cross_entropy", "cross-entropy", "nats", "lower"),
        ("rouge_l", "ROUGE-L", "", "higher"),
    )
    for data, found in facts["cells"].items():
        rows = {name: seeds if isinstance(seeds, list) else [seeds] for name, seeds in found.items()}
        for key, metric, unit, better in measures:
            values = {name: [one[key] for one in seeds] for name, seeds in rows.items()}
            table = Table(
                kind="language",
                command=f"python bench/language.py --data {data} --record language.json",
                data=data,
                metric=metric,
                budget=f"{facts['setting']['steps']} steps",
                unit=unit,
                better=better,
                labels="taught",
            )
            yield from table.of(values, "sft", labels={"sft": "hard", "teacher": "hard"})


def several_labels(facts: Facts) -> Iterator[Row]:
    """Encoders of samples with several labels, and their rivals."""
    for data, cell in facts["data"].items():
        values = {name: [run["map"] for run in one["seeds"].values()] for name, one in cell["rows"].items()}
        rival = next(name for name in values if name.startswith(MULTILABEL_RIVAL))
        values |= by_name(cell["beside"], lambda one: one)
        table = Table(
            kind="embeddings",
            command=f"python bench/multilabel.py --data {data}",
            data=data,
            metric="mAP",
            labels="hard",
        )
        yield from table.of(values, rival)


def few_shots(facts: Facts) -> Iterator[Row]:
    """New classes of a few samples each."""
    for data in (name for name in facts if name != "machine"):
        rows = facts[data]["rows"]
        for shots in next(iter(rows.values())):
            values = {name: one[shots]["seeds"] for name, one in rows.items() if shots in one}
            table = Table(
                kind="embeddings",
                command=f"python bench/few_shot.py --parts {data}",
                data=data,
                metric="accuracy",
                budget=shots,
                labels="hard",
            )
            yield from table.of(values, PROTONET)


def without_labels(facts: Facts) -> Iterator[Row]:
    """Encoders that see no label, by their nearest neighbours."""
    for data, cell in facts["data"].items():
        values = {name: [run["knn"] for run in one["seeds"].values()] for name, one in cell["rows"].items()}
        table = Table(
            kind="embeddings",
            command="python bench/self_supervised.py",
            data=f"cifar10, {data}",
            metric="accuracy of neighbours",
        )
        yield from table.of(values, SIMCLR)


def fair(facts: Facts) -> Iterator[Row]:
    """Synthetic tables: what a classifier that is trained on them does on real rows."""
    for data, cell in facts["data"].items():
        for metric, better in FAIR.items():
            values = {
                name: [statistics.fmean(run["scores"][metric]) for run in one["seeds"].values()]
                for name, one in cell["rows"].items()
                if one["seeds"]
            }
            table = Table(
                kind="tables",
                command="python bench/fair_tables.py",
                data=data,
                metric=metric,
                better="higher" if better == "higher" else "lower",
                labels="hard",
            )
            yield from table.of(values, "copula")


def samplers(facts: Facts) -> Iterator[Row]:
    """Samplers: distance, recall, and whether samples are of the class that was asked for."""
    for data, cell in facts["data"].items():
        rows = {name: list(one["seeds"].values()) for name, one in cell["rows"].items()}
        for metric, better in SAMPLERS.items():
            for calls in sorted({run["calls"] for seeds in rows.values() for run in seeds}):
                values = {
                    name: [run[metric] for run in seeds] for name, seeds in rows.items() if seeds[0]["calls"] == calls
                }
                table = Table(
                    kind="samplers",
                    command=f"python bench/samplers.py --data {data}",
                    data=data,
                    metric=metric.replace(" (%)", ""),
                    budget=f"{calls} call{'s' if calls > 1 else ''}",
                    better=better,
                )
                yield from table.of(values, "pairs")


def edits(facts: Facts) -> Iterator[Row]:
    """Edits by score distillation."""
    for part, rows in facts["parts"].items():
        tasks: dict[str, dict[str, list[dict[str, float]]]] = {}
        for name, one in rows.items():
            task, _, method = name.partition(", ")
            tasks.setdefault(task, {})[method] = list(one["seeds"].values())
        for task, found in tasks.items():
            for key, (unit, better) in EDITS.items():
                values = {name: [run[key] for run in runs] for name, runs in found.items() if key in runs[0]}
                table = Table(
                    kind="scenes",
                    command=f"python bench/edits.py --parts {part}",
                    data=f"{'objects' if part == 'scene' else part}: {task}",
                    metric=key.replace("_", " "),
                    unit=unit,
                    better=better,
                )
                rival = next((name for name in ("SDS", "sds") if name in values), "")
                yield from table.of(values, rival)


def emulators(facts: Facts) -> Iterator[Row]:
    """Emulators of a line, and rivals that learn from as many columns."""
    for metric, unit in (("rms/peak", ""), ("integrated intensity", "%")):
        students_of = {name: [run[metric] for run in one["seeds"]] for name, one in facts["rows"].items()}
        rivals = {name: [one[metric]] for name, one in facts["rivals"].items()}
        for budget, some in (
            ("800 columns", {name: values for name, values in students_of.items() if name == "all"} | rivals),
            ("100 columns", {name: values for name, values in students_of.items() if name != "all"}),
        ):
            table = Table(
                kind="plasma",
                command="python bench/emulator.py",
                data="Ca II K, random threads",
                metric=f"error, {metric}",
                budget=budget,
                unit=unit,
                better="lower",
            )
            values = {("emulator" if name == "all" else name): one for name, one in some.items()}
            yield from table.of(values, "nearest column" if "nearest column" in values else "random")


def by_name(seeds: Mapping[str, Mapping[str, Any]], value: Callable[[Any], Any]) -> Values:
    """Values by name, of what stands by seed and name."""
    found: Values = {}
    for seed in seeds.values():
        for name, one in seed.items():
            found.setdefault(name, []).append(value(one))
    return found


COMP_DD = (
    "attar bench comp-dd --data path/to/tiny-imagenet-43 --classes 10 --scorer convnet:norm=batch,width=32 "
    "--methods {methods}"
)
GRID = (
    "attar bench grid --data path/to/cifar10-subset --ipc 10 --sets 4 --networks 5 "
    "--architecture convnet:norm=batch,width=32 --methods {methods}"
)
READERS: dict[str, Callable[[Facts], Iterator[Row]]] = {
    "digits_all": cells("attar bench digits-all"),
    "cifar10": cells("attar bench cifar10 --data path/to/cifar10 --sets 2 --networks 1"),
    "cifar_families": cells("python bench/cifar_families.py", "cifar10, 10,000 images"),
    "atom_cifar10_subset": cells(GRID, "cifar10, 10,000 images"),
    "comp_dd_tiny43": parts(cells(COMP_DD, part="easy"), cells(COMP_DD, part="hard")),
    "fine_grained": fine_grained,
    "continual_digits": continual,
    "search_digits": search,
    "graphs": graphs,
    "mixtures": mixtures,
    "convolution": convolution,
    "distillation_digits": students("digits, 300 images", "python bench/distillation.py"),
    "distillation_cifar10": students(
        "cifar10, 5,000 images", "python bench/distillation.py --data cifar10 --seeds 3 --epochs 12"
    ),
    "distillation_digits_sweep": sweep,
    "calibration": calibrated_teachers,
    "ensloss": losses,
    "multi_sample_dropout": dropout,
    "language": language,
    "multilabel": several_labels,
    "self_supervised": without_labels,
    "few_shot": few_shots,
    "fair_tables": fair,
    "samplers": samplers,
    "edits": edits,
    "emulator": emulators,
}
"""The reader of each record."""
SPEED = "how fast it is: see What was measured"
ELSEWHERE = {
    **dict.fromkeys(
        (
            *("checkpoint_cost", "contrast", "datadam_step", "dependence", "distillation_speed", "evaluation_speed"),
            *("fleet_overhead", "graph_step", "language_again", "language_memory", "language_rivals"),
            *("matching_steps", "matching_steps_gradient", "matching_steps_trajectory", "mixture_similarity"),
            *("multilabel_map", "recover_step", "streaming_memory", "temperature", "fluid_steps", "sampler_steps"),
            "scene_rendering",
        ),
        SPEED,
    ),
    "demo": "the same rows as digits_all, fewer of them",
    "digits": "the same rows as digits_all, fewer of them",
    "imagenet_teacher": "one teacher, and nothing beside it",
    "mixing_layer": "how a simulation agrees with theory",
    "small_batches": "how estimates of a gradient agree",
    "spectra": "where lines form",
}
"""Records that are no rows of the board, and why."""
