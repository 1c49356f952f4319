"""Eight processes: batches of three images, and five networks."""

import pytest
import torch

import attar
from shared_runs import several_and_one

PROGRAM = """
import json
from dataclasses import replace

import pyarrow.parquet, sklearn.datasets
import torch
import attar
from attar.core.runtime import Engine, Runtime
from attar.images.networks.architecture import parse
from attar.images.protocols import PROTOCOLS
from attar.images.score import train_and_test
from attar.images.training import TrainNetwork

DIGITS = attar.load("digits")
SMALL = attar.open_artefact("FOLDER")
FEW = replace(DIGITS.subset(torch.arange(13)), test=DIGITS.test.select(torch.arange(100)))
BRIEF = replace(PROTOCOLS["quick"], epochs=2, batch=3, lr=0.05)

def made(where):
    runtime = Runtime(Engine(device="cpu", compile="off", quiet=True), 0)
    method = TrainNetwork(architecture=parse("convnet:width=4,norm=batch"), protocol=BRIEF).resolve(FEW, runtime)
    state = method.build(FEW, runtime)
    losses = [method.step(state, runtime).get("loss") for _ in range(method.total_steps)]
    weights = torch.cat([one.flatten().float() for one in state.network.state_dict().values()])
    everyone = runtime.processes.join(weights[None], [1] * runtime.processes.count)
    return {
        "same": bool((everyone == weights).all()),
        "weights": weights.tolist(),
        "losses": [None if loss is None else float(loss) for loss in losses],
        "accuracies": train_and_test(SMALL, FEW, parse("mlp:width=8").resolve(FEW.shape), BRIEF, 5, runtime),
    }
"""


def test_eight_processes_share_small_batches_and_few_networks(tmp_path, engine):
    """The last batch of an epoch has one image, which batch norm leaves out."""
    attar.condense("digits", attar.Random(ipc=1), out=tmp_path / "set", engine=engine)
    eight, one = several_and_one(PROGRAM.replace("FOLDER", str(tmp_path / "set")), 8)
    assert eight["same"]
    assert [loss is None for loss in eight["losses"]] == [loss is None for loss in one["losses"]]
    assert eight["losses"].count(None) == 2
    told = [loss for loss in eight["losses"] if loss is not None]
    assert told == pytest.approx([loss for loss in one["losses"] if loss is not None], rel=1e-4)
    torch.testing.assert_close(torch.tensor(eight["weights"]), torch.tensor(one["weights"]), rtol=1e-4, atol=5e-5)
    assert eight["accuracies"] == pytest.approx(one["accuracies"], abs=1.01)
