import datasets
import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

import attar
from attar.cli import main
from attar.images.data.columns import Numbers, field_name
from attar.images.data.pixels import Encoded, InMemory
from picture_files import all_pixels, pictures, png, refusal_of, write_parquet

PICTURES, NUMBERS = pictures(10), [0, 1] * 5


def encoded(images, labels, columns=("image", "label"), **features):
    """A data set of PNG images, as `datasets` makes one of Pillow's."""
    dataset = datasets.Dataset.from_dict({columns[0]: [Image.fromarray(i) for i in images], columns[1]: labels})
    for name, feature in features.items():
        dataset = dataset.cast_column(name, feature)
    return dataset


def whole(source):
    """All pixels of a source, `[image, height, width, channel]`, in no order."""
    pixels = torch.cat([all_pixels(source.train), all_pixels(source.test)])
    return sorted(pixels.permute(0, 2, 3, 1).flatten(1).tolist())


def wanted(images):
    return sorted(images.reshape(len(images), -1).tolist())


# Labels.


@pytest.mark.parametrize(
    "labels, feature, classes, numbers",
    [
        ([0, 1] * 5, None, ("0", "1"), [0, 1] * 5),
        ([7, 3] * 5, None, ("3", "7"), [1, 0] * 5),
        (["dog", "cat"] * 5, None, ("cat", "dog"), [1, 0] * 5),
        ([1, 0] * 5, datasets.ClassLabel(names=["dog", "cat"]), ("dog", "cat"), [1, 0] * 5),
        ([1, 0] * 5, datasets.Value("int8"), ("0", "1"), [1, 0] * 5),
        (["dog", "cat"] * 5, datasets.Value("large_string"), ("cat", "dog"), [1, 0] * 5),
    ],
)
def test_labels_are_numbers_or_names_or_numbers_with_names(labels, feature, classes, numbers):
    train = encoded(PICTURES, labels, **({"label": feature} if feature else {}))
    source = attar.load(datasets.DatasetDict(train=train, test=train))
    assert (source.classes, source.split, source.shape) == (classes, "given", (3, 8, 8))
    assert source.train.labels.tolist() == source.test.labels.tolist() == numbers
    np.testing.assert_array_equal(all_pixels(source.train).permute(0, 2, 3, 1).numpy(), PICTURES)


def test_names_are_labels_in_parquet_too(tmp_path):
    file = write_parquet(tmp_path / "pets.parquet", PICTURES, ["dog", "cat"] * 5)
    assert attar.load(file).classes == ("cat", "dog")


def test_a_data_set_is_the_same_source_as_its_pixels_and_labels():
    dataset = encoded(PICTURES, NUMBERS)
    from_dataset = attar.load(datasets.DatasetDict(train=dataset, test=dataset), statistics="cifar10")
    from_arrays = attar.load(((PICTURES, NUMBERS), (PICTURES, NUMBERS)), statistics="cifar10")
    assert from_dataset.fingerprint == from_arrays.fingerprint


# Images.


@pytest.mark.parametrize("memory", [4.0, 0.0])
@pytest.mark.parametrize(
    "feature, shape",
    [
        (None, (8, 8, 3)),
        (None, (8, 8)),
        (None, (3, 8, 8)),
        (datasets.Array3D((8, 8, 3), "uint8"), (8, 8, 3)),
        (datasets.Array2D((8, 8), "int32"), (8, 8)),
        (datasets.List(datasets.List(datasets.Value("int64"))), (8, 8)),
    ],
)
def test_images_may_be_numbers(feature, shape, memory):
    images = pictures(10, shape)
    dataset = datasets.Dataset.from_dict({"image": list(images), "label": NUMBERS})
    if feature is not None:
        dataset = dataset.cast_column("image", feature)
    source = attar.load(dataset, memory=memory)
    channels_last = images.transpose(0, 2, 3, 1) if shape[0] == 3 else images
    assert whole(source) == wanted(channels_last)
    assert isinstance(source.train.pixels, Numbers if memory == 0 else InMemory)
    held = attar.load(dataset)
    assert source.fingerprint == held.fingerprint
    few = torch.tensor([3, 1])
    assert torch.equal(source.subset(few).inputs(torch.tensor([1])), held.inputs(few[1:]))


