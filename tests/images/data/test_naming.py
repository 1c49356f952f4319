"""Which images are for training, for testing, or kept apart, by the names of folders, files and splits."""

import datasets
import numpy as np
import pytest
from PIL import Image

import attar
from attar.cli import main
from attar.images.data import naming
from picture_files import pictures, refusal_of, write_folder, write_parquet


def tables(root, **sizes):
    """Parquet files by their paths below a folder, with as many rows as given."""
    for number, (path, rows) in enumerate(sizes.items()):
        write_parquet(root / path, pictures(rows, seed=number), [0, 1] * (rows // 2))
    return root


def counts(source):
    return len(source.train), len(source.test), source.split


@pytest.mark.parametrize(
    "name, splits",
    [
        ("train", {"train"}),
        ("My_Train", {"train"}),
        ("train2017", {"train"}),
        ("TRAINING", {"train"}),
        ("x-eval.1", {"test"}),
        ("cifar test", {"test"}),
        ("evaluation-00000-of-00001", {"test"}),
        ("dev", {"validation"}),
        ("valid_2", {"validation"}),
        ("train_val", {"train", "validation"}),
        ("trainee", set()),
        ("latest", set()),
        ("contest", set()),
        ("développement", set()),
    ],
)
def test_a_name_means_a_split_by_a_word_between_separators(name, splits):
    assert naming.splits_in(name) == splits


def test_the_words_are_those_of_datasets():
    from datasets.data_files import NON_WORDS_CHARS, SPLIT_KEYWORDS

    assert {str(split): set(words) for split, words in SPLIT_KEYWORDS.items()} == {
        split: set(words) for split, words in naming.SPLITS.items()
    }
    assert all(naming.SEPARATORS.fullmatch(mark) for mark in NON_WORDS_CHARS)


@pytest.mark.parametrize(
    "train, test",
    [
        ("train/0000.parquet", "test/0000.parquet"),
        ("cifar_train.parquet", "cifar_test.parquet"),
        ("My_Train.PARQUET", "My_Eval.PARQUET"),
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("plain/training/a/0.parquet", "plain/evaluation/b/0.parquet"),
        ("train.parquet", "testing-2.parquet"),
        ("0.train.parquet", "0.VALID.parquet"),
        ("x/train_1.parquet", "y/test_1.parquet"),
    ],
)
def test_test_images_of_parquet_files_are_not_trained_on(train, test, tmp_path):
    source = attar.load(tables(tmp_path, **{train: 10, test: 4}))
    assert counts(source) == (10, 4, "given")
    wanted = pictures(4, seed=1).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(source.test.pixels.tensor.numpy(), wanted)


@pytest.mark.parametrize("form", ["parquet", "folder", "dictionary", "disk"])
def test_validation_images_are_kept_apart_and_told_in_all_readers(form, tmp_path):
    sizes = {"train": 10, "validation": 6, "test": 4}
    if form == "parquet":
        data = tables(tmp_path, **{f"{split}.parquet": rows for split, rows in sizes.items()})
    elif form == "folder":
        for split, rows in sizes.items():
            write_folder(tmp_path / split, a=pictures(rows // 2), b=pictures(rows // 2))
        data = tmp_path
    else:
        each = {
            split: datasets.Dataset.from_dict({"image": list(pictures(rows)), "label": [0, 1] * (rows // 2)})
            for split, rows in sizes.items()
        }
        data = datasets.DatasetDict(each)
        if form == "disk":
            data.save_to_disk(tmp_path / "saved")
            data = tmp_path / "saved"
    source = attar.load(data)
    assert counts(source) == (10, 4, "given")
    assert source.notes == ("validation images are kept apart: 6 images are not used",)
    assert "note: validation images are kept apart" in str(source)


def test_without_a_word_all_files_are_one_set_which_is_told(tmp_path):
    source = attar.load(tables(tmp_path, **{"latest.parquet": 10, "contest/x.parquet": 10}))
    assert source.split == "80/20 by seed 0"
    assert source.notes == ("no name of the 2 parquet files says train or test: they are read as one set",)


def test_a_file_that_no_name_assigns_is_left_out_and_told(tmp_path):
    source = attar.load(tables(tmp_path, **{"train.parquet": 10, "trainee.parquet": 2, "test.parquet": 4}))
    assert counts(source)[:2] == (10, 4)
    assert source.notes == ("left out, because no name says which split it is: trainee.parquet",)


def test_shards_below_data_are_of_the_split_before_their_number(tmp_path):
    names = {f"data/train-0000{part}-of-00002.parquet": 10 for part in range(2)}
    names |= {"data/train_small-00000-of-00001.parquet": 2, "data/test-00000-of-00001.parquet": 4}
    source = attar.load(tables(tmp_path, **names))
    assert counts(source)[:2] == (20, 4)
    assert "train_small" in source.notes[0]


@pytest.mark.parametrize(
    "names, part",
    [
        (["train/my_test.parquet", "train/a.parquet"], "train/my_test.parquet in"),
        (["train_test.parquet", "a.parquet"], "train_test.parquet in"),
        (["test.parquet"], "has no training images, only test (test.parquet)"),
        (["val.parquet", "test.parquet"], "has no training images, only validation"),
        (["test.parquet", "other.parquet"], "other.parquet may be training images, but no name says so"),
        (["data/train_a-00000-of-00001.parquet", "data/train_b-00000-of-00001.parquet"], "has several train splits"),
    ],
)
def test_parquet_files_whose_names_are_ambiguous_are_refused(names, part, tmp_path):
    assert part in refusal_of(tables(tmp_path, **dict.fromkeys(names, 4)))


def test_a_file_given_by_itself_is_read_whatever_its_name(tmp_path):
    assert counts(attar.load(tables(tmp_path, **{"test.parquet": 10}) / "test.parquet")) == (8, 2, "80/20 by seed 0")


def test_splits_of_a_dictionary_are_found_by_their_words():
    def rows(count):
        return datasets.Dataset.from_dict({"image": list(pictures(count)), "label": [0, 1] * (count // 2)})

    splits = {"cifar_training": rows(10), "Testing": rows(4), "extra": rows(2)}
    source = attar.load(datasets.DatasetDict(splits))
    assert counts(source) == (10, 4, "given")
    assert source.notes == ("left out, because no name says which split it is: extra",)
    assert "only test (test)" in refusal_of(datasets.DatasetDict(test=rows(4)))
    assert "several test splits: test, testing" in refusal_of(
        datasets.DatasetDict(train=rows(4), test=rows(4), testing=rows(4))
    )


def test_a_split_without_labels_is_not_tested_on(tmp_path):
    tables(tmp_path, **{"train.parquet": 10, "valid.parquet": 6})
    write_parquet(tmp_path / "test.parquet", pictures(4), [None] * 4, columns=("image", "number"))
    source = attar.load(tmp_path)
    assert counts(source) == (10, 6, "given")
    assert source.notes[0] == "the test images have no labels and are not used"


# Folders of pictures.


def folder(root, shape):
    """Pictures in nested folders: {name: {...} or a number of pictures}."""
    for name, inside in shape.items():
        if isinstance(inside, dict):
            folder(root / name, inside)
        else:
            write_folder(root, **{name: pictures(inside)})
    return root


PETS, FEW = {"cat": 5, "dog": 5}, {"cat": 2, "dog": 2}


@pytest.mark.parametrize(
    "shape",
    [
        {"training": PETS, "testing": FEW},
        {"Train": PETS, "TEST": FEW},
        {"pets": {"train": PETS, "test": FEW}},
        {"seg_train": {"seg_train": PETS}, "seg_test": {"seg_test": FEW}, "seg_pred": {"seg_pred": 3}},
        {"cat": {"train": 5, "test": 2}, "dog": {"train": 5, "test": 2}},
        {"train": PETS, "val": FEW, "test": 3},
        {"train": PETS, "eval": FEW, "extra": PETS},
    ],
)
def test_folders_named_after_splits_are_splits(shape, tmp_path):
    source = attar.load(folder(tmp_path, shape))
    assert source.classes == ("cat", "dog")
    assert counts(source) == (10, 4, "given")


@pytest.mark.parametrize(
    "shape, classes",
    [
        ({"train": 5, "car": 5, "bus": 5}, ("bus", "car", "train")),
        ({"bullet train": {"images": 5}, "dog": {"images": 5}}, ("bullet train", "dog")),
        ({"test tube": 5, "dog": 5}, ("dog", "test tube")),
        ({"cat": {"a": 5, "b": 5}, "dog": {"c": 5}}, ("cat", "dog")),
        ({"pets": PETS}, ("cat", "dog")),
    ],
)
def test_classes_whose_names_have_such_words_are_classes(shape, classes, tmp_path):
    source = attar.load(folder(tmp_path, shape))
    assert (source.classes, source.split) == (classes, "80/20 by seed 0")


@pytest.mark.parametrize(
    "shape, part",
    [
        ({"learn": PETS, "proof": FEW}, "all have folders cat, dog, so they may be splits or classes"),
        ({"train": 5, "test": 5}, "their pictures lie in no folders of classes"),
        ({"cat": 5, "dog": 5, "test": 3}, "lies beside folders of classes"),
        ({"test": PETS}, "has no training images, only test"),
        ({"learn": PETS, "test": FEW}, "learn may be training images, but no name says so"),
        ({"train": {"steam": 3, "diesel": 3}, "car": {"suv": 3, "van": 3}}, "car, which has other folders inside"),
        ({"train_test": PETS, "a": {"b": 2}}, "names several splits: test, train"),
        ({"cat": {"train": 3, "test": 3, "more": 3}, "dog": {"train": 3, "test": 3}}, "not all pictures lie in these"),
    ],
)
def test_folders_that_are_ambiguous_are_refused(shape, part, tmp_path):
    assert part in refusal_of(folder(tmp_path, shape))


def test_an_empty_test_folder_is_not_passed_over(tmp_path):
    folder(tmp_path, {"train": PETS})
    (tmp_path / "test").mkdir()
    assert refusal_of(tmp_path).startswith(f"{tmp_path / 'test'} has no folders of pictures.")


@pytest.mark.parametrize("words, split", [(("train", "test"), "given"), (("steam train", "crash test"), "given")])
def test_names_of_pictures_divide_them_if_all_have_a_word(words, split, tmp_path):
    for label in PETS:
        (tmp_path / label).mkdir()
        for word in words:
            for number in range(3):
                Image.fromarray(pictures(1, seed=number)[0]).save(tmp_path / label / f"{word}_{number}.png")
    source = attar.load(tmp_path)
    assert counts(source) == (6, 6, split)
    Image.fromarray(pictures(1)[0]).save(tmp_path / "cat" / "another.png")
    other = attar.load(tmp_path)
    assert other.split == "80/20 by seed 0"
    assert "12 of 13 pictures have a word for a split in their names" in other.notes[0]


def test_files_that_are_not_read_are_counted_and_told(tmp_path, capsys):
    folder(tmp_path, PETS)
    write_parquet(tmp_path / "metadata.parquet", pictures(4), [0, 1, 0, 1])
    (tmp_path / "emu").mkdir()
    for name in ("emu/1.xyz", "cat/2.xyz", "cat/notes.txt"):
        (tmp_path / name).write_text("nothing to see", encoding="utf-8")
    main(["data", str(tmp_path)])
    said = capsys.readouterr().out
    assert "2 classes" in said
    assert "note: 3 files ignored: 2 × .xyz, 1 × .txt\n" in said
    assert "note: parquet files without images of their own are ignored: metadata.parquet\n" in said
    assert "note: folders without pictures: emu\n" in said


@pytest.mark.parametrize("place", ["metadata.parquet", "train/metadata.parquet", "captions.parquet"])
def test_metadata_beside_pictures_hide_none(place, tmp_path):
    folder(tmp_path, {"train": PETS, "test": FEW})
    columns = ("file", "text") if place == "captions.parquet" else ("image", "label")
    write_parquet(tmp_path / place, pictures(4), [0, 1, 0, 1], columns=columns)
    assert counts(attar.load(tmp_path)) == (10, 4, "given")


def test_images_in_parquet_and_in_folders_are_ambiguous(tmp_path):
    tables(folder(tmp_path, PETS), **{"train.parquet": 10})
    assert refusal_of(tmp_path).endswith(
        "holds images in train.parquet and pictures in folders (cat, dog). Give one of them."
    )


def test_links_to_folders_in_a_circle_end(tmp_path):
    folder(tmp_path, PETS)
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    assert len(attar.load(tmp_path).train) == 8


# Class names in order.


@pytest.mark.parametrize(
    "names, wanted",
    [
        ([str(n) for n in range(12)], [str(n) for n in range(12)]),
        (["class 10", "class 2", "class 1"], ["class 1", "class 2", "class 10"]),
        (["-1", "30", "7", "0.5"], ["-1", "0.5", "7", "30"]),
        (["n02", "n1", "cat"], ["cat", "n1", "n02"]),
        (["01", "1", "0"], ["0", "01", "1"]),
    ],
)
def test_numbers_in_names_count_by_their_value(names, wanted):
    assert naming.in_order(names) == naming.in_order(reversed(names)) == wanted


@pytest.mark.parametrize("form", ["folder", "text", "numbers"])
def test_classes_named_by_numbers_are_in_the_order_of_numbers(form, tmp_path):
    if form == "folder":
        source = attar.load(folder(tmp_path, {str(n): 3 for n in range(12)}))
    else:
        labels = [n if form == "numbers" else str(n) for n in range(12)] * 3
        source = attar.load(write_parquet(tmp_path / "a.parquet", pictures(36), labels))
    assert source.classes == tuple(map(str, range(12)))


# Names of data.


def test_a_folder_with_the_name_of_the_bundled_set_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "digits", PETS)
    assert attar.load("digits").notes == (
        "this is the bundled set; for the file or folder of that name here give ./digits",
    )
    assert attar.load("./digits").classes == attar.load(tmp_path / "digits").classes == ("cat", "dog")


@pytest.mark.parametrize(
    "typed, near",
    [("./digts", "./digits"), ("data/mnst", "data/mnist"), ("mnst", "mnist"), ("data/mnist/trian", "data/mnist/train")],
)
def test_the_nearest_name_here_is_offered_before_the_hub(typed, near, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", lambda *a: pytest.fail("asked the hub"))
    for name in ("digits", "mnist", "data/mnist/train"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    assert refusal_of(typed).startswith(f"unknown data {typed!r}; did you mean {near!r}?")


def test_another_number_in_a_name_may_be_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar100").mkdir()
    assert "did you mean 'cifar100'? The hub: " in refusal_of("cifar10")


# Layouts that only resemble splits, and splits that are empty.


def test_folders_of_the_form_split_equals_word_are_splits(tmp_path):
    source = attar.load(tables(tmp_path, **{"split=train/part-0.parquet": 10, "split=test/part-0.parquet": 4}))
    assert counts(source) == (10, 4, "given")


@pytest.mark.parametrize(
    "names", [("trainset", "testset"), ("TrainImages", "TestImages"), ("cifartrain", "cifarval"), ("trains1", "evals1")]
)
def test_files_whose_names_resemble_splits_are_not_read_as_one_set(names, tmp_path):
    tables(tmp_path, **{f"{name}.parquet": 4 for name in names})
    told = refusal_of(tmp_path)
    assert "may be splits" in told
    assert all(f"{name}.parquet" in told for name in names)


def test_other_names_are_still_read_as_one_set(tmp_path):
    assert len(attar.load(tables(tmp_path, **{"part1.parquet": 10, "trains.parquet": 10})).train) == 16


@pytest.mark.parametrize("above", ["ILSVRC/Data/CLS-LOC", "a/b/c/d", "archive/pets"])
def test_folders_above_the_splits_or_classes_may_be_many(above, tmp_path):
    folder(tmp_path / "one" / above, {"train": PETS, "test": FEW})
    assert counts(attar.load(tmp_path / "one")) == (10, 4, "given")
    folder(tmp_path / "two" / above, PETS)
    assert attar.load(tmp_path / "two").classes == ("cat", "dog")


def test_a_test_split_without_rows_is_told_as_such(tmp_path):
    write_parquet(tmp_path / "train.parquet", pictures(10), [0, 1] * 5)
    write_parquet(tmp_path / "test.parquet", [], [])
    assert attar.load(tmp_path).notes == ("the test split has no images",)
    pets = datasets.Dataset.from_dict({"image": [Image.fromarray(one) for one in pictures(4)], "label": [0, 1] * 2})
    splits = datasets.DatasetDict(train=pets, test=pets.select([]), validation=pets)
    assert attar.load(splits).notes == (
        "the test split has no images",
        "the validation images are the test images, because no others have labels",
    )


def test_a_class_with_test_pictures_only_is_refused_in_every_layout(tmp_path):
    folder(tmp_path, {"cat": {"train": 2, "test": 2}, "dog": {"test": 2}})
    told = f"the test images of {tmp_path} have pictures of 'dog', but its training images do not."
    assert refusal_of(tmp_path) == told


def test_an_empty_name_is_not_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(folder(tmp_path, PETS))
    assert refusal_of("") == "data has no name; give a name or a path."


def test_files_that_are_not_read_are_told_where_nothing_else_lies(tmp_path):
    for name in ("cat/0.npy", "dog/0.npy", "dog/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert refusal_of(tmp_path).endswith("for each class (3 files ignored: 2 × .npy, 1 × without an ending).")
