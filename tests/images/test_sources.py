import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

import attar
from attar.core.errors import InputError
from attar.images.data.pixels import Encoded, InMemory
from attar.images.sources import STATISTICS, held_out
from picture_files import all_pixels, pictures, png, refusal_of, write_folder, write_parquet

# Digits.


def test_digits_are_the_first_1297_and_the_last_500_in_bytes(digits):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    assert (len(digits.train), len(digits.test), digits.shape) == (1297, 500, (1, 8, 8))
    assert digits.train.pixels.tensor.dtype == torch.uint8
    whole = torch.cat([all_pixels(digits.train), all_pixels(digits.test)])
    assert (int(whole.min()), int(whole.max())) == (0, 255)
    np.testing.assert_array_equal(whole[:, 0].numpy(), np.round(bunch.images * 255 / 16))
    assert torch.cat([digits.train.labels, digits.test.labels]).tolist() == bunch.target.tolist()


def test_digits_are_not_mirrored_and_say_what_they_are(digits):
    assert not digits.flips
    assert str(digits) == (
        "digits: 1,297 training and 500 test images, 10 classes, 1×8×8, statistics measured, split given"
    )


def test_measured_statistics_make_inputs_of_mean_zero_and_spread_one(digits, shapes):
    for source in (digits, shapes):
        images = source.inputs(torch.arange(len(source.train)))
        torch.testing.assert_close(images.mean(dim=(0, 2, 3)), torch.zeros(len(images[0])), atol=1e-3, rtol=0)
        torch.testing.assert_close(images.std(dim=(0, 2, 3)), torch.ones(len(images[0])), atol=1e-3, rtol=0)


# Arrays.


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_arrays_come_in_either_layout(channels, layout, kind):
    wanted = pictures(10, (8, 9, channels))
    images = wanted if layout == "channels last" else wanted.transpose(0, 3, 1, 2)
    labels = np.arange(10) % 2
    pair = (images, labels) if kind == "numpy" else (torch.tensor(images), torch.tensor(labels))
    source = attar.load((pair, pair))
    assert source.shape == (channels, 8, 9)
    np.testing.assert_array_equal(all_pixels(source.train).permute(0, 2, 3, 1).numpy(), wanted)


def test_grey_arrays_need_no_channel_axis():
    images = pictures(10, (8, 9))
    source = attar.load(((images, [0, 1] * 5), (images, [0, 1] * 5)))
    np.testing.assert_array_equal(all_pixels(source.test)[:, 0].numpy(), images)


def test_lists_of_images_and_labels_will_do():
    images = pictures(10, (4, 4)).tolist()
    source = attar.load((np.array(images, dtype=np.uint8), [5, 7] * 5))
    assert source.classes == ("5", "7")


def test_float_arrays_stay_floats_and_mean_the_same_as_bytes():
    images, labels = pictures(10), [0, 1] * 5
    for dtype in (np.float64, np.float32):
        source = attar.load((images.astype(dtype) / 255, labels))
        rows = torch.arange(8)
        assert all_pixels(source.train).dtype == torch.float32
        torch.testing.assert_close(source.inputs(rows), attar.load((images, labels)).inputs(rows), rtol=1e-3, atol=1e-3)


def test_labels_of_any_integers_are_numbered_in_order():
    images = pictures(6)
    source = attar.load(((images, [30, -1, 30, 7, 7, -1]), (images[:2], [7, 30])))
    assert source.classes == ("-1", "7", "30")
    assert source.train.labels.tolist() == [2, 0, 2, 1, 1, 0]
    assert source.test.labels.tolist() == [1, 2]


def test_without_test_images_a_fifth_of_each_class_is_set_aside_by_the_seed():
    images = pictures(100)
    labels = [0] * 60 + [1] * 40
    first, again, other = (attar.load((images, labels), split_seed=seed) for seed in (1, 1, 2))
    assert torch.bincount(first.train.labels).tolist() == [48, 32]
    assert torch.bincount(first.test.labels).tolist() == [12, 8]
    assert (first.split, other.split) == ("80/20 by seed 1", "80/20 by seed 2")
    assert first.fingerprint == again.fingerprint != other.fingerprint
    both = torch.cat([all_pixels(first.train), all_pixels(first.test)]).flatten(1).tolist()
    assert sorted(both) == sorted(images.transpose(0, 3, 1, 2).reshape(100, -1).tolist())


