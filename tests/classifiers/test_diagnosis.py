import pytest
import torch

from attar.classifiers.diagnosis import diagnose, geometry
from attar.core.errors import InputError
from attar.images.networks.architecture import Architecture


def simplex(classes):
    return torch.eye(classes, dtype=torch.float64) - 1 / classes


def test_a_collapsed_network_is_told_so():
    labels = torch.arange(4).repeat(5)
    corners = 3 * simplex(4)
    embedding = corners[labels] + 7
    found = geometry(embedding, embedding @ corners.T, labels, corners, 4)
    for value in (found.within, found.lengths, found.angles, found.duality):
        assert abs(value) < 1e-9
    assert found.disagreement == 0
    assert abs(found.rank - 3) < 1e-9


def test_each_number_rises_with_what_it_measures():
    labels = torch.arange(4).repeat(50)
    corners, noise = simplex(4), torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = corners[labels] + 0.05 * noise
    base = geometry(plain, plain @ corners.T, labels, corners, 4)
    wide = corners[labels] + 0.2 * noise
    assert geometry(wide, wide @ corners.T, labels, corners, 4).within > 4 * base.within
    long = plain * torch.tensor([1.0, 2.0, 1.0, 1.0])[labels, None]
    assert geometry(long, long @ corners.T, labels, corners, 4).lengths > base.lengths + 0.1
    turned = geometry(plain, plain @ corners.roll(1, 0).T, labels, corners.roll(1, 0), 4)
    assert turned.duality > base.duality + 0.5
    assert turned.disagreement > 99
    flat = geometry(plain, plain @ corners.T, labels, corners[:1].expand(4, 4), 4)
    assert flat.rank < 1.01


def test_scale_and_shift_of_features_do_not_matter():
    draw = torch.Generator().manual_seed(1)
    embedding, weights = (torch.randn(n, 6, generator=draw, dtype=torch.float64) for n in (60, 3))
    labels, logits = torch.arange(3).repeat(20), embedding @ weights.T
    one, two = geometry(embedding, logits, labels, weights, 3), geometry(5 * embedding + 2, logits, labels, weights, 3)
    assert one.within == pytest.approx(two.within)
    assert one.angles == pytest.approx(two.angles)
    assert one.disagreement == two.disagreement


def test_it_reads_a_network(few_digits):
    network = Architecture(width=4, norm="batch").build((1, 8, 8), 10, torch.Generator().manual_seed(0))
    found = diagnose(network, [(few_digits.inputs(torch.arange(120)), few_digits.targets)], 10)
    assert found.within > 0
    assert 1 <= found.rank <= 10
    assert "classifier of rank" in str(found)


def test_what_cannot_be_diagnosed_is_refused():
    weights, labels = torch.ones(3, 2, dtype=torch.float64), torch.tensor([0, 1])
    embedding = torch.ones(2, 2, dtype=torch.float64)
    with pytest.raises(InputError, match="class 2 has no sample"):
        geometry(embedding, torch.zeros(2, 3, dtype=torch.float64), labels, weights, 3)
    with pytest.raises(InputError, match="not finite"):
        geometry(embedding * torch.nan, torch.zeros(2, 3, dtype=torch.float64), labels, weights, 3)
