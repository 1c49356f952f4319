"""What a network says of images, on the way to its logits too: attar's own are asked, any other is watched by hooks."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.images.blocks import Network
from attar.images.networks import captured

Images = Float[Tensor, "sample channel height width"]


@dataclass
class Answers:
    """A network's answers to a batch."""

    logits: Float[Tensor, "sample classes"]
    embedding: Float[Tensor, "sample feature"]
    """What its last linear layer sees."""
    stages: list[Tensor]
    """Maps on the way, shallow to deep."""

    def rows(self, rows: Tensor) -> "Answers":
        """Those to some of the samples."""
        return Answers(self.logits[rows], self.embedding[rows], [stage[rows] for stage in self.stages])

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Channels, height and width of every stage.

        Raises:
            InputError: A stage that is no map.
        """
        for stage in self.stages:
            if stage.ndim != 4:
                raise InputError(
                    f"a layer that was named gives {list(stage.shape[1:])} for a sample; name layers whose output is a "
                    "map: channels, height, width."
                )
        return [(stage.shape[1], stage.shape[2], stage.shape[3]) for stage in self.stages]


class Watched:
    """A network that shows what it sees, untouched: hooks are there only while it answers.

    Args:
        network: A classifier that gives logits, or an output of `transformers` that has them.
        layers: Names of the modules whose outputs are its stages; left out, those of attar's own networks after each
            of their stages, and none of any other network.

    Raises:
        InputError: A name that it does not have, or no linear layer at its end.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str] = ()) -> None:
        self.network, self.layers = network, list(layers)
        self.asked = isinstance(network, Network) and not layers
        with captured(network, self.layers):  # a name that is not there is refused now, and not in the first step
            self.head = None if self.asked else last_linear(network)

    def __call__(self, images: Images | Mapping[str, Tensor]) -> Answers:
        """Its answers, to images or to named inputs, as models of `transformers` take them."""
        if self.asked and isinstance(images, Tensor):
            assert isinstance(self.network, Network)
            stages, embedding = self.network.features(images)
            return Answers(self.network.classifier(embedding), embedding, list(stages))
        assert self.head is not None
        seen: list[Tensor] = []
        with ExitStack() as hooks:
            outputs = hooks.enter_context(captured(self.network, self.layers))
            handle = self.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
            hooks.callback(handle.remove)
            found = self.network(**images) if isinstance(images, Mapping) else self.network(images)
        logits = getattr(found, "logits", found)
        return Answers(logits, seen[-1].flatten(1), [outputs[name] for name in self.layers])

    @torch.no_grad()
    def tried(self, shape: tuple[int, int, int], device: torch.device) -> Answers:
        """Its answers to two black images, in evaluation; its mode is as before."""
        training = self.network.training
        self.network.eval()
        found = self(torch.zeros(2, *shape, device=device))
        self.network.train(training)
        return found


def last_linear(network: nn.Module) -> nn.Linear:
    """The linear layer that stands last among a network's modules.

    Raises:
        InputError: There is none.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise InputError(f"{type(network).__name__} ends in no linear layer, whose input is the embedding.")
    return layers[-1]
