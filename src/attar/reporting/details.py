"""The details of one run as HTML: scores, pictures, curves, settings, and commands."""

from collections.abc import Sequence

from attar.core.artefact import Picture
from attar.core.score import Score
from attar.reporting.chart import charts
from attar.reporting.html import cell, folded, is_png, listed, picture, safe, scrolled, tabled
from attar.reporting.rows import Row, Run, Section

COLUMNS = ("", "score", "mean of", "bytes", "kept", "kept above chance")
"""Of the scores of a run; those after the second only where somebody fills them."""


def method(section: Section, row: Row) -> str:
    """All runs of a row; the first is open."""
    unusual = section.unusual(row)
    words = ", ".join(filter(None, (row.data, row.differs)))
    runs = "".join(_run(run, section, unusual, opened=place == 0) for place, run in enumerate(row.runs))
    head = f"<h3>{safe(row.method)} <span class='quiet'>{safe(words)}</span></h3>"
    return f"<section class='method'>{head}{runs}</section>"


def _run(run: Run, section: Section, unusual: list[str], *, opened: bool) -> str:
    shown = run.shown
    head = f"<span class='name' id='name-{run.number}'>{safe(run.name)}</span>"
    short = [f"seed {run.origin.seed}", shown.size, *(f"{c.column} {c.score}" for c in run.scores[:1])]
    body = [
        scores(run, section),
        listed(shown.facts),
        _table(shown.table),
        scrolled(f"<pre class='lines'>{safe(shown.text)}</pre>", "summary") if shown.text else "",
        pictures(shown.pictures),
        snapshots(shown.snapshots),
        charts(run.curves),
        folded("Settings", _settings(run, unusual)),
        _again(run),
    ]
    return (
        f"<details class='run'{' open' if opened else ''}><summary>{head} <span class='quiet'>"
        f"{safe(' · '.join(filter(None, short)))}</span></summary>"
        f"<div class='body' id='run-{run.number}'>{''.join(body)}</div></details>"
    )


def scores(run: Run, section: Section) -> str:
    """A row for every score, and beneath it one for everything that it is read with."""
    if not run.scores:
        verb = str((run.origin.call or {}).get("verb", ""))
        final = verb in section.kind.tasks and not section.kind.task(verb).measured
        return "<p class='quiet'>Not yet evaluated.</p>" if section.kind.scoring and not final else ""
    rows: list[tuple[str | None, ...]] = []
    for found in run.scores:
        name = ", ".join(filter(None, (found.column, found.how)))
        kept = [None if share is None else f"{share:.1f} %" for share in (found.kept, found.kept_above_chance)]
        rows.append((f"<strong>{safe(name)}</strong>", *_told(found.score, run.shown.bytes), *kept))
        rows += [
            (f"<span class='with'>{safe(other.label)}</span>", *_told(other.score, other.bytes), "", "")
            for other in found.read_with
        ]
    filled = [place for place, _ in enumerate(COLUMNS) if place < 2 or any(row[place] for row in rows)]
    lines = [[_score_cell(row[place], place) for place in filled] for row in rows]
    return scrolled(tabled([(COLUMNS[place], place > 0) for place in filled], lines, "scores"), f"scores of {run.name}")


def _told(score: Score, size: int | None) -> tuple[str, str, str]:
    """A score, of how many values it is the mean, and from how many bytes."""
    return str(score), f"{score.n:,}" if score.n > 1 else "", "" if size is None else f"{size:,}"


def _score_cell(words: str | None, place: int) -> str:
    return cell(words, numeric=True) if place else f"<th scope='row'>{words}</th>"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A table of parts, numbers at the right."""
    if not rows:
        return ""
    heads, *lines = rows
    right = [all(_is_number(line[place]) for line in lines) for place in range(len(heads))]
    cells = [[cell(words, numeric=right[place]) for place, words in enumerate(line)] for line in lines]
    return scrolled(tabled(zip(heads, right, strict=True), cells), "parts")


def _is_number(words: str) -> bool:
    return not words or words.replace(".", "").replace("e-", "").isdecimal()


def pictures(found: tuple[Picture, ...]) -> str:
    """Strips with what is in them, or one drawing of all."""
    good = [one for one in found if is_png(one.png)]
    if not good:
        return ""
    rows = "".join(
        f"<tr>{f'<th scope=row>{safe(one.label)}</th>' if one.label else ''}"
        f"<td>{picture(one.png, one.label or 'picture', one.side)}</td></tr>"
        for one in good
    )
    note = ""
    if any(one.shown < one.total for one in good):
        shown, most = max(one.shown for one in good), max(one.total for one in good)
        note = f"<p class='quiet'>{shown:,} of {most:,} per class are shown. Give --images to show more.</p>"
    return f"<div class='pictures'>{scrolled(f'<table>{rows}</table>', 'pictures')}{note}</div>"


def snapshots(found: tuple[Picture, ...]) -> str:
    """Pictures from along the way, side by side; with script one at a time, by a slider."""
    good = [one for one in found if is_png(one.png)]
    if not good:
        return ""
    figures = "".join(
        f"<figure>{picture(one.png, one.label, one.side)}<figcaption>{safe(one.label)}</figcaption></figure>"
        for one in good
    )
    last = len(good) - 1
    slider = (
        f"<label class='slider' hidden><span>Over time</span><input type='range' min='0' max='{last}' value='{last}'>"
        f"<output>{safe(good[-1].label)}</output></label>"
    )
    return f"<div class='time'>{slider}<div class='frames'>{figures}</div></div>"


def _settings(run: Run, unusual: list[str]) -> str:
    rows = "".join(
        f"<tr{' class=unusual' if name in unusual else ''}><th scope='row'>{safe(name)}</th><td>{safe(value)}</td></tr>"
        for name, value in {**run.settings, "seed": str(run.origin.seed)}.items()
    )
    note = "<p class='quiet'>Marked: settings that differ between rows of this method.</p>" if unusual else ""
    origin = run.origin
    machine = ", ".join(f"{name} {value}" for name, value in origin.machine.items())
    made = f"Made from {origin.source}, fingerprint {origin.fingerprint}. Machine: {machine}."
    table = scrolled(f"<table class='settings'>{rows}</table>", f"settings of {run.name}")
    return f"{note}{table}<p class='quiet'>{safe(made)}</p>"


def _again(run: Run) -> str:
    if not run.commands:
        return ""
    given, *whole = run.commands
    lines = [f"<p>The command that was given:</p><pre>{safe(given)}</pre>"]
    lines += [
        "<p>This command takes every setting from the artefact, so it does not depend on later defaults:</p>"
        f"<pre>{safe(one)}</pre>"
        for one in whole
    ]
    return folded("Make it again", "".join(lines))
