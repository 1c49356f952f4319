"""What the authors' DataDAM script does in one step, and its evaluation in one epoch: the rival of the speed scripts.

A plain restatement, in our own code, of the habits of DataDistillation/DataDAM (arXiv:2310.00093) that decide how
long a step takes: a network built for each step, Python lists of rows permuted class by class, two small calls of
DSA per class, hooks that copy every activation, one forward pass for all classes, everything eager in float32.
Rows, draws and parameters can be handed in, so that the loss can be compared with attar's.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

Images = Float[Tensor, "image channel height width"]
Labels = Int[Tensor, " image"]

OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")
FACTOR = 100
"""On both terms of the loss."""


@dataclass(frozen=True)
class Draw:
    """One operation; its parameters, in [0, 1), are the same for all images if given, else each image's own."""

    operation: str
    uniform: Sequence[float] | None = None

    def parameters(self, count: int, which: int) -> Float[Tensor, " image"]:
        """One parameter for each image."""
        values = torch.rand(count)
        if self.uniform is not None:
            values[:] = self.uniform[which]
        return values


class ConvNet(nn.Module):
    """Blocks of convolution, norm, in-place ReLU and pooling in one sequence; answers with embedding and logits."""

    def __init__(self, norm: str, classes: int, side: int, *, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in [3] + [width] * (depth - 1):
            normalise = nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(width, width)
            layers += [nn.Conv2d(channels, width, 3, padding=1), normalise, nn.ReLU(inplace=True), nn.AvgPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * (side // 2**depth) ** 2, classes)

    def forward(self, images: Images) -> tuple[Tensor, Tensor]:
        maps = self.features(images)
        embedding = maps.reshape(len(maps), -1)
        return embedding, self.classifier(embedding)


class Distillation:
    """The synthetic images, and the script's loop around them."""

    def __init__(
        self, images: Images, labels: Labels, *, ipc: int, real_batch: int, norm: str = "instance", power: float = 1.0
    ) -> None:
        self.images, self.classes = images, int(labels.max()) + 1
        self.ipc, self.real_batch, self.norm, self.power = ipc, real_batch, norm, power
        self.random = np.random.default_rng(0)
        self.rows_of: list[list[int]] = [[] for _ in range(self.classes)]
        for row, label in enumerate(labels.tolist()):
            self.rows_of[label].append(row)
        start = torch.cat([self.real_images(c, ipc) for c in range(self.classes)])
        self.synthetic = start.clone().requires_grad_()
        self.optimizer = torch.optim.SGD([self.synthetic], lr=1.0, momentum=0.5)

    def real_images(self, label: int, count: int) -> Images:
        """Random images of a class, by permuting the list of all its rows."""
        return self.images[self.random.permutation(self.rows_of[label])[:count]]

    def step(
        self,
        *,
        parameters: Iterable[Tensor] | None = None,
        rows: Sequence[Tensor] | None = None,
        draws: Sequence[Draw] | None = None,
    ) -> float:
        """One update of the synthetic images; what is not given is drawn."""
        network = self._network(parameters)
        real, synthetic = self._batches(rows, draws)
        loss = self.loss(network, real, synthetic)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def loss(self, network: ConvNet, real: Images, synthetic: Images, task_balance: float = 0.01) -> Float[Tensor, ""]:
        """Attention of all blocks but the last, then embeddings; means over each class by reshaping."""
        seen: list[Tensor] = []
        relus = [module for module in network.features if isinstance(module, nn.ReLU)]
        hooks = [relu.register_forward_hook(lambda m, i, output: seen.append(output.clone())) for relu in relus]
        real_embedding = network(real)[0].detach()
        real_maps = seen.copy()
        seen.clear()
        synthetic_embedding = network(synthetic)[0]
        for hook in hooks:
            hook.remove()
        loss = torch.tensor(0.0)
        for first, second in zip(real_maps[:-1], seen[:-1], strict=True):
            loss = loss + FACTOR * self._gap(attention(first.detach(), self.power), attention(second, self.power))
        return loss + FACTOR * task_balance * self._gap(real_embedding, synthetic_embedding)

    def _network(self, parameters: Iterable[Tensor] | None) -> ConvNet:
        network = ConvNet(self.norm, self.classes, self.images.shape[-1])
        network.train()
        for parameter in network.parameters():
            parameter.requires_grad = False
        if parameters is not None:
            for own, given in zip(network.parameters(), parameters, strict=True):
                own.copy_(given)
        return network

    def _batches(self, rows: Sequence[Tensor] | None, draws: Sequence[Draw] | None) -> tuple[Images, Images]:
        all_real, all_synthetic = [], []
        for c in range(self.classes):
            real = self.real_images(c, self.real_batch) if rows is None else self.images[rows[c]]
            synthetic = self.synthetic[c * self.ipc : (c + 1) * self.ipc]
            draw = draws[c] if draws is not None else Draw(any_operation(), torch.rand(3).tolist())
            all_real.append(augment(real, draw))
            all_synthetic.append(augment(synthetic, draw))
        return torch.cat(all_real), torch.cat(all_synthetic)

    def _gap(self, real: Float[Tensor, "real view"], synthetic: Float[Tensor, "synthetic view"]) -> Float[Tensor, ""]:
        first = real.reshape(self.classes, self.real_batch, -1).mean(dim=1)
        second = synthetic.reshape(self.classes, self.ipc, -1).mean(dim=1)
        return ((first - second) ** 2).sum()


def attention(maps: Images, power: float) -> Float[Tensor, "image place"]:
    """Sum of powers over filters, as a unit vector."""
    energy = (maps.abs() ** power).sum(dim=1)
    return F.normalize(energy.view(len(maps), -1), p=2, dim=1)


class Training:
    """The script's evaluation: a network trained on a condensed set through a DataLoader."""

    def __init__(self, images: Images, labels: Labels, *, batch: int = 256, norm: str = "instance") -> None:
        self.network = ConvNet(norm, int(labels.max()) + 1, images.shape[-1])
        # On a GPU the loader shuffles there, because that is the default device of the one who times it.
        shuffled_by = torch.Generator(images.device) if images.is_cuda else None
        self.loader = DataLoader(TensorDataset(images, labels), batch_size=batch, shuffle=True, generator=shuffled_by)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = self._optimizer(0.01)

    def train(self, epochs: int) -> None:
        """All epochs, the step size cut half-way. (The script makes one pass more than it is asked for.)"""
        for epoch in range(epochs):
            self.epoch()
            if epoch == epochs // 2 + 1:
                self.optimizer = self._optimizer(0.001)

    def epoch(self) -> float:
        """One pass over the condensed set; the share of it that was labelled rightly."""
        self.network.train()
        return self._pass(self.loader, training=True)

    def test(self, images: Images, labels: Labels) -> float:
        """Per cent of the test images labelled rightly."""
        self.network.eval()
        with torch.no_grad():
            return 100 * self._pass(DataLoader(TensorDataset(images, labels), batch_size=256), training=False)

    def _pass(self, loader: DataLoader, *, training: bool) -> float:
        loss_sum, right, seen = 0.0, 0, 0
        for images, labels in loader:
            images, labels = images.float(), labels.long()
            if training:
                images = augment(images, Draw(any_operation()))
            logits = self.network(images)[1]
            loss = self.criterion(logits, labels)
            right += int(np.sum(np.equal(np.argmax(logits.detach().cpu().numpy(), axis=-1), labels.cpu().numpy())))
            loss_sum += loss.item() * len(labels)
            seen += len(labels)
            if training:
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
        return right / seen

    def _optimizer(self, lr: float) -> torch.optim.SGD:
        return torch.optim.SGD(self.network.parameters(), lr, momentum=0.9, weight_decay=5e-4)


def any_operation() -> str:
    """One of DSA's operations."""
    return OPERATIONS[int(torch.randint(len(OPERATIONS), (1,)).item())]


def augment(images: Images, draw: Draw) -> Images:
    """One DSA operation on a small batch."""
    return AUGMENTATIONS[draw.operation](images, draw).contiguous()


def _color(images: Images, draw: Draw) -> Images:
    bright, saturate, contrast = (draw.parameters(len(images), which).view(-1, 1, 1, 1) for which in range(3))
    images = images + (bright - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * (saturate * 2) + grey
    mean = images.mean(dim=[1, 2, 3], keepdim=True)
    return (images - mean) * (contrast + 0.5) + mean


def _crop(images: Images, draw: Draw) -> Images:
    """Shift by up to an eighth of the side: every pixel is gathered from a frame of zeros."""
    count, _, height, width = images.shape
    reach = int(height * 0.125 + 0.5)
    down, right = ((draw.parameters(count, axis) * (2 * reach + 1)).long() - reach for axis in (0, 1))
    image, row, column = torch.meshgrid(torch.arange(count), torch.arange(height), torch.arange(width), indexing="ij")
    row = (row + down.view(-1, 1, 1) + 1).clamp(0, height + 1)
    column = (column + right.view(-1, 1, 1) + 1).clamp(0, width + 1)
    framed = F.pad(images, [1, 1, 1, 1]).permute(0, 2, 3, 1).contiguous()
    return framed[image, row, column].permute(0, 3, 1, 2)


def _cutout(images: Images, draw: Draw) -> Images:
    """Zero a square of half the side: its pixels are scattered into a mask of ones."""
    count, _, height, width = images.shape
    size = int(height * 0.5 + 0.5)
    top, left = ((draw.parameters(count, axis) * (height + 1 - size % 2)).long() - size // 2 for axis in (0, 1))
    image, row, column = torch.meshgrid(torch.arange(count), torch.arange(size), torch.arange(size), indexing="ij")
    row = (row + top.view(-1, 1, 1)).clamp(0, height - 1)
    column = (column + left.view(-1, 1, 1)).clamp(0, width - 1)
    mask = torch.ones(count, height, width)
    mask[image, row, column] = 0
    return images * mask.unsqueeze(1)


def _flip(images: Images, draw: Draw) -> Images:
    return torch.where(draw.parameters(len(images), 0).view(-1, 1, 1, 1) < 0.5, images.flip(3), images)


def _scale(images: Images, draw: Draw) -> Images:
    wide, high = (draw.parameters(len(images), axis) * (1.2 - 1 / 1.2) + 1 / 1.2 for axis in (0, 1))
    return _warp(images, [[[wide[i], 0, 0], [0, high[i], 0]] for i in range(len(images))])


def _rotate(images: Images, draw: Draw) -> Images:
    angle = (draw.parameters(len(images), 0) - 0.5) * 2 * 15 / 180 * math.pi
    matrices = [
        [[torch.cos(angle[i]), torch.sin(-angle[i]), 0], [torch.sin(angle[i]), torch.cos(angle[i]), 0]]
        for i in range(len(images))
    ]
    return _warp(images, matrices)


def _warp(images: Images, matrices: list) -> Images:
    """Sample along the grids of matrices given as nested lists."""
    grid = F.affine_grid(torch.tensor(matrices, dtype=torch.float), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


AUGMENTATIONS: dict[str, Callable[[Images, Draw], Images]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
