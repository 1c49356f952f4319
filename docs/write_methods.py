"""Write the settings of every method in words into `src/attar/KIND/methods.json`, from the settings classes.

    python docs/write_methods.py

Those of verbs without a method are written into `verbs.json` beside them, those of the tables of `attar bench` into
`src/attar/bench/tables.json`, in the same way.

The other facts of these files (verb, settings class, summary, paper, extra, everyday settings) are written by hand.
A test compares; run this after a change of a setting, its default or its sentence.
"""

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

from attar.core.flags import texts_of
from attar.core.kinds import BUILT_IN, imported
from attar.core.registry import FILE, USUAL

HOME = Path(__file__).parents[1] / "src" / "attar"


def files() -> list[Path]:
    """The files of all kinds, and that of `attar bench`."""
    beside = [HOME / kind / name for kind in BUILT_IN for name in (FILE, USUAL)]
    return [*(file for file in beside if file.exists()), HOME / "bench" / "tables.json"]


def written(facts: dict[str, Any]) -> str:
    """The file's text, with the settings as the classes have them now; one line for each."""
    return _object({name: _object(_method(method), 1) for name, method in facts.items()}, 0) + "\n"


def _method(facts: dict[str, Any]) -> dict[str, str]:
    settings = imported(facts["settings"], facts.get("extra", ""))
    flags = [_line(dataclasses.asdict(text)) for text in texts_of(settings, facts["everyday"])]
    lines = ",\n".join(f"      {flag}" for flag in flags)
    values = {name: _line(value) for name, value in facts.items() if name != "presets"}
    values |= {"presets": _line(presets_of(settings))} if "presets" in facts else {}
    values["flags"] = f"[\n{lines}\n    ]"
    if facts.get("paper"):
        values["paper"] = _object({name: _line(value) for name, value in facts["paper"].items()}, 2)
    return values


def presets_of(settings: Any) -> list[str]:
    """What settings may start from, as it is typed: `--paper NAME`, `--variant paper|released`, `--baseline NAME`."""
    found = []
    if hasattr(settings, "paper"):
        takes = inspect.signature(settings.paper).parameters
        found += ["--paper NAME", *(["--variant paper|released"] if "variant" in takes else [])]
    return [*found, *(["--baseline NAME"] if hasattr(settings, "baseline") else [])]


def _object(values: dict[str, str], depth: int) -> str:
    """An object of values that are JSON already, one a line."""
    space = "  " * depth
    lines = ",\n".join(f"{space}  {_line(name)}: {value}" for name, value in values.items())
    return f"{{\n{lines}\n{space}}}"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    for file in files():
        file.write_text(written(json.loads(file.read_text(encoding="utf-8"))), encoding="utf-8")
