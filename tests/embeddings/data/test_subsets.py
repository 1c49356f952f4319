"""Novel classes, long tails, a number of samples; arrays; and the split of an encoder."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from attar.core.errors import InputError
from attar.core.provenance import asked_for
from attar.core.runtime import Engine, Runtime
from attar.embeddings.data.load import load
from attar.embeddings.data.splits import own_split
from attar.embeddings.data.subsets import Joined, long_tail, novel_classes
from attar.embeddings.sources import Source
from attar.images.data.pixels import InMemory

ROWS = np.random.default_rng(0).normal(size=(200, 3))
ONE = np.arange(200) % 5
SEVERAL = np.stack([ONE == 0, ONE < 2, ONE > 2], axis=1)
NAMES = ("Greek/1", "Greek/2", "Latin/1", "Latin/2", "Thai/1")


def refusal(*data, **options):
    with pytest.raises(InputError) as caught:
        load(*data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Novel classes.


@pytest.mark.parametrize(
    "words, wanted",
    [
        (("Latin",), (2, 3)),
        (("Thai/1", "Greek/2"), (1, 4)),
        (("0", "3"), (0, 3)),
        (("0.4",), None),
        (("Greek", "0"), (0, 1)),
    ],
)
def test_novel_classes_are_names_beginnings_numbers_or_a_share(words, wanted):
    found = novel_classes(NAMES, words, 0)
    assert found == wanted if wanted else len(found) == 2
    assert found == novel_classes(NAMES, words, 0)
    assert len(novel_classes(NAMES, ("0.99",), 0)) == 4
    assert novel_classes(("0", "0.5", "2"), ("0.5",), 0) == (1,)  # a name comes first


def test_a_share_is_drawn_by_the_split_seed():
    assert len({novel_classes(tuple(map(str, range(30))), ("0.5",), seed) for seed in range(4)}) == 4
    source = load((ROWS, ONE), novel=("0.4",))
    assert (source.split, len(source.novel), len(source.classes)) == ("novel classes by seed 0", 2, 3)
    assert source.at(1).split == "novel classes by seed 1" and source.at(0).fingerprint == source.fingerprint


def test_all_samples_of_novel_classes_are_test_samples():
    pairs = ((ROWS[:150], ONE[:150]), (ROWS[150:], ONE[150:]))
    for data in ((ROWS, ONE), pairs):
        source = load(data, novel=("1", "4"))
        assert (source.classes, source.novel) == (("0", "2", "3"), ("1", "4"))
        known = {tuple(row): label for row, label in zip(ROWS.astype(np.float32).tolist(), ONE, strict=True)}
        for part, names in ((source.train, source.classes), (source.test, source.novel)):
            rows = part.samples.tensor.tolist()
            assert [str(known[tuple(row)]) for row in rows] == [names[label] for label in part.labels]
        assert (len(source.train), len(source.test)) == (120, 80)
    assert any("the split of the samples is not regarded" in note for note in source.notes)


def test_parts_that_stay_on_disk_are_joined():
    tensor = torch.arange(10 * 3 * 4 * 4, dtype=torch.uint8).view(10, 3, 4, 4)
    joined = Joined(InMemory(tensor[:6]), InMemory(tensor[6:]), torch.arange(10))
    for rows in (torch.tensor([8, 1, 9, 0]), torch.tensor([2]), torch.tensor([7, 7])):
        assert torch.equal(joined[rows], tensor[rows])
        assert torch.equal(joined.select(rows)[torch.arange(len(rows))], tensor[rows])
    assert b"".join(joined.content()) != b"".join(joined.select(torch.arange(10).flip(0)).content())
    assert (len(joined), joined.shape) == (10, (3, 4, 4))


@pytest.mark.parametrize(
    "data, novel, message",
    [
        (
            (ROWS, SEVERAL),
            ("1",),
            "--novel needs samples with one label each, but those of arrays have several labels each.",
        ),
        ((ROWS, None), ("1",), "--novel needs samples with one label each, but those of arrays have no labels."),
        ((ROWS, ONE), ("9",), "unknown novel class '9'. Known: 0, 1, 2, 3, 4."),
        ((ROWS, ONE), ("0", "1", "2", "3", "4"), "all 5 classes are novel, so none is left to learn from. Name fewer."),
    ],
)
def test_novel_classes_that_cannot_be_are_refused(data, novel, message):
    assert refusal(data, novel=novel) == message


# Long tails and numbers.


def test_a_long_tail_falls_geometrically():
    labels = torch.arange(10).repeat_interleave(500)
    sizes = labels[long_tail(labels, 10, 100.0, 0)].bincount()
    assert sizes.tolist() == [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]
    uneven = torch.tensor([0] * 90 + [1] * 1000 + [2] * 20)
    assert uneven[long_tail(uneven, 3, 9.0, 0)].bincount().tolist() == [90, 30, 10]
    assert torch.equal(long_tail(uneven, 3, 1.0, 0).sum(), torch.tensor(60))


def test_training_samples_are_thinned_and_the_test_samples_are_not():
    plain, thin = load((ROWS, ONE)), load((ROWS, ONE), imbalance=8.0, limit=40)
    assert thin.test.labels.tolist() == plain.test.labels.tolist() and len(thin.train) == 40
    sizes = thin.train.labels.bincount().tolist()
    assert sizes == sorted(sizes, reverse=True) and sizes[0] >= 6 * sizes[-1]
    assert thin.at(1).fingerprint != thin.fingerprint == thin.at(0).fingerprint
    assert "training samples are thinned to a long tail of ratio 8" in thin.notes
    few = load((ROWS, SEVERAL), limit=50)
    shares = [one.train.labels.double().mean(dim=0) for one in (few, load((ROWS, SEVERAL)))]
    torch.testing.assert_close(shares[0], shares[1], atol=0.03, rtol=0)
    assert len(load((ROWS, None), limit=7).train) == 7


def test_what_cannot_be_thinned_is_refused():
    message = "--imbalance needs samples with one label each, but those of arrays have several labels each."
    assert refusal((ROWS, SEVERAL), imbalance=10.0) == message
    assert refusal((ROWS, ONE), limit=3) == "class '3' of arrays is left without training samples. Raise --limit."
    assert refusal((ROWS, ONE), size=8) == "size and statistics are settings of pictures, but arrays is a table."
    assert refusal((ROWS, ONE), imbalance=0.5) == "imbalance is 0.5; it must be at least 1."
    assert refusal((ROWS, ONE), limits=3).startswith("unknown setting of Reading 'limits'; did you mean 'limit'?")


# Arrays.


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, lambda array: np.asarray(array).tolist()])
def test_arrays_of_several_labels(kind):
    for labels in (SEVERAL, SEVERAL.astype(int), SEVERAL.astype(float)):
        source = load((kind(ROWS), kind(labels)))
        assert (source.labelled, source.classes, source.shape) == ("several", ("0", "1", "2"), (3,))
        assert source.train.labels.dtype == torch.bool


def test_arrays_of_one_label_or_none():
    assert load((ROWS, [("p", "q")[n % 2] for n in range(200)])).classes == ("p", "q")
    assert load(ROWS).labelled == load((ROWS, None)).labelled == "none"
    given = load(((ROWS[:150], SEVERAL[:150]), (ROWS[150:], SEVERAL[150:])))
    assert (given.split, len(given.train), len(given.test)) == ("given", 150, 50)
    images = load((np.zeros((20, 8, 8), dtype=np.uint8), np.eye(2, dtype=int)[np.arange(20) % 2]))
    assert (images.shape, images.labelled) == ((1, 8, 8), "several")


@pytest.mark.parametrize(
    "data, message",
    [
        (
            (ROWS, ONE[:-1]),
            "there are 200 samples but labels of shape (199,); give [200], or [200, classes] of 0 and 1.",
        ),
        (
            (ROWS, SEVERAL[:-1]),
            "there are 200 samples but labels of shape (199, 3); give [200], or [200, classes] of 0 and 1.",
        ),
        ((ROWS, ONE - 1), "the label of sample 0 is -1; give class numbers from 0 on, or names."),
        ((ROWS, ONE / 2), "the label of sample 1 is 0.5; give class numbers from 0 on, or names."),
        ((ROWS, SEVERAL * 2), "label 0 of sample 0 is 2; give 0 or 1."),
        ((ROWS, SEVERAL - 0.5), "label 0 of sample 0 is 0.5; give 0 or 1."),
        ((ROWS, SEVERAL & False), "no training sample of the arrays has a label. Give 1 where a sample has one."),
        ((np.where(ROWS > 2, np.nan, ROWS), ONE), None),
        ((ROWS * 1e200, ONE), None),
        ((ROWS.astype(str), ONE), "samples are <U32; give numbers."),
        ((ROWS[:0], ONE[:0]), "samples have shape (0, 3); give at least one row and one column."),
        (([[1, 2], [3], [4]], [0, 1, 0]), "samples have rows of different lengths; give an array."),
        (
            ((ROWS, ONE), (ROWS[:, :2], ONE)),
            "training samples have shape (3,), test samples (2,); give the same shape.",
        ),
        (((ROWS, ONE), (ROWS, ONE + 1)), "a test sample has label 5, which no training sample has."),
        (((ROWS, ONE), (ROWS, None)), "one of two parts has no labels; give labels of both, or of none."),
        (
            5,
            "data is of type int; give a name, a path, or a pair (samples, labels), or two such pairs for training and "
            "testing; labels may be None.",
        ),
    ],
)
def test_arrays_that_are_wrong_are_refused(data, message):
    assert refusal(data) == message if message else "column" in refusal(data)


# Splits and provenance.


def made_of(source, seed=0, split_seed=None):
    call = None if split_seed is None else {"reading": {"split_seed": split_seed}}
    origin = SimpleNamespace(fingerprint=source.fingerprint, source=source.name, method="simclr", seed=seed, call=call)
    return SimpleNamespace(origin=origin, normalise=source.transform)


def test_an_encoder_is_tested_on_its_own_split():
    said: list[str] = []
    runtime = Runtime(Engine(device="cpu"), 0, say=said.append)
    zero = load((ROWS, SEVERAL))
    assert own_split(made_of(zero), zero, runtime) is zero and said == []
    three = zero.at(3)
    for made in (made_of(three, seed=3), made_of(three, split_seed=3)):
        assert own_split(made, zero, runtime).fingerprint == three.fingerprint
    assert said == ["simclr is tested on the split that it was trained with (80/20 by seed 3)."] * 2
    with pytest.raises(InputError, match="may have been trained on test samples"):
        own_split(made_of(three), zero, runtime)
    other = load("digits")
    assert own_split(made_of(three), other, runtime) is other
    assert said[-1] == "note: simclr was trained on arrays, not on digits."


def test_a_source_remembers_how_it_was_asked_for():
    source = load("digits", limit=500, novel=("1", "2"))
    name, how = asked_for(source)
    assert (name, how["limit"], how["novel"]) == ("digits", 500, ["1", "2"])
    assert load(name, **how).fingerprint == source.fingerprint
    assert load(source) is source and isinstance(source, Source)


def test_image_sources_are_taken_as_they_are(shapes):
    source = load(shapes)
    assert (source.transform, source.split, source.labelled) == (shapes.transform, shapes.split, "one")
    assert torch.equal(source.train.labels, shapes.train.labels)


def test_data_sets_of_the_hub_are_read_by_their_columns(monkeypatch):
    import datasets

    columns = {"a": ROWS[:, 0], "b": ROWS[:, 1], "x": ONE % 2, "y": ONE // 2 % 2}
    table = datasets.Dataset.from_dict(columns)
    halves = datasets.DatasetDict(train=table.select(range(150)), test=table.select(range(150, 200)))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: halves)
    source = load("somebody/table")
    assert (source.name, source.classes, source.split) == ("table", ("x", "y"), "given")
    assert (len(source.train), len(source.test)) == (150, 50)


def test_a_folder_with_the_name_of_bundled_data_is_given_as_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(Path("mosaics")).name == "mosaics"
    (tmp_path / "mosaics").mkdir()
    with pytest.raises(InputError, match="mosaics holds neither tables nor pictures"):
        load(Path("mosaics"))
    note = "this is the bundled set; for the file or folder of that name here give ./mosaics"
    assert note in load("mosaics").notes
