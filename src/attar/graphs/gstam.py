"""GSTAM: match which channels of random networks light up together, over all nodes of a class, layer by layer.

Worth trying over DosCond for the time: it needs no gradient of a gradient. Maps and readouts forget the scale of
activations, so on imbalanced sets a network may rank well and put the border in the wrong place.
Rasti-Meymandi, Sajedi, Xu and Plataniotis, GSTAM: Efficient Graph Distillation with Structural Attention-Matching, ECCV
workshop on dataset distillation 2024, arXiv:2408.16871.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.graphs.matching import EPSILON, Distance, GraphMatching, line_of
from attar.graphs.networks import Architecture
from attar.graphs.structures import Graphs, Nodes, Pooling
from attar.graphs.synthetic import Learned

Group = Float[Tensor, "group node channel"]
Maps = Float[Tensor, "group layer entry"]
Form = Literal["consistent", "released"]
Attention = Literal["pairs", "channels"]


@dataclass(frozen=True, kw_only=True)
class GSTAM(GraphMatching):
    """Match structural attention of random networks (Rasti-Meymandi et al., ECCV workshop 2024, arXiv:2408.16871).

    L(S) = Σ_c [ rel(STAM^S, STAM^T) + λ rel(r^S, r^T) ] + β ReLU(mean σ(Ω) - s0), with rel(a, b) = ‖a - b‖² / ‖b‖²,
    STAM_l = G_l / ‖G_l‖₁ of G_l = (X_l^p)ᵀ X_l^p over all nodes of a class, and r the class's mean readout.
    The networks are never trained: the paper's figure says otherwise, its code and its logs do not.
    """

    attention_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the attention term; 0 leaves the matching of mean readouts, which is DM on graphs."""
    readout_weight: Annotated[float, Range(0)] = 0.1
    """Weight λ of the readout term."""
    power: Annotated[float, Range(1, 16)] = 2.0
    """Power p of the activations."""
    synthetic_map: Form = "consistent"
    """The synthetic side's map: over all nodes like the real side's, or as released, where the graphs of a class are
    added up node by node first, so that it depends on how their nodes are numbered."""
    attention: Attention = "pairs"
    """What a map holds: pairs of channels, or single channels, as an older version that stands unused in the code."""
    per_layer: bool = False
    """Whether each layer's error is relative to its own map, so that the largest does not drown the rest."""

    moved = MappingProxyType({"form": "synthetic_map"})
    name = "gstam"

    def match(self, state: Learned, runtime: Runtime) -> dict[str, Tensor]:
        """One pass of real graphs, one of synthetic ones, one update."""
        state.network.requires_grad_(False)
        batch = self.draw_real(state, runtime)
        with torch.no_grad():
            real, real_readout = self.look(state, batch.graphs, batch.counts, batch.node_counts)
        graphs, nodes, counts = self.sample(state, runtime), state.features.shape[1], self.groups(state.counts)
        added_up = nodes if self.synthetic_map == "released" else None
        node_counts = tuple(nodes * count for count in counts)
        synthetic, readout = self.look(state, graphs, counts, node_counts, added_up=added_up)
        attended = map_distance(synthetic, real, self.distance, per_layer=self.per_layer)
        read = map_distance(readout.unsqueeze(1), real_readout.unsqueeze(1), self.distance)
        found = self.update(state, graphs, self.attention_weight * attended + self.readout_weight * read)
        return {**found, "attention": attended, "readout": read}

    def look(
        self,
        state: Learned,
        graphs: Graphs,
        counts: tuple[int, ...],
        node_counts: tuple[int, ...],
        *,
        added_up: int | None = None,
    ) -> tuple[Maps, Float[Tensor, "group channel"]]:
        """The attention maps of every class and layer, and every class's readout, from one forward pass."""
        maps = state.network.maps(graphs)
        readout = class_readout(graphs.pool(maps[-1], self.architecture.pooling), counts)
        if not self.attention_weight:
            return readout.new_zeros(len(readout), 1, 1), readout
        how: Any = {"power": self.power, "attention": self.attention, "added_up": added_up}
        attention = [structural_attention(h.flatten(0, -2), node_counts, **how) for h in maps]
        return torch.stack(attention, dim=1), readout

    @classmethod
    def paper(cls, data: str, *, gpc: int, variant: Literal["paper", "released"] = "paper") -> Self:
        """The settings of one line of the released scripts, which are all that is known of the paper's.

        Args:
            data: MUTAG, NCI1, DD, ogbg-molbbbp, ogbg-molhiv or ogbg-molbace (of which there is no script).
            gpc: 1 or 10, or the largest of the table: 20 for MUTAG, 50 for the others.
            variant: `released` takes the code's form of the synthetic map too.

        Raises:
            InputError: A data set or a number of graphs that the scripts do not have.
        """
        key, (nodes, pooling, cells) = line_of(LINES, data, "GSTAM's scripts")
        if gpc not in cells:
            known = ", ".join(map(str, cells))
            raise InputError(f"gpc is {gpc}, which the scripts do not have for {data}; they have {known}.")
        lr_adjacency, lr_features, readout_weight, power = cells[gpc]
        return cls(
            gpc=gpc,
            nodes=nodes,  # the code's table of mean sizes
            lr_adjacency=lr_adjacency,
            lr_features=lr_features,
            readout_weight=readout_weight,
            power=power,
            theory_weight=1.0 if key == "molhiv" else 0.0,  # in the code for this set only
            class_agnostic=key == "molbace",  # in the code for this set and CIFAR10
            synthetic_map="released" if variant == "released" else "consistent",
            architecture=Architecture(pooling=pooling),
        )


