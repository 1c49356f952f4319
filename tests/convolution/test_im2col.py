import pytest
import torch

from attar.convolution.geometry import Geometry
from attar.convolution.im2col import Im2col
from attar.core.errors import InputError


def test_multiplying_windows_is_convolving(draw, equals_conv2d):
    for _ in range(40):
        case = draw.case()
        equals_conv2d(case, Im2col.prepare(case.weight, case.bias, case.geometry)(case.activation))


def test_bytes_are_those_of_the_lowered_matrix(draw):
    geometry = Geometry(3, 4, (3, 5), (2, 1), (1, 0))
    method = Im2col.prepare(draw.normal(4, 3, 3, 5), None, geometry)
    images = draw.normal(2, 3, 9, 8)
    matrix = torch.nn.functional.unfold(images, (3, 5), padding=(1, 0), stride=(2, 1))
    assert method.bytes(images) == 4 * matrix.numel()


def test_nan_is_refused(draw):
    with pytest.raises(InputError, match="the activation has NaN"):
        Im2col.prepare(draw.normal(1, 1, 2, 2), None, Geometry(1, 1, (2, 2)))(torch.full((1, 1, 3, 3), torch.nan))