def test_images_may_be_floats_from_0_to_1():
    dataset = datasets.Dataset.from_dict({"image": (PICTURES / 255).tolist(), "label": NUMBERS})
    source = attar.load(dataset)
    assert all_pixels(source.train).dtype == torch.float32
    assert attar.load(datasets.Dataset.from_dict({"image": list(PICTURES), "label": NUMBERS})).shape == source.shape


def test_images_may_be_files_that_the_data_set_names(tmp_path):
    for number, image in enumerate(PICTURES):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    paths = [str(tmp_path / f"{number}.png") for number in range(10)]
    dataset = datasets.Dataset.from_dict({"image": paths, "label": NUMBERS}).cast_column("image", datasets.Image())
    for memory in (4.0, 0.0):
        assert whole(attar.load(dataset, memory=memory)) == wanted(PICTURES)


def test_encoded_images_above_the_budget_are_decoded_when_drawn():
    dataset = encoded(PICTURES, NUMBERS)
    held, drawn = (attar.load(dataset, memory=memory, size=6) for memory in (4.0, 0.0))
    assert isinstance(drawn.train.pixels, Encoded)
    assert torch.equal(all_pixels(drawn.train), all_pixels(held.train))
    assert drawn.streamed
    assert not held.streamed


def test_chosen_and_shuffled_rows_are_those_rows():
    dataset = encoded(PICTURES, NUMBERS).select([9, 2, 3, 4, 0, 1])
    source = attar.load(datasets.DatasetDict(train=dataset, test=dataset), memory=0)
    np.testing.assert_array_equal(all_pixels(source.train).permute(0, 2, 3, 1).numpy(), PICTURES[[9, 2, 3, 4, 0, 1]])
    assert source.train.labels.tolist() == [1, 0, 1, 0, 0, 1]


# Splits and columns.


def test_the_first_split_with_labels_is_tested_on():
    unlabelled = encoded(PICTURES[:4], [-1] * 4)
    splits = {"train": encoded(PICTURES, NUMBERS), "validation": encoded(PICTURES[:6], NUMBERS[:6]), "test": unlabelled}
    assert len(attar.load(datasets.DatasetDict(splits)).test) == 6
    splits["test"] = encoded(PICTURES[:4], NUMBERS[:4])
    assert len(attar.load(datasets.DatasetDict(splits)).test) == 4
    del splits["test"], splits["validation"]
    assert attar.load(datasets.DatasetDict(splits), split_seed=3).split == "80/20 by seed 3"


def test_a_split_by_itself_is_the_training_set_whatever_it_is_called():
    assert len(attar.load(datasets.DatasetDict(everything=encoded(PICTURES, NUMBERS))).train) == 8


@pytest.mark.parametrize("columns", [("img", "fine_label"), ("images", "labels")])
def test_the_usual_columns_are_found(columns):
    assert attar.load(encoded(PICTURES, NUMBERS, columns)).shape == (3, 8, 8)


def test_other_columns_can_be_named(tmp_path, capsys):
    columns = ("picture", "kind")
    assert attar.load(encoded(PICTURES, NUMBERS, columns), image="picture", label="kind").shape == (3, 8, 8)
    file = write_parquet(tmp_path / "pets.parquet", PICTURES, ["dog", "cat"] * 5, columns=columns)
    main(["data", str(file), "--image", "picture", "--label", "kind"])
    assert "2 classes, 3×8×8" in capsys.readouterr().out


def test_of_two_columns_of_labels_the_one_named_is_used():
    dataset = encoded(PICTURES, NUMBERS).add_column("coarse", ["a", "b", "c", "d", "e"] * 2)
    assert attar.load(dataset).classes == ("0", "1")
    assert attar.load(dataset, label="coarse").classes == ("a", "b", "c", "d", "e")


# On disk and on the hub.


