"""Losses of embeddings: identities, golden numbers of released code, and other libraries where they are installed."""

import math
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from attar.core.errors import InputError
from attar.embeddings.contrast import contrast_embeddings
from attar.embeddings.losses import (
    DCL,
    BarlowTwins,
    InfoNCE,
    MomentumQueue,
    NTXent,
    Prototypical,
    SupCon,
    Triplet,
    barlow_twins,
    dcl,
    info_nce,
    nt_xent,
    sup_con,
)
from attar.embeddings.losses.prototypes import prototypical
from attar.embeddings.losses.triplets import triplet

GOLDEN = Path(__file__).parent / "golden"
TWO_VIEWS = {
    "ordinary": 0.5,
    "imagenet_tau": 0.1,
    "all_equal": 0.5,
    "orthogonal": 0.2,
    "tiny_tau": 0.005,
}
"""Temperatures of the golden cases."""


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


def normal(draw, *shape):
    return torch.randn(shape, dtype=torch.float64, generator=draw)


def golden(name, case):
    """The tensors of a case, inputs as leaves."""
    found = load_file(GOLDEN / f"{name}.safetensors")
    there = {key.removeprefix(f"{case}."): value for key, value in found.items() if key.startswith(f"{case}.")}
    return {k: v.requires_grad_() if ".in." in f".{k}" and v.is_floating_point() else v for k, v in there.items()}


def close(found, wanted, error=1e-12):
    torch.testing.assert_close(found, wanted, rtol=error, atol=error)


