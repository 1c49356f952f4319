"""The cards of this kind: READMEs in the form that the hub reads."""

from collections.abc import Sequence
from typing import Any

from attar.core import card as core
from attar.core.cell import Cell
from attar.core.pictures import links
from attar.plasma.plots import TITLES

Made = Any
"""A `Run`. It is not imported here, because its file imports this one."""
CUTS = {"cut": "without those of the corona", "true": "all of them", "off": "not used"}
"""How losses acted."""


def run_card(made: Made, scores: Sequence[Cell]) -> str:
    """The README of a run."""
    origin = made.origin
    found = core.table(("", "what came of it"), list(made.outcome.items()))
    units = core.table(("unit", "in SI"), list(made.units.facts().items()))
    return f"""{core.model_header("simulation", made=made, scores=scores, split=None)}
# {core.escaped(made.title)}

{core.escaped(str(made))}.

![log T, log n and losses of the last snapshot](preview.png)

The pictures show the simulated half of a thread: the other half is its mirror image in the upper end of the domain.

{found}

{units}

Losses: {core.escaped(made.losses.name)}, {CUTS[made.cooling]}. The gas is an ideal one of constant mean weight, without
conduction, viscosity, gravity and ionisation. Clocks start at t = 1: the thread is not in equilibrium, and the
first unit of time shows how it settles.
{links(made.folder, TITLES)}
```python
import attar

run = attar.open_artefact(".")
run.temperature(-1)  # the last snapshot in K, [row, column]; rows rise along y
run.measured("radiated")  # one column of the series; run.measured("time") goes with it
```

{core.made_again(origin)}

Made with: {core.machine_line(origin.machine)}.
"""
