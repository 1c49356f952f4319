"""The card of a sampler: a README in the form that the hub reads, with its scores."""

from collections.abc import Sequence
from typing import Any

from attar.core import card as core
from attar.core.cell import Cell
from attar.core.pictures import links

TITLES = {
    "together": "real samples, teacher, student and pairs, from the same noise",
    "calls": "recall against the number of calls of a network",
}
"""Pictures that an evaluation leaves."""

Made = Any
"""A `Sampler`. It is not imported here, because its file imports this one."""


def card(made: Made, scores: Sequence[Cell]) -> str:
    """The README of a sampler, with the scores stored beside it."""
    origin = made.origin
    tag = "diffusion-distillation" if origin.teacher else "diffusion"
    task = "unconditional-image-generation" if made.pictures else None
    classes = f" The classes are {core.escaped(', '.join(made.classes))}." if made.classes else ""
    levels = ", ".join(f"{level:.4g}" for level in made.levels().tolist())
    what = "images between -1 and 1; `images` gives pixels" if made.pictures else "values as they were given"
    return f"""{core.model_header(tag, pipeline=task, made=made, scores=scores)}
# {core.escaped(made.title)}

{core.escaped(str(made))}.{classes}

![samples](preview.png)
{core.score_table(scores)}{links(made.folder, TITLES)}
Noise levels: {levels}. Solver: {made.solver}.

```python
import attar

sampler = attar.open_artefact(".")
samples = sampler.sample(16, seed=0)  # {what}
```

{core.made_again(origin)}

Made with: {core.machine_line(origin.machine)}. Data fingerprint: `{core.escaped(origin.fingerprint)}`.

The samples derive from {core.escaped(origin.source)} and may resemble it. The terms of that data also apply to them.
"""
