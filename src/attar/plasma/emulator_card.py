"""The cards of columns and of emulators: READMEs in the form that the hub reads."""

from collections.abc import Sequence
from typing import Any

from attar.core import card as core
from attar.core.cell import Cell
from attar.core.pictures import links

TITLES = {
    "profiles": "held-out profiles by teacher and emulator, from the best to the worst",
    "errors": "profiles of the teacher, and errors of the emulator over the peak of each, by column",
}
"""Pictures that an evaluation leaves."""

Made = Any
"""`Columns` or an `Emulator`. Neither is imported here, because their files import this one."""


def columns_card(made: Made, scores: Sequence[Cell]) -> str:
    """The README of columns."""
    origin, answers = made.origin, made.answers
    told = "They have no profiles yet."
    if answers is not None:
        took = "" if answers.seconds is None else f" A column took {answers.seconds:.3g} CPU seconds on one thread."
        told = f"Teacher: {core.escaped(answers.teacher)} ({core.escaped(answers.note)}).{took}"
    return f"""{core.model_header("simulation", made=made, scores=scores, split=None)}
# {core.escaped(made.title)}

{core.escaped(str(made))}.

![log T by column and point, and profiles](preview.png)

{told} Values are in SI, wavelengths in nm in vacuum, profiles in W m⁻² Hz⁻¹ sr⁻¹. The first point of a column is the
nearest to the observer.

```python
import attar

columns = attar.open_artefact(".")
columns.values  # [column, 4, point]: depth, temperature, hydrogen density, velocity
columns.answers  # the teacher's profiles, if there are any
```

{core.made_again(origin)}

Made with: {core.machine_line(origin.machine)}.
"""


def emulator_card(made: Made, scores: Sequence[Cell]) -> str:
    """The README of an emulator, with the scores stored beside it."""
    origin = made.origin
    shown = made.shown()
    facts = core.table(("", ""), [(name, core.escaped(value)) for name, value in shown.facts.items()])
    return f"""{core.model_header("emulator", made=made, scores=scores)}
# {core.escaped(made.title)}

{core.escaped(str(made))}.

What its teacher leaves out, it leaves out too: {core.escaped(made.note)}.

Columns that reach beyond the ranges below are refused, unless `outside` says otherwise.
{core.score_table(scores)}{links(made.folder, TITLES)}
{facts}

```python
import attar

emulator = attar.open_artefact(".")
profiles = emulator.predict(columns)  # columns as attar.plasma.Column, in SI, on any number of points
emulator.wavelengths  # nm, in vacuum; profiles are in W m⁻² Hz⁻¹ sr⁻¹
```

{core.made_again(origin)}

Made with: {core.machine_line(origin.machine)}. Data fingerprint: `{core.escaped(origin.fingerprint)}`.
"""
