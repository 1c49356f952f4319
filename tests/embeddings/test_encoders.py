"""Encoders by words, from folders, and of the caller's own; each is built again from its facts alone."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.embeddings.artefact import TrainedEncoder
from attar.embeddings.encoders import WithModule, built, encoder_built, encoder_named, features_of
from attar.embeddings.networks import Conv4, ResNet12
from attar.embeddings.selfsup.simclr import SimCLR
from attar.embeddings.sources import Features, Part, Source, Standard
from attar.images.data.pixels import InMemory
from attar.images.data.whiten import Transform, fit_zca
from attar.images.networks.architecture import Architecture, parameter_count, parse
from attar.images.protocols import PROTOCOLS
from attar.images.training import TrainedNetwork, TrainNetwork


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(shape=(3, 16, 16), mean=0.5, std=0.25, count=12):
    part = Part(InMemory(torch.rand(count, *shape, generator=rng())))
    return Source("pictures", (), part, part, Transform((mean,) * shape[0], (std,) * shape[0]))


def table(features=6):
    rows = torch.randn(20, features, generator=rng())
    part = Part(Features(rows))
    return Source("numbers", (), part, part, Standard.of(rows))


def again(encoder, source, folder=Path("gone")):
    """The encoder from what its artefact holds: words, facts and weights."""
    seen = json.loads(json.dumps(encoder.facts))
    found = encoder_built(encoder.name, source.shape, seen, source.transform, None, folder)
    found.load_state_dict(encoder.state_dict())
    return found.eval()


def agree(encoder, other, source):
    samples = source.inputs(torch.arange(4))
    with torch.no_grad():
        torch.testing.assert_close(encoder.eval()(samples), other(samples))


WORDS = [
    "auto",
    "convnet:norm=batch,width=8",
    "convnet:width=8,pool=flat",
    "conv4:width=8",
    "conv4:width=8,pool=flat",
    "resnet12:width=4",
    "resnet8x4",
    "mobilenetv2",
    "vit:width=12,depth=1",
    "mlp:width=8",
    "lenet",
]


@pytest.mark.parametrize("words", WORDS)
def test_networks_of_attar_have_features_and_come_back(words):
    source = pictures()
    encoder = encoder_named(words, source, rng())
    assert encoder(source.inputs(torch.arange(3))).shape == (3, encoder.width)
    agree(encoder, again(encoder, source), source)
    same, other = encoder_named(words, source, rng()), encoder_named(words, source, rng(1))
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), same.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(encoder.parameters(), other.parameters(), strict=True))


def test_features_are_means_over_places_or_all_of_them():
    source = pictures()
    samples = source.inputs(torch.arange(5))
    mean, flat = (built(f"convnet:norm=batch,width=8{pool}", source.shape, rng()).eval() for pool in ("", ",pool=flat"))
    assert (mean.width, flat.width) == (8, 128)
    torch.testing.assert_close(mean(samples), flat(samples).view(5, 8, 4, 4).mean(dim=(2, 3)))
    network = parse("resnet8x4").build(source.shape, 7, rng()).eval()
    torch.testing.assert_close(built("resnet8x4", source.shape, rng()).eval()(samples), network.embed(samples))


@pytest.mark.parametrize(
    ("words", "width"), [("mlp", 128), ("mlp:width=16,depth=1,features=5,norm=batch,dropout=0.5", 5)]
)
def test_an_mlp_reads_rows(words, width):
    source = table()
    encoder = encoder_named(words, source, rng())
    assert encoder.width == width
    agree(encoder, again(encoder, source), source)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_the_options_of_an_mlp_are_layers(norm):
    encoder = built(f"mlp:width=4,depth=2,norm={norm},dropout=0.2", (3,), rng())
    norms = {"none": 0, "batch": 2, "layer": 2}[norm]
    assert sum(isinstance(layer, (nn.BatchNorm1d, nn.LayerNorm)) for layer in encoder.layers) == norms
    assert sum(isinstance(layer, nn.Dropout) for layer in encoder.layers) == 2


# ------------------------------------------------------------------------------------------------- Conv-4 and ResNet-12


def test_conv4_has_the_parameters_of_the_papers():
    convolutions = 3 * 64 * 9 + 64 + 3 * (64 * 64 * 9 + 64)
    assert parameter_count(built("conv4", (3, 84, 84), rng())) == convolutions + 4 * 128
    assert built("conv4", (3, 84, 84), rng()).width == 64
    assert built("conv4:pool=flat", (3, 84, 84), rng()).width == 1600
    assert built("conv4:pool=flat", (1, 28, 28), rng()).width == 64


def test_resnet12_has_the_parameters_of_its_blocks():
    wanted, before = 0, 3
    for filters in (64, 128, 256, 512):
        wanted += before * filters * 9 + 2 * filters * filters * 9 + before * filters + 4 * 2 * filters
        before = filters
    assert parameter_count(built("resnet12", (3, 32, 32), rng())) == wanted
    assert built("resnet12", (3, 84, 84), rng()).width == 512


@pytest.mark.parametrize("name", ["conv4", "resnet12"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 1, 5), (1, 28, 28), (3, 20, 33)])
def test_maps_never_become_empty(name, shape):
    encoder = built(f"{name}:width=4", shape, rng())
    assert encoder(torch.rand(2, *shape)).shape == (2, encoder.width)


def test_a_block_of_resnet12_pools_after_the_sum():
    block = ResNet12((3, 8, 8), 4).eval().blocks[0]
    x = torch.rand(2, 3, 8, 8, generator=rng())
    total = block.layers(x) + block.shortcut(x)
    wanted = torch.nn.functional.max_pool2d(torch.where(total > 0, total, 0.1 * total), 2)
    torch.testing.assert_close(block(x), wanted)


def test_conv4_is_four_plain_blocks():
    network = Conv4((1, 28, 28), 8).eval()
    x = images = torch.rand(2, 1, 28, 28, generator=rng())
    for block in network.blocks:
        x = torch.nn.functional.max_pool2d(block[1](block[0](x)).relu(), 2)
    torch.testing.assert_close(network.embed(images), x.flatten(1))


# --------------------------------------------------------------------------------------------------------- transformers

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
SIZES = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    transformers.ViTForImageClassification(
        transformers.ViTConfig(**SIZES, image_size=24, patch_size=8)
    ).save_pretrained(folder)
    processor = transformers.ViTImageProcessor(
        size={"height": 24, "width": 24}, image_mean=[0.1] * 3, image_std=[0.3] * 3
    )
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def resnet_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resnet")
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pool", ["", ",pool=cls", ",pool=pooled"])
@pytest.mark.parametrize("pretrained", ["", ",pretrained=true"])
def test_a_vision_transformer_comes_back_without_its_folder(vit_folder, tmp_path, pretrained, pool):
    folder = shutil.copytree(vit_folder, tmp_path / "vit")
    source = pictures()
    encoder = encoder_named(f"transformers:{folder}{pretrained}{pool}", source, rng())
    assert encoder.width == 12
    shutil.rmtree(folder)
    agree(encoder, again(encoder, source), source)
    assert str(folder) not in json.dumps(encoder.facts)


def test_pretrained_features_are_those_of_its_own_processor(vit_folder):
    levels = torch.randint(256, (4, 3, 16, 16), dtype=torch.uint8, generator=rng())
    part = Part(InMemory(levels))
    source = Source("levels", (), part, part, Transform((0.4,) * 3, (0.2,) * 3))
    encoder = encoder_named(f"transformers:{vit_folder},pretrained=true,pool=cls", source, rng()).eval()
    model = transformers.ViTModel.from_pretrained(vit_folder, add_pooling_layer=False).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(vit_folder)
    given = processor(list(levels.numpy()), return_tensors="pt", input_data_format="channels_first")
    with torch.no_grad():
        wanted = model(**given).last_hidden_state[:, 0]
        torch.testing.assert_close(encoder(source.inputs(torch.arange(4))), wanted, atol=2e-3, rtol=0)
    assert encoder_named(f"transformers:{vit_folder}", source, rng()).model.config.image_size == 16


def test_gradients_pass_the_processor(vit_folder):
    source = pictures()
    samples = source.inputs(torch.arange(2)).requires_grad_()
    encoder_named(f"transformers:{vit_folder},pretrained=true", source, rng())(samples).sum().backward()
    assert samples.grad.isfinite().all() and samples.grad.any()


def test_features_of_maps_are_means_over_places(resnet_folder):
    source = pictures()
    told = []
    encoder = encoder_named(f"transformers:{resnet_folder},pretrained=true", source, rng(), say=told.append).eval()
    samples = source.inputs(torch.arange(3))
    model = transformers.ResNetModel.from_pretrained(resnet_folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(samples), model(samples).last_hidden_state.mean(dim=(2, 3)))
    assert len(told) == 1 and "has no image processor" in told[0]
    agree(encoder, again(encoder, source), source)


def test_a_kind_of_model_needs_no_folder():
    encoder = encoder_named("transformers:resnet", pictures((1, 8, 8)), rng())
    assert encoder.width == 2048


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("transformers:{vit},pool=max", "unknown pool 'max'; did you mean 'mean'? Known: cls, mean, pooled."),
        ("transformers:{vit},pretrained=yes", "pretrained is 'yes'; it must be true or false."),
        (
            "transformers:{vit},norm=batch",
            "unknown option of transformers:{vit} 'norm'. Known: pool, pretrained.",
        ),
        ("transformers:{resnet},pool=cls", "{resnet} has maps, and no first token. Give pool=mean."),
    ],
)
def test_what_a_model_of_transformers_does_not_know_is_told(vit_folder, resnet_folder, words, message):
    places = {"vit": vit_folder, "resnet": resnet_folder}
    with pytest.raises(InputError) as refusal:
        encoder_named(words.format(**places), pictures(), rng())
    assert str(refusal.value) == message.format(**places)


def test_code_and_pickles_are_refused(vit_folder, tmp_path):
    folder = shutil.copytree(vit_folder, tmp_path / "pickled")
    state = transformers.ViTModel.from_pretrained(vit_folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="attar does not open pickles"):
        encoder_named(f"transformers:{folder},pretrained=true", pictures(), rng())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(
        json.dumps({**config, "auto_map": {"AutoModel": "model.Mine"}}), encoding="utf-8"
    )
    with pytest.raises(InputError, match="attar runs no code that comes with a model"):
        encoder_named(f"transformers:{folder}", pictures(), rng())
    encoder = encoder_named(f"transformers:{vit_folder}", pictures(), rng())
    facts = {**encoder.facts, "config": {**encoder.facts["config"], "auto_map": {}}}
    with pytest.raises(InputError, match="attar runs no code"):
        encoder_built(encoder.name, (3, 16, 16), facts, pictures().transform, None, folder)
    facts["config"] = {"model_type": "of tomorrow"}
    with pytest.raises(InputError, match=r"has no model 'of tomorrow'\. Update it"):
        encoder_built(encoder.name, (3, 16, 16), facts, pictures().transform, None, folder)


def test_a_text_model_takes_no_images(tmp_path):
    transformers.BertModel(transformers.BertConfig(**SIZES, vocab_size=9)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="does not take images of 16×16"):
        encoder_named(f"transformers:{tmp_path},pretrained=true", pictures(), rng())


# --------------------------------------------------------------------------------------------------------------- starts


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An encoder that was trained a little and saved."""
    source = pictures(mean=0.3, std=0.5)
    settings = SimCLR(encoder="conv4:width=8", epochs=1, batch=6)
    runtime = Runtime(Engine(), 0)
    method = settings.resolve(source, runtime)
    state = method.build(source, runtime)
    for _ in range(2):
        method.step(state, runtime)
    return method.result(state, runtime).save(tmp_path_factory.mktemp("encoder"))


