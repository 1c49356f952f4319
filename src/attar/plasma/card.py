"""The cards of this kind: READMEs in the form that the hub reads."""

from collections.abc import Sequence
from typing import Any

from attar.core import card as core
from attar.core.cell import Cell

Made = Any
"""A `Run`. It is not imported here, because its file imports this one."""


def run_card(made: Made, scores: Sequence[Cell]) -> str:
    """The README of a run."""
    origin = made.origin
    units = core.table(("unit", "in SI"), list(made.units.facts().items()))
    return f"""{core.model_header("simulation")}
# {core.escaped(made.title)}

{core.escaped(str(made))}.

![log T, log ρ and losses](preview.png)

{units}

```python
import attar

run = attar.open_artefact(".")
run.temperature(-1)  # the last snapshot in K, [row, column]; rows rise along y
run.measured("radiated")  # one column of the series
```

{core.made_again(origin)}

Made with: {core.machine_line(origin.machine)}. Losses: {core.escaped(made.losses.name)}, {made.cooling}.
"""
