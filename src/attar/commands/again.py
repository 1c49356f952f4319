"""`attar VERB --settings FILE`: read how an artefact was made, from its folder or a file of settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from attar.core.errors import InputError
from attar.core.flags import is_flag
from attar.core.jsonfiles import parsed

FLAG = "--settings"
T = TypeVar("T")


@dataclass(frozen=True)
class Again:
    """A method with its settings, and what stood around it."""

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    data: str | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    older: bool = False
    """Whether it was made when one seed drew both the run and the split of the data."""

    def read(self, usual: Any) -> Any:
        """The reading settings that it was made with.

        Args:
            usual: Their class.
        """
        drawn = self.older and hasattr(usual(), "split_seed")
        return usual.from_json({**self.reading, **({"split_seed": self.seed} if drawn else {})})


def read_again(verb: str, words: list[str]) -> tuple[Again | None, list[str]]:
    """What `--settings FILE` at the front or anywhere behind says, if it is there, and the words without it.

    Args:
        verb: What is to be done.
        words: The words after the verb.

    Raises:
        InputError: No such file, or one that says nothing of a method; or it was made by another verb.
    """
    place = next((number for number, word in enumerate(words) if word.split("=")[0] == FLAG), None)
    if place is None:
        return None, words
    _, equals, value = words[place].partition("=")
    given = value if equals else "".join(words[place + 1 : place + 2])
    if not given or (is_flag(given) and not equals):
        raise InputError(f"{FLAG} needs a file: an artefact's folder, its artefact.json, or run/settings.json.")
    path = Path(given).expanduser()
    rest = words[:place] + words[place + (1 if equals else 2) :]
    if any(word.split("=")[0] == FLAG for word in rest):
        raise InputError(f"{FLAG} is given twice; give it once.")
    again = _again(path, verb)
    if rest and not is_flag(rest[0]):
        named = rest.pop(0)
        if named.replace("_", "-") != again.method:
            raise InputError(f"{path} has settings of {again.method}, not of {named}. Do not name the method.")
    return again, rest


def _again(path: Path, verb: str) -> Again:
    facts = _read(path / "artefact.json" if path.is_dir() else path)
    known = facts.get("origin") or facts
    if not isinstance(known, dict) or not isinstance(known.get("method"), str):
        raise InputError(f"{path} does not say how an artefact was made. Give an artefact, or its run/settings.json.")
    call = _part(known, "call", dict, path) or {}
    made_by = _part(call, "verb", str, path) or verb
    if made_by != verb:
        raise InputError(f"{path} was made with `attar {made_by}`, not `attar {verb}`.")
    return Again(
        method=known["method"],
        settings=_part(known, "settings", dict, path) or {},
        seed=_part(known, "seed", int, path) or 0,
        data=_part(call, "data", str, path) if "data" in call else _part(known, "source", str, path),
        reading=_part(call, "reading", dict, path) or {},
        task=_part(call, "task", dict, path) or {},
        older=not call,
    )


def _part(facts: Mapping[str, Any], name: str, kind: type[T], path: Path) -> T | None:
    """What a file says by a name; None where it says nothing.

    Raises:
        InputError: It is of another type.
    """
    value = facts.get(name)
    if value in (None, []):
        return None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{path} cannot be used: its {name} is of another type than attar writes.")
    return value


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():  # a device may never end
            raise InputError(f"{path} is not a file.")
        facts = parsed(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} is missing.") from None
    except (OSError, ValueError):
        raise InputError(f"{path} is not a file of settings: it is not JSON.") from None
    if not isinstance(facts, dict):
        raise InputError(f"{path} is not a file of settings.")
    return facts
