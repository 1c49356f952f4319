import pytest
import torch

from attar.convolution import cpo
from attar.convolution.cps import CPSConvolution, encode
from attar.convolution.geometry import Geometry
from attar.core.errors import InputError


@pytest.fixture(params=["torch", "numba"])
def backend(request):
    if request.param == "numba":
        pytest.importorskip("numba", reason="numba is not installed: pip install '.[convolution]'")
    return request.param


@pytest.fixture(params=[False, True], ids=["sets", "packed"])
def packed(request):
    return request.param


def column(*values):
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1)


def test_groups_by_hand():
    """A column of ten with kernel 3×1: indices are rows. Two non-zeros stay plain, three or four become a set."""
    geometry = Geometry(1, 1, (3, 1))
    image = column(1, 0, 2, 0, 3, 4, 0, 5, 0, 6)
    assert encode(image, geometry).indices.tolist() == [0, 2, 4, -0b1011, 9]
    assert encode(image, geometry, packed=True).indices.tolist() == [0b0101, (4 << 4) | 0b1011, (8 << 4) | 0b0010]
    full = encode(column(1, 2, 3, 4), geometry)
    assert full.indices.tolist() == [0, -0b1111]


def test_a_set_is_told_from_two_plain_indices():
    """The authors' words for rows 0, 1, 2 are {0, 7}, those for rows 0 and 7 too."""
    geometry = Geometry(1, 1, (1, 1))
    one, other = (encode(column(*values), geometry) for values in ((1, 1, 1, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0, 0, 1)))
    assert one.indices.tolist() == [0, -7]
    assert other.indices.tolist() == [0, 7]
    assert one.expand().indices.tolist() == [0, 1, 2]
    assert other.expand().indices.tolist() == [0, 7]


def test_expanding_gives_cpo_back(draw, packed):
    for _ in range(60):
        case = draw.case()
        for image in case.activation:
            encoded = cpo.encode(image, case.geometry)
            expanded = encode(image, case.geometry, packed=packed).expand()
            for name in ("channels", "pointers", "indices", "values"):
                assert torch.equal(getattr(expanded, name), getattr(encoded, name))
            assert torch.equal(encode(image, case.geometry, packed=packed).decode(), encoded.decode())


def test_multiplying_is_convolving(draw, backend, packed, equals_conv2d):
    for _ in range(40):
        case = draw.case()
        method = CPSConvolution.prepare(case.weight, case.bias, case.geometry, backend=backend, packed=packed)
        equals_conv2d(case, method(case.activation))


DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)


@pytest.mark.parametrize(
    "packed, wanted",
    [
        (False, (0.998, 0.990, 0.964, 0.923, 0.812, 0.616, 0.5)),
        (True, (0.927, 0.860, 0.738, 0.633, 0.469, 0.312, 0.25)),
    ],
    ids=["sets", "packed"],
)
def test_words_per_non_zero_on_random_maps(packed, wanted, draw):
    """Binomial groups of four: E min(b, 2) / 4d and P(b > 0) / 4d."""
    for density, expected in zip(DENSITIES, wanted, strict=True):
        image = draw.sparse(8, 100, 100, density=density)
        encoded = encode(image, Geometry(8, 1, (3, 3)), packed=packed)
        assert len(encoded.indices) / len(encoded.order.values) == pytest.approx(expected, abs=0.01)


def test_on_clustered_maps_the_sets_save_what_they_can(draw):
    image = torch.zeros(1, 16, 16)
    image[0, 4:12, 3:7] = draw.normal(8, 4)
    geometry = Geometry(1, 1, (3, 3))
    sets, plain = encode(image, geometry), cpo.encode(image, geometry)
    assert plain.words() - sets.words() == 16  # 8 groups of four become two words each
    assert sets.bytes() == plain.bytes() - 2 * 16


def test_an_empty_map(packed, draw):
    encoded = encode(torch.zeros(2, 5, 5), Geometry(2, 1, (3, 3)), packed=packed)
    assert encoded.words() == 0
    assert not encoded.decode().any()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_refused(value, draw, backend):
    image = draw.sparse(1, 2, 5, 5, density=0.5)
    image[0, 1, 4, 4] = value
    method = CPSConvolution.prepare(draw.normal(3, 2, 3, 3), None, Geometry(2, 3, (3, 3)), backend=backend)
    with pytest.raises(InputError, match="the activation has NaN or infinite values"):
        method(image)


def test_bytes_are_those_of_the_images(draw, packed):
    images = draw.sparse(2, 2, 6, 6, density=0.4)
    geometry = Geometry(2, 1, (3, 3))
    method = CPSConvolution.prepare(draw.normal(1, 2, 3, 3), None, geometry, packed=packed)
    assert method.counted_bytes(images) == sum(encode(image, geometry, packed=packed).bytes() for image in images)
