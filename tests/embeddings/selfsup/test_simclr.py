"""SimCLR and DCL as methods: what a step minimises, small runs, published settings."""

import pytest
import torch

from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.embeddings.heads import Projector
from attar.embeddings.losses import dcl, nt_xent
from attar.embeddings.selfsup.dcl import DCL
from attar.embeddings.selfsup.simclr import SimCLR
from attar.embeddings.sources import Source

SMALL = {"encoder": "convnet:norm=batch,width=8", "batch": 16, "projector": Projector(projected=16)}


def begun(method, source, seed=0):
    runtime = Runtime(Engine(device="cpu", compile="off", quiet=True), seed)
    method = method.resolve(source, runtime)
    return method, method.build(source, runtime), runtime


@pytest.mark.parametrize(
    "method, loss",
    [
        (SimCLR(epochs=1, contrast_temperature=0.3, **SMALL), lambda a, b: nt_xent(a, b, 0.3)),
        (DCL(epochs=1, contrast_temperature=0.3, **SMALL), lambda a, b: dcl(a, b, 0.3)),
        (DCL(epochs=1, positive_sigma=0.5, **SMALL), lambda a, b: dcl(a, b, 0.1, 0.5)),
    ],
    ids=["simclr", "dcl", "dclw"],
)
def test_a_step_minimises_the_loss_of_projections(method, loss, shapes):
    method, state, runtime = begun(method, Source.of_images(shapes))
    batch = method.drawn(state, runtime)
    found = method.terms(batch, state)["contrast"]
    first, second = (state.heads["projector"](view) for view in method.encoded(batch, state))
    torch.testing.assert_close(found, loss(first, second))


@pytest.mark.parametrize("family", [SimCLR, DCL])
def test_it_learns(family, shapes):
    method, state, runtime = begun(family(epochs=12, **SMALL), Source.of_images(shapes))
    losses = [float(method.step(state, runtime)["loss"]) for _ in range(method.total_steps)]
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])


def test_published_settings():
    cell = SimCLR.paper("imagenet")
    assert (cell.batch, cell.lr, cell.optimizer, cell.contrast_temperature, cell.epochs) == (
        4096,
        4.8,
        "lars",
        0.1,
        100,
    )
    assert (SimCLR.paper("cifar10").contrast_temperature, SimCLR.paper("CIFAR100").lr) == (0.5, 0.5)
    assert SimCLR.paper("cifar10-800").lr == pytest.approx(0.06 * 512 / 128)
    assert (DCL.paper("cifar10-200").batch, DCL.paper("cifar10-200").contrast_temperature) == (128, 0.1)
    with pytest.raises(InputError, match="DCL has no cell of 'imagenet'"):
        DCL.paper("imagenet")
