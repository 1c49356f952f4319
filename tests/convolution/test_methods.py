import pytest
import torch

from attar.convolution import METHODS, convolve
from attar.convolution.geometry import Geometry
from attar.core.errors import InputError


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_is_the_same_function(name, draw):
    image, weight, bias = draw.sparse(2, 6, 10, 9, density=0.3), draw.normal(7, 6, 3, 2), draw.normal(7)
    made = convolve(image, weight, bias, stride=(2, 1), padding=(1, 0), method=name)
    wanted = torch.nn.functional.conv2d(image, weight, bias, (2, 1), (1, 0))
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_refuses_what_is_no_activation(name, draw):
    method = METHODS[name].prepare(draw.normal(2, 3, 3, 3), None, Geometry(3, 2, (3, 3)))
    assert method.name == name
    for wrong in (torch.zeros(1, 3, 5, 5, dtype=torch.int32), torch.zeros(1, 4, 5, 5), torch.zeros(3, 5, 5)):
        with pytest.raises(InputError):
            method(wrong)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("dense", "packed")])
def test_every_other_method_refuses_nan(name, draw):
    image = draw.normal(1, 3, 5, 5)
    image[0, 2, 2, 2] = torch.nan
    with pytest.raises(InputError, match="NaN"):
        convolve(image, draw.normal(2, 3, 3, 3), method=name)


@pytest.mark.parametrize("name", list(METHODS))
def test_preparing_leaves_the_weights_alone(name, draw):
    weight, image = draw.normal(2, 3, 3, 3), draw.sparse(1, 3, 6, 6, density=0.5)
    before = weight.clone()
    method = METHODS[name].prepare(weight, None, Geometry.of_weight(weight))
    first = method(image)
    assert torch.equal(weight, before)
    assert torch.equal(method(image), first)


def test_an_unknown_method_is_refused(draw):
    with pytest.raises(InputError, match="unknown method of convolution 'drect'; did you mean 'direct'"):
        convolve(draw.normal(1, 1, 3, 3), draw.normal(1, 1, 2, 2), method="drect")
