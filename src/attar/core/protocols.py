"""Protocols of training by name, with some of their settings changed, for every kind that scores by training networks.

A kind has a dataclass of a protocol's settings, with its `name`, and a table of protocols. A class that is made
`left_open` from it says by which protocol to train and what to change of it; that is what flags and scores are made of.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar, get_type_hints

from attar.core.errors import named
from attar.core.settings import Settings

P = TypeVar("P", bound=Settings)


def left_open(chosen: type[P]) -> type[P]:
    """Make a dataclass of a class of settings in which all but the name may be left open, that is, None."""
    base = chosen.__mro__[1]
    hints = get_type_hints(base, include_extras=True)
    for setting in fields(base):
        if setting.name != "name":
            chosen.__annotations__[setting.name] = hints[setting.name] | None
            setattr(chosen, setting.name, None)
    return dataclass(frozen=True, kw_only=True)(chosen)


def whole(chosen: Any, protocols: Mapping[str, P], usual: str) -> P:
    """The protocol of a name, with the settings that are given.

    Args:
        chosen: Settings that are `left_open`.
        protocols: The protocols by name.
        usual: The name, if none is given.

    Raises:
        InputError: There is no protocol of that name.
    """
    given = {setting.name: getattr(chosen, setting.name) for setting in fields(chosen) if setting.name != "name"}
    changed = {name: value for name, value in given.items() if value is not None}
    return replace(named("protocol", chosen.name or usual, protocols), **changed)


def told(protocol: Any, protocols: Mapping[str, Any]) -> str:
    """A protocol in words: its name, and what differs from the protocol of that name ("quick, epochs 20")."""
    usual = protocols.get(protocol.name, protocol).to_json()
    changed = [f"{name} {_text(value)}" for name, value in protocol.to_json().items() if value != usual[name]]
    return ", ".join([protocol.name, *changed])


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
