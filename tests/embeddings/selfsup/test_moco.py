"""MoCo: its queue, its slow encoder and its loss, the numbers of a released queue, and small runs."""

import copy
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.embeddings.heads import Projector
from attar.embeddings.losses import MomentumQueue, info_nce
from attar.embeddings.selfsup.moco import MoCo, Momentum
from attar.embeddings.sources import Source
from attar.embeddings.views import Views
from attar.verbs import run
from promises import dying

RELEASED = Path(os.environ.get("ATTAR_DATA", "")).parent / "fixtures" / "embeddings"
"""Where the numbers of the released code lie, on machines that have them."""
SMALL = {"encoder": "convnet:norm=batch,width=8", "epochs": 2, "batch": 16, "projector": Projector(projected=16)}
OFTEN = Engine(device="cpu", compile="off", quiet=True, checkpoint_seconds=0)


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def images(shapes):
    return Source.of_images(shapes)


def unit(draw, *shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=draw), dim=-1)


def begun(method, source, seed=0):
    runtime = Runtime(Engine(device="cpu", compile="off", quiet=True), seed)
    method = method.resolve(source, runtime)
    return method, method.build(source, runtime), runtime


def test_with_the_batch_as_queue_it_is_the_contrast_of_the_batch(draw):
    query, key = unit(draw, 6, 5), unit(draw, 6, 5)
    wanted = F.cross_entropy(query @ key.T / 0.2, torch.arange(6))
    each = [info_nce(query[[i]], key[[i]], 0.2, key[torch.arange(6) != i]) for i in range(6)]
    torch.testing.assert_close(torch.stack(each).mean(), wanted)


def test_equal_embeddings_are_told_apart_by_chance(draw):
    one = unit(draw, 1, 5)
    loss = info_nce(one.expand(4, 5), one.expand(4, 5), 0.1, one.expand(9, 5))
    torch.testing.assert_close(loss, torch.tensor(10.0, dtype=torch.float64).log())


@pytest.mark.parametrize("size, batches", [(8, [4, 4, 4]), (7, [3, 3, 3, 3]), (4, [4, 4]), (5, [2, 11, 3]), (1, [6])])
def test_a_queue_holds_the_latest_keys(draw, size, batches):
    queue, seen = MomentumQueue(size, 5).double(), []
    for count in batches:
        seen.append(unit(draw, count, 5))
        queue.add_(seen[-1])
    latest = torch.cat(seen)[-size:]
    place = int(queue.pointer)
    held = torch.cat([queue.keys[place:], queue.keys[:place]])[-len(latest) :]
    torch.testing.assert_close(held, latest)


def test_the_queue_of_a_released_loss():
    if not RELEASED.is_dir():
        pytest.skip("the numbers of the released code are not at hand")
    tensors = load_file(RELEASED / "moco_queue.safetensors")
    for case, steps in (("divisible", 3), ("not_divisible", 4), ("batch_equals_bank", 2)):
        own = {name.removeprefix(f"{case}."): t for name, t in tensors.items() if name.startswith(f"{case}.")}
        for step in range(1, steps + 1):
            now = {n.removeprefix(f"step{step}."): t for n, t in own.items() if n.startswith(f"step{step}.")}
            query, key = (now[f"in.{side}"].clone().requires_grad_() for side in ("query", "key"))
            loss = info_nce(query, key, 0.1, now["before.bank"])
            loss.backward()
            torch.testing.assert_close(loss, now["out.loss"].squeeze())
            torch.testing.assert_close(query.grad, now["out.grad.query"])
            torch.testing.assert_close(key.grad, now["out.grad.key"])
            queue = MomentumQueue(*now["before.bank"].shape).double()
            queue.keys.copy_(now["before.bank"])
            queue.pointer.copy_(now["before.pointer"])
            queue.add_(key)
            place, size, count = int(now["before.pointer"]), len(queue.keys), len(key)
            fits = min(count, size - place)
            torch.testing.assert_close(queue.keys[place : place + fits], now["after.bank"][place : place + fits])
            # The released queue drops the keys that run over its end; ours go on at its beginning.
            torch.testing.assert_close(queue.keys[: count - fits], F.normalize(key.detach())[fits:])
            assert int(queue.pointer) == (place + count) % size


