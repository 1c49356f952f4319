import dataclasses
import hashlib
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.images.condense.ast import SMOOTH
from attar.images.expert_pool import open_experts, smoothness
from attar.images.experts import (
    Experts,
    TrainExperts,
    flat_direction,
    flat_network,
    gradient_penalty,
    loss_gradient,
)
from attar.images.networks.architecture import Architecture
from attar.images.networks.flat import FlatNetwork

ENGINE = Engine(device="cpu", compile="off", quiet=True)
SMALL = Architecture(width=8, norm="instance", depth=2)


def train(source, experts=None, *, first=0, together=1, epochs=2, augmentation="none"):
    runtime = Runtime(ENGINE)
    method = TrainExperts(
        experts=experts or Experts(),
        architecture=SMALL,
        augmentation=augmentation,
        epochs=epochs,
        first=first,
        together=together,
    ).resolve(source, runtime)
    state = method.build(source, runtime)
    for _ in range(method.total_steps):
        method.step(state, runtime)
    return method.result(state, runtime).vectors


def test_a_vector_is_the_networks_parameters_and_back(digits):
    network = SMALL.build(digits.shape, 10, torch.Generator().manual_seed(0))
    images = digits.inputs(torch.arange(5))
    wanted = network(images)
    flat = FlatNetwork(network)
    assert flat.length == sum(p.numel() for p in network.parameters())
    assert torch.allclose(flat.logits(flat.vector(), images), wanted)
    other = torch.randn(flat.length)
    assert torch.equal(FlatNetwork(flat.filled(other)).vector(), other)


