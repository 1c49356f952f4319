import pytest
import torch

from attar.convolution import direct, native
from attar.convolution.direct import Direct
from attar.convolution.geometry import Geometry
from attar.convolution.storage import Bitmask
from attar.core.errors import InputError


@pytest.fixture(params=["native", "numba", "torch"])
def backend(request):
    if request.param == "native" and native.library().functions is None:
        pytest.skip(native.library().why)
    if request.param == "numba":
        pytest.importorskip("numba", reason="numba is not installed: pip install '.[convolution]'")
    return request.param


def test_it_convolves(backend, draw, equals_conv2d):
    for _ in range(100 if backend == "native" else 30):
        case = draw.case()
        method = Direct.prepare(case.weight, case.bias, case.geometry, backend=backend)
        assert method.backend.name == backend
        equals_conv2d(case, method(case.activation))


@pytest.mark.parametrize("filters", [1, 15, 16, 17, 47, 64, 130, 200])
@pytest.mark.parametrize("channels", [1, 16, 17, 70])
def test_any_number_of_channels_and_filters(filters, channels, draw, equals_conv2d):
    """Blocks of filters and slabs of channels that are not filled."""
    case = draw.case(filters=filters, channels=channels, density=0.3)
    equals_conv2d(case, Direct.prepare(case.weight, case.bias, case.geometry)(case.activation))


@pytest.mark.parametrize("kernel", [(1, 7), (7, 1), (3, 3), (5, 5), (1, 3), (1, 1)])
def test_the_kernels_of_inception(kernel, backend, draw):
    image, weight = draw.sparse(2, 40, 9, 9, density=0.15), draw.normal(96, 40, *kernel)
    padding = (kernel[0] // 2, kernel[1] // 2)
    made = Direct.prepare(weight, None, Geometry.of_weight(weight, padding=padding), backend=backend)(image)
    wanted = torch.nn.functional.conv2d(image, weight, padding=padding)
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(threads, backend, draw):
    image, weight = draw.sparse(3, 33, 14, 13, density=0.2), draw.normal(70, 33, 3, 3)
    method = Direct.prepare(weight, draw.normal(70), Geometry.of_weight(weight, padding=1), backend=backend)
    alone = method(image)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(method(image), alone)
    finally:
        torch.set_num_threads(before)


def test_many_images_pass_a_few_at_a_time(draw, monkeypatch, equals_conv2d):
    monkeypatch.setattr(direct, "ROOM", 20_000)
    image, weight = draw.sparse(7, 5, 6, 6, density=0.3), draw.normal(3, 5, 3, 3)
    made = Direct.prepare(weight, None, Geometry.of_weight(weight))(image)
    torch.testing.assert_close(made, torch.nn.functional.conv2d(image, weight), rtol=1e-4, atol=1e-4)


def test_the_output_lies_channels_last_whatever_the_input(backend, draw):
    image, weight = draw.sparse(2, 3, 6, 6, density=0.3), draw.normal(5, 3, 3, 3)
    method = Direct.prepare(weight, None, Geometry.of_weight(weight), backend=backend)
    one, other = method(image), method(image.contiguous(memory_format=torch.channels_last))
    assert torch.equal(one, other)
    assert one.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 18, 4, 4), (0, 16, 2, 2)])
def test_what_is_not_finite_is_refused(value, place, backend, draw):
    image = draw.sparse(2, 19, 5, 5, density=0.3)
    image[place] = value
    method = Direct.prepare(draw.normal(3, 19, 3, 3), None, Geometry(19, 3, (3, 3)), backend=backend)
    with pytest.raises(InputError, match="the activation has NaN or infinite values"):
        method(image)


