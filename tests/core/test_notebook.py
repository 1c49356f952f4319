"""What a notebook shows: tables, pictures, a line of progress; and what goes to the log."""

import logging
import sys
import warnings
from types import SimpleNamespace

import pytest

import attar
from attar.core import notebook
from attar.core.cell import Beside, Cell
from attar.core.evaluation import Evaluation, Row
from attar.core.notes import LOG, Speaker, note
from attar.core.progress import Line, as_text
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score


def measured(*labels):
    beside = (Beside("random, as many <images>", Score(40.0)),)
    rows = []
    for number, label in enumerate(labels):
        cell = Cell.of([[60.0 + number, 62.0 + number]], column="convnet", protocol="quick", beside=beside)
        rows.append(Row(label, (), (cell,), (0,), count=20, bytes=7448))
    return Evaluation(tuple(rows), seconds=1.0)


@pytest.fixture
def in_a_notebook(monkeypatch):
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    return shell


def test_a_notebook_is_a_kernel_of_jupyter(in_a_notebook, monkeypatch):
    assert notebook.in_notebook()
    del in_a_notebook.kernel  # IPython on a terminal
    assert not notebook.in_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not notebook.in_notebook()


def test_a_single_score_stands_with_its_rivals():
    page = measured("dm")._repr_html_()
    assert "<th" in page and ">dm<" in page
    assert ">61.0 ± 1.4 %<" in page
    assert ">beside it, random, as many &lt;images&gt;<" in page and ">40.0 %<" in page
    assert "7,448 bytes" in page


def test_several_rows_are_a_table_with_the_notes_below():
    found = measured("dm", "datadam")
    page = found._repr_html_()
    assert page.count("<tr>") == 3
    assert ">datadam<" in page and ">62.0 ± 1.4  (+1.0 [+1.0, +1.0])<" in page
    assert "95 % interval" in page
    assert repr(found) == "<Evaluation: dm, datadam by convnet>"
    assert str(found).splitlines()[0].split()[::2] == ["made", "┃", "┃", "┃"]


def test_scores_are_drawn_where_matplotlib_is_installed():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install '.[docs]'")
    drawn = measured("dm", "datadam")._repr_png_()
    assert drawn.startswith(b"\x89PNG") and drawn == measured("dm", "datadam")._repr_png_()


def test_a_score_and_a_cell_have_their_words():
    assert Score(61.0, spread=1.0, n=2)._repr_html_() == "61.0 ± 1.0 %"
    page = measured("dm").networks[0]._repr_html_()
    assert ">quick protocol<" in page and ">convnet<" in page


def test_data_and_artefacts_are_one_line(digits, engine):
    assert repr(digits) == f"<ImageSource: {digits}>"
    made = attar.condense(digits, attar.ClassMean(ipc=1), engine=engine)
    assert repr(made) == "<CondensedImages: digits, condensed by class-mean>"
    assert "<img " in made._repr_html_() and made._repr_png_().startswith(b"\x89PNG")


def test_a_line_of_progress_is_written_over_and_taken_away(in_a_notebook, monkeypatch, capsys):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("attar.core.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    with Line("dm", 100, quiet=False) as line:
        line.at(1)
        line.show({"loss": 0.25})
        line.at(2)
        line.at(50)
    printed = capsys.readouterr().err
    assert "\n" not in printed and "\x1b" not in printed
    states = printed.split("\r")
    assert states[1] == "dm 1/100" and states[2].startswith("dm 2/100  loss 0.25  0.1/s  ")
    assert states[3].startswith("dm 50/100  loss 0.25  2.5/s  0:00:20 left")
    assert states[-2].strip() == "" and states[-1] == ""


@pytest.mark.parametrize("quiet", [True, False])
def test_nobody_sees_it_elsewhere(quiet, capsys):
    with Line("dm", 10, quiet=quiet) as line:
        line.at(1)
    assert capsys.readouterr().err == ""


def test_a_table_is_text_in_a_notebook_too(monkeypatch):
    from rich.table import Table

    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    table = Table("one")
    table.add_row("two")
    assert "two" in as_text(table)


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append((record.levelname, record.getMessage()))


@pytest.fixture
def log():
    handler, before = Kept(), LOG.level
    LOG.addHandler(handler)
    LOG.setLevel("INFO")
    yield handler.lines
    LOG.removeHandler(handler)
    LOG.setLevel(before)


def test_what_a_run_says_goes_to_the_log_once_and_to_whoever_listens(log, digits, tmp_path):
    said = []
    engine = Engine(device="cpu", quiet=True)
    attar.condense(digits, attar.ClassMean(ipc=1), out=tmp_path / "made", engine=engine, say=said.append)
    assert said and [line for _, line in log] == said
    assert {level for level, _ in log} == {"INFO"}
    again = Runtime(engine, say=Runtime(engine, say=said.append).say)
    again.say("once")
    assert said.count("once") == 1 and log.count(("INFO", "once")) == 1


def test_the_log_prints_nothing_by_itself(capsys):
    Speaker()("a line with 100 %s")
    assert capsys.readouterr() == ("", "")


def test_a_note_is_a_warning_or_a_line_of_the_log_and_never_both(log):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        note("look out")
    assert log == [("WARNING", "look out")]


def test_a_note_is_a_warning_of_the_line_that_it_is_about():
    with pytest.warns(UserWarning, match="^look out$") as found:
        note("look out")
    assert found[0].filename == __file__
