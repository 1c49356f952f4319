"""Tables of samplers, of edits and of the time of their steps, as recorded. What is not recorded yet is left out."""

import statistics
import textwrap
from collections.abc import Callable, Mapping

from results import Facts, filled, recorded, there, times, took

from attar.core.card import table
from attar.core.score import paired

FIRST = "pairs"
MEASURES = {
    "rFD, MLP (%)": "rFD, MLP, %",
    "rFD, convnet (%)": "rFD, convnet, %",
    "precision": "precision, %",
    "recall": "recall, %",
    "class accuracy": "class accuracy, %",
    "memorisation excess": "memorisation excess, %",
}
"""Measures of samplers by their names in an evaluation."""
SHORT = {
    "EDM": "a teacher of 35 calls",
    FIRST: "pairs",
    "consistency": "consistency",
    "progressive": "progressive",
    "DMD2": "DMD2 after a warm start",
    "DMD, K 5": "DMD2 without one",
    "DMD, K 1": "with one update of the critic for each of the student",
}
"""Rows of samplers that are told in a few sentences, with what they are called."""
EDITS = {
    "target_accuracy": ("target accuracy, %", 1),
    "spread": ("spread", 2),
    "spread_before": ("spread of the source", 2),
    "rms_to_source": ("rms to the source", 2),
    "background": ("background, dB", 1),
    "background_before": ("before the edit, dB", 1),
    "direction": ("direction", 2),
    "view_consistency": ("consistency of views", 2),
    "seconds": ("CPU s (median)", 0),
}
"""Measures of edits by their names in a record, with their decimals."""
WORDS = {
    "samplers": """`bench/samplers.py`. Digits, the usual residual MLP, three trainings of the teacher, each with its
students. As many new samples as training images, against these, from the same noise; k = 3. Seconds are CPU seconds on
one thread, those of a student without its teacher. Differences in recall are to the pairs, by training.""",
    "sampler steps": """`bench/sampler_steps.py`. The usual MLP of digits: networks in bfloat16 with a fused optimiser,
against float32 with an optimiser that updates one parameter after the other.""",
    "edits": """`bench/edits.py`. Digits: the test images of one class become another. Scene: the object of `objects`,
a red ball, becomes another; accuracy is over held-out poses, the background is outside the mask.""",
    "scene rendering": """`bench/scene_rendering.py`. 512 rays of 64 samples, forward and backward: the rays as a sparse
matrix, against one call of `grid_sample`.""",
}
"""What stands above a table, by its name."""


def samplers() -> str:
    """Samplers on digits."""
    rows = recorded("samplers")["data"].get("digits", {}).get("rows", {})
    return table(("row", "calls", *MEASURES.values(), "recall over pairs", "CPU s"), [_sampler(rows, n) for n in rows])


def _sampler(rows: Facts, name: str) -> tuple[str, ...]:
    seeds = rows[name]["seeds"]
    each = list(seeds.values())
    cells = [_mean([one[measure] for one in each], 2 if "rFD" in measure else 1) for measure in MEASURES]
    seconds = [one["seconds"] for one in each if "seconds" in one]
    theirs = rows.get(FIRST, {"seeds": {}})["seeds"]
    both = [seed for seed in seeds if seed in theirs] if name != FIRST else []
    gap = paired([seeds[one]["recall"] for one in both], [theirs[one]["recall"] for one in both]) if both else ""
    spent = f"{statistics.fmean(seconds):.0f}" if seconds else ""
    return (name, f"{each[0]['calls']:.0f}", *cells, str(gap), spent)


def _mean(values: list[float], decimals: int) -> str:
    """A mean with its spread."""
    spread = f" ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{decimals}f}{spread}"


def in_short() -> str:
    """The samplers on digits in a few sentences."""
    rows = recorded("samplers")["data"]["digits"]["rows"]

    def mean(name: str, measure: str) -> float:
        return statistics.fmean(one[measure] for one in rows[name]["seeds"].values())

    told = {name: f"{mean(name, 'rFD, MLP (%)'):.2f} % (recall {mean(name, 'recall'):.0f} %)" for name in SHORT}
    teacher, *students = (f"{words} {told[name]}" for name, words in SHORT.items())
    count = len(rows[FIRST]["seeds"])
    text = (
        f"- **Samplers.** Digits, {count} trainings, relative Fréchet distance and recall: {teacher}; students of one "
        f"call: {', '.join(students)}. Pairs and consistency are nearest on these features; students by distribution "
        "matching are more precise, and collapse if the critic moves as rarely as they."
    )
    return textwrap.fill(text, 120, subsequent_indent="  ", break_on_hyphens=False)


def sampler_steps() -> str:
    """The time of a training step."""
    lines = []
    for method, sizes in recorded("sampler_steps")["steps"].items():
        for batch, row in sizes.items():
            plain, ours = (row["seconds"][side] for side in ("plain", "attar"))
            memory = " and ".join(f"{row['peak_mb'][side]:.0f}" for side in ("plain", "attar"))
            lines.append((method, batch, took(plain), took(ours), times(plain / ours), f"{memory} MB"))
    return table(("step", "batch", "plain", "attar", "ratio", "peak memory"), lines)


def edits() -> str:
    """Edits of digits and of a scene."""
    parts = []
    for rows in recorded("edits")["parts"].values():
        each = {name: list(row["seeds"].values()) for name, row in rows.items()}
        known = [one for one in EDITS if any(one in seeds[0] for seeds in each.values() if seeds)]
        lines = [(name, str(len(seeds)), *(_edit(seeds, one) for one in known)) for name, seeds in each.items()]
        parts.append(table(("edit", "seeds", *(EDITS[one][0] for one in known)), lines))
    return "\n\n".join(parts)


def _edit(seeds: list[Mapping[str, float]], name: str) -> str:
    if not seeds or name not in seeds[0]:
        return ""
    values, decimals = [one[name] for one in seeds], EDITS[name][1]
    return f"{statistics.median(values):.0f}" if name == "seconds" else _mean(values, decimals)


def scene_rendering() -> str:
    """Rays a second by the size of the grid."""
    lines = []
    for size, row in recorded("scene_rendering")["sizes"].items():
        rays = [f"{row['rays_per_second'][side]:,.0f}" for side in ("grid_sample", "sparse")]
        memory = " and ".join(f"{row['peak_mb'][side]:.0f}" for side in ("grid_sample", "sparse"))
        lines.append((f"{size}³", *rays, times(row["ratio"]), f"{memory} MB", f"{row['difference']:.1g}"))
    return table(("grid", "rays/s, grid_sample", "rays/s, sparse", "ratio", "peak memory", "difference"), lines)


MADE: dict[str, tuple[str, Callable[[], str]]] = {
    "samplers": ("samplers", samplers),
    "sampler steps": ("sampler_steps", sampler_steps),
    "edits": ("edits", edits),
    "scene rendering": ("scene_rendering", scene_rendering),
}
"""The record and the function of each table."""


def short() -> str:
    """The bullet about samplers, or nothing while they are not recorded."""
    return in_short() if there("samplers") else ""


TABLES = {**filled(MADE, WORDS), "samplers in short": short}
"""The tables by the names of their marks."""
