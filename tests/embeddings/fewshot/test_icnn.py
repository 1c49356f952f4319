"""The ICNN score: its exact values, what leaves it as it is, and the recorded results of the authors' functions."""

import math

import pytest
import torch

from attar.core.errors import InputError
from attar.embeddings.fewshot.icnn import TERMS, ICNNLoss, icnn_loss, icnn_parts, icnn_score
from embeddings.fewshot.helpers import cases

LINE = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]], dtype=torch.float64)
MODIFIED, ORIGINAL = cases("icnn_modified"), cases("icnn_original")
LISTS = {"episode_full_list": 8, "separated_full_list": 10}
TIED = ("line6", "line6_mixed", "duplicates", "duplicates_other_class", "coincident")
"""Cases with equal distances, whose gradient depends on which of them is taken."""


def gaussians(scale, generator, classes=5, each=20, d=16):
    means = scale * torch.randn(classes, d, dtype=torch.float64, generator=generator)
    labels = torch.arange(classes).repeat_interleave(each)
    return means[labels] + torch.randn(classes * each, d, dtype=torch.float64, generator=generator), labels


def by_loops(points, labels, neighbours, length):
    """The modified form of points among themselves, from its definition."""
    n, few = len(points), neighbours + 2 >= len(points)
    near = n - 2 if few else neighbours
    apart = [[math.dist(a, b) for b in points.tolist()] for a in points.tolist()]
    d = [[math.sqrt(value**2 + 1e-6) for value in row] for row in apart]
    inside, outside, counts, t_max, rows = [], [], [], 0.0, []
    for i in range(n):
        order = sorted((j for j in range(n) if j != i), key=lambda j: d[i][j])[:length]
        others = [d[i][j] for j in order if labels[j] != labels[i]]
        r = [d[i][j] / (others[0] + 1e-7) if others else 0.0 for j in order[:near]]
        r = [value / max(1, *r) for value in r]
        own = [value for value, j in zip(r, order, strict=False) if labels[j] == labels[i]]
        far = [d[i][j] for j in order[:near] if labels[j] != labels[i]]
        counts.append(len(own))
        t_max = max([t_max, *far])
        rows.append(far)
        if own:
            inside.append(sum(own) / (len(own) + 1e-7))
    outside = [sum(value / (t_max + 1e-7) for value in far) / (len(far) + 1e-7) for far in rows if far]
    within = 1 - sum(inside) / (len(inside) + 1e-7)
    between = sum(outside) / (len(outside) + 1e-7) if outside else 1.0
    gamma = 1.0 if few else sum(count / near for count in counts) / n
    return ((within + between) / 2 + gamma) / 2


@pytest.mark.parametrize(
    ("points", "labels", "score", "parts"),
    [
        ([0, 0.1, 10, 10.1], [0, 0, 1, 1], 0.996237, (0.9899, 0.9950, 1)),
        (LINE.flatten().tolist(), [0, 0, 0, 1, 1, 1], 0.985978, (0.9733, 0.9706, 1)),
        (LINE.flatten().tolist(), [0, 1, 0, 1, 0, 1], 0.693888, (0.3267, 0.4489, 1)),
    ],
)
def test_the_values_of_points_on_a_line(points, labels, score, parts):
    points, labels = torch.tensor(points, dtype=torch.float64)[:, None], torch.tensor(labels)
    assert float(icnn_score(points, labels)) == pytest.approx(score, abs=1e-6)
    found = icnn_parts(points, labels)
    assert [float(one) for one in (found.within, found.between, found.gamma)] == pytest.approx(parts, abs=5e-5)


