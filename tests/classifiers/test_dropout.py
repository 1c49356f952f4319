"""Multi-sample dropout: the identities of its gradient, golden numbers, and its place in attar's training."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from torch.utils.checkpoint import checkpoint

import attar
from attar.classifiers.dropout import (
    MultiSampleDropout,
    answers_under_masks,
    multi_sample_loss,
    random_hflip,
    random_pool_offset,
    through,
)
from attar.classifiers.labelled import label_loss
from attar.classifiers.pair import Batch
from attar.classifiers.watched import Watched
from attar.core.dropout import dropping, masked
from attar.core.errors import InputError
from attar.core.losses import Loss
from attar.core.runtime import Engine
from attar.images.networks.architecture import Architecture, parse

ENGINE = Engine(device="cpu", compile="off", quiet=True)
GOLDEN = load_file(Path(__file__).parent / "golden" / "multi_sample_dropout.safetensors")
CASES = sorted({name.partition(".")[0] for name in GOLDEN})


def seeded(seed=0):
    return torch.manual_seed(seed)


@pytest.fixture(autouse=True)
def generator_is_restored():
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(12, 20, generator=generator, requires_grad=True)
    return features, torch.randint(5, (12,), generator=generator)


def head_of(*, hidden=False, seed=2):
    seeded(seed)
    return nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 5)) if hidden else nn.Linear(20, 5)


def gradients(loss, *tensors):
    return torch.autograd.grad(loss, tensors, retain_graph=True)


# ----------------------------------------------------------------------------------------------------------- identities


def test_one_sample_is_ordinary_dropout_bit_for_bit(batch):
    features, target = batch
    head, plain = head_of(hidden=True), nn.Dropout(0.5)
    seeded(5)
    found = MultiSampleDropout(head, 0.5, 1).loss(features, target)
    seeded(5)
    wanted = F.cross_entropy(head(plain(features)), target)
    assert torch.equal(found, wanted)
    parameters = (features, *head.parameters())
    for one, other in zip(gradients(found, *parameters), gradients(wanted, *parameters), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("reduce", ["loss", "logits"])
def test_without_dropout_the_number_of_samples_does_not_count(batch, reduce):
    features, target = batch
    head = head_of(hidden=True)
    one, many = (MultiSampleDropout(head, 0.0, count, reduce=reduce).loss(features, target) for count in (1, 6))
    torch.testing.assert_close(many, one)
    torch.testing.assert_close(gradients(many, features)[0], gradients(one, features)[0])


def test_in_evaluation_it_is_the_head_alone(batch):
    features, target = batch
    head = head_of(hidden=True)
    module = MultiSampleDropout(head, 0.5, 8).eval()
    assert torch.equal(module(features), head(features))
    assert torch.equal(module.loss(features, target), F.cross_entropy(head(features), target))


def test_the_branches_have_masks_of_their_own():
    rows = masked(torch.ones(40, 30), 0.4, 3)
    assert rows.shape == (3, 40, 30)
    assert rows.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    kept = rows > 0
    for one, other in ((0, 1), (0, 2), (1, 2)):
        together = (kept[one] & kept[other]).float().mean()
        assert abs(float(together) - 0.36) < 0.05


def test_loop_and_all_at_once_agree_for_the_same_masks(batch):
    features, _ = batch
    head = head_of(hidden=True)
    rows = masked(features, 0.5, 7)
    torch.testing.assert_close(through(head, rows, vectorised=False), through(head, rows), atol=1e-6, rtol=1e-6)
    looped = MultiSampleDropout(head, 0.5, 7, vectorised=False)
    whole = MultiSampleDropout(head, 0.5, 7)
    assert [module(features).shape for module in (looped, whole)] == [(7, 12, 5)] * 2


def test_the_gradient_has_the_same_mean_and_a_variance_that_falls_as_one_over_m(batch):
    features, target = batch
    head = head_of()
    traces, means = {}, {}
    for samples in (1, 2, 4, 8):
        seeded(samples)
        module = MultiSampleDropout(head, 0.5, samples)
        drawn = torch.stack(
            [torch.cat([g.flatten() for g in gradients(module.loss(features, target), *head.parameters())])
             for _ in range(600)]
        )  # fmt: skip
        traces[samples], means[samples] = samples * float(drawn.var(dim=0).sum()), drawn.mean(dim=0)
        error = (traces[samples] / samples / 600) ** 0.5
        assert float((means[samples] - means[1]).norm()) < 4 * (error + (traces[1] / 600) ** 0.5)
    for value in traces.values():
        assert abs(value / traces[1] - 1) < 0.15


def test_many_samples_of_squared_error_are_ridge_regression():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(30, 6, generator=generator, dtype=torch.float64)
    w = torch.randn(6, generator=generator, dtype=torch.float64)
    y, p = torch.randn(30, generator=generator, dtype=torch.float64), 0.3
    head = nn.Linear(6, 1, bias=False).double()
    head.weight.data = w[None]
    seeded()
    logits = MultiSampleDropout(head, p, 20_000)(x).detach()
    found = (y - logits.squeeze(2)).square().sum(dim=1).mean()
    wanted = (y - x @ w).square().sum() + p / (1 - p) * (x.square().sum(dim=0) * w.square()).sum()
    assert abs(float(found / wanted) - 1) < 0.02


def test_averaged_logits_never_have_a_larger_loss(batch):
    features, target = batch
    head = head_of()
    for seed in range(20):
        seeded(seed)
        logits = MultiSampleDropout(head, 0.6, 4)(features)
        losses, averaged = (multi_sample_loss(logits, target, reduce=reduce) for reduce in ("loss", "logits"))
        assert averaged < losses
    same = logits[:1].expand(4, -1, -1)
    torch.testing.assert_close(multi_sample_loss(same, target), multi_sample_loss(same, target, reduce="logits"))


def test_criteria_with_weights_or_ignored_labels_see_each_branch_alone(batch):
    features, target = batch
    target = target.clone()
    target[:3] = -100
    weight = torch.tensor([1.0, 5.0, 0.5, 2.0, 1.0])
    logits = MultiSampleDropout(head_of(), 0.5, 3)(features)
    wanted = sum(F.cross_entropy(one, target, weight=weight) for one in logits) / 3
    found = multi_sample_loss(logits, target, nn.CrossEntropyLoss(weight=weight))
    torch.testing.assert_close(found, wanted)
    rows = multi_sample_loss(logits[:, 3:], target[3:], nn.CrossEntropyLoss(reduction="none"))
    torch.testing.assert_close(rows, multi_sample_loss(logits[:, 3:], target[3:]))


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_a_gradient_in_chunks_is_the_whole_gradient(chunk, monkeypatch):
    trunk, head = nn.Linear(6, 20), head_of(hidden=True)
    x, target = torch.randn(9, 6), torch.randint(5, (9,))
    masks = (torch.rand(8, 9, 20) < 0.5) / 0.5
    module, place = MultiSampleDropout(head, 0.5, 8), [0]

    def stored(features, p, samples):
        place[0] += samples
        return features * masks[place[0] - samples : place[0]]

    monkeypatch.setattr("attar.classifiers.dropout.masked", stored)
    loss = module.loss(trunk(x), target)
    wanted = torch.autograd.grad(loss, [*trunk.parameters(), *head.parameters()])
    place[0] = 0
    found = module.backward(trunk(x), target, chunk=chunk)
    torch.testing.assert_close(found, loss.detach())
    for parameter, gradient in zip([*trunk.parameters(), *head.parameters()], wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_checkpointed_head_draws_the_same_masks_again(batch):
    features, target = batch
    head = head_of(hidden=True)
    module = MultiSampleDropout(head, 0.5, 4)
    seeded(8)
    wanted = gradients(module.loss(features, target), features, *head.parameters())
    seeded(8)
    logits = checkpoint(module, features, use_reentrant=False)
    found = gradients(multi_sample_loss(logits, target), features, *head.parameters())
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)


# ------------------------------------------------------------------------------------------------------------ diversity


def test_flips_mirror_some_samples_and_pooling_moves_its_grid():
    maps = torch.arange(2.0 * 4 * 4).view(1, 2, 4, 4).expand(200, 2, 4, 4)
    flipped = random_hflip(maps)
    mirrored = (flipped == maps.flip(3)).flatten(1).all(dim=1)
    assert 60 < int(mirrored.sum()) < 140
    assert torch.equal(flipped[~mirrored], maps[~mirrored])
    pooled = {tuple(random_pool_offset(maps[:1]).flatten().tolist()) for _ in range(60)}
    assert len(pooled) == 4
    assert torch.equal(random_pool_offset.at_rest(maps), F.max_pool2d(maps, 2))
    assert random_pool_offset(torch.rand(2, 3, 5, 5)).shape == (2, 3, 3, 3)


def test_branches_differ_by_what_is_given_for_them():
    maps, target = torch.randn(6, 2, 4, 4), torch.randint(3, (6,))
    seeded()
    for diversity in (random_pool_offset, [random_pool_offset] * 3):
        module = MultiSampleDropout(nn.Linear(8, 3), 0.0, 3, diversity)
        seeded(4)
        logits = module(maps)
        assert logits.shape == (3, 6, 3)
        assert not torch.equal(logits[0], logits[1])
        assert module.loss(maps, target).isfinite()
        assert torch.equal(module.eval()(maps), module.head(F.max_pool2d(maps, 2).flatten(1)))
    own = MultiSampleDropout(nn.Linear(32, 3), 0.0, 2, [lambda x: x, lambda x: -x])
    wanted = torch.stack([own.head(maps.flatten(1)), own.head(-maps.flatten(1))])
    torch.testing.assert_close(own(maps), wanted)
    torch.testing.assert_close(own.eval()(maps), wanted[0])


# ------------------------------------------------------------------------------------------------------- golden numbers


@pytest.mark.parametrize("case", CASES)
def test_the_right_form_and_not_the_one_that_is_often_copied(case):
    """The copied code gives the criterion masked features, not logits, in all branches but the first."""
    there = {name.removeprefix(f"{case}."): value for name, value in GOLDEN.items() if name.startswith(f"{case}.")}
    head = nn.Linear(6, 3).double()
    head.weight.data, head.bias.data = there["param.weight"], there["param.bias"]
    maps, target = there["in.feature_map"].requires_grad_(), there["in.target"]
    logits = through(head, maps.mean(dim=(2, 3)) * there["in.masks"])
    torch.testing.assert_close(logits, there["ref.branch_logits"])
    torch.testing.assert_close(logits.mean(dim=0), there["out.logits"])
    loss = multi_sample_loss(logits, target)
    torch.testing.assert_close(loss, there["ref.loss"])
    found = gradients(loss, head.weight, head.bias, maps)
    for name, gradient in zip(("weight", "bias", "feature_map"), found, strict=True):
        torch.testing.assert_close(gradient, there[f"ref.grad.{name}"])
    averaged = multi_sample_loss(logits, target, reduce="logits")
    torch.testing.assert_close(averaged, there["ref.loss_logits_averaged"])
    torch.testing.assert_close(gradients(averaged, head.weight)[0], there["ref.grad_logits_averaged.weight"])
    resting = MultiSampleDropout(head, 0.5, len(logits)).eval()
    torch.testing.assert_close(resting(maps.mean(dim=(2, 3))), there["ref.eval_logits"])
    torch.testing.assert_close(resting.loss(maps.mean(dim=(2, 3)), target), there["ref.eval_loss"])
    if len(logits) > 1:
        assert abs(float(there["out.loss_with_bug"] - loss.detach())) > 0.02


# ---------------------------------------------------------------------------------------------- in attar's own training


class Cosine(nn.Module):
    """A network whose logits are not what its last linear layer gives."""

    def __init__(self):
        super().__init__()
        self.features = nn.Linear(64, 7)

    def forward(self, images):
        return F.normalize(self.features(images.flatten(1))) * 3


class Tokens(nn.Module):
    """A network that scores each token, and takes the last one's scores."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 6), nn.Linear(6, 10)

    def forward(self, images):
        return self.last(self.first(images.flatten(1, 2)).relu())[:, -1]