def test_the_slow_encoder_follows_before_keys_are_made(images):
    method, state, runtime = begun(MoCo(**SMALL, keys=Momentum(queue=7, encoder_momentum=0.75)), images)
    method.step(state, runtime)
    fast, slow = copy.deepcopy(state.encoder.state_dict()), copy.deepcopy(state.slow["encoder"].state_dict())
    assert any(not torch.equal(fast[name], slow[name]) for name in fast)
    # A step moves the slow encoder towards the weights before the step, which are those in `fast`.
    method.step(state, runtime)
    for name, parameter in state.slow["encoder"].named_parameters():
        torch.testing.assert_close(parameter, 0.75 * slow[name] + 0.25 * fast[name])
        assert parameter.grad is None and not parameter.requires_grad


@pytest.mark.parametrize("queue", [5, 13, 16, 48, 60], ids=lambda size: f"queue of {size}")
@pytest.mark.parametrize("both_ways, parts", [(False, 1), (True, 3)], ids=["one way", "both ways"])
def test_queues_of_any_length_serve_batches_of_any_size(images, queue, both_ways, parts):
    keys = Momentum(queue=queue, both_ways=both_ways, key_parts=parts)
    method, state, runtime = begun(MoCo(**SMALL, keys=keys), images)
    losses = [float(method.step(state, runtime)["loss"]) for _ in range(method.total_steps)]
    assert len(images.train) % method.batch and torch.tensor(losses).isfinite().all()
    pushed = 2 * len(images.train) * (2 if both_ways else 1)
    assert int(state.memory["queue"].pointer) == pushed % queue
    torch.testing.assert_close(state.memory["queue"].keys.norm(dim=1), torch.ones(queue))


def test_parts_of_keys_have_statistics_of_their_own(images):
    method, state, runtime = begun(MoCo(**SMALL, keys=Momentum(queue=8, key_parts=2)), images)
    views = method.drawn(state, runtime).views
    halves = torch.cat([state.slow["projector"](state.slow["encoder"](half)) for half in views[0].chunk(2)])
    torch.testing.assert_close(method.keys._keys(views[0], "projector", state), halves)
    # Too many parts would leave batch norm with single samples.
    assert Momentum(key_parts=99)._keys(views[0][:5], "projector", state).shape == (5, 16)


def test_the_queue_fits_the_data(images):
    assert begun(MoCo(**SMALL), images)[0].keys.queue == 15
    assert Momentum().resolve(50_000).queue == 4096
    with pytest.raises(InputError, match="queue is 61, but there are 60 samples, and each would be its own negative"):
        begun(MoCo(**SMALL, keys=Momentum(queue=61)), images)


def test_it_learns_to_find_the_other_view(digits):
    source = Source.of_images(digits.subset(torch.cat([rows[:40] for rows in digits.rows_of])))
    settings = {**SMALL, "epochs": 12, "batch": 40, "encoder": "convnet:norm=batch,width=16"}
    settings["view"] = Views(jitter=0.0)
    method, state, runtime = begun(MoCo(**settings, keys=Momentum(queue=80)), source)
    losses = [float(method.step(state, runtime)["loss"]) for _ in range(method.total_steps)]
    # The queue starts with random directions, which are easy to tell from a key; then it holds keys.
    assert sum(losses[-20:]) < 0.92 * sum(losses[10:30])


def test_killed_and_resumed_it_ends_in_the_same_bytes(images, tmp_path):
    method = MoCo(**SMALL, keys=Momentum(queue=13, both_ways=True, encoder_momentum=0.6))
    whole = run("train", images, method, out=tmp_path / "whole", engine=OFTEN)
    for step in (1, 4):
        with dying(method, step):
            run("train", images, method, out=tmp_path / "again", engine=OFTEN)
    again = run("train", images, method, out=tmp_path / "again", engine=OFTEN)
    assert {name: t.numpy().tobytes() for name, t in whole.learned.items()} == {
        name: t.numpy().tobytes() for name, t in again.learned.items()
    }