LINES: dict[str, tuple[int, Pooling, dict[int, tuple[float, float, float, float]]]] = {
    "MUTAG": (18, "mean", {1: (0.1, 0.005, 0.2, 2), 10: (0.1, 0.01, 0.1, 3), 20: (0.2, 0.005, 0.1, 4)}),
    "NCI1": (30, "mean", {1: (0.01, 0.01, 0.1, 3), 10: (1, 0.005, 0.1, 4), 50: (1, 0.005, 0.1, 2)}),
    "DD": (285, "mean", {1: (2, 0.01, 0.1, 1), 10: (2, 0.05, 0.1, 1), 50: (2, 0.1, 0.1, 1)}),
    "molbbbp": (24, "mean", {1: (1, 0.001, 0.1, 4), 10: (1, 0.003, 0.1, 4), 50: (1, 0.001, 0.1, 4)}),
    "molhiv": (26, "sum", {1: (0.01, 0.01, 0.1, 2), 10: (0.01, 0.01, 0.1, 4), 50: (0.01, 0.01, 0.1, 1)}),
    "molbace": (34, "mean", dict.fromkeys((1, 10, 50), (0.01, 0.01, 0.1, 2))),
}
"""Nodes, readout, and by graphs per class: step sizes of edges and features, λ and p. Of molbace, not verified."""


def structural_attention(
    nodes: Nodes,
    counts: tuple[int, ...],
    *,
    power: float = 2.0,
    attention: Attention = "pairs",
    added_up: int | None = None,
) -> Float[Tensor, "group entry"]:
    """STAM = G / ‖G‖₁ with G = (X^p)ᵀ X^p over all nodes of a class, flattened.

    Args:
        nodes: X, non-negative, the nodes of class after class.
        counts: Nodes of each class.
        power: p.
        attention: `channels` has Σ_i X_i^p in the place of G.
        added_up: N, to add up the graphs of a class node by node before multiplying, as released.

    Returns:
        Non-negative, with sum 1 in each class; all zero where no channel answers.
    """
    found = []
    for energy in split_classes(powered(nodes, power), counts):
        if added_up is not None:
            energy = energy.unflatten(1, (-1, added_up)).sum(dim=1)
        strength = energy.sum(dim=1) if attention == "channels" else (energy.mT @ energy).flatten(1)
        found.append(strength / strength.sum(dim=1, keepdim=True).clamp_min(EPSILON))
    return torch.cat(found)


def powered(nodes: Nodes, power: float) -> Nodes:
    """X^p; above p = 2 of X divided by its largest entry, which no normalised map can tell, lest float32 overflow."""
    if power == 1:
        return nodes
    if power == 2:
        return nodes.square()
    scaled = nodes / nodes.detach().amax().clamp_min(EPSILON)
    return scaled.square().square() if power == 4 else scaled.pow(power)


def class_readout(pooled: Float[Tensor, "graph channel"], counts: tuple[int, ...]) -> Float[Tensor, "group channel"]:
    """Class means r = Σ_b pool(X_b) / ‖ . ‖₁ of each class."""
    total = torch.cat([part.sum(dim=1) for part in split_classes(pooled, counts)])
    return total / total.abs().sum(dim=1, keepdim=True).clamp_min(EPSILON)


def split_classes(rows: Nodes, counts: tuple[int, ...]) -> list[Group]:
    """Rows by class: in one batch where all classes have as many, else one after another."""
    if len(set(counts)) == 1:
        return [rows.unflatten(0, (len(counts), -1))]
    return [part.unsqueeze(0) for part in rows.split(counts)]


def map_distance(
    synthetic: Maps, real: Maps, distance: Distance = "mse", *, per_layer: bool = False
) -> Float[Tensor, ""]:
    """Distance of maps, summed over classes: of all layers together, or of each by itself.

    `mse` is ‖a - b‖² / ‖b‖², `cos` 1 - cosine, and `ours` that of every layer.
    """
    if not per_layer and distance != "ours":
        synthetic, real = synthetic.flatten(1).unsqueeze(1), real.flatten(1).unsqueeze(1)
    if distance == "mse":
        gaps, sizes = (synthetic - real).square().sum(dim=2), real.square().sum(dim=2)
        return (gaps / sizes.clamp_min(EPSILON)).sum()
    return (1 - torch.cosine_similarity(synthetic, real, dim=2, eps=EPSILON)).sum()
