"""Two processes with batches of different sizes are one process with the joined batch."""

import pytest
import torch

from attar.embeddings.gathering import gathered
from two_processes import printed_by

COMMON = """
import torch
from attar.embeddings.gathering import gathered
from attar.embeddings.losses import DCL, BarlowTwins, InfoNCE, NTXent, SupCon, Triplet
from attar.embeddings.multilabel.mixtures import Mixtures
from attar.embeddings.multilabel.probmcl import mixture_contrast

def data():
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 8, 6, dtype=torch.float64, generator=draw)
    labels = torch.tensor([0, 1, 1, 2, 0, 2, 2, 1])
    return a, b, labels, torch.rand(8, 4, generator=draw) < 0.5

def losses(model, a, b, labels, rows, numbers, gather):
    first, second = model(a), model(b)
    both = torch.cat([first, second])
    several = SupCon(0.2, positives="jaccard", weighted=True, gather=gather)
    yield "nt_xent", NTXent(0.3, gather=gather)(first, second)
    yield "dcl", DCL(0.3, gather=gather)(first, second)
    yield "info_nce", InfoNCE(0.3, gather=gather)(first, second)
    yield "barlow_twins", BarlowTwins(gather=gather)(first, second)
    yield "supcon", SupCon(0.2, gather=gather)(both, labels.repeat(2))
    yield "several", several(both, rows.repeat(2, 1), samples=numbers.repeat(2))
    yield "references", SupCon(0.2, gather=gather)(first, labels, ref_emb=second, ref_labels=labels)
    yield "triplet", Triplet(0.2, gather=gather)(both, labels.repeat(2))
    yield "mixtures", of_mixtures(first, rows, gather)

def of_mixtures(features, rows, gather):
    means = features[:, None] * torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    parts = features[:, :2].log_softmax(dim=1), means, 1 + features[:, 2:].square(), rows
    *mixtures, labels = gathered(*parts) if gather else parts
    return mixture_contrast(Mixtures(*mixtures), labels.double() @ labels.double().T > 0, 0.7)

def linear():
    model = torch.nn.Linear(6, 4, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.arange(24.0).view(4, 6).sin())
        model.bias.copy_(torch.arange(4.0))
    return model
"""
PROGRAM = (
    COMMON
    + """
import json, os, sys
import torch.distributed as dist
from attar.embeddings.gathering import gathered

def here(rank):
    dist.init_process_group("gloo", rank=rank, world_size=2)
    mine = slice(0, 5) if rank == 0 else slice(5, 8)
    found = {}
    given = [one[mine] for one in (*data(), torch.arange(8))]
    for name, loss in losses(linear(), *given, True):
        found[name] = [float(loss)]
    for name in found:
        model = linear()
        dict(losses(model, *given, True))[name].backward()
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
            found[name].append((parameter.grad / 2).tolist())
    half, yes, none = gathered(given[0].half(), given[3], None)
    found["types"] = [str(half.dtype), yes.tolist(), none]
    both = [None, None]
    dist.all_gather_object(both, found)
    if rank == 0:
        print(json.dumps(both), flush=True)
    dist.destroy_process_group()

for rank in (0, 1):
    if not os.fork():
        here(rank)
        os._exit(0)
assert [os.wait()[1] for _ in range(2)] == [0, 0]
"""
)


@pytest.fixture(scope="module")
def reports():
    return printed_by(PROGRAM)


def test_two_processes_are_the_joined_batch(reports):
    """The value, and the gradients of parameters averaged as DistributedDataParallel does, with 5 and 3 samples."""
    common = {}
    exec(COMMON, common)
    a, b, labels, rows = common["data"]()
    names = [name for name, _ in common["losses"](common["linear"](), a, b, labels, rows, torch.arange(8), False)]
    assert len(names) == 9
    for name in names:
        model = common["linear"]()
        loss = dict(common["losses"](model, a, b, labels, rows, torch.arange(8), False))[name]
        loss.backward()
        for report in reports:
            value, *gradients = report[name]
            assert value == pytest.approx(float(loss.detach()), rel=1e-12)
            for found, parameter in zip(gradients, model.parameters(), strict=True):
                wanted = torch.tensor(found, dtype=torch.float64)
                torch.testing.assert_close(wanted, parameter.grad, rtol=1e-10, atol=1e-12)
    assert all(report["types"] == ["torch.float16", rows.tolist(), None] for report in reports)


def test_one_process_keeps_its_tensors():
    given = torch.rand(3, 2), torch.arange(3), None
    assert all(one is two for one, two in zip(gathered(*given), given, strict=True))
