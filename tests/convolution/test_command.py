import pytest
import torch

import attar
from attar.convolution import CompressConvolution, ConvolutionPlan
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.images.training import TrainedNetwork
from promises import EVERY_STEP, counted, dying

SMALL = "convnet:norm=none,pooling=none,width=16,depth=2"


@pytest.fixture
def method():
    return CompressConvolution(network=SMALL, epochs=1, images=8, methods=("cpo", "direct"))


def planned(method, source, runtime):
    return attar.compress(source, method, seed=runtime.seed, engine=runtime.engine)


@pytest.fixture
def source(digits):
    return digits.subset(torch.cat([rows[:12] for rows in digits.rows_of]))


def test_a_network_is_trained_planned_and_saved(method, source, runtime, tmp_path):
    made = planned(method, source, runtime)
    assert [layer.name for layer in made.layers] == ["blocks.0.0", "blocks.1.0"]
    assert made.layers[0].reason == "it is not fed by a ReLU: its input has negative values"
    assert set(made.layers[1].milliseconds) == {"dense, nchw", "dense, channels-last", "cpo", "direct"}
    assert made.whole.agreeing == made.whole.images == 8
    assert made.origin.settings["network"] == SMALL
    made.save(tmp_path)
    network = TrainedNetwork.load(tmp_path).network
    copy = ConvolutionPlan.load(tmp_path).apply(network)
    images = source.inputs(torch.arange(9))
    with torch.inference_mode():
        torch.testing.assert_close(copy(images), network(images), rtol=1e-4, atol=1e-5)


def test_the_network_of_a_folder_is_planned(method, source, runtime, tmp_path):
    first = planned(method, source, runtime)
    first.save(tmp_path)
    again = planned(CompressConvolution(network=str(tmp_path), images=8, methods=("direct",)), source, runtime)
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in first.weights.items())


def test_the_same_seed_draws_the_same_images(method, source, runtime):
    densities = [
        [layer.density for layer in planned(method, source, Runtime(runtime.engine, seed)).layers] for seed in (0, 0)
    ]
    assert densities[0] == densities[1]


def test_a_plan_goes_on_with_the_layer_at_which_it_was_stopped(method, source, tmp_path):
    with dying(method, 2):
        attar.compress(source, method, out=tmp_path, engine=EVERY_STEP)
    with counted(method) as taken:
        made = attar.compress(source, method, out=tmp_path, engine=EVERY_STEP)
    assert len(taken) == 2
    assert len(made.layers) == 2
    assert made.whole is not None


def test_what_cannot_be_planned_is_refused(source, runtime, tmp_path):
    with pytest.raises(InputError, match="holds no trained network"):
        planned(CompressConvolution(network=str(tmp_path)), source, runtime)
    with pytest.raises(InputError, match="unknown network 'convnett'"):
        planned(CompressConvolution(network="convnett"), source, runtime)
    with pytest.raises(InputError, match="images is 121, but digits has 120 training images; ask for fewer"):
        planned(CompressConvolution(network=SMALL, epochs=1, images=121), source, runtime)


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"runs": 29}, "runs is 29; it must be at least 30."),
        ({"images": 0}, "images is 0; it must be at least 1."),
        ({"methods": ("direct", "fft")}, "unknown method of convolution 'fft'. "),
    ],
)
def test_wrong_settings_are_refused(given, sentence):
    with pytest.raises(InputError) as refusal:
        CompressConvolution(**given)
    assert str(refusal.value).startswith(sentence)


def test_settings_survive_json(method):
    assert CompressConvolution.from_json(method.to_json()) == method
