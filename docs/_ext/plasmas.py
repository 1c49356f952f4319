"""Tables of mixing layers, of the lines that they show, of emulators, and of the time of a step, as recorded."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

from results import Facts, filled, recorded, times

from attar.core.card import table

WORDS = {
    "mixing layer": """`bench/mixing_layer.py`. The usual run to t = 40, seed 0. Losses are shares of the thermal energy
of the start; heating is what the thermal energy of the run without cooling gains. Growth is that of one mode, over the
eigenvalue of the profile.""",
    "fluid steps": """`bench/fluid_steps.py`. Million cell-steps per CPU-second of one thread; in brackets, how many
times faster Numba is. A cell-step is a whole time step of one cell.""",
    "line formation": """`bench/spectra.py`. Columns of a run of 128×128 cells: medians of the optical depth, and of the
distance of τ = 1 behind the border of the thread.""",
    "emulators": """`bench/emulator.py`. Ca II K by Lightweaver with given electrons; 800 random threads to learn from,
200 held out, three seeds. Rivals learn from the same 800; those that move with the gas know what the student knows.""",
}
"""What stands above a table, by its name."""
STUDENTS = {
    "all": "emulator, all columns",
    "random": "100 at random",
    "herding": "100 by herding",
    "k-center": "100 by k-center",
}
"""Rows of emulators, with what they are called."""
SOURCES = {"numpy": "NumPy", "torch": "PyTorch", "compile": "torch.compile"}
"""Sources of the scheme beside Numba."""
MEASURES = {"rms/peak": 3, "9 of 10 below": 3, "integrated intensity": 1, "rms/peak, run": 3}
"""Measures of an emulator, with their decimals."""


def mixing_layer() -> str:
    """What a mixing layer loses, by resolution."""
    cells, rows = recorded("mixing_layer")["cells"], []
    for name in cells:
        kind, _, size = name.partition(", ")
        if kind == "mixing":
            rows.append(_layer(size, cells[name], cells.get(f"growth, {size}", {})))
    heads = ("cells", "radiated", "from t = 1", "over heating", "Si IV, most", "without cooling", "ρ_mix", "T_mix")
    return table((*heads, "growth, ratio 10", "ratio 1"), rows)


def _layer(size: str, facts: Facts, growth: Facts) -> tuple[str, ...]:
    line, mixed = facts["line"], facts["mixed gas"]["t = 10 to 40"]
    shares = [f"{growth[ratio]['share']:.2f}" if ratio in growth else "" for ratio in ("ratio 10", "ratio 1")]
    lost = [f"{100 * facts[name]:.2f} %" for name in ("radiated", "radiated from t = 1")]
    light = [f"{line[name]:.2f}" for name in ("most", "adiabatic")]
    gas = (f"{mixed['density']:.1f}", f"{mixed['temperature']:.3f}")
    return (size, *lost, times(facts["ratio"]), *light, *gas, *shares)


def fluid_steps() -> str:
    """The speed of the sources of the scheme."""
    facts, rows = recorded("fluid_steps"), []
    for losses in ("without cooling", "with cooling"):
        for size, one in facts[losses].items():
            over = [f"{one['speed'][side]:.1f} ({times(one['numba over'][side])})" for side in SOURCES]
            rows.append((f"{size}², {losses}", f"{one['speed']['numba']:.1f}", *over))
    return table(("cells", "Numba", *SOURCES.values()), rows)


def line_formation() -> str:
    """Where lines form, by the time of the run."""
    rows = []
    for moment, facts in recorded("spectra")["summary"].items():
        for line, name in (("mg-h", "Mg II h"), ("ca-k", "Ca II K"), ("h-alpha", "Hα")):
            tau, behind = facts["tau_median"][line], facts["behind_border_km_median"][line]
            rows.append((f"{float(moment):.1f}", str(facts["columns"]), name, f"{tau:.1f}", f"{behind:.0f} km"))
    return table(("t", "columns", "line", "τ", "τ = 1 behind the border"), rows)


def emulators() -> str:
    """Emulators of one line and their rivals."""
    facts = recorded("emulator")
    rows = [(words, *_of_seeds(facts["rows"][name]["seeds"])) for name, words in STUDENTS.items()]
    for name, one in facts["rivals"].items():
        rows.append((name, *(f"{one[measure]:.{decimals}f}" for measure, decimals in MEASURES.items())))
    heads = ("rms/peak", "9 of 10 below", "integrated intensity, %", "rms/peak, columns of a run")
    return table(("row", *heads), rows)


def _of_seeds(seeds: list[dict[str, Any]]) -> Iterator[str]:
    for measure, decimals in MEASURES.items():
        values = [one[measure] for one in seeds]
        yield f"{statistics.fmean(values):.{decimals}f} ± {statistics.stdev(values):.{decimals}f}"


def sentences() -> Iterator[tuple[str, str]]:
    """Figures in the running text of the page."""
    cells = recorded("mixing_layer")["cells"]
    lost = " and ".join(f"{100 * cells[f'mixing, {size}']['radiated from t = 1']:.1f} %" for size in ("64²", "128²"))
    yield "plasma.md", lost
    reached, teacher = recorded("emulator")["reached"], recorded("emulator")["teacher"]
    student = statistics.fmean(one["seconds a column"] for one in recorded("emulator")["rows"]["all"]["seeds"])
    yield "plasma.md", f"{teacher['seconds a column']:.2f} s of the teacher and {1e6 * student:.0f} µs of the student"
    yield (
        "plasma.md",
        f"{reached['of nearest column']:.2f} of the nearest column's and {reached['of ridge']:.2f} of ridge",
    )
    (first, *_) = recorded("spectra")["summary"].values()
    yield "plasma.md", f"{first['seconds_median']:.0f} CPU-seconds"


MADE: dict[str, tuple[str, Callable[[], str]]] = {
    "mixing layer": ("mixing_layer", mixing_layer),
    "fluid steps": ("fluid_steps", fluid_steps),
    "line formation": ("spectra", line_formation),
    "emulators": ("emulator", emulators),
}
"""The record and the function of each table."""
TABLES = filled(MADE, WORDS)
"""The tables by the names of their marks."""
