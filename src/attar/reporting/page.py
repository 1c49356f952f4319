"""The page itself: HTML that needs nothing but this file, and reads without its few lines of script."""

import base64
import json
import math
from html import escape
from pathlib import Path
from typing import Any

from attar.bench.published import datasets, published
from attar.bench.tables import NAMES, over
from attar.core import store
from attar.core.version import __version__
from attar.reporting.collect import Found, Run, Table, collect

HERE = Path(__file__).parent
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 240, 72, 34
"""A chart's size in its own units, and the room for its numbers."""


def report(folder: str | Path, *, out: str | Path | None = None, images: int = 10) -> Path:
    """Write one page about everything below a folder.

    Args:
        folder: Where runs lie.
        out: The file; `report.html` in the folder unless given.
        images: Pictures of a class that are shown at most.

    Raises:
        InputError: Nothing to report, or no permission to write.
    """
    path = Path(out) if out else Path(folder) / "report.html"
    store.make_folder(path.parent)
    store.write_bytes(path, page(collect(Path(folder), images=images)).encode())
    return path


def page(found: Found) -> str:
    """The whole page."""
    sections = [_head(found), _comparison(found.runs), _together()]
    sections += [_table(table) for table in found.tables]
    sections += [_run(run, number, _unusual(run, found.runs)) for number, run in enumerate(found.runs)]
    sections.append(_skipped(found))
    body = "\n".join(section for section in sections if section)
    curves = {number: run.curves for number, run in enumerate(found.runs)}
    # "</" would end the script, whatever stands in a name.
    data = json.dumps(curves).replace("</", "<\\/")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>attar: {escape(found.folder)}</title>
<style>{(HERE / "page.css").read_text()}</style>
</head>
<body>
<main>
{body}
</main>
<script type="application/json" id="curves">{data}</script>
<script>{(HERE / "page.js").read_text()}</script>
</body>
</html>
"""


def _head(found: Found) -> str:
    counts = f"{len(found.runs)} condensed set{'s' * (len(found.runs) != 1)}"
    if found.tables:
        counts += f", {len(found.tables)} table{'s' * (len(found.tables) != 1)}"
    best = [_best(runs) for runs in _groups(found.runs).values()]
    lines = "".join(f"<li>{line}</li>" for line in best if line)
    machines = {f"{run.machine.get('device', '?')}, torch {run.machine.get('torch', '?')}" for run in found.runs}
    made = (
        f"<p class='quiet'>Made on {escape('; '.join(sorted(machines)))}. attar {__version__}.</p>" if machines else ""
    )
    return f"<header><h1>{escape(found.folder)}</h1><p>{counts}.</p><ul>{lines}</ul>{made}</header>"


def _groups(runs: tuple[Run, ...]) -> dict[tuple[str, str, str, str], list[Run]]:
    """Runs whose scores can be compared: of the same data and number of images, by the same protocol and network."""
    groups: dict[tuple[str, str, str, str], list[Run]] = {}
    for run in runs:
        if run.best:
            key = (run.data, run.per_class, run.best.protocol, run.best.network)
            groups.setdefault(key, []).append(run)
    return groups


def _best(runs: list[Run]) -> str:
    if len(runs) < 2:
        return ""
    best = max(runs, key=lambda run: run.best.value if run.best else -math.inf)
    assert best.best is not None
    where = f"{best.data}, {best.per_class}, {best.best.protocol} protocol"
    score = f"{best.best.value:.1f} %"
    return f"Best of {len(runs)} on {escape(where)}: <strong>{escape(best.name)}</strong>, {score}."


COLUMNS = (
    ("accuracy %", "number"),
    ("method", "text"),
    ("data", "text"),
    ("per class", "text"),
    ("seed", "number"),
    ("network, protocol", "text"),
    ("kept %", "number"),
    ("above chance %", "number"),
    ("bytes", "number"),
    ("seconds", "number"),
    ("GB", "number"),
)


def _comparison(runs: tuple[Run, ...]) -> str:
    if not runs:
        return ""
    heads = "".join(
        f"<th scope='col' class='{kind}' aria-sort='none' data-kind='{kind}'><button type='button'>{name}</button></th>"
        for name, kind in COLUMNS
    )
    rows = "\n".join(_comparison_row(run, number) for number, run in enumerate(runs))
    return f"""<section aria-labelledby="runs">
<h2 id="runs">Runs</h2>
<p class="tools"><label>Show only <input id="filter" type="search" placeholder="datadam, seed 1, …"></label>
<span class="quiet">Headings sort. Tick runs to see them side by side.</span></p>
<div class="scroll"><table id="comparison">
<thead><tr><th scope="col"><span class="unseen">side by side</span></th><th scope="col" aria-sort="none"
 data-kind="text"><button type="button">run</button></th>{heads}</tr></thead>
