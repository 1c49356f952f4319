import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from attar.convolution import METHODS
from attar.convolution.planned import PlannedConv2d, with_methods
from attar.core.errors import InputError


def network(generator):
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(1000, (), generator=generator)))
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 9, 3, stride=2, bias=False), nn.ReLU()
        )


@pytest.mark.parametrize("method", list(METHODS))
def test_a_planned_network_computes_the_same(method, draw, generator):
    plain, images = network(generator), draw.normal(2, 3, 9, 9)
    planned = with_methods(plain, {"2": method})
    with torch.inference_mode():
        torch.testing.assert_close(planned(images), plain(images), rtol=1e-4, atol=1e-5)
    assert isinstance(planned[2], PlannedConv2d)
    assert list(planned.state_dict()) == list(plain.state_dict())
    assert f"method={method}" in repr(planned)


def test_the_network_itself_stays(generator):
    plain = network(generator).train()
    with_methods(plain, {"0": "direct"})
    assert type(plain[0]) is nn.Conv2d
    assert plain.training and plain[0].weight.requires_grad


def test_new_weights_are_packed_anew(draw, generator):
    planned, images = with_methods(network(generator), {"0": "direct", "2": "cpo"}), draw.normal(1, 3, 7, 7)
    with torch.no_grad():
        planned(images)
        other = network(generator)
        planned.load_state_dict(other.state_dict())
        torch.testing.assert_close(planned(images), other(images), rtol=1e-4, atol=1e-5)
        planned[0].weight.mul_(2)
        other[0].weight.mul_(2)
        torch.testing.assert_close(planned(images), other(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["direct", "cpo", "im2col", "packed"])
@pytest.mark.parametrize("layout", ["channels-last", "nchw"])
def test_weights_that_change_without_a_trace_are_noticed(method, layout, draw, generator):
    """Through `.data`, NumPy, a flat vector, or a swap of filters: neither identity nor version tells of it."""
    plain, images = network(generator), draw.normal(1, 3, 7, 7)
    planned = with_methods(plain, {"0": method, "2": method}, layout=layout)

    def poke(net):
        net[0].weight.data[0, 0, 0, 0] += 3

    def flip(net):
        net[2].weight.data.copy_(net[2].weight.data.flip(0))

    def of_numpy(net):
        net[0].bias.detach().numpy()[:] += 1

    def of_vector(net):
        vector = torch.cat([parameter.reshape(-1) for parameter in net.parameters()])
        nn.utils.vector_to_parameters(0.5 * vector, net.parameters())

    with torch.no_grad():
        for change in (poke, flip, of_numpy, of_vector, of_vector, lambda net: net[2].weight.data.neg_()):
            planned(images)
            change(planned)
            change(plain)
            torch.testing.assert_close(planned(images), plain(images), rtol=1e-4, atol=1e-5)


def test_a_large_weight_that_is_scaled_in_place_is_noticed(draw):
    layer = nn.Conv2d(128, 128, 3)
    planned, image = with_methods(layer, {"": "direct"}), draw.normal(1, 128, 4, 4)
    with torch.no_grad():
        before = planned(image)
        planned.weight.data.mul_(1.01)
        planned.bias.data.mul_(1.01)
        torch.testing.assert_close(planned(image), 1.01 * before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["channels-last", "nchw"])
@pytest.mark.parametrize("place", [(slice(None), 5), (slice(None), slice(None), 1, 1), 7], ids=str)
def test_a_channel_or_a_position_of_a_large_weight_is_noticed(place, layout, draw):
    """Pruning writes whole channels, or one position of every kernel, through `.data`."""
    plain, image = nn.Sequential(nn.Conv2d(256, 512, 3)).requires_grad_(False), draw.normal(1, 256, 3, 3)
    planned = with_methods(plain, {"0": "im2col"}, layout=layout)
    planned(image)
    for net in (plain, planned):
        net[0].weight.data[place] = 0.5
    torch.testing.assert_close(planned(image), plain(image), rtol=1e-4, atol=1e-3)


class Weighed(nn.Conv2d):
    """A convolution that is more than its weights."""


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "reflect"),
        (nn.Conv2d(4, 4, 3, dilation=2), "dilated"),
        (nn.Conv2d(4, 4, 3, groups=2), "2 groups"),
        (parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), "ParametrizedConv2d"),
        (Weighed(4, 4, 3), "Weighed"),
    ],
)
def test_a_convolution_that_no_method_computes_is_refused(layer, why):
    with pytest.raises(InputError, match=why):
        with_methods(nn.Sequential(layer), {"0": "im2col"})


def test_a_network_without_a_copy_is_refused():
    network = nn.Sequential(nn.Conv2d(4, 4, 3))
    prune.random_unstructured(network[0], "weight", 0.5)
    with pytest.raises(InputError, match=r"prune\.remove"):
        with_methods(network, {"0": "im2col"})
    prune.remove(network[0], "weight")
    assert isinstance(with_methods(network, {"0": "im2col"})[0], PlannedConv2d)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("layout", ["channels-last", "nchw"])
@pytest.mark.parametrize("given", [torch.contiguous_format, torch.channels_last])
def test_the_output_has_the_layout_that_pytorch_gives_it(method, layout, given, draw, generator):
    plain, images = network(generator), draw.normal(2, 3, 9, 9).contiguous(memory_format=given)
    form = torch.channels_last if layout == "channels-last" else torch.contiguous_format
    with torch.inference_mode():
        made = with_methods(plain, {"0": method, "2": method}, layout=layout)(images)
        wanted = copy.deepcopy(plain).to(memory_format=form)(images)
    assert made.stride() == wanted.stride()


def test_it_can_be_copied_and_stored(draw, generator):
    planned, images = with_methods(network(generator), {"0": "direct", "2": "packed"}), draw.normal(1, 3, 7, 7)
    with torch.no_grad():
        wanted = planned(images)
        assert torch.equal(copy.deepcopy(planned)(images), wanted)
        sink = io.BytesIO()
        torch.save(planned, sink)
        sink.seek(0)
        assert torch.equal(torch.load(sink, weights_only=False)(images), wanted)


def test_what_the_method_is_not_for_goes_through_pytorch(draw, generator):
    plain = network(generator)
    planned, images = with_methods(plain, {"0": "direct"}), draw.normal(1, 3, 7, 7)
    asked = images.clone().requires_grad_()
    planned(asked).sum().backward()
    wanted = images.clone().requires_grad_()
    plain(wanted).sum().backward()
    torch.testing.assert_close(asked.grad, wanted.grad)
    torch.testing.assert_close(copy.deepcopy(planned).double()(images.double()), plain.double()(images.double()))
    assert planned(images[0]).shape == plain.float()(images[0]).shape


def test_a_network_that_is_one_convolution(draw):
    layer = nn.Conv2d(2, 3, 3)
    planned, image = with_methods(layer, {"": "direct"}), draw.normal(1, 2, 5, 5)
    torch.testing.assert_close(planned(image), layer(image), rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_not_there_is_refused(generator):
    with pytest.raises(InputError, match="the network has no convolution '1'; the plan is of another network"):
        with_methods(network(generator), {"1": "direct"})
    with pytest.raises(InputError, match="unknown method of convolution"):
        with_methods(network(generator), {"0": "fast"})
