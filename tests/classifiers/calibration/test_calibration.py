"""What every calibrator keeps: its promises on the rows of a fit, and its refusals."""

import pytest
import torch
import torch.nn.functional as F

from attar.classifiers.calibration.calibration import check
from attar.classifiers.calibration.estimator import calibration_named
from attar.classifiers.calibration.losses import brier
from attar.core.errors import InputError
from attar.core.registry import METHODS

NAMES = [name for name, entry in METHODS.items() if entry.verb == "calibrate"]
STAIRS = ("isotonic", "irm", "histogram")
LOWERS_NLL = ("ts", "vector-scaling", "matrix-scaling", "dirichlet")
NEAR = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float64: 1e-12}


def drawn(rows=1000, classes=4, scale=3.0, seed=0):
    """Over-confident logits, labels, and two views."""
    draw = torch.Generator().manual_seed(seed)
    true = 1.5 * torch.randn(rows, classes, generator=draw, dtype=torch.float64)
    labels = torch.multinomial(true.softmax(dim=1), 1, generator=draw).squeeze(1)
    views = [scale * (true + 0.5 * torch.randn(true.shape, generator=draw)) for _ in range(2)]
    return scale * true, labels, views


@pytest.fixture(scope="module", params=NAMES)
def fitted(request):
    method = calibration_named(request.param)
    logits, labels, views = drawn()
    return method, method.fit(logits, labels, views, generator=torch.Generator().manual_seed(1))


def nll(log_p, labels):
    return float(F.nll_loss(log_p, labels))


def test_rows_are_log_probabilities_and_the_fit_helps(fitted):
    method, learned = fitted
    logits, labels, views = drawn()
    found = method.applied(learned, logits, views)
    assert torch.isfinite(found).all()
    assert torch.allclose(found.exp().sum(dim=1), torch.ones(len(found), dtype=found.dtype), atol=1e-9)
    before, after = nll(F.log_softmax(logits, dim=1), labels), nll(found, labels)
    assert after <= before if method.name in LOWERS_NLL else after < before + 0.02
    fresh, answers, others = drawn(seed=7)
    assert brier(method.applied(learned, fresh, others), answers).mean() < brier(fresh, answers).mean()


def test_predictions_stay_where_it_says_so(fitted):
    method, learned = fitted
    logits, _, views = drawn(rows=3000, seed=3)
    same = method.applied(learned, logits, views).argmax(dim=1) == logits.argmax(dim=1)
    assert same.all() if method.keeps_order else same.double().mean() > 0.8


def test_the_order_of_the_rows_does_not_matter_and_seeds_decide_draws(fitted):
    method, learned = fitted
    logits, labels, views = drawn()
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(5))
    again = method.fit(
        logits[order], labels[order], [view[order] for view in views], generator=torch.Generator().manual_seed(1)
    )
    assert learned.keys() == again.keys()
    for name, value in learned.items():
        assert torch.equal(value, again[name]), name


@pytest.mark.parametrize("dtype", NEAR)
def test_it_answers_in_the_type_of_the_logits_and_passes_gradients(fitted, dtype):
    method, learned = fitted
    logits, _, views = drawn(rows=20)
    exact = method.applied(learned, logits.to(dtype).double(), [view.to(dtype).double() for view in views])
    asked = logits.to(dtype).requires_grad_()
    found = method.applied(learned, asked, [view.to(dtype) for view in views])
    assert found.dtype == dtype
    near = (found.double().exp() - exact.exp()).abs() <= NEAR[dtype]
    assert near.all() or (method.name in STAIRS and near.double().mean() > 0.9)
    found[:, 0].sum().backward()
    assert torch.isfinite(asked.grad).all()


def test_extreme_logits_stay_finite(fitted):
    method, learned = fitted
    logits = torch.tensor([[1e4, 0, -1e4, 5], [0, 0, 0, 0], [-300, -300, -300, 300]], dtype=torch.float32)
    found = method.applied(learned, logits, [logits, logits])
    assert torch.isfinite(found).all()
    assert torch.allclose(found.exp().sum(dim=1), torch.ones(3), atol=1e-5)


def test_what_was_learned_is_told_in_numbers(fitted):
    method, learned = fitted
    assert all(isinstance(value, float) for value in method.told(learned).values())
    assert all(isinstance(value, torch.Tensor) for value in learned.values())
    assert type(method).from_json(method.to_json()) == method


LOGITS = torch.zeros(4, 3)


@pytest.mark.parametrize(
    ("logits", "labels", "sentence"),
    [
        (torch.zeros(4, 1), [0, 0, 0, 0], r"logits are \[4, 1\]; they must have one row a sample, and one column"),
        (torch.zeros(4), [0, 0, 0, 0], r"logits are \[4\]"),
        (LOGITS, [0, 1, 2], "there are 4 rows of logits and 3 labels; give one label a row"),
        (LOGITS[:0], [], "there are 0 rows of logits and 0 labels"),
        (
            LOGITS.index_put((torch.tensor(2), torch.tensor(1)), torch.tensor(torch.nan)),
            [0, 1, 2, 0],
            "row 2 of the logits",
        ),
        (LOGITS, [0, 1, 3, 0], "a label is 3, but logits of 3 classes need labels from 0 to 2"),
        (LOGITS, [0, 1, -1, 0], "a label is -1"),
        (LOGITS, [1, 1, 1, 1], "all 4 calibration rows are of one class, 1. Give rows of two classes or more"),
    ],
)
def test_bad_rows_are_refused_in_one_line(logits, labels, sentence):
    with pytest.raises(InputError, match=sentence):
        check(logits, torch.tensor(labels, dtype=torch.long))


def test_a_view_of_other_rows_is_refused_and_a_missing_one_too():
    logits, labels, views = drawn(rows=20)
    method, draw = calibration_named("ca"), torch.Generator()
    with pytest.raises(InputError, match=r"ca needs the logits of transformed copies of the samples\. Give views"):
        method.fit(logits, labels, generator=draw)
    with pytest.raises(InputError, match=r"logits of a view are \[3, 4\], but those of the samples \[20, 4\]"):
        method.fit(logits, labels, [views[0][:3]], generator=draw)
