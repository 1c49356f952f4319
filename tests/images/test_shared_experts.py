"""Experts, and the methods that match their trajectories, in two processes."""

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.processes import Processes
from attar.core.runtime import Engine, Runtime
from attar.images.condense.adjoint import check_way
from shared_runs import two_and_one

PROGRAM = """
import dataclasses
import attar
import torch
from attar.core.runtime import Engine
from attar.images.experts import Experts

FOLDER = "{folder}"
QUIET = Engine(device="cpu", compile="off", quiet=True)
SMALL = attar.Architecture(width=8, depth=2)
DIGITS = attar.load("digits")
FEW = dataclasses.replace(DIGITS, train=DIGITS.train.select(torch.arange(0, 1290, 10)))
WAYS = dict(
    plain=dict(momentum=0.5, weight_decay=1e-3),
    flat=dict(flat_radius=0.01),
    smooth=dict(smooth_penalty=2.0, smooth_warm_up=True),
)
BRIEF = dict(ipc=1, steps=3, student_steps=3, last_start=2, batch=7, lr=10.0, architecture=SMALL)

def experts(folder, number=1, **how):
    how = Experts(experts=number, epochs=3, batch=51, folder=FOLDER + "/" + folder, **how)
    return attar.train(FEW, how, network=SMALL, engine=QUIET)

def condensed(method):
    few = attar.condense(FEW, method, engine=QUIET)
    labels = few.labels.double().flatten().tolist()
    return [*few.images.flatten().tolist(), *labels, float(few.lr)]

def made(where):
    found = {{}}
    for name, how in WAYS.items():
        pool = experts(where + "-" + name, **how)
        found[name] = pool.vector(0, 3).tolist()
    pool = experts(where + "-three", 3)
    found["three"] = [number for expert in range(3) for number in pool.vector(expert, 3)[::50].tolist()]
    known = Experts(experts=1, epochs=3, batch=51, folder=FOLDER + "/one-plain", **WAYS["plain"])
    for method in (attar.MTT, attar.TESLA, attar.DATM, attar.AST):
        more = dict(start="real", clusters=None) if method is attar.AST else {{}}
        if method is attar.DATM:
            more["gate"] = None
        found[method.name] = condensed(method(**BRIEF, experts=known, **more))
    return found
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    two, one = two_and_one(PROGRAM.format(folder=tmp_path_factory.mktemp("experts")))
    assert list(two) == list(one)
    return two, one


@pytest.mark.parametrize("name", ["plain", "flat", "smooth"])
def test_two_processes_share_the_batches_of_one_expert(name, results):
    two, one = (torch.tensor(result[name]) for result in results)
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


def test_of_three_experts_two_are_dealt_out(results):
    two, one = (torch.tensor(result["three"]) for result in results)
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mtt", "tesla", "datm", "ast"])
def test_two_processes_share_the_students_of_trajectory_matching(name, results):
    """Batches of seven images among twenty, and in the last step of a pass six."""
    two, one = (torch.tensor(result[name]) for result in results)
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


def test_the_graph_of_all_steps_cannot_be_shared():
    runtime = Runtime(Engine(device="cpu"))
    runtime.processes = Processes()
    check_way("unrolled", runtime)
    runtime.processes.count = 2
    with pytest.raises(InputError, match=r"^gradient unrolled keeps the graph of all steps, which 2 processes"):
        attar.MTT(gradient="unrolled").resolve(attar.load("digits"), runtime)
    check_way("adjoint", runtime)