def exact(value):
    return torch.tensor(value, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------- identities


@pytest.mark.parametrize("pairs, temperature", [(2, 0.5), (8, 0.1), (5, 0.005)])
def test_views_that_agree_and_differ_from_all_others(pairs, temperature):
    """NT-Xent is log(1 + (2B - 2) exp(-1/τ)) then."""
    z = torch.eye(pairs, dtype=torch.float64)
    close(nt_xent(z, 3 * z, temperature), exact(math.log1p((2 * pairs - 2) * math.exp(-1 / temperature))))


@pytest.mark.parametrize("count", [2, 6])
def test_embeddings_that_are_all_equal(count):
    z = torch.ones(count, 3, dtype=torch.float64)
    uniform = exact(math.log(2 * count - 1))
    close(nt_xent(z, z, 0.1), uniform)
    close(sup_con(torch.cat([z, z]), torch.zeros(2 * count, dtype=torch.long), 0.1), uniform)
    close(info_nce(z, z, 0.1, queue=F.normalize(torch.ones(7, 3, dtype=torch.float64))), exact(math.log(8)))
    assert barlow_twins(z, z).isfinite()


def test_nt_xent_is_cross_entropy(draw):
    a, b = normal(draw, 6, 4), normal(draw, 6, 4)
    z = F.normalize(torch.cat([a, b]))
    logits = (z @ z.T / 0.3).fill_diagonal_(-torch.inf)
    close(nt_xent(a, b, 0.3, chunk=5), F.cross_entropy(logits, torch.arange(12).roll(6)))


def test_sup_con_of_labels_that_all_differ_is_nt_xent(draw):
    a, b = normal(draw, 6, 4), normal(draw, 6, 4)
    labels = torch.arange(6).repeat(2)
    close(sup_con(torch.cat([a, b]), labels, 0.3), nt_xent(a, b, 0.3))
    nothing = torch.zeros(12, 5, dtype=torch.bool)
    close(sup_con(torch.cat([a, b]), nothing, 0.3, positives="jaccard", samples=labels), nt_xent(a, b, 0.3))


def test_sup_con_does_not_know_the_names_of_classes(draw):
    z, labels = normal(draw, 12, 4), torch.randint(4, (12,), generator=draw)
    close(sup_con(z, labels), sup_con(z, (labels + 1) % 4))
    close(sup_con(z, labels), sup_con(z, F.one_hot(labels)))
    for positives in ("jaccard", "overlap", "dice", "cosine"):
        rows = F.one_hot(labels, 4).float()
        close(sup_con(z, rows, positives=positives, threshold=0.3, weighted=True), sup_con(z, labels))


def test_samples_alone_in_their_class_are_left_out(draw):
    z, labels = normal(draw, 5, 4), torch.tensor([0, 0, 1, 2, 0])
    rest = sup_con(z, labels, 0.2, reduction="none")
    assert rest[2] == rest[3] == 0
    close(sup_con(z, labels, 0.2), rest.sum() / 3)
    assert sup_con(z, torch.arange(5), 0.2) == 0


def test_in_is_below_out(draw):
    z, labels = normal(draw, 12, 4), torch.randint(3, (12,), generator=draw)
    assert sup_con(z, labels, inside=True) < sup_con(z, labels)


def test_dcl_is_nt_xent_without_the_positive(draw):
    a, b = normal(draw, 5, 4), normal(draw, 5, 4)
    z = F.normalize(torch.cat([a, b]))
    logits = (z @ z.T / 0.3).fill_diagonal_(-torch.inf)
    rows, other = torch.arange(10), torch.arange(10).roll(5)
    positive = logits[rows, other]
    logits[rows, other] = -torch.inf
    close(dcl(a, b, 0.3, chunk=3), (logits.logsumexp(1) - positive).mean())


def test_a_queue_of_the_other_keys_is_the_loss_in_the_batch(draw):
    query, key = normal(draw, 5, 4), normal(draw, 5, 4)
    each = info_nce(query, key, 0.2, reduction="none")
    for row in range(5):
        others = torch.cat([key[:row], key[row + 1 :]])
        close(info_nce(query[row : row + 1], key[row : row + 1], 0.2, queue=F.normalize(others)), each[row])
    close(info_nce(query, key, 0.2), each.mean())


def whitened(draw, count, width):
    z = normal(draw, count, width)
    z = torch.linalg.qr(z - z.mean(0)).Q
    return z * count**0.5


def test_barlow_twins(draw):
    z = whitened(draw, 16, 4)
    close(barlow_twins(z, 5 * z + 3), exact(0.0))
    copies = normal(draw, 8, 1).expand(8, 5)
    close(barlow_twins(copies, copies, 0.01), exact(0.01 * 5 * 4))
    a, b = normal(draw, 8, 5), normal(draw, 8, 5)
    order = torch.randperm(5, generator=draw)
    close(barlow_twins(a, b), barlow_twins(a[:, order], b[:, order]))
    close(barlow_twins(a + 1e3, b), barlow_twins(a, b), 1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_a_feature_that_does_not_vary_keeps_barlow_twins_finite(draw, value):
    a, b = normal(draw, 8, 3).float(), normal(draw, 8, 3).float()
    a[:, 1] = value
    found = barlow_twins(a.requires_grad_(), b)
    (gradient,) = torch.autograd.grad(found, a)
    assert found.isfinite() and gradient.isfinite().all()


# -------------------------------------------------------------------------------------------------- golden numbers


@pytest.mark.parametrize("case", [*TWO_VIEWS, "one_sample"])
@pytest.mark.parametrize("chunk", [None, 3])
def test_nt_xent_of_released_code(case, chunk):
    there = golden("nt_xent", case)
    found = nt_xent(there["in.a"], there["in.b"], TWO_VIEWS.get(case, 0.5), chunk)
    close(found, there["out.loss"])
    for mine, view in zip(torch.autograd.grad(found, (there["in.a"], there["in.b"])), "ab", strict=True):
        close(mine, there[f"out.grad.{view}"])


@pytest.mark.parametrize("case", TWO_VIEWS)
@pytest.mark.parametrize("sigma", [None, 0.5])
def test_dcl_of_released_code(case, sigma):
    there = golden("dcl", case)
    found, out = dcl(there["in.a"], there["in.b"], TWO_VIEWS[case], sigma), "weighted.out" if sigma else "out"
    close(found, there[f"{out}.loss"])
    for mine, view in zip(torch.autograd.grad(found, (there["in.a"], there["in.b"])), "ab", strict=True):
        close(mine, there[f"{out}.grad.{view}"])


SUPCON = {
    "ordinary": (0.07, 0.07), "unique_labels": (0.07, 0.07), "no_labels": (0.07, 0.07), "simclr_tau": (0.5, 0.5),
    "one_class": (0.1, 0.07), "one_view_without_positives": (0.07, 0.07), "one_view_no_positive_at_all": (0.07, 0.07),
    "ties": (0.07, 0.07), "contrast_one": (0.07, 0.07), "three_views": (0.1, 0.07), "mask": (0.2, 0.07),
    "tiny_tau": (0.001, 0.07),
}  # fmt: skip
"""Temperature and base temperature of each case."""


@pytest.mark.parametrize("case", SUPCON)
def test_sup_con_of_released_code(case):
    """The released code divides by all anchors and multiplies by τ / τ_base, and its row maximum may be a sample's
    similarity with itself."""
    there, (temperature, base) = golden("supcon", case), SUPCON[case]
    features = there["in.features"]
    samples, views, _ = features.shape
    z = features.transpose(0, 1).flatten(0, 1)
    anchors = z[:samples] if case == "contrast_one" else z
    labels = there.get("in.labels", torch.arange(samples))
    weights = there["in.mask"] if "in.mask" in there else (labels[:, None] == labels).double()
    weights = weights.detach().repeat(len(anchors) // samples, views)
    own = torch.eye(len(anchors), len(z), dtype=torch.bool)
    weights[own] = 0
    found = contrast_embeddings(anchors, weights, temperature, 4, other=z, candidates=~own, normalise=False)
    right = there.get("restated.loss_anchors_with_positives", exact(0.0))
    close(found, right)
    if case not in ("mask", "contrast_one"):
        close(sup_con(z, labels.repeat(views), temperature), right)
    share = (weights.sum(1) > 0).double().mean() * temperature / base
    close(found * share, there["restated.loss_stable"])
    (gradient,) = torch.autograd.grad(found * share, features)
    assert gradient.isfinite().all()
    if case != "tiny_tau":
        close(found * share, there["out.loss"])
        close(gradient, there["out.grad.features"], 1e-11)


QUEUES = {"divisible": (8, 3), "not_divisible": (7, 2), "batch_equals_bank": (4, 2)}
"""Keys of the queue, and steps until the released code drops keys that do not fit before the end."""


@pytest.mark.parametrize("case", QUEUES)
def test_info_nce_with_the_queue_of_released_code(case):
    there, (size, steps) = golden("moco_queue", case), QUEUES[case]
    queue = MomentumQueue(size, 5).double()
    queue.keys.copy_(there["step1.before.bank"])
    for step in range(1, steps + 1):
        query, key = there[f"step{step}.in.query"], there[f"step{step}.in.key"]
        close(queue.keys, there[f"step{step}.before.bank"])
        assert int(queue.pointer) == int(there[f"step{step}.before.pointer"])
        found = info_nce(query, key, 0.1, queue.keys)
        close(found, there[f"step{step}.out.loss"])
        for mine, name in zip(torch.autograd.grad(found, (query, key)), ("query", "key"), strict=True):
            close(mine, there[f"step{step}.out.grad.{name}"])
        queue.add_(key)
    if case != "not_divisible":
        close(queue.keys, there[f"step{steps}.after.bank"])


@pytest.mark.parametrize("size, batch", [(7, 3), (4, 4), (3, 8)])
def test_a_queue_goes_round(draw, size, batch):
    queue = MomentumQueue(size, 4).double()
    everything = list(queue.keys)
    for _ in range(5):
        keys = F.normalize(normal(draw, batch, 4))
        everything += list(keys)
        queue.add_(3 * keys)
        latest = torch.stack(everything[-size:])
        start = int(queue.pointer)
        close(torch.cat([queue.keys[start:], queue.keys[:start]]), latest)
    assert set(queue.state_dict()) == {"keys", "pointer"}


BARLOW = {"ordinary": 0.005, "paper_lambda": 0.0051, "whitened_equal": 0.005, "copies": 0.005, "tiny_scale": 0.005}


@pytest.mark.parametrize("case", BARLOW)
def test_barlow_twins_of_released_code(case):
    """One code adds a constant under the root, the other takes unbiased deviations: all correlations times (B-1)/B."""
    there = golden("barlow_twins", case)
    a, b = there["in.a"], there["in.b"]
    found = barlow_twins(a, b, BARLOW[case])
    close(found, there["restated.loss_sheet"])
    if case in ("ordinary", "paper_lambda", "copies"):
        torch.testing.assert_close(found, there["out.loss"], rtol=2e-3, atol=0)
        for mine, view in zip(torch.autograd.grad(found, (a, b)), "ab", strict=True):
            torch.testing.assert_close(mine, there[f"out.grad.{view}"], rtol=2e-2, atol=2e-4)


# -------------------------------------------------------------------------------------------------------- distances


def triplets_by_loops(z, labels, margin, squared):
    """All terms, with what makes them semi-hard."""
    d = lambda i, j: (z[i] - z[j]).norm() ** (2 if squared else 1)  # noqa: E731
    for a, p, n in product(range(len(z)), repeat=3):
        if a != p and labels[a] == labels[p] and labels[a] != labels[n]:
            near, far = d(a, p), d(a, n)
            yield a, torch.relu(near - far + margin), bool(near < far < near + margin), near, far


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("mining", ["all", "hard", "semi-hard"])
def test_triplets_are_those_of_loops(draw, squared, normalise, mining):
    given, labels = normal(draw, 10, 3).requires_grad_(), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
    found = triplet(given, labels, 0.3, mining, squared=squared, normalise=normalise)
    terms = list(triplets_by_loops(F.normalize(given) if normalise else given, labels, 0.3, squared))
    if mining == "all":
        above = [term for _, term, *_ in terms if term > 0]
        wanted = sum(above) / len(above)
    elif mining == "semi-hard":
        between = [term for _, term, yes, *_ in terms if yes]
        wanted = sum(between) / len(between)
    else:
        anchors = sorted({a for a, *_ in terms})
        each = [[(near, far) for one, _, _, near, far in terms if one == a] for a in anchors]
        wanted = sum(torch.relu(max(n for n, _ in one) - min(f for _, f in one) + 0.3) for one in each) / len(each)
    close(found, wanted)
    close(torch.autograd.grad(found, given)[0], torch.autograd.grad(wanted, given)[0], 1e-10)


def test_triplets_far_from_the_origin(draw):
    z, labels = normal(draw, 12, 4).float(), torch.arange(12) % 3
    near = triplet(z, labels, 0.3, normalise=False)
    torch.testing.assert_close(triplet(z + 1000, labels, 0.3, normalise=False), near, rtol=1e-3, atol=0)
    same = torch.ones(4, 3, requires_grad=True)
    found = triplet(same, torch.tensor([0, 0, 1, 1]), 0.3)
    assert torch.autograd.grad(found, same)[0].isfinite().all()


def test_no_triplets_are_zero(draw):
    z = normal(draw, 4, 3)
    for mining in ("all", "hard", "semi-hard"):
        assert triplet(z, torch.zeros(4, dtype=torch.long), 0.3, mining) == 0
        assert triplet(z, torch.arange(4), 0.3, mining) == 0


@pytest.mark.parametrize("squared", [False, True])
def test_prototypes(draw, squared):
    support, labels = normal(draw, 9, 4), torch.tensor([5, 2, 2, 5, 7, 7, 2, 5, 7])
    queries, wanted = normal(draw, 4, 4), torch.tensor([7, 2, 2, 5])
    means = torch.stack([support[labels == one].mean(0) for one in (2, 5, 7)])
    gaps = (queries[:, None] - means).norm(dim=2)
    logits = -gaps.square() if squared else -gaps
    found = prototypical(queries, wanted, support, labels, squared)
    close(found, F.cross_entropy(logits, torch.tensor([2, 0, 0, 1])), 1e-6)  # the root is smoothed
    close(prototypical(queries + 100, wanted, support + 100, labels, squared), found)
    close(Prototypical(squared)(queries, wanted, ref_emb=support, ref_labels=labels), found)


# ---------------------------------------------------------------------------------------------------------- modules


def test_modules_are_their_functions(draw):
    a, b = normal(draw, 6, 4), normal(draw, 6, 4)
    z, labels = torch.cat([a, b]), torch.arange(12) % 3
    rows = torch.rand(12, 4, generator=draw) < 0.5
    close(NTXent(0.2)(a, b), nt_xent(a, b, 0.2))
    close(DCL(0.2, sigma=0.5)(a, b), dcl(a, b, 0.2, 0.5))
    close(InfoNCE(0.2)(a, b), info_nce(a, b, 0.2))
    close(BarlowTwins(0.1)(a, b), barlow_twins(a, b, 0.1))
    close(SupCon(0.2)(z, labels), sup_con(z, labels, 0.2))
    how = {"positives": "dice", "threshold": 0.4, "weighted": True}
    close(SupCon(0.2, **how)(z, rows), sup_con(z, rows, 0.2, **how))
    close(Triplet(0.2, "semi-hard", squared=True)(z, labels), triplet(z, labels, 0.2, "semi-hard", squared=True))


def test_a_temperature_may_be_learned(draw):
    a, b = normal(draw, 6, 4), normal(draw, 6, 4)
    loss = NTXent(torch.nn.Parameter(torch.tensor(0.3)))
    loss(a, b).backward()
    step = 1e-6
    slope = (nt_xent(a, b, 0.3 + step) - nt_xent(a, b, 0.3 - step)) / (2 * step)
    torch.testing.assert_close(loss.temperature.grad, slope.float(), rtol=1e-4, atol=0)


def test_a_queue_is_filled_in_training_only(draw):
    loss = InfoNCE(0.2, queue=5, width=4, generator=draw)
    before = loss.queue.keys.clone()
    keys = normal(draw, 3, 4).float()
    loss.eval()(keys, keys)
    assert torch.equal(loss.queue.keys, before)
    value = loss.train()(keys, keys)
    close(value, info_nce(keys, keys, 0.2, before))
    close(loss.queue.keys[:3], F.normalize(keys), 1e-6)
    other = InfoNCE(0.2, queue=5, width=4)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.queue.keys, loss.queue.keys)


def test_pairs_of_a_miner(draw):
    z, labels = normal(draw, 8, 4), torch.arange(8) % 3
    same = labels[:, None] == labels
    a, p = (same & ~torch.eye(8, dtype=torch.bool)).nonzero().T
    other_a, n = (~same).nonzero().T
    close(SupCon(0.2)(z, None, (a, p, other_a, n)), sup_con(z, labels, 0.2))
    everything = [(i, j, k) for i, j in zip(a.tolist(), p.tolist(), strict=True) for k in range(8) if not same[i, k]]
    triplets = tuple(torch.tensor(everything).T)
    close(SupCon(0.2)(z, indices_tuple=triplets), sup_con(z, labels, 0.2))
    close(Triplet(0.3)(z, indices_tuple=triplets), triplet(z, labels, 0.3))


def test_references(draw):
    z, other = normal(draw, 5, 4), normal(draw, 7, 4)
    labels, theirs = torch.arange(5) % 3, torch.arange(7) % 3
    logits = F.normalize(z) @ F.normalize(other).T / 0.2
    weights = (labels[:, None] == theirs).double()
    wanted = -(weights * logits.log_softmax(1)).sum(1) / weights.sum(1)
    close(SupCon(0.2)(z, labels, ref_emb=other, ref_labels=theirs), wanted.mean())


# -------------------------------------------------------------------------------------------------- other libraries


def test_pytorch_metric_learning_agrees(draw):
    theirs = pytest.importorskip("pytorch_metric_learning.losses")
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    a, b = normal(draw, 8, 4), normal(draw, 8, 4)
    z, labels = torch.cat([a, b]), torch.arange(16) % 4
    z.requires_grad_()
    views = torch.arange(8).repeat(2)
    other = normal(draw, 9, 4)
    refs = {"ref_emb": other, "ref_labels": torch.arange(9) % 4}
    mined = miners.TripletMarginMiner(margin=0.2, type_of_triplets="semihard")(z, labels)
    pairs = miners.PairMarginMiner()(z, labels)
    for mine, wanted in (
        (SupCon(0.1)(z, labels), theirs.SupConLoss(0.1)(z, labels)),
        (SupCon(0.1)(z, labels, **refs), theirs.SupConLoss(0.1)(z, labels, **refs)),
        (SupCon(0.1)(z, labels, pairs), theirs.SupConLoss(0.1)(z, labels, pairs)),
        (nt_xent(*z.chunk(2), 0.5), theirs.NTXentLoss(0.5)(z, views)),
        (nt_xent(*z.chunk(2), 0.5), theirs.SelfSupervisedLoss(theirs.SupConLoss(0.5))(*z.chunk(2))),
        (Triplet(0.2)(z, labels), theirs.TripletMarginLoss(0.2)(z, labels)),
        (Triplet(0.2)(z, labels, mined), theirs.TripletMarginLoss(0.2)(z, labels, mined)),
        (Triplet(0.2, "semi-hard")(z, labels), theirs.TripletMarginLoss(0.2)(z, labels, mined)),
    ):
        close(mine, wanted, 1e-10)
        close(torch.autograd.grad(mine, z)[0], torch.autograd.grad(wanted, z)[0], 1e-10)


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_a_loss_in_single(draw, dtype):
    a, b = normal(draw, 6, 4).to(dtype).requires_grad_(), normal(draw, 6, 4).to(dtype)
    labels = torch.arange(6) % 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = [nt_xent(a, b, 0.07), dcl(a, b, 0.07, 0.5), info_nce(a, b, 0.07), barlow_twins(a, b)]
        found += [sup_con(a, labels, 0.07), triplet(a, labels), prototypical(a, labels, b, labels)]
    assert all(one.dtype == torch.float32 and one.isfinite() for one in found)
    torch.autograd.grad(sum(found), a)
    close(found[0], nt_xent(a.float(), b.float(), 0.07), 1e-6)
    close(found[3], barlow_twins(a.float(), b.float()), 1e-6)


@pytest.mark.parametrize(
    "labels, words",
    [
        (torch.arange(5), "there are 5 labels for 4 embeddings."),
        (torch.tensor([0, -1, 2, 3]), "a label is -1; classes are counted from 0."),
        (torch.rand(4), "labels are of type torch.float32; give whole numbers, or rows of 0 and 1."),
        (torch.full((4, 2), 0.5), "a label is 0.5; a row of several labels holds only 0 and 1."),
        (torch.zeros(4, 2, 2), "labels have shape (4, 2, 2); give [sample], or [sample, classes] of 0 and 1."),
        (None, "labels are missing: give them, or indices_tuple."),
    ],
)
def test_labels_without_sense_are_refused_in_a_line(draw, labels, words):
    with pytest.raises(InputError) as error:
        SupCon.forward.__wrapped__(SupCon(), normal(draw, 4, 3), labels)
    assert str(error.value) == words


def test_settings_without_sense_are_refused_in_a_line(draw):
    z, labels = normal(draw, 4, 3), torch.arange(4) % 2
    for words, wrong in {
        "temperature is 0; it must be above 0.": lambda: SupCon(0),
        "threshold is 2; an overlap lies between 0 and 1.": lambda: SupCon(threshold=2)(z, labels),
        "queue is 4, but width is missing: give the size of an embedding.": lambda: InfoNCE(queue=4),
        "ref_labels is missing: give ref_emb and ref_labels together.": lambda: SupCon()(z, labels, ref_emb=z),
        "indices_tuple has 2 parts; give (a, p, a, n) or (a, p, n).": lambda: SupCon()(z, None, (labels, labels)),
        "class 1 of a query has no support sample.": lambda: prototypical(z, labels, z, torch.zeros_like(labels)),
        "indices_tuple counts up to 9, beyond the embeddings.": lambda: SupCon()(z, None, (labels, labels + 8, labels)),
    }.items():
        with pytest.raises(InputError) as error:
            wrong()
        assert str(error.value) == words
