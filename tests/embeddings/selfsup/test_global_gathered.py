"""Two processes with the global contrastive loss are one process with the joined batch."""

import pytest
import torch

from two_processes import printed_by

COMMON = """
import torch
from attar.embeddings.selfsup.global_contrast import GlobalContrast

FORMS = {
    "views": {"temperatures": "individual", "gamma": 0.7, "eta": 0.05},
    "pairs": {"temperatures": "individual", "gamma": 0.7, "eta": 0.05, "pairs": True},
    "global": {"temperatures": "global", "gamma": 0.7, "pairs": True},
}

def batches():
    draw = torch.Generator().manual_seed(0)
    for rows in ([0, 1, 2, 3, 4, 5, 6, 7], [9, 3, 1, 11, 0, 10, 3, 2], [8, 7, 6, 5, 4, 3, 2, 1]):
        yield *torch.randn(2, 8, 6, dtype=torch.float64, generator=draw), torch.tensor(rows)

def model():
    made = torch.nn.Linear(6, 4, dtype=torch.float64)
    with torch.no_grad():
        made.weight.copy_(torch.arange(24.0).view(4, 6).sin())
        made.bias.copy_(torch.arange(4.0))
    return made

def visited(name, mine, gather):
    loss, made = GlobalContrast(12, dtype=torch.float64, gather=gather, **FORMS[name]), model()
    values = []
    for a, b, index in batches():
        value = loss(made(a[mine]), made(b[mine]), index[mine])
        value.backward()
        values.append(float(value.detach()))
    return loss, made, values
"""
PROGRAM = (
    COMMON
    + """
import json, os
import torch.distributed as dist

def here(rank):
    dist.init_process_group("gloo", rank=rank, world_size=2)
    found = {}
    for name in FORMS:
        loss, made, values = visited(name, slice(0, 5) if rank == 0 else slice(5, 8), True)
        gradients = []
        for parameter in (*made.parameters(), *loss.parameters()):
            dist.all_reduce(parameter.grad)
            gradients.append((parameter.grad / 2).tolist())
        state = {key: value.tolist() for key, value in loss.state_dict().items()}
        found[name] = {"values": values, "gradients": gradients, "state": state}
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


def test_two_processes_have_the_value_gradient_and_memory_of_the_joined_batch(reports):
    common = {}
    exec(COMMON, common)
    for name in common["FORMS"]:
        loss, made, values = common["visited"](name, slice(None), False)
        assert reports[0][name]["state"] == reports[1][name]["state"]
        for report in reports:
            assert report[name]["values"] == pytest.approx(values, rel=1e-12)
            for key, value in loss.state_dict().items():
                there = torch.tensor(report[name]["state"][key], dtype=value.dtype)
                torch.testing.assert_close(there, value.detach(), rtol=1e-12, atol=1e-12)
            for there, parameter in zip(
                report[name]["gradients"], [*made.parameters(), *loss.parameters()], strict=True
            ):
                wanted = torch.tensor(there, dtype=torch.float64)
                torch.testing.assert_close(wanted, parameter.grad, rtol=1e-10, atol=1e-12)