@pytest.mark.parametrize("length", [5, 20])
def test_it_is_its_definition_in_loops(length, generator):
    points, labels = gaussians(0.7, generator, each=8)
    expected = by_loops(points, labels.tolist(), 4, length)
    assert float(icnn_score(points, labels, list_length=length)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("case", MODIFIED)
def test_the_modified_form_gives_the_recorded_score(case):
    made = MODIFIED[case]
    points = made["in.points"].clone().requires_grad_()
    others = (made["in.targets"], made["in.target_labels"]) if "in.targets" in made else ()
    how = {"list_length": LISTS.get(case)}
    score = icnn_score(points, made["in.labels"], *others, **how)
    torch.testing.assert_close(score, made["right.score"], rtol=0, atol=1e-14)
    if case not in (*TIED, "cross_targets", "prototypes"):
        torch.testing.assert_close(score, made["out.score"], rtol=0, atol=1e-14)
        parts = icnn_parts(points, made["in.labels"], *others, **how)
        torch.testing.assert_close(parts.within, made["restated.lambda_in"], rtol=0, atol=1e-14)
        torch.testing.assert_close(parts.between, made["restated.lambda_out"], rtol=0, atol=1e-14)
        torch.testing.assert_close(parts.gamma, made["restated.gamma"], rtol=0, atol=1e-14)
    loss = icnn_loss(points, made["in.labels"], *others, **how)
    gradient = torch.autograd.grad(loss, points)[0] if loss.requires_grad else torch.zeros_like(points)
    if case not in ("line6", "line6_mixed"):
        torch.testing.assert_close(gradient, made["right.grad.points"], rtol=0, atol=1e-13)


def test_the_nearest_target_of_another_set_is_not_dropped():
    made = MODIFIED["cross_targets"]
    others = made["in.targets"], made["in.target_labels"]
    score = float(icnn_score(made["in.points"].detach(), made["in.labels"], *others))
    assert (round(score, 4), round(float(made["out.score"]), 4)) == (0.4508, 0.3687)


@pytest.mark.parametrize("case", ORIGINAL)
def test_the_original_form_gives_the_recorded_score(case):
    if case == "coincident":
        pytest.skip("recorded with the first point dropped instead of a point's own")
    made = ORIGINAL[case]
    points = made["in.points"].clone().requires_grad_()
    parts = icnn_parts(points, made["in.labels"], form="original")
    score = parts.mean(TERMS)
    torch.testing.assert_close(score, made["out.score"], rtol=0, atol=1e-14)
    for found, name in ((parts.both, "lambda"), (parts.omega, "omega"), (parts.gamma, "gamma")):
        torch.testing.assert_close(found, made[f"restated.{name}"], rtol=0, atol=1e-14)
    if case != "line6":  # equal distances
        torch.testing.assert_close(torch.autograd.grad(score, points)[0], made["out.grad.points"], rtol=0, atol=1e-13)


@pytest.mark.parametrize("form", ["modified", "original"])
def test_moving_turning_and_ordering_leave_the_score(form, generator):
    points, labels = gaussians(1.0, generator, each=6)
    score = icnn_score(points, labels, form=form)
    order = torch.randperm(len(points), generator=generator)
    turn = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64, generator=generator)).Q
    for moved, theirs in ((points + 7, labels), (points @ turn, labels), (points[order], labels[order])):
        torch.testing.assert_close(icnn_score(moved, theirs, form=form), score, rtol=0, atol=1e-9)
    torch.testing.assert_close(icnn_score(50 * points, labels, form=form), score, rtol=0, atol=1e-6)


def test_an_offset_does_not_change_it_in_single_precision():
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    score = icnn_score(LINE.float(), labels)
    for offset in (100, 1000):
        torch.testing.assert_close(icnn_score(LINE.float() + offset, labels), score, rtol=0, atol=2e-4)


def test_pure_neighbourhoods_cost_nothing_and_give_no_gradient(generator):
    points, labels = gaussians(0.0, generator, classes=2, each=10)
    points = (points + 1000 * labels[:, None]).requires_grad_()
    loss = icnn_loss(points, labels)
    assert float(loss.detach()) == 0
    assert not loss.requires_grad or not torch.autograd.grad(loss, points)[0].any()
    assert float(icnn_score(torch.randn(8, 3, generator=generator), torch.zeros(8).long())) == 1


