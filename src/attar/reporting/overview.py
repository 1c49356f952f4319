"""The table of one kind as HTML: a row for each method, which unfolds to its seeds."""

from collections.abc import Iterator, Sequence

from attar.core.cell import Beside, Cell
from attar.reporting.html import cell, plural, safe, scrolled
from attar.reporting.rows import Row, Run, Section

SPREAD = "± is the standard deviation over seeds; for a single seed, over repeated measurements."
RIVALS = "Below each score: the best rival, in <b>bold</b> if it does better, and the score of the whole."


def overview(section: Section) -> str:
    """The table of a section, and the place where ticked runs stand side by side."""
    table = Overview(section)
    lines = "".join(map(table.row, section.rows))
    heads = "".join(table.heads())
    several = any(len(row.runs) > 1 for row in section.rows)
    notes = [SPREAD, RIVALS] if section.columns else []
    intervals = any(cell.score.interval for run in section.runs for cell in run.scores)
    notes += ["[ ] is a 95 % interval."] if intervals else []
    notes += ["▸ shows the seeds of a method."] if several else []
    notes += (
        ["<span class='scripted'>Click a heading to sort. Tick rows to see them side by side.</span>"]
        if table.several
        else []
    )
    return f"""{scrolled(f"<table class='overview'><thead><tr>{heads}</tr></thead>{lines}</table>", section.kind.holds)}
<p class='quiet'>{" ".join(notes)}</p>
<div class="together" hidden><h3>Side by side</h3><div class="overlaid"></div><div class="beside"></div></div>"""


