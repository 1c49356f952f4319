"""Multi-sample dropout: several dropout masks on the same features in one step, whose losses are averaged.

The network runs once; only dropout and the layers after it run M times. A step then has a less noisy gradient: its
variance over masks falls as 1 / M, its mean stays. Worth trying where dropout helps and the part after it is small
beside the rest of the network. It mostly saves epochs: with strong dropout (p = .8) the loss falls much faster, and M
above 8 adds little. Compare it with a smaller p, and with M = 1 for the same time.

What averages the logits of the branches instead (`reduce="logits"`) is another loss, which is never larger.

Hiroshi Inoue, Multi-Sample Dropout for Accelerated Training and Better Generalization, arXiv:1905.09788, 2019.
"""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.classifiers.pair import Batch
from attar.classifiers.watched import Answers, Watched, last_linear, token_of
from attar.core.dropout import dropping, masked
from attar.core.errors import InputError
from attar.images.networks.blocks import Network

Branches = Float[Tensor, "masks sample classes"]
Maps = Float[Tensor, "sample channel height width"]
Pooled = Float[Tensor, "sample channel pooled_height pooled_width"]
Criterion = Callable[[Tensor, Tensor], Tensor]
Diversity = Callable[[Tensor], Tensor]
Reduce = Literal["loss", "logits"]
Average = Literal["losses", "logits"]


def multi_sample_loss(
    logits: Tensor, target: Tensor, criterion: Criterion = F.cross_entropy, reduce: Reduce = "loss"
) -> Float[Tensor, ""]:
    """The mean over branches of a criterion; of logits `[sample, classes]`, as in evaluation, the criterion itself.

    Each branch is given to the criterion alone, so weights of classes and ignored labels work as they do without
    branches.

    Args:
        logits: The logits of each branch, `[masks, sample, classes]`.
        target: What the criterion takes beside logits.
        criterion: A loss such as `F.cross_entropy`. If it gives a number for each sample, their mean is taken.
        reduce: What is averaged over branches: losses, or logits.
    """
    if logits.ndim < 3:
        return criterion(logits, target).mean()
    if reduce == "logits":
        return criterion(logits.mean(dim=0), target).mean()
    return torch.stack([criterion(branch, target).mean() for branch in logits]).mean()


class MultiSampleDropout(nn.Module):
    """A head behind several masks of dropout.

    In training it gives logits `[masks, sample, classes]`, in evaluation `[sample, classes]` of one pass without
    dropout. Features with more than two dimensions are flattened. Masks come from PyTorch's global generator, so a
    head that is checkpointed must keep the state of that generator, as `torch.utils.checkpoint` does by default.

    Args:
        head: The layers after dropout, which all branches share.
        p: Share of the features that is dropped.
        num_samples: Number of branches.
        diversity: What else differs between branches: a function of maps `[sample, channel, height, width]`, applied
            before they are flattened, which draws anew for each branch; or a list with one function for each branch.
            A function that changes the shape has a function `at_rest` for evaluation.
        reduce: What `loss` averages over branches.
        vectorised: Whether the head sees all branches in one call. If not, it is called once for each. Batch norm in
            the head then averages over each branch alone, and updates its statistics once for each.

    Raises:
        InputError: A number is out of range, or there is not one function for each branch.
    """

    def __init__(
        self,
        head: nn.Module,
        p: float = 0.5,
        num_samples: int = 8,
        diversity: Diversity | Sequence[Diversity] | None = None,
        reduce: Reduce = "loss",
        *,
        vectorised: bool = True,
    ) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise InputError(f"p is {p:g}; it must be at least 0 and below 1.")
        if not _is_whole(num_samples) or num_samples < 1:
            raise InputError(f"num_samples is {num_samples}; it must be a whole number, 1 or more.")
        if reduce not in ("loss", "logits"):
            raise InputError(f"reduce is {reduce!r}; it must be 'loss' or 'logits'.")
        if isinstance(diversity, Sequence) and len(diversity) != num_samples:
            raise InputError(f"diversity has {len(diversity)} functions for {num_samples} branches. Give one for each.")
        self.head, self.p, self.num_samples, self.diversity = head, p, num_samples, diversity
        self.reduce, self.vectorised = reduce, vectorised

    def forward(self, features: Tensor) -> Tensor:
        """The logits of all branches in training, of one pass without dropout in evaluation."""
        if self.training:
            return self._branches(features, range(self.num_samples))
        functions = self._functions
        at_rest = getattr(functions[0], "at_rest", None) if functions else None
        logits: Tensor = self.head(_flat(features if at_rest is None else at_rest(features)))
        return logits

    def loss(self, features: Tensor, target: Tensor, criterion: Criterion = F.cross_entropy) -> Float[Tensor, ""]:
        """The loss of features and their targets."""
        return multi_sample_loss(self(features), target, criterion, self.reduce)

    def backward(
        self, features: Tensor, target: Tensor, criterion: Criterion = F.cross_entropy, *, chunk: int = 1
    ) -> Float[Tensor, ""]:
        """Compute the gradient of the loss, a few branches at a time, and return the loss.

        The gradient is that of `loss(...).backward()`, but the memory of the head is that of `chunk` branches.

        Args:
            features: Features, whose graph is walked through once, at the end.
            target: The targets.
            criterion: The loss of one branch.
            chunk: Number of branches that are computed together.

        Raises:
            InputError: Logits are averaged, which needs all branches at once, the module is in evaluation mode, or a
                chunk has no branch.
        """
        if chunk < 1:
            raise InputError(f"chunk is {chunk}; it must be 1 or more.")
        if self.reduce == "logits":
            raise InputError("reduce='logits' needs the logits of all branches at once. Call loss(...).backward().")
        if not self.training:
            raise InputError("there are no branches in evaluation mode. Call train() first.")
        apart = features.detach().requires_grad_(features.requires_grad)
        total = features.new_zeros(())
        for numbers in torch.arange(self.num_samples).split(chunk):
            share = len(numbers) / self.num_samples
            loss = share * multi_sample_loss(self._branches(apart, numbers.tolist()), target, criterion)
            loss.backward()
            total = total + loss.detach()
        if apart.grad is not None:
            features.backward(apart.grad)
        return total

    @property
    def _functions(self) -> list[Diversity]:
        """The function of each branch, if there are any."""
        if self.diversity is None:
            return []
        return list(self.diversity) if isinstance(self.diversity, Sequence) else [self.diversity] * self.num_samples

    def _branches(self, features: Tensor, numbers: Sequence[int]) -> Branches:
        """The logits of some of the branches."""
        functions = self._functions
        if not functions:
            rows = masked(_flat(features), self.p, len(numbers))
        else:
            rows = F.dropout(torch.stack([_flat(functions[number](features)) for number in numbers]), self.p)
        return through(self.head, rows, vectorised=self.vectorised)

    def extra_repr(self) -> str:
        """The settings."""
        return f"p={self.p}, num_samples={self.num_samples}, reduce={self.reduce!r}"


