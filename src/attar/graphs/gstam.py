"""GSTAM: match which channels of random networks are active together, over all nodes of a class, layer by layer.

It is faster than DosCond, because it needs no gradient of a gradient. Maps and readouts do not contain the scale of
activations. On imbalanced sets a network may therefore rank graphs well but put the decision border in the wrong place.
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
from attar.core.presets import published
from attar.core.processes import ALONE, Processes
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.graphs.matching import EPSILON, Distance, GraphMatching, of_groups, row_cosines
from attar.graphs.structures import Graphs, Nodes
from attar.graphs.synthetic import Learned

Group = Float[Tensor, "group node channel"]
Maps = Float[Tensor, "group layer entry"]
Form = Literal["consistent", "released"]
Attention = Literal["pairs", "channels"]


@dataclass(frozen=True, kw_only=True)
class GSTAM(GraphMatching):
    """Match structural attention of random networks (Rasti-Meymandi et al., ECCV workshop 2024, arXiv:2408.16871).

    L(S) = Σ_c [ rel(STAM^S, STAM^T) + λ rel(r^S, r^T) ] + β ReLU(mean σ(Ω) - s0), with rel(a, b) = ‖a - b‖² / ‖b‖²,
    STAM_l = G_l / ‖G_l‖₁ with G_l = (X_l^p)ᵀ X_l^p over all nodes of a class, and r the class's mean readout.
    The networks are never trained. This follows the paper's code and logs; its figure shows trained networks.
    """

    attention_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the attention term. With 0 only mean readouts are matched, which is DM on graphs."""
    readout_weight: Annotated[float, Range(0)] = 0.1
    """Weight λ of the readout term."""
    power: Annotated[float, Range(1, 16)] = 2.0
    """Power p of the activations."""
    synthetic_map: Form = "consistent"
    """Form of the synthetic map. consistent: over all nodes, as for real graphs. released: graphs of a class are first
    added node by node, as in the released code, so the map depends on the order of nodes."""
    attention: Attention = "pairs"
    """Entries of an attention map: pairs of channels, or single channels as in an older, unused part of the code."""
    per_layer: bool = False
    """Whether the error of each layer is relative to the layer's own map, so that no layer dominates the others."""

    moved = MappingProxyType({"form": "synthetic_map"})
    name = "gstam"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distance == "ours" and self.attention == "channels":
            raise InputError(
                "distance ours compares the rows of a map, and attention channels has none; choose another."
            )

    def match(self, state: Learned, runtime: Runtime) -> dict[str, Tensor]:
        """Pass real and synthetic graphs through the network once, and update the synthetic graphs once."""
        state.network.requires_grad_(False)
        batch, counts = self.draw_real(state, runtime), self.groups(state.counts)
        mine = runtime.processes.share(len(counts))
        with torch.no_grad():
            real, real_readout = self.look(
                state, batch.graphs, batch.counts, batch.node_counts, processes=batch.processes
            )
        graphs, nodes = self.sample(state, runtime), state.features.shape[1]
        attended = read = graphs.features.new_zeros(())
        if mine:
            added_up, own = nodes if self.synthetic_map == "released" else None, tuple(counts[group] for group in mine)
            node_counts = tuple(nodes * count for count in own)
            synthetic, readout = self.look(state, of_groups(graphs, counts, mine), own, node_counts, added_up=added_up)
            real, real_readout = real[mine.start :: mine.step], real_readout[mine.start :: mine.step]
            width = self.architecture.width
            attended = map_distance(synthetic, real, self.distance, per_layer=self.per_layer, row=width)
            read = map_distance(readout.unsqueeze(1), real_readout.unsqueeze(1), self.distance)
        matched = self.attention_weight * attended + self.readout_weight * read
        found = self.update(state, graphs, matched, runtime)
        attended, read = runtime.processes.sum_(torch.stack([attended, read]).detach())
        return {**found, "attention": attended, "readout": read}

    def look(
        self,
        state: Learned,
        graphs: Graphs,
        counts: tuple[int, ...],
        node_counts: tuple[int, ...],
        *,
        added_up: int | None = None,
        processes: Processes = ALONE,
    ) -> tuple[Maps, Float[Tensor, "group channel"]]:
        """The attention maps of every class and layer, and the readout of every class, from one forward pass.

        Of real graphs, which need no gradient, each process gives those that it has, and gets the maps of all.
        """
        maps = state.network.maps(graphs)
        readout = class_readout(graphs.pool(maps[-1], self.architecture.pooling), counts, processes)
        if not self.attention_weight:
            return readout.new_zeros(len(readout), 1, 1), readout
        how: Any = {"power": self.power, "attention": self.attention, "added_up": added_up, "processes": processes}
        attention = [structural_attention(h.flatten(0, -2), node_counts, **how) for h in maps]
        return torch.stack(attention, dim=1), readout

    @classmethod
    def paper(cls, data: str, *, gpc: int, variant: Literal["paper", "released"] = "paper") -> Self:
        """The settings of one line of the released scripts (`attar condense gstam --paper` lists them).

        Args:
            data: MUTAG, NCI1, DD, ogbg-molbbbp, ogbg-molhiv or ogbg-molbace (which has no script).
            gpc: Number of graphs per class: 1, 10, or the largest of the table (20 for MUTAG, 50 for the others).
            variant: `released` also takes the code's form of the synthetic map.

        Raises:
            InputError: The scripts do not have the cell.
        """
        return published(cls, data, gpc, variant=variant)


