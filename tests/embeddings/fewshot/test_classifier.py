"""A classifier from a few samples: the nearest mean, with any labels, and any encoder."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.utils.estimator_checks import check_estimator

import attar
from attar.core.errors import InputError
from attar.embeddings import FewShot
from attar.embeddings.fewshot.protonet import ProtoNet


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    small = ProtoNet(encoder="convnet:norm=batch,width=8,depth=2", epochs=1, episodes=2, train_query=2)
    return attar.train("digits", small, out=tmp_path_factory.mktemp("encoder") / "made")


@pytest.fixture
def pictures(generator):
    return torch.randint(256, (12, 8, 8), dtype=torch.uint8, generator=generator).numpy()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_it_passes_the_checks_of_scikit_learn():
    results = check_estimator(FewShot(), on_fail=None, on_skip=None)
    assert [(one["check_name"], one["exception"]) for one in results if one["status"] == "failed"] == []


def test_it_is_the_nearest_centroid_and_with_one_sample_a_class_the_nearest_neighbour(generator):
    points, others = (torch.randn(n, 5, generator=generator).numpy() for n in (20, 50))
    labels = np.arange(20) % 4
    expected = NearestCentroid().fit(points, labels).predict(others)
    assert (FewShot().fit(points, labels).predict(others) == expected).all()
    names = np.array([f"class {n}" for n in range(20)])
    expected = KNeighborsClassifier(1).fit(points, names).predict(others)
    assert (FewShot().fit(points, names).predict(others) == expected).all()


def test_an_artefact_and_its_folder_classify_alike(encoder, pictures, tmp_path):
    labels = ["cat", "dog", "eel"] * 4
    one, two = FewShot(encoder).fit(pictures, labels), FewShot(encoder.folder).fit(pictures, labels)
    share = one.predict_proba(pictures)
    assert np.allclose(share.sum(axis=1), 1) and (one.classes_[share.argmax(axis=1)] == one.predict(pictures)).all()
    assert np.allclose(share, two.predict_proba(pictures), atol=1e-6)
    assert 0 <= one.score(pictures, labels) <= 1
    assert (clone(one).fit(pictures, labels).predict(pictures) == one.predict(pictures)).all()
    # The distance that the encoder learned with decides probabilities.
    assert np.allclose(share, FewShot(encoder, distance="unsquared").fit(pictures, labels).predict_proba(pictures))
    squared = FewShot(encoder, distance="squared", temperature=2.0).fit(pictures, labels)
    assert (squared.predict(pictures) == one.predict(pictures)).all()
    assert not np.allclose(share, squared.predict_proba(pictures))


def test_anything_with_transform_is_an_encoder(generator):
    points = torch.randn(30, 6, generator=generator).numpy()
    pca = PCA(2).fit(points)
    found = FewShot(pca).fit(points, np.arange(30) % 3)
    assert found.prototypes_.shape == (3, 2) and found.counts_.tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"encoder": 3}, "encoder is a int; give a trained encoder, its folder, or an object with transform."),
        ({"distance": "cosine"}, "distance is 'cosine'; it must be auto, squared or unsquared."),
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0."),
    ],
)
def test_bad_settings_are_one_line(how, message):
    with pytest.raises(InputError) as error:
        FewShot(**how).fit([[0.0], [1.0]], [0, 1])
    assert str(error.value) == message


def test_another_number_of_classes_than_samples_is_one_line(encoder, pictures):
    with pytest.raises(InputError, match="there are 12 samples and 2 classes; give one class for each"):
        FewShot(encoder).fit(pictures, ["a", "b"])