def test_a_plain_expert_is_what_torchs_own_sgd_makes(few_digits):
    experts = Experts(batch=50, momentum=0.9, weight_decay=1e-3, cut_epoch=1, cut=0.5)
    vectors = train(few_digits, experts)[0]
    runtime = Runtime(ENGINE)
    flat = flat_network(SMALL, few_digits, runtime)
    network = flat.filled(vectors[0]).requires_grad_(True)
    for epoch in range(2):
        optimizer = torch.optim.SGD(network.parameters(), 0.01 * 0.5**epoch, momentum=0.9, weight_decay=1e-3)
        order = torch.randperm(120, generator=runtime.generator("shuffle 0"))
        for rows in order.split(50):
            loss = F.cross_entropy(network(few_digits.inputs(rows)), few_digits.targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert torch.allclose(FlatNetwork(network).vector(), vectors[epoch + 1], atol=1e-5)
        network.requires_grad_(True)


def test_an_expert_is_the_same_alone_and_among_others(few_digits):
    one_by_one = torch.cat([train(few_digits, first=n, augmentation="color_crop") for n in range(3)])
    together = train(few_digits, together=3, augmentation="color_crop")
    assert torch.allclose(together, one_by_one, atol=1e-4)
    assert not torch.allclose(one_by_one[0], one_by_one[1], atol=1e-2)


# Flat and smooth.


def quadratic(matrix):
    return lambda vectors: (vectors @ matrix, 0.5 * (vectors @ matrix * vectors).sum(dim=1))


def test_gsam_without_a_radius_is_the_gradient_and_without_a_gap_adaptive_sam():
    vectors = torch.randn(2, 6, dtype=torch.float64)
    matrix = torch.randn(6, 6, dtype=torch.float64)
    gradient = quadratic(matrix @ matrix.T)
    assert torch.equal(flat_direction(vectors, gradient, radius=0, gap=0.3)[0], gradient(vectors)[0])
    g = gradient(vectors)[0]
    step = 0.1 * vectors**2 * g / (vectors.abs() * g).norm(dim=1, keepdim=True)
    found = flat_direction(vectors, gradient, radius=0.1, gap=0.0)[0]
    assert torch.allclose(found, gradient(vectors + step)[0])


def test_what_gsam_takes_off_lies_across_the_perturbed_gradient():
    vectors = torch.randn(1, 6, dtype=torch.float64)
    matrix = torch.randn(6, 6, dtype=torch.float64)
    gradient = quadratic(matrix @ matrix.T)
    plain = flat_direction(vectors, gradient, radius=0.5, gap=0.0)[0]
    across = plain - flat_direction(vectors, gradient, radius=0.5, gap=1.0)[0]
    assert across.norm() > 1e-3
    assert abs(float((across * plain).sum() / across.norm() / plain.norm())) < 1e-6


def linear(weights):
    network = nn.Sequential(nn.Flatten(), nn.Linear(weights[0].numel(), len(weights), bias=False)).double()
    with torch.no_grad():
        network[1].weight.copy_(weights.flatten(1))
    return FlatNetwork(network)


def test_the_penalty_of_a_linear_network_is_its_closed_form():
    weights = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    flat, images = linear(weights), torch.randn(7, 3, 5, 5, dtype=torch.float64)
    found = gradient_penalty(flat, flat.vector(), images, 2.0, torch.tensor(1 / 7, dtype=torch.float64))
    wanted = 2 * (weights.sum(dim=0).norm(dim=0) - 1).square().mean()
    assert float(found) == pytest.approx(float(wanted))
    ones = F.normalize(weights.sum(dim=0), dim=0) / 4
    unit = linear(ones.expand(4, 3, 5, 5))
    assert float(gradient_penalty(unit, unit.vector(), images, 2.0, torch.tensor(1.0).double())) < 1e-20


def test_the_penalty_trains_through_second_derivatives_and_knows_no_labels(few_digits):
    flat = flat_network(SMALL, few_digits, Runtime(ENGINE))
    vector, images = flat.vector(), few_digits.inputs(torch.arange(6))
    weight = torch.tensor(1 / 6)
    with_labels = [
        loss_gradient(flat, 2.0, vector, images, images, labels, weight)[0]
        - loss_gradient(flat, 0.0, vector, images, images, labels, weight)[0]
        for labels in (torch.zeros(6, dtype=torch.long), torch.arange(6))
    ]
    assert torch.allclose(*with_labels, atol=1e-4)
    assert with_labels[0].norm() > 1e-3


def test_the_warm_up_is_a_scale_of_the_loss(few_digits):
    scales = [SMOOTH.loss_scale(epoch) for epoch in (0, 1, 9, 10, 30)]
    assert scales == pytest.approx([0.5, 0.55, 0.95, 1.0, 1.0])
    halved = train(few_digits, Experts(lr=0.005), epochs=1)
    warm = train(few_digits, Experts(smooth_warm_up=True), epochs=1)
    assert torch.allclose(halved, warm, atol=1e-6)
    assert smoothness(warm[0])["first"] < smoothness(train(few_digits, epochs=1)[0])["first"]


@pytest.mark.parametrize("epoch, factor", [(0, 0.5), (1, 0.55), (4, 0.7), (9, 0.95), (10, 1.0)])
def test_the_warm_up_leaves_the_penalty_alone(epoch, factor):
    weights = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    flat, images = linear(weights), torch.randn(7, 3, 5, 5, dtype=torch.float64)
    labels, mean = torch.randint(4, (7,)), torch.tensor(1 / 7, dtype=torch.float64)
    vector, warm = flat.vector(), torch.tensor(SMOOTH.loss_scale(epoch), dtype=torch.float64)
    gradient, value = loss_gradient(flat, 2.0, vector, images, images, labels, mean, warm)
    entropy = F.cross_entropy(flat.logits(vector, images), labels)
    penalty = 2 * (weights.sum(dim=0).norm(dim=0) - 1).square().mean()
    assert float(value) == pytest.approx(float(factor * entropy + penalty), rel=1e-12)
    plain = loss_gradient(flat, 0.0, vector, images, images, labels, mean)[0]
    of_penalty = loss_gradient(flat, 2.0, vector, images, images, labels, mean)[0] - plain
    assert torch.allclose(gradient, factor * plain + of_penalty, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("epoch, factor", [(0, 0.5), (7, 0.85), (20, 1.0)])
def test_an_experts_step_has_a_warm_entropy_and_a_whole_penalty(epoch, factor, together, few_digits):
    runtime = Runtime(ENGINE)
    experts = dataclasses.replace(SMOOTH, batch=10)
    method = TrainExperts(experts=experts, architecture=SMALL, epochs=21, together=together).resolve(
        few_digits, runtime
    )
    state = method.build(few_digits, runtime)
    state.at_once = 4  # a batch is also cut into parts, whose penalties have to add up to its mean
    rows = torch.arange(10).expand(together, 10)
    images, labels = torch.stack([few_digits.inputs(one) for one in rows]), few_digits.targets[rows]
    found, losses = method._gradient(state, images, images, labels, experts.loss_scale(epoch), state.vectors)
    flat = flat_network(SMALL, few_digits, runtime)
    for vector, gradient, loss in zip(state.vectors, found, losses, strict=True):
        vector = vector.clone().requires_grad_()
        entropy = F.cross_entropy(flat.logits(vector, images[0]), labels[0])
        penalty = gradient_penalty(flat, vector, images[0], 2.0, torch.tensor(0.1))
        whole = factor * entropy + penalty
        assert float(loss) == pytest.approx(whole.item(), rel=1e-5)
        (wanted,) = torch.autograd.grad(whole, vector)
        assert float((gradient - wanted).norm() / wanted.norm()) < 1e-4


def test_experts_with_the_warm_penalty_of_earlier_versions_are_not_taken(few_digits, tmp_path):
    smooth = {"smooth_penalty": 2.0, "smooth_warm_up": True}
    opened(few_digits, tmp_path, count=1, epochs=1, **smooth)
    facts = json.loads((tmp_path / "experts.json").read_text(encoding="utf-8"))
    assert facts.pop("gradient penalty") == "without the warm-up"
    (tmp_path / "experts.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(InputError, match=r"holds other experts .*gradient penalty: None in the folder"):
        opened(few_digits, tmp_path, count=1, epochs=1, **smooth)
    for one in smooth:  # where one of the two is off, nothing has changed
        opened(few_digits, tmp_path / one, count=1, epochs=1, **{one: smooth[one]})
        assert "gradient penalty" not in json.loads((tmp_path / one / "experts.json").read_text(encoding="utf-8"))


def test_smoothness_of_a_straight_way_is_even():
    start, move = torch.randn(40), torch.randn(40)
    found = smoothness(torch.stack([1000 * start + k * move for k in range(5)]))
    assert found["spread"] < 1e-3 * found["displacement"]
    assert found["angle"] < 1


# On disk.


def opened(source, folder=None, *, count=2, epochs=2, **settings):
    experts = Experts(experts=count, folder=None if folder is None else str(folder), **settings)
    return open_experts(source, SMALL, "none", experts, epochs, Runtime(ENGINE))


def test_experts_are_trained_once_and_longer_ones_serve_as_shorter(few_digits, tmp_path, monkeypatch):
    pool = opened(few_digits, tmp_path, epochs=3)
    assert len(pool) == 2 and pool.epochs == 3
    assert (tmp_path / "README.md").exists()
    with monkeypatch.context() as patch:
        patch.setattr(TrainExperts, "build", lambda *a: pytest.fail("trained again"))
        again = opened(few_digits, tmp_path, epochs=1)
        assert torch.equal(again.vector(1, 3), pool.vector(1, 3))
    more = opened(few_digits, tmp_path, count=3, epochs=3)
    assert len(more) == 3 and torch.equal(more.vector(0, 2), pool.vector(0, 2))


def test_a_checkpoint_is_a_copy_of_its_moment(few_digits, tmp_path):
    pool = opened(few_digits, tmp_path)
    moves = [(pool.vector(0, e + 1) - pool.vector(0, e)).norm() for e in range(2)]
    assert min(moves) > 0


def in_older_words(folder):
    """Write what says of experts how they were trained with the names that settings had."""
    facts = json.loads((folder / "experts.json").read_text(encoding="utf-8"))
    older = {new: old for old, new in Experts.moved.items()}
    facts["training"] = {older.get(name, name): value for name, value in facts["training"].items()}
    (folder / "experts.json").write_text(json.dumps(facts), encoding="utf-8")
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


def test_experts_of_an_older_version_are_still_found(few_digits, tmp_path, monkeypatch):
    opened(few_digits, tmp_path / "own", lr=0.05)
    in_older_words(tmp_path / "own")
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    opened(few_digits, lr=0.05)
    (usual,) = (tmp_path / "cache" / "experts").iterdir()
    usual.rename(usual.with_name(in_older_words(usual)))
    monkeypatch.setattr(TrainExperts, "build", lambda *a: pytest.fail("trained again"))
    assert opened(few_digits, tmp_path / "own", lr=0.05).epochs == 2
    assert opened(few_digits, lr=0.05).epochs == 2


@pytest.mark.parametrize("what", ["network", "data", "training"])
def test_experts_of_something_else_are_refused(what, few_digits, digits, tmp_path):
    opened(few_digits, tmp_path, count=1, epochs=1)
    given = {"source": few_digits, "architecture": SMALL, "experts": Experts(experts=1, folder=str(tmp_path))}
    other = {
        "network": {"architecture": Architecture(width=16, norm="instance", depth=2)},
        "data": {"source": digits},
        "training": {"experts": dataclasses.replace(given["experts"], lr=0.1)},
    }[what]
    given |= other
    with pytest.raises(InputError, match=r"holds other experts .*choose another folder"):
        open_experts(given["source"], given["architecture"], "none", given["experts"], 1, Runtime(ENGINE))


def test_a_torn_or_altered_expert_is_refused(few_digits, tmp_path):
    opened(few_digits, tmp_path, count=1, epochs=1)
    (file,) = tmp_path.glob("*/expert-000.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"expert-000\.safetensors is damaged or truncated"):
        opened(few_digits, tmp_path, count=1, epochs=1)
    file.write_bytes(whole[:-4] + b"\x00\x00\x80\x3f")
    with pytest.raises(InputError, match="was altered after it was written: row 1"):
        opened(few_digits, tmp_path, count=1, epochs=1).vector(0, 1)


def test_a_missing_expert_is_said_or_trained_again(few_digits, tmp_path):
    opened(few_digits, tmp_path, count=1, epochs=1)
    (tmp_path / "experts.json").unlink()
    with pytest.raises(InputError, match=r"experts.json is missing, so the data of the experts beside it are unknown"):
        opened(few_digits, tmp_path, count=1, epochs=1)


def test_batch_norm_is_refused(few_digits):
    method = attar.MTT(architecture=Architecture(width=8, norm="batch"), experts=Experts(experts=1))
    with pytest.raises(InputError, match=r"batch norm's statistics are not parameters, .*use --norm instance"):
        attar.condense(few_digits, method, engine=ENGINE)


def test_the_command_trains_experts_that_methods_find(tmp_path, capsys, monkeypatch, digits):
    from attar.cli import main

    words = [
        "--experts",
        "2",
        "--epochs",
        "3",
        "--network",
        "convnet:width=8",
        "--folder",
        str(tmp_path),
        "--quiet",
    ]
    main(["train", "experts", *words])
    out = capsys.readouterr().out
    assert "2 experts of 3 epochs" in out and "per epoch they move by" in out
    monkeypatch.setattr(TrainExperts, "build", lambda *a: pytest.fail("trained again"))
    found = Experts(experts=2, folder=str(tmp_path))
    method = attar.MTT(ipc=1, steps=1, student_steps=1, last_start=2, architecture=Architecture(width=8), experts=found)
    attar.condense(digits, method, engine=ENGINE)


def test_what_cannot_be_trained_is_refused():
    from attar.cli import main

    with pytest.raises(SystemExit, match="2"):
        main(["train", "teachers"])
