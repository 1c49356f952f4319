import math
from dataclasses import replace

import pytest
import torch

from attar.convolution.geometry import Geometry
from attar.convolution.storage import Bitmask, compression_ratios, csc16_bytes, cscc_words, words
from attar.core.score import paired
from attar.images.networks.architecture import parse
from attar.images.protocols import PROTOCOLS
from attar.images.trained import trained


def scattered(height, width, count, draw):
    """One channel with so many non-zeros."""
    image = torch.zeros(height * width)
    image[torch.randperm(height * width, generator=draw.generator)[:count]] = draw.normal(count)
    return image.view(1, height, width)


@pytest.mark.parametrize(
    "side, kernel, count, ratio",
    [(8, (3, 3), 4, 12.96), (17, (3, 3), 15, 31.1538), (50, (3, 3), 125, 59.0769), (50, (1, 7), 125, 29.4455)],
)
def test_the_ratios_of_the_authors_log(side, kernel, count, ratio, draw):
    found = compression_ratios(scattered(side, side, count, draw), Geometry(1, 1, kernel))
    assert found["cpo"] == pytest.approx(ratio, abs=5e-5)


def test_the_ratios_of_a_dense_map():
    found = compression_ratios(torch.ones(1, 8, 8), Geometry(1, 1, (3, 3)))
    assert found["cscc"] == pytest.approx(1.0983, abs=5e-5)
    assert found["cpo"] == pytest.approx(2.2345, abs=5e-5)


@pytest.mark.parametrize(
    "density, bitmask, csc, authors",
    [(0.05, 102, 97, 59), (0.1, 63, 52, 35), (0.2, 36, 27, 19), (0.4, 19, 14, 10)],
)
def test_the_simple_rivals_are_smaller_than_cpo(density, bitmask, csc, authors, draw):
    found = compression_ratios(scattered(50, 50, round(2500 * density), draw), Geometry(1, 1, (3, 3)))
    assert [round(found[name]) for name in ("bitmask", "csc, 16 bits")] == [bitmask, csc]
    assert found["cpo"] == pytest.approx(authors, abs=1)
    assert found["dense"] == pytest.approx(8.3, abs=0.05)
    assert found["mec"] == pytest.approx(2.88, abs=0.05)


@pytest.mark.parametrize("density, cscc", [(0.05, 27.6), (0.1, 13.8), (0.2, 7.2), (0.5, 2.9)])
def test_the_authors_ratios_of_cscc(density, cscc, draw):
    found = compression_ratios(scattered(50, 50, round(2500 * density), draw), Geometry(1, 1, (3, 3)))
    assert found["cscc"] == pytest.approx(cscc, rel=0.05)


def test_a_kernel_of_one_column_is_plain_compressed_columns(draw):
    image = draw.sparse(3, 9, 9, density=0.2)
    sizes = words(image, Geometry(3, 1, (3, 1)))
    assert sizes["cpo"] == sizes["cscc"] == 2 * int(image.count_nonzero()) + 3 * 10


def test_a_pointwise_kernel_is_pure_overhead(draw):
    assert compression_ratios(draw.sparse(1, 8, 8, density=1.0), Geometry(1, 1, (1, 1)))["cpo"] < 1


def test_cscc_is_compressed_rows_over_the_lowered_map(draw):
    for _ in range(20):
        case = draw.case()
        image, place = case.activation[0], case.geometry
        padded = torch.nn.functional.pad(image, (place.padding[1],) * 2 + (place.padding[0],) * 2)
        strips = padded.unfold(2, place.kernel[1], place.stride[1])
        kept = [c for c in range(len(image)) if image[c].any()]
        wanted = sum(2 * int(strips[c].count_nonzero()) + strips.shape[2] + 1 for c in kept)
        assert cscc_words(image, place) == wanted


def test_a_bitmask_gives_the_map_back(draw):
    for shape in ((3, 5, 7), (1, 8, 8), (2, 3, 5, 1)):
        for density in (0, 0.3, 1):
            image = draw.sparse(*shape, density=density)
            encoded = Bitmask.encode(image)
            assert torch.equal(encoded.decode(), image)
            assert encoded.bytes == 4 * int(image.count_nonzero()) + -(-image.numel() // 8)


def test_empty_channels_cost_nothing(draw):
    image = draw.sparse(4, 6, 6, density=0.5)
    image[2] = 0
    assert csc16_bytes(image) == 6 * int(image.count_nonzero()) + 2 * 7 * 3
    empty = compression_ratios(torch.zeros(1, 6, 6), Geometry(1, 1, (3, 3)))
    assert empty["cpo"] == empty["csc, 16 bits"] == torch.inf


def test_on_real_maps_a_bitmask_is_smaller_and_sets_save_more_than_on_random_ones(digits, runtime):
    """The second layer of a network trained on digits: its zeros lie together."""
    protocol = replace(PROTOCOLS["ceiling"], epochs=3)
    network = trained(digits, parse("convnet:norm=none,pooling=none,width=16,depth=2"), runtime, protocol).network
    images = digits.inputs(torch.arange(40))
    with torch.inference_mode():
        maps = network.features(images)[0][0]
    density = float((maps != 0).float().mean())
    assert 0.2 < density < 0.8
    geometry = Geometry(16, 16, (3, 3), (1, 1), (1, 1))
    sizes = [words(image, geometry) for image in maps]
    saved = [(size["cpo"] - size["cps"]) / int(image.count_nonzero()) for size, image in zip(sizes, maps, strict=True)]
    random = 1 - sum(min(b, 2) * math.comb(4, b) * density**b * (1 - density) ** (4 - b) for b in range(5)) / (
        4 * density
    )
    surely = paired(saved, [random] * len(saved))
    assert surely.low > 0
    gains = paired([size["cps, packed"] for size in sizes], [size["bitmask"] for size in sizes])
    assert gains.low > 0