def test_wrong_activations_are_refused(backend, draw):
    method = Direct.prepare(draw.normal(3, 2, 3, 3), None, Geometry(2, 3, (3, 3)), backend=backend)
    for wrong in (
        torch.zeros(1, 3, 5, 5),
        torch.zeros(2, 5, 5),
        torch.zeros(1, 2, 5, 5).double(),
        torch.zeros(1, 2, 2, 2),
    ):
        with pytest.raises(InputError):
            method(wrong)


def test_no_image_gives_no_image(draw):
    method = Direct.prepare(draw.normal(3, 2, 3, 3), None, Geometry(2, 3, (3, 3)))
    assert method(torch.zeros(0, 2, 5, 5)).shape == (0, 3, 3, 3)


def test_gradients_stay_outside(draw):
    weight = draw.normal(3, 2, 3, 3).requires_grad_()
    made = Direct.prepare(weight, None, Geometry.of_weight(weight))(draw.normal(1, 2, 5, 5).requires_grad_())
    assert not made.requires_grad


def test_it_stores_a_bitmask_and_the_non_zeros(draw):
    images = draw.sparse(2, 8, 6, 6, density=0.25)
    method = Direct.prepare(draw.normal(3, 8, 3, 3), None, Geometry(8, 3, (3, 3)))
    assert method.counted_bytes(images) == Bitmask.encode(images).bytes == 4 * int(images.count_nonzero()) + 72
    assert method.bytes(images) >= method.workspace(images) >= 8 * int(images.count_nonzero())


def test_a_map_too_wide_for_32_bits_is_refused(draw, monkeypatch):
    if native.library().functions is None:
        pytest.skip(native.library().why)
    monkeypatch.setattr(direct, "FARTHEST", 10_000)
    method = Direct.prepare(draw.normal(3, 2, 3, 3), None, Geometry(2, 3, (3, 3)))
    with pytest.raises(InputError, match="50 pixels wide, more than the kernel can index"):
        method(torch.zeros(1, 2, 4, 50))


def test_without_a_compiler_it_runs_on_what_there_is_and_says_so(draw, monkeypatch, equals_conv2d):
    monkeypatch.setattr(native, "library", lambda: native.Library(None, "no C++ compiler was found"))
    pytest.importorskip("numba", reason="numba is not installed: pip install '.[convolution]'")
    case = draw.case()
    method = Direct.prepare(case.weight, case.bias, case.geometry)
    assert method.backend.name == "numba"
    assert method.backend.note == (
        "no C++ compiler was found, so the sparse kernel runs on Numba, at about a third of its speed."
    )
    equals_conv2d(case, method(case.activation))
    monkeypatch.setattr("attar.convolution.compiled.numba_loops", lambda: None)
    method = Direct.prepare(case.weight, case.bias, case.geometry)
    assert method.backend.name == "torch"
    assert method.backend.note.startswith("no C++ compiler was found; numba is not installed")
    with pytest.raises(InputError, match=r"the kernel in C\+\+ is not available: no C\+\+ compiler was found\."):
        Direct.prepare(case.weight, case.bias, case.geometry, backend="native")


def test_an_unknown_backend_is_refused(draw):
    with pytest.raises(InputError, match="unknown backend 'natve'; did you mean 'native'"):
        Direct.prepare(draw.normal(1, 1, 3, 3), None, Geometry(1, 1, (3, 3)), backend="natve")


@pytest.mark.parametrize("filters, lanes, wanted", [(64, 16, 4), (96, 16, 6), (192, 16, 6), (384, 16, 8), (10, 16, 1)])
def test_how_many_registers_a_pixel_gets(filters, lanes, wanted):
    assert direct._vectors(filters, lanes) == wanted


def test_slabs_are_even_and_fit_the_cache():
    for channels in (3, 16, 48, 160, 384, 1000):
        slab = direct._slab(Geometry(channels, 64, (3, 3)), 256)
        assert slab % 16 == 0
        assert slab * 3 * 256 <= 1.5 * direct.WEIGHT_CACHE or slab == 16
        assert -(-channels // slab) * slab - channels < slab