def test_gamma_counts_and_has_no_gradient(generator):
    points, labels = gaussians(1.0, generator)
    parts = icnn_parts(points.requires_grad_(), labels)
    assert not parts.gamma.requires_grad and parts.within.requires_grad and parts.between.requires_grad


@pytest.mark.parametrize(("length", "expected"), [(5, (0.29, 0.85, 1.0)), (20, (0.29, 0.7, 0.92))])
def test_it_rises_with_the_distance_of_classes(length, expected):
    generator = torch.Generator().manual_seed(1)
    scores = []
    for scale in (0, 1, 3):
        draws = [icnn_score(*gaussians(scale, generator), list_length=length) for _ in range(20)]
        scores.append(float(torch.stack(draws).mean()))
    assert scores == sorted(scores)
    assert scores == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize(("way", "gamma"), [(5, 1.0), (30, 0.0)])
def test_one_support_of_each_class_has_no_neighbour_of_its_own(way, gamma, generator):
    parts = icnn_parts(torch.randn(way, 8, generator=generator), torch.arange(way))
    assert (float(parts.within), float(parts.gamma)) == (1.0, gamma)


def test_points_that_coincide_leave_everything_finite():
    for form in ("modified", "original"):
        points = torch.ones(12, 4, requires_grad=True)
        loss = icnn_loss(points, torch.arange(12) % 3, form=form)
        loss.backward()
        assert loss.isfinite() and points.grad.isfinite().all()


def test_its_terms_can_be_chosen(generator):
    points, labels = gaussians(0.7, generator)
    parts = icnn_parts(points, labels)
    torch.testing.assert_close(parts.both, (parts.within + parts.between) / 2)
    for name, value in (("lambda_in", parts.within), ("lambda_out", parts.between), ("omega", parts.omega)):
        assert torch.equal(icnn_score(points, labels, terms=(name,)), value)
    three = icnn_score(points, labels, terms=("lambda", "omega", "gamma"))
    torch.testing.assert_close(three, (parts.both + parts.omega + parts.gamma) / 3)
    assert all(0 <= float(one) <= 1 for one in vars(parts).values())
    assert torch.equal(ICNNLoss(terms=("lambda",))(points, labels), icnn_loss(points, labels, terms=("lambda",)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_a_loss_in_single(dtype, generator):
    points, labels = gaussians(1.0, generator, each=5)
    loss = icnn_loss(points.to(dtype), labels)
    assert loss.dtype == torch.float32 and loss.isfinite()


def test_the_number_of_targets_bounds_neighbours_and_list(generator):
    points = torch.randn(2, 3, generator=generator)
    assert float(icnn_score(points, torch.tensor([0, 0]))) == 1
    assert icnn_score(points, torch.tensor([0, 1]), list_length=50).isfinite()
    with pytest.raises(InputError, match="needs two points"):
        icnn_score(points[:1], torch.tensor([0]))


def test_bad_input_is_one_line(generator):
    points = torch.randn(4, 3, generator=generator)
    with pytest.raises(InputError, match="there are 3 labels for 4 embeddings"):
        icnn_score(points, torch.arange(4), points, torch.arange(3))
    for labels, message in (([0.0, 1.0, 1.0, 0.0], "labels are of type"), ([0, -1, 1, 1], "a label is -1")):
        with pytest.raises(InputError, match=message):
            icnn_score(points, torch.tensor(labels))
    with pytest.raises(InputError, match="unknown term of the ICNN score 'gama'; did you mean 'gamma'"):
        icnn_score(points, torch.arange(4), terms=("gama",))
    with pytest.raises(InputError, match="has no terms"):
        icnn_score(points, torch.arange(4), terms=())
