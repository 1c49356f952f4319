"""What a network says, on the way to its logits too: attar's own are asked, any other is watched by hooks.

Networks are of images, or of text as `transformers` has them; what such a model says of each token is read as a map of
one column, and nothing of what is padded.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError, unknown
from attar.images.networks.blocks import Network

Images = Float[Tensor, "sample channel height width"]
INPUT = "input:"
"""Before a module's name: what goes into it, and not what comes out."""
BEFORE = "before-activation"
"""Instead of names: the stages of attar's own networks before their last activation, of those that can show them so."""


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
        layers: Names of the modules whose outputs are its stages, or `input:NAME` for what goes into one, such as the
            last activation of a block; left out, those of attar's own networks after each of their stages, and none of
            any other network. `before-activation` alone: those of attar's own before their last activation; after it
            where they cannot be told apart.

    Raises:
        InputError: A name that it does not have, or no linear layer at its end.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str] = ()) -> None:
        self.network, self.layers = network, _named(network, layers)
        self.asked = isinstance(network, Network) and not self.layers
        for name in self.layers:  # a name that is not there is refused now, and not in the first step
            _module(network, name)
        self.head = None if self.asked else last_linear(network)

    def __call__(self, inputs: Images | Mapping[str, Any]) -> Answers:
        """Its answers, to images or to named inputs, as models of `transformers` take them.

        Raises:
            InputError: A classifier of tokens whose last layer does not say which of them its logits are of.
        """
        if self.asked and isinstance(inputs, Tensor):
            assert isinstance(self.network, Network)
            stages, embedding = self.network.features(inputs)
            return Answers(self.network.classifier(embedding), embedding, list(stages))
        head = last_linear(self.network) if self.head is None else self.head
        with seen(self.network, self.layers) as outputs, _through(head) as passed:
            found = self._answered(inputs)
        logits = getattr(found, "logits", found)
        padding = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
        stages = [as_map(outputs[name], padding) for name in self.layers]
        return Answers(logits, _pooled(*passed[-1], logits), stages)

    def _answered(self, inputs: Images | Mapping[str, Any]) -> Any:
        return self.network(**taken(self.network, inputs)) if isinstance(inputs, Mapping) else self.network(inputs)

    @torch.no_grad()
    def tried(self, shape: tuple[int, int, int], device: torch.device, who: str = "network") -> Answers:
        """Its answers to two black images, in evaluation; its mode is as before.

        Raises:
            InputError: It does not take images of this shape.
        """
        training = self.network.training
        self.network.eval()
        try:
            return self(torch.zeros(2, *shape, device=device))
        except (RuntimeError, ValueError) as error:
            channels, height, width = shape
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise InputError(f"the {who} takes no images of {channels}×{height}×{width} ({reason}).") from None
        finally:
            self.network.train(training)


@contextmanager
def seen(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect what comes out of named modules, or goes into them (`input:NAME`): `{"layer1.0": tensor, ...}`.

    Of a module that gives several things it is the first.

    Raises:
        InputError: A name the network does not have.
    """
    found: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name in layers:
            module = _module(network, name)
            if name.startswith(INPUT):
                handle = module.register_forward_pre_hook(_keep_input(found, name))
            else:
                handle = module.register_forward_hook(_keep_output(found, name))
            hooks.callback(handle.remove)
        yield found


def _named(network: nn.Module, layers: Sequence[str]) -> list[str]:
    """The layers one by one."""
    if list(layers) != [BEFORE]:
        return list(layers)
    if not isinstance(network, Network):
        raise InputError(f"{BEFORE} is for attar's own networks; name layers of this one, such as input:NAME.")
    return [f"{INPUT}{name}" for name in network.before_activation]


def _keep_input(found: dict[str, Tensor], name: str) -> Callable[..., None]:
    # A copy, because an activation in place would overwrite what the hook saw.
    return lambda module, inputs: found.__setitem__(name, inputs[0].clone())


def _keep_output(found: dict[str, Tensor], name: str) -> Callable[..., None]:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        while not isinstance(output, Tensor):
            output = output[0]
        found[name] = output.clone()

    return keep


def _module(network: nn.Module, name: str) -> nn.Module:
    modules = dict(network.named_modules())
    plain = name.removeprefix(INPUT)
    if plain not in modules:
        raise unknown("module", plain, [known for known in modules if known])
    return modules[plain]


@contextmanager
def _through(head: nn.Linear) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """What goes into the last layer, and what comes out of it."""
    passed: list[tuple[Tensor, Tensor]] = []
    handle = head.register_forward_hook(lambda module, inputs, output: passed.append((inputs[0], output)))
    try:
        yield passed
    finally:
        handle.remove()


def _pooled(features: Tensor, scores: Tensor, logits: Tensor) -> Float[Tensor, "sample feature"]:
    """What the last layer saw; where it saw every token, that of the token whose scores are the logits.

    Decoders classify so: each token is scored, and the last one that is no padding counts.
    """
    if features.ndim != 3:
        return features.flatten(1)
    match = torch.isclose(scores, logits[:, None, :], rtol=0, atol=0, equal_nan=True).all(dim=2)
    if not match.any(dim=1).all():
        raise InputError("the last linear layer scores every token, and none of them as the logits have it.")
    last = match.shape[1] - 1 - match.flip(1).int().argmax(dim=1)
    return features[torch.arange(len(features), device=features.device), last]


def as_map(output: Tensor, padding: Tensor | None = None) -> Tensor:
    """A stage: maps as they are; features of tokens as maps of one column, zero where a token is padding.

    Args:
        output: Of a module: sample, channel, height, width; or sample, token, feature.
        padding: The attention mask of a text: sample, token; zero for padding.
    """
    if output.ndim != 3:
        return output
    if padding is not None and padding.shape == output.shape[:2]:
        output = output * padding[:, :, None].to(output.dtype)
    return output.transpose(1, 2).unsqueeze(3)


def taken(network: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the named inputs that a network's `forward` names; all of them where it names none.

    So one batch goes to a teacher and a student of different families, of which one has token types and one has not.
    """
    named = [name for name in inspect.signature(network.forward).parameters if name in inputs]
    return {name: inputs[name] for name in named or inputs}


def last_linear(network: nn.Module) -> nn.Linear:
    """The linear layer that stands last among a network's modules.

    Raises:
        InputError: There is none.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise InputError(f"{type(network).__name__} ends in no linear layer, whose input is the embedding.")
    return layers[-1]
