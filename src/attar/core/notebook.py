"""What a notebook shows of artefacts and scores, and whether Python runs in one."""

import base64
import sys
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def in_notebook() -> bool:
    """Whether this process is a kernel of Jupyter. Nothing is imported to find out."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def described(title: str, text: str, png: bytes | None = None) -> str:
    """A title, lines that keep their form, and a picture."""
    parts = [f"<strong>{escape(title)}</strong>", f"<pre>{escape(text)}</pre>" if text else ""]
    if png is not None:
        data = base64.b64encode(png).decode("ascii")
        parts.append(f'<img alt="{escape(title)}" src="data:image/png;base64,{data}" style="max-width: 100%">')
    return f"<div>{''.join(parts)}</div>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], below: str = "") -> str:
    """A table whose first column is text, and the others are numbers."""
    head = "".join(map(_cell("th"), range(len(heads)), heads))
    body = "".join(f"<tr>{''.join(map(_cell('td'), range(len(row)), row))}</tr>" for row in rows)
    told = f"<pre>{escape(below)}</pre>" if below else ""
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{told}</div>"


def _cell(tag: str) -> Any:
    def cell(place: int, text: str) -> str:
        return f'<{tag} style="text-align: {"right" if place else "left"}">{escape(text)}</{tag}>'

    return cell


class Told:
    """Data whose text is a sentence, which stands for their tensors wherever Python shows them."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Keep a dataclass from writing out its fields."""
        super().__init_subclass__(**kwargs)
        if "__repr__" not in vars(cls):
            cls.__repr__ = Told.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {' '.join(str(self).split())}>"
