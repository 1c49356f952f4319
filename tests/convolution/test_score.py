"""The confirmed ratio of a plan, with its interval and the times that it is made of."""

from dataclasses import replace

import pytest
from torch import nn

import attar
from attar.convolution.artefact import ConvolutionPlan, LayerChoice, WholeNetwork
from attar.convolution.score import measure
from attar.convolution.timing import Median
from attar.core.errors import InputError
from attar.core.scores import scores_in


def plan(ratio=4.0):
    layer = LayerChoice.dense("0", nn.Conv2d(2, 3, 3), (2, 8, 8), 1.0, "its input has no zeros")
    times = (Median(2.0, 1.8, 2.2, 31), Median(2.0 / ratio, 0.45, 0.55, 31), Median(ratio, 3.5, 4.5, 31))
    return ConvolutionPlan((layer,), WholeNetwork(10, 1, 1e-6, 2.0, 9, "nchw", *times), {}, {"threads": 1}, {})


def test_the_ratio_comes_with_its_interval_and_what_it_is_read_with():
    (cell,) = attar.evaluate(plan()).networks
    assert (cell.column, str(cell.score)) == ("times faster", "4.00 [3.50, 4.50] ×")
    assert cell.further["predictions equal"].score.value == 90
    (rival,) = cell.beside
    assert (rival.label, str(rival.score)) == ("all by PyTorch, nchw", "2.000 [1.800, 2.200] ms")
    assert cell.kept is None


def test_every_plan_is_a_row_of_its_own():
    found = measure([replace(plan(), settings={"runs": 31}), replace(plan(2.0), settings={"runs": 61})])
    assert [row.cells[0].score.value for row in found.rows] == [4.0, 2.0]
    assert "-2.00" in str(found)


def test_a_plan_that_was_not_compared_is_refused():
    with pytest.raises(InputError, match="the whole network was not compared"):
        measure([replace(plan(), whole=None)])
    with pytest.raises(InputError, match="there is no plan"):
        measure([])


def test_it_stands_on_the_card(tmp_path):
    saved = plan().save(tmp_path)
    saved.remember(list(measure([saved]).networks))
    assert scores_in(tmp_path)[0].score.interval == (3.5, 4.5)
    assert "| **times faster** |  | 4.00 [3.50, 4.50] × | 31 |" in (tmp_path / "README.md").read_text(encoding="utf-8")
