import pytest
import torch

from attar.convolution import cpo, cps
from attar.convolution.cpo import CPOConvolution, arrays, encode
from attar.convolution.cps import CPSConvolution
from attar.convolution.geometry import Geometry
from attar.core.errors import InputError


@pytest.fixture(params=["torch", "numba"])
def backend(request):
    if request.param == "numba":
        pytest.importorskip("numba", reason="numba is not installed: pip install '.[convolution]'")
    return request.param


def by_the_definition(image, geometry):
    """IN and DA of one image, column after column, as the sheet has it."""
    (kernel, step), (down, right) = (geometry.kernel[1], geometry.stride[1]), geometry.padding
    padded = torch.nn.functional.pad(image, (right, right, down, down))
    windows = (padded.shape[2] - kernel) // step + 1
    indices, values = [], []
    for plane in padded:
        for t in range(-(-kernel // step)):
            for s in range(windows):
                for j in range(plane.shape[1]):
                    low, high = max(0, -(-(j - kernel + 1) // step)), min(windows - 1, j // step)
                    if (high - low, low) != (t, s):
                        continue
                    for i in range(plane.shape[0]):
                        if plane[i, j] != 0:
                            indices.append(i * kernel + j - low * step)
                            values.append(float(plane[i, j]))
    return indices, values


def test_the_order_of_storage_is_that_of_the_definition(draw):
    for _ in range(20):
        case = draw.case(density=0.4, channels=2)
        encoded = encode(case.activation[0], case.geometry)
        indices, values = by_the_definition(case.activation[0], case.geometry)
        assert (encoded.indices.tolist(), encoded.values.tolist()) == (indices, values)


def test_an_example_by_hand():
    """One row of five, kernel 1×3: column 0 is alone in window 0, column 2 in all three, columns 1 and 3 in two."""
    encoded = encode(torch.tensor([[[1.0, 2.0, 3.0, 0.0, 5.0]]]), Geometry(1, 1, (1, 3)))
    assert encoded.values.tolist() == [1.0, 5.0, 2.0, 3.0]
    assert encoded.indices.tolist() == [0, 2, 1, 2]
    assert encoded.pointers.tolist() == [[[0, 1, 1, 2], [2, 3, 3, 3], [3, 4, 4, 4]]]


def test_decoding_gives_the_map_back(draw):
    for _ in range(60):
        case = draw.case()
        place, image = case.geometry, case.activation[0]
        decoded = encode(image, place).decode()
        whole = place.stride[1] <= place.kernel[1] and (
            (image.shape[2] + 2 * place.padding[1] - place.kernel[1]) % place.stride[1] == 0
        )
        seen = decoded != 0
        assert torch.equal(decoded[seen], image[seen])
        if whole:  # no column is left out
            assert torch.equal(decoded, image)


def test_every_non_zero_is_stored_once(draw):
    for _ in range(40):
        case = draw.case()
        place, image = case.geometry, case.activation[0]
        stored = len(encode(image, place).values)
        if (
            place.stride[1] <= place.kernel[1]
            and (image.shape[2] + 2 * place.padding[1] - place.kernel[1]) % (place.stride[1]) == 0
        ):
            assert stored == int(image.count_nonzero())
        assert stored <= int(image.count_nonzero())


def test_multiplying_is_convolving(draw, backend, equals_conv2d):
    for _ in range(60):
        case = draw.case()
        equals_conv2d(
            case, CPOConvolution.prepare(case.weight, case.bias, case.geometry, backend=backend)(case.activation)
        )


@pytest.mark.parametrize(
    "height, width, kernel, stride",
    [
        (5, 4, (3, 3), (1, 1)),
        (6, 7, (2, 2), (1, 3)),
        (1, 9, (1, 7), (1, 1)),
        (9, 1, (7, 1), (1, 1)),
        (3, 3, (3, 3), (2, 2)),
    ],
)
@pytest.mark.parametrize("density", [0, 0.3, 1])
def test_the_awkward_cases(height, width, kernel, stride, density, draw, backend):
    """Iw < 2Kw - 1, Sw > Kw, one row, one column, one window; nothing, something, everything."""
    image = draw.sparse(1, 3, height, width, density=density)
    weight = draw.normal(5, 3, *kernel)
    geometry = Geometry.of_weight(weight, stride=stride)
    made = CPOConvolution.prepare(weight, None, geometry, backend=backend)(image)
    torch.testing.assert_close(made, torch.nn.functional.conv2d(image, weight, stride=stride), rtol=1e-4, atol=1e-4)


def test_a_single_non_zero(draw, backend):
    weight = draw.normal(4, 2, 3, 3)
    geometry = Geometry.of_weight(weight, padding=1)
    for place in ((0, 0, 0), (1, 2, 3), (0, 4, 4)):
        image = torch.zeros(1, 2, 5, 5)
        image[(0, *place)] = 2.5
        made = CPOConvolution.prepare(weight, None, geometry, backend=backend)(image)
        torch.testing.assert_close(made, torch.nn.functional.conv2d(image, weight, padding=1))


def test_empty_channels_are_skipped_altogether(draw):
    image = draw.sparse(5, 6, 6, density=0.5)
    image[[1, 3]] = 0
    encoded = encode(image, Geometry(5, 1, (3, 3)))
    assert encoded.channels.tolist() == [0, 2, 4]
    assert encoded.words() == 3 * (2 * 5 + 3) + 2 * int(image.count_nonzero())


def test_bytes_count_16_bits_where_they_fit():
    geometry = Geometry(1, 1, (3, 3))
    encoded = encode(torch.ones(1, 8, 8), geometry)
    assert encoded.bytes() == 4 * 64 + 2 * (64 + 17)
    tall = encode(torch.ones(1, 2**15, 3), geometry)
    assert tall.bytes() == 4 * (2 * 3 * 2**15 + tall.words() - 2 * len(tall.values))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_refused(value, draw, backend):
    image = draw.sparse(1, 2, 5, 5, density=0.5)
    image[0, 1, 4, 4] = value
    method = CPOConvolution.prepare(draw.normal(3, 2, 3, 3), None, Geometry(2, 3, (3, 3)), backend=backend)
    with pytest.raises(InputError, match="the activation has NaN or infinite values"):
        method(image)


def test_bytes_are_those_of_the_images(draw):
    images = draw.sparse(3, 2, 6, 6, density=0.4)
    geometry = Geometry(2, 1, (3, 3))
    method = CPOConvolution.prepare(draw.normal(1, 2, 3, 3), None, geometry, trim="all")
    assert method.counted_bytes(images) == sum(encode(image, geometry).bytes("all") for image in images)


@pytest.mark.parametrize("kind", [CPOConvolution, CPSConvolution])
@pytest.mark.parametrize("shape", [(1, 64, 35, 35), (3, 5, 9, 4), (0, 2, 5, 5)])
def test_the_bytes_held_are_those_of_the_arrays_that_are_made(kind, shape, backend, draw, monkeypatch):
    """Several times as many as are counted: there is room for dense channels, in 32 bits."""
    images = draw.sparse(*shape, density=0.1)
    geometry = Geometry(shape[1], 3, (3, 3))
    method = kind.prepare(draw.normal(3, shape[1], 3, 3), None, geometry, backend=backend)
    made = []
    for module in (cpo, cps):
        monkeypatch.setattr(module, "arrays", lambda *given: made.append(arrays(*given)) or made[-1])
    method(images)
    held = method.bytes(images)
    if backend == "numba" and len(images):
        assert held == sum(array.nbytes for array in made[0])
    assert held >= (method.counted_bytes(images) / max(len(images), 1))
    assert (held == 0) == (len(images) == 0)
