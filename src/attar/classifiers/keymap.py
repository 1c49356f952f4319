"""From the names of a foreign network's tensors to attar's, by rules that are data.

A rule is a pair of names. `layer{n}.{b}.conv1` to `stages.{n-1}.{b}.first` renames that module, or that tensor, for
all numbers n and b. `{#}` is the rank of a rule's numbers among all that the file has. `block{n}.*` to
`stages.{n-1}.*` pairs the modules below, both in their order; a target may name several places: `stem.* + stages.*`.
The first rule that fits a name is taken.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from torch import Tensor, nn

from attar.core.errors import InputError

NUMBER = re.compile(r"\{(#|\w+)([-+][0-9]+)?\}")
REST, BELOW = "rest", ".*"
COUNTER = "num_batches_tracked"
"""A tensor of batch norm that changes no output; older files lack it."""
UNUSED = ("total_ops", "total_params")
"""Tensors that tools for counting leave behind."""
Numbers = tuple[int, ...]


class OtherShape(InputError):  # noqa: N818
    """Tensors have the names of a network's, but not all have their shapes."""


@dataclass(frozen=True)
class Rule:
    """One pair of names."""

    pattern: re.Pattern[str]
    counted: re.Pattern[str]
    """The name up to its last number."""
    target: str
    below: bool
    """Whether the modules below are paired in their order."""

    @classmethod
    def of(cls, source: str, target: str) -> Self:
        """A rule as the data have it."""
        below = source.endswith(BELOW)
        name = _pattern(source.removesuffix(BELOW))
        rest = rf"\.(?P<{REST}>.+)" if below else rf"(?P<{REST}>\..+)?"
        counted = name[: name.rindex(")") + 1] if ")" in name else name
        return cls(re.compile(name + rest), re.compile(rf"{counted}(?=\.|$)"), target, below)

    def numbers(self, found: re.Match[str]) -> Numbers:
        """The numbers in a name that fits."""
        return tuple(int(value) for name, value in found.groupdict().items() if name != REST)

    def filled(self, found: re.Match[str], rank: int) -> str:
        """The target for a name that fits."""
        values = {"#": rank, **{name: int(v) for name, v in found.groupdict().items() if name != REST}}
        return NUMBER.sub(lambda one: str(values[one[1]] + int(one[2] or 0)), self.target)


@dataclass
class Renaming:
    """What rules make of the names of a file."""

    names: dict[str, str] = field(default_factory=dict)
    """Attar's name for each of the file's."""
    unknown: list[str] = field(default_factory=list)
    """Names that no rule fits."""


def renamed(keys: Iterable[str], rules: Sequence[Rule], network: nn.Module | None = None) -> Renaming:
    """Attar's names of a file's tensors.

    Args:
        keys: The file's names.
        rules: The rules.
        network: The network that the tensors belong to. Without it names below a module are not paired.
    """
    made, below = Renaming(), defaultdict[tuple[str, ...], list[str]](list)
    keys = [key for key in keys if not key.endswith(UNUSED)]
    for key in keys:
        fit = next(((rule, found) for rule in rules if (found := rule.pattern.fullmatch(key))), None)
        if fit is None:
            made.unknown.append(key)
            continue
        rule, found = fit
        target = rule.filled(found, _rank(rule, found, keys) if "{#" in rule.target else 0)
        if rule.below:
            below[tuple(place.strip().removesuffix(BELOW) for place in target.split("+"))].append(key)
        else:
            made.names[key] = target + (found[REST] or "")
    for places, several in below.items():
        _pair(several, places, network, made)
    return made


def _pair(keys: Sequence[str], places: Sequence[str], network: nn.Module | None, made: Renaming) -> None:
    """Pair the modules of some tensors with those below some places of the network, both in their order."""
    theirs = sorted({key.rpartition(".")[0] for key in keys}, key=_naturally)
    ours = [name for place in places for name in _modules(network, place)] if network is not None else theirs
    pairs = dict(zip(theirs, ours, strict=False))
    for key in keys:
        module, _, leaf = key.rpartition(".")
        if module in pairs:
            made.names[key] = f"{pairs[module]}.{leaf}"
        else:
            made.unknown.append(key)


def filled(tensors: Mapping[str, Tensor], rules: Sequence[Rule], network: nn.Module, who: str) -> dict[str, Tensor]:
    """The state of a network from a file's tensors.

    Args:
        tensors: The tensors by the file's names.
        rules: The rules.
        network: The network, with tensors of the right shapes.
        who: File and network, for messages.

    Raises:
        InputError: A tensor is missing or unknown, or has another shape.
    """
    made, wanted = renamed(tensors, rules, network), network.state_dict()
    state = {made.names[key]: (key, value) for key, value in tensors.items() if key in made.names}
    foreign = [*made.unknown, *(key for name, (key, _) in state.items() if name not in wanted)]
    missing = [name for name in wanted if name not in state and not name.endswith(COUNTER)]
    if foreign or missing:
        told = [f"{len(foreign)} tensors of the file are unknown ({foreign[0]}, …)"] if foreign else []
        told += [f"{len(missing)} of the network are missing ({missing[0]}, …)"] if missing else []
        raise InputError(f"{who} do not fit: {' and '.join(told)}. Give another --as.")
    for name, (key, value) in state.items():
        if value.shape != wanted[name].shape:
            sizes = ["×".join(map(str, one.shape)) or "one number" for one in (value, wanted[name])]
            raise OtherShape(f"{who} do not fit: {key} is {sizes[0]}, not {sizes[1]}. Give another --as.")
        if value.is_floating_point() != wanted[name].is_floating_point():
            raise InputError(f"{who} do not fit: {key} holds {value.dtype}, not numbers of {wanted[name].dtype}.")
    return {name: state[name][1].to(value.dtype) if name in state else value for name, value in wanted.items()}


def _modules(network: nn.Module, place: str) -> list[str]:
    """The modules at and below a place that have tensors of their own, in the network's order."""
    return [
        name
        for name, module in network.named_modules()
        if (name == place or name.startswith(f"{place}."))
        and any(True for _ in (*module.parameters(recurse=False), *module.buffers(recurse=False)))
    ]


def _rank(rule: Rule, found: re.Match[str], keys: Iterable[str]) -> int:
    """The rank of the numbers of a name among all that a file has at the same place."""
    there = {tuple(map(int, one.groups())) for key in keys if (one := rule.counted.match(key))}
    return sorted(there).index(rule.numbers(found))


def _pattern(source: str) -> str:
    """A regular expression of a name with numbers."""
    parts = re.split(r"\{(\w+)\}", source)
    return "".join(rf"(?P<{part}>[0-9]{{1,9}})" if place % 2 else re.escape(part) for place, part in enumerate(parts))


def _naturally(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdecimal() and len(part) < 10 else (1, part) for part in name.split(".")]
