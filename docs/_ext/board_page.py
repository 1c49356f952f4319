"""The page "Results": a table and a plot of `board.py`'s rows, and a plain table where there are no scripts."""

import html
import json
import shutil
import sys
from pathlib import Path
from typing import Any, ClassVar

from assets import KEPT, Missing, assets
from board import Board, board
from docutils import nodes
from docutils.parsers.rst import Directive

HERE = Path(__file__).parent
PAGE = "results"
OWN = ("board.css", "board.js")
PLAIN = {
    "kind": "kind",
    "data": "data",
    "budget": "budget",
    "method": "method",
    "labels": "labels",
    "metric": "metric",
    "told": "value",
    "gap": "minus the rival",
    "rival": "rival",
    "bytes": "bytes",
    "seeds": "seeds",
    "command": "command",
}
"""The columns of the plain table, with their headings."""


class ResultsBoard(Directive):
    """The directive `results-board`, which takes no argument."""

    has_content = False
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """The page's table; it is made again whenever a record has changed."""
        environment = self.state.document.settings.env
        for file in sorted((HERE.parents[1] / "bench" / "results").glob("*.json")):
            environment.note_dependency(str(file))
        found = board()
        for line in found.left_out:
            print(f"results: left out: {line}", file=sys.stderr)
        return [nodes.raw("", markup(found, with_scripts=bool(environment.config.board_assets)), format="html")]


def markup(found: Board, *, with_scripts: bool) -> str:
    """The board as HTML.

    Args:
        found: The rows, and what was left out.
        with_scripts: Whether the libraries are there. If not, the plain table is what one sees.
    """
    plain = plain_table(found)
    left = "".join(f"<li>{html.escape(line)}</li>" for line in found.left_out)
    more = f"<details><summary>Left out: {len(found.left_out)}</summary><ul>{left}</ul></details>" if left else ""
    if not with_scripts:
        return f'<div class="board-scroll">{plain}</div>{more}'
    # "<" in a text could end the element that holds the rows.
    rows = json.dumps([row.to_json() for row in found.rows], ensure_ascii=False).replace("<", "\\u003c")
    return (
        f'<script type="application/json" id="board-rows">{rows}</script>'
        '<div id="board" hidden><p class="board-bar"><span id="board-count" role="status"></span> '
        '<button type="button" id="board-clear">Clear the filters</button></p>'
        '<div id="board-table"></div><div id="board-plot"></div></div>'
        f'<noscript><div class="board-scroll">{plain}</div></noscript>{more}'
    )


def plain_table(found: Board) -> str:
    """All rows as an HTML table without scripts."""
    heads = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in PLAIN.values())
    rows = []
    for row in found.rows:
        facts = row.to_json()
        if isinstance(size := facts["bytes"], int):
            facts["bytes"] = f"{size:,}"
        cells = "".join(f"<td>{html.escape(str('' if facts[key] is None else facts[key]))}</td>" for key in PLAIN)
        rows.append(f"<tr>{cells}</tr>")
    return f'<table class="board-plain"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def bring(app: Any) -> None:
    """Fetch the libraries, and put them and our own files beside the pages."""
    app.config.board_assets = []
    if app.builder.format != "html":
        return
    try:
        libraries = assets(Path(app.config.board_kept or KEPT))
    except (Missing, OSError) as error:
        print(f"results: the page has its plain table only: {error}", file=sys.stderr)
        libraries = []
    place = Path(app.outdir) / "_static" / "board"
    place.mkdir(parents=True, exist_ok=True)
    for file in libraries:
        shutil.copy(file, place / file.name)
        shutil.copy(file.parent / "LICENSE", place / f"{file.parent.name}.LICENSE")
    for name in OWN:
        shutil.copy(HERE / name, place / name)
    app.config.board_assets = [file.name for file in libraries]


def add_files(app: Any, pagename: str, *_: Any) -> None:
    """Scripts and styles, on the page of results alone."""
    if pagename != PAGE:
        return
    scripts = [*app.config.board_assets, *OWN] if app.config.board_assets else [OWN[0]]
    for name in scripts:
        if name.endswith(".css"):
            app.add_css_file(f"board/{name}")
        else:
            app.add_js_file(f"board/{name}", loading_method="defer")


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's hook."""
    app.add_config_value("board_assets", [], "env")
    app.add_config_value("board_kept", "", "")
    app.add_directive("results-board", ResultsBoard)
    app.connect("builder-inited", bring)
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True}