def small(name="convnet:norm=batch,width=4"):
    return parse(name).build((1, 8, 8), 10, torch.Generator().manual_seed(0)).train()


@pytest.mark.parametrize("make", [small, Tokens], ids=["own", "hooked"])
def test_a_network_is_masked_before_its_last_layer_and_nothing_else_is_changed(make):
    network, images = make(), torch.randn(5, 1, 8, 8)
    watched = Watched(network)
    plain = watched(images)
    seeded(1)
    said, branches = answers_under_masks(watched, images, 0.5, 6)
    assert branches.shape == (6, 5, 10)
    torch.testing.assert_close(branches.mean(dim=0), said.logits)
    assert not torch.equal(branches[0], branches[1])
    torch.testing.assert_close(said.embedding, plain.embedding)
    layer = network.classifier if make is small else network.last
    seeded(1)
    if make is small:
        torch.testing.assert_close(branches, layer(masked(plain.embedding, 0.5, 6)))
    assert torch.equal(watched(images).logits, plain.logits)
    assert "forward" not in vars(layer)
    said, branches = answers_under_masks(watched, images, 0.0, 1)
    assert branches is None
    network.eval()
    resting = watched(images).logits
    said, branches = answers_under_masks(watched, images, 0.5, 6)
    assert branches is None
    assert torch.equal(said.logits, resting)