def test_even_the_smallest_class_leaves_an_image_to_test_on():
    source = attar.load((pictures(5), [0, 0, 0, 1, 1]))
    assert torch.bincount(source.test.labels).tolist() == [1, 1]


# Parquet.


@pytest.mark.parametrize("names", [None, ["cat", "dog", "emu"]])
def test_a_parquet_file_is_read_as_it_was_written(names, tmp_path):
    images, labels = pictures(30), [0, 1, 2] * 10
    file = write_parquet(tmp_path / "pets.parquet", images, labels, names)
    source = attar.load(file)
    assert source.name == "pets"
    assert source.classes == (tuple(names) if names else ("0", "1", "2"))
    whole = torch.cat([all_pixels(source.train), all_pixels(source.test)]).permute(0, 2, 3, 1).flatten(1).tolist()
    assert sorted(whole) == sorted(images.reshape(30, -1).tolist())
    assert all(count == 8 for count in torch.bincount(source.train.labels))


def test_a_folder_of_parquet_files_is_split_by_their_names(tmp_path):
    train, test = pictures(20), pictures(6, seed=1)
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", train[:10], [0, 1] * 5, ["cat", "dog"])
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", train[10:], [1, 0] * 5, ["cat", "dog"])
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", test, [0, 1] * 3, ["cat", "dog"])
    source = attar.load(str(tmp_path))
    assert source.split == "given"
    np.testing.assert_array_equal(all_pixels(source.train).permute(0, 2, 3, 1).numpy(), train)
    np.testing.assert_array_equal(all_pixels(source.test).permute(0, 2, 3, 1).numpy(), test)
    assert source.train.labels.tolist() == [0, 1] * 5 + [1, 0] * 5


def test_the_columns_of_cifar_are_found_too(tmp_path):
    for label in ("label", "fine_label"):
        file = write_parquet(tmp_path / f"{label}.parquet", pictures(10), [0, 1] * 5, columns=("img", label))
        assert attar.load(file).shape == (3, 8, 8)


