"""The published cells of images, held against the authors' released files and against the printed accuracies."""

import json
import os
from pathlib import Path

import pytest

import attar
from attar.bench.published import PATH
from attar.core.errors import InputError
from attar.core.presets import table_of
from attar.core.registry import METHODS

COPY = json.loads((Path(__file__).parent / "condense" / "released_cells.json").read_text(encoding="utf-8"))
FILES = Path(os.environ.get("ATTAR_DATA", "")).parent / "specs" / "trajectory-cells.json"
STARTS = {"samples_predicted_correctly": "recognised", "real": "real"}
NAMES = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100", "TinyImageNet": "tiny-imagenet"}
OPEN = {"interval": 100, "loss_threshold": 0.0, "beta": 1.0}
"""What attar takes where a file leaves it open."""


def rows(method):
    return [dict(zip(COPY["columns"], row, strict=True)) for row in COPY[method]]


def data_of(name):
    category, _, half = name.removeprefix("ImageNet/").lower().partition("_")
    return NAMES.get(name) or (f"{category.removesuffix('s')}-{half}" if half else category)


def read_from(row):
    """The settings that a released file says."""
    row = row | {key: value for key, value in OPEN.items() if row[key] is None}
    grows = row["Sequential_Generation"] in (True, None) and row["current_max_start_epoch"] is not None
    return {
        "student_steps": row["syn_steps"],
        "span": row["expert_epochs"],
        "lr": row["lr_img"],
        "student_lr": row["lr_teacher"],
        "steps": row["Iteration"],
        "batch": row["batch_syn"],
        "label_lr": row["lr_y"],
        "label_momentum": row["Momentum_y"],
        "gate": row["threshold"],
        "start": STARTS[row["pix_init"]],
        "first_start": row["min_start_epoch"],
        "grow_from": row["current_max_start_epoch"] if grows else None,
        "last_start": row["max_start_epoch"],
        "grow_over": row["expansion_end_epoch"] if grows else 1000,
        "lr_lr": row["lr_lr"],
        "zca": row["zca"],
    }


@pytest.mark.parametrize("method", ["edf", "datm"])
def test_the_copy_is_that_of_the_files(method):
    if not FILES.exists():
        pytest.skip(f"{FILES} is not there")
    files = json.loads(FILES.read_text(encoding="utf-8"))[method]
    assert [{key: file.get(key) for key in COPY["columns"]} for file in files] == rows(method)


@pytest.mark.parametrize("row", rows("datm"), ids=lambda row: f"{row['set']}-{row['file_ipc']}")
def test_datms_cells_are_the_released_files(row):
    found = attar.DATM.paper(data_of(row["set"]), ipc=row["file_ipc"]).to_json()
    assert {name: found[name] for name in read_from(row)} == read_from(row)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("row", rows("edf"), ids=lambda row: f"{row['set']}-{row['file_ipc']}")
def test_edfs_cells_are_the_released_files(row, variant):
    found = attar.EDF.paper(data_of(row["set"]), ipc=row["file_ipc"], variant=variant).to_json()
    told = row | {key: value for key, value in OPEN.items() if row[key] is None}
    wanted = read_from(row) | {
        "parameter_dropout": told["loss_threshold"],
        "refresh": told["interval"],
        "emphasis": told["beta"],
    }
    assert {name: found[name] for name in wanted} == wanted
    assert "crop=0.25" in found["augmentation"]
    if data_of(row["set"]) not in NAMES.values():
        assert found["observer"]["folder"] == "transformers:microsoft/resnet-18"


def test_all_released_files_are_cells_and_no_others():
    for name, method, count in (("edf", attar.EDF, 49), ("datm", attar.DATM, 12)):
        files = {(data_of(row["set"]), str(row["file_ipc"])) for row in rows(name)}
        assert {(cell.data, cell.size) for cell in table_of(method).cells} == files
        assert len(files) == count
    hard = [cell for cell in table_of(attar.EDF).cells if cell.data.endswith(("-easy", "-hard"))]
    assert len(hard) == 18


def test_two_files_that_carry_another_number_are_said_to_be_attars():
    ours = {cell.name: cell.note for cell in table_of(attar.EDF).cells if cell.source == "attar"}
    assert set(ours) == {"imagefruit-1", "imagefruit-10"}
    assert {f"imagefruit-{row['file_ipc']}" for row in rows("edf") if row["ipc"] != row["file_ipc"]} == set(ours)
    assert all("carries ipc 50" in note for note in ours.values())


def test_edfs_variants_differ_in_their_maps_alone():
    paper, released = (attar.EDF.paper("imagewoof", ipc=10, variant=v).to_json() for v in ("paper", "released"))
    assert {name for name in paper if paper[name] != released[name]} == {"maps", "map_class"}
    assert (paper["maps"], released["maps"], released["map_class"]) == ("grad-cam", "smooth", "label")


def test_cells_that_were_wrong_before():
    assert [attar.EDF.paper("imagemeow", ipc=ipc).label_lr for ipc in (1, 10)] == [3, 2]
    assert [attar.EDF.paper(data, ipc=50).grow_over for data in ("imagesquawk", "imageyellow")] == [1000, 1000]
    assert attar.FTD.paper("cifar100", ipc=10).zca
    assert [attar.AST.paper(c.data, ipc=int(c.size)).student_lr for c in table_of(attar.AST).cells] == [0.01] * 5
    cifar = attar.SRe2L.paper("cifar10", ipc=10)
    assert (cifar.crop, cifar.mirror) == ("off", "off")
    teacher = cifar.teacher.protocol
    assert (teacher.augmentation, teacher.batch, teacher.largest_shift * 32) == ("shift", 128, 4)
    assert attar.SRe2L.paper("imagenet", ipc=10).teacher.protocol.augmentation == "crop"


@pytest.mark.parametrize(
    "name", ["dm", "datadam", "atom", "dcc", "datm", "edf", "ftd", "sre2l", "cda", "rded", "hello"]
)
def test_what_a_methods_own_paper_prints_are_cells(name):
    method = METHODS[name].load()
    known = {(cell.data, cell.size) for cell in table_of(method).cells}
    file = json.loads(PATH.read_text(encoding="utf-8"))
    told = {
        (table["data"], size)
        for table in file["tables"]
        if table["paper"] == file["own_paper"][name]
        for size in table["methods"].get(name, {})
    }
    assert told and told <= known


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: attar.DM.paper("cifar10", ipc=3), r"DM has no cell cifar10-3\. Cells: cifar10-1, cifar10-10"),
        (lambda: attar.DC.paper("cifar100", ipc=20), r"DC has no cell cifar100-20\. Cells: cifar100-1, cifar100-10"),
        (lambda: attar.RDED.paper("cifar10", ipc=100), "RDED has no cell cifar10-100"),
        (lambda: attar.SRe2L.paper("tiny-imagenet", ipc=10), "SRe2L has no cell tiny-imagenet-10"),
        (lambda: attar.CDA.paper("cifar10", ipc=10), "CDA has no cell of 'cifar10'; did you mean 'cifar100'"),
        (lambda: attar.DataDAM.paper("imagenette", ipc=50), "DataDAM has no cell imagenette-50"),
        (lambda: attar.DCC.paper("mnist", ipc=1), "DCC has no cell of 'mnist'"),
        (lambda: attar.EDF.paper("imagenett", ipc=1), "did you mean 'imagenette'"),
        (lambda: attar.HeLlO.paper("imagenet", ipc=200), r"HeLlO has no cell imagenet-200\. Cells: imagenet-1"),
    ],
)
def test_cells_that_no_table_has_are_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()