def test_one_mask_of_a_network_is_ordinary_dropout():
    network, images = small(), torch.randn(5, 1, 8, 8)
    embedding = network.embed(images)
    seeded(3)
    said, branches = answers_under_masks(Watched(network), images, 0.5, 1)
    assert branches is None
    seeded(3)
    assert torch.equal(said.logits, network.classifier(F.dropout(embedding, 0.5)))


def test_a_layer_is_as_it_was_also_after_an_error():
    layer = nn.Linear(3, 2)
    with pytest.raises(RuntimeError), dropping(layer, 0.5, 2):
        layer(torch.ones(1, 4))
    assert "forward" not in vars(layer)


def test_the_loss_of_the_labels_is_the_mean_over_masks():
    network, images, labels = small(), torch.randn(5, 1, 8, 8), torch.arange(5)
    said, branches = answers_under_masks(Watched(network), images, 0.5, 4)
    batch = Batch(said, said, labels, torch.arange(5), 1.0, branches=branches)
    for average, reduce in (("losses", "loss"), ("logits", "logits")):
        found = label_loss(batch, Loss(), 0.0, average)
        torch.testing.assert_close(found, multi_sample_loss(branches, labels, reduce=reduce))


SETTINGS = {"network": "convnet:norm=batch,width=8", "epochs": 6, "batch": 12}


