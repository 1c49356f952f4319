import pytest
import torch
from torch import nn

from attar.convolution.geometry import Geometry, check_finite
from attar.core.errors import InputError


@pytest.mark.parametrize("padding", [0, 1, (2, 0), "same", "valid"])
@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
def test_the_output_is_as_large_as_that_of_the_layer(stride, padding):
    if padding == "same" and stride != 1:
        pytest.skip("PyTorch has no 'same' with strides")
    layer = nn.Conv2d(2, 3, (3, 5), stride=stride, padding=padding)
    geometry = Geometry.of_layer(layer)
    assert (3, *geometry.output(9, 11)) == layer(torch.zeros(1, 2, 9, 11)).shape[1:]


def test_same_padding_of_an_even_kernel_is_refused():
    with pytest.raises(InputError) as refusal:
        Geometry.of_layer(nn.Conv2d(1, 1, 4, padding="same"))
    assert str(refusal.value) == "padding='same' for a kernel of 4×4 is unequal on both sides; it must be equal."


@pytest.mark.parametrize(
    "activation, sentence",
    [
        (torch.zeros(2, 5, 5), "the activation has 3 axes; it must be [image, channel, height, width]."),
        (torch.zeros(1, 3, 5, 5), "the activation has 3 channels, but the kernel has 2."),
        (
            torch.zeros(1, 2, 5, 5, dtype=torch.int64),
            "the activation is int64 on cpu; it must be float32 on the CPU.",
        ),
        (torch.zeros(1, 2, 2, 5), "a kernel of 3×3 does not fit on a map of 2×5 (padding included)."),
    ],
)
def test_what_is_no_activation_is_refused(activation, sentence):
    with pytest.raises(InputError) as refusal:
        Geometry(2, 4, (3, 3)).check(activation)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_refused(value):
    activation = torch.zeros(1, 1, 3, 3)
    check_finite(activation + 3e38)  # its sum overflows, its values do not
    activation[0, 0, 1, 1] = value
    with pytest.raises(InputError) as refusal:
        check_finite(activation)
    assert str(refusal.value) == "the activation has NaN or infinite values; a sparse convolution needs finite ones."


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"stride": (0, 1)}, {"padding": (-1, 0)}, {"kernel": (3, 0)}])
def test_an_impossible_geometry_is_refused(wrong):
    with pytest.raises(InputError, match="is no convolution; counts, kernel and stride must be >= 1"):
        Geometry(**{"channels": 1, "filters": 1, "kernel": (3, 3), **wrong})


def test_a_weight_of_another_rank_is_refused():
    with pytest.raises(InputError, match=r"the weight has 2 axes; it must be \[filter, channel, height, width\]\."):
        Geometry.of_weight(torch.zeros(3, 4))
