import pytest

from attar.bench.published import datasets, published
from attar.core.errors import InputError
from attar.core.registry import METHODS


@pytest.mark.parametrize(
    ("data", "ipc", "method", "value", "spread"),
    [
        ("cifar10", 1, "random", 14.4, 2.0),
        ("cifar10", 1, "dm", 26.0, 0.8),
        ("cifar10", 1, "datadam", 32.0, 1.2),
        ("cifar10", 10, "dm", 48.9, 0.6),
        ("cifar10", 10, "datadam", 54.2, 0.8),
        ("cifar10", 50, "whole", 84.8, 0.1),
        ("cifar10", 50, "herding", 40.4, 0.6),
        ("cifar10", 1250, "dm", 80.8, None),
        ("cifar100", 10, "dsa", 32.3, 0.3),
        ("cifar100", 50, "datadam", 49.4, 0.3),
        ("mnist", 10, "k-center", 84.4, 1.7),
        ("fashion-mnist", 1, "dc", 70.5, None),
        ("tiny-imagenet", 1, "random", 1.4, 0.1),
        ("imagenet", 2, "datadam", 2.2, None),
        ("imagesquawk", 10, "datadam", 55.4, None),
        ("cifar10", 10, "datm", 66.8, 0.2),
        ("cifar10", 1, "ftd", 46.8, 0.3),
        ("svhn", 10, "dsa", 79.2, None),
        ("imagenette", 10, "edf", 71.0, 0.8),
    ],
)
def test_cells_are_as_printed(data, ipc, method, value, spread):
    cell = published(data, ipc)[method]
    assert (cell.value, cell.spread) == (value, spread)


def test_a_methods_own_paper_goes_first_and_the_other_stays_beside_it():
    dm = published("tiny-imagenet", 50)["dm"]
    assert (dm.value, dm.paper) == (24.1, "2110.04181")
    assert [(cell.value, cell.paper) for cell in dm.alternatives] == [(25.3, "2310.00093")]


def test_doubtful_cells_say_so():
    assert published("cifar100", 1)["k-center"].note.startswith("doubtful")
    assert published("cifar100", 1)["mtt"].note.startswith("doubtful")
    (poster,) = published("cifar10", 10)["mtt"].alternatives
    assert poster.value == 56.4
    assert poster.note.startswith("doubtful")


def test_numbers_of_other_networks_are_kept_apart():
    assert published("cifar10", 50)["dm"].value == 63.0
    assert published("cifar10", 50, "convnet:norm=batch")["dm"].value == 65.2
    assert published("cifar10", 50, "resnet18")["datadam"].value == 60.2
    assert published("cifar10", 10, "resnet18")["sre2l"].value == 27.2


def test_an_ipc_no_table_has_is_empty_and_an_unknown_set_is_refused():
    assert published("cifar10", 7) == {}
    with pytest.raises(InputError, match="unknown published data set 'cifar'; did you mean 'cifar10'"):
        published("cifar", 1)


def test_every_number_is_a_percentage_under_a_lower_case_name():
    known = {"cafe", "kip", "forgetting", "whole"}
    for data in datasets():
        for ipc in (1, 2, 10, 50, 100, 200, 500, 1000, 1250):
            for method, cell in published(data, ipc).items():
                assert 0 < cell.value < 100
                assert method in METHODS or method in known


def test_a_cell_prints_as_in_a_table():
    assert str(published("cifar10", 1)["random"]) == "14.4 ± 2.0"
    assert str(published("imagenet", 1)["random"]) == "0.5"
    assert str(published("cifar10", 1)["dcc"]) == "34.0 (not verified)"
