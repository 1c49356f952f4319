import pytest
import torch

from attar.convolution import compiled
from attar.convolution.compiled import backend_of, numba_loops, shares
from attar.convolution.cpo import CPOConvolution
from attar.convolution.geometry import Geometry
from attar.core.errors import InputError
from attar.core.extras import install


@pytest.fixture
def no_numba(monkeypatch):
    monkeypatch.setattr(compiled, "numba_loops", lambda: None)


def test_without_numba_it_is_pytorch_and_that_is_said(no_numba, draw, equals_conv2d):
    backend = backend_of("auto")
    assert (backend.name, backend.loops) == ("torch", None)
    assert backend.note == (
        f"numba is not installed ({install('convolution')}): sparse loops run on plain PyTorch, slowly."
    )
    case = draw.case()
    equals_conv2d(case, CPOConvolution.prepare(case.weight, case.bias, case.geometry)(case.activation))


def test_numba_that_is_asked_for_and_missing_is_refused(no_numba):
    with pytest.raises(InputError) as refusal:
        backend_of("numba")
    assert str(refusal.value) == f"numba is not installed: {install('convolution')}."


def test_pytorch_that_is_asked_for_needs_no_excuse():
    assert backend_of("torch").note == ""


def test_an_unknown_backend_is_refused():
    with pytest.raises(InputError, match="unknown backend 'cuda'"):
        backend_of("cuda")


def test_pytorch_keeps_its_threads(draw):
    """Numba starts threads of the same OpenMP, and would change how many PyTorch uses."""
    pytest.importorskip("numba", reason="numba is not installed: pip install '.[convolution]'")
    before = torch.get_num_threads()
    assert numba_loops() is not None
    method = CPOConvolution.prepare(draw.normal(3, 2, 3, 3), None, Geometry(2, 3, (3, 3)), backend="numba")
    method(draw.sparse(1, 2, 6, 6, density=0.5))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("filters, threads, wanted", [(64, 1, 1), (65, 1, 2), (64, 2, 2), (384, 2, 6), (1, 2, 1)])
def test_filters_are_shared_evenly(filters, threads, wanted, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert shares(filters) == wanted
