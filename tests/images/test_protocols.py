import math

import pytest

from attar.core.errors import InputError
from attar.images.protocols import PROTOCOLS, Protocol, protocol_named
from images.helpers import PLAIN


@pytest.mark.parametrize(
    "name, epochs, batch, augmented",
    [("field", 1000, 256, True), ("dc", 300, 256, False), ("datadam", 1801, 64, True)],
)
def test_the_published_protocols_are_as_published(name, epochs, batch, augmented):
    protocol = protocol_named(name)
    assert (protocol.epochs, protocol.batch, protocol.augmented) == (epochs, batch, augmented)
    assert (protocol.lr, protocol.momentum, protocol.weight_decay) == (0.01, 0.9, 5e-4)
    assert protocol.cut_epoch == epochs // 2 + 2


def test_every_protocol_goes_by_its_name():
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())
    assert protocol_named(PLAIN) is PLAIN


def test_an_unknown_protocol_is_refused():
    with pytest.raises(InputError) as refusal:
        protocol_named("feild")
    assert str(refusal.value) == (
        "unknown protocol 'feild'; did you mean 'field'? Known: ast, ceiling, datadam, datm, dc, edf, field, hello, "
        "quick, rded, rded-cifar100, rded-imagenet, rded-imagenet-ipc1, rded-imagenet-ipc50, rded-imagenette, "
        "rded-imagenette-ipc1, rded-imagenette-ipc50, rded-ipc1, rded-ipc50, rded-tiny, sre2l, sre2l-cifar, "
        "sre2l-imagenet, sre2l-tiny."
    )


def test_a_step_size_is_cut_once_or_falls_along_a_cosine():
    cut, whole, half = (Protocol(name="p", epochs=8, lr=2.0, schedule=s) for s in ("cut", "cosine", "half-cosine"))
    assert [cut.lr_at(epoch) for epoch in range(8)] == pytest.approx([2.0] * 6 + [0.2] * 2)
    assert [whole.lr_at(e) for e in range(8)] == pytest.approx([1 + math.cos(math.pi * e / 8) for e in range(8)])
    assert [half.lr_at(e) for e in range(8)] == pytest.approx([1 + math.cos(math.pi * e / 16) for e in range(8)])
