"""The report page: one HTML file that works without a network and without its script."""

import base64
import hashlib
import json
from pathlib import Path

from attar.core import store
from attar.core.version import __version__
from attar.reporting.collect import Found, collect
from attar.reporting.details import method
from attar.reporting.html import plural, safe
from attar.reporting.overview import overview
from attar.reporting.rows import Section
from attar.reporting.tables import table

HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
    "base-uri 'none'; form-action 'none'"
)
"""What a browser may do with the page: show its pictures, and run the one script and the one style that are ours."""
PAGE = """<!doctype html>
<html lang="en">
<head>"""
"""How every page begins."""
FILTERED = 6
"""Rows from which on they can be filtered."""


def report(folder: str | Path, *, out: str | Path | None = None, images: int = 10) -> Path:
    """Write one page about everything below a folder.

    Args:
        folder: Where runs lie.
        out: The file; `report.html` in the folder unless given.
        images: Things of a class that are pictured at most.

    Raises:
        InputError: Nothing to report, no permission to write, or the file holds something else than a page.
    """
    path = Path(out) if out else Path(folder) / "report.html"
    if path.exists():
        store.check_output(path, mark=PAGE.encode())
    found = collect(Path(folder), images=images, page=path.parent)
    store.make_folder(path.parent)
    store.write_text(path, page(found))
    return path


def page(found: Found) -> str:
    """The whole page."""
    parts = [_head(found), *map(_section, found.sections), *map(table, found.tables), _skipped(found)]
    body = "\n".join(part for part in parts if part)
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    curves = {run.number: run.curves for run in found.runs}
    # "<" would begin a tag or a comment for whoever reads the page, whatever stands in a name.
    data = json.dumps(curves, allow_nan=False).replace("<", "\\u003c")
    return f"""{PAGE}
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY.format(style=_hash(style), script=_hash(script))}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>attar: {safe(found.folder)}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
<script type="application/json" id="curves">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _head(found: Found) -> str:
    links = [
        f"<li><a href='#kind-{safe(section.kind.name)}'>{safe(section.kind.holds)}</a> "
        f"<span class='quiet'>{plural(len(section.rows), 'method')}, {plural(len(section.runs), 'run')}</span></li>"
        for section in found.sections
    ]
    links += [f"<li>{plural(len(found.tables), 'table')} of attar bench</li>"] if found.tables else []
    links += [f"<li><a href='#skipped'>{len(found.skipped):,} not shown</a></li>"] if found.skipped else []
    machines = {_machine(run.origin.machine) for run in found.runs} - {""}
    made = f"Made on {'; '.join(sorted(machines))}. " if machines else ""
    rows = sum(len(section.rows) for section in found.sections)
    search = (
        "<p class='tools scripted'><label>Show only <input id='filter' type='search' placeholder='dm, seed 1, …'>"
        "</label></p>"
    )
    return (
        f"<header><h1>{safe(found.folder)}</h1><ul class='contents'>{''.join(links)}</ul>"
        f"<p class='quiet'>{safe(made)}attar {safe(__version__)}.</p>{search if rows >= FILTERED else ''}</header>"
    )


def _machine(facts: dict[str, object]) -> str:
    return ", ".join(f"{word}{facts[name]}" for name, word in (("device", ""), ("torch", "torch ")) if name in facts)


def _section(section: Section) -> str:
    """One kind: its table, and every run in full."""
    kind = section.kind
    runs = "\n".join(method(section, row) for row in section.rows)
    return f"""<section class="kind" id="kind-{safe(kind.name)}">
<h2>{safe(kind.holds[:1].upper() + kind.holds[1:])} <span class="quiet">into {safe(kind.makes)}</span></h2>
{overview(section)}
{runs}
</section>"""


def _skipped(found: Found) -> str:
    if not found.skipped:
        return ""
    rows = "".join(f"<li><strong>{safe(name)}</strong>: {safe(reason)}</li>" for name, reason in found.skipped)
    return f"<section id='skipped'><h2>Not shown</h2><ul>{rows}</ul></section>"