<tbody>
{rows}
</tbody></table></div>
</section>"""


def _comparison_row(run: Run, number: int) -> str:
    best = run.best
    accuracy = f"{best.value:.1f} ± {best.spread:.1f}" if best else None
    cells = [
        _cell(accuracy, best.value if best else None, number=True),
        _cell(run.method),
        _cell(run.data),
        _cell(run.per_class.removesuffix(" per class")),
        _cell(str(run.seed), run.seed, number=True),
        _cell(f"{best.network}, {best.protocol}" if best else None),
        _number(best.kept if best else None),
        _number(best.kept_above_chance if best else None),
        _cell(f"{run.size:,}", run.size, number=True),
        _number(run.seconds),
        _cell(f"{run.memory / 1e9:.2f}" if run.memory else None, run.memory, number=True),
    ]
    tick = f"<input type='checkbox' data-run='{number}' aria-label='{escape(run.name)} side by side'>"
    name = f"<td><a href='#run-{number}'>{escape(run.name)}</a></td>"
    return f"<tr><td><label class='tick'>{tick}</label></td>{name}{''.join(cells)}</tr>"


def _cell(text: str | None, value: float | None = None, *, number: bool = False) -> str:
    """A cell that sorts by its value; what is missing is a dash and sorts last."""
    kind = " class='number'" if number else ""
    sort = f" data-value='{value!r}'" if value is not None else " data-missing" if text is None else ""
    return f"<td{kind}{sort}>{escape(text) if text is not None else '–'}</td>"


def _number(value: float | None) -> str:
    return _cell(None if value is None else f"{value:,.1f}", value, number=True)


def _together() -> str:
    return """<section id="together" hidden aria-labelledby="side"><h2 id="side">Side by side</h2>
<div id="overlaid"></div><div id="beside"></div></section>"""


def _run(run: Run, number: int, unusual: set[str]) -> str:
    scores = "".join(
        f"<li>{escape(s.network)}, {escape(s.protocol)} protocol: <strong>{s.value:.1f} ± {s.spread:.1f} %</strong>, "
        f"{s.n} networks{f', kept {s.kept:.1f} %' if s.kept is not None else ''}</li>"
        for s in run.scores
    )
    facts = f"{run.images:,} images ({run.per_class}), {run.size:,} bytes, {run.share:.2g} % of the full set"
    shown = f"<ul>{scores}</ul>" if scores else "<p class='quiet'>Not yet evaluated.</p>"
    charts = "".join(_chart(name, points) for name, points in run.curves.items())
    curves = f"<h3>Curves</h3><div class='charts'>{charts}</div>" if charts else ""
    return f"""<section class="run" id="run-{number}" aria-labelledby="name-{number}">
