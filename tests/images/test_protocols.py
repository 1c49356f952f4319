import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F

import attar
from attar.cli import main
from attar.core.errors import InputError
from attar.core.flags import parse
from attar.images.data.whiten import Transform
from attar.images.networks.architecture import Architecture
from attar.images.protocols import PROTOCOLS, Chosen, Protocol, protocol_named
from attar.images.repeats import centre
from attar.images.scoring import Scoring
from attar.images.targets import augmented, loss_of, teacher_of
from attar.images.training import TrainedNetwork, TrainNetwork
from images.helpers import NARROW, PLAIN


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


# Protocols of the sheets.


@pytest.mark.parametrize(
    "name, batch, tested_on",
    [
        ("rded-ipc1", 10, "whole"),
        ("rded", 50, "whole"),
        ("rded-ipc50", 100, "whole"),
        ("rded-cifar100", 25, "whole"),
        ("rded-tiny", 100, "centre"),
        ("rded-imagenette-ipc1", 10, "centre"),
        ("rded-imagenet-ipc1", 20, "centre"),
        ("rded-imagenet", 100, "centre"),
        ("rded-imagenet-ipc50", 200, "centre"),
    ],
)
def test_rdeds_batches_depend_on_the_data(name, batch, tested_on):
    found = PROTOCOLS[name]
    assert (found.batch, found.tested_on, found.lr) == (batch, tested_on, 2e-3 if "cifar100" in name else 1e-3)
    assert (found.epochs, found.mix, found.temperature, found.schedule) == (300, "cutmix", 20, "half-cosine")


def test_the_other_forms_of_the_sheets():
    assert (PROTOCOLS["datm"].batch, PROTOCOLS["edf"].batch, PROTOCOLS["edf"].largest_shift) == (128, 128, 0.25)
    cifar, tiny, large = (PROTOCOLS[f"sre2l-{data}"] for data in ("cifar", "tiny", "imagenet"))
    assert (cifar.epochs, cifar.batch, cifar.mix, cifar.temperature) == (400, 128, "mixup", 30)
    assert (cifar.teacher_statistics, cifar.augmentation, cifar.target) == ("batch", "shift", "teacher")
    assert (tiny.epochs, tiny.batch, tiny.lr, tiny.mix, tiny.optimizer) == (100, 256, 0.2, "none", "sgd")
    assert (tiny.squared, tiny.temperature, tiny.rise, tiny.weight_decay) == (True, 20, 5, 1e-4)
    assert (large.batch, PROTOCOLS["sre2l"].batch, large.target) == (1024, 128, "stored")
    assert [PROTOCOLS["ast"].lr_at(epoch) for epoch in (501, 502)] == pytest.approx([0.01, 0.005])


def test_a_step_size_rises_first():
    tiny = PROTOCOLS["sre2l-tiny"]
    assert [tiny.lr_at(epoch) for epoch in (0, 1, 5)] == pytest.approx([0.002, 0.0416, 0.2])
    assert tiny.lr_at(52) == pytest.approx(0.2 * (1 + math.cos(math.pi * 47 / 95)) / 2)


def test_momentum_changes_with_the_cut(shapes, engine, runtime):
    few = shapes.subset(torch.cat([rows[:4] for rows in shapes.rows_of]))
    how = Protocol(name="p", epochs=4, batch=64, cut_momentum=0.8, augmented=False)
    method = TrainNetwork(architecture=NARROW, protocol=how).resolve(few)
    state, seen = method.build(few, runtime), []
    for _ in range(method.total_steps):
        method.step(state, runtime)
        seen.append(state.optimizer.param_groups[0]["momentum"])
    assert seen == [0.9] * 4 and how.cut_epoch == 4
    late = dataclasses.replace(how, epochs=5, cut_after=0.0)
    method = TrainNetwork(architecture=NARROW, protocol=late).resolve(few)
    state, seen = method.build(few, runtime), []
    for _ in range(method.total_steps):
        method.step(state, runtime)
        seen.append(state.optimizer.param_groups[0]["momentum"])
    assert seen == [0.9] * 2 + [0.8] * 3
    method.restart(state, runtime)
    method.step(state, runtime)
    assert state.optimizer.param_groups[0]["momentum"] == 0.9


class Few:
    """Examples of black and white images of one channel."""

    transform = Transform((0.25,), (0.5,))
    flips, shape, classes, targets, fingerprint = True, (1, 8, 8), ("a", "b"), torch.tensor([0, 1]), ""

    def inputs(self, rows, device="cpu"):
        raise NotImplementedError


def test_shifts_fill_with_black_and_mirror_half(runtime):
    pixels = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)).clamp_min(0.1)
    how = Protocol(name="p", epochs=1, augmentation="shift")
    found = Few.transform.inverse(augmented(Few.transform.forward(pixels), Few(), how, runtime))
    padded = F.pad(pixels, (1, 1, 1, 1))
    mirrored = 0
    for image, wide in zip(found, padded, strict=True):
        windows = {(y, x): wide[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)}
        plain = [place for place, window in windows.items() if torch.allclose(window, image, atol=1e-6)]
        turned = [place for place, window in windows.items() if torch.allclose(window.flip(2), image, atol=1e-6)]
        assert len(plain) + len(turned) == 1
        mirrored += len(turned)
    assert 16 < mirrored < 48