@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_a_data_set_saved_to_disk_is_read_from_its_folder(memory, tmp_path):
    dataset = encoded(PICTURES, ["dog", "cat"] * 5)
    dataset.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=dataset, test=dataset).save_to_disk(tmp_path / "two")
    one, two = (attar.load(tmp_path / name, memory=memory) for name in ("one", "two"))
    assert (one.name, one.split, two.split) == ("one", "80/20 by seed 0", "given")
    assert whole(one) == wanted(PICTURES)
    np.testing.assert_array_equal(all_pixels(two.test).permute(0, 2, 3, 1).numpy(), PICTURES)


@pytest.mark.parametrize(
    "text, asked, name",
    [
        ("user/pets", ("user/pets", None), "pets"),
        ("user/pets:small", ("user/pets", "small"), "pets"),
        ("pets", ("pets", None), "pets"),
        ("uoft-cs/cifar10", ("uoft-cs/cifar10", None), "cifar10"),
        ("zalando-datasets/fashion_mnist", ("zalando-datasets/fashion_mnist", None), "fashion-mnist"),
        ("ufldl-stanford/svhn:cropped_digits", ("ufldl-stanford/svhn", "cropped_digits"), "svhn"),
    ],
)
def test_a_name_that_is_no_path_is_looked_up_on_the_hub(text, asked, name, monkeypatch):
    calls = []

    def load_dataset(*arguments):
        calls.append(arguments)
        return datasets.DatasetDict(train=encoded(PICTURES, NUMBERS), test=encoded(PICTURES, NUMBERS))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = attar.load(text)
    assert calls == [asked]
    assert source.name == name
    assert source.flips is (name != "svhn")


def test_names_are_those_of_the_field():
    assert [field_name(text) for text in ("user/CIFAR-10", "CIFAR_100", "cifar10", "a/Tiny_ImageNet")] == [
        "cifar10",
        "cifar100",
        "cifar10",
        "tiny-imagenet",
    ]


def test_a_path_comes_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_parquet(tmp_path / "user" / "pets" / "train.parquet", PICTURES, NUMBERS)
    assert attar.load("user/pets").shape == (3, 8, 8)


@pytest.mark.parametrize("text", ["user/name", "user/name:small", "pets"])
def test_without_the_hub_a_name_is_refused_in_one_line(text):
    line = refusal_of(text)
    assert line.startswith(f"unknown data {text!r}: no file or folder here, and from the hub: ")
    assert "\n" not in line


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("no way"),
        datasets.exceptions.DatasetNotFoundError("no way\nat all"),
        ValueError("no way"),
        RuntimeError("no way"),
    ],
)
def test_what_the_hub_says_is_passed_on(error, monkeypatch):
    def load_dataset(*arguments):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert refusal_of("a/b") == "unknown data 'a/b': no file or folder here, and from the hub: no way"


# Columns by name and type.


@pytest.mark.parametrize("form", ["parquet", "dataset"])
@pytest.mark.parametrize(
    "labels, classes",
    [
        ([False, True] * 5, ("False", "True")),
        ([2.0, 10.0] * 5, ("2", "10")),
        (["10", "2"] * 5, ("2", "10")),
    ],
)
def test_labels_that_stand_for_classes_are_taken(form, labels, classes, tmp_path):
    if form == "parquet":
        data = write_parquet(tmp_path / "pets.parquet", PICTURES, labels)
    else:
        data = encoded(PICTURES, labels)
    assert attar.load(data).classes == classes


@pytest.mark.parametrize("form", ["parquet", "dataset"])
@pytest.mark.parametrize("columns", [("Image", "target"), ("IMG", "class"), ("images", "Y"), ("image", "Fine_Label")])
def test_columns_of_other_usual_names_are_found_in_any_case(form, columns, tmp_path):
    if form == "parquet":
        data = write_parquet(tmp_path / "pets.parquet", PICTURES, NUMBERS, columns=columns)
    else:
        data = encoded(PICTURES, NUMBERS, columns)
    assert attar.load(data).shape == (3, 8, 8)