@pytest.mark.parametrize(
    "labels, classes, told",
    [
        ([0, 1], ("cat", "dog"), "2 of 4 classes have no training images and are left out: emu, fox"),
        ([3, 0], ("cat", "fox"), "2 of 4 classes have no training images and are left out: dog, emu"),
        ([3, 1, 0], ("cat", "dog", "fox"), "1 of 4 classes have no training images and are left out: emu"),
    ],
)
def test_a_class_that_only_has_a_name_is_left_out_and_told(labels, classes, told, tmp_path):
    names = ["cat", "dog", "emu", "fox"]
    source = attar.load(write_parquet(tmp_path / "pets.parquet", pictures(30), labels * (30 // len(labels)), names))
    assert (source.classes, source.notes) == (classes, (told,))
    whole = attar.load(
        write_parquet(tmp_path / "a.parquet", pictures(30), [names[n] for n in labels] * (30 // len(labels)))
    )
    assert torch.equal(source.train.labels, whole.train.labels)


def test_a_label_beyond_the_names_is_refused(tmp_path):
    file = write_parquet(tmp_path / "pets.parquet", pictures(4), [0, 1, 5, 0], ["cat", "dog"])
    assert refusal_of(file) == f"row 2 of {file} has label 5, but the file names 2 classes."


def test_a_test_class_that_nobody_trained_on_is_refused(tmp_path):
    write_parquet(tmp_path / "train.parquet", pictures(4), [0, 1, 0, 1])
    test = write_parquet(tmp_path / "test.parquet", pictures(2), [0, 2])
    assert refusal_of(tmp_path) == f"row 1 of {test} has label 2, a class that the training images do not have."


def test_a_parquet_file_without_rows_is_refused(tmp_path):
    file = write_parquet(tmp_path / "none.parquet", [], pyarrow.array([], pyarrow.int64()))
    assert refusal_of(file) == f"{file} has no rows."


@pytest.mark.parametrize("broken", [2, 12])
def test_bytes_that_are_no_image_are_refused_with_their_row(broken, tmp_path):
    images = [png(image) for image in pictures(20)]
    images[broken] = b"not an image"
    for part in (0, 1):
        write_parquet(tmp_path / f"train-{part}.parquet", images[10 * part : 10 * part + 10], [0, 1] * 5)
    file = tmp_path / f"train-{broken // 10}.parquet"
    assert refusal_of(tmp_path) == (
        f"row {broken % 10} of {file} cannot be decoded as an image (UnidentifiedImageError). "
        "Leave it out with --skip-bad."
    )


def test_a_truncated_image_is_refused_with_its_row(tmp_path):
    images = [png(image) for image in pictures(10, (32, 32, 3))]
    images[3] = images[3][:200]
    file = write_parquet(tmp_path / "cut.parquet", images, [0, 1] * 5)
    assert refusal_of(file) == f"row 3 of {file} is truncated. Leave it out with --skip-bad."


@pytest.mark.parametrize(
    "table, sentence",
    [
        (
            {"image": [b"x"], "number": [1]},
            "{file} has no column 'label'. Its columns: image, number. Name one with --label.",
        ),
        (
            {"picture": [b"x"], "label": [1]},
            "{file} has no column 'image'. Its columns: picture, label. Name one with --image.",
        ),
        (
            {"image": [b"x"], "label": [1.5]},
            "column 'label' of {file} holds double, not integers or names. Name another with --label.",
        ),
        (
            {"image": [b"x"], "label": [[1]]},
            "column 'label' of {file} holds list<element: int64>, not integers or names. Name another with --label.",
        ),
        ({"image": [b"x", b"x"], "label": [1, None]}, "row 1 of {file} has no label."),
        ({"image": [b"x", b"x"], "label": [1, -1]}, "row 1 of {file} has no label."),
        (
            {"image": [png(pictures(1)[0]), None], "label": [1, 0]},
            "row 1 of {file} does not hold image bytes. Leave it out with --skip-bad.",
        ),
        (
            {"image": [1, 2], "label": [1, 0]},
            "column 'image' of {file} holds int64, not images. Name another with --image.",
        ),
    ],
)
def test_a_parquet_file_of_another_form_is_refused(table, sentence, tmp_path):
    file = tmp_path / "odd.parquet"
    parquet.write_table(pyarrow.table(table), file)
    assert refusal_of(file) == sentence.format(file=file)


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "fake.parquet").write_bytes(b"nothing of the kind")
    assert refusal_of(tmp_path / "fake.parquet").startswith(
        f"{tmp_path / 'fake.parquet'} is not a readable parquet file ("
    )
    (tmp_path / "images.csv").write_text("a,b", encoding="utf-8")
    assert refusal_of(tmp_path / "images.csv") == (
        f"{tmp_path / 'images.csv'} is not a parquet file. Give a .parquet file, a folder, or 'digits'."
    )


# Folders of pictures.


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_a_folder_with_train_and_test_is_split_as_given(test_name, tmp_path):
    train, test = pictures(10), pictures(4, seed=1)
    write_folder(tmp_path / "train", cat=train[:5], dog=train[5:])
    write_folder(tmp_path / test_name, cat=test[:2], dog=test[2:])
    source = attar.load(tmp_path)
    assert (source.classes, source.split) == (("cat", "dog"), "given")
    np.testing.assert_array_equal(all_pixels(source.train).permute(0, 2, 3, 1).numpy(), train)
    np.testing.assert_array_equal(all_pixels(source.test).permute(0, 2, 3, 1).numpy(), test)
    assert source.test.labels.tolist() == [0, 0, 1, 1]


def test_a_folder_of_classes_alone_is_split_by_the_seed(tmp_path):
    write_folder(tmp_path, cat=pictures(10), dog=pictures(20, seed=1))
    source = attar.load(tmp_path, split_seed=3)
    assert source.split == "80/20 by seed 3"
    assert torch.bincount(source.train.labels).tolist() == [8, 16]
    assert torch.bincount(source.test.labels).tolist() == [2, 4]


def test_grey_pictures_have_one_channel_and_mixed_ones_three(tmp_path):
    grey = pictures(10, (8, 8))
    assert attar.load(write_folder(tmp_path / "grey", cat=grey, dog=grey)).shape == (1, 8, 8)
    assert attar.load(write_folder(tmp_path / "mixed", cat=grey, dog=pictures(5))).shape == (3, 8, 8)


def test_an_undecodable_picture_is_refused_by_its_name(tmp_path):
    write_folder(tmp_path, cat=pictures(3), dog=pictures(3))
    (tmp_path / "dog" / "001.png").write_bytes(b"woof")
    assert refusal_of(tmp_path) == (
        f"{tmp_path / 'dog' / '001.png'} cannot be decoded as an image (UnidentifiedImageError). "
        "Leave it out with --skip-bad."
    )


def test_pictures_of_different_sizes_are_refused_unless_a_size_is_given(tmp_path):
    write_folder(tmp_path, cat=pictures(3, (8, 8, 3)), dog=pictures(3, (10, 12, 3)))
    first, other = tmp_path / "cat" / "000.png", tmp_path / "dog" / "000.png"
    assert refusal_of(tmp_path) == (
        f"images differ in size: {first} is 8×8, {other} is 12×10. Scale them to one size with --size 8."
    )
    assert attar.load(tmp_path, size=6).shape == (3, 6, 6)


@pytest.mark.parametrize("memory", [4.0, 0.0])
@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_test_pictures_of_another_size_are_refused_unless_a_size_is_given(form, memory, tmp_path):
    train, test = pictures(4, (8, 8, 3)), pictures(4, (9, 10, 3))
    if form == "folder":
        write_folder(tmp_path / "train", cat=train[:2], dog=train[2:])
        write_folder(tmp_path / "test", cat=test[:2], dog=test[2:])
        first = tmp_path / "test" / "cat" / "000.png"
    else:
        write_parquet(tmp_path / "train.parquet", train, [0, 1, 0, 1])
        first = f"row 0 of {write_parquet(tmp_path / 'test.parquet', test, [0, 1, 0, 1])}"
    assert refusal_of(tmp_path, memory=memory) == (
        f"training images are 8×8, but {first} is 10×9. Scale them to one size with --size 8."
    )
    assert attar.load(tmp_path, size=7, memory=memory).shape == (3, 7, 7)


def test_a_size_takes_the_middle_square(tmp_path):
    wide = np.zeros((8, 16, 3), dtype=np.uint8)
    wide[:, 4:12] = pictures(1)[0]
    write_folder(tmp_path, cat=[wide] * 2, dog=[wide] * 2)
    source = attar.load(tmp_path, size=8)
    np.testing.assert_array_equal(all_pixels(source.train)[0].permute(1, 2, 0).numpy(), pictures(1)[0])


def test_a_class_that_is_not_tested_is_told(tmp_path):
    write_folder(tmp_path / "train", cat=pictures(3), dog=pictures(3), emu=pictures(3))
    write_folder(tmp_path / "val", cat=pictures(3), emu=pictures(2))
    source = attar.load(tmp_path)
    assert source.untested == ("dog",)
    assert source.test.labels.tolist() == [0, 0, 0, 2, 2]
    assert str(source).endswith(
        "split given; no test images of dog\n"
        "note: the validation images are the test images, because no others have labels"
    )


def test_classes_that_only_the_test_folder_has_are_refused(tmp_path):
    write_folder(tmp_path / "train", cat=pictures(3), dog=pictures(3))
    write_folder(tmp_path / "test", cat=pictures(3), emu=pictures(2), fox=pictures(2))
    assert refusal_of(tmp_path) == (
        f"{tmp_path / 'test'} has pictures of 'emu', 'fox', but {tmp_path / 'train'} does not. "
        "Both need folders of the same names."
    )


def test_a_test_folder_without_folders_of_classes_is_refused(tmp_path):
    write_folder(tmp_path / "train", cat=pictures(3), dog=pictures(3))
    write_folder(tmp_path, val=pictures(3))
    assert (
        refusal_of(tmp_path) == f"{tmp_path / 'val'} has no folders of pictures. Both need folders of the same names."
    )


def test_what_is_no_picture_and_what_is_hidden_is_passed_over(tmp_path):
    write_folder(tmp_path, cat=pictures(5), dog=pictures(5))
    wanted = attar.load(tmp_path, memory=0).fingerprint
    write_folder(tmp_path, **{".trash": pictures(3)})
    write_folder(tmp_path / "cat", **{".thumbnails": pictures(3)})
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    for place in (".DS_Store", "cat/.DS_Store", "cat/._000.png", "cat/labels.csv", "notes/read.me", "dog/000.png.txt"):
        (tmp_path / place).write_bytes(b"nothing to see")
    source = attar.load(tmp_path, memory=0)
    assert (source.classes, source.fingerprint) == (("cat", "dog"), wanted)


def test_pictures_may_lie_deeper_in_the_folder_of_their_class(tmp_path):
    images = pictures(6)
    write_folder(tmp_path / "train" / "cat", images=images[:3])
    write_folder(tmp_path / "train" / "dog", images=images[3:])
    source = attar.load(tmp_path)
    assert source.classes == ("cat", "dog")
    assert len(source.train) + len(source.test) == 6


TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
"""How an upright picture has to be turned (Image.Transpose) to be one of this orientation, by what EXIF calls it."""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_pictures_stand_as_the_camera_was_held(orientation, ending, tmp_path):
    upright = Image.fromarray(np.kron(pictures(1, (2, 3, 3))[0], np.ones((8, 8, 1), np.uint8)))
    held = upright.transpose(Image.Transpose(TURNS[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(2):
            held.save(tmp_path / label / f"{number}.{ending}", exif=exif)
    source = attar.load(tmp_path)
    assert source.shape == (3, 16, 24)
    difference = all_pixels(source.train)[0].permute(1, 2, 0).int() - torch.tensor(np.array(upright)).int()
    assert difference.abs().float().mean() < (20 if ending == "jpg" else 1e-9)


def test_grey_palette_and_transparent_pictures_mix_with_colours(tmp_path):
    image = Image.fromarray(pictures(1)[0])
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    for number, mode in enumerate(["L", "P", "RGB", "RGBA", "1", "LA", "CMYK"]):
        image.convert(mode).save(tmp_path / "cat" / f"{number}.{'jpg' if mode == 'CMYK' else 'png'}")
    image.convert("P").save(tmp_path / "dog" / "0.png", transparency=bytes(range(256)))
    image.convert("P").save(tmp_path / "dog" / "1.gif")
    grey = pictures(1, (8, 8))[0]
    Image.fromarray(grey.astype(np.uint16) << 8).save(tmp_path / "dog" / "2.png")
    source = attar.load(tmp_path)
    assert source.shape == (3, 8, 8)
    both = torch.cat([all_pixels(source.train), all_pixels(source.test)]).permute(0, 2, 3, 1).flatten(1).tolist()
    sixteen_bits = np.repeat(grey[..., None], 3, axis=2)
    for expected in (np.array(image), np.array(image.convert("L").convert("RGB")), sixteen_bits):
        assert expected.reshape(-1).tolist() in both


def test_a_first_class_in_black_and_white_does_not_take_the_colours_of_the_others(tmp_path):
    write_folder(tmp_path, old=pictures(40, (8, 8)), young=pictures(40))
    assert attar.load(tmp_path).shape == (3, 8, 8)


@pytest.mark.parametrize("side", [128, 224])
def test_pictures_of_all_sizes_are_condensed_at_a_size(side, tmp_path, runtime, engine):
    sizes = [(side + 30, side + 60), (2 * side, side), (side // 2, 90), (side, side)]
    for part, count in (("train", 4), ("val", 1)):
        for label in ("cat", "dog"):
            (tmp_path / part / label).mkdir(parents=True)
            for number, (height, width) in enumerate(sizes[:count]):
                image = Image.fromarray(pictures(1, (height, width, 3), seed=number)[0])
                image.save(tmp_path / part / label / f"{number}.jpg")
    source = attar.load(tmp_path, size=side, memory=0)
    assert (source.shape, source.split) == ((3, side, side), "given")
    method = attar.DM(ipc=1, steps=2, real_batch=2, architecture=attar.Architecture(width=8))
    assert method.resolve(source, runtime).architecture.depth == {128: 5, 224: 6}[side]
    small = attar.condense(source, method, engine=engine)
    assert small.images.shape == (2, 3, side, side)
    assert small.images.isfinite().all()


def test_a_size_or_a_budget_below_nothing_is_refused(tmp_path):
    write_folder(tmp_path, cat=pictures(3), dog=pictures(3))
    assert refusal_of(tmp_path, size=0) == "size is 0; it must be at least 1."
    assert refusal_of(tmp_path, memory=-1) == "memory is -1; it must be at least 0."


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "cat").mkdir()
    assert refusal_of(tmp_path) == f"{tmp_path} holds neither a parquet file nor a folder of pictures for each class."


# Sets above the memory budget.


@pytest.mark.parametrize("form", ["parquet", "folder"])
@pytest.mark.parametrize("size", [None, 6])
def test_pixels_decoded_when_drawn_are_the_same(form, size, tmp_path):
    images = pictures(20)
    if form == "parquet":
        path = write_parquet(tmp_path / "pets.parquet", images, [0] * 10 + [1] * 10)
    else:
        path = write_folder(tmp_path, cat=images[:10], dog=images[10:])
    held, drawn = (attar.load(path, size=size, memory=memory) for memory in (4.0, 0.0))
    assert isinstance(held.train.pixels, InMemory)
    assert isinstance(drawn.train.pixels, Encoded)
    for rows in (torch.arange(16), torch.tensor([3, 3, 0])):
        assert torch.equal(drawn.train.pixels[rows], held.train.pixels[rows])
        torch.testing.assert_close(drawn.inputs(rows), held.inputs(rows))
    assert torch.equal(all_pixels(drawn.test), all_pixels(held.test))
    assert torch.equal(drawn.train.labels, held.train.labels)


def test_an_undecodable_image_is_named_by_its_own_row_when_it_is_drawn(tmp_path):
    images = [png(image) for image in pictures(20)]
    whole = attar.load(write_parquet(tmp_path / "whole.parquet", images, [0, 1] * 10), memory=0)
    row = int(torch.nonzero(whole.train.labels == 1)[3])
    place = int(whole.train.pixels.rows[row])
    images[place] = b"spoilt"
    file = write_parquet(tmp_path / "spoilt.parquet", images, [0, 1] * 10)
    source = attar.load(file, memory=0, statistics="cifar10")
    with pytest.raises(InputError) as refusal:
        source.inputs(torch.tensor([row]))
    assert str(refusal.value) == (
        f"row {place} of {file} cannot be decoded as an image (UnidentifiedImageError). Leave it out with --skip-bad."
    )


# Statistics.


@pytest.mark.parametrize("name", sorted(STATISTICS))
def test_a_set_of_the_fields_name_has_the_fields_statistics(name, tmp_path):
    mean, std = STATISTICS[name]
    shape = (8, 8, 3) if len(mean) == 3 else (8, 8)
    source = attar.load(write_parquet(tmp_path / f"{name}.parquet", pictures(10, shape), [0, 1] * 5))
    assert (source.transform.mean, source.transform.std, source.statistics) == (mean, std, name)
    assert source.flips is (name not in ("mnist", "svhn"))


def test_statistics_can_be_chosen():
    pair = (pictures(10), [0, 1] * 5)
    assert attar.load(pair, statistics="cifar10").transform.mean == STATISTICS["cifar10"][0]
    measured = attar.load(pair)
    whole = all_pixels(measured.train).double() / 255
    assert measured.transform.mean == pytest.approx(whole.mean(dim=(0, 2, 3)).tolist(), abs=5e-5)
    assert measured.transform.std == pytest.approx(whole.std(dim=(0, 2, 3), correction=0).tolist(), abs=5e-5)


def test_statistics_of_three_channels_are_not_used_for_grey_images(tmp_path):
    grey = write_parquet(tmp_path / "cifar10.parquet", pictures(10, (8, 8)), [0, 1] * 5)
    assert attar.load(grey).statistics == "measured"


# Fingerprints.


def load_pair(images, labels):
    return attar.load(((images, labels), (images, labels)), statistics="cifar10")


def test_the_fingerprint_changes_with_any_pixel_and_any_label():
    images, labels = pictures(6), [0, 1, 2] * 2
    base = load_pair(images, labels).fingerprint
    assert load_pair(images.copy(), np.array(labels)).fingerprint == base
    for place in ((0, 0, 0, 0), (5, 7, 7, 2)):
        touched = images.copy()
        touched[place] ^= 1
        assert load_pair(touched, labels).fingerprint != base
    assert load_pair(images, [0, 1, 2, 0, 2, 1]).fingerprint != base


def test_the_fingerprint_knows_train_from_test_and_the_shape_of_an_image():
    one, two = (pictures(6, (4, 6, 3)), [0, 1, 2] * 2), (pictures(6, (4, 6, 3), seed=1), [0, 1, 2] * 2)
    there, back = (attar.load(pair, statistics="cifar10").fingerprint for pair in ((one, two), (two, one)))
    assert there != back
    tall = (one[0].transpose(0, 3, 1, 2).reshape(6, 3, 6, 4), one[1])
    assert attar.load((one, one), statistics="cifar10").fingerprint != load_pair(*tall).fingerprint


def test_the_fingerprint_does_not_depend_on_how_pictures_came(tmp_path):
    images, labels = pictures(10), [0] * 5 + [1] * 5
    write_folder(tmp_path / "0", **{"0": images[:5], "1": images[5:]})
    from_arrays = load_pair(images, labels)
    write_folder(tmp_path / "both" / "train", **{"0": images[:5], "1": images[5:]})
    write_folder(tmp_path / "both" / "test", **{"0": images[:5], "1": images[5:]})
    assert attar.load(tmp_path / "both", statistics="cifar10").fingerprint == from_arrays.fingerprint


# Parts of a source.


def test_held_out_rows_are_a_tenth_of_each_class_by_the_seed(digits):
    rows = held_out(digits, 0)
    counts = torch.bincount(digits.targets)
    assert (torch.bincount(digits.targets[rows]) - counts / 10).abs().max() <= 0.5
    assert torch.equal(rows, held_out(digits, 0))
    assert not torch.equal(rows, held_out(digits, 1))
    left = digits.without(rows)
    assert len(left.train) + len(rows) == 1297
    assert left.transform == digits.transform
    assert left.fingerprint != digits.fingerprint


def test_a_part_of_a_whitened_source_is_whitened_alike(few_digits):
    whole = few_digits.whitened()
    rows = torch.tensor([3, 50, 7])
    assert torch.equal(whole.subset(rows).inputs(torch.arange(3)), whole.inputs(rows))


def test_the_rows_of_a_class_are_its_own(shapes):
    assert [set(shapes.targets[rows].tolist()) for rows in shapes.rows_of] == [{0}, {1}, {2}]
    assert sum(map(len, shapes.rows_of)) == len(shapes.train)


def test_a_source_is_taken_as_it_is(digits):
    assert attar.load(digits) is digits


# Refusals of names and arrays.


@pytest.mark.parametrize(
    "data, sentence",
    [
        ("digit", "unknown data 'digit'; did you mean 'digits'?"),
        ("nowhere/at/all", "unknown data 'nowhere/at/all'; no such file or folder. Bundled: digits."),
        (3, "data is a int; give a name, a path, or a pair (images, labels)."),
        ((1, 2, 3), "data is a tuple; give a name, a path, or a pair (images, labels)."),
        ((pictures(4), [1, 1, 1, 1]), "arrays has only one class, '1'; condensing needs two or more."),
        ((pictures(4), None), "labels are missing; give one integer or name per image."),
        ((pictures(4), [0.0, 1.0, 0.0, 1.0]), "labels are neither integers nor names; give one class per image."),
        ((pictures(4), [True, False] * 2), "labels are neither integers nor names; give one class per image."),
        ((pictures(4), [0, None, 0, 1]), "labels are neither integers nor names; give one class per image."),
        ((pictures(4), [0, 1, 0]), "there are 4 images but labels of shape (3,); give one per image."),
        (
            (pictures(4, (8, 8, 2)), [0, 1, 0, 1]),
            "images have shape (4, 8, 8, 2); give [image, height, width] with 1 or 3 channels.",
        ),
        ((pictures(4, ()), [0, 1, 0, 1]), "images have shape (4,); give [image, height, width] with 1 or 3 channels."),
        ((pictures(4).astype(np.int64), [0, 1, 0, 1]), "images are torch.int64; give uint8, or floats from 0 to 1."),
        ((pictures(4) / 128, [0, 1, 0, 1]), "float pixels run from 0 to 1.99; give 0 to 1, or uint8."),
        ((pictures(0), []), "there are no images."),
        ((np.zeros((0, 8, 8)), []), "there are no images."),
        (
            ((pictures(4), [0, 1, 0, 1]), (pictures(4), [0, 1, 0, 2])),
            "the test labels have a class that the training labels do not have.",
        ),
        (
            ((pictures(4), [0, 1, 0, 1]), (pictures(4, (9, 8, 3)), [0, 1, 0, 1])),
            "training images have shape (3, 8, 8), test images (3, 9, 8); give the same shape.",
        ),
    ],
)
def test_data_that_cannot_be_used_is_refused(data, sentence):
    assert refusal_of(data) == sentence


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused(bad):
    images = pictures(4) / 255
    images[2, 3, 3, 1] = bad
    assert refusal_of((images, [0, 1, 0, 1])) == "image 2 has pixels that are not finite (NaN or infinite)."


def test_unknown_statistics_are_refused():
    known = "cifar10, cifar100, fashion-mnist, imagenet, measured, mnist, svhn, tiny-imagenet"
    assert refusal_of("digits", statistics="cifar") == (
        f"unknown statistics 'cifar'; did you mean 'cifar10'? Known: {known}."
    )


# Some of the classes.


def test_chosen_classes_are_numbered_in_the_order_given(digits):
    part = digits.with_classes([7, 2])
    assert part.classes == ("7", "2")
    for number, label in enumerate((7, 2)):
        rows = part.rows_of[number]
        assert torch.equal(part.train.pixels[rows], digits.train.pixels[digits.rows_of[label]])
        assert torch.equal(
            all_pixels(part.test.select(torch.nonzero(part.test.labels == number).flatten())),
            all_pixels(digits.test.select(torch.nonzero(digits.test.labels == label).flatten())),
        )
    assert part.transform is digits.transform


def test_all_classes_in_their_order_are_the_source_itself(digits):
    assert digits.with_classes(range(10)).fingerprint == digits.fingerprint


def test_chosen_classes_of_whitened_images_stay_whitened(digits):
    white = digits.whitened()
    part = white.with_classes([3, 1])
    rows = part.rows_of[0]
    assert part.prepared is not None
    assert torch.equal(part.inputs(rows), white.inputs(digits.rows_of[3]))


@pytest.mark.parametrize(
    "labels, sentence",
    [
        ([], "no class of digits is given; give one or more."),
        ([1, 10], "digits has no class 10; give numbers from 0 to 9."),
        ([1, -1], "digits has no class -1; give numbers from 0 to 9."),
        ([4, 1, 4], "class 4 (4) is given twice; give each class once."),
    ],
)
def test_classes_that_cannot_be_chosen_are_refused(labels, sentence, digits):
    with pytest.raises(InputError) as refusal:
        digits.with_classes(labels)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize("kind", [list, np.array, lambda names: np.array(names, dtype=object)])
def test_labels_of_arrays_may_be_names(kind):
    names = ["10", "2", "10", "2", "b", "b"]
    source = attar.load(((pictures(6), kind(names)), (pictures(2), kind(["b", "2"]))))
    assert source.classes == ("2", "10", "b")
    assert source.targets.tolist() == [1, 0, 1, 0, 2, 2]
    assert source.test.labels.tolist() == [2, 0]
    with pytest.raises(InputError, match=r"^the test labels have a class that the training labels do not have\.$"):
        attar.load(((pictures(6), kind(names)), (pictures(2), kind(["b", "c"]))))
