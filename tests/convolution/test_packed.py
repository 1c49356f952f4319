import pytest
import torch

from attar.convolution import packed
from attar.convolution.geometry import Geometry
from attar.convolution.packed import Packed


def test_packed_weights_convolve(draw, equals_conv2d):
    for _ in range(60):
        case = draw.case()
        method = Packed.prepare(case.weight, case.bias, case.geometry)
        equals_conv2d(case, method(case.activation))
        assert method.bytes(case.activation) == 0


@pytest.mark.parametrize("stride", [(1, 2), (1, 3)])
def test_a_single_channel_with_steps_to_the_right(stride, draw):
    weight, image = draw.normal(3, 1, 2, 5), draw.normal(1, 1, 10, 9)
    method = Packed.prepare(weight, None, Geometry.of_weight(weight, stride=stride))
    torch.testing.assert_close(method(image), torch.nn.functional.conv2d(image, weight, stride=stride))


def test_weights_are_packed_for_each_shape_and_not_for_ever_more(draw):
    weight = draw.normal(3, 2, 3, 3)
    method = Packed.prepare(weight, None, Geometry.of_weight(weight))
    for side in range(3, 12):
        image = draw.normal(1, 2, side, side)
        torch.testing.assert_close(method(image), torch.nn.functional.conv2d(image, weight), rtol=1e-4, atol=1e-4)
    assert len(method.blocks) <= packed.MOST_SHAPES


def test_without_onednn_it_is_the_plain_convolution(draw, monkeypatch, equals_conv2d):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    case = draw.case()
    method = Packed.prepare(case.weight, case.bias, case.geometry)
    equals_conv2d(case, method(case.activation))
    assert list(method.blocks.values()) == [None]