def structural_attention(
    nodes: Nodes,
    counts: tuple[int, ...],
    *,
    power: float = 2.0,
    attention: Attention = "pairs",
    added_up: int | None = None,
    processes: Processes = ALONE,
) -> Float[Tensor, "group entry"]:
    """STAM = G / ‖G‖₁ with G = (X^p)ᵀ X^p over all nodes of a class, flattened.

    Args:
        nodes: X, the non-negative activations of nodes, sorted by class.
        counts: Number of nodes of each class.
        power: The power p.
        attention: `channels` uses Σ_i X_i^p instead of G.
        added_up: Nodes N per graph if the graphs of a class are added node by node before multiplying, as released.
        processes: Those among which the nodes are divided. Then there is no gradient.

    Returns:
        Non-negative entries with sum 1 in each class; all zero if no channel is active.
    """
    found, parts = [], split_classes(nodes, counts)
    largest = processes.max_(torch.cat([part.detach().amax(dim=(1, 2)) for part in parts]))
    for part, top in zip(parts, largest.split([len(part) for part in parts]), strict=True):
        energy = powered(part, power, top)
        if added_up is not None:
            energy = energy.unflatten(1, (-1, added_up)).sum(dim=1)
        found.append(energy.sum(dim=1) if attention == "channels" else (energy.mT @ energy).flatten(1))
    strength = processes.sum_(torch.cat(found))
    return strength / strength.sum(dim=1, keepdim=True).clamp_min(EPSILON)


def powered(nodes: Group, power: float, largest: Float[Tensor, " group"] | None = None) -> Group:
    """X^p, where X is divided by its largest entry in each class, so that float32 neither overflows nor vanishes.

    A normalised map does not change by this, and neither does its gradient.

    Args:
        nodes: X, non-negative.
        power: The power p.
        largest: The number to divide the nodes of each class by. Default: their largest entry.
    """
    largest = (nodes.detach().amax(dim=(1, 2)) if largest is None else largest)[:, None, None]
    scaled = nodes / torch.where(largest > 0, largest, 1)
    if power in (1, 2, 4):
        return {1: scaled, 2: scaled.square(), 4: scaled.square().square()}[int(power)]
    return scaled.pow(power)


def class_readout(
    pooled: Float[Tensor, "graph channel"], counts: tuple[int, ...], processes: Processes = ALONE
) -> Float[Tensor, "group channel"]:
    """The mean readout r = Σ_b pool(X_b) / ‖ . ‖₁ of each class, whose graphs several processes may have divided."""
    total = processes.sum_(torch.cat([part.sum(dim=1) for part in split_classes(pooled, counts)]))
    return total / total.abs().sum(dim=1, keepdim=True).clamp_min(torch.finfo(total.dtype).tiny)


def split_classes(rows: Nodes, counts: tuple[int, ...]) -> list[Group]:
    """Rows by class: one batch if all classes have equally many, otherwise a part for each class."""
    if len(set(counts)) == 1:
        return [rows.unflatten(0, (len(counts), -1))]
    return [part.unsqueeze(0) for part in rows.split(counts)]


def map_distance(
    synthetic: Maps, real: Maps, distance: Distance = "mse", *, per_layer: bool = False, row: int = 1
) -> Float[Tensor, ""]:
    """The distance of maps, summed over classes, for all layers together or for each layer.

    `mse` is ‖a - b‖² / ‖b‖² and `cos` is 1 - cosine. `ours` is the released code's: 1 - cosine of each row of a map,
    summed (see `row_cosines`).

    Args:
        synthetic: Maps of synthetic graphs.
        real: Maps of real graphs.
        distance: Distance.
        per_layer: Whether each layer is relative to its own map.
        row: Entries of a row, for `ours`: the width d of a map of d × d entries, and 1 for a readout, whose entries the
            released code compares one by one.
    """
    if distance == "ours":
        return row_cosines(synthetic.unflatten(2, (-1, row)), real.unflatten(2, (-1, row)))
    if not per_layer:
        synthetic, real = synthetic.flatten(1).unsqueeze(1), real.flatten(1).unsqueeze(1)
    if distance == "mse":
        gaps, sizes = (synthetic - real).square().sum(dim=2), real.square().sum(dim=2)
        return (gaps / sizes.clamp_min(EPSILON)).sum()
    return (1 - torch.cosine_similarity(synthetic, real, dim=2, eps=EPSILON)).sum()
