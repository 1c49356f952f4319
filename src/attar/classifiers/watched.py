"""A network's logits, embedding and stages. attar's own networks return them; any other network is observed by hooks.

Networks take images, or text as in `transformers`. The features of tokens are read as a map with one column; padding
is ignored.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.classifiers.teachers import Averaged
from attar.core.errors import InputError, reason_of, unknown
from attar.core.precision import at_least_float32
from attar.core.sharing import Share
from attar.images.networks.architecture import evaluating
from attar.images.networks.blocks import Network
from attar.images.networks.outputs import logits_in, outputs_of

Images = Float[Tensor, "sample channel height width"]
INPUT = "input:"
"""Prefix of a module's name that selects the module's input instead of its output."""
BEFORE = "before-activation"
"""Value instead of layer names: the stages of attar's own networks before their last activation, if they have them."""


@dataclass
class Answers:
    """A network's outputs for a batch."""

    logits: Float[Tensor, "sample classes"]
    embedding: Float[Tensor, "sample feature"]
    """Input of the last linear layer. It has no columns if no linear layer gives the logits."""
    stages: list[Tensor]
    """Maps of the stages, from shallow to deep."""

    def rows(self, rows: Tensor) -> "Answers":
        """The outputs for some of the samples."""
        return Answers(self.logits[rows], self.embedding[rows], [stage[rows] for stage in self.stages])

    def joined(self, share: Share, *, stages: bool) -> "Answers":
        """The outputs for all samples of a batch that several processes share; the stages only if they are needed."""
        if share.alone:
            return self
        own = [self.logits, self.embedding, *(self.stages if stages else [])]
        logits, embedding, *maps = share.joined(*map(at_least_float32, own))
        return Answers(logits, embedding, maps)

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Channels, height and width of every stage.

        Raises:
            InputError: A stage is not a map.
        """
        for stage in self.stages:
            if stage.ndim != 4:
                raise InputError(
                    f"a named layer gives {list(stage.shape[1:])} for each sample. Name layers whose output is a map: "
                    "channels, height, width."
                )
        return [(stage.shape[1], stage.shape[2], stage.shape[3]) for stage in self.stages]


class Watched:
    """A network that also returns its stages. It is not changed: hooks are present only during a forward pass.

    Args:
        network: A classifier that gives logits, or an output of `transformers` that has them.
        layers: Names of the modules whose outputs are the stages, or `input:NAME` for the input of a module, such as
            the last activation of a block. Default: the stages of attar's own networks, and none of any other network.
            `before-activation` alone selects the stages of attar's own networks before their last activation, or after
            it if the network cannot separate them.
        who: The network, for messages.

    Raises:
        InputError: The network does not have a named module.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str] = (), who: str = "network") -> None:
        self.network, self.layers, self.who = network, _named(network, layers), who
        self.asked = isinstance(network, Network) and not self.layers
        for name in self.layers:  # A name that does not exist is refused now, and not in the first step.
            _module(network, name)
        self.head = None if self.asked else _last_linear(network)
        self._kept: tuple[dict[str, Tensor], list[tuple[Tensor, Tensor]]] | None = None

    def __call__(self, inputs: Images | Mapping[str, Any]) -> Answers:
        """The outputs for images, or for named inputs, as models of `transformers` take them.

        Raises:
            InputError: The network returns no logits.
        """
        if self.asked and isinstance(inputs, Tensor):
            assert isinstance(self.network, Network)
            stages, embedding = self.network.features(inputs)
            return Answers(self.network.classifier(embedding), embedding, list(stages))
        if self._kept is None:
            with self.hooked():
                return self(inputs)
        outputs, passed = self._kept
        logits = logits_in(self._answered(inputs), self.who)
        padding = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
        stages = [as_map(outputs[name], padding) for name in self.layers]
        features = _features(passed, logits, outputs_of(self.network, logits))
        outputs.clear()
        passed.clear()
        return Answers(logits, features, stages)

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Leave the hooks in place between forward passes, as a compiled network needs them."""
        head = _last_linear(self.network) if self.head is None else self.head
        with seen(self.network, self.layers) as outputs, _through(head) as passed:
            self._kept = outputs, passed
            try:
                yield
            finally:
                self._kept = None

    def _answered(self, inputs: Images | Mapping[str, Any]) -> Any:
        return self.network(**taken(self.network, inputs)) if isinstance(inputs, Mapping) else self.network(inputs)

    @torch.no_grad()
    def tried(
        self,
        shape: tuple[int, int, int],
        device: torch.device,
        *,
        images: Images | None = None,
        training: bool = False,
    ) -> Answers:
        """The outputs for two images. Modes and random generators are as they were before.

        Args:
            shape: The shape of the images.
            device: Where the network is.
            images: Two images. Default: black ones.
            training: Whether to try a copy of the network in training mode, not the network in evaluation mode.

        Raises:
            InputError: The network does not take images of this shape, or returns no logits for each.
        """
        watched = Watched(copy.deepcopy(self.network).train(), self.layers, self.who) if training else self
        mode = nullcontext() if training else evaluating(self.network)
        with mode, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            try:
                answers = watched(torch.zeros(2, *shape, device=device) if images is None else images)
            except InputError:
                raise
            except Exception as error:  # foreign code: whatever it trips over, it does not take these images
                channels, height, width = shape
                reason = reason_of(error)
                size = f"{channels}×{height}×{width}" + (" in training mode" if training else "")
                raise InputError(f"the {self.who} does not take images of {size} ({reason}).") from None
        if len(answers.logits) != 2:
            raise InputError(f"the {self.who} gives {len(answers.logits)} rows of logits for two images.")
        return answers


@contextmanager
def seen(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of named modules, or their inputs (`input:NAME`): `{"layer1.0": tensor, ...}`.

    If a module returns several values, the first one is taken.

    Raises:
        InputError: The network does not have a named module.
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
    """The names of the layers, each written out."""
    if list(layers) != [BEFORE]:
        return list(layers)
    if not isinstance(network, Network):
        raise InputError(
            f"{BEFORE} works only for attar's own networks. Name layers of this network, such as input:NAME."
        )
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
def _through(head: nn.Linear | None) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The input and the output of the last linear layer, if there is one, in its last call."""
    passed: list[tuple[Tensor, Tensor]] = []
    if head is None:
        yield passed
        return

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        passed.clear()
        passed.append((inputs[0], output))

    handle = head.register_forward_hook(keep)
    try:
        yield passed
    finally:
        handle.remove()


