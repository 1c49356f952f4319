import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.selection import draw_rows
from attar.images.condense.gradient import (
    class_shares,
    gradient_distance,
    image_gradient,
    pulled_gradient,
    weight_gradient,
)
from attar.images.networks.architecture import Architecture, redraw_
from attar.images.protocols import PROTOCOLS
from attar.images.score import train_and_test
from attar.images.views.augment import OPERATIONS, Draw, augment, draw_pair, strategy

SMALL = Architecture(width=8)
ENGINE = Engine(device="cpu", compile="off", quiet=True)
BRIEF = {"ipc": 2, "network_draws": 1, "matches": 1, "network_epochs": 1, "real_batch": 6, "architecture": SMALL}
ALIKE = {"start": "real", "augmentation": "none"}
"""What makes DC, DSA and DCC start and look the same."""


class Softmax(torch.nn.Module):
    """A linear softmax model whose weights are zero."""

    def __init__(self, features, classes):
        super().__init__()
        self.linear = torch.nn.Linear(features, classes, bias=False, dtype=torch.float64)
        torch.nn.init.zeros_(self.linear.weight)

    def forward(self, images):
        return self.linear(images.flatten(1))


def weights_of(network, *, all_of_them=False):
    named = {name: p.detach() for name, p in network.named_parameters() if p.ndim > 1 or all_of_them}
    return named, {name: p.detach() for name, p in network.named_parameters() if name not in named}


def random_gradients(*shapes):
    return {str(index): torch.randn(shape, dtype=torch.float64) for index, shape in enumerate(shapes)}


# The distance.


def test_a_gradient_is_near_to_itself_by_what_the_epsilon_leaves():
    g = random_gradients((4, 3, 3, 3), (5, 7), (4, 2, 2))
    rows = torch.cat([t.flatten(1).square().sum(dim=1) for t in g.values()])
    assert float(gradient_distance(g, g)) == pytest.approx(float((1e-6 / (rows + 1e-6)).sum()), rel=1e-9)


def test_the_distance_knows_no_lengths_and_doubles_its_rows_for_opposites():
    g, h = random_gradients((4, 3, 3, 3), (5, 7)), random_gradients((4, 3, 3, 3), (5, 7))
    longer = {name: 50 * t for name, t in g.items()}, {name: 20 * t for name, t in h.items()}
    assert gradient_distance(*longer) == pytest.approx(float(gradient_distance(g, h)), abs=1e-4)
    opposite = {name: -t for name, t in longer[0].items()}
    assert gradient_distance(longer[0], opposite) == pytest.approx(2 * 9, abs=1e-6)


def test_vectors_count_for_nothing_row_by_row_and_for_something_otherwise():
    g, h = random_gradients((5, 7), (5,)), random_gradients((5, 7), (5,))
    other = {**h, "1": h["1"] + 3}
    assert gradient_distance(g, other) == gradient_distance(g, h)
    for metric in ("mse", "cos"):
        assert gradient_distance(g, other, metric=metric) != gradient_distance(g, h, metric=metric)


def test_the_whole_cosine_and_the_squared_distance_are_what_they_say():
    g, h = random_gradients((5, 7), (5,)), random_gradients((5, 7), (5,))
    a, b = (torch.cat([t.flatten() for t in x.values()]) for x in (g, h))
    assert gradient_distance(g, h, metric="mse") == pytest.approx(float((a - b).square().sum()))
    cosine = float(1 - torch.cosine_similarity(a, b, dim=0))
    assert gradient_distance(g, h, metric="cos") == pytest.approx(cosine, abs=1e-6)


def test_a_relative_epsilon_sees_that_short_gradients_are_aligned():
    short = {name: 1e-5 * t for name, t in random_gradients((5, 7)).items()}
    assert gradient_distance(short, short) > 4.9
    assert gradient_distance(short, short, relative=True) < 1e-5


# What matching is for a linear softmax model at zero.


