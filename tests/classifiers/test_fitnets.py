import pytest
import torch

from attar.classifiers.fitnets import Regressor, hint_loss
from attar.core.errors import InputError


@pytest.mark.parametrize(
    "student, teacher",
    [((8, 8, 8), (16, 8, 8)), ((8, 10, 9), (5, 8, 8)), ((8, 16, 16), (4, 8, 8)), ((8, 4, 4), (16, 8, 8))],
)
def test_a_regressor_brings_maps_to_the_teachers_shape(student, teacher):
    assert Regressor(student, teacher)(torch.randn(2, *student)).shape == (2, *teacher)


def test_sizes_that_no_regressor_joins_are_refused():
    with pytest.raises(InputError, match=r"the student's hint is 3×3, the teacher's 8×8"):
        Regressor((4, 3, 3), (4, 8, 8))


def test_the_loss_is_the_mean_over_all_elements():
    maps = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    own = maps.clone().requires_grad_()
    hint_loss(own, maps).backward()
    assert own.grad.abs().max() == 0
    assert hint_loss(maps, maps) == 0
    assert torch.isclose(hint_loss(maps + 2, maps), torch.tensor(4.0))
