"""Models that were made elsewhere: their files are read, and no code that they name is run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attar.core.errors import InputError

CONFIGS = (
    "config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "adapter_config.json",
)
"""Files of a model on the hub that can name code. In a folder all files whose names contain `config` are read."""
NO_CODE = {"trust_remote_code": False}
"""What every `from_pretrained` of an Auto class is given. Without it transformers asks whether to run code."""


def check_no_code(name: str | Path) -> None:
    """Check that a model, a tokenizer or a processor of transformers brings no code of its own.

    transformers runs code that a configuration names under `auto_map`, loads kernels from the hub for an attention
    implementation of the form user/name, and opens the model on which an adapter was trained. Call this before any
    `from_pretrained`, and give that `trust_remote_code=False` too.

    Args:
        name: A folder, or user/name on the hub. A name that is neither passes: to open it fails anyway.

    Raises:
        InputError: A configuration names code, or is not JSON.
    """
    waiting, seen = [str(name)], set[str]()
    while waiting:
        one = waiting.pop()
        seen.add(one)
        for path in _configs(one):
            found = _read(path)
            check_plain(found, f"{one}/{path.name}")
            base = found.get("base_model_name_or_path") if isinstance(found, dict) else None
            if path.name == "adapter_config.json" and isinstance(base, str) and base not in seen:
                waiting.append(base)


def check_plain(config: Any, where: str) -> None:
    """Check that a configuration that is at hand names no code.

    Args:
        config: What was read from JSON.
        where: Where it was found, for messages.

    Raises:
        InputError: It does.
    """
    for part in _parts(config):
        _check(part, where)


def _configs(name: str) -> list[Path]:
    """The configurations in a folder, or those of a model on the hub."""
    folder = Path(name)
    if folder.exists():
        return sorted(folder.glob("*config*.json"))
    from transformers.utils.hub import cached_file

    try:
        found = [
            cached_file(
                name,
                file,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
            for file in CONFIGS
        ]
    except (OSError, ValueError):
        return []
    return [Path(path) for path in found if path is not None]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{path} is not JSON ({reason}).") from None


def _parts(found: Any) -> Iterator[dict[str, Any]]:
    """A configuration and all configurations within it."""
    waiting = [found]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()


def _check(part: dict[str, Any], where: str) -> None:
    if "auto_map" in part:
        raise InputError(
            f"{where} names code of its own (auto_map), and attar runs no code that comes with a model. If "
            "transformers knows this kind of model without it, remove auto_map from that file."
        )
    for key, value in part.items():
        if key.endswith(("attn_implementation", "experts_implementation")) and "/" in str(value):
            raise InputError(
                f"{where} names code on the hub ({key}: {value}), and attar runs no code that comes with a model. "
                f"Remove {key} from that file."
            )