def softmax_case(classes=5, features=6):
    generator = torch.Generator().manual_seed(1)
    real = torch.randn(classes, 7, 1, 1, features, generator=generator, dtype=torch.float64)
    synthetic = torch.randn(classes, 2, 1, 1, features, generator=generator, dtype=torch.float64)
    return Softmax(features, classes), real, synthetic


def together(images):
    """All classes' images, their labels and what each counts for."""
    labels = torch.arange(len(images)).repeat_interleave(images.shape[1])
    return images.flatten(0, 1), labels, class_shares(labels)


def alone(images, label):
    labels = torch.full((images.shape[1],), label)
    return images[label], labels, class_shares(labels)


def class_wise(network, real, synthetic, **how):
    weights = weights_of(network)
    return sum(
        gradient_distance(
            weight_gradient(network, *alone(real, c), *weights),
            weight_gradient(network, *alone(synthetic, c), *weights),
            **how,
        )
        for c in range(len(real))
    )


def collective(network, real, synthetic, **how):
    weights = weights_of(network)
    first, second = (weight_gradient(network, *together(images), *weights) for images in (real, synthetic))
    return gradient_distance(first, second, **how)


def test_at_zero_weights_matching_is_matching_class_means():
    network, real, synthetic = softmax_case()
    means = [images.mean(dim=1).flatten(1) for images in (real, synthetic)]
    classes = len(real)
    for c in range(classes):
        weights = weights_of(network)
        first, second = (weight_gradient(network, *alone(x, c), *weights) for x in (real, synthetic))
        cosine = torch.cosine_similarity(means[0][c], means[1][c], dim=0)
        assert gradient_distance(first, second) == pytest.approx(float(classes * (1 - cosine)), abs=1e-4)
        squared = (1 - 1 / classes) * (means[0][c] - means[1][c]).square().sum()
        assert gradient_distance(first, second, metric="mse") == pytest.approx(float(squared))


def test_at_zero_weights_the_collective_gradient_is_the_difference_from_the_mean():
    network, real, _ = softmax_case()
    means = real.mean(dim=1).flatten(1)
    found = weight_gradient(network, *together(real), *weights_of(network))["linear.weight"]
    assert torch.allclose(found, (means.mean(dim=0) - means) / len(real), atol=1e-15)


def test_what_all_classes_share_cancels_in_the_collective_distance_only():
    network, real, synthetic = softmax_case()
    shared = 100 * torch.ones(1, 1, 1, 1, real.shape[-1], dtype=torch.float64)
    whole = collective(network, real, synthetic)
    assert collective(network, real + shared, synthetic) == pytest.approx(float(whole), rel=1e-9)
    assert collective(network, real + shared, synthetic + shared) == pytest.approx(float(whole), rel=1e-9)
    apart = class_wise(network, real, synthetic)
    assert class_wise(network, real + shared, synthetic + shared) < 0.1 * apart


def test_squared_the_collective_distance_is_below_the_mean_of_the_classes():
    network, real, synthetic = softmax_case()
    redraw_(network, torch.Generator().manual_seed(0))
    apart = class_wise(network, real, synthetic, metric="mse") / len(real)
    assert collective(network, real, synthetic, metric="mse") <= apart


def test_equal_batches_are_at_no_distance():
    network, real, _ = softmax_case()
    assert class_wise(network, real, real) < 1e-3
    assert collective(network, real, real) < 1e-3


# Gradients in weights and images.


def convnet(**settings):
    return Architecture(width=8, **settings).build((3, 8, 8), 4, torch.Generator().manual_seed(0)).double()


def batch(count=12):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, 3, 8, 8, generator=generator, dtype=torch.float64), torch.arange(count) % 4


