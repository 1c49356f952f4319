import ast
from pathlib import Path

import pytest
import torch

import attar.mixtures
from attar.core.errors import InputError
from attar.mixtures.parameters import Parameters, as_tensor, check_parameters, check_type

SETTINGS = ("kind.py", "reading.py", "scoring.py")
"""Files that are read without torch, for help, and so import the others when they are used."""
FILES = [path for path in sorted(Path(attar.mixtures.__file__).parent.glob("*.py")) if path.name not in SETTINGS]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_mixtures_import_each_other_at_the_top_only(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node not in tree.body]
    assert not [node.module for node in late if node.module and node.module.startswith("attar.mixtures")]


def test_numbers_come_in_the_order_of_a_mixture():
    given = Parameters([0.5, 0.5], [[0.0], [1.0]], [1.0, 2.0], "spherical")
    assert attar.mixtures.GaussianMixture(*given).covariances.tolist() == [1.0, 2.0]
    assert Parameters([1.0], [[0.0]], [[[1.0]]]).covariance_type == "full"


def test_what_is_no_array_is_refused():
    with pytest.raises(InputError, match="must be numbers in regular arrays"):
        as_tensor([[1.0], [1.0, 2.0]], torch.float64)
    with pytest.raises(InputError, match="unknown covariance_type 'fulll'; did you mean 'full'"):
        check_type("fulll")


def test_the_wrong_component_of_the_wrong_mixture_is_named():
    weights, means = torch.ones(2, 1), torch.zeros(2, 1, 2)
    spherical = torch.tensor([[1.0], [0.0]])
    with pytest.raises(InputError, match="the variance of component 0 is 0; it must be positive"):
        check_parameters(weights, means, spherical, "spherical")
    tied = torch.eye(2).repeat(2, 1, 1)
    tied[1, 1, 1] = -1
    with pytest.raises(InputError, match=r"the covariance of mixture \[1\] is not positive definite"):
        check_parameters(weights, means, tied, "tied")
    with pytest.raises(InputError, match=r"the covariance of component 0 of mixture \[1\] is not positive definite"):
        check_parameters(weights, means, tied[:, None], "full")
