"""How to install what an extra brings, as messages say it. The name attar is not published yet on a package index.

A plain `pip install attar` would bring whatever another person publishes under that name. So the advice names the place
that this attar was installed from, as pip has noted it, or else a clone of the repository.
"""

import json
import shlex
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

PUBLISHED = False
"""Whether the name is ours on the package index. The first release sets it (CONTRIBUTING.md)."""


def install(extra: str, *also: str) -> str:
    """The command that installs an extra.

    Args:
        extra: Its name in pyproject.toml.
        also: Packages that it does not bring.
    """
    words = ["pip", "install", *([] if PUBLISHED else _options()), _target(extra), *also]
    return shlex.join(words) + ("" if PUBLISHED or _origin() else " in a clone of attar's repository")


def _options() -> list[str]:
    return ["-e"] if _origin().get("dir_info", {}).get("editable") else []


def _target(extra: str) -> str:
    """What pip is given for the extra."""
    if PUBLISHED:
        return f"attar[{extra}]"
    origin = _origin()
    if "vcs_info" in origin:
        return f"attar[{extra}] @ {origin['vcs_info']['vcs']}+{origin['url']}"
    return f"{_folder(origin)}[{extra}]" if origin else f".[{extra}]"


def _folder(origin: dict[str, Any]) -> str:
    from urllib.parse import urlparse
    from urllib.request import url2pathname

    return url2pathname(urlparse(origin["url"]).path)


@cache
def _origin() -> dict[str, Any]:
    """Where pip took this attar from: a clone that is still there, or a repository; empty if it does not say."""
    try:
        origin = json.loads(distribution("attar").read_text("direct_url.json") or "{}")
        there = "vcs_info" in origin or Path(_folder(dict(origin)), "pyproject.toml").is_file()
    except (PackageNotFoundError, ValueError, KeyError, AttributeError, TypeError):
        return {}
    return origin if there else {}
