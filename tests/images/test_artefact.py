import dataclasses
import io
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import attar
from attar.core import store
from attar.core.card import EXPORT
from attar.core.errors import InputError
from attar.images.artefact import FILES, CondensedImages, Origin
from attar.images.preview import preview

TEACHER_FILES = {name for name in FILES if name.startswith("teacher/")}


@pytest.fixture
def small(shapes, runtime, generator):
    """Two learned images for each of three shapes."""
    method = attar.DM(ipc=2).resolve(shapes, runtime)
    return CondensedImages(
        images=torch.randn(6, 3, 16, 16, generator=generator),
        labels=torch.arange(3).repeat_interleave(2),
        classes=("disc", "square", "stripes"),
        transform=shapes.transform,
        flips=True,
        origin=Origin.of(shapes, method, runtime),
    )


@pytest.fixture
def everything(small, few_digits, runtime, generator):
    """Whitened, with soft labels and a step size of its own."""
    source = few_digits.whitened()
    return CondensedImages(
        images=torch.randn(20, 1, 8, 8, generator=generator),
        labels=torch.softmax(torch.randn(20, 10, generator=generator), dim=1),
        classes=source.classes,
        transform=source.transform,
        flips=False,
        origin=small.origin,
        lr=0.0371,
    )


@pytest.fixture
def real(few_digits, engine):
    """Images as they were, in bytes."""
    return attar.condense(few_digits, attar.Random(ipc=2), engine=engine)


def assert_same(first, second):
    assert torch.equal(first.images, second.images)
    assert first.images.dtype == second.images.dtype
    assert torch.equal(first.labels, second.labels)
    for name in ("classes", "flips", "origin", "lr"):
        assert getattr(first, name) == getattr(second, name), name
    assert (first.transform.mean, first.transform.std) == (second.transform.mean, second.transform.std)
    whitenings = [small.transform.whitening for small in (first, second)]
    assert (whitenings[0] is None) == (whitenings[1] is None)
    if whitenings[0] is not None:
        for field in dataclasses.fields(whitenings[0]):
            assert torch.equal(*(getattr(whitening, field.name) for whitening in whitenings))


@pytest.mark.parametrize("kind", ["small", "everything", "real"])
def test_it_is_the_same_after_a_trip_to_disk(kind, request, tmp_path):
    before = request.getfixturevalue(kind)
    saved = before.save(tmp_path / "set")
    after = CondensedImages.load(tmp_path / "set")
    assert_same(after, before)
    assert saved.folder == after.folder == tmp_path / "set"
    assert after.fingerprint == before.fingerprint
    assert torch.equal(after.network_input, before.network_input)


@pytest.mark.parametrize("kind", ["small", "everything"])
def test_saving_twice_writes_the_same_bytes(kind, request, tmp_path):
    small = request.getfixturevalue(kind)
    for name in ("one", "two"):
        small.save(tmp_path / name)
    absent = TEACHER_FILES if kind == "everything" else {*TEACHER_FILES, "whitening.safetensors"}
    for name in set(FILES) - absent:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_only_what_is_named_is_written(small, tmp_path):
    small.save(tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == set(FILES) - {"whitening.safetensors", *TEACHER_FILES}


def test_its_bytes_are_those_of_the_file_that_training_needs(small, real, tmp_path):
    for number, images in enumerate((small, real)):
        saved = images.save(tmp_path / str(number))
        assert saved.bytes == (tmp_path / str(number) / "images.safetensors").stat().st_size
        assert abs(saved.bytes - dataclasses.replace(images, folder=None).bytes) < 300
    assert small.bytes >= 6 * 3 * 16 * 16 * 4 + 6 * 8
    assert real.origin.full_bytes == 120 * (64 + 8)


def test_network_input_is_what_was_learned_or_the_normalised_bytes(small, real):
    assert small.network_input is small.images
    torch.testing.assert_close(real.network_input, real.transform.forward(real.images))
    rows = torch.tensor([3, 0])
    assert torch.equal(real.inputs(rows), real.network_input[rows])


def test_its_pixels_are_clipped_bytes(small, everything, real):
    for images in (small, everything):
        wanted = (images.transform.inverse(images.images) * 255).round().clamp(0, 255).permute(0, 2, 3, 1)
        np.testing.assert_array_equal(images.pixels, wanted.numpy().astype(np.uint8))
    np.testing.assert_array_equal(real.pixels[..., 0], real.images[:, 0].numpy())


# For others to look at.


def test_datasets_opens_the_folder_with_its_class_names(everything, tmp_path):
    from datasets import load_dataset

    everything.save(tmp_path / "set")
    data = load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))["train"]
    assert data.features["label"].names == list(everything.classes)
    assert data["label"] == everything.labels.argmax(dim=1).tolist()
    np.testing.assert_allclose(data["soft_label"], everything.labels.numpy())
    for row, image in zip(data, everything.pixels, strict=True):
        np.testing.assert_array_equal(np.array(row["image"]), image[..., 0])


