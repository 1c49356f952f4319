"""The linear probe is logistic regression, and its regularisation is chosen on rows that it does not see."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from attar.core.errors import InputError
from attar.embeddings.probe import STRENGTHS, fit_probe, tenths


def blobs(generator, samples=120, classes=4, apart=1.2):
    labels = torch.arange(samples) % classes
    centres = apart * torch.randn(classes, 6, generator=generator)
    return centres[labels] + torch.randn(samples, 6, generator=generator), labels


def test_features_that_are_the_labels_are_read_without_error():
    labels = torch.arange(60) % 5
    probe = fit_probe(F.one_hot(labels).float(), labels, 5)
    assert torch.equal(probe.predict(torch.eye(5)).argmax(dim=1), torch.arange(5))
    several = (torch.arange(64)[:, None] >> torch.arange(6)) % 2 == 1
    probe = fit_probe(several.float(), several, 6)
    assert torch.equal(probe.predict(several.float()) > 0.5, several)


def test_it_is_the_regression_of_scikit_learn(generator):
    features, labels = blobs(generator)
    probe = fit_probe(features, labels, 4, strengths=(0.3,))
    rows = features.double().numpy()
    standard = (rows - rows.mean(0)) / rows.std(0)
    right = LogisticRegression(C=0.3, max_iter=500).fit(standard, labels.numpy())
    np.testing.assert_allclose(probe.predict(features).numpy(), right.predict_proba(standard), atol=1e-6)


def test_the_best_strength_on_the_held_out_rows_is_taken(generator):
    features, labels = blobs(generator, apart=0.7)
    probe = fit_probe(features, labels, 4)
    found = {strength: fit_probe(features, labels, 4, strengths=(strength,)) for strength in STRENGTHS}
    right = {s: float((one.on_held.argmax(dim=1) == labels[one.held]).double().mean()) for s, one in found.items()}
    assert right[probe.strength] == max(right.values())
    assert torch.equal(probe.on_held, found[probe.strength].on_held)


def test_held_out_rows_are_judged_by_a_regression_that_has_not_seen_them(generator):
    noise = torch.randint(2, (120,), generator=generator)
    wide = torch.randn(120, 200, generator=generator)
    probe = fit_probe(wide, noise, 2)
    assert float((probe.predict(wide).argmax(dim=1) == noise).double().mean()) > 0.95
    assert float((probe.on_held.argmax(dim=1) == noise[probe.held]).double().mean()) < 0.7


def test_tenths_are_of_every_class_and_as_many_as_are_needed():
    labels = torch.tensor([0] * 40 + [1] * 20 + [2])
    parts = tenths(labels)
    assert [torch.bincount(labels[part], minlength=3).tolist() for part in parts] == [[4, 2, 0]] * 10
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(60))
    assert all(map(torch.equal, parts, tenths(labels)))
    assert [len(part) for part in tenths(torch.ones(2_500, 4, dtype=torch.bool))] == [250, 250]
    assert [len(part) for part in tenths(torch.ones(5_000, 4, dtype=torch.bool))] == [500]
    assert [part.tolist() for part in tenths(torch.tensor([0, 1, 1]))] in ([[1], [2]], [[2], [1]])
    assert sorted(map(int, torch.cat(tenths(torch.arange(3))))) == [0, 1, 2]


def test_classes_that_are_missing_or_alone_get_a_probability_too(generator):
    features, labels = blobs(generator, classes=3)
    found = fit_probe(features, labels, 5).predict(features)
    assert found.shape == (120, 5) and not found[:, 3:].any()
    assert fit_probe(features, torch.zeros(120, dtype=torch.long), 2).predict(features)[:, 0].eq(1).all()
    marks = torch.stack([labels == 0, labels < 9, labels > 9], dim=1)
    found = fit_probe(features, marks, 3).predict(features)
    assert found[:, 1].eq(1).all() and found[:, 2].eq(0).all()


def test_features_of_any_scale_and_constant_ones_do_no_harm(generator):
    features, labels = blobs(generator)
    plain = fit_probe(features, labels, 4).predict(features)
    odd = torch.cat([1e4 * features + 1e5, torch.full((120, 1), 0.1)], dim=1).double()
    torch.testing.assert_close(fit_probe(odd, labels, 4).predict(odd), plain, atol=1e-2, rtol=0)


def test_what_cannot_be_fitted_is_refused(generator):
    features, labels = blobs(generator)
    with pytest.raises(InputError, match="a probe needs two samples or more with labels; there are 120 and 119"):
        fit_probe(features, labels[:-1], 4)
    features[7, 0] = torch.inf
    with pytest.raises(InputError, match="the features of sample 7 are not finite"):
        fit_probe(features, labels, 4)