@pytest.mark.parametrize(
    "labels, part",
    [
        ({"target": NUMBERS, "class": NUMBERS}, "has several columns of labels: target, class. Name one with --label."),
        ({"kind": NUMBERS}, "has no column 'label'. Its columns: image, kind. Name one with --label."),
        ({"label": [0.5, 1] * 5}, "holds double, not integers or names. Name another with --label."),
        ({"label": [float("inf"), 1] * 5}, "holds double, not integers or names. Name another with --label."),
        ({"label": [float("nan"), 1] * 5}, "has no label."),
    ],
)
def test_columns_that_are_ambiguous_are_refused_with_the_flag(labels, part, tmp_path):
    table = pyarrow.table({"image": [png(image) for image in PICTURES], **labels})
    parquet.write_table(table, tmp_path / "pets.parquet")
    assert part in refusal_of(tmp_path / "pets.parquet")
    assert part in refusal_of(datasets.Dataset(table))


@pytest.mark.parametrize("memory", [4.0, 0.0])
@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8)])
def test_lists_of_numbers_are_images_in_parquet_too(shape, memory, tmp_path):
    images = pictures(10, shape)
    table = pyarrow.table({"image": images.tolist(), "label": NUMBERS})
    parquet.write_table(table, tmp_path / "pets.parquet")
    source = attar.load(tmp_path / "pets.parquet", memory=memory)
    assert whole(source) == wanted(images)
    assert source.fingerprint == attar.load(datasets.Dataset(table)).fingerprint


@pytest.mark.parametrize("kind", ["text", "struct"])
def test_paths_in_parquet_are_read_below_its_folder(kind, tmp_path):
    for number, image in enumerate(PICTURES):
        (tmp_path / "pets" / "files").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "pets" / "files" / f"{number}.png")
    (tmp_path / "pets" / "link.png").symlink_to(tmp_path / "pets" / "files" / "0.png")
    (tmp_path / "outside.png").write_bytes(png(PICTURES[0]))
    (tmp_path / "pets" / "leads out.png").symlink_to(tmp_path / "outside.png")
    file = tmp_path / "pets" / "train.parquet"

    def write(first):
        paths = [first, *(f"files/{number}.png" for number in range(1, 10))]
        cells = paths if kind == "text" else [{"bytes": None, "path": path} for path in paths]
        parquet.write_table(pyarrow.table({"image": cells, "label": NUMBERS}), file)
        return tmp_path / "pets"

    for inside in ("files/0.png", str(tmp_path / "pets" / "files" / "0.png"), "link.png", "files/../files/0.png"):
        assert whole(attar.load(write(inside))) == wanted(PICTURES)
    outside = ["../outside.png", str(tmp_path / "outside.png"), "leads out.png", "/etc/hostname", "files/../../no.png"]
    for path in outside:
        assert refusal_of(write(path)) == (
            f"row 0 of {file} names {path}, which is not below {file.parent}. Files outside the data are not read."
        )
    assert "row 0 of" in refusal_of(write("files/77.png"))


@pytest.mark.parametrize(
    "note",
    [
        b"not JSON",
        b"[]",
        b"3",
        b'{"info": null}',
        b'{"info": {"features": null}}',
        b'{"info": {"features": []}}',
        b'{"info": {"features": {"label": "ClassLabel"}}}',
        b'{"info": {"features": {"label": {"names": {"0": "cat"}}}}}',
        b'{"info": {"features": {"label": {"names": ["cat", 3]}}}}',
        b'{"info": {"features": {"label": {"names": ["cat", "cat"]}}}}',
        b"[" * 5000,
        b"\xff\xfe",
    ],
)
def test_a_note_that_cannot_be_read_is_ignored_in_one_line(note, tmp_path):
    table = parquet.read_table(write_parquet(tmp_path / "pets.parquet", PICTURES, NUMBERS))
    parquet.write_table(table.replace_schema_metadata({"huggingface": note}), tmp_path / "pets.parquet")
    source = attar.load(tmp_path / "pets.parquet")
    assert source.classes == ("0", "1")
    (line,) = source.notes
    assert line.startswith("the Hugging Face note in pets.parquet ")
    assert line.endswith(" and is ignored")


# Refusals.


