"""Graphs in two processes: matching, training, choosing and measuring."""

import dataclasses
import signal

import pytest
import torch

import attar
from shared_runs import two_and_one
from two_processes import printed_by

PROGRAM = """
import dataclasses, os
import torch
import attar
from attar.core import engine
from attar.core.runtime import Engine, Runtime
from attar.graphs.coresets import GraphHerding
from attar.graphs.doscond import DosCond
from attar.graphs.gstam import GSTAM
from attar.graphs.networks import Architecture
from attar.graphs.protocols import Protocol
from attar.graphs.sources import load
from attar.graphs.trained import TrainGraphNetwork

QUIET = Engine(device="cpu", compile="off", quiet=True)
NARROW = Architecture(width=16, depth=2)
MOTIFS = load("motifs")
BRIEF = dict(gpc=2, steps=4, real_batch=9, architecture=NARROW)
METHODS = dict(
    gstam=GSTAM(**BRIEF),
    released=GSTAM(**BRIEF, synthetic_map="released", distance="ours", theory_weight=1.0),
    agnostic=GSTAM(**BRIEF, class_agnostic=True, power=4.0),
    scarce=GSTAM(**{{**BRIEF, "real_batch": 1}}),
    normed=GSTAM(**{{**BRIEF, "architecture": dataclasses.replace(NARROW, norm="batch")}}),
    doscond=DosCond(**BRIEF, outer=2, inner=1),
    continuous=DosCond(**BRIEF, adjacency="continuous", distance="ours"),
)
TRAININGS = dict(
    batches=Protocol(name="brief", epochs=2, batch=61),
    whole=Protocol(name="brief", epochs=3, batch=10_000, dropout=0.5, dropout_samples=2),
    drawn=Protocol(name="brief", epochs=1, batch=61, loss="ensloss"),
)

def condensed(method):
    few = attar.condense(MOTIFS, method, engine=QUIET)
    return [*few.feat.flatten().tolist(), *few.logits.flatten().tolist()]

def trained(protocol):
    method, runtime = TrainGraphNetwork(architecture=NARROW, protocol=protocol).resolve(MOTIFS), Runtime(QUIET)
    found = engine.run(method, MOTIFS, runtime)
    return torch.cat([one.flatten() for one in found.network.parameters()]).tolist()

def made(where):
    os.environ["ATTAR_CACHE"] = "{folder}/" + where
    found = {{name: condensed(method) for name, method in METHODS.items()}}
    found |= {{name: trained(protocol) for name, protocol in TRAININGS.items()}}
    chosen = attar.condense(MOTIFS, GraphHerding(gpc=2), engine=QUIET)
    found["herding"] = chosen.feat.flatten().tolist()
    how = dict(networks=["gcn:width=16,depth=2"], repeats=3, protocol=Protocol(name="brief", epochs=4), ceiling="run")
    score = attar.evaluate(chosen, MOTIFS, engine=QUIET, **how).rows[0].cells[0]
    found["scores"] = [*score.values[0], score.full.value]
    return found
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    two, one = two_and_one(PROGRAM.format(folder=tmp_path_factory.mktemp("cache")))
    assert list(two) == list(one)
    return two, one


@pytest.mark.parametrize("name", ["gstam", "released", "agnostic", "scarce", "normed", "doscond", "continuous"])
def test_two_processes_share_the_real_graphs_and_the_classes(name, results):
    two, one = (torch.tensor(result[name]) for result in results)
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["batches", "whole", "drawn"])
def test_two_processes_share_the_batches_of_a_network(name, results):
    two, one = (torch.tensor(result[name]) for result in results)
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


def test_two_processes_choose_the_same_graphs(results):
    assert results[0]["herding"] == results[1]["herding"]


def test_two_processes_share_the_networks_of_an_evaluation(results):
    assert results[0]["scores"] == pytest.approx(results[1]["scores"], abs=1.0)


KILLED = (
    PROGRAM
    + """
import json, signal

real, often = GSTAM.step, dataclasses.replace(QUIET, checkpoint_seconds=0)

def dying(self, state, runtime):
    if state.steps == 3 and runtime.processes.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, state, runtime)

children = []
for rank in (0, 1):
    if not (child := os.fork()):
        os.environ |= {{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}}
        GSTAM.step = dying
        try:
            attar.condense(MOTIFS, METHODS["gstam"], out="{folder}/run", engine=often)
        finally:
            os._exit(1)
    children.append(child)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]))
"""
)


def test_one_process_goes_on_where_one_of_two_was_killed(results, tmp_path):
    assert printed_by(KILLED.format(folder=tmp_path)) == [1, -signal.SIGKILL]
    assert (tmp_path / "run" / "run" / "checkpoint.safetensors").exists()
    space = {}
    exec(PROGRAM.format(folder=tmp_path), space)
    engine = dataclasses.replace(space["QUIET"], quiet=False)
    said = []
    few = attar.condense(
        space["MOTIFS"], space["METHODS"]["gstam"], out=tmp_path / "run", engine=engine, say=said.append
    )
    assert "continuing at step 4 of 4." in said
    found = torch.cat([few.feat.flatten(), few.logits.flatten()])
    torch.testing.assert_close(found, torch.tensor(results[1]["gstam"]), rtol=1e-4, atol=1e-5)