@pytest.mark.parametrize("form", ["{}", "attar:{}"])
def test_a_saved_encoder_is_a_start_whatever_the_normalisation(trained, form):
    pixels = torch.rand(4, 3, 16, 16, generator=rng(5))
    source = pictures()
    encoder = encoder_named(form.format(trained.folder), source, rng()).eval()
    with torch.no_grad():
        wanted = trained.encoder(trained.normalise.forward(pixels))
        torch.testing.assert_close(encoder(source.transform.forward(pixels)), wanted, atol=1e-5, rtol=1e-5)
    agree(encoder, again(encoder, source), source)
    same = encoder_named(str(trained.folder), pictures(mean=0.3, std=0.5), rng())
    assert not same.facts
    with torch.no_grad():
        next(encoder.parameters()).add_(1)
    assert not torch.equal(next(encoder.parameters()), next(trained.encoder.parameters())), "the start is a copy"


def test_a_start_is_saved_and_opened_again(trained, tmp_path):
    source, runtime = pictures(), Runtime(Engine(), 0)
    method = SimCLR(encoder=str(trained.folder), epochs=1, batch=6).resolve(source, runtime)
    state = method.build(source, runtime)
    method.step(state, runtime)
    saved = method.result(state, runtime).save(tmp_path / "second")
    opened = TrainedEncoder.load(saved.folder)
    images = torch.randint(256, (3, 3, 16, 16), dtype=torch.uint8, generator=rng()).numpy()
    torch.testing.assert_close(torch.from_numpy(opened.transform(images)), torch.from_numpy(saved.transform(images)))


