"""The cards of autoencoders and latent fields: READMEs in the form that the hub reads, with their scores."""

from collections.abc import Sequence
from typing import Any

from attar.core import card as core
from attar.core.cell import Cell
from attar.core.pictures import links

TITLES = {
    "held-out": "held-out views, what the autoencoder makes of them, the field alone, and the refined field",
}
"""Pictures that an evaluation leaves."""

Made = Any
"""An `Autoencoder` or a `LatentField`. They are not imported here, because their file imports this one."""


def autoencoder_card(made: Made, scores: Sequence[Cell]) -> str:
    """The README of an autoencoder."""
    origin, codec = made.origin, made.codec
    return f"""{core.model_header("autoencoder", made=made, scores=scores)}
# {core.escaped(made.title)}

{core.escaped(str(made))}.

![held-out pictures and what becomes of them](preview.png)
{core.score_table(scores)}{links(made.folder, TITLES)}
```python
import attar

autoencoder = attar.open_artefact(".")
latents = autoencoder.encode(images)  # between -1 and 1, sides that are multiples of {codec.factor}
images = autoencoder.decode(latents)
```

{core.made_again(origin)}

Made with: {core.machine_line(origin.machine)}. Data fingerprint: `{core.escaped(origin.fingerprint)}`.
"""


def field_card(made: Made, scores: Sequence[Cell]) -> str:
    """The README of a latent field."""
    origin = made.origin
    return f"""{core.model_header("radiance-field", made=made, scores=scores)}
# {core.escaped(made.title)}

{core.escaped(str(made))}.

![a path around the scene](orbit.png)

![views from the path](preview.png)
{core.score_table(scores)}{links(made.folder, TITLES)}
```python
import attar

scene = attar.open_artefact(".")
views = scene.novel(24)  # pictures from a path around the scene, between -1 and 1
views = scene.render(poses)  # camera to world, [view, 3, 4]; a camera looks along -z, y is up
latents = scene.render_latents(poses)
```

{core.made_again(origin)}

Made with: {core.machine_line(origin.machine)}. Data fingerprint: `{core.escaped(origin.fingerprint)}`.

The views derive from {core.escaped(origin.source)}. The terms of those pictures also apply to them.
"""
