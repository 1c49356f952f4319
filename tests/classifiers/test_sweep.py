import json

import pytest
import torch

from attar.classifiers.alone import Alone
from attar.classifiers.dhkd import DHKD
from attar.classifiers.sweep import HEADS, Cell, Sweep, sweep
from attar.core.errors import InputError
from attar.core.runtime import Engine
from attar.images.networks.architecture import Architecture

QUIET = Engine(device="cpu", quiet=True)
SMALL = {"student": "convnet:norm=batch,width=4", "epochs": 2, "batch": 60}


@pytest.fixture(scope="module")
def teacher(digits):
    return Architecture(norm="batch", width=8).build(digits.shape, 10, torch.Generator().manual_seed(3)).eval()


def test_every_loss_runs_at_every_rate(few_digits, teacher, tmp_path):
    found = sweep(few_digits, teacher, rates=(0.01, 0.1), seeds=(0,), out=tmp_path, engine=QUIET, **SMALL)
    assert set(found.cells) == set(HEADS)
    assert all(len(row) == 2 and len(row[0].values) == len(row[0].diagnoses) == 1 for row in found.cells.values())
    assert found.against("DHKD", "DHKD")[0].difference == 0
    assert "effective rank" in str(found)
    json.dumps(found.to_json())
    again = sweep(few_digits, teacher, rates=(0.01, 0.1), seeds=(0,), out=tmp_path, engine=QUIET, **SMALL)
    assert again == found


def test_a_loss_that_diverges_counts_as_guessing(few_digits, teacher):
    rows = {"wild": DHKD(head="shared", alignment="off", head_loss="squared", teacher_weight=1e6)}
    found = sweep(few_digits, teacher, rows, rates=(1e6,), seeds=(0,), engine=QUIET, **SMALL)
    assert found.cells["wild"][0] == Cell((10.0,), ())
    assert "diverged" in str(found)


def test_what_cannot_be_swept_is_refused(few_digits, teacher):
    with pytest.raises(InputError, match="at least one row, one rate and one seed"):
        sweep(few_digits, teacher, rates=(), engine=QUIET)
    with pytest.raises(InputError, match=r"'KD' is not part of the sweep\. Choose from: CE"):
        Sweep((0.1,), {"CE": (Cell((1.0,), ()),)}).against("CE", "KD")
    with pytest.raises(InputError, match="unknown network 'convnt'"):
        sweep(few_digits, teacher, {"CE": Alone()}, rates=(0.1,), engine=QUIET, student="convnt")
