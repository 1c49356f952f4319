"""Convolutions of sparse activations against PyTorch's, layer by layer and in whole networks; and bytes of maps.

    python bench/convolution.py --quick                          # does it run
    python bench/convolution.py                                  # all three parts, one thread: some minutes
    python bench/convolution.py --threads 2 --record convolution.json
    python bench/convolution.py --parts networks --epochs 10     # networks trained for longer

`layers`: the shapes of Inception-v3 with all their filters, random maps of several densities. Every method is timed in
turns with PyTorch's conv2d in both layouts, and with the same convolution with its weights packed beforehand, so that
each finds the caches as another has left them, as in a network. Times hold everything a call does: encoding, bias,
output; weights are prepared before, and freed memory is kept by the process, for all alike. Ratios are of pairs, with
95 % intervals, against the fastest of PyTorch's three. A layer breaks even where the direct kernel is no faster.
`storage`: compression ratios on the authors' grid. `networks`: networks trained on CIFAR-10 ($ATTAR_DATA/cifar10;
digits without it), planned, and compared with themselves; and how their real maps are stored.
"""

import argparse
import math
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import harness
import torch
from rich.table import Table
from torch import Tensor, nn

from attar.convolution.dense import FORMATS, Dense
from attar.convolution.geometry import Geometry
from attar.convolution.interface import Compiled
from attar.convolution.methods import METHODS
from attar.convolution.planner import plan
from attar.convolution.storage import compression_ratios, words
from attar.convolution.timing import Median, machine, ratio, seconds_in_turns
from attar.core.progress import as_text
from attar.core.runtime import Engine, Runtime
from attar.images.networks.architecture import parse
from attar.images.protocols import PROTOCOLS
from attar.images.repeats import accuracy
from attar.images.sources import ImageSource, load
from attar.images.trained import trained

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""The sheet's to .5; two more to find where a layer breaks even."""
TARGET, TARGET_DENSITY, TARGET_SIDE = 2.0, 0.1, 17
RIVALS = ("im2col", "mec", "cpo", "cps", "direct")
NETWORKS = ("convnet:norm=none,pooling=max", "vgg11:norm=none", "vgg11:norm=batch")
MAPS = 8
"""Different random maps, taken in turns."""


@dataclass(frozen=True)
class Layer:
    name: str
    side: int
    geometry: Geometry


def _layer(name: str, side: int, channels: int, filters: int, kernel: tuple[int, int], *, same: bool) -> Layer:
    padding = (kernel[0] // 2, kernel[1] // 2) if same else (0, 0)
    return Layer(name, side, Geometry(channels, filters, kernel, (1, 1), padding))


LAYERS = [  # id: side, channels, filters, kernel; padded as in the network
    _layer("91", 8, 384, 384, (1, 3), same=True),
    _layer("92", 8, 384, 384, (3, 1), same=True),
    _layer("90", 8, 448, 384, (3, 3), same=True),
    _layer("52", 17, 160, 160, (1, 7), same=True),
    _layer("53", 17, 160, 192, (7, 1), same=True),
    _layer("9", 35, 64, 96, (3, 3), same=True),
    _layer("7", 35, 48, 64, (5, 5), same=True),
    _layer("4", 71, 80, 192, (3, 3), same=False),
    _layer("2", 147, 32, 64, (3, 3), same=True),
    _layer("1", 149, 32, 32, (3, 3), same=False),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    parser.add_argument("--parts", nargs="+", choices=("layers", "storage", "networks"), default=None)
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="each number in turn")
    parser.add_argument("--runs", type=int, default=51, help="times that each call is timed")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), help="what is trained and planned")
    parser.add_argument("--epochs", type=int, default=6, help="of their training")
    parser.add_argument("--images", type=int, default=20_000, help="training images")
    parser.add_argument("--record", metavar="FILE.json", help="result file below bench/results")
    args = parser.parse_args()
    layers, densities = LAYERS, DENSITIES
    if args.quick:
        layers, densities = [LAYERS[0], LAYERS[3]], (0.05, 0.3)
        args.runs, args.networks, args.epochs, args.images = 7, ["convnet:norm=none,width=16"], 1, 500
    parts = args.parts or ("layers", "storage", "networks")
    Runtime(Engine(device="cpu"))
    result: dict[str, Any] = {"machine": machine(), "torch_build": harness.machine()}
    print(", ".join(f"{name} {value}" for name, value in result["machine"].items()), flush=True)
    if "storage" in parts:
        result["storage"] = storage()
    for threads in args.threads:
        torch.set_num_threads(threads)
        if "layers" in parts:
            result[f"layers, {threads} threads"] = time_layers(layers, densities, args.runs)
    if "networks" in parts:
        source = images(args.images)
        networks = {words: train(words, source, args.epochs) for words in args.networks}
        for threads in args.threads:
            torch.set_num_threads(threads)
            for words_, (network, score) in networks.items():
                key = f"{words_}, {threads} threads"
                result[key] = {"accuracy": score, **time_network(key, network, source, max(args.runs, 31))}
    if args.record and not args.quick:
        harness.record(args.record, result, beside=True)