def test_images_that_may_not_be_mirrored_are_only_shifted(runtime, monkeypatch):
    monkeypatch.setattr(Few, "flips", False)
    ramp = torch.arange(8.0).expand(40, 1, 8, 8) / 8 + 0.1
    how = Protocol(name="p", epochs=1, augmentation="shift", largest_shift=0.25)
    found = Few.transform.inverse(augmented(Few.transform.forward(ramp), Few(), how, runtime))
    inside = found[:, 0, 3:5, 2:6]
    assert (inside.diff(dim=2) > 0).all()


def test_a_teacher_may_take_the_statistics_of_the_batch(digits, runtime, tmp_path):
    network = Architecture(norm="batch", width=8).build(digits.shape, 10, torch.Generator().manual_seed(0))
    small = attar.condense(digits, attar.Random(ipc=1), engine=runtime.engine)
    method = TrainNetwork(architecture=Architecture(norm="batch", width=8))
    examples = dataclasses.replace(small, teacher=TrainedNetwork(network, method, digits.shape, small.classes))
    usual, of_batch = (teacher_of(examples, runtime, of_batch=batch) for batch in (False, True))
    images = examples.inputs(torch.arange(10))
    whole = network.train()(images)
    assert torch.allclose(of_batch(images), whole, atol=1e-5)
    assert not torch.allclose(usual(images), whole, atol=1e-2)
    assert torch.allclose(usual(images[:5]), usual(images)[:5], atol=1e-5)


def test_the_divergence_may_have_the_factor_of_its_temperature(generator):
    logits, answers = (torch.randn(4, 3, generator=generator) for _ in range(2))
    plain, squared = (dataclasses.replace(PROTOCOLS["rded"], squared=squared) for squared in (False, True))
    assert loss_of(logits, answers, squared).item() == pytest.approx(400 * loss_of(logits, answers, plain).item())


def test_the_centre_is_that_of_the_enlarged_image():
    pixels = torch.randint(256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(pixels / 255, size=(72, 72), mode="bilinear")
    assert torch.allclose(centre(pixels), large[:, :, 4:68, 4:68], atol=1e-6)
    for side in (6, 8, 16, 32):
        same = torch.zeros(1, 1, side, side, dtype=torch.uint8)
        assert centre(same) is same
    assert centre(torch.zeros(1, 1, 28, 56)).shape == (1, 1, 28, 56)


# A protocol with changes.


def test_changes_start_from_the_protocol_of_the_name():
    changed = dataclasses.replace(Chosen.by("quick"), epochs=20).whole()
    assert changed == dataclasses.replace(PROTOCOLS["quick"], epochs=20)
    assert (changed.told, PROTOCOLS["quick"].told) == ("quick, epochs 20", "quick")
    assert protocol_named(Chosen.by()) == PROTOCOLS["field"]
    assert Chosen.by().whole("dc") == PROTOCOLS["dc"]
    with pytest.raises(InputError, match="did you mean 'quick'"):
        Chosen.by("quik").whole()
    with pytest.raises(InputError, match=r"epochs is 0; it must be at least 1\."):
        dataclasses.replace(Chosen.by("quick"), epochs=0)


def test_every_setting_of_a_protocol_can_be_changed():
    names = {field.name for field in dataclasses.fields(Protocol)} - {"name"}
    assert all(getattr(Chosen.by("dc"), name) is None for name in names)
    words = ["--protocol", "rded", "--protocol.epochs", "7", "--protocol.lr=0.5", "--no-protocol.augmented"]
    found = parse({"scoring": Scoring()}, words, program="attar evaluate")["scoring"].protocol.whole()
    assert found == dataclasses.replace(PROTOCOLS["rded"], epochs=7, lr=0.5, augmented=False)
    assert found.told == "rded, epochs 7, lr 0.5, augmented False"
    assert Scoring.from_names(protocol="quick").protocol.whole() == PROTOCOLS["quick"]
    assert Scoring.from_names(protocol={"name": "quick", "lr": 1.0}).protocol.whole().lr == 1.0
    assert Scoring.from_names(protocol=PLAIN).protocol is PLAIN


def test_scores_say_how_a_protocol_was_changed(digits, tmp_path, capsys):
    main(["condense", "random", "--data", "digits", "--ipc", "1", "--out", str(tmp_path), "--quiet"])
    how = ["--protocol", "quick", "--protocol.epochs", "3", "--networks", "mlp:width=8", "--repeats", "1"]
    main(["evaluate", str(tmp_path), *how, "--ceiling", "skip", "--beside", "skip", "--device", "cpu"])
    assert "(quick, epochs 3 protocol" in capsys.readouterr().out
    (cell,) = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["scores"]
    assert cell["protocol"] == "quick, epochs 3"
    assert (cell["trained"]["epochs"], cell["trained"]["lr"]) == (3, 0.1)
    assert "quick, epochs 3" in (tmp_path / "README.md").read_text(encoding="utf-8")
