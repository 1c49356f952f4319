"""A picture of a labelled set of graphs: one row per class, each node in the colour of its strongest feature."""

import io
import math

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from attar.graphs.collection import GraphCollection

MOST_CLASSES, MOST_PER_CLASS, MOST_NODES = 12, 8, 150
CELL, GAP, MARGIN, FINER = 150, 10, 16, 2
"""Sizes in pixels. Everything is drawn twice as large and then scaled down, which smooths the lines."""
COLOURS = (
    "#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948",
    "#b07aa1", "#ff9da7", "#9c755f", "#bab0ac", "#1b6ca8", "#8c564b",
)  # fmt: skip


def preview(graphs: GraphCollection, classes: tuple[str, ...]) -> bytes:
    """A PNG of up to 12 classes by 8 graphs, with up to 150 nodes of each graph. Nodes without an edge are small.

    Args:
        graphs: The graphs.
        classes: The names of the classes.
    """
    font = ImageFont.load_default(size=15 * FINER)
    shown = list(range(min(len(classes), MOST_CLASSES)))
    rows = [torch.nonzero(graphs.labels == label).flatten()[:MOST_PER_CLASS] for label in shown]
    name_width = int(max(font.getlength(_short(classes[label])) for label in shown)) + 2 * GAP * FINER
    cell, gap, margin = CELL * FINER, GAP * FINER, MARGIN * FINER
    width = 2 * margin + name_width + max(map(len, rows)) * (cell + gap) - gap
    sheet = Image.new("RGB", (width, 2 * margin + len(shown) * (cell + gap) - gap), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (label, of_class) in enumerate(zip(shown, rows, strict=True)):
        top = margin + place * (cell + gap)
        draw.text((margin, top + cell / 2), _short(classes[label]), "#333333", font, anchor="lm")
        for column, row in enumerate(of_class.tolist()):
            _draw(draw, graphs.select(torch.tensor([row])), margin + name_width + column * (cell + gap), top, cell)
    sink = io.BytesIO()
    sheet.resize((sheet.width // FINER, sheet.height // FINER), Image.Resampling.BOX).save(sink, "PNG")
    return sink.getvalue()


def layout(nodes: int, edges: np.ndarray, steps: int = 60) -> np.ndarray:
    """Places of a graph's nodes in the unit square, `[node, 2]`, by attraction of edges and repulsion of all nodes.

    Fruchterman and Reingold, Software: Practice and Experience, 1991. A further force pulls to the centre. Nodes start
    on a spiral, so nothing is random.
    """
    angles = 2 * np.pi * np.arange(nodes) * 0.618034
    places = 0.5 * np.sqrt((np.arange(nodes) + 1) / nodes)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    spacing = 1 / math.sqrt(nodes)
    joined = np.zeros((nodes, nodes))
    joined[tuple(edges)] = 1
    for heat in np.linspace(0.1, 0.01, steps):
        gaps = places[:, None] - places[None]
        distances = np.maximum(np.linalg.norm(gaps, axis=2), 1e-3)
        pushes = (spacing / distances) ** 2 - joined * distances / spacing
        moves = (gaps * pushes[..., None]).sum(axis=1) - 2 * places * spacing
        lengths = np.maximum(np.linalg.norm(moves, axis=1, keepdims=True), 1e-9)
        places = places + moves / lengths * np.minimum(lengths, heat)
    low, high = places.min(axis=0), places.max(axis=0)
    return 0.5 + (places - (low + high) / 2) / max(float((high - low).max()), 1e-9)


def _draw(draw: ImageDraw.ImageDraw, graph: GraphCollection, left: int, top: int, cell: int) -> None:
    nodes = min(len(graph.features), MOST_NODES)
    edges = graph.edges[:, (graph.edges < nodes).all(dim=0)].numpy()
    radius = max(2 * FINER, min(6 * FINER, cell // (3 * math.isqrt(nodes) + 6)))
    spots = layout(nodes, edges) * (cell - 2 * radius) + radius + np.array([left, top])
    for first, second in edges.T[edges[0] < edges[1]]:
        draw.line([*spots[first], *spots[second]], "#999999", FINER)
    strongest = graph.features[:nodes].argmax(dim=1).tolist()
    for node, (x, y) in enumerate(spots):
        size = radius if graph.degrees[node] else radius / 2
        draw.ellipse([x - size, y - size, x + size, y + size], COLOURS[strongest[node] % len(COLOURS)])


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"