def _features(passed: list[tuple[Tensor, Tensor]], logits: Tensor, outputs: int) -> Float[Tensor, "sample feature"]:
    """The input of the layer that gives the logits; without columns if the last linear layer is not that layer.

    If it has one row per token, the row of the token whose scores are the logits is taken. Decoders classify in this
    way: each token is scored, and the last token that is not padding counts.
    """
    nothing = logits.new_zeros(len(logits), 0)
    if not passed or passed[-1][1].shape[-1] != outputs:
        return nothing
    features, scores = passed[-1]
    if features.ndim != 3:
        return features if features.ndim == 2 and len(features) == len(logits) else nothing
    rows = token_of(scores, logits)
    return nothing if rows is None else rows(features)


def token_of(scores: Tensor, logits: Float[Tensor, "sample classes"]) -> Callable[[Tensor], Tensor] | None:
    """How to take, of something with one row per token, the row of the token whose scores are the logits.

    Without tokens everything is taken. None if the scores are not the logits.

    Args:
        scores: What the last linear layer gave: `[sample, classes]` or `[sample, token, classes]`.
        logits: The logits that the network gave.
    """
    if scores.shape[-1] != logits.shape[1] or len(scores) != len(logits) or scores.ndim not in (2, 3):
        return None
    # Mixed precision may give the logits in a longer type than the scores that they are.
    wanted = logits.to(scores.dtype)
    if scores.ndim == 2:
        same = torch.isclose(scores, wanted, rtol=0, atol=0, equal_nan=True).all()
        return (lambda whole: whole) if same else None
    match = torch.isclose(scores, wanted[:, None, :], rtol=0, atol=0, equal_nan=True).all(dim=2)
    if not match.any(dim=1).all():
        return None
    last = match.shape[1] - 1 - match.flip(1).int().argmax(dim=1)
    samples = torch.arange(len(scores), device=scores.device)
    return lambda whole: whole[..., samples, last, :]


def as_map(output: Tensor, padding: Tensor | None = None) -> Tensor:
    """A stage as a map. Maps stay as they are. Features of tokens become maps of one column, with zeros for padding.

    Args:
        output: Output of a module: sample, channel, height, width; or sample, token, feature.
        padding: The attention mask of a text: sample, token; zero for padding.
    """
    if output.ndim != 3:
        return output
    if padding is not None and padding.shape == output.shape[:2]:
        output = output * padding[:, :, None].to(output.dtype)
    return output.transpose(1, 2).unsqueeze(3)


def taken(network: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The named inputs that a network's `forward` names; all of them if it names none.

    One batch can then go to a teacher and a student of different families, of which only one takes token types.
    """
    named = [name for name in inspect.signature(network.forward).parameters if name in inputs]
    return {name: inputs[name] for name in named or inputs}


def last_linear(network: nn.Module) -> nn.Linear:
    """The last linear layer among a network's modules.

    Raises:
        InputError: There is none.
    """
    layer = _last_linear(network)
    if layer is None:
        raise InputError(f"{type(network).__name__} has no linear layer, whose input would be the embedding.")
    return layer


def _last_linear(network: nn.Module) -> nn.Linear | None:
    if isinstance(network, Averaged):  # the last layer of one of several
        return None
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return layers[-1] if layers else None
