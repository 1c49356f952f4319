import pytest
import torch

from attar.convolution import CompressConvolution, ConvolutionPlan
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.images.training import TrainedNetwork

SMALL = "convnet:norm=none,pooling=none,width=16,depth=2"


@pytest.fixture
def method():
    return CompressConvolution(network=SMALL, epochs=1, images=8, methods=("cpo", "direct"))


@pytest.fixture
def source(digits):
    return digits.subset(torch.cat([rows[:12] for rows in digits.rows_of]))


def test_a_network_is_trained_planned_and_saved(method, source, runtime, tmp_path):
    made = method.compress(source, runtime)
    assert [layer.name for layer in made.layers] == ["blocks.0.0", "blocks.1.0"]
    assert made.layers[0].reason == "it is not fed by a ReLU: its input has negative values"
    assert set(made.layers[1].milliseconds) == {"dense, nchw", "dense, channels-last", "cpo", "direct"}
    assert made.whole.agreeing == made.whole.images == 8
    assert made.origin["network"] == SMALL
    made.save(tmp_path)
    network = TrainedNetwork.load(tmp_path).network
    planned = ConvolutionPlan.load(tmp_path).apply(network)
    images = source.inputs(torch.arange(9))
    with torch.inference_mode():
        torch.testing.assert_close(planned(images), network(images), rtol=1e-4, atol=1e-5)


def test_the_network_of_a_folder_is_planned(method, source, runtime, tmp_path):
    first = method.compress(source, runtime)
    first.save(tmp_path)
    again = CompressConvolution(network=str(tmp_path), images=8, methods=("direct",)).compress(source, runtime)
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in first.weights.items())


def test_the_same_seed_draws_the_same_images(method, source, runtime):
    densities = [
        [layer.density for layer in method.compress(source, Runtime(runtime.engine, seed)).layers] for seed in (0, 0)
    ]
    assert densities[0] == densities[1]


def test_data_is_opened_as_images_are(method):
    source = method.open("digits")
    assert source.name == "digits"
    assert "1,297 training" in str(source)
    with pytest.raises(InputError):
        method.open("no-such-place")


def test_what_cannot_be_planned_is_refused(source, runtime, tmp_path):
    with pytest.raises(InputError, match="holds no trained network"):
        CompressConvolution(network=str(tmp_path)).compress(source, runtime)
    with pytest.raises(InputError, match="unknown network 'convnett'"):
        CompressConvolution(network="convnett").compress(source, runtime)
    with pytest.raises(InputError, match="images is 121, but digits has 120 training images; ask for fewer"):
        CompressConvolution(network=SMALL, epochs=1, images=121).compress(source, runtime)


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"runs": 29}, "runs is 29; it must be at least 30."),
        ({"images": 0}, "images is 0; it must be at least 1."),
        ({"methods": ("direct", "fft")}, "unknown method of convolution 'fft'; "),
    ],
)
def test_wrong_settings_are_refused(given, sentence):
    with pytest.raises(InputError) as refusal:
        CompressConvolution(**given)
    assert str(refusal.value).startswith(sentence)


def test_settings_survive_json(method):
    assert CompressConvolution.from_json(method.to_json()) == method