@pytest.mark.parametrize("kind", [datasets.IterableDataset, datasets.IterableDatasetDict])
def test_streamed_data_sets_are_refused_with_what_to_do(kind):
    streamed = encoded(PICTURES, NUMBERS).to_iterable_dataset()
    data = streamed if kind is datasets.IterableDataset else kind(train=streamed)
    assert refusal_of(data) == (
        f"data is an {kind.__name__}, from which images cannot be drawn at random. Load it without streaming=True; "
        "attar leaves it on disk and decodes it batch by batch."
    )


def table(**columns):
    return datasets.Dataset.from_dict(columns)


@pytest.mark.parametrize(
    "data, options, sentence",
    [
        (
            encoded(PICTURES, NUMBERS, ("a", "label")),
            {},
            "dataset, train has no column 'image'. Its columns: a, label. Name one with --image.",
        ),
        (
            encoded(PICTURES, NUMBERS),
            {"label": "kind"},
            "dataset, train has no column 'kind'. Its columns: image, label. Name one with --label.",
        ),
        (
            encoded(PICTURES, [0.5] * 10),
            {},
            "column 'label' of dataset, train holds double, not integers or names. Name another with --label.",
        ),
        (encoded(PICTURES, [[0], [1]] * 5), {}, None),
        (encoded(PICTURES, [None, 1] * 5), {}, "row 0 of dataset, train has no label."),
        (encoded(PICTURES, [1, -1] * 5), {}, "row 1 of dataset, train has no label."),
        (encoded(PICTURES, ["a", None] * 5), {}, "row 1 of dataset, train has no label."),
        (
            encoded(PICTURES, ["a"] * 10),
            {},
            "dataset has only one class, 'a'; condensing needs two or more.",
        ),
        (
            table(image=["a.png"], label=[0]),
            {},
            "row 0 of dataset, train names a.png, which is missing.",
        ),
        (
            table(image=[3, 4], label=[0, 1]),
            {},
            "column 'image' of dataset, train holds int64, not images. Name another with --image.",
        ),
        (
            table(image=[[[0, 300]], [[0, 1]]], label=[0, 1]),
            {},
            "pixels of dataset, train run from 0 to 300; give 0 to 255.",
        ),
        (
            table(image=[[[0, 1]], [[0, 1, 2]]], label=[0, 1]),
            {},
            "images of dataset, train differ in size, or some have no pixels. Scale them to one size yourself.",
        ),
        (
            table(image=[[[0, 1]], [[0, 1]]], label=[0, 1]),
            {"size": 8},
            "size is for encoded pictures only, but dataset, train holds numbers. Scale them yourself.",
        ),
        (
            table(image=[[[0.5]], [[float("nan")]]], label=[0, 1]),
            {},
            "row 1 of dataset, train has pixels that are not finite (NaN or infinite).",
        ),
        (
            datasets.DatasetDict(
                train=table(image=[[[0, 1]], [[0, 1]]], label=[0, 1]), test=table(image=[[[0], [1]]], label=[0])
            ),
            {},
            "images of dataset, test differ in size. Scale them to one size yourself.",
        ),
        (
            table(image=[b"x", b"y"], label=[0, 1]),
            {},
            "2 of 2 pictures cannot be read: row 0 of dataset, train cannot be decoded as an image "
            "(UnidentifiedImageError); row 1 of dataset, train cannot be decoded as an image (UnidentifiedImageError).",
        ),
        (table(image=[], label=[]), {}, None),
        (
            datasets.DatasetDict(a=encoded(PICTURES, NUMBERS), b=encoded(PICTURES, NUMBERS)),
            {},
            "the data has no split named train. Its splits: a, b.",
        ),
        (
            datasets.DatasetDict(train=encoded(PICTURES, ["a", "b"] * 5), test=encoded(PICTURES, ["a", "c"] * 5)),
            {},
            "row 1 of dataset, test has label c, a class that the training images do not have.",
        ),
        (
            datasets.DatasetDict(
                train=encoded(PICTURES, NUMBERS, label=datasets.ClassLabel(names=["a", "b"])),
                test=encoded(PICTURES, NUMBERS, label=datasets.ClassLabel(names=["b", "a"])),
            ),
            {},
            "dataset, test numbers its classes in another way than dataset, train.",
        ),
    ],
)
def test_a_data_set_that_holds_no_labelled_images_is_refused(data, options, sentence):
    line = refusal_of(data, **options)
    assert line == sentence if sentence else "\n" not in line


