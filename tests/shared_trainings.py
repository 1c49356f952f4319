"""Trainings that one process does, or that several share which this file forks: what they have learned after steps."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

import attar
from attar.classifiers.attention import AttentionTransfer
from attar.classifiers.cc import CC
from attar.classifiers.classifier import Classifier
from attar.classifiers.crd import CRD
from attar.classifiers.dhkd import DHKD
from attar.classifiers.discovery import Discover
from attar.classifiers.dist import DIST
from attar.classifiers.fitnets import FitNets
from attar.classifiers.kd import KD
from attar.classifiers.nd import ND
from attar.classifiers.pair import Pair
from attar.classifiers.pkt import PKT
from attar.classifiers.reviewkd import ReviewKD
from attar.classifiers.rkd import RKD
from attar.classifiers.skd import SubclassKD
from attar.classifiers.sp import SP
from attar.classifiers.vid import VID
from attar.core import engine
from attar.core.losses import Loss
from attar.core.runtime import Engine, Runtime
from attar.core.state import pack
from attar.images.networks.architecture import parse
from attar.images.protocols import PROTOCOLS
from attar.images.trained import trained as cached_network
from attar.images.training import TrainNetwork

QUIET = Engine(device="cpu", compile="off", quiet=True, checkpoint_seconds=0)
IMAGES = 66
"""In batches of 32, of which the last has two: less than three processes."""
TINY = {"student": "convnet:norm=batch,width=4", "epochs": 1, "batch": 31}
BRIEF = replace(PROTOCOLS["quick"], epochs=1, batch=32, lr=0.05)
PROTOCOL = {
    "instance": ("convnet:width=4", {"mix": "cutmix"}),
    "batch": ("convnet:width=4,norm=batch", {"augmentation": "shift"}),
    "deep": ("resnet8", {"augmentation": "crop"}),
    "dropout": ("convnet:width=4", {"dropout": 0.5, "dropout_samples": 3}),
    "dropout and batch": ("mlp:width=8,norm=batch", {"dropout": 0.5, "optimizer": "adamw"}),
    "drawn": ("convnet:width=4,norm=batch", {"loss": "ensloss", "augmented": False}),
    "drawn under masks": ("convnet:width=4", {"loss": "ensloss", "dropout": 0.3, "dropout_samples": 2}),
    "teacher": ("convnet:width=4", {"target": "teacher", "teacher_statistics": "batch", "mix": "mixup"}),
    "stored": ("convnet:width=4,norm=batch", {"target": "stored", "label_weight": 0.5}),
}
CLASSIFIERS = {
    "masks": Classifier(network="convnet:norm=batch,width=4", epochs=1, batch=32, dropout=0.4, dropout_samples=3),
    "drawn loss": Classifier(network="mlp:width=8", epochs=1, batch=32, loss=Loss(name="ensloss"), dropout=0.3),
    "kd": KD(**TINY | {"batch": 32}, mixup=0.8, cutmix=1.0, keep="accuracy", held_out=0.2, clip_norm=0.1),
    "stored kd": KD(**TINY | {"epochs": 2}, views=1),
    "dist": DIST(**TINY),
    "fitnets": FitNets(**TINY, teacher_weight=1.0),
    "attention": AttentionTransfer(**TINY, views=1),
    "rkd": RKD(**TINY),
    "sp": SP(**TINY),
    "pkt": PKT(**TINY),
    "vid": VID(**TINY),
    "cc": CC(**TINY, features=8),
    "crd": CRD(**TINY, negatives=20, features=8, teacher_weight=1.0),
    "reviewkd": ReviewKD(**TINY),
    "skd": SubclassKD(**TINY, group=(0, 1) * 5, head_share=0.4),
    "discover": Discover(**TINY, subclasses=2),
    "nd": ND(**TINY, base="reviewkd"),
    "dhkd": DHKD(**TINY),
}
BESIDE = "beside: network"
NAMES = [BESIDE] + [f"network: {name}" for name in PROTOCOL] + [f"classifier: {name}" for name in CLASSIFIERS]


def digits():
    """The same few digits each time."""
    whole = attar.load("digits")
    rows = torch.randperm(len(whole.train), generator=torch.Generator().manual_seed(0))[:IMAGES]
    return replace(whole.subset(rows), test=whole.test.select(torch.arange(50)))


def teacher(source):
    """A network that nobody has trained."""
    network = parse("convnet:norm=batch,width=6").build(source.shape, 10, torch.Generator().manual_seed(3))
    return network.eval()


def student():
    """A network of one's own, which drops."""
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 10)
    )


def trained(method, source, runtime=None):
    """The losses of all steps, and all tensors of the state."""
    runtime = runtime or Runtime(QUIET, 0)
    method = method.resolve(source, runtime)
    state = method.build(source, runtime)
    losses = [float(method.step(state, runtime)["loss"]) for _ in range(method.total_steps)]
    tensors = {name: tensor.clone() for name, tensor in pack(state)[0].items()}
    return tensors | {"losses": torch.tensor(losses)}


def found(name, folder):
    """What a training has learned.

    Args:
        name: Its name.
        folder: A set with stored labels lies there.
    """
    if name == BESIDE:
        network, protocol = parse("convnet:width=4,norm=batch").resolve((1, 8, 8)), replace(BRIEF, batch=31)
        return cached_network(digits(), network, Runtime(QUIET, 7), protocol).network.state_dict()
    kind, name = name.split(": ")
    if kind == "network":
        network, protocol = PROTOCOL[name]
        carried = protocol.get("target", "label") != "label"
        source = attar.open_artefact(folder / "set") if carried else digits()
        method = TrainNetwork(architecture=parse(network), protocol=replace(BRIEF, **protocol))
        return trained(method, source)
    source = digits()
    return trained(CLASSIFIERS[name], Pair(source, teacher(source), student() if name == "stored kd" else None))


def killed(folder):
    """A run that dies at its third step."""
    step = CRD.step

    def dying(self, state, runtime):
        if state.done == 2:
            os._exit(0)
        return step(self, state, runtime)

    CRD.step = dying
    begun(folder)


def begun(folder):
    """A run in a folder."""
    source, runtime = digits(), Runtime(QUIET, 0)
    pair = Pair(source, teacher(source))
    return engine.run(CLASSIFIERS["crd"].resolve(pair, runtime), pair, runtime, out=folder / "killed")


def main(folder, names):
    """Train some of them in this process, one of several."""
    rank = os.environ["RANK"]
    for name in names:
        number = NAMES.index(name)
        save_file({key: one.contiguous() for key, one in found(name, folder).items()}, folder / f"{number}-{rank}")
    killed(folder)


if __name__ == "__main__":
    children = []
    for rank in range(int(os.environ["WORLD_SIZE"])):
        if not (child := os.fork()):
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            main(Path(sys.argv[1]), sys.argv[2:])
        children.append(child)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
