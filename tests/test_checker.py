"""The checker of shapes in the test run checks what jaxtyping's own would."""

from typing import Self

import jaxtyping
import numpy as np
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, Int, TypeCheckError
from torch import Tensor

import checker
from attar.core.seeds import Generators, permutation
from attar.mixtures.quadratic import nonnegative_minimum

checked = jaxtyping.jaxtyped(typechecker=checker.check)
REFUSED = (BeartypeCallHintViolation, TypeCheckError)


@checked
def paired(left: Float[Tensor, "rows columns"], right: Float[Tensor, " columns"]) -> Float[Tensor, " rows"]:
    return left @ right if right.sum() else right


class Box:
    @checked
    def __init__(self, count: int) -> None:
        self.count = count

    @checked
    def with_count(self, count: "int | None") -> Self:
        return type(self)(count or 0)

    @property
    @checked
    def doubled(self) -> int:
        return self.count * 2

    @checked
    def later(self, other: "Later") -> "Later":  # noqa: F821
        return other

    @checked
    def so_many(self, count: int) -> Int[Tensor, " {count}"]:
        return torch.arange(self.count)


def test_axes_of_one_name_have_one_size_within_a_call_and_any_in_the_next():
    assert paired(torch.ones(2, 3), torch.ones(3)).shape == (2,)
    assert paired(torch.ones(4, 5), torch.ones(5)).shape == (4,)
    with pytest.raises(REFUSED):
        paired(torch.ones(2, 3), torch.ones(2))


def test_results_are_held_to_the_axes_of_arguments():
    with pytest.raises(REFUSED):
        paired(torch.ones(2, 3), torch.zeros(3))


@pytest.mark.parametrize("wrong", [torch.ones(2, 3, dtype=torch.int64), torch.ones(6), [[1.0]], None])
def test_kinds_of_numbers_and_of_things_are_checked(wrong):
    with pytest.raises(REFUSED):
        paired(wrong, torch.ones(3))


def test_plain_types_are_checked_and_those_that_are_not_there_yet_are_not():
    assert Box(2).with_count(None).doubled == 0
    assert Box(2).later(3) == 3
    for wrong in ("two", 2.5):
        with pytest.raises(REFUSED):
            Box(2).with_count(wrong)
    with pytest.raises(REFUSED):
        Box("two")


def test_an_axis_may_be_computed_from_an_argument():
    assert len(Box(2).so_many(2)) == 2
    with pytest.raises(REFUSED):
        Box(2).so_many(3)


def test_attar_is_checked():
    with pytest.raises(REFUSED):
        Generators(0)(purpose=3)
    with pytest.raises(REFUSED):
        permutation("seed", "order", 3)
    with pytest.raises(REFUSED):
        nonnegative_minimum(np.eye(3), np.ones(2))
