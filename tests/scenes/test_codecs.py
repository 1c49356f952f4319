"""Autoencoders: latents and back, words and folders, diffusers' and others', and what is refused."""

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.scenes.artefact import Autoencoder, LatentField
from attar.scenes.autoencoder import TrainAutoencoder, autoencoder_loss
from attar.scenes.codecs import Identity, KLCodec, OwnCodec, codec_from, codec_in, codec_named, codec_of
from attar.scenes.simulated import simulated
from attar.scenes.work import Work, codec_for, latents_of


@pytest.fixture(scope="module")
def scene():
    return simulated("spheres", 16, 6, 2)


def drawn(text="conv:width=16,latents=3,halvings=2"):
    return codec_named(text, torch.Generator().manual_seed(0)).eval().requires_grad_(False)


@pytest.mark.parametrize(("halvings", "latents"), [(0, 2), (1, 3), (3, 4)])
def test_shapes_follow_the_words(scene, halvings, latents):
    codec = drawn(f"conv:width=16,latents={latents},halvings={halvings}")
    found = codec.encode(scene.train.images)
    assert found.shape == (4, latents, 16 >> halvings, 16 >> halvings) and codec.factor == 2**halvings
    assert codec.decode(found).shape == scene.train.images.shape


def test_scale_multiplies_latents_and_is_taken_back(scene):
    codec = drawn()
    plain, pictures = codec.encode(scene.train.images), codec.decode(codec.encode(scene.train.images))
    codec.scale = 0.25
    torch.testing.assert_close(codec.encode(scene.train.images), plain / 4)
    torch.testing.assert_close(codec.decode(plain / 4), pictures)


def test_with_attention_a_latent_depends_on_the_whole_picture():
    picture = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (far,) = torch.autograd.grad(drawn().encode(picture)[0, 0, 0, 0], picture)
    assert float(far[0, :, -1, -1].abs().max()) > 0


def test_the_identity_changes_nothing(scene):
    codec = Identity()
    assert torch.equal(codec.decode(codec.encode(scene.train.images)), scene.train.images)
    assert not list(codec.parameters())


def test_a_codec_comes_back_from_its_facts(scene):
    codec = drawn()
    codec.scale = 0.7
    other = codec_from(codec.facts, codec.state_dict())
    assert other is not None
    assert torch.equal(other.encode(scene.train.images), codec.encode(scene.train.images))
    assert codec_from({"words": None}, {}) is None


def test_loss_is_error_plus_penalty(scene):
    codec = drawn()
    loss, error = autoencoder_loss(codec, scene.train.images, 0.5)
    means = codec.means(scene.train.images)
    torch.testing.assert_close(error, (codec.pictured(means) - scene.train.images).square().mean())
    torch.testing.assert_close(loss, error + 0.5 * means.square().mean())


def test_a_trained_one_has_latents_of_unit_deviation_and_comes_back(scene, engine, tmp_path):
    method = TrainAutoencoder(network="conv:width=16,latents=3,halvings=1", steps=30)
    made = attar.train(scene, method, out=tmp_path / "made", engine=engine)
    assert isinstance(made, Autoencoder)
    latents = made.encode(scene.train.images)
    assert float(latents.std()) == pytest.approx(1, abs=1e-4) and made.scale == made.codec.scale
    other = attar.open_artefact(tmp_path / "made")
    assert torch.equal(other.encode(scene.train.images), latents)
    assert (tmp_path / "made" / "preview.png").stat().st_size > 500


def test_words_are_trained_once_and_kept(scene, engine, tmp_path, monkeypatch):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    runtime = Runtime(engine)
    first, again = (codec_for("conv:width=8,latents=2", scene, runtime, steps=2) for _ in range(2))
    assert torch.equal(first.encode(scene.test.images), again.encode(scene.test.images))
    assert len(list((tmp_path / "networks").iterdir())) == 1