def test_the_gradient_of_all_is_the_mean_of_the_classes():
    network, (images, labels) = convnet(), batch()
    weights = weights_of(network)
    whole = weight_gradient(network, images, labels, class_shares(labels), *weights)
    for name in whole:
        parts = []
        for c in range(4):
            mine = labels == c
            found = weight_gradient(network, images[mine], labels[mine], class_shares(labels[mine]), *weights)
            parts.append(found[name])
        assert torch.allclose(whole[name], torch.stack(parts).mean(dim=0), atol=1e-12)


@pytest.mark.parametrize("metric", ["layerwise", "mse", "cos"])
def test_the_image_gradient_is_that_of_autograd_and_of_its_parts(metric):
    network, (images, labels) = convnet(), batch()
    weights, others = weights_of(network, all_of_them=metric != "layerwise")
    share = class_shares(labels)
    real = {name: torch.randn_like(w) for name, w in weights.items()}

    def distance(a, b):
        return gradient_distance(a, b, metric=metric)

    found, loss = image_gradient(network, distance, images, labels, share, weights, others, real)
    leaf = images.clone().requires_grad_()
    names = list(weights)
    parameters = dict(network.named_parameters())
    logits = functional_call(network, parameters, (leaf,))
    entropy = (share * F.cross_entropy(logits, labels, reduction="none")).sum()
    gradients = torch.autograd.grad(entropy, [parameters[name] for name in names], create_graph=True)
    wanted = distance(real, dict(zip(names, gradients, strict=True)))
    wanted.backward()
    assert float(loss) == pytest.approx(float(wanted.detach()), rel=1e-12)
    assert torch.allclose(found, leaf.grad, rtol=1e-9, atol=1e-14)
    whole = weight_gradient(network, images, labels, share, weights, others)
    direction = torch.func.grad(lambda g: distance(real, g))(whole)
    parts = [
        pulled_gradient(network, images[part], labels[part], share[part], weights, others, direction)
        for part in torch.arange(12).split(5)
    ]
    assert torch.allclose(torch.cat(parts), found, rtol=1e-9, atol=1e-14)


def test_an_instance_norm_leaves_the_bias_before_it_without_a_gradient():
    network, (images, labels) = convnet(norm="instance"), batch()
    found = weight_gradient(network, images, labels, class_shares(labels), *weights_of(network, all_of_them=1))
    biases = [value.abs().max() for name, value in found.items() if name.endswith("0.bias")]
    assert len(biases) == 2 and max(biases) < 1e-12


@pytest.mark.parametrize("operation", range(len(OPERATIONS)))
def test_siamese_images_that_are_the_same_are_at_no_distance(operation):
    network, (images, labels) = convnet(), batch()
    draw = Draw(torch.full((4,), operation), torch.rand(4, 3, generator=torch.Generator().manual_seed(3)))
    seen = augment(images, draw.repeat(labels))
    share, weights = class_shares(labels), weights_of(network)
    found = weight_gradient(network, seen, labels, share, *weights)
    assert gradient_distance(found, found) < 1e-2


# A step.


def first_step(method, source, seed=0):
    """The first step of a method, and what it drew."""
    runtime, twin = Runtime(ENGINE, seed), Runtime(ENGINE, seed)
    method = method.resolve(source, runtime)
    state = method.build(source, runtime)
    before = state.images.detach().clone()
    network = copy.deepcopy(state.network)
    redraw_(network, twin.generator("network", "cpu"))
    rows = draw_rows(source.rows_of, method.real_batch, twin.generator("batches"))
    operations = strategy(method.augmentation)
    draws = draw_pair(len(source.classes), operations, twin.generator("augment"), siamese=method.siamese)
    return method, state, runtime, before, network.double(), rows, draws


