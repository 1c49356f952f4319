"""Classes that come in turn."""

import dataclasses

import numpy as np
import pytest
import torch

import attar
from attar.bench import continual as table
from attar.cli import main
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.images.continual import ContinualLearning, class_order, learn, merged
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from attar.images.score import train_and_test
from attar.images.trained import Auxiliary

TINY = Architecture(width=4)
BRIEF = Protocol(name="brief", epochs=3, lr=0.05)


def settings(**given):
    return ContinualLearning(
        **{"steps": 5, "orders": 2, "networks": 2, "architecture": TINY, "protocol": BRIEF, **given}
    )


def test_orders_are_numpys_permutations():
    for seed in range(5):
        assert class_order(100, seed).tolist() == np.random.RandomState(seed).permutation(100).tolist()
    assert class_order(10, 0).tolist() == [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]


def test_memories_are_put_together_in_the_numbering_of_the_whole(digits, engine):
    come = torch.tensor([7, 2, 5, 0])
    parts = [
        attar.condense(digits.with_classes(new.tolist()), attar.Random(ipc=2), engine=engine) for new in come.split(2)
    ]
    whole = merged(parts, come, digits)
    assert whole.labels.tolist() == [7, 7, 2, 2, 5, 5, 0, 0]
    assert whole.classes == digits.classes
    soft = [dataclasses.replace(part, labels=torch.nn.functional.one_hot(part.labels, 2).float()) for part in parts]
    assert merged(soft, come, digits).labels.argmax(dim=1).tolist() == whole.labels.tolist()


def test_one_step_is_plain_evaluation(digits, engine):
    found = learn(attar.Random(ipc=2), digits, settings(steps=1, orders=1), engine=engine)
    come = class_order(10, 0)
    small = merged(
        [attar.condense(digits.with_classes(come.tolist()), attar.Random(ipc=2), seed=0, engine=engine)], come, digits
    )
    assert list(found.values[0][0]) == train_and_test(small, digits, TINY, BRIEF, 2, Runtime(engine, 0))
    assert found.seen == (10,)


def test_old_memories_are_never_touched(digits, engine, tmp_path):
    learn(attar.Random(ipc=1), digits, settings(orders=1, steps=2), out=tmp_path, engine=engine)
    before = (tmp_path / "order-0" / "step-0" / "images.safetensors").read_bytes()
    alone = attar.condense(
        digits.with_classes(class_order(10, 0)[:5].tolist()), attar.Random(ipc=1), seed=0, engine=engine
    )
    assert attar.open_artefact(tmp_path / "order-0" / "step-0").fingerprint == alone.fingerprint
    learn(attar.Random(ipc=1), digits, settings(orders=2, steps=2), out=tmp_path, engine=engine)
    assert (tmp_path / "order-0" / "step-0" / "images.safetensors").read_bytes() == before


def test_a_stopped_one_goes_on(digits, engine, tmp_path, monkeypatch):
    whole = learn(attar.Random(ipc=1), digits, settings(), engine=engine)
    learn(attar.Random(ipc=1), digits, settings(orders=1), out=tmp_path, engine=engine)
    tested = []
    real = train_and_test
    monkeypatch.setattr("attar.images.continual.train_and_test", lambda *a: tested.append(1) or real(*a))
    assert learn(attar.Random(ipc=1), digits, settings(), out=tmp_path, engine=engine) == whole
    assert len(tested) == 5  # the second order only


def test_accuracy_is_over_the_classes_seen_and_falls_as_they_grow(digits, engine):
    found = learn(
        attar.Random(ipc=10), digits, settings(orders=1, protocol=dataclasses.replace(BRIEF, epochs=60)), engine=engine
    )
    assert found.seen == (2, 4, 6, 8, 10)
    assert found.images == 100
    assert found.after(0).value > 80
    assert found.after(0).value > found.final.value > 30


def test_herding_trains_its_network_on_the_new_classes_only(digits, engine, monkeypatch):
    seen = []
    real = Auxiliary.found
    monkeypatch.setattr(
        Auxiliary, "found", lambda self, source, *a: seen.append(source.classes) or real(self, source, *a)
    )
    method = attar.Herding(ipc=1, observer=Auxiliary(architecture=TINY, protocol=BRIEF))
    learn(method, digits, settings(orders=1, networks=1), engine=engine)
    assert [len(classes) for classes in seen] == [2] * 5


def test_the_papers_scale_is_a_preset():
    cell = ContinualLearning.paper(steps=10)
    assert (cell.steps, cell.orders, cell.networks, cell.protocol.epochs) == (10, 5, 3, 1000)


@pytest.mark.parametrize(
    "method, changes, sentence",
    [
        (attar.Random(ipc=1), {"steps": 3}, "steps is 3, which does not divide 10 classes equally."),
        (attar.DM(ipc=1, zca=True), {}, "whitening is fitted on all classes, but a step has only some of them"),
        (attar.Random(ipc=999), {}, "ipc is 999, but class"),
    ],
)
def test_what_cannot_be_is_refused(method, changes, sentence, digits, engine):
    with pytest.raises(InputError) as refusal:
        learn(method, digits, settings(**changes), engine=engine)
    assert sentence in str(refusal.value)


def test_the_table_prints_every_step_and_is_kept(tmp_path, capsys):
    words = "--methods random dm:steps=2,real_batch=2,width=4 --ipc 1 --orders 2 --architecture mlp:width=4 --quiet"
    main(
        ["bench", "continual", *words.split(), "--out", str(tmp_path / "out"), "--record", str(tmp_path / "kept.json")]
    )
    text = capsys.readouterr().out
    assert "10 classes" in text
    assert "dm:steps=2,real_batch=2,width=4" in text
    assert (tmp_path / "kept.json").exists()


def test_published_figures_stand_beside_ours(digits, engine):
    found = learn(attar.Random(ipc=1), digits, settings(orders=1, networks=1), engine=engine)
    grid = table.table({"random": found, "dm:steps=3": found}, "cifar100")
    assert list(grid.columns[-1].cells) == ["24.8", "34.4"]