def test_the_export_is_itself_a_source(small, tmp_path):
    small.save(tmp_path)
    source = attar.load(tmp_path / EXPORT, split_seed=1)
    assert source.classes == small.classes
    assert source.shape == small.shape


@pytest.mark.parametrize(
    "classes, ipc, side, size",
    [
        (3, 2, 16, (2 * 16 + 2 * 62 - 6, 2 * 16 + 3 * 62 - 6)),
        (25, 12, 8, (2 * 16 + 10 * 62 - 6, 2 * 16 + 20 * 62 - 6)),
        (2, 1, 100, (2 * 16 + 100, 2 * 16 + 2 * 106 - 6)),
        (2, 1, 300, (2 * 16 + 128, 2 * 16 + 2 * 134 - 6)),
    ],
)
def test_the_preview_has_a_row_for_a_class_and_a_column_for_an_image(classes, ipc, side, size):
    pixels = np.full((classes * ipc, side, side, 3), 128, dtype=np.uint8)
    data = preview(pixels, np.repeat(np.arange(classes), ipc), ("a class",) * classes)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "PNG"
        width, height = picture.size
        assert height == size[1]
        assert 0 < width - size[0] < 100  # the names
        cells = np.array(picture.convert("L")) == 128
    cell = {16: 56, 8: 56, 100: 100, 300: 128}[side]
    assert cells.sum() >= min(classes, 20) * min(ipc, 10) * cell**2


def test_the_preview_beside_the_set_is_that_picture(small, tmp_path):
    small.save(tmp_path)
    assert (
        (tmp_path / "preview.png").read_bytes()
        == small.picture()
        == preview(small.pixels, small.labels.numpy(), small.classes)
    )