@pytest.mark.parametrize("name", ["DC", "DSA", "DCC"])
def test_a_step_moves_the_images_as_written_in_the_paper(name, digits):
    method, state, runtime, images, network, rows, draws = first_step(
        getattr(attar, name)(**BRIEF, **({"warmup_networks": 0} if name == "DCC" else {})), digits
    )
    metrics = method.step(state, runtime)
    leaf = images.double().requires_grad_()
    parameters = [p for p in network.parameters() if p.ndim > 1]
    sides = []
    for pixels, of in ((digits.inputs(rows).double(), digits.targets[rows]), (leaf, state.labels)):
        seen = pixels if draws[0] is None else augment(pixels, draws[0].repeat(of))
        sides.append(
            [
                torch.autograd.grad(F.cross_entropy(network(seen[of == c]), of[of == c]), parameters, create_graph=True)
                for c in range(10)
            ]
        )
    if name == "DCC":
        sides = [[[torch.stack(g).mean(dim=0) for g in zip(*side, strict=True)]] for side in sides]
    loss = sum(
        (1 - (a.detach() * b).sum(1) / (a.detach().norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()
        for real, synthetic in zip(*sides, strict=True)
        for a, b in zip([g.flatten(1) for g in real], [g.flatten(1) for g in synthetic], strict=True)
    )
    loss.backward()
    assert float(metrics["loss"]) == pytest.approx(float(loss.detach()), rel=1e-4)
    moved = (images - state.images.detach()).double() / method.lr
    assert float((moved - leaf.grad).norm() / leaf.grad.norm()) < 1e-3


def test_each_class_is_moved_by_its_own_term_only(digits):
    method, state, runtime, *_ = first_step(attar.DC(**BRIEF, start="real"), digits)
    few = digits.rows_of[3]
    other, twin, again, *_ = first_step(attar.DC(**BRIEF, start="real"), digits)
    method.step(state, runtime)
    with torch.no_grad():
        twin.images[twin.labels == 3] += 1
    shifted = twin.images.detach().clone()
    other.step(twin, again)
    untouched = twin.labels != 3
    assert len(few) and torch.equal(twin.images[untouched], state.images[untouched])
    assert not torch.equal(shifted, twin.images)


def test_matching_by_parts_is_matching_at_once(digits, monkeypatch):
    results = []
    for limit in (256, 5 / 16):  # in images of 32×32: five images of 8×8 at a time
        monkeypatch.setattr("attar.images.condense.gradient.SECOND_ORDER_IMAGES", limit)
        method = attar.DCC(**{**BRIEF, "matches": 3}, warmup_networks=0)
        results.append(attar.condense(digits, method, engine=ENGINE))
    assert torch.allclose(results[0].images, results[1].images, atol=1e-4)


def test_with_batch_norm_statistics_are_taken_first_and_kept(digits):
    method, state, runtime, *_ = first_step(
        attar.DC(**{**BRIEF, "architecture": Architecture(width=8, norm="batch")}), digits
    )
    method.step(state, runtime)
    norms = [m for m in state.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)
    assert all(int(norm.num_batches_tracked) == 1 for norm in norms)


# The methods among each other.


def condensed(source, method):
    return attar.condense(source, method, engine=ENGINE)


def test_dsa_without_augmentation_is_dc(digits):
    loops = {"network_draws": 2, "matches": 2}
    sets = [condensed(digits, kind(**{**BRIEF, **loops, **ALIKE})) for kind in (attar.DC, attar.DSA)]
    assert torch.equal(sets[0].images, sets[1].images)


def test_dcc_that_only_warms_up_is_dsa(digits):
    loops = {"network_draws": 2, "matches": 3}
    dcc = condensed(digits, attar.DCC(**{**BRIEF, **loops}, warmup_networks=2, warmup_matches=3))
    assert torch.equal(dcc.images, condensed(digits, attar.DSA(**{**BRIEF, **loops})).images)


def test_dcc_in_groups_of_one_is_dsa_up_to_rounding_and_of_all_is_itself(digits):
    dsa = condensed(digits, attar.DSA(**BRIEF))
    ones = condensed(digits, attar.DCC(**BRIEF, warmup_networks=0, together=1))
    assert torch.allclose(ones.images, dsa.images, atol=1e-5)
    whole, alls = (condensed(digits, attar.DCC(**BRIEF, warmup_networks=0, together=k)) for k in (None, 10))
    assert torch.equal(whole.images, alls.images)


def test_of_one_class_both_losses_are_the_same():
    network, real, synthetic = softmax_case(classes=2)
    one = real[:1], synthetic[:1]
    assert collective(network, *one) == pytest.approx(float(class_wise(network, *one)), rel=1e-12)


def test_the_warm_up_is_class_by_class_and_then_it_is_over(digits, runtime):
    method = attar.DCC(ipc=2, network_draws=8, matches=12).resolve(digits, runtime)
    assert method.warmup_networks == 2
    sizes = [len(method.groups(done, 10, runtime)) for done in range(method.total_steps)]
    assert sizes == ([10] * 10 + [1] * 2) * 2 + [1] * 12 * 6
    groups = dataclasses.replace(method, together=4, warmup_networks=0).groups(0, 10, runtime)
    assert sorted(map(len, groups)) == [2, 4, 4]
    assert sorted(label for group in groups for label in group) == list(range(10))


@pytest.mark.parametrize("name, ipc, loops", [("DC", 1, (1, 1)), ("DCC", 1, (10, 5)), ("DSA", 50, (50, 10))])
def test_the_loops_are_those_of_the_code(name, ipc, loops, digits, runtime):
    method = getattr(attar, name)(ipc=ipc).resolve(digits, runtime)
    assert (method.matches, method.network_epochs) == loops
    assert attar.DC(ipc=25).loops(25) == (25, 20)


def test_presets_are_those_of_the_scripts():
    assert attar.DC.paper("cifar10", ipc=10).start == "noise"
    assert "flip" not in attar.DSA.paper("svhn", ipc=1).augmentation
    assert all("flip" in attar.DCC.paper(data, ipc=1).augmentation for data in ("cifar100", "svhn", "terrier"))
    with pytest.raises(InputError, match="DSA has no cell of 'imagenet'"):
        attar.DSA.paper("imagenet", ipc=1)


def test_a_warm_up_longer_than_the_run_is_refused(digits, runtime):
    with pytest.raises(InputError, match=r"warmup_networks is 5; it must be at most network_draws, 2\."):
        attar.DCC(network_draws=2, warmup_networks=5).resolve(digits, runtime)


# Where the claim lives.


@pytest.fixture(scope="module")
def alike():
    """Eight classes that share a large component: 1×5×8 images of unit noise about means of length 2.5."""
    generator = torch.Generator().manual_seed(1)
    means = 2.5 * F.normalize(torch.randn(8, 40, generator=generator), dim=1)
    shared = 30 * F.normalize(torch.randn(40, generator=generator), dim=0)

    def images(count):
        labels = torch.arange(8).repeat_interleave(count)
        values = means[labels] + torch.randn(8 * count, 40, generator=generator) + shared
        return ((values + 40) / 80).clamp(0, 1).view(-1, 1, 5, 8), labels

    return attar.load((images(100), images(100)))


def test_where_classes_share_much_dc_falls_below_random_and_dcc_does_not(alike):
    """The paper's central claim, where the shared part is twelve times as long as what parts the classes."""
    network = Architecture(network="mlp", width=64)
    loops = {"ipc": 1, "network_draws": 150, "matches": 1, "network_epochs": 0, "lr": 0.2, "architecture": network}

    def score(method):
        small = condensed(alike, method)
        values = train_and_test(small, alike, network, bare, 3, Runtime(ENGINE, 0))
        return sum(values) / len(values)

    bare = dataclasses.replace(PROTOCOLS["quick"], augmented=False)
    dc = score(attar.DC(**loops, **ALIKE))
    dcc = score(attar.DCC(**loops, augmentation="none", warmup_networks=0))
    random = score(attar.Random(ipc=1))
    assert dcc - dc > 30
    assert dc < random < dcc
