"""One GSTAM step on a real set, attar against a plain restatement of the authors' loop, and DosCond's step beside.

    ATTAR_DATA=... python bench/graph_step.py --quick     # does it run
    ATTAR_DATA=... python bench/graph_step.py             # the numbers, recorded in bench/results/graph_step.json

The authors take three forward passes of each branch (logits that nothing uses, attention, readout), class by class, and
keep the graph of a backward pass for the real branch, which nothing goes back through; messages are gathered and
scattered edge by edge. A second rival multiplies by attar's sparse matrix instead, so that what is left is the passes.
First both sides are given the same graphs, draws and parameters and must find the same loss; then each is timed in
processes of its own, in turn.
A cell is recorded when it ends; what is recorded is not measured again. Without $ATTAR_DATA the graphs are the drawn
motifs.
"""

import argparse
import json
import os
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import harness
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.core.runtime import Engine, Runtime
from attar.graphs.collection import GraphCollection
from attar.graphs.doscond import DosCond
from attar.graphs.gstam import GSTAM
from attar.graphs.matching import GraphMatching
from attar.graphs.sources import GraphSource, load
from attar.graphs.synthetic import Learned

ENGINE = Engine(device="cpu", quiet=True)
TARGET = 2.0
SETTING = {
    "network": "GCN, 3 layers of 128",
    "real_batch": 256,
    "power": 2,
    "form": "released",
    "rival": "messages added in place",
}
"""What the cells have in common. Cells of another setting are measured again."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    parser.add_argument("--sets", nargs="+", default=["NCI1", "PROTEINS", "MUTAG"], help="TU sets below $ATTAR_DATA/tu")
    parser.add_argument("--gpc", type=int, nargs="+", default=[1, 10, 50], help="graphs per class")
    parser.add_argument("--rounds", type=int, default=3, help="times that the sides take turns")
    parser.add_argument("--steps", type=int, default=20, help="steps timed in each process")
    args = parser.parse_args()
    names = args.sets if "ATTAR_DATA" in os.environ else ["motifs"]
    if args.quick:
        names, args.gpc, args.rounds, args.steps = names[-1:], [2], 1, 3
    cells, already = {}, recorded()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in names:
            for gpc in args.gpc:
                if name == "MUTAG" and gpc > 20:
                    continue
                cell = f"{name}, {gpc} per class"
                if not args.quick and cell in already:
                    continue
                setting = {"name": name, "gpc": gpc}
                check = harness.in_own_process(__file__, "check", folder, **setting)
                timed = {**setting, "steps": args.steps}
                sides = {
                    "rival": ("rival", {**timed, "by_products": False}),
                    "rival with sparse products": ("rival", {**timed, "by_products": True}),
                    "attar": ("attar", timed),
                    "doscond": ("doscond", timed),
                }
                try:
                    cells[cell] = {"check": check, **harness.in_turns(__file__, folder, sides, args.rounds)}
                except SystemExit as error:  # the other cells go on
                    print(f"{cell}: {error}", flush=True)
                    continue
                print(f"same loss to {check['loss']:.1g}, gradient to {check['gradient']:.1g}; ", end="")
                print(f"{harness.described(cell, cells[cell])} (target {TARGET})", flush=True)
                if not args.quick:
                    result = {"machine": harness.machine(), "setting": SETTING, "cells": cells}
                    harness.record("graph_step.json", result, beside=True, by_machine=True)


def recorded() -> set[str]:
    """The cells that were measured on this kind of machine against the rivals of today, by name."""
    path = harness.place("graph_step.json", harness.machine())
    facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return set(facts["cells"]) if facts.get("setting") == SETTING else set()


# ------------------------------------------------------------------------------------------- in processes of their own


def time_attar(folder: str, name: str, gpc: int, steps: int) -> dict[str, Any]:
    return timed(GSTAM(gpc=gpc, synthetic_map="released"), named(name), steps)


def time_doscond(folder: str, name: str, gpc: int, steps: int) -> dict[str, Any]:
    return timed(DosCond(gpc=gpc), named(name), steps)


def time_rival(folder: str, name: str, gpc: int, steps: int, by_products: bool) -> dict[str, Any]:
    method, state, _ = begun(GSTAM(gpc=gpc, synthetic_map="released"), named(name))
    rival = Restatement(method, state, by_products=by_products)
    return harness.timed(lambda: rival.step(rival.drawn()), warm_up=3, steps=steps)


def timed(method: GraphMatching, source: GraphSource, steps: int) -> dict[str, Any]:
    method, state, runtime = begun(method, source)
    return harness.timed(lambda: float(method.step(state, runtime)["loss"]), warm_up=3, steps=steps)


def check(folder: str, name: str, gpc: int) -> dict[str, float]:
    """Relative errors of attar's loss and gradients in its first step against the rival's."""
    method, state, runtime = begun(GSTAM(gpc=gpc, synthetic_map="released"), named(name))
    _, twin, other = begun(GSTAM(gpc=gpc, synthetic_map="released"), named(name))
    rival = Restatement(method, twin)
    rival.network.redraw(other)
    rows = method.draw_real(twin, other).rows
    wanted = rival.step(rows, other)
    loss = float(method.step(state, runtime)["loss"])
    pairs = ((state.edges.grad, rival.edges.grad), (state.features.grad, rival.features.grad))
    gaps = [float((mine - theirs).norm() / theirs.norm()) for mine, theirs in pairs]
    found = {"loss": abs(loss - wanted) / wanted, "gradient": max(gaps)}
    if found["loss"] > 1e-4 or found["gradient"] > 1e-2:
        raise SystemExit(f"rival and attar disagree about the step: {found}")
    return found


def named(name: str) -> GraphSource:
    return load(name if name == "motifs" else Path(os.environ["ATTAR_DATA"]) / "tu" / name)


def begun(method: GraphMatching, source: GraphSource) -> tuple[Any, Learned, Runtime]:
    runtime = Runtime(ENGINE, 0)
    method = method.resolve(source, runtime)
    return method, method.build(source, runtime), runtime


# ----------------------------------------------------------------------------------------- the authors' loop, restated


class PlainGCN(nn.Module):
    """Message passing by gather and scatter on edge lists for real graphs, dense products for synthetic ones."""

    def __init__(self, features: int, outputs: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [features] + [width] * depth
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(b, a)) for a, b in pairwise(widths))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(b)) for b in widths[1:])
        self.head = nn.Linear(width, outputs)

    def redraw(self, runtime: Runtime) -> None:
        """The draws of attar's network, in its order."""
        generator = runtime.generator("network", "cpu")
        for weight in self.weights:
            bound = (6 / sum(weight.shape)) ** 0.5
            weight.data.uniform_(-bound, bound, generator=generator)
        bound = self.head.in_features**-0.5
        self.head.weight.data.uniform_(-bound, bound, generator=generator)
        self.head.bias.data.uniform_(-bound, bound, generator=generator)

    def sparse(self, graphs: GraphCollection, *, by_products: bool) -> list[Tensor]:
        x, edges = graphs.features, graphs.edges
        if by_products:
            joined, maps = graphs.joined(), []
            for w, b in zip(self.weights, self.biases, strict=True):
                x = F.relu(joined.normalised(F.linear(x, w)) + b)
                maps.append(x)
            return maps
        loops = torch.arange(len(x))
        first, second = torch.cat([edges, torch.stack([loops, loops])], dim=1)
        scale = torch.bincount(first, minlength=len(x)).float().rsqrt()
        weight = (scale[first] * scale[second]).unsqueeze(1)
        maps = []
        for w, b in zip(self.weights, self.biases, strict=True):
            h = F.linear(x, w)
            x = F.relu(torch.zeros_like(h).index_add_(0, first, weight * h[second]) + b)
            maps.append(x)
        return maps

    def dense(self, x: Tensor, adjacency: Tensor) -> list[Tensor]:
        looped = adjacency.clone()
        nodes = torch.arange(looped.shape[1])
        looped[:, nodes, nodes] = 1
        scale = looped.sum(dim=-1).clamp_min(1) ** -0.5
        normalised = scale.unsqueeze(-1) * looped * scale.unsqueeze(-2)
        maps = []
        for w, b in zip(self.weights, self.biases, strict=True):
            x = F.relu(normalised @ F.linear(x, w) + b)
            maps.append(x)
        return maps


