"""Classifiers of transformers as networks to evaluate with."""

import pytest
import torch

from attar.core.errors import InputError
from attar.images.networks.architecture import Architecture, from_factory, mixes_images
from attar.images.networks.pretrained import network_named, transformers_classifier
from attar.images.protocols import Protocol
from attar.verbs import evaluate

transformers = pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory):
    """A tiny ViT for 16×16 images in colour, saved as its library saves it."""
    folder = tmp_path_factory.mktemp("vit")
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**sizes, image_size=16, patch_size=4, num_labels=7)
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def resnet_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resnet")
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    config.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (3, 32, 32)])
def test_a_fresh_model_is_built_for_the_data(vit_folder, resnet_folder, shape):
    for folder in (vit_folder, resnet_folder):
        network = from_factory(transformers_classifier(folder), shape, 5, seed=0)
        assert network(torch.zeros(2, *shape)).shape == (2, 5)
        assert network.training


def test_patches_are_those_of_the_configuration_where_it_names_the_datas_size(vit_folder):
    for side, patch in ((16, 4), (32, 4), (48, 6)):
        network = from_factory(transformers_classifier(vit_folder), (3, side, side), 5, seed=0)
        assert network.model.config.patch_size == patch


def test_the_seed_alone_decides_the_parameters(vit_folder):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, again, other = (
        from_factory(transformers_classifier(vit_folder), (3, 16, 16), 5, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_a_pretrained_model_keeps_its_weights_and_gets_a_new_head(vit_folder):
    saved = transformers.ViTForImageClassification.from_pretrained(vit_folder)
    network = from_factory(transformers_classifier(vit_folder, pretrained=True), (1, 8, 8), 3, seed=0)
    body, kept = (model.vit.state_dict() for model in (saved, network.model))
    assert all(torch.equal(body[name], kept[name]) for name in body)
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


def test_a_model_that_is_stored_in_16_bits_is_read_in_32(vit_folder, tmp_path):
    stored = transformers.ViTForImageClassification.from_pretrained(vit_folder).bfloat16()
    stored.save_pretrained(tmp_path)
    network = from_factory(transformers_classifier(str(tmp_path), pretrained=True), (3, 16, 16), 7, seed=0)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert network(torch.zeros(2, 3, 16, 16)).dtype == torch.float32


def test_gradients_reach_the_pixels(vit_folder):
    images = torch.randn(1, 3, 16, 16, requires_grad=True)
    from_factory(transformers_classifier(vit_folder), (3, 16, 16), 5, seed=0)(images).sum().backward()
    assert images.grad.abs().sum() > 0


def test_batch_norm_in_it_is_noticed(resnet_folder, vit_folder):
    shape = (3, 16, 16)
    assert mixes_images(from_factory(transformers_classifier(resnet_folder), shape, 5, seed=0))
    assert not mixes_images(from_factory(transformers_classifier(vit_folder), shape, 5, seed=0))


def test_it_is_evaluated_with_by_name(resnet_folder, shapes, engine):
    import attar

    small = attar.condense(shapes, attar.Random(ipc=4), engine=engine)
    how = Protocol(name="brief", epochs=3, lr=0.05)
    settings = {"repeats": 1, "protocol": how, "ceiling": "skip", "beside": "skip", "engine": engine}
    row = evaluate(small, shapes, networks=[f"transformers:{resnet_folder}"], **settings).networks[0]
    assert row.column == f"transformers:{resnet_folder}"
    assert 0 <= row.score.value <= 100


def test_a_kind_of_model_is_enough():
    network = from_factory(network_named("transformers:mobilenet_v2"), (3, 32, 32), 4, seed=0)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 4)


def test_other_names_are_the_fields():
    assert network_named("convnet:norm=batch") == Architecture(norm="batch")


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("transformers:x,pretraned=true", "unknown option of transformers:x 'pretraned'; did you mean 'pretrained'?"),
        ("transformers:x,pretrained=yes", "pretrained is 'yes'; it must be true or false."),
    ],
)
def test_a_wrong_option_is_refused(text, sentence):
    with pytest.raises(InputError) as refusal:
        network_named(text)
    assert str(refusal.value).startswith(sentence)


def test_weights_in_a_pickle_are_refused(tmp_path):
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    model = transformers.ResNetForImageClassification(config)
    config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError) as refusal:
        from_factory(transformers_classifier(str(tmp_path), pretrained=True), (3, 16, 16), 5, seed=0)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{str(tmp_path)!r} has no safetensors weights, and attar does not open pickles (")
    assert "\n" not in sentence
    from_factory(transformers_classifier(str(tmp_path)), (3, 16, 16), 5, seed=0)  # fresh ones need no weights


def test_a_model_that_is_not_there_and_one_that_sees_nothing_are_refused(tmp_path):
    with pytest.raises(InputError, match="is not an image classifier in a folder or on the hub"):
        from_factory(transformers_classifier(str(tmp_path)), (3, 16, 16), 5, seed=0)
    with pytest.raises(InputError, match="bert does not classify images"):
        from_factory(transformers_classifier("bert"), (3, 16, 16), 5, seed=0)
