"""The plan of a network: the choice for every layer with its measurements, the comparison of the whole, the weights.

`artefact.json` is the plan. `network.safetensors` holds the weights of the network, so that the plan can be applied
again. `README.md` and `preview.png` present the plan to readers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from rich.table import Table
from torch import Tensor, nn

from attar.convolution.picture import picture
from attar.convolution.planned import with_methods
from attar.convolution.timing import Median
from attar.core import artefact as core
from attar.core import store
from attar.core.card import SCORES, escaped, fenced, machine_line, made_again, model_header, score_table, settings_table
from attar.core.cell import Cell
from attar.core.errors import InputError
from attar.core.progress import as_text

SCHEMA = 1
KIND = "convolution"
WEIGHTS = "network.safetensors"
PICTURE = "preview.png"


@dataclass(frozen=True)
class LayerChoice:
    """The choice for one layer: its method, the reason, and the measurements."""

    name: str
    """Name of the module in the network."""
    kind: str
    """Channels, kernel, stride and padding, as text."""
    shape: tuple[int, ...]
    """Channels, height and width of the layer's input."""
    density: float
    """Mean share of non-zeros in the layer's input."""
    method: str
    reason: str
    milliseconds: Mapping[str, Median] = field(default_factory=dict)
    """Time of every method on the calibration images, in milliseconds, with intervals."""
    ratio: Median | None = None
    """Time of PyTorch's convolution divided by that of the best method, measured in pairs on held-out images."""
    bytes: Mapping[str, int] = field(default_factory=dict)
    """Bytes that a call holds for the lowered or compressed maps, by method."""
    counted_bytes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the lowered or compressed map of one image as the papers count them, by method."""
    difference: float | None = None
    """Largest absolute difference from PyTorch's output on a calibration batch."""

    @classmethod
    def dense(
        cls,
        name: str,
        layer: nn.Conv2d,
        shape: tuple[int, ...],
        density: float,
        reason: str,
        milliseconds: Mapping[str, Median] | None = None,
        held: Mapping[str, int] | None = None,
        counted: Mapping[str, int] | None = None,
        ratio: Median | None = None,
    ) -> Self:
        """The choice for a layer that stays dense."""
        measured = (milliseconds or {}, ratio, held or {}, counted or {})
        return cls(name, _described(layer), shape, density, "dense", reason, *measured)

    @classmethod
    def switched(
        cls,
        name: str,
        layer: nn.Conv2d,
        shape: tuple[int, ...],
        density: float,
        method: str,
        ratio: Median,
        difference: float,
        milliseconds: Mapping[str, Median],
        held: Mapping[str, int],
        counted: Mapping[str, int],
    ) -> Self:
        """The choice for a layer that is switched to a faster method."""
        reason = f"{ratio.value:.2f} times faster"
        measured = (milliseconds, ratio, held, counted, difference)
        return cls(name, _described(layer), shape, density, method, reason, *measured)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`. Older plans have the papers' bytes only, under `bytes`."""
        if "counted_bytes" not in facts:
            facts = {**facts, "bytes": {}, "counted_bytes": facts["bytes"]}
        times = {name: Median(**median) for name, median in facts["milliseconds"].items()}
        gain = Median(**facts["ratio"]) if facts["ratio"] else None
        return cls(**{**facts, "milliseconds": times, "ratio": gain, "shape": tuple(facts["shape"])})

    def called(self, name: str, density: float) -> Self:
        """This choice for another layer of the same shape and density."""
        if name == self.name:
            return self
        return replace(self, name=name, density=density, reason=f"{self.reason} (measured on {self.name})")

    def withdrawn(self) -> Self:
        """The choice to leave this layer dense after all. Its measurements are kept."""
        return replace(self, method="dense", reason=f"{self.method} is faster here, but the whole network is not")

    @property
    def saved(self) -> float:
        """Milliseconds that switching the layer saves on a batch."""
        usual = min(taken.value for name, taken in self.milliseconds.items() if name.startswith("dense"))
        return usual * (1 - 1 / self.ratio.value) if self.ratio else 0.0

    def line(self) -> str:
        """The choice in one line, to print during planning."""
        return f"{self.name}: {self.kind}, density {self.density:.2f}: {self.method} ({self.reason})"


@dataclass(frozen=True)
class WholeNetwork:
    """A comparison of the planned network with the original network, on held-out images."""

    images: int
    batch: int
    difference: float
    """Largest absolute difference between two outputs."""
    largest: float
    """Largest absolute output, as the scale of the difference."""
    agreeing: int
    """Number of images for which both networks predict the same class."""
    layout: str
    """Memory layout in which PyTorch is faster."""
    dense: Median
    """Time of the original network for a batch, in milliseconds; `planned` is that of the planned one."""
    planned: Median
    ratio: Median
    """Time of the original network divided by that of its planned copy, measured in pairs."""
    planned_layout: str = "channels-last"
    """Memory layout between the layers of the planned copy."""

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**facts, **{name: Median(**facts[name]) for name in ("dense", "planned", "ratio")}})

    def __str__(self) -> str:
        return (
            f"whole network: {self.ratio} times faster ({self.planned} ms a batch of {self.batch}, "
            f"dense {self.dense} ms in {self.layout}); max |difference| {self.difference:.2g} of outputs up to "
            f"{self.largest:.3g}; {self.agreeing} of {self.images} predictions equal"
        )


@dataclass(frozen=True)
class ConvolutionPlan(core.Shareable):
    """The methods by which the convolutions of a network run."""

    layers: tuple[LayerChoice, ...]
    whole: WholeNetwork | None
    """Comparison of the whole network; None until all layers are done."""
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    """Parameters and buffers of the network."""
    described: Any = None
    """Description of the network in `network.safetensors`, if it is a network of attar."""
    origin: core.Origin | None = None
    """Origin of the plan; None if the network was planned in Python without a run."""
    folder: Path | None = field(default=None, compare=False)
    """Folder in which it was last saved."""

    kind = KIND
    repo_type = "model"
    files = (WEIGHTS, core.ARTEFACT, PICTURE, core.CARD, SCORES)

    @property
    def title(self) -> str:
        """A title of a few words."""
        return "A plan of convolutions"

    def apply(self, network: nn.Module) -> nn.Module:
        """A copy of a network for inference, with this plan's methods and the network's own weights.

        Raises:
            InputError: The network's parameters are not named and shaped as those of the plan.
        """
        self._check(network)
        return with_methods(network, self.methods, layout=self.layout)

    def load_network(self, network: nn.Module) -> nn.Module:
        """A copy of a network for inference, with this plan's methods and the weights that were saved with the plan.

        Raises:
            InputError: The network's parameters are not named and shaped as those of the plan.
        """
        planned = self.apply(network)
        planned.load_state_dict(dict(self.weights))
        return planned

    def _check(self, network: nn.Module) -> None:
        own = network.state_dict()
        for name in [*self.weights, *(name for name in own if name not in self.weights)]:
            there, here = self.weights.get(name), own.get(name)
            if there is None or here is None:
                raise InputError(f"the plan is of another network: only one of them has {name}.")
            if there.shape != here.shape:
                shapes = f"{list(there.shape)} in the plan, {list(here.shape)} here"
                raise InputError(f"the plan is of another network: size mismatch for {name}, {shapes}.")

    @property
    def layout(self) -> str:
        """The memory layout between the layers of the planned network."""
        return self.whole.planned_layout if self.whole else "channels-last"

    @property
    def methods(self) -> dict[str, str]:
        """The switched layers by name, with their methods."""
        return {layer.name: layer.method for layer in self.layers if layer.method != "dense"}

    def table(self) -> Table:
        """A table with a row for every layer: its convolution, milliseconds of every method, and the choice."""
        heads, *rows = self._rows()
        table = Table(*heads)
        for row in rows:
            table.add_row(*row)
        return table

    def _rows(self) -> Iterator[tuple[str, ...]]:
        names = list(dict.fromkeys(name for layer in self.layers for name in layer.milliseconds))
        yield "layer", "convolution", "map", "density", *(f"{name} ms" for name in names), "choice", "why"
        for layer in self.layers:
            times = (f"{layer.milliseconds[name].value:.3g}" if name in layer.milliseconds else "" for name in names)
            size = "×".join(map(str, layer.shape[1:]))
            sure = f" [{layer.ratio.low:.2f}, {layer.ratio.high:.2f}]" if layer.ratio else ""
            yield layer.name, layer.kind, size, f"{layer.density:.2f}", *times, layer.method, f"{layer.reason}{sure}"

    @property
    def summary(self) -> str:
        """The switched layers and the comparison of the whole network. The table of layers is on the card."""
        switched = [f"  {layer.line()}" for layer in self.layers if layer.method != "dense"]
        return "\n".join([self._switched, *switched, self._compared])

    @property
    def _switched(self) -> str:
        return f"{len(self.methods)} of {len(self.layers)} convolutions switched"

    @property
    def _compared(self) -> str:
        return str(self.whole or "the whole network has not been compared yet")

    def __str__(self) -> str:
        return f"{as_text(self.table())}\n{self._switched}; {self._compared}"

    def picture(self) -> bytes | None:
        """A PNG of the time ratios layer by layer; None if matplotlib is not installed."""
        return picture(self.layers)

    def shown(self, images: int = 10) -> core.Shown:
        """The time ratio of the whole network, and the table of layers."""
        from attar.convolution.scoring import Scoring

        drawn = self.picture()
        return core.Shown(
            size=f"{len(self.methods)} of {len(self.layers)} switched",
            count=len(self.methods),
            facts={} if self.whole else {"whole network": "not compared yet"},
            scores=Scoring().measure([self], None, None).rows[0].cells if self.whole else (),
            table=list(self._rows()),
            pictures=() if drawn is None else (core.Picture("", drawn),),
        )

    def save(self, folder: str | Path) -> Self:
        """Write the plan to a folder and return the saved copy. Each file is written whole or not at all."""
        folder = Path(folder)
        store.make_folder(folder)
        digest = store.write_tensors(folder / WEIGHTS, dict(self.weights), self.described)
        facts = {
            "digest": digest,
            "layers": [asdict(layer) for layer in self.layers],
            "whole": asdict(self.whole) if self.whole else None,
            "settings": dict(self.settings),
            "machine": dict(self.machine),
            "origin": asdict(self.origin) if self.origin else None,
        }
        drawn = self.picture()
        if drawn is not None:
            store.write_bytes(folder / PICTURE, drawn)
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: The folder does not hold a plan, or a file is truncated, altered, or of a newer schema.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "plan of convolutions")
        weights, described = core.read_tensors(folder / WEIGHTS, facts["digest"])
        layers = tuple(LayerChoice.from_json(layer) for layer in facts["layers"])
        whole = WholeNetwork.from_json(facts["whole"]) if facts["whole"] else None
        settings, machine = facts["settings"], facts["machine"]
        return cls(layers, whole, settings, machine, weights, described, _origin(facts), folder)

    def card(self, scores: list[Cell]) -> str:
        """The text of README.md."""
        drawn = self.folder is not None and (self.folder / PICTURE).exists()
        shown = f"![time ratios]({PICTURE})\n\n" if drawn else ""
        return f"""{model_header("sparse-convolution", made=self if self.origin else None, scores=scores, split=None)}
# {escaped(self.title)}

{shown}{fenced(str(self))}

To use the plan again, give it the same network. `load_network` takes the weights of `network.safetensors`, and `apply`
keeps those of the network:

```python
from attar.convolution import ConvolutionPlan