class Restatement:
    """One iteration as the released script takes it: class by class, three passes of each branch."""

    def __init__(self, method: GSTAM, state: Learned, *, by_products: bool = False) -> None:
        self.by_products = by_products
        self.method, self.state, self.source = method, state, state.source
        self.features = state.features.detach().clone().requires_grad_()
        self.edges = state.edges.detach().clone().requires_grad_()
        settings = method.architecture
        self.network = PlainGCN(self.source.features, self.source.outputs, settings.width, settings.depth)
        self.optimizers = [
            torch.optim.Adam([self.edges], method.lr_adjacency),
            torch.optim.Adam([self.features], method.lr_features),
        ]
        self.runtime, self.draws = Runtime(ENGINE, 0), 0

    def drawn(self) -> tuple[Tensor, ...]:
        """A fresh network and fresh rows."""
        self.network.redraw(self.runtime)
        size, generator = self.method.real_batch, self.runtime.generator("batches")
        return tuple(r[torch.randperm(len(r), generator=generator)[:size]] for r in self.source.rows_of)

    def step(self, rows: tuple[Tensor, ...], runtime: Runtime | None = None) -> float:
        logits = (self.edges + self.edges.mT) / 2
        adjacency = self.relaxed(logits, runtime or self.runtime)
        total, first = torch.zeros(()), 0
        for own, count in zip(rows, self.state.counts, strict=True):
            x, a = self.features[first : first + count], adjacency[first : first + count]
            first += count
            total = total + self.of_class(self.source.train.select(own), x, a)
        sparse = F.relu(torch.sigmoid(logits).mean() - self.state.density)
        loss = total + self.method.sparsity_weight * sparse
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.item()

    def of_class(self, real: GraphCollection, x: Tensor, a: Tensor) -> Tensor:
        network = self.network
        network.head(pooled(self.maps_of(real)[-1], real))  # logits, for nothing
        real_maps = self.maps_of(real)
        real_readout = pooled(self.maps_of(real)[-1], real).sum(dim=0)
        network.head(network.dense(x, a)[-1].mean(dim=1))
        maps = network.dense(x, a)
        readout = network.dense(x, a)[-1].mean(dim=1).sum(dim=0)
        power = self.method.power
        theirs = torch.cat([attention(h**power) for h in real_maps]).detach()
        ours = torch.cat([attention((h**power).sum(dim=0)) for h in maps])
        target = (real_readout / real_readout.abs().sum()).detach()
        return relative(ours, theirs) + self.method.readout_weight * relative(readout / readout.abs().sum(), target)

    def maps_of(self, real: GraphCollection) -> list[Tensor]:
        return self.network.sparse(real, by_products=self.by_products)

    def relaxed(self, logits: Tensor, runtime: Runtime) -> Tensor:
        noise = torch.rand(logits.shape, generator=runtime.generator("edges", "cpu")).clamp(1e-6, 1 - 1e-6)
        noise = noise.triu() + noise.triu(1).mT
        tau = max(0.01, 0.01 ** (self.draws / 200))
        self.draws += 1
        sample = torch.sigmoid((logits + noise.log() - (1 - noise).log()) / tau)
        return sample * (1 - torch.eye(logits.shape[1]))


def pooled(h: Tensor, graphs: GraphCollection) -> Tensor:
    total = torch.zeros(len(graphs), h.shape[1]).index_add_(0, graphs.graph_of, h)
    return total / graphs.sizes.unsqueeze(1)


def attention(energy: Tensor) -> Tensor:
    gram = energy.T @ energy
    return (gram / gram.sum()).flatten()


def relative(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum() / b.square().sum()


if __name__ == "__main__":
    workers = {"attar": time_attar, "rival": time_rival, "doscond": time_doscond, "check": check}
    if not harness.run_worker(workers):
        main()