def through(head: nn.Module, rows: Float[Tensor, "masks sample feature"], *, vectorised: bool = True) -> Branches:
    """The logits of each branch: of all branches in one call of the head, or with one call for each."""
    if not vectorised:
        return torch.stack([head(row) for row in rows])
    logits: Tensor = head(rows.flatten(0, 1))
    return logits.unflatten(0, rows.shape[:2])


def random_hflip(maps: Maps) -> Maps:
    """Maps of which each sample's are mirrored with probability ½.

    Without effect after pooling over all places. (The paper mirrors maps; how it draws could not be read.)
    """
    mirrored = torch.rand(len(maps), 1, 1, 1, device=maps.device) < 0.5
    return torch.where(mirrored, maps.flip(3), maps)


class PoolOffset:
    """Largest values over squares of 2×2 places, whose grid starts one place earlier or not, at random in each axis.

    The border is padded with zeros on that side. At rest the grid starts at the first place.
    """

    def __call__(self, maps: Maps) -> Pooled:
        """Pooled maps of half the size, rounded up."""
        up, left = torch.randint(2, (2,)).tolist()
        return F.max_pool2d(F.pad(maps, (left, 1 - left, up, 1 - up)), 2)

    def at_rest(self, maps: Maps) -> Pooled:
        """The same from the first place on."""
        return F.max_pool2d(F.pad(maps, (0, 1, 0, 1)), 2)


random_pool_offset = PoolOffset()
"""Pooling with a random offset of its grid, as a function of maps."""


def _flat(features: Tensor) -> Tensor:
    return features.flatten(1) if features.ndim > 2 else features


# ------------------------------------------------------------------------------------------ in the training of networks


def answers_under_masks(
    watched: Watched, inputs: Tensor | Mapping[str, Any], p: float, samples: int
) -> tuple[Answers, Branches | None]:
    """A network's outputs while the input of its last linear layer is dropped under several masks.

    The logits in the outputs are the mean over masks, which is what a teacher's term compares. The embedding and the
    stages are whole. Dropout layers of the network itself work as they do otherwise.

    Args:
        watched: The network.
        inputs: What it takes.
        p: Share that is dropped. 0 runs the network as it is.
        samples: Number of masks.

    Returns:
        The outputs, and the logits under each mask if there are several.

    Raises:
        InputError: The network's logits are not what its last linear layer gives.
    """
    if not p:
        return watched(inputs), None
    layer = _classifier(watched.network)
    with dropping(layer, p, samples) as found:
        said = watched(inputs)
    if samples == 1 or not layer.training:
        return said, None
    columns = getattr(watched.network, "columns", None)
    kept = slice(None) if columns is None else list(columns)
    rows = None if found.mean is None else token_of(found.mean[..., kept], said.logits)
    if rows is None or found.branches is None:
        raise InputError(
            f"the {watched.who}'s logits are not what its last linear layer gives, so dropout_samples does not work. "
            "Set it to 1."
        )
    return said, rows(found.branches[..., kept])


def over_masks(batch: Batch, average: Average, loss: Callable[[Tensor], Tensor]) -> Float[Tensor, ""]:
    """The mean over masks of a loss of the student's logits, or the loss of their mean.

    Args:
        batch: The samples. Without several masks it is the loss of the student's logits.
        average: What is averaged.
        loss: A function of logits.
    """
    if batch.branches is None:
        return loss(batch.student.logits)
    branches = batch.branches.mean(dim=0, keepdim=True) if average == "logits" else batch.branches
    return torch.stack([loss(logits) for logits in branches]).mean()


def check_droppable(answers: Answers, p: float, who: str = "student") -> None:
    """Check that there are features to drop.

    Raises:
        InputError: No linear layer gives the logits.
    """
    if p and not answers.embedding.shape[1]:
        raise InputError(f"dropout is {p:g}, but no linear layer gives the {who}'s logits. Do not set dropout.")


def _classifier(network: nn.Module) -> nn.Linear:
    own = network.classifier if isinstance(network, Network) else None
    return own if isinstance(own, nn.Linear) else last_linear(network)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral)
