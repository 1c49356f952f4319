import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.embeddings.data.load import load
from attar.embeddings.sources import Source, Standard

ROWS = torch.randn(300, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 10
LABELS = torch.stack([ROWS[:, 0] > 10, ROWS[:, 1] > 14, ROWS[:, 2] > 10], dim=1)


@pytest.fixture(scope="module")
def table():
    return load((ROWS, LABELS))


def test_standardised_rows_have_mean_zero_and_deviation_one(table):
    inputs = table.inputs(torch.arange(len(table.train)))
    torch.testing.assert_close(inputs.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    constant = Standard.of(torch.tensor([[5.0, 1.0], [5.0, 3.0]]))
    assert constant.forward(torch.tensor([[5.0, 2.0]])).tolist() == [[0.0, 0.0]]


def test_rows_of_a_class_are_those_with_its_label(table):
    for number, rows in enumerate(table.rows_of):
        assert torch.equal(rows, table.train.labels[:, number].nonzero().flatten())
    with pytest.raises(InputError, match="has no labels"):
        _ = load((ROWS, None)).rows_of


def test_held_out_rows_have_the_shares_of_labels_of_the_whole(table):
    learn, held = table.held_out(0.2, seed=1)
    assert torch.equal(torch.cat([learn, held]).sort().values, torch.arange(len(table.train)))
    shares = [table.train.labels[rows].double().mean(dim=0) for rows in (held, torch.arange(len(table.train)))]
    torch.testing.assert_close(shares[0], shares[1], atol=0.03, rtol=0)
    assert torch.equal(table.held_out(0.2, seed=1)[1], held)
    assert not torch.equal(table.held_out(0.2, seed=2)[1], held)
    assert [len(rows) for rows in table.held_out(0)] == [len(table.train), 0]
    with pytest.raises(InputError, match="takes 0 of 240 training samples"):
        load((ROWS, None)).held_out(0.001)


@pytest.mark.parametrize("change", ["sample", "label", "caption", "order"])
def test_a_fingerprint_changes_with_anything(change):
    source = load("mosaics", mosaics=40, test_mosaics=10)
    part, train = source.train, source.train
    if change == "sample":
        train.samples.tensor[0, 0, 0, 0] += 1
    if change == "label":
        train.labels[0, 0] = ~train.labels[0, 0]
    if change == "caption":
        part = type(train)(train.samples, train.labels, ("another", *train.captions[1:]))
    if change == "order":
        part = train.select(torch.arange(len(train)).flip(0))
    changed = Source(source.name, source.classes, part, source.test, source.transform)
    assert changed.fingerprint != load("mosaics", mosaics=40, test_mosaics=10).fingerprint


def test_images_of_the_kind_images_keep_their_split():
    source = Source.of_images(attar.load("digits"))
    assert (source.labelled, source.split, source.again) == ("one", "given", None)
    pixels, labels = torch.randint(0, 255, (40, 1, 8, 8), dtype=torch.uint8), torch.arange(40) % 2
    images = attar.load((pixels, labels))
    assert Source.of_images(images).at(3).fingerprint == Source.of_images(images.at(3)).fingerprint
    assert load((pixels, labels), split_seed=3).train.labels.tolist() == images.at(3).train.labels.tolist()


def test_a_source_in_words(table):
    line = "arrays: 240 training and 60 test samples, 3 classes, several labels each, 4 features, split 80/20 by seed 0"
    assert str(table).splitlines()[0] == line
