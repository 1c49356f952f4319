import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet
from sklearn.mixture import GaussianMixture as Fitted

from attar.core.errors import InputError
from attar.mixtures import GaussianMixture, load, random_mixture, standard_1d
from attar.mixtures.sources import digits_mixture, digits_plane, fit, read_table


@pytest.fixture
def points(generator):
    return random_mixture(3, 2, generator).sample(300, generator).numpy()


def test_the_standard_mixtures_have_names():
    assert load("standard-1d").mixture.n_components == 10
    digits = load("digits")
    assert (digits.mixture.n_components, digits.mixture.dimension) == (40, 2)
    assert str(digits) == "digits: 40 components in 2-D, full; fitted to two principal components of 1,797 digits"
    assert digits.fingerprint == digits_mixture().fingerprint != load("standard-1d").fingerprint


def test_the_digits_have_unit_deviation_along_each_axis():
    np.testing.assert_allclose(digits_plane().std(axis=0), 1)
    expected = Fitted(n_components=40, random_state=0, reg_covar=1e-3).fit(digits_plane())
    np.testing.assert_allclose(digits_mixture().weights, expected.weights_)


@pytest.mark.parametrize("ending", ["npy", "csv", "parquet"])
def test_a_table_of_samples_is_fitted(ending, points, tmp_path):
    path = tmp_path / f"points.{ending}"
    if ending == "npy":
        np.save(path, points)
    elif ending == "csv":
        np.savetxt(path, points, delimiter=",", header="x,y", comments="")
    else:
        parquet.write_table(pyarrow.table({"x": points[:, 0], "y": points[:, 1]}), path)
    source = load(str(path), fit_components=3)
    assert source.mixture.n_components == 3
    assert str(source) == "points: 3 components in 2-D, full; fitted to 300 samples"
    torch.testing.assert_close(source.mixture.means, fit(points, 3).means, rtol=1e-6, atol=1e-6)


def test_a_csv_file_needs_no_header(points, tmp_path):
    np.savetxt(tmp_path / "plain.csv", points, delimiter=",")
    assert read_table(tmp_path / "plain.csv").shape == (300, 2)


def test_a_fit_in_one_dimension_follows_the_density(generator):
    f = standard_1d()
    g = fit(f.sample(4000, generator).numpy()[:, 0], 6)
    points = torch.linspace(0, 3, 50, dtype=torch.float64)[:, None]
    assert float((f.log_prob(points).exp() - g.log_prob(points).exp()).abs().max()) < 0.25


def test_mixtures_of_other_libraries_are_taken(points):
    model = Fitted(n_components=3, random_state=0).fit(points)
    assert load(model).mixture.n_components == 3
    assert load(load(model).mixture.to_torch()).mixture.n_components == 3
    assert load(points, fit_components=4).mixture.n_components == 4
    assert load(load(model)).mixture.n_components == 3


def broken(points, tmp_path):
    np.save(tmp_path / "hole.npy", np.where(points > points.max() - 1e-9, np.nan, points))
    np.save(tmp_path / "few.npy", points[:5])
    np.save(tmp_path / "cube.npy", points.reshape(3, 100, 2))
    np.save(tmp_path / "same.npy", np.ones((50, 2)))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "words.csv").write_text("a,b\nred,green\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("none", encoding="utf-8")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("hole.npy", "every number must be finite"),
        ("few.npy", "few: 5 samples are too few for 40 components"),
        ("cube.npy", r"samples have shape \(3, 100, 2\); they must be \[sample, dimension\]"),
        ("same.npy", "all samples are the same point"),
        ("objects.npy", "objects.npy is not a table of numbers"),
        ("words.csv", "words.csv is not a table of numbers"),
        ("torn.parquet", "torn.parquet is not a table of numbers"),
        ("notes.txt", "must end in one of .safetensors, .json, .npy, .csv, .parquet"),
        ("absent.npy", "is not a file, an artefact or one of digits, standard-1d"),
    ],
)
def test_what_is_no_mixture_and_no_table_is_refused(name, sentence, points, tmp_path):
    broken(points, tmp_path)
    with pytest.raises(InputError, match=sentence):
        load(str(tmp_path / name))


def test_other_objects_are_refused():
    with pytest.raises(InputError, match="dict is neither a mixture nor a table of samples"):
        load({})


def test_random_mixtures_are_those_of_their_generator():
    one, two = (random_mixture(5, 4, torch.Generator().manual_seed(1)) for _ in range(2))
    assert one.fingerprint == two.fingerprint
    many = random_mixture(4000, 4, torch.Generator().manual_seed(0))
    assert 0 <= float(many.means.min()) < 0.01 < 2.99 < float(many.means.max()) <= 3
    torch.testing.assert_close(many.covariances.mean(0), torch.eye(4, dtype=torch.float64) / 10, atol=5e-3, rtol=0)
    GaussianMixture(*many.tensors().values())
