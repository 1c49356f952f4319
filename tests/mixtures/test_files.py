import json

import pytest
import torch
from safetensors.torch import save_file

from attar.core.errors import InputError
from attar.mixtures import GaussianMixture, random_mixture
from attar.mixtures.mixture import COVARIANCES


@pytest.mark.parametrize("ending", ["safetensors", "json"])
@pytest.mark.parametrize("kind", COVARIANCES)
def test_a_mixture_comes_back_as_it_went(ending, kind, tmp_path, generator):
    f = random_mixture(3, 2, generator)
    cut = {
        "full": f.covariances,
        "tied": f.covariances[0],
        "diag": f.covariances[:, 0].abs() + 1,
        "spherical": f.weights + 1,
    }
    f = GaussianMixture(f.weights, f.means, cut[kind], kind)
    f.save(tmp_path / f"f.{ending}")
    back = GaussianMixture.load(tmp_path / f"f.{ending}")
    assert back.fingerprint == f.fingerprint


def test_files_by_other_hands_are_read(tmp_path, generator):
    f = random_mixture(3, 2, generator)
    save_file({name: tensor.float() for name, tensor in f.tensors().items()}, tmp_path / "f.safetensors")
    torch.testing.assert_close(GaussianMixture.load(tmp_path / "f.safetensors").means, f.means, rtol=1e-6, atol=1e-6)
    diagonal = {
        "weights": f.weights,
        "means": f.means,
        "covariances": f.covariances.diagonal(dim1=1, dim2=2).contiguous(),
    }
    save_file(diagonal, tmp_path / "d.safetensors", {"covariance_type": "diag"})
    assert GaussianMixture.load(tmp_path / "d.safetensors").covariance_type == "diag"


def write_wrong(folder):
    good = {"weights": [1.0], "means": [[0.0]], "covariances": [[[1.0]]]}
    (folder / "list.json").write_text("[1, 2]", encoding="utf-8")
    (folder / "torn.json").write_text('{"weights": ', encoding="utf-8")
    (folder / "less.json").write_text(json.dumps({"weights": [1.0]}), encoding="utf-8")
    (folder / "type.json").write_text(json.dumps({**good, "covariance_type": "fuller"}), encoding="utf-8")
    (folder / "words.json").write_text(json.dumps({**good, "weights": ["a"]}), encoding="utf-8")
    (folder / "sum.json").write_text(json.dumps({**good, "weights": [0.9]}), encoding="utf-8")
    (folder / "torn.safetensors").write_bytes(b"\x00" * 30)
    (folder / "pickle.safetensors").write_bytes(b"\x80\x04\x95 anything at all")
    save_file({name: torch.tensor(value).int() for name, value in good.items()}, folder / "whole.safetensors")


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("list.json", "list.json holds no mixture"),
        ("torn.json", "torn.json is damaged: it is not JSON"),
        ("less.json", "less.json has no means, covariances; a mixture has weights, means, covariances and covar"),
        ("type.json", "unknown covariance_type of .*type.json 'fuller'; did you mean 'full'"),
        ("words.json", "words.json: weights, means and covariances must be numbers"),
        ("sum.json", "sum.json: the weights sum to 0.9; they must sum to 1."),
        ("torn.safetensors", "torn.safetensors is damaged or truncated"),
        ("pickle.safetensors", "pickle.safetensors is a pickle"),
        ("whole.safetensors", "weights has the type torch.int32"),
        ("absent.json", "absent.json is missing"),
        ("absent.safetensors", "absent.safetensors is missing"),
        ("f.npz", "f.npz must end in .safetensors or .json"),
    ],
)
def test_what_is_no_mixtures_file_is_refused(name, sentence, tmp_path):
    write_wrong(tmp_path)
    with pytest.raises(InputError, match=sentence):
        GaussianMixture.load(tmp_path / name)


def test_an_altered_file_is_noticed(tmp_path, generator):
    path = tmp_path / "f.safetensors"
    random_mixture(3, 2, generator).save(path)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(InputError, match="was altered"):
        GaussianMixture.load(path)