planned = ConvolutionPlan.load(".").load_network(network)
```
{score_table(scores)}
{self._how()}

Measured with: {machine_line(self.machine)}.
"""

    def _how(self) -> str:
        return made_again(self.origin) if self.origin else settings_table(self.settings)


def _described(layer: nn.Conv2d) -> str:
    kernel, stride = ("×".join(map(str, pair)) for pair in (layer.kernel_size, layer.stride))
    padding = layer.padding if isinstance(layer.padding, str) else "×".join(map(str, layer.padding))
    text = f"{layer.in_channels}→{layer.out_channels}, {kernel}"
    text += f", stride {stride}" if layer.stride != (1, 1) else ""
    return text + (f", padding {padding}" if layer.padding not in ((0, 0), "valid") else "")


def _origin(facts: dict[str, Any]) -> core.Origin | None:
    """The origin of a plan. Early plans stored data, fingerprint, seed and network as separate fields."""
    known = facts["origin"]
    if not known:
        return None
    if "source" in known:
        return core.Origin(**known)
    settings = {"network": known.get("network"), **facts["settings"]}
    names = ("data", "fingerprint", "method", "seed")
    source, fingerprint, method, seed = (known.get(name) for name in names)
    return core.Origin(source or "", fingerprint or "", method or "conv", settings, seed or 0, facts["machine"])