def test_latents_are_a_source_of_samples_with_classes(scene):
    objects, codec = simulated("objects", 16, 8, 2), drawn()
    source = latents_of(objects, codec)
    assert source.shape == (3, 4, 4) and source.classes == objects.classes
    assert source.train.counts(4) == [24] * 4 and len(source.test) == 2
    torch.testing.assert_close(source.train[torch.arange(24, 48)], codec.encode(objects.others[1].images))
    plain = latents_of(scene, codec)
    assert plain.classes == () and len(plain.train) == 4 and not plain.pictures


class Pooled:
    """Anything with encode and decode."""

    def encode(self, images):
        return torch.nn.functional.avg_pool2d(images, 2)

    def decode(self, latents):
        return torch.nn.functional.interpolate(latents, scale_factor=2)


def test_anything_with_encode_and_decode_will_do(scene, engine, tmp_path):
    from attar.scenes.latent_field import TrainLatentField

    codec = codec_of(Pooled(), scene.train.images)
    assert isinstance(codec, OwnCodec) and (codec.channels, codec.factor, codec.words) == (3, 2, None)
    method = TrainLatentField(voxels=6, steps=3, batch=2, ray_samples=6)
    made = attar.train(scene, method, autoencoder=Pooled(), out=tmp_path / "made", engine=engine)
    assert isinstance(made, LatentField) and made.render(scene.test.poses).shape == scene.test.images.shape
    alone = attar.open_artefact(tmp_path / "made")
    with pytest.raises(InputError, match="Give it by with_autoencoder"):
        alone.render(scene.test.poses)
    torch.testing.assert_close(
        alone.with_autoencoder(Pooled()).render(scene.test.poses), made.render(scene.test.poses), rtol=0, atol=1e-6
    )


def test_diffusers_autoencoder_is_read_from_its_folder(scene, tmp_path):
    pytest.importorskip("diffusers")
    codec = drawn("kl:width=16,latents=3,halvings=1")
    assert isinstance(codec, KLCodec)
    codec.model.register_to_config(scaling_factor=0.5)
    codec.model.save_pretrained(tmp_path / "vae")
    for folder in (tmp_path, tmp_path / "vae"):
        read = codec_in(folder)
        assert (read.channels, read.factor, read.scale) == (3, 2, 0.5)
        wanted = 0.5 * codec.model.encode(scene.train.images).latent_dist.mean
        torch.testing.assert_close(read.encode(scene.train.images), wanted)
        torch.testing.assert_close(read.decode(wanted), codec.model.decode(wanted / 0.5).sample)
    other = codec_from(read.facts, read.state_dict())
    assert other is not None and torch.equal(other.encode(scene.test.images), read.encode(scene.test.images))
    assert torch.equal(
        codec_of(codec.model, scene.train.images).encode(scene.test.images), read.encode(scene.test.images)
    )
    (tmp_path / "vae" / "modeling.py").write_text("raise SystemExit", encoding="utf-8")
    with pytest.raises(InputError, match="holds code, which is not run"):
        codec_in(tmp_path)


def test_what_is_no_autoencoder_is_refused(scene, tmp_path, engine):
    runtime = Runtime(engine)
    for given, sentence in (
        ("convx:width=8", "unknown autoencoder .convx"),
        ("conv:widht=8", "unknown option of conv .widht"),
        (str(tmp_path / "nothing"), "no folder of an autoencoder"),
        (str(tmp_path), "holds no autoencoder"),
        (3, "it needs encode and decode"),
    ):
        with pytest.raises(InputError, match=sentence):
            codec_for(given, scene, runtime, steps=1)
    with pytest.raises(InputError, match="sides that are multiples of 4"):
        drawn().encode(torch.zeros(1, 3, 10, 8))
    with pytest.raises(InputError, match=r"must give latents \[image, channel, h, w\]"):
        codec_of(type("Odd", (), {"encode": lambda self, x: x.flatten(1), "decode": None})(), scene.train.images)


def test_latents_that_are_not_finite_are_refused(scene):
    class Broken(Pooled):
        def encode(self, images):
            return super().encode(images) * float("nan")

    with pytest.raises(InputError, match="latents that are infinite or not numbers"):
        _ = Work(scene, codec_of(Broken(), scene.train.images)).latents