def test_an_encoder_of_transformers_is_saved_and_opened_without_its_folder(vit_folder, tmp_path):
    folder = shutil.copytree(vit_folder, tmp_path / "vit")
    source, runtime = pictures(), Runtime(Engine(), 0)
    method = SimCLR(encoder=f"transformers:{folder},pretrained=true", epochs=1, batch=6).resolve(source, runtime)
    state = method.build(source, runtime)
    method.step(state, runtime)
    saved = method.result(state, runtime).save(tmp_path / "trained")
    shutil.rmtree(folder)
    images = torch.randint(256, (3, 3, 16, 16), dtype=torch.uint8, generator=rng()).numpy()
    opened = TrainedEncoder.load(saved.folder)
    torch.testing.assert_close(torch.from_numpy(opened.transform(images)), torch.from_numpy(saved.transform(images)))
    other = pictures(mean=0.1)
    begun = encoder_named(str(saved.folder), other, rng()).eval()
    pixels = torch.rand(3, 3, 16, 16, generator=rng(1))
    with torch.no_grad():
        wanted = opened.encoder(opened.normalise.forward(pixels))
        torch.testing.assert_close(begun(other.transform.forward(pixels)), wanted, atol=1e-2, rtol=0)  # whole levels
    agree(begun, again(begun, other), other)