class Overview:
    """Columns that somebody fills, and the rows."""

    def __init__(self, section: Section) -> None:
        """The table of a section."""
        runs = section.runs
        self.section = section
        self.several = len(runs) > 1
        self.kept = {c for c in section.columns for row in section.rows if (s := row.score(c)) and s.kept is not None}
        self.size = any(run.shown.size for run in runs)
        self.bytes = any(run.shown.bytes is not None for run in runs)
        self.share = any(run.shown.share is not None for run in runs)
        self.seconds = any(run.seconds is not None for run in runs)
        self.memory = any(run.memory is not None for run in runs)

    def heads(self) -> Iterator[str]:
        """What stands above the columns."""
        if self.several:
            yield "<th scope='col' class='scripted'><span class='unseen'>side by side</span></th>"
        yield _head("method")
        for column in self.section.columns:
            name, protocol, unit = column
            yield _head(name, numeric=True, below=", ".join(filter(None, (protocol and f"{protocol} protocol", unit))))
            if column in self.kept:
                yield _head("kept", numeric=True, below="%")
        yield _head("seeds", numeric=True)
        yield _head("data")
        further = (
            ("size", "", self.size),
            ("bytes", "", self.bytes),
            ("of the whole", "% of bytes" if self.bytes else "%", self.share),
            ("made in", "seconds", self.seconds),
            ("memory", "GB", self.memory),
        )
        for name, unit, there in further:
            if there:
                yield _head(name, numeric=True, below=unit)

    def row(self, row: Row) -> str:
        """A method, and beneath it its runs where there are several."""
        first, *others = row.runs
        search = safe(" ".join([row.label, *(f"{run.name} seed {run.origin.seed}" for run in row.runs), row.data]))
        seeds = cell(f"{row.seeds:,}", row.seeds, numeric=True)
        cells = [self._tick(row.runs, row.label), self._method(row)]
        cells += self._measured([row.score(column) for column in self.section.columns])
        cells += [seeds, cell(row.data), *self._sizes(first, row.seconds, row.memory)]
        lines = [f"<tr class='method'>{''.join(cells)}</tr>"]
        lines += map(self._run, row.runs if others else ())
        return f"<tbody data-search='{search}'>{''.join(lines)}</tbody>"

    def _method(self, row: Row) -> str:
        first, *others = row.runs
        differs = f"<small>{safe(row.differs)}</small>" if row.differs else ""
        if not others:
            return f"<th scope='row'>{_link(first, row.method)}{differs}<small>{safe(first.name)}</small></th>"
        runs = f"{differs}<small>{plural(len(row.runs), 'run')}</small>"
        return f"<th scope='row'><label class='fold'><input type='checkbox'>{safe(row.method)}{runs}</label></th>"

    def _run(self, run: Run) -> str:
        by_column = {(c.column, c.protocol, c.score.unit): c for c in run.scores}
        name = f"<th scope='row'>{_link(run, run.name)}</th>"
        seed = cell(f"seed {run.origin.seed}", run.origin.seed, numeric=True)
        cells = [self._tick((run,), run.name), name]
        cells += self._measured([by_column.get(column) for column in self.section.columns])
        cells += [seed, cell(""), *self._sizes(run, run.seconds, run.memory)]
        return f"<tr class='seed'>{''.join(cells)}</tr>"

    def _tick(self, runs: Sequence[Run], name: str) -> str:
        if not self.several:
            return ""
        numbers = " ".join(str(run.number) for run in runs)
        box = f"<input type='checkbox' data-runs='{numbers}' data-label='{safe(name)}'>"
        return f"<td class='scripted'><label class='tick' title='side by side'>{box}</label></td>"

    def _measured(self, scores: Sequence[Cell | None]) -> Iterator[str]:
        for column, found in zip(self.section.columns, scores, strict=True):
            if found is None:
                yield cell(None, numeric=True)
            else:
                yield cell(found.score.number, found.score.value, numeric=True, below=_beneath(found))
            if column in self.kept:
                kept = None if found is None else found.kept
                yield cell(None if kept is None else f"{kept:.1f}", kept, numeric=True)

    def _sizes(self, run: Run, seconds: float | None, memory: float | None) -> Iterator[str]:
        shown = run.shown
        if self.size:
            yield cell(shown.size or None, shown.count, kind="size number")
        if self.bytes:
            yield cell(None if shown.bytes is None else f"{shown.bytes:,}", shown.bytes, numeric=True)
        if self.share:
            yield cell(None if shown.share is None else f"{shown.share:.3g}", shown.share, numeric=True)
        if self.seconds:
            yield cell(None if seconds is None else f"{seconds:,.1f}", seconds, numeric=True)
        if self.memory:
            yield cell(None if memory is None else f"{memory / 1e9:.2f}", memory, numeric=True)


def _head(name: str, *, numeric: bool = False, below: str = "") -> str:
    kind = "number" if numeric else "text"
    small = f"<small>{safe(below)}</small>" if below else ""
    button = f"<button type='button'>{safe(name)}{small}</button>"
    return f"<th scope='col' class='{kind}' aria-sort='none' data-kind='{kind}'>{button}</th>"


def _link(run: Run, words: str) -> str:
    return f"<a href='#run-{run.number}'>{safe(words)}</a>"


def _beneath(found: Cell) -> str:
    """What a score is read with, in short: its best rival, and the whole; or what guessing gives."""
    rival, sign = best_rival(found), _sign(found)
    ahead = rival and rival.score.unit == found.score.unit and sign * rival.score.value > sign * found.score.value
    lines = [_small(rival, "ahead" if ahead else "")] if rival else []
    lines += [_small(Beside(found.whole, found.full))] if found.full else []
    return "".join(lines or map(_small, found.rivals[:1]))


def _small(rival: Beside, kind: str = "") -> str:
    return f"<small class='{kind}'>{safe(rival.label)}: {safe(rival.score)}</small>"


def best_rival(found: Cell) -> Beside | None:
    """The best of what was measured beside a score, of those in its unit if there are any."""
    alike = [other for other in found.beside if other.score.unit == found.score.unit] or list(found.beside)
    return max(alike, key=lambda other: _sign(found) * other.score.value, default=None)


def _sign(found: Cell) -> int:
    return -1 if found.score.better == "lower" else 1
