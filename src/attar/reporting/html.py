"""Small functions that write HTML and escape every text."""

import base64
from collections.abc import Iterable, Mapping
from html import escape

PNG = b"\x89PNG\r\n\x1a\n"
SMALL = 44
"""Height of a small picture on the page, in its pixels."""


def safe(value: object) -> str:
    """Text that is nothing but text, within an element or within the quotes of an attribute."""
    return escape(str(value), quote=True)


def cell(
    words: str | None, value: float | None = None, *, numeric: bool = False, below: str = "", kind: str = ""
) -> str:
    """A cell that sorts by its value; what is missing is a dash and sorts last.

    Args:
        words: What stands in it.
        value: What it sorts by, if not by that.
        numeric: Whether it stands at the right.
        below: More, as HTML, in smaller letters beneath.
        kind: Its class, if it has one of its own.
    """
    named = kind or ("number" if numeric else "")
    kind = f" class='{named}'" if named else ""
    sort = f" data-value='{float(value)!r}'" if value is not None else " data-missing" if words is None else ""
    return f"<td{kind}{sort}>{safe(words) if words is not None else '–'}{below}</td>"


def scrolled(table: str, name: str) -> str:
    """Something wide in a box of its own, which scrolls sideways and shows that it does."""
    box = f"<div class='scroll' role='region' tabindex='0' aria-label='{safe(name)}'>{table}</div>"
    return f"{box}<p class='more quiet'>more to the side →</p>"


def listed(facts: Mapping[str, str]) -> str:
    """Facts by what they are called."""
    pairs = "".join(f"<div><dt>{safe(name)}</dt><dd>{safe(value)}</dd></div>" for name, value in facts.items())
    return f"<dl>{pairs}</dl>" if pairs else ""


def folded(summary: str, body: str) -> str:
    """What is shown on demand."""
    return f"<details><summary>{safe(summary)}</summary>{body}</details>"


def plural(count: int, one: str, several: str = "") -> str:
    """So many of them."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def tabled(heads: Iterable[tuple[str, bool]], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    """A plain table.

    Args:
        heads: What stands above each column, and whether it holds numbers.
        rows: Cells as HTML.
        kind: Its class.
    """
    above = "".join(f"<th scope='col'{' class=number' if right else ''}>{safe(name)}</th>" for name, right in heads)
    lines = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f"<table class='{kind}'><thead><tr>{above}</tr></thead><tbody>{lines}</tbody></table>"


def is_png(data: object) -> bool:
    """Whether it is the beginning of a PNG with a size."""
    return isinstance(data, bytes) and data.startswith(PNG) and len(data) >= 33


def picture(png: bytes, alt: str, side: int) -> str:
    """A picture: a drawing as large as it is, small ones at a whole multiple of their size, their pixels left sharp."""
    width, height = (int.from_bytes(png[place : place + 4], "big") for place in (16, 20))
    scale = max(1, round(SMALL / side)) if side else 1
    kind = "pixels" if side else "drawing"
    source = base64.b64encode(png).decode()
    size = f"width='{width * scale}' height='{height * scale}'"
    return f"<img class='{kind}' src='data:image/png;base64,{source}' alt='{safe(alt)}' {size}>"
