"""The card of a condensed set of graphs: a README in the form that the hub reads, with its scores."""

from collections.abc import Sequence
from typing import Any

from attar.core import card as core
from attar.core.cell import Cell

Condensed = Any
"""A `CondensedGraphs`. It is not imported here, because its file imports this one."""


def card(small: Condensed, scores: Sequence[Cell]) -> str:
    """The README of an artefact, with the scores stored beside it."""
    origin, per_class = small.origin, core.per_class(small.labels, len(small.classes))
    return f"""{_header(small, scores)}
# {core.escaped(small.title)}

{small}, {per_class} per class, replace {origin.full_graphs:,}. Every node has {small.feat.shape[2]} features.

![preview](preview.png)
{core.score_table(scores, small.bytes)}
The parquet file is for viewing. Train on `graphs.safetensors`, or load it for PyTorch Geometric:

```python
import attar

small = attar.open_artefact(".")
loader = small.to_pyg()
```

{core.made_again(origin)}

Split: {core.escaped(origin.split)}. Scored by {core.escaped(origin.metric)}. Data fingerprint: \
`{core.escaped(origin.fingerprint)}`.

Made with: {core.machine_line(origin.machine)}.

The graphs derive from {core.escaped(origin.source)}. The terms of that data set also apply to them.
"""


def _header(small: Condensed, scores: Sequence[Cell]) -> str:
    told = {"made": small, "scores": scores, "metric": small.origin.metric}
    return core.dataset_header(small.title, "graph-ml", len(small), **told)