@torch.inference_mode()
def time_layers(layers: list[Layer], densities: tuple[float, ...], runs: int) -> dict[str, Any]:
    """Every method on every layer at every density, and where the direct kernel breaks even."""
    rows, even = [], {}
    for layer in layers:
        generator = torch.Generator().manual_seed(0)
        methods = prepared(layer.geometry, generator)
        found = [time_layer(layer, density, methods, runs, generator) for density in densities]
        even[layer.name] = break_even([(row["density"], row["ratio"]["direct"].value) for row in found])
        rows += found
        print(as_text(layer_table(layer, found, even[layer.name])), flush=True)
    aimed = [row for row in rows if row["density"] <= TARGET_DENSITY and row["side"] <= TARGET_SIDE]
    missed = [row for row in aimed if row["ratio"]["best of ours"].value < TARGET]
    met = f"{len(aimed) - len(missed)} of {len(aimed)}"
    print(f"target {TARGET}× at density ≤ {TARGET_DENSITY}, maps ≤ {TARGET_SIDE} px: {met}")
    for row in missed:
        print(f"  missed: layer {row['layer']}, density {row['density']}: {row['ratio']['best of ours']}")
    plain = [{**row, **{k: {n: asdict(m) for n, m in row[k].items()} for k in ("ms", "ratio")}} for row in rows]
    return {"rows": plain, "break_even": even, "target_met": not missed}


def prepared(geometry: Geometry, generator: torch.Generator) -> dict[str, Any]:
    """All methods with one set of weights; PyTorch's own in both layouts."""
    spread = (geometry.channels * geometry.kernel[0] * geometry.kernel[1]) ** -0.5
    weight = spread * torch.randn(geometry.filters, geometry.channels, *geometry.kernel, generator=generator)
    bias = torch.randn(geometry.filters, generator=generator)
    dense = {f"conv2d, {layout}": Dense.prepare(weight, bias, geometry, layout=layout) for layout in FORMATS}
    rest = {name: METHODS[name].prepare(weight, bias, geometry) for name in ("packed", *RIVALS)}
    for method in rest.values():
        if isinstance(method, Compiled) and method.backend.note:
            print(method.backend.note)
    return {**dense, **rest}


def time_layer(
    layer: Layer, density: float, methods: dict[str, Any], runs: int, generator: torch.Generator
) -> dict[str, Any]:
    """Times, ratios, bytes and the largest difference at one density."""
    shape = (1, layer.geometry.channels, layer.side, layer.side)
    alive = [torch.rand(shape, generator=generator) < density for _ in range(MAPS)]
    maps = [torch.randn(shape, generator=generator).abs() * mask for mask in alive]
    ordered = {layout: [x.contiguous(memory_format=form) for x in maps] for layout, form in FORMATS.items()}

    def call(method: Any) -> Any:
        given = ordered[method.layout if isinstance(method, Dense) else "channels-last"]
        return lambda run: method(given[run % MAPS])

    seconds = seconds_in_turns({name: call(method) for name, method in methods.items()}, runs)
    ms = {name: Median.of([1e3 * second for second in taken]) for name, taken in seconds.items()}
    theirs = [name for name in methods if name not in RIVALS]
    rival = min(theirs, key=lambda name: ms[name].value)
    usual = min(theirs[:2], key=lambda name: ms[name].value)
    ours = min(("cpo", "cps", "direct"), key=lambda name: ms[name].value)
    wanted = methods["conv2d, nchw"](maps[0])
    return {
        "layer": layer.name,
        "side": layer.side,
        "geometry": str(layer.geometry),
        "density": density,
        "ms": ms,
        "rival": rival,
        "ratio": {
            **{name: ratio(seconds[rival], seconds[name]) for name in RIVALS},
            "best of ours": ratio(seconds[rival], seconds[ours]),
            "direct against conv2d": ratio(seconds[usual], seconds["direct"]),
            "direct against im2col": ratio(seconds["im2col"], seconds["direct"]),
            "direct against mec": ratio(seconds["mec"], seconds["direct"]),
        },
        "bytes": {name: methods[name].bytes(maps[0]) for name in RIVALS},
        "counted_bytes": {name: methods[name].counted_bytes(maps[0]) for name in RIVALS},
        "workspace": methods["direct"].workspace(maps[0]),
        "difference": float((methods["direct"](maps[0]) - wanted).abs().max()),
    }


def break_even(points: list[tuple[float, float]]) -> float | None:
    """The density at which the ratio is one, on straight lines between logarithms; None if it never is."""
    for (before, above), (after, below) in pairwise(points):
        if above >= 1 > below:
            way = math.log(above) / (math.log(above) - math.log(below))
            return before * (after / before) ** way
    return None


