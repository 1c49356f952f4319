"""A small set that is drawn instead of downloaded. A motif of five nodes on a random tree determines the class.

The trees are Barabási and Albert's with one edge per node. The motifs are a house (a square with a roof) and a ring
with one node attached to it. They have equally many nodes and nearly as many edges. Every node also has a random
colour, which carries no information. The motifs are those of GNNExplainer's test (Ying et al., NeurIPS 2019,
arXiv:1903.03894).
"""

import torch
from torch import Tensor

from attar.core.seeds import uniform
from attar.graphs.collection import GraphCollection
from attar.graphs.tu import RawSet

GRAPHS, COLOURS, MOST_DEGREES = 400, 3, 5
SMALLEST_TREE, TREE_SIZES = 8, 9
"""Trees have 8 to 16 nodes."""
HOUSE = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 4), (1, 4)]
RING = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 4)]
CLASSES = {"house": HOUSE, "ring": RING}


def motifs() -> RawSet:
    """Draw the set, which is the same each time."""
    draws = uniform(0, "motifs", GRAPHS, SMALLEST_TREE + TREE_SIZES + 10)
    parts = [_graph(row, number % len(CLASSES)) for number, row in enumerate(draws)]
    sizes = torch.tensor([size for size, _ in parts])
    starts = sizes.cumsum(0) - sizes
    edges = torch.cat([edges + start for (_, edges), start in zip(parts, starts, strict=True)], dim=1)
    labels = torch.arange(GRAPHS) % len(CLASSES)
    bare = GraphCollection.of(torch.zeros(int(sizes.sum()), 0), edges, sizes, labels)
    degrees = torch.eye(MOST_DEGREES)[bare.degrees.clamp_max(MOST_DEGREES) - 1]
    colours = torch.eye(COLOURS)[(uniform(0, "colours", len(bare.features)) * COLOURS).long()]
    features = torch.cat([degrees, colours], dim=1)
    return RawSet("motifs", tuple(CLASSES), GraphCollection(features, bare.edges, bare.sizes, bare.labels))


def _graph(draws: Tensor, label: int) -> tuple[int, Tensor]:
    """The number of nodes and the edges of one graph. The nodes of the tree come first, then those of the motif."""
    size = SMALLEST_TREE + int(draws[0] * TREE_SIZES)
    edges, ends = [(0, 1)], [0, 1]
    for node in range(2, size):
        other = ends[int(draws[node] * len(ends))]  # drawn in proportion to its number of edges
        edges.append((node, other))
        ends += [node, other]
    motif = list(CLASSES.values())[label]
    edges += [(size + first, size + second) for first, second in motif]
    edges.append((int(draws[-1] * size), size + int(draws[-2] * 5)))
    extra = [(int(draws[-4 - k] * size), int(draws[-7 - k] * size)) for k in range(int(draws[-3] * 3))]
    return size + 5, torch.tensor([*edges, *extra]).T
