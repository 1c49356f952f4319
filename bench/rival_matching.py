"""What the authors' scripts of gradient and trajectory matching do in one step: the rivals of the speed scripts.

Plain restatements, in our own code, of the habits that decide how long a step takes. Gradient matching (DC, DSA,
arXiv:2006.05929, arXiv:2102.08259): class after class in float32, gradients of all parameters, one graph over all
classes. Trajectory matching (MTT, arXiv:2203.11932): the graph of all student steps is kept, the network reads its
parameters from one split of a vector. Experts (MTT's buffer): one network after another, eager.
"""

from collections.abc import Sequence

import rival
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from rival import ConvNet, Images, any_operation, augment
from torch import Tensor, nn
from torch.func import functional_call


class GradientMatching:
    """The synthetic images of DSA, and the script's step."""

    def __init__(self, images: Images, labels: Int[Tensor, " image"], *, ipc: int, real_batch: int) -> None:
        # The sampling of real images and their start is DataDAM's script's, which took it over.
        self.sampler = rival.Distillation(images, labels, ipc=ipc, real_batch=real_batch)
        self.classes, self.ipc, self.real_batch = self.sampler.classes, ipc, real_batch
        self.synthetic = self.sampler.synthetic
        self.optimizer = torch.optim.SGD([self.synthetic], lr=0.1, momentum=0.5)
        self.network = ConvNet("instance", self.classes, images.shape[-1])

    def step(self, *, rows: Sequence[Tensor] | None = None, draws: Sequence[rival.Draw] | None = None) -> float:
        """One match of all classes, and one update."""
        parameters = list(self.network.parameters())
        loss = torch.tensor(0.0)
        for c in range(self.classes):
            real = self.sampler.real_images(c, self.real_batch) if rows is None else self.sampler.images[rows[c]]
            synthetic = self.synthetic[c * self.ipc : (c + 1) * self.ipc]
            draw = draws[c] if draws is not None else rival.Draw(any_operation(), torch.rand(3).tolist())
            real, synthetic = augment(real, draw), augment(synthetic, draw)
            gradients = []
            for batch, again in ((real, False), (synthetic, True)):
                labels = torch.full((len(batch),), c)
                entropy = F.cross_entropy(self.network(batch)[1], labels)
                gradients.append(torch.autograd.grad(entropy, parameters, create_graph=again))
            wanted = [g.detach().clone() for g in gradients[0]]
            loss = loss + distance(wanted, gradients[1])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def distance(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Float[Tensor, ""]:
    """The row-wise cosine distance, layer by layer."""
    total = torch.tensor(0.0)
    for first, second in zip(real, synthetic, strict=True):
        if first.ndim == 1:
            continue
        a, b = first.reshape(len(first), -1), second.reshape(len(second), -1)
        cosine = torch.sum(a * b, dim=-1) / (torch.norm(a, dim=-1) * torch.norm(b, dim=-1) + 1e-6)
        total = total + torch.sum(1 - cosine)
    return total


class TrajectoryMatching:
    """The synthetic images of MTT, and the script's step."""

    def __init__(self, images: Images, labels: Int[Tensor, " image"], *, steps: int, lr: float) -> None:
        self.images = images.clone().requires_grad_()
        self.labels, self.steps = labels, steps
        self.lr = torch.tensor(lr).requires_grad_()
        self.network = ConvNet("instance", int(labels.max()) + 1, images.shape[-1])
        named = list(self.network.named_parameters())
        self.layout = [(name, parameter.shape, parameter.numel()) for name, parameter in named]

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of one split, as in the script; a slice for each would give each a gradient of the vector's length."""
        pieces = vector.split([count for *_, count in self.layout])
        return {name: piece.view(shape) for (name, shape, _), piece in zip(self.layout, pieces, strict=True)}

    def step(self, start: Tensor, target: Tensor, draws: Sequence[rival.Draw] | None = None) -> float:
        """One student, unrolled, and the gradients of where it ends."""
        vector = start.clone().requires_grad_()
        for step in range(self.steps):
            draw = draws[step] if draws is not None else rival.Draw(any_operation())
            seen = augment(self.images, draw)
            logits = functional_call(self.network, self.named(vector), (seen,))[1]
            entropy = F.cross_entropy(logits, self.labels)
            (gradient,) = torch.autograd.grad(entropy, vector, create_graph=True)
            vector = vector - self.lr * gradient
        loss = F.mse_loss(vector, target, reduction="sum") / F.mse_loss(start, target, reduction="sum")
        self.images.grad = None
        loss.backward()
        return loss.item()


class Experts:
    """MTT's buffer: networks one after another, each step eager in float32."""

    def __init__(self, images: Images, labels: Int[Tensor, " image"], *, batch: int = 256) -> None:
        self.images, self.labels, self.batch = images, labels, batch

    def epoch(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """One pass over the data in shuffled batches."""
        for rows in torch.randperm(len(self.images)).split(self.batch):
            seen = augment(self.images[rows], rival.Draw(any_operation()))
            loss = F.cross_entropy(network(seen)[1], self.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def train(self, count: int, epochs: int) -> list[list[Tensor]]:
        """Networks, and their parameters after every epoch."""
        buffer = []
        for _ in range(count):
            network = ConvNet("instance", int(self.labels.max()) + 1, self.images.shape[-1])
            optimizer = torch.optim.SGD(network.parameters(), 0.01)
            kept = [torch.cat([p.detach().flatten() for p in network.parameters()])]
            for _ in range(epochs):
                self.epoch(network, optimizer)
                kept.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
            buffer.append(kept)
        return buffer
