"""What a package page shows: where the repository is, and the README with links that work outside of it.

The address is `repository` in pyproject.toml, under `tool.hatch.metadata.hooks.custom`. As long as it is empty, the
page has no addresses, and the links of the README become plain text.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURE = re.compile(r"!\[([^\]]*)\]\(([^):]+)\)\n*")
LINK = re.compile(r"\[([^\]]+)\]\(([^):]+)\)")
PAGES = {"Homepage": "", "Source": "", "Issues": "/issues", "Changelog": "/blob/HEAD/CHANGELOG.md"}


class Page(MetadataHookInterface):
    """Fills in `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill them in."""
        address = str(self.config.get("repository", "")).rstrip("/")
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": outside(text, address)}
        metadata["urls"] = {name: address + page for name, page in PAGES.items()} if address else {}


def outside(text: str, address: str) -> str:
    """The README for readers who have no files beside it.

    Args:
        text: The README.
        address: Of the repository, as a browser opens it; empty if there is none yet.
    """
    if not address:
        return LINK.sub(r"\1", PICTURE.sub("", text))
    text = PICTURE.sub(rf"![\1]({address}/raw/HEAD/\2)\n\n", text)
    return LINK.sub(lambda found: f"[{found[1]}]({_absolute(found[2], address)})", text)


def _absolute(target: str, address: str) -> str:
    folder = "tree" if target.endswith("/") else "blob"
    return target if target.startswith("#") else f"{address}/{folder}/HEAD/{target}"
