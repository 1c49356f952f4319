"""The networks by their words: shapes, labels, features, determinism, and words that are wrong."""

import importlib.util
import re
import sys

import pytest
import torch

from attar.core.errors import InputError
from attar.core.extras import install
from attar.samplers.denoisers import Denoiser
from attar.samplers.networks import MLPWords, ResidualMLP, network_named, one_hot, usual
from attar.samplers.unet import UNetWords, configured, groups_of, halvings

needs_diffusers = pytest.mark.skipif(not importlib.util.find_spec("diffusers"), reason="diffusers is not installed")
WORDS = ["mlp:width=16,depth=2", pytest.param("unet:width=8,layers=1,depth=2", marks=needs_diffusers)]


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def built(text, shape=(2, 8, 8), classes=3, seed=0):
    return network_named(text, shape, classes, draw(seed))


def given(shape=(2, 8, 8), n=5):
    return torch.randn(n, *shape, generator=draw(1)), torch.linspace(-1, 1, n)


@pytest.mark.parametrize("words", WORDS)
def test_a_network_keeps_the_shape_and_its_parameters_follow_the_generator(words):
    x, noise = given()
    labels = torch.tensor([0, 1, 2, -1, 0])
    network = built(words).eval()
    found = network(x, noise, labels)
    assert found.shape == x.shape and found.isfinite().all()
    assert torch.equal(found, built(words).eval()(x, noise, labels))
    assert not torch.equal(found, built(words, seed=1).eval()(x, noise, labels))


@pytest.mark.parametrize("words", WORDS)
def test_no_labels_are_labels_of_none(words):
    x, noise = given()
    network = built(words).eval()
    none, hidden = network(x, noise, None), network(x, noise, torch.full((5,), -1))
    torch.testing.assert_close(none, hidden)
    assert not torch.allclose(none, network(x, noise, torch.zeros(5, dtype=torch.long)))


