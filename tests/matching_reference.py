"""What the first step of a distribution-matching run draws, and its losses written class by class in float64."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attar.core.runtime import Engine, Runtime
from attar.core.selection import draw_rows
from attar.images.networks.architecture import redraw_
from attar.images.views.augment import Draw, augment, draw_each, strategy

ENGINE = Engine(device="cpu", compile="off", quiet=True)


@dataclass
class Run:
    """A method about to take its first step, with copies of everything the step will draw."""

    method: Any
    state: Any
    runtime: Runtime
    rows: Tensor
    draw: Draw | None
    network: torch.nn.Module

    def step(self) -> dict[str, Tensor]:
        return self.method.step(self.state, self.runtime)

    @property
    def classes(self) -> int:
        return len(self.state.source.classes)

    def features(self, wanted: list[int]) -> tuple[Any, Any]:
        """Maps and embedding, in float64, of these classes' real and synthetic images, each augmented as drawn."""
        labels = self.state.source.targets[self.rows]
        real = torch.isin(labels, torch.tensor(wanted))
        synthetic = torch.isin(self.state.labels, torch.tensor(wanted))
        both = (
            (self.state.source.inputs(self.rows[real]), labels[real]),
            (self.state.images.detach()[synthetic], self.state.labels[synthetic]),
        )
        seen = []
        for images, of in both:
            images = images.double()
            if self.draw is not None:
                images = augment(images, self.draw.repeat(of), align_corners=self.method.align_corners)
            maps, embedding = self.network.features(images)
            seen.append((maps, embedding, of))
        return seen[0], seen[1]


def begin(method: Any, source: Any, seed: int = 0) -> Run:
    runtime, twin = Runtime(ENGINE, seed), Runtime(ENGINE, seed)
    method = method.resolve(source, runtime)
    state = method.build(source, runtime)
    network = copy.deepcopy(state.network)
    redraw_(network, twin.generator("network", "cpu"))
    rows = draw_rows(source.rows_of, method.real_batch, twin.generator("batches"))
    operations = strategy(method.augmentation)
    draw = draw_each(len(source.classes), operations, twin.generator("augment")) if operations else None
    return Run(method, state, runtime, rows, draw, network.double())


def mmd_by_class(run: Run) -> float:
    """Σ over classes of the squared distance of mean embeddings, one class through the network at a time."""
    total = 0.0
    for label in range(run.classes):
        (_, real, _), (_, synthetic, _) = run.features([label])
        total += float((real.mean(dim=0) - synthetic.mean(dim=0)).square().sum())
    return total