def test_digits_are_learned_with_many_masks_and_a_run_can_be_resumed(few_digits, tmp_path):
    method = attar.Classifier(**SETTINGS, dropout=0.5, dropout_samples=8)
    made = attar.train(few_digits, method, out=tmp_path / "whole", engine=ENGINE)
    again = attar.train(few_digits, method, engine=ENGINE)
    assert made.scores["student"] > 50
    other = attar.train(few_digits, attar.Classifier(**SETTINGS, dropout=0.5), engine=ENGINE)
    plain = attar.train(few_digits, attar.Classifier(**SETTINGS), engine=ENGINE)
    for name, value in made.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])
    weights = [one.network.classifier.weight for one in (made, other, plain)]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_students_and_logit_averages_are_trained_too(few_digits):
    teacher = Architecture(norm="batch", width=8).build((1, 8, 8), 10, torch.Generator().manual_seed(3)).eval()
    settings = {"student": "convnet:norm=batch,width=4", "epochs": 1, "dropout": 0.5, "dropout_samples": 4}
    made = {
        average: attar.distill(
            few_digits, attar.KD(**settings, dropout_average=average), teacher=teacher, engine=ENGINE
        )
        for average in ("losses", "logits")
    }
    weights = [one.network.classifier.weight for one in made.values()]
    assert not torch.equal(*weights)


def test_bad_input_is_refused_in_one_line(few_digits):
    with pytest.raises(InputError, match="p is 1; it must be at least 0 and below 1"):
        MultiSampleDropout(nn.Linear(2, 2), 1.0)
    with pytest.raises(InputError, match="num_samples is 0; it must be a whole number"):
        MultiSampleDropout(nn.Linear(2, 2), 0.5, 0)
    with pytest.raises(InputError, match="chunk is 0; it must be 1 or more"):
        MultiSampleDropout(nn.Linear(2, 2)).backward(torch.ones(1, 2), torch.zeros(1).long(), chunk=0)
    with pytest.raises(InputError, match="diversity has 1 functions for 2 branches"):
        MultiSampleDropout(nn.Linear(2, 2), 0.5, 2, [random_hflip])
    with pytest.raises(InputError, match="reduce='logits' needs the logits of all branches"):
        MultiSampleDropout(nn.Linear(2, 2), reduce="logits").backward(torch.ones(1, 2), torch.zeros(1).long())
    with pytest.raises(InputError, match="there are no branches in evaluation mode"):
        MultiSampleDropout(nn.Linear(2, 2)).eval().backward(torch.ones(1, 2), torch.zeros(1).long())
    watched = Watched(Cosine())
    with pytest.raises(InputError, match="logits are not what its last linear layer gives"):
        answers_under_masks(watched, torch.randn(2, 1, 8, 8), 0.5, 2)
    with pytest.raises(InputError, match="no linear layer gives the student's logits"):
        attar.train(
            few_digits,
            attar.Classifier(dropout=0.5, epochs=1),
            module=nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten()),
            engine=ENGINE,
        )
