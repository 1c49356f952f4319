"""Small data and short runs for the tests of methods with the global contrastive loss."""

import functools
from dataclasses import replace

import torch
import torch.nn.functional as F

from attar.core.runtime import Engine, Runtime
from attar.embeddings.reading import Reading
from attar.embeddings.sources import Source
from attar.images.sources import load

SMALL = {"encoder": "convnet:norm=batch,width=16,depth=2", "epochs": 2, "batch": 32}


@functools.cache
def digits(per_class=30):
    """A few digits of each class."""
    whole = Source.of_images(load("digits"))
    return whole.subset(torch.cat([rows[:per_class] for rows in whole.rows_of]))


@functools.cache
def mosaics(train=200, test=100):
    """Mosaics of digits with their captions."""
    whole = Reading(mosaics=train if train > 1024 else 0).load("mosaics")
    return replace(whole.subset(torch.arange(train)), test=whole.test.select(torch.arange(test)))


def trained(method, source, seed=0):
    """The artefact of a whole run, with its state and the settings that were filled in."""
    runtime = Runtime(Engine(device="cpu", quiet=True), seed)
    found = method.resolve(source, runtime)
    state = found.build(source, runtime)
    told = [found.step(state, runtime) for _ in range(found.total_steps)]
    return found.result(state, runtime), state, found, told


def images_of(part):
    """The pixels of a part as a user gives them."""
    return part.samples[torch.arange(len(part))].numpy()


def nearest(artefact, source):
    """The share of test samples whose five nearest training samples have their label, by majority."""
    features = [F.normalize(torch.from_numpy(artefact.transform(images_of(part)))) for part in
                (source.train, source.test)]  # fmt: skip
    rows = (features[1] @ features[0].T).topk(5).indices
    return float((source.train.labels[rows].mode(dim=1).values == source.test.labels).float().mean())
