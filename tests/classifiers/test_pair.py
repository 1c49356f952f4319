"""A step's samples, and what is learned from them in lower precision."""

import pytest
import torch

import attar
from attar.classifiers.crd import CRD
from attar.classifiers.nd import ND
from attar.classifiers.pair import Batch, Pair
from attar.classifiers.selection import parted
from attar.classifiers.watched import Answers
from attar.core.runtime import Engine
from attar.images.networks.architecture import Architecture


def answers(dtype):
    return Answers(torch.ones(2, 3, dtype=dtype), torch.ones(2, 4, dtype=dtype), [torch.ones(2, 1, 5, 5, dtype=dtype)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_losses_see_single_precision_or_better(dtype):
    batch = Batch(answers(dtype), answers(torch.float32), torch.tensor([0, 1]), torch.tensor([4, 2]), 1.0)
    for tensor in (batch.student.logits, batch.student.embedding, *batch.student.stages):
        assert tensor.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("method", [CRD, ND])
def test_connectors_learn_from_a_student_in_lower_precision(method, few_digits):
    teacher = Architecture(norm="batch", width=8).build((1, 8, 8), 10, torch.Generator().manual_seed(3)).eval()
    settings = {"student": "convnet:norm=batch,width=4", "epochs": 1, "batch": 60}
    engine = Engine(device="cpu", quiet=True, train_precision="bfloat16")
    made = attar.distill(few_digits, method(**settings), teacher=teacher, engine=engine)
    assert all(value.dtype == torch.float32 for value in made.network.parameters())
    assert made.scores["student"] > 0


def test_a_pair_knows_its_data_when_some_are_held_out(few_digits):
    assert Pair(few_digits).data is few_digits
    assert Pair(parted(few_digits, 0.25, 0), whole=few_digits).data is few_digits
