import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from attar.classifiers.calibration.ca import CorrectnessAware
from attar.classifiers.calibration.estimator import Calibrator, scores_of
from attar.classifiers.calibration.ts import TemperatureScaling, temperature_of
from attar.core.errors import InputError


def drawn(rows=300, classes=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    true = 1.5 * torch.randn(rows, classes, dtype=torch.float64, generator=draw)
    return 2 * true, torch.multinomial(true.softmax(dim=1), 1, generator=draw).squeeze(1)


@pytest.fixture(scope="module")
def digits():
    pixels, labels = load_digits(return_X_y=True)
    return pixels[:600] / 16, labels[:600], pixels[600:1200] / 16, labels[600:1200]


def test_arrays_and_tensors_are_logits():
    logits, labels = drawn()
    one = Calibrator().fit(logits, labels)
    two = Calibrator(TemperatureScaling()).fit(logits.numpy(), labels.numpy())
    assert one.learned_["temperature"] == two.learned_["temperature"] == pytest.approx(temperature_of(logits, labels))
    p = one.predict_proba(logits)
    assert np.allclose(p, (logits / one.learned_["temperature"]).softmax(dim=1), atol=1e-12)
    assert np.allclose(np.log(p), one.predict_log_proba(logits))
    assert (one.predict(logits) == logits.argmax(dim=1).numpy()).all()
    assert one.n_features_in_ == 3 and one.classes_.tolist() == [0, 1, 2]
    assert 0 < one.score(logits.numpy(), labels.numpy()) < 1


def test_single_precision_is_enough():
    logits, labels = drawn()
    one, two = Calibrator().fit(logits.float(), labels), Calibrator().fit(logits, labels)
    assert one.predict_proba(logits.float()).dtype == np.float32
    assert float(one.learned_["temperature"]) == pytest.approx(float(two.learned_["temperature"]), rel=1e-5)


def test_text_labels_stand_for_columns_in_their_order_or_as_given():
    logits, labels = drawn()
    names = np.array(["eel", "cat", "dog"])
    sorted_ = Calibrator().fit(logits, np.array(["cat", "dog", "eel"])[labels])
    assert sorted_.classes_.tolist() == ["cat", "dog", "eel"]
    given = Calibrator(classes=names).fit(logits, names[labels])
    assert given.classes_.tolist() == names.tolist()
    assert (given.predict(logits) == names[logits.argmax(dim=1)]).all()
    assert given.learned_["temperature"] == sorted_.learned_["temperature"]


def test_probabilities_are_told_and_their_logarithms_taken():
    logits, labels = drawn()
    with pytest.warns(UserWarning, match="rows are probabilities, where logits are wanted; their logarithms are taken"):
        found = Calibrator().fit(logits.softmax(dim=1), labels)
    assert float(found.learned_["temperature"]) == pytest.approx(temperature_of(logits, labels), rel=1e-6)
    assert np.allclose(
        found.predict_proba(logits.softmax(dim=1)), Calibrator().fit(logits, labels).predict_proba(logits), atol=1e-6
    )


@pytest.mark.parametrize("family", [LogisticRegression(), GaussianNB(var_smoothing=0.1), LinearSVC()])
def test_a_fitted_classifier_is_calibrated_and_stays_as_it_is(family, digits):
    pixels, labels, others, answers = digits
    names = np.array([f"digit {n}" for n in range(10)])
    base = clone(family).fit(pixels, names[labels])
    calibrator = Calibrator.on(base).fit(others, names[answers])
    assert calibrator.classes_.tolist() == base.classes_.tolist()
    assert (calibrator.predict(others) == base.predict(others)).all()
    p = calibrator.predict_proba(others)
    assert np.allclose(p.sum(axis=1), 1)
    again = clone(calibrator).fit(others, names[answers])
    assert np.array_equal(again.predict_proba(others), p)
    assert calibrator.n_features_in_ == 64


def test_it_is_scikit_learns_temperature(digits):
    pixels, labels, others, answers = digits
    base = LogisticRegression(C=100, max_iter=2000).fit(pixels, labels)
    theirs = CalibratedClassifierCV(FrozenEstimator(base), method="temperature").fit(others, answers)
    ours = Calibrator.on(base).fit(others, answers)
    exact = temperature_of(torch.tensor(base.decision_function(others)), torch.tensor(answers))
    assert float(ours.learned_["temperature"]) == pytest.approx(exact, rel=1e-9)
    beta = theirs.calibrated_classifiers_[0].calibrators[0].beta_
    assert float(ours.learned_["temperature"]) == pytest.approx(1 / float(beta), rel=1e-6)
    assert np.allclose(theirs.predict_proba(others), ours.predict_proba(others), atol=1e-6)


def test_two_classes_with_one_column_of_scores_are_two_columns(digits):
    pixels, labels, _, _ = digits
    base = LogisticRegression().fit(pixels, labels > 4)
    scores = scores_of(base, pixels)
    assert scores.shape == (600, 2) and np.array_equal(scores[:, 1], base.decision_function(pixels))
    assert Calibrator.on(base, "platt").fit(pixels, labels > 4).classes_.tolist() == [False, True]


def test_views_are_given_to_the_calibrator_that_looks_at_them():
    logits, labels = drawn()
    views = [0.5 * logits.numpy(), logits + 0.1]
    one = Calibrator(CorrectnessAware(epochs=20), seed=3).fit(logits, labels, views)
    two = Calibrator(CorrectnessAware(epochs=20), seed=3).fit(logits, labels, views)
    assert one.predict_proba(logits, views).shape == (300, 3)
    assert np.array_equal(one.predict_proba(logits, views), two.predict_proba(logits, views))
    with pytest.raises(InputError, match="needs the logits of transformed copies"):
        one.predict_proba(logits)


def test_what_was_learned_is_saved_as_tensors_and_pickled():
    logits, labels = drawn()
    for method in ("ts", "isotonic", "ets"):
        made = Calibrator(method).fit(logits, labels)
        kept = load(save(made.to_tensors()))
        back = Calibrator.from_tensors(method, kept, made.classes_)
        assert np.array_equal(back.predict_proba(logits), made.predict_proba(logits))
        assert np.array_equal(pickle.loads(pickle.dumps(made)).predict_proba(logits), made.predict_proba(logits))


@pytest.mark.parametrize(
    ("settings", "rows", "labels", "sentence"),
    [
        ({"method": "st"}, np.eye(3) * 4, [0, 1, 2], "unknown calibrator 'st'; did you mean 'ts'"),
        ({}, np.eye(3) * 4, ["a", "b", "b"], r"there are 2 classes \(a, b\), but 3 columns of logits"),
        (
            {"classes": ["a", "b", "c"]},
            np.eye(3) * 4,
            ["a", "b", "d"],
            r"a label is 'd', which is none of the 3 classes",
        ),
        ({}, np.eye(3) * 4, [1, 1, 1], "all 3 calibration rows are of one class, 1"),
        ({}, np.ones((3, 1)), [0, 0, 0], "they must have one row a sample"),
        ({"estimator": object()}, np.eye(3), [0, 1, 2], "estimator is a object, without decision_function"),
    ],
)
def test_bad_input_is_one_line(settings, rows, labels, sentence):
    with pytest.raises(InputError, match=sentence):
        Calibrator(**settings).fit(rows, labels)


def test_labels_below_zero_are_no_columns_unless_they_are_of_two_classes():
    logits, labels = drawn()
    with pytest.raises(InputError, match=r"a label is -100\. Leave such rows out, or name the class of each column"):
        Calibrator().fit(logits, torch.where(labels == 0, -100, labels))
    assert Calibrator().fit(logits[:, :2], (labels > 0) * 2 - 1).classes_.tolist() == [-1, 1]
    named = Calibrator(classes=[-100, 1, 2]).fit(logits, torch.where(labels == 0, -100, labels))
    assert named.classes_.tolist() == [-100, 1, 2]
    with pytest.raises(InputError, match="classes are a, a, b, and one is there twice"):
        Calibrator(classes=["a", "a", "b"]).fit(logits, np.array(list("aab"))[labels])
    with pytest.raises(InputError, match="Stack 0 and the logit"):
        Calibrator().fit(logits[:, :1], labels > 0)


def test_half_precision_of_both_kinds_is_taken():
    logits, labels = drawn()
    whole = Calibrator().fit(logits, labels).predict_proba(logits)
    for dtype in (torch.float16, torch.bfloat16):
        near = Calibrator().fit(logits.to(dtype), labels).predict_proba(logits.to(dtype))
        assert np.abs(near - whole).max() < 0.05


def test_what_is_predicted_has_the_form_of_the_fit():
    logits, labels = drawn()
    p = logits.softmax(dim=1)
    with pytest.warns(UserWarning, match="rows are probabilities, but the calibrator was fitted to logits"):
        Calibrator().fit(logits, labels).predict_proba(p)
    with pytest.warns(UserWarning, match="their logarithms are taken"):
        fitted = Calibrator().fit(p, labels)
    with pytest.raises(InputError, match="the calibrator was fitted to probabilities, and these rows are none"):
        fitted.predict(logits)
    views = [logits, logits]
    looks = Calibrator(CorrectnessAware(epochs=2)).fit(logits, labels, views)
    with pytest.raises(ValueError, match=r"ca was fitted to 6 cues a sample, but here are 3\. Give the same views"):
        looks.predict(logits, views[:1])


def test_tensors_of_another_calibrator_are_refused():
    logits, labels = drawn()
    made = Calibrator("platt").fit(logits, labels)
    for method, classes in (("ts", made.classes_), ("platt", [0, 1])):
        with pytest.raises(InputError, match=f"these tensors are not what {method} learns of {len(classes)} classes"):
            Calibrator.from_tensors(method, made.to_tensors(), classes)


def test_logits_that_are_not_finite_are_a_value_error_as_scikit_learn_has_it():
    with pytest.raises(ValueError, match="NaN"):
        Calibrator().fit(np.array([[np.nan, 0.0], [1.0, 2.0]]), [0, 1])


WIDTH = "logits have one column a class, and the check's samples have other widths"
NOT_APPLICABLE = {
    **dict.fromkeys(
        (
            "check_estimators_overwrite_params",
            "check_estimators_fit_returns_self",
            "check_readonly_memmap_input",
            "check_estimators_nan_inf",
            "check_classifiers_classes",
            "check_fit2d_1feature",
        ),
        WIDTH,
    ),
    "check_classifiers_train": "predictions come with the logits, and classes are not learned from samples",
}
"""Checks of scikit-learn that a calibrator of logits cannot pass, with the reason."""


@pytest.mark.filterwarnings("ignore")
def test_it_passes_the_checks_of_scikit_learn_that_apply():
    results = check_estimator(Calibrator(), on_fail=None, on_skip=None, expected_failed_checks=NOT_APPLICABLE)
    assert [(one["check_name"], one["exception"]) for one in results if one["status"] == "failed"] == []
    assert sum(one["status"] == "passed" for one in results) > 40