<h2 id="name-{number}">{escape(run.name)}</h2>
<p>{escape(run.method)} on {escape(run.data)}: {facts}.</p>
{shown}
<h3>Pictures</h3>
{_pictures(run)}
{_over_time(run, number)}
{curves}
<details><summary>Settings</summary>{_settings(run, unusual)}</details>
<details><summary>Make it again</summary><pre>{escape(run.command)}</pre></details>
</section>"""


def _pictures(run: Run) -> str:
    most = max((strip.total for strip in run.strips), default=0)
    rows = "".join(
        f"<tr><th scope='row'>{escape(strip.label)}</th><td>{_image(strip.png, f'images of {strip.label}', run.side)}"
        "</td></tr>"
        for strip in run.strips
    )
    left_out = any(strip.shown < strip.total for strip in run.strips)
    shown = max((strip.shown for strip in run.strips), default=0)
    note = f"<p class='quiet'>{shown} of {most} a class are shown; --images shows more.</p>" if left_out else ""
    return f"<div class='scroll pictures'><table>{rows}</table></div>{note}"


def _image(png: bytes, alt: str, side: int) -> str:
    """A picture at a whole multiple of its size, its pixels left sharp."""
    scale = max(1, round(44 / side))
    height = int.from_bytes(png[20:24], "big")
    source = base64.b64encode(png).decode()
    return f"<img src='data:image/png;base64,{source}' alt='{escape(alt, quote=True)}' height='{height * scale}'>"


def _over_time(run: Run, number: int) -> str:
    if not run.snapshots:
        return ""
    figures = "".join(
        f"<figure>{_image(png, f'after step {step}', run.side * 2)}<figcaption>step {step:,}</figcaption></figure>"
        for step, png in run.snapshots
    )
    last = len(run.snapshots) - 1
    slider = (
        f"<label class='slider' hidden>Step <input type='range' min='0' max='{last}' value='{last}'>"
        f"<output>{run.snapshots[-1][0]:,}</output></label>"
    )
    return f"<h3>Over time</h3><div class='time' data-run='{number}'>{slider}<div class='frames'>{figures}</div></div>"


def _chart(name: str, points: tuple[tuple[int, float], ...]) -> str:
    """A curve, linear and logarithmic; a checkbox chooses, without script."""
    lowest = min(value for _, value in points)
    scales = [_scaled(points, logarithmic=False)]
    toggle = ""
    if lowest > 0:
        scales.append(_scaled(points, logarithmic=True))
        toggle = "<label class='toggle'><input type='checkbox'> logarithmic</label>"
    return (
        f"<figure class='chart' data-name='{escape(name, quote=True)}'>"
        f"<figcaption>{escape(name)}<output></output></figcaption>{toggle}{''.join(scales)}</figure>"
    )


def _scaled(points: tuple[tuple[int, float], ...], *, logarithmic: bool) -> str:
    values = [math.log10(value) if logarithmic else value for _, value in points]
    low, high = min(values), max(values)
    room = (high - low) or 1.0
    first, last = points[0][0], points[-1][0]

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - 12) * (step - first) / max(last - first, 1)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 12) * (value - low) / room

    path = " ".join(f"{x(step):.1f},{y(value):.1f}" for (step, _), value in zip(points, values, strict=True))
    lines = ""
    for share in (0.0, 0.5, 1.0):
        value = low + share * room
        text = f"{10**value if logarithmic else value:.3g}"
        lines += f"<line x1='{LEFT}' x2='{WIDTH - 12}' y1='{y(value):.1f}' y2='{y(value):.1f}'/>"
        lines += f"<text x='{LEFT - 6}' y='{y(value) + 4:.1f}' text-anchor='end'>{text}</text>"
    for step, anchor in ((first, "start"), (last, "end")):
        label = f"step {step:,}" if anchor == "start" else f"{step:,}"
        lines += f"<text x='{x(step):.1f}' y='{HEIGHT - 8}' text-anchor='{anchor}'>{label}</text>"
    kind = "logarithmic" if logarithmic else "linear"
    return (
        f"<svg class='{kind}' viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{kind} curve'>"
        f"{lines}<polyline points='{path}'/></svg>"
    )


def _unusual(run: Run, runs: tuple[Run, ...]) -> set[str]:
    """Settings in which a run differs from others of its method."""
    same = [other.settings for other in runs if other.method == run.method]
    return {name for name, value in run.settings.items() if any(other.get(name) != value for other in same)}


def _settings(run: Run, unusual: set[str]) -> str:
    rows = "".join(
        f"<tr{' class=unusual' if name in unusual else ''}><th scope='row'>{escape(name)}</th>"
        f"<td>{escape(str(value))}</td></tr>"
        for name, value in {**run.settings, "seed": run.seed}.items()
    )
    note = "<p class='quiet'>Marked: what differs between runs of this method.</p>" if unusual else ""
    return f"{note}<div class='scroll'><table>{rows}</table></div>"


def _table(table: Table) -> str:
    """A table of methods with published figures, as `attar bench` prints it."""
    heads = ("per class", "method", "accuracy %", "over random", "kept %", "bytes", "seconds", "published %")
    rows = []
    for cell in table.cells:
        here = [other for other in table.cells if other.ipc == cell.ipc]
        random = next((other for other in here if other.label == "random"), None)
        known: dict[str, Any] = published(table.data, cell.ipc) if table.data in datasets() else {}
        values = (
            str(cell.ipc),
            cell.label,
            f"{cell.score.value:.1f} ± {cell.score.spread:.1f}",
            str(over(cell, random)) if random and random is not cell else "",
            f"{100 * cell.score.value / table.full:.1f}" if table.full else "",
            f"{cell.bytes:,}",
            f"{cell.seconds:,.1f}",
            str(known.get(NAMES.get(cell.label, cell.label.lower()), "")),
        )
        kinds = ["number", "", *["number"] * 6]
        rows.append(
            "<tr>" + "".join(f"<td class='{k}'>{escape(v)}</td>" for k, v in zip(kinds, values, strict=True)) + "</tr>"
        )
    head = "".join(f"<th scope='col' class='{'' if name == 'method' else 'number'}'>{name}</th>" for name in heads)
    full = f" All the data: {table.full:.1f} %." if table.full else ""
    how = f"{escape(table.data)}, {escape(table.protocol)} protocol.{full}"
    return f"""<section><h2>{escape(table.name)}</h2>
<p>{how} ± over sets and networks; differences with 95 % intervals.</p>
<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div></section>"""


def _skipped(found: Found) -> str:
    if not found.skipped:
        return ""
    rows = "".join(f"<li><strong>{escape(name)}</strong>: {escape(reason)}</li>" for name, reason in found.skipped)
    return f"<section><h2>Not shown</h2><ul>{rows}</ul></section>"
