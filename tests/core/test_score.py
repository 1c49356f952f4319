import math
import statistics

import numpy as np
import pytest
from scipy import stats

from attar.core.score import Interval, Score, Spread, kept, paired, welch


def test_a_score_is_the_mean_with_its_sample_deviation():
    values = [90.0, 92.0, 97.0]
    score = Score.of(values)
    assert (score.value, score.n) == (93.0, 3)
    assert score.spread == pytest.approx(np.std(values, ddof=1))
    assert str(score) == "93.0 ± 3.6 %"


def test_a_single_value_has_no_spread():
    score = Score.of([3.0], unit="dB", better="lower")
    assert score == Score(3.0, "dB", "lower", None, 1)
    assert str(score) == "3.0 dB"


def test_a_unit_has_its_decimals():
    assert str(Score.of([4.5, 4.7], "nats", "lower")) == "4.6000 ± 0.1414 nats"
    assert str(Score(0.0123456, "")) == "0.01235"
    assert str(Score(1.21, "×", interval=(1.1, 1.333))) == "1.21 [1.10, 1.33] ×"
    assert Interval(0.5, 0.25, 0.75).told("rad") == "+0.50000 [+0.25000, +0.75000]"


@pytest.mark.parametrize(
    "value, full, chance, share",
    [(90.0, 100.0, 0.0, 90.0), (55.0, 100.0, 10.0, 50.0), (10.0, 100.0, 10.0, 0.0), (98.0, 98.0, 10.0, 100.0)],
)
def test_what_is_kept_is_the_share_above_chance(value, full, chance, share):
    assert kept(Score(value), Score(full), chance=chance) == pytest.approx(share)


def test_nothing_can_be_kept_of_a_score_at_chance():
    assert kept(Score(10.0), Score(10.0), chance=10.0) is None
    assert kept(Score(0.0), Score(0.0)) is None
    assert kept(Score(9.0), Score(8.0), chance=10.0) is None


@pytest.mark.parametrize(
    ("value", "full"), [(math.nan, 5.0), (5.0, math.nan), (5.0, math.inf), (math.inf, 5.0), (5.0, 1e-320)]
)
def test_a_share_that_is_no_number_is_not_given(value, full):
    assert kept(Score(value), Score(full)) is None


def test_of_what_should_be_small_no_share_is_kept():
    assert kept(Score(5.0, "nats", "lower"), Score(4.0, "nats", "lower")) is None


@pytest.mark.parametrize("sizes", [(5, 5), (3, 20), (2, 2), (10, 4)])
@pytest.mark.parametrize("spreads", [(1.0, 1.0), (0.1, 7.0)])
def test_the_interval_is_welchs(sizes, spreads):
    generator = np.random.default_rng(0)
    first, second = (list(generator.normal(50, spread, size)) for size, spread in zip(sizes, spreads, strict=True))
    theirs = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    ours = welch(first, second)
    assert ours.difference == pytest.approx(statistics.fmean(first) - statistics.fmean(second))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_swapping_the_sides_mirrors_the_interval():
    first, second = [1.0, 2.0, 4.0], [3.0, 3.5]
    there, back = welch(first, second), welch(second, first)
    assert (there.difference, there.low, there.high) == pytest.approx((-back.difference, -back.high, -back.low))


def test_a_single_value_borrows_the_spread_of_the_other_side():
    many = [4.0, 5.0, 6.0, 7.0]
    error = math.sqrt(statistics.variance(many) * (1 + 1 / 4))
    margin = stats.t.ppf(0.975, 3) * error
    interval = welch([9.0], many)
    assert (interval.low, interval.high) == pytest.approx((3.5 - margin, 3.5 + margin))


def test_two_single_values_say_nothing():
    interval = welch([1.0], [9.0])
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert not interval.excludes_zero


def test_without_any_spread_the_difference_is_exact():
    assert welch([3.0, 3.0], [1.0, 1.0]) == Interval(2.0, 2.0, 2.0)


@pytest.mark.parametrize("low, high, excludes", [(0.1, 2.0, True), (-2.0, -0.1, True), (-0.1, 0.1, False)])
def test_an_interval_excludes_zero_or_not(low, high, excludes):
    assert Interval((low + high) / 2, low, high).excludes_zero is excludes


def test_an_interval_reads_as_in_a_table():
    assert str(Interval(1.234, -0.5, 2.96)) == "+1.2 [-0.5, +3.0]"


def test_paired_interval_is_students():
    first, second = [3.0, 5.0, 7.5], [1.0, 2.0, 6.0]
    interval = paired(first, second)
    expected = stats.ttest_rel(first, second).confidence_interval()
    assert interval.difference == pytest.approx(6.5 / 3)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_one_pair_has_no_interval():
    alone = paired([2.0], [1.0])
    assert alone == Interval(1.0, -math.inf, math.inf)
    assert str(alone) == "+1.0"
    assert alone.to_json() == {"difference": 1.0, "low": None, "high": None}


def test_unequal_pairs_are_a_mistake_of_ours():
    with pytest.raises(ValueError, match="zip"):
        paired([1.0], [1.0, 2.0])


def test_spread_between_sets_comes_apart_from_spread_between_networks():
    generator = np.random.default_rng(0)
    sets = generator.normal(50, 3, size=(4000, 1))
    spread = Spread.of((sets + generator.normal(0, 2, size=(4000, 5))).tolist())
    assert spread.sets == pytest.approx(3, rel=0.05)
    assert spread.networks == pytest.approx(2, rel=0.05)


def test_spread_of_one_set_or_one_network_each():
    assert Spread.of([[1.0, 3.0]]) == Spread(None, math.sqrt(2))
    assert Spread.of([[1.0], [3.0]]) == Spread(math.sqrt(2), None)
    assert Spread.of([[1.0, 3.0], [3.0, 1.0]]).sets == 0