def test_a_trained_network_is_a_start(tmp_path):
    architecture = Architecture(norm="batch", width=8).resolve((3, 16, 16))
    network = architecture.build((3, 16, 16), 4, rng(3)).eval()
    method = TrainNetwork(architecture=architecture, protocol=PROTOCOLS["ceiling"])
    TrainedNetwork(network, method, (3, 16, 16), ("a", "b", "c", "d")).save(tmp_path)
    source = pictures()
    encoder = encoder_named(str(tmp_path), source, rng()).eval()
    assert encoder.name == "convnet:norm=batch,width=8,depth=2"
    samples = source.inputs(torch.arange(3))
    with torch.no_grad():
        torch.testing.assert_close(encoder(samples), network.features(samples)[0][-1].mean(dim=(2, 3)))
    agree(encoder, again(encoder, source), source)


def test_starts_that_do_not_fit_are_told(trained, tmp_path):
    with pytest.raises(InputError) as refusal:
        encoder_named(str(trained.folder), pictures((3, 8, 8)), rng())
    assert str(refusal.value) == f"the network in {trained.folder} takes 3×16×16, but a sample of pictures is 3×8×8."
    with pytest.raises(InputError, match="holds nothing that attar has saved with a network"):
        encoder_named(f"attar:{tmp_path}", pictures(), rng())
    whitened = pictures()
    whitening = fit_zca(whitened.inputs(torch.arange(12)))
    object.__setattr__(whitened, "transform", Transform((0.5,) * 3, (0.25,) * 3, whitening))
    with pytest.raises(InputError, match="trained on images that were whitened in another way"):
        encoder_named(str(trained.folder), whitened, rng())


# ------------------------------------------------------------------------------------------------------- others, errors


def test_a_module_of_ones_own_is_an_encoder():
    module = nn.Sequential(nn.Flatten(), nn.Linear(768, 5))
    source = WithModule.of(pictures(), module)
    encoder = encoder_named("auto", source, rng())
    assert (encoder.width, encoder.name) == (5, None)
    features = features_of(encoder, source, torch.arange(12), Runtime(Engine(), 0))
    assert features.shape == (12, 5) and encoder.training
    with pytest.raises(InputError, match="Give build=, a function that makes the module"):
        encoder_built(None, source.shape, {}, source.transform, None, Path("there"))


@pytest.mark.parametrize(
    ("words", "source", "message"),
    [
        ("convent", pictures(), "unknown encoder 'convent'; did you mean 'convnet'?"),
        ("conv4:pool=max", pictures(), "unknown pool 'max'; did you mean 'mean'? Known: flat, mean."),
        ("conv4:depth=2", pictures(), "unknown setting of Backbone 'depth'"),
        ("conv4:width=wide", pictures(), "width is 'wide'; it must be a whole number."),
        ("convnet:colour=2", pictures(), "unknown option of convnet 'colour'"),
        ("conv4", table(), "encoder is 'conv4', but the samples are rows of numbers. Give mlp:width=256."),
        ("mlp:norm=group", table(), "unknown norm 'group'. Known: batch, layer, none."),
    ],
)
def test_words_that_name_no_encoder_are_told(words, source, message):
    with pytest.raises(InputError) as refusal:
        encoder_named(words, source, rng())
    assert str(refusal.value).startswith(message)


def test_a_network_of_attar_goes_before_a_folder_of_its_name(tmp_path, monkeypatch, trained):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained.folder, tmp_path / "conv4")
    assert encoder_named("conv4", pictures(), rng()).width == 64
    assert encoder_named("attar:conv4", pictures(), rng()).width == 8
