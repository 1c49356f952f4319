"""Encoders that two processes train together: features of a batch are divided, and all else is computed by both."""

import pytest
import torch

from shared_runs import two_and_one

PROGRAM = """
import dataclasses
import attar
import torch
from attar.core.runtime import Engine, Runtime
from attar.embeddings.fewshot.protonet import ProtoNet
from attar.embeddings.heads import Projector
from attar.embeddings.linear import Linear
from attar.embeddings.multilabel.kmcl import KMCL
from attar.embeddings.multilabel.supcon import SupCon
from attar.embeddings.selfsup.amcl import AMCL
from attar.embeddings.reading import Reading
from attar.embeddings.selfsup.barlow import Barlow
from attar.embeddings.selfsup.clip import CLIP
from attar.embeddings.selfsup.isogclr import ISogCLR
from attar.embeddings.selfsup.moco import MoCo, Momentum
from attar.embeddings.selfsup.simclr import SimCLR
from attar.embeddings.selfsup.simsiam import SimSiam
from attar.embeddings.selfsup.sogclr import SogCLR
from attar.embeddings.sources import Source

QUIET = Engine(device="cpu", compile="off", quiet=True)
DIGITS = attar.load("digits")
SOURCE = Source.of_images(dataclasses.replace(DIGITS, train=DIGITS.train.select(torch.arange(60))))
BRIEF = dict(encoder="convnet:norm=batch,width=8,depth=2", epochs=1, batch=17, optimizer="sgd", lr=0.005)
SMALL = dict(**BRIEF, projector=Projector(projected=8))
EPISODES = {**{name: value for name, value in BRIEF.items() if name != "batch"}, "episodes": 3}
LINE = dict(linear=Linear(epochs=1))
METHODS = dict(
    simclr=SimCLR(**SMALL, clip_norm=0.5, weights_average=0.9),
    line=SimCLR(**SMALL, **LINE),
    barlow=Barlow(**SMALL),
    simsiam=SimSiam(**SMALL),
    moco=MoCo(**SMALL, keys=Momentum(queue=34, key_parts=2)),
    sogclr=SogCLR(**SMALL, learn_temperature=True),
    isogclr=ISogCLR(**SMALL),
    amcl=AMCL(**SMALL, framework="moco", keys=Momentum(queue=34)),
    supcon=SupCon(**SMALL, **LINE),
    protonet=ProtoNet(**EPISODES, train_way=3, train_shot=1, train_query=1),
)

MOSAICS = Reading().load("mosaics")
MOSAICS = dataclasses.replace(MOSAICS.subset(torch.arange(40)), test=MOSAICS.test.select(torch.arange(10)))
PAIRS = dict(
    clip=CLIP(**SMALL, learn_temperature=True, text_encoder="words:width=8,depth=1"),
    kmcl=KMCL(**BRIEF),
)

def trained(method, source=SOURCE):
    runtime = Runtime(QUIET)
    method = method.resolve(source, runtime)
    state = method.build(source, runtime)
    losses = [float(method.step(state, runtime)["loss"]) for _ in range(method.total_steps)]
    modules = (state.encoder, state.heads, state.slow, state.memory, state.average)
    held = [one.double().flatten() for module in modules for one in module.state_dict().values()]
    return [*losses, *torch.cat(held).tolist()]

def made(where):
    found = {name: trained(method) for name, method in METHODS.items()}
    return found | {name: trained(method, MOSAICS) for name, method in PAIRS.items()}
"""


@pytest.fixture(scope="module")
def results():
    two, one = two_and_one(PROGRAM)
    assert list(two) == list(one)
    return two, one


@pytest.mark.parametrize(
    "name",
    ["simclr", "line", "barlow", "simsiam", "moco", "sogclr", "isogclr", "amcl", "supcon", "protonet", "clip", "kmcl"],
)
def test_two_processes_train_the_encoder_of_one(name, results):
    """Losses, weights, statistics of batch norm, queues, and what is remembered of each sample."""
    two, one = (torch.tensor(result[name]) for result in results)
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)
