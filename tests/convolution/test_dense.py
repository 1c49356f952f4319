import pytest
import torch

from attar.convolution.dense import Dense
from attar.convolution.geometry import Geometry
from attar.core.errors import InputError


@pytest.mark.parametrize("layout", ["nchw", "channels-last"])
def test_both_layouts_convolve(layout, draw, equals_conv2d):
    for _ in range(20):
        case = draw.case()
        method = Dense.prepare(case.weight, case.bias, case.geometry, layout=layout)
        equals_conv2d(case, method(case.activation))
        assert method.bytes(case.activation) == 0


def test_weights_of_another_geometry_are_refused(draw):
    with pytest.raises(InputError) as refusal:
        Dense.prepare(draw.normal(3, 2, 3, 3), None, Geometry(2, 4, (3, 3)))
    assert str(refusal.value) == "the weight has shape (3, 2, 3, 3); with this geometry it must be (4, 2, 3, 3)."
    with pytest.raises(InputError) as refusal:
        Dense.prepare(draw.normal(3, 2, 3, 3), draw.normal(4), Geometry(2, 3, (3, 3)))
    assert str(refusal.value) == "the bias has shape (4,); it must have 3 values, one per filter."


def test_nan_passes_as_in_pytorch(draw):
    image = torch.full((1, 2, 3, 3), torch.nan)
    assert Dense.prepare(draw.normal(1, 2, 3, 3), None, Geometry(2, 1, (3, 3)))(image).isnan().all()


def test_an_unknown_layout_is_refused(draw):
    with pytest.raises(InputError, match="unknown layout 'nhwc'"):
        Dense.prepare(draw.normal(1, 1, 2, 2), None, Geometry(1, 1, (2, 2)), layout="nhwc")