@pytest.mark.parametrize("words", WORDS)
def test_every_sample_is_on_its_own(words):
    x, noise = given()
    labels = torch.tensor([0, 1, 2, -1, 0])
    network = built(words).eval()
    alone = [network(x[i : i + 1], noise[i : i + 1], labels[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(network(x, noise, labels), torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("words", WORDS)
def test_features_come_before_the_end_and_learn_nothing_from_it(words):
    x, noise = given()
    network = built(words).eval()
    features = network.encoded(x, noise, torch.zeros(5, dtype=torch.long))
    assert len(features) == 5 and features.ndim in (2, 4)
    network.zero_grad()
    features.square().sum().backward()
    silent = {name for name, one in network.named_parameters() if one.grad is None}
    assert silent and all(
        name.startswith(("leave", "model.up", "model.conv_out", "model.conv_norm_out")) for name in silent
    )


@pytest.mark.parametrize("words", WORDS)
def test_a_network_without_classes_takes_no_labels(words):
    x, noise = given()
    network = built(words, classes=0).eval()
    assert torch.equal(network(x, noise, None), network(x, noise, torch.zeros(5, dtype=torch.long)))


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("labels", [None, torch.tensor([0, -1, 2])])
def test_a_denoiser_gives_what_its_network_does_in_double_precision(words, labels):
    denoiser = Denoiser(built(words), 0.5, 0.02).eval()
    x = torch.randn(3, 2, 8, 8, generator=draw(2), dtype=torch.float64)
    found = denoiser(x, torch.tensor(0.02, dtype=torch.float64), labels)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, x, rtol=0, atol=0)
    assert denoiser.encoded(x, torch.tensor(1.0), labels).dtype == torch.float32


def test_the_perceptron_is_its_formula_for_one_block():
    network = ResidualMLP((4,), 0, MLPWords(width=8, depth=1)).double().eval()
    x, noise = torch.randn(3, 4, generator=draw(), dtype=torch.float64), torch.tensor([-1.0, 0.0, 1.0]).double()
    angles = noise[:, None] * torch.pi * torch.arange(1, 17).double() / 8
    told = network.level(torch.cat([angles.cos(), angles.sin()], 1))
    hidden, block, silu = network.enter(x) + told, network.blocks[0], torch.nn.functional.silu
    hidden = hidden + block.outer(silu(block.inner(silu(hidden + told))))
    torch.testing.assert_close(network(x, noise, None), network.leave(silu(hidden)), rtol=1e-6, atol=1e-6)


def test_labels_are_rows_of_one_entry_and_none_is_a_row_of_zeros():
    assert one_hot(torch.tensor([1, -1, 0]), 3).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("shape", "words"),
    [((2,), "mlp:width=128,depth=2"), ((1, 8, 8), "mlp:width=384,depth=3"), ((3, 32, 32), "unet:width=32")],
)
def test_the_usual_network_follows_the_shape(shape, words):
    assert usual(shape) == words


# ----------------------------------------------------------------------------------------------------------- the U-Net


def test_depth_follows_the_sides():
    assert [halvings(side) for side in (1, 2, 8, 12, 28, 33)] == [0, 1, 3, 2, 2, 0]
    for side, depth in ((32, 3), (28, 3), (30, 2), (33, 1), (1, 1)):
        assert len(configured(UNetWords(), (3, side, side), 0)["block_out_channels"]) == depth
    assert configured(UNetWords(), (3, 32, 48), 0)["sample_size"] == (32, 48)


def test_words_become_the_configuration():
    how = UNetWords(width=8, depth=3, growth=3, layers=1, attention=16, dropout=0.1)
    found = configured(how, (1, 32, 32), 10)
    assert found["block_out_channels"] == (8, 24, 24)
    assert found["down_block_types"] == ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")
    assert found["up_block_types"] == ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    assert (found["num_class_embeds"], found["dropout"], found["layers_per_block"]) == (11, 0.1, 1)
    assert configured(how, (1, 32, 32), 0)["num_class_embeds"] is None


def test_groups_have_four_channels_or_more():
    assert [groups_of(width) for width in (4, 8, 12, 32, 128, 256, 132)] == [1, 2, 3, 8, 32, 32, 22]


@needs_diffusers
@pytest.mark.parametrize("side", [1, 2, 5, 17, 28])
def test_every_side_can_be_trained_on(side):
    x, noise = given((1, side, side), 2)
    assert built("unet:width=4,layers=1", (1, side, side), 0)(x, noise, None).shape == x.shape


@needs_diffusers
def test_the_embedding_of_no_label_is_the_last_and_zero_at_first():
    network = built("unet:width=4,layers=1,depth=1", classes=3)
    assert len(network.model.class_embedding.weight) == 4
    assert (network.model.class_embedding.weight[3] == 0).all()


@needs_diffusers
def test_the_network_is_told_the_time_of_consistency_models():
    network, seen = built("unet:width=4,layers=1,depth=1"), []
    network.model.register_forward_pre_hook(lambda module, told: seen.append(told[1]))
    x, _ = given()
    sigma = torch.tensor([0.002, 0.5, 1.0, 7.0, 80.0])
    Denoiser(network, 0.5)(x, sigma)
    torch.testing.assert_close(seen[0], 250 * sigma.log(), rtol=1e-5, atol=1e-4)


# ----------------------------------------------------------------------------------------------------------- bad words


@pytest.mark.parametrize(
    ("words", "shape", "told"),
    [
        ("resnet:width=4", (2,), "unknown network 'resnet'"),
        ("mlp:widths=4", (2,), "widths"),
        ("mlp:width=four", (2,), "width of mlp is 'four'; it must be a whole number."),
        ("mlp:width=0", (2,), "width is 0"),
        ("mlp:dropout=1", (2,), "dropout is 1"),
        ("unet:width=8", (2,), "unet takes images, but samples are of shape [2]. Give mlp."),
        ("unet:width=6", (1, 8, 8), "width of unet is 6; it must be a multiple of 4."),
        ("unet:depth=3", (1, 30, 30), "depth of unet is 3, but images of 30×30 pixels can be halved 1 times."),
        ("unet:blocks=3", (1, 8, 8), "blocks"),
    ],
)
def test_wrong_words_are_told(words, shape, told):
    with pytest.raises(InputError) as raised:
        built(words, shape)
    assert told in str(raised.value)


def test_without_diffusers_a_unet_is_refused_on_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=re.escape(f"unet needs diffusers: {install('samplers')}.")):
        built("unet:width=8")
