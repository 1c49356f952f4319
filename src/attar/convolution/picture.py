"""A picture of a plan: how many times faster each method is than PyTorch's convolution, layer by layer."""

import io
from typing import Any

COLOURS = {
    "packed": "#588157",
    "im2col": "#b7b7b7",
    "mec": "#8c8c8c",
    "cpo": "#e9a23b",
    "cps": "#c8553d",
    "direct": "#1b6ca8",
}


def picture(layers: Any) -> bytes | None:
    """A PNG of the time ratios; None if matplotlib is not installed or no layer was measured.

    Args:
        layers: The `LayerChoice` of each layer of a plan.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullLocator
    except ImportError:
        return None
    measured = [layer for layer in layers if layer.milliseconds]
    if not measured:
        return None
    methods = [name for name in measured[0].milliseconds if not name.startswith("dense")]
    figure = Figure(figsize=(max(4.0, 1.2 + 1.1 * len(measured)), 3.4), dpi=120)
    axes = figure.add_subplot()
    width = 0.8 / len(methods)
    for place, method in enumerate(methods):
        spots = [number + (place - (len(methods) - 1) / 2) * width for number in range(len(measured))]
        heights = [_times(layer, method) for layer in measured]
        axes.bar(spots, heights, width, label=method, color=COLOURS.get(method, "#333333"), zorder=3)
    axes.axhline(1, color="#333333", linewidth=0.8, zorder=4)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("times faster than conv2d")
    labels = [f"{layer.name}\n{layer.density:.2f}" + _mark(layer) for layer in measured]
    axes.set_xticks(range(len(measured)), labels, fontsize=7)
    axes.set_xlabel("layer, density of its input; * switched")
    axes.grid(axis="y", color="#eeeeee", zorder=0)
    axes.legend(frameon=False, fontsize=7, ncols=len(methods), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    sink = io.BytesIO()
    figure.savefig(sink, format="png", metadata={"Software": None}, bbox_inches="tight")
    return sink.getvalue()


def _times(layer: Any, method: str) -> float:
    usual = min(median.value for name, median in layer.milliseconds.items() if name.startswith("dense"))
    return usual / layer.milliseconds[method].value if method in layer.milliseconds else float("nan")


def _mark(layer: Any) -> str:
    return " *" if layer.method != "dense" else ""