def test_the_card_says_where_it_came_from(everything, tmp_path):
    everything.save(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    origin = everything.origin
    for fact in (origin.source, origin.method, origin.fingerprint, "| ipc | 2 |", "| seed | 0 |", "ZCA", EXPORT):
        assert fact in text


def test_the_origin_is_that_of_the_run(real, few_digits):
    origin = real.origin
    assert (origin.source, origin.method, origin.seed) == ("digits", "random", 0)
    assert origin.fingerprint == few_digits.fingerprint
    assert origin.settings == {"ipc": 2}
    assert origin.full_images == 120
    assert origin.machine["torch"] == torch.__version__


# Refusals.


def refusal_of(folder):
    with pytest.raises(InputError) as refusal:
        CondensedImages.load(folder)
    return str(refusal.value)


def test_a_folder_without_a_set_is_refused(tmp_path):
    assert refusal_of(tmp_path) == f"{tmp_path} holds no condensed set (no artefact.json)."


def test_an_unfinished_run_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_text("{}", encoding="utf-8")
    assert refusal_of(tmp_path) == (
        f"{tmp_path} holds no condensed set (no artefact.json); its run is unfinished. "
        "Run the same command again to resume it."
    )


def test_altered_images_are_refused(small, tmp_path):
    small.save(tmp_path)
    file = tmp_path / "images.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    assert refusal_of(tmp_path) == f"{file} was altered after it was written: its contents do not match its digest."


@pytest.mark.parametrize("left", [0, 5, 100, -1])
def test_truncated_images_are_refused(left, small, tmp_path):
    small.save(tmp_path)
    file = tmp_path / "images.safetensors"
    file.write_bytes(file.read_bytes()[:left])
    assert refusal_of(tmp_path).startswith(f"{file} is damaged or truncated: ")


def test_missing_images_are_refused(small, tmp_path):
    small.save(tmp_path)
    (tmp_path / "images.safetensors").unlink()
    assert refusal_of(tmp_path) == f"{tmp_path / 'images.safetensors'} is missing."


class Dangerous:
    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


@pytest.mark.parametrize("writer", ["pickle", "torch", "old torch"])
def test_a_pickle_is_refused_without_being_read(writer, small, tmp_path):
    small.save(tmp_path)
    file = tmp_path / "images.safetensors"
    if writer == "pickle":
        file.write_bytes(pickle.dumps(Dangerous()))
    else:
        torch.save({"images": Dangerous()}, file, _use_new_zipfile_serialization=writer == "torch")
    assert refusal_of(tmp_path) == (f"{file} is a pickle, which can run code when read; attar reads safetensors only.")


def test_safetensors_of_somebody_else_are_refused(small, tmp_path):
    from safetensors.torch import save_file

    small.save(tmp_path)
    file = tmp_path / "images.safetensors"
    save_file({"images": small.images, "labels": small.labels}, file)
    assert refusal_of(tmp_path) == f"{file} was not written by attar: it carries no settings."


def test_the_images_of_another_set_are_refused(small, tmp_path):
    small.save(tmp_path / "one")
    dataclasses.replace(small, images=small.images + 1).save(tmp_path / "two")
    file = tmp_path / "one" / "images.safetensors"
    file.write_bytes((tmp_path / "two" / "images.safetensors").read_bytes())
    assert refusal_of(tmp_path / "one") == f"{file} is not the file that artefact.json describes."


def test_the_whitening_of_another_set_is_refused(everything, tmp_path):
    everything.save(tmp_path / "one")
    whitening = everything.transform.whitening
    other = dataclasses.replace(whitening, mean=whitening.mean + 1)
    transform = dataclasses.replace(everything.transform, whitening=other)
    dataclasses.replace(everything, transform=transform).save(tmp_path / "two")
    file = tmp_path / "one" / "whitening.safetensors"
    file.write_bytes((tmp_path / "two" / "whitening.safetensors").read_bytes())
    assert refusal_of(tmp_path / "one") == f"{file} is not the file that artefact.json describes."


@pytest.mark.parametrize(
    "name, value", [("mean", [0.0, 0.0, 0.0]), ("classes", ["a", "b", "c"]), ("lr", 1.0), ("flips", False)]
)
def test_an_altered_description_is_refused(name, value, small, tmp_path):
    small.save(tmp_path)
    file = tmp_path / "artefact.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), name: value}), encoding="utf-8")
    assert refusal_of(tmp_path) == f"{file} was altered after it was written: its contents do not match its digest."


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("{", "{file} is damaged: it is not JSON."),
        ("[]", "{file} is damaged: it is not an artefact's description."),
        ("{}", "{file} is damaged: it is not an artefact's description."),
        (
            '{"schema": 99, "facts_digest": ""}',
            "{file} has schema 99, but this attar reads up to 1. Upgrade attar.",
        ),
    ],
)
def test_a_damaged_or_newer_description_is_refused(text, sentence, small, tmp_path):
    small.save(tmp_path)
    file = tmp_path / "artefact.json"
    file.write_text(text, encoding="utf-8")
    assert refusal_of(tmp_path) == sentence.replace("{file}", str(file))


def test_reformatting_the_description_alters_nothing(small, tmp_path):
    small.save(tmp_path)
    store.write_json(tmp_path / "artefact.json", json.loads((tmp_path / "artefact.json").read_text(encoding="utf-8")))
    assert_same(CondensedImages.load(tmp_path), small)


def test_a_set_is_told_in_one_line(small):
    assert str(small) == small.summary
    assert "\n" not in str(small)