def layer_table(layer: Layer, rows: list[dict[str, Any]], even: float | None) -> Table:
    """Milliseconds of every method, and ratios against the fastest of PyTorch's."""
    title = f"layer {layer.name}: {layer.geometry}, {layer.side} px; breaks even at "
    title += "no density measured" if even is None else f"density {even:.2f}"
    names = list(rows[0]["ms"])
    ratios = ("direct", "direct against conv2d", "direct against im2col", "direct against mec")
    table = Table("density", *(f"{name} ms" for name in names), "rival", *ratios, title=title)
    for row in rows:
        times = (f"{row['ms'][name].value:.3g}" for name in names)
        table.add_row(f"{row['density']}", *times, row["rival"], *(str(row["ratio"][name]) for name in ratios))
    return table


def storage() -> dict[str, Any]:
    """Compression ratios of every form on random maps of one channel, as in the authors' log."""
    result, table = {}, None
    for kernel in ((3, 3), (1, 3), (3, 1), (1, 7), (7, 1)):
        for side in (8, 17, 35, 50):
            for density in (0.05, 0.1, 0.2, 0.5, 1.0):
                generator = torch.Generator().manual_seed(0)
                image = torch.zeros(side * side)
                count = round(density * side * side)
                image[torch.randperm(side * side, generator=generator)[:count]] = 1 + torch.rand(
                    count, generator=generator
                )
                found = compression_ratios(image.view(1, side, side), Geometry(1, 1, kernel))
                key = f"{kernel[0]}×{kernel[1]}, {side} px, {density}"
                result[key] = found
                table = table or Table(
                    "kernel, map, density", *found, title="im2col's words over the words of each form"
                )
                table.add_row(key, *(f"{value:.2f}" for value in found.values()))
    assert table is not None
    print(as_text(table), flush=True)
    return result


def images(count: int) -> ImageSource:
    """CIFAR-10, so many training images of it; or digits."""
    root = os.environ.get("ATTAR_DATA")
    source = load(Path(root) / "cifar10" if root else "digits")
    rows = torch.randperm(len(source.train), generator=torch.Generator().manual_seed(0))[:count]
    return source.subset(rows)


def train(words_: str, source: ImageSource, epochs: int) -> tuple[nn.Module, float]:
    """A trained network and its accuracy in per cent; in a cache folder of its own if none is named."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("ATTAR_CACHE", scratch)
        runtime = Runtime(Engine(device="cpu"), 0, say=print)
        protocol = replace(PROTOCOLS["ceiling"], epochs=epochs)
        network = trained(source, parse(words_), runtime, protocol).network.eval()
        score = accuracy(network, source.test, source.transform, runtime)
        if os.environ["ATTAR_CACHE"] == scratch:
            del os.environ["ATTAR_CACHE"]
    print(f"{words_}: {score:.1f} % of {source.name} after {epochs} epochs on {len(source.train):,} images", flush=True)
    return network, score


def time_network(title: str, network: nn.Module, source: ImageSource, runs: int) -> dict[str, Any]:
    """Plan a trained network and compare it with itself; and the words of its real maps in every form."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(source.train), generator=generator)[:64]
    tested = torch.randperm(len(source.test), generator=generator)[:500]
    held_out = source.transform.forward(source.test.pixels[tested])
    _, made = plan(network, source.inputs(chosen), held_out=held_out, runs=runs, say=print)
    maps = real_maps(network, held_out[:16])
    print(f"{title}\n{made}")
    names = list(next(iter(maps.values()))["ratios"]) if maps else []
    table = Table("layer", "density", "cps index words", "packed", *names, title="real maps, im2col's words over each")
    for name, row in maps.items():
        saved = (f"{row['words_per_index'][form]:.3f}" for form in ("cps", "packed"))
        table.add_row(name, f"{row['density']:.2f}", *saved, *(f"{value:.2f}" for value in row["ratios"].values()))
    print(as_text(table), flush=True)
    layers = [asdict(layer) for layer in made.layers]
    return {"layers": layers, "whole": asdict(made.whole), "maps": maps}


@torch.inference_mode()
def real_maps(network: nn.Module, held_out: Tensor) -> dict[str, Any]:
    """How the inputs of a network's convolutions are stored, those without negative values."""
    seen: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda module, given, name=name: seen.update({name: given[0]}))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)
    ]
    network(held_out)
    for hook in hooks:
        hook.remove()
    layers = dict(network.named_modules())
    return {name: stored(x, Geometry.of_layer(layers[name])) for name, x in seen.items() if float(x.min()) >= 0}


def stored(maps: Tensor, geometry: Geometry) -> dict[str, Any]:
    """Means over images: density, ratios of words, and CPS's words for an index."""
    sizes = [words(image, geometry) for image in maps]
    total = {form: sum(size[form] for size in sizes) for form in sizes[0]}
    entries = int(maps.count_nonzero())
    saved = {"cps": total["cpo"] - total["cps"], "packed": total["cpo"] - total["cps, packed"]}
    return {
        "density": float((maps != 0).double().mean()),
        "ratios": {form: total["im2col"] / size if size else math.inf for form, size in total.items()},
        "words_per_index": {form: 1 - words_ / max(entries, 1) for form, words_ in saved.items()},
    }


if __name__ == "__main__":
    main()
