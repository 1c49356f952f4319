import pytest

from attar.convolution.geometry import Geometry
from attar.convolution.im2col import Im2col
from attar.convolution.mec import MEC


@pytest.mark.parametrize("folded_up_to", [0, 100], ids=["B", "A"])
def test_both_solutions_convolve(folded_up_to, draw, equals_conv2d):
    for _ in range(40):
        case = draw.case()
        method = MEC.prepare(case.weight, case.bias, case.geometry, folded_up_to=folded_up_to)
        equals_conv2d(case, method(case.activation))


def test_the_lowered_map_holds_whole_strips(draw):
    image = draw.normal(1, 2, 4, 5)
    method = MEC.prepare(draw.normal(3, 2, 2, 3), None, Geometry(2, 3, (2, 3), (1, 2)))
    lowered = method.lower(image)
    assert lowered.shape == (1, 2, 4 * 3 * 2)
    strip = image[0, :, :, 2:5].permute(1, 2, 0)
    assert lowered[0, 1].equal(strip.flatten())
    assert method.bytes(image) == 4 * lowered.numel()


def test_it_stores_less_than_im2col_by_what_windows_share_downwards(draw):
    weight, image = draw.normal(2, 3, 3, 3), draw.normal(1, 3, 10, 9)
    geometry = Geometry.of_weight(weight, stride=(2, 1))
    down, right = geometry.output(10, 9)
    saved = Im2col.prepare(weight, None, geometry).bytes(image) - MEC.prepare(weight, None, geometry).bytes(image)
    assert saved == 4 * right * 3 * 3 * (down * 3 - 10)
