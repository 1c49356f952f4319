import pytest
import torch

from attar.convolution import cpo
from attar.convolution.columns import columns_of, pointer_words, restore_pointers, trim_pointers
from attar.convolution.geometry import Geometry
from attar.core.errors import InputError


def windows_of(column, width, kernel, step):
    """The windows that a column of the padded map lies in, by looking at each."""
    count = (width - kernel) // step + 1
    return [s for s in range(count) if s * step <= column < s * step + kernel]


@pytest.mark.parametrize("width", [5, 6, 7, 12])
@pytest.mark.parametrize("kernel, step, padding", [(3, 1, 0), (5, 1, 0), (3, 2, 1), (2, 3, 0), (5, 2, 2), (1, 1, 0)])
def test_type_and_leftmost_window_of_every_column(width, kernel, step, padding):
    geometry = Geometry(1, 1, (1, kernel), (1, step), (0, padding))
    columns = columns_of(width, geometry)
    found = {}
    for kind in range(columns.types):
        for window in range(columns.windows):
            for rank in range(columns.bounds[kind, window], columns.bounds[kind, window + 1]):
                found[int(columns.order[rank])] = (kind, window, int(columns.local[rank]))
    wanted = {}
    for j in range(width):
        seen = windows_of(j + padding, width + 2 * padding, kernel, step)
        if seen:
            wanted[j] = (seen[-1] - seen[0], seen[0], j + padding - seen[0] * step)
    assert found == wanted
    assert columns.types == -(-kernel // step)


def test_columns_of_one_type_at_stride_one():
    """Columns 0 and Iw - 1 are in one window, 1 and Iw - 2 in two, Kw - 1 to Iw - Kw in all Kw."""
    columns = columns_of(8, Geometry(1, 1, (3, 3)))
    kinds = (columns.slot // columns.windows).tolist()
    by_type = {kind: sorted(columns.order[[k == kind for k in kinds]].tolist()) for kind in range(3)}
    assert by_type == {0: [0, 7], 1: [1, 6], 2: [2, 3, 4, 5]}


@pytest.mark.parametrize("trim", ["none", "npo", "all"])
@pytest.mark.parametrize("width", [3, 4, 5, 9])
@pytest.mark.parametrize("kernel, step", [(3, 1), (4, 2), (3, 2), (1, 1), (2, 3)])
def test_trimmed_pointers_come_back(trim, width, kernel, step, draw):
    if width < kernel:
        pytest.skip("no window")
    geometry = Geometry(1, 1, (2, kernel), (1, step))
    columns = columns_of(width, geometry)
    pointers = cpo.encode(draw.sparse(1, 6, width, density=0.6), geometry).pointers[0]
    stored = trim_pointers(pointers, columns, trim)
    assert torch.equal(restore_pointers(stored, columns, trim), pointers)
    assert len(stored) == pointer_words(width, geometry, trim)


@pytest.mark.parametrize("width, kernel", [(8, 3), (17, 7), (50, 3), (9, 1), (5, 5), (6, 5)])
def test_how_many_pointers_there_are_at_stride_one(width, kernel):
    geometry = Geometry(1, 1, (1, kernel))
    windows = width - kernel + 1
    slots = windows + 1
    wanted = (kernel - 1) * slots + min(slots, 3) if kernel > 1 else slots
    assert pointer_words(width, geometry, "npo") == wanted
    assert pointer_words(width, geometry, "none") == kernel * slots
    assert pointer_words(width, geometry, "all") == (kernel - 1) * min(slots, 3) + slots


def test_where_types_lie_between_others_nothing_is_trimmed():
    """With Kw = 3 and Sw = 2 every second column is in one window, wherever it lies."""
    geometry = Geometry(1, 1, (3, 3), (1, 2))
    assert pointer_words(17, geometry, "all") == pointer_words(17, geometry, "none")


def test_an_unknown_trim_is_refused():
    with pytest.raises(InputError, match="unknown trim 'nop'; did you mean 'npo'\\? Known: all, none, npo\\."):
        pointer_words(8, Geometry(1, 1, (3, 3)), "nop")
