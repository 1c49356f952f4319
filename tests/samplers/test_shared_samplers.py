"""Samplers that two processes train together: the samples of each call of a network are divided."""

import pytest
import torch

from shared_runs import two_and_one

PROGRAM = """
import dataclasses, os
import torch
from attar.core.runtime import Engine, Runtime
from attar.samplers.consistency import Consistency
from attar.samplers.consistency_training import ConsistencyTraining
from attar.samplers.dmd2 import DMD2, Pairing
from attar.samplers.edm import EDM
from attar.samplers.pairs import PairRegression
from attar.samplers.progressive import Progressive
from attar.samplers.sources import Source
from attar.samplers.teaching import Work
from attar.samplers.toys import drawn

QUIET = Engine(device="cpu", compile="off", quiet=True)
SOURCE = drawn("grid", 200)
NETWORK = "mlp:width=16,depth=1,dropout=0.1"
TEACHING = EDM(network=NETWORK, steps=30, batch=50)
PAIRING = Pairing(pair_count=40, regression_weight=0.1)
BRIEF = dict(steps=6, batch=9)

def begun(method, work):
    runtime = Runtime(QUIET)
    method = method.resolve(work, runtime)
    return method, method.build(work, runtime), runtime

def trained(method, work):
    method, state, runtime = begun(method, work)
    losses = [float(method.step(state, runtime)["loss"]) for _ in range(method.total_steps)]
    modules = [value for value in vars(state).values() if isinstance(value, torch.nn.Module)]
    held = [one.detach().double().flatten() for module in modules for one in module.parameters()]
    return [*losses, *torch.cat(held).tolist()]

def made(where):
    os.environ["ATTAR_CACHE"] = "{folder}/" + where
    alone = Runtime(QUIET).alone()
    method, work = TEACHING.resolve(Work(SOURCE), alone), Work(SOURCE)
    state = method.build(work, alone)
    for _ in range(method.total_steps):
        method.step(state, alone)
    taught = Work(SOURCE, dataclasses.replace(method.result(state, alone), steps=4))
    methods = dict(
        consistency=Consistency(**BRIEF, grid_levels=5),
        pairs=PairRegression(**BRIEF, pair_count=40),
        progressive=Progressive(**BRIEF, first_steps=4),
        dmd2=DMD2(**BRIEF, calls=2, gan_weight=3e-3, warm_start=1, pairing=PAIRING),
        turns=DMD2(**BRIEF, critic_steps=2, warm_start=0),
    )
    found = {{name: trained(method, taught) for name, method in methods.items()}}
    own = dict(edm=EDM(network=NETWORK, clip_norm=1.0, **BRIEF), data=ConsistencyTraining(network=NETWORK, **BRIEF))
    return found | {{name: trained(method, Work(SOURCE)) for name, method in own.items()}}
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    two, one = two_and_one(PROGRAM.format(folder=tmp_path_factory.mktemp("cache")))
    assert list(two) == list(one)
    return two, one


@pytest.mark.parametrize("name", ["edm", "data", "consistency", "pairs", "progressive", "dmd2", "turns"])
def test_two_processes_train_the_sampler_of_one(name, results):
    """Losses, and the weights of student, average, target, critic and head."""
    two, one = (torch.tensor(result[name]) for result in results)
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)
