import random

import pytest
import torch

from attar.convolution.timing import Median, machine, ratio, seconds_in_turns


def test_the_interval_of_a_median_is_that_of_the_sign_test():
    """Of 31 values the tenth from either end (binomial, 95 %)."""
    median = Median.of([float(value) for value in range(1, 32)])
    assert (median.value, median.low, median.high, median.n) == (16, 10, 22, 31)


def test_it_covers_the_truth_as_often_as_it_says():
    generator = random.Random(0)
    covered = 0
    for _ in range(400):
        median = Median.of([generator.expovariate(1.0) for _ in range(31)])
        covered += median.low <= 0.6931 <= median.high
    assert 0.94 <= covered / 400 <= 0.99


def test_few_values_bound_nothing():
    assert Median.of([1.0, 2.0, 3.0]).low == 0
    assert Median.of([1.0, 2.0, 3.0]).high == float("inf")


def test_an_outlier_does_not_move_it():
    steady = Median.of([1.0] * 31)
    assert Median.of([1.0] * 28 + [90.0, 80.0, 70.0]) == steady


def test_pairs_cancel_what_they_share():
    """Both sides drift by a factor of ten; the ratio does not."""
    drift = [1 + 9 * run / 30 for run in range(31)]
    found = ratio([2.1 * slow for slow in drift], list(drift))
    assert (found.low, found.high) == (pytest.approx(2.1), pytest.approx(2.1))


def test_everything_has_its_turn_and_its_warm_up():
    calls = []
    seconds = seconds_in_turns({name: lambda run, name=name: calls.append((name, run)) for name in "abc"}, runs=40)
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 40, "b": 40, "c": 40}
    timed = calls[9:]
    assert [run for _, run in timed] == [run for run in range(40) for _ in range(3)]
    orders = ["".join(name for name, _ in timed[3 * run : 3 * run + 3]) for run in range(40)]
    assert all(sorted(order) == list("abc") for order in orders)
    assert len(set(orders)) == 6  # each follows each, not always the same one


def test_the_machine_is_described():
    facts = machine()
    assert facts["threads"] == torch.get_num_threads()
    assert facts["flush_to_zero"] is False
    assert facts["cpu"]


def test_flush_to_zero_is_seen():
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush")
    try:
        assert machine()["flush_to_zero"] is True
    finally:
        torch.set_flush_denormal(False)