@pytest.mark.parametrize("name", ["image", "label"])
def test_columns_are_not_for_data_without_any(name, tmp_path):
    (tmp_path / "cat").mkdir()
    Image.fromarray(PICTURES[0]).save(tmp_path / "cat" / "0.png")
    sentence = "image and label are names of columns, but digits and arrays do not have columns."
    assert refusal_of("digits", **{name: "x"}) == refusal_of((PICTURES, NUMBERS), **{name: "x"}) == sentence
    assert refusal_of(tmp_path, **{name: "x"}) == (
        f"image and label are names of columns, but {tmp_path} does not have columns."
    )


# Several files, and splits that number their classes in other ways.


@pytest.mark.parametrize("others", [["b", "a"], ["a", "b", "c"], ["x", "y"]])
def test_files_of_a_split_that_name_other_classes_are_refused(others, tmp_path):
    write_parquet(tmp_path / "train-0.parquet", PICTURES, NUMBERS, ["a", "b"])
    write_parquet(tmp_path / "train-1.parquet", PICTURES, NUMBERS, others)
    one, other = tmp_path / "train-0.parquet", tmp_path / "train-1.parquet"
    assert refusal_of(tmp_path) == f"{other} numbers its classes in another way than {one}."


@pytest.mark.parametrize("names", [["a", "b"], ["b", "a"]])
def test_numbered_test_labels_with_names_match_training_labels_that_are_names(names, tmp_path):
    write_parquet(tmp_path / "train.parquet", PICTURES, ["a", "b"] * 5)
    write_parquet(tmp_path / "test.parquet", PICTURES, NUMBERS, names)
    source = attar.load(tmp_path)
    assert [source.classes[label] for label in source.test.labels] == names * 5


@pytest.mark.parametrize("labels", [["", "b"] * 5, [None, "b"] * 5])
def test_a_label_without_text_is_missing(labels, tmp_path):
    file = write_parquet(tmp_path / "a.parquet", PICTURES, labels)
    assert refusal_of(file) == f"row 0 of {file} has no label."


@pytest.mark.parametrize("name", ["a\0b.png", "a" * 5000, "x" * 300 + "/y.png"])
def test_a_text_that_is_no_name_of_a_file_is_a_bad_picture(name, tmp_path):
    table(image=[name, name], label=[0, 1]).to_parquet(str(tmp_path / "a.parquet"))
    assert "which is no name of a file" in refusal_of(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "images, told",
    [
        ([np.zeros((8, 8 + wide)) for wide in range(4)], "images differ in size. Scale them to one size yourself."),
        ((number for number in range(4)), "images are object; give uint8, or floats from 0 to 1."),
        (["a", "b", "c", "d"], "images are <U1; give uint8, or floats from 0 to 1."),
        (np.zeros((4, 8, 0), np.uint8), "the images have no pixels."),
    ],
)
def test_arrays_that_are_no_images_are_refused(images, told):
    assert refusal_of((images, [0, 1, 0, 1])) == told


def test_arrays_in_any_layout_are_the_same_images():
    usual = attar.load((PICTURES, NUMBERS)).fingerprint
    backwards = np.ascontiguousarray(PICTURES[::-1])[::-1]
    locked = PICTURES.copy()
    locked.setflags(write=False)
    assert {attar.load((images, NUMBERS)).fingerprint for images in (backwards, locked)} == {usual}
    floats = attar.load((PICTURES / 255, NUMBERS)).fingerprint
    assert attar.load(((PICTURES / 255).astype(">f8"), NUMBERS)).fingerprint == floats
    assert attar.load((torch.from_numpy(PICTURES / 255).requires_grad_(), NUMBERS)).fingerprint == floats
