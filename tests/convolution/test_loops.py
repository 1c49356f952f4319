"""The loops as plain Python: what is compiled is what is read."""

import numpy as np
import pytest
import torch

from attar.convolution import loops
from attar.convolution.columns import columns_of
from attar.convolution.cpo import arrays, encode
from attar.convolution.cps import encode as encode_cps


@pytest.fixture
def case(draw):
    while True:
        case = draw.case(density=0.4, filters=3, channels=2)
        if max(case.activation.shape[2:]) <= 8:
            return case


def room(image, geometry):
    columns = columns_of(image.shape[2], geometry)
    given = (image.numpy(), *columns.arrays, geometry.padding[0], geometry.kernel[1])
    return given, arrays(image, columns.bounds.shape)


def product(case):
    down, right = case.geometry.output(*case.activation.shape[2:])
    return np.zeros((down, right, case.geometry.filters), dtype=np.float32)


def assert_convolved(case, out):
    bias = 0 if case.bias is None else case.bias[:, None, None]
    torch.testing.assert_close(torch.from_numpy(out).permute(2, 0, 1) + bias, case.wanted[0], rtol=1e-4, atol=1e-4)


def test_cpo(case):
    given, (pointers, indices, values) = room(case.activation[0], case.geometry)
    assert loops.encode_cpo(*given, pointers, indices, values)
    encoded = encode(case.activation[0], case.geometry)
    counts = pointers[:, -1, -1]
    assert (
        np.concatenate([row[:n] for row, n in zip(indices, counts, strict=True)]).tolist() == encoded.indices.tolist()
    )
    assert np.concatenate([row[:n] for row, n in zip(values, counts, strict=True)]).tolist() == encoded.values.tolist()
    assert torch.equal(torch.from_numpy(pointers)[encoded.channels].long(), encoded.pointers)
    kernel, out = case.weight.permute(1, 2, 3, 0).contiguous().numpy(), product(case)
    loops.multiply_cpo(pointers, indices, values, kernel, out, *case.geometry.stride, 2)
    assert_convolved(case, out)


@pytest.mark.parametrize("packed", [False, True])
def test_cps(packed, case):
    given, (pointers, indices, values) = room(case.activation[0], case.geometry)
    assert loops.encode_cps(*given, packed, pointers, indices, values)
    words = encode_cps(case.activation[0], case.geometry, packed=packed).indices.tolist()
    assert indices[encode(case.activation[0], case.geometry).channels[0]][:2].tolist() == words[:2]
    kernel, out = case.weight.permute(1, 2, 3, 0).contiguous().numpy(), product(case)
    loops.multiply_cps(pointers, indices, values, kernel, out, *case.geometry.stride, packed, 2)
    assert_convolved(case, out)


def test_rows(case):
    image = case.activation[0].permute(1, 2, 0).contiguous()
    height, width, channels = image.shape
    starts = np.empty((height, width + 1), dtype=np.int32)
    places = np.empty((height, width * channels + 1), dtype=np.int32)
    values = np.empty(places.shape, dtype=np.float32)
    assert loops.pack_rows(image.numpy(), starts, places, values)
    assert starts[:, -1].sum() == int(image.count_nonzero())
    kernel, out = case.weight.permute(1, 2, 3, 0).contiguous().numpy(), product(case)
    place = case.geometry
    loops.multiply_rows(starts, places, values, kernel, out, *place.stride, *place.padding)
    assert_convolved(case, out)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_packing_tells_what_is_not_finite(value, case):
    image = case.activation[0].clone()
    columns = columns_of(image.shape[2], case.geometry)
    image[0, 0, columns.order[0]] = value
    for encoder, extra in ((loops.encode_cpo, ()), (loops.encode_cps, (True,))):
        given, made = room(image, case.geometry)
        with np.errstate(invalid="ignore"):
            assert not encoder(*given, *extra, *made)
