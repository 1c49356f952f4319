"""Curves as SVG, which works without a script."""

import math

from attar.reporting.html import safe
from attar.reporting.side import Points

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 240, 92, 12, 12, 34
"""A chart's size in its own units, and the room around its curves; `page.js` draws the same."""


def charts(curves: dict[str, Points]) -> str:
    """A chart for every metric."""
    drawn = "".join(chart(name, points) for name, points in curves.items())
    return f"<div class='charts'>{drawn}</div>" if drawn else ""


def chart(name: str, points: Points) -> str:
    """A curve, linear and logarithmic; a checkbox chooses."""
    scales, toggle = [_scaled(points, logarithmic=False)], ""
    if min(value for _, value in points) > 0:
        scales.append(_scaled(points, logarithmic=True))
        toggle = "<label class='toggle'><input type='checkbox'> logarithmic</label>"
    caption = f"<figcaption><span>{safe(name)}</span><output></output></figcaption>"
    return f"<figure class='chart' data-name='{safe(name)}'>{caption}{toggle}{''.join(scales)}</figure>"


def _scaled(points: Points, *, logarithmic: bool) -> str:
    values = [math.log10(value) if logarithmic else value for _, value in points]
    low, high = min(values), max(values)
    first, last = points[0][0], points[-1][0]

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / max(last - first, 1)

    def y(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share

    path = " ".join(f"{x(step):.1f},{y(value):.1f}" for (step, _), value in zip(points, values, strict=True))
    lines = ""
    for share in (0.0, 0.5, 1.0) if high > low else (0.0,):
        value = low + share * (high - low)
        shown = f"{10**value if logarithmic else value:.3g}"
        lines += f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y(value):.1f}' y2='{y(value):.1f}'/>"
        lines += f"<text x='{LEFT - 6}' y='{y(value) + 5:.1f}' text-anchor='end'>{shown}</text>"
    for step, anchor in ((first, "start"), (last, "end")):
        lines += f"<text x='{x(step):.1f}' y='{HEIGHT - 8}' text-anchor='{anchor}'>step {step:,}</text>"
    kind = "logarithmic" if logarithmic else "linear"
    return (
        f"<svg class='{kind}' viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{kind} curve'>"
        f"{lines}<polyline points='{path}'/></svg>"
    )
