import dataclasses

import pytest
import torch

import attar
from attar.classifiers.schedules import (
    CIFAR100_PAIRS,
    DEIT_PAIRS,
    IMAGENET_PAIRS,
    schedule,
    step_share,
    student_of,
    teacher_of,
)
from attar.classifiers.watched import BEFORE
from attar.cli import main
from attar.core.errors import InputError
from attar.images.networks.architecture import parse


def test_cells_of_the_papers():
    kd = attar.KD.paper("cifar100")
    assert (kd.epochs, kd.batch, kd.lr) == (240, 64, 0.05)
    assert (kd.label_weight, kd.teacher_weight, kd.temperature) == (0.1, 0.9, 4)
    assert [round(cut * 240) for cut in kd.cuts] == [150, 180, 210]
    assert attar.KD.paper("imagenet").temperature == 1
    assert attar.DKD.paper("resnet32x4-shufflenetv2").lr == 0.01
    assert attar.DKD.paper("resnet56-resnet20").beta == 2
    assert attar.ReviewKD.paper("resnet56-resnet20").weight == 0.6
    nd = attar.ND.paper("resnet56-resnet20")
    assert (nd.base_weight, nd.direction_weight, nd.lr, nd.batch, nd.nesterov) == (1, 2, 0.1, 128, True)
    assert attar.ND.paper("resnet34-resnet18", "dkd").alpha == 0.8
    assert (nd.warm_from, nd.means_of) == (0, "views")
    assert attar.ND.paper("resnet101-resnet18").direction_weight == 4
    assert attar.ND.paper("vit_b-resnet18").epochs == 100
    assert attar.DHKD.paper("imagenet").stop_at == 0.5
    assert attar.CRD.paper("cifar100").negatives == 16384
    assert attar.CRD.paper("cifar100-kd").teacher_weight == 1
    assert attar.AttentionTransfer.paper("cifar100").weight == 1000
    assert attar.FitNets.paper("cifar100").weight == 100
    assert (attar.RKD.paper("cifar100").distance_weight, attar.RKD.paper("cifar100").angle_weight) == (25, 50)
    assert attar.DIST.paper("cifar100").between_weight == 2
    assert attar.DIST.paper("imagenet").epochs == 100


@pytest.mark.parametrize("pair", CIFAR100_PAIRS)
def test_every_pair_of_the_benchmark_can_be_built(pair):
    teacher, student = teacher_of(pair), student_of(pair)
    assert schedule(pair)["student"] == parse(student).network
    assert parse(teacher).resolve((3, 32, 32)).norm == "batch"
    assert (teacher, student) == tuple(f"{name}-bn" if "vgg" in name else name for name in pair.split("-"))


def test_every_pair_of_imagenets_can_be_built_but_for_regnet():
    assert {student_of(pair) for pair in IMAGENET_PAIRS} == {"resnet18-imagenet", "mobilenetv1"}
    deep = {f"resnet{depth}-imagenet" for depth in (34, 50, 101, 152)}
    assert {teacher_of(pair) for pair in IMAGENET_PAIRS} == {*deep, "vit_s16", "vit_b16"}
    for pair in IMAGENET_PAIRS:
        assert parse(teacher_of(pair)).network == teacher_of(pair)
        assert schedule(pair)["student"] == parse(student_of(pair)).network
        assert (schedule(pair)["smallest_crop"], schedule(pair)["flips"]) == (0.08, "on")
    assert [(teacher_of(pair), student_of(pair)) for pair in DEIT_PAIRS] == [(None, "vit_b16")]
    assert teacher_of("cifar100") is student_of("cifar100") is None


def test_imagenets_rows_hold_for_its_pairs():
    kd = attar.KD.paper("resnet34-resnet18")
    assert (kd.student, kd.temperature, kd.label_weight, kd.smallest_crop) == ("resnet18-imagenet", 1, 0.5, 0.08)
    assert attar.DIST.paper("resnet50-mobilenetv1").student == "mobilenetv1"
    assert attar.DHKD.paper("imagenet").student == "resnet18-imagenet"
    review = attar.ReviewKD.paper("resnet34-resnet18")
    assert (review.student_layers, review.teacher_layers) == ((BEFORE,), (BEFORE,))
    assert attar.ND.paper("resnet50-mobilenetv1", "reviewkd").student_layers == (BEFORE,)


def test_deits_recipe():
    nd = attar.ND.paper("regnety160-deit_b")
    assert (nd.epochs, nd.batch, nd.optimizer, nd.schedule, nd.lr) == (300, 2048, "adamw", "cosine", 2e-3)
    assert (nd.mixup, nd.cutmix, nd.smoothing, nd.smallest_crop) == (0.8, 1.0, 0.1, 0.08)
    assert (nd.base_weight, nd.direction_weight, nd.temperature, nd.nesterov) == (0.5, 1.5, 1.0, False)
    assert [round(share * 300) for share in (nd.lr_warm_up, nd.warm_up)] == [5, 5]
    assert nd.student == "vit_b16"


def test_the_step_size_falls_at_cuts_or_by_a_cosine_after_its_rise():
    steps = {"cuts": (0.5, 0.75), "cosine": False, "warm_up": 0.0}
    assert [step_share(epoch, 8, **steps) for epoch in (0, 3, 4, 5, 6, 7)] == [1, 1, 0.1, 0.1, 0.1**2, 0.1**2]
    cosine = {"cuts": (0.5,), "cosine": True, "warm_up": 0.0}
    assert [step_share(epoch, 8, **cosine) for epoch in (0, 4)] == pytest.approx([1, 0.5])
    assert step_share(8, 8, **cosine) == pytest.approx(0)
    rising = [step_share(epoch, 8, **{**steps, "warm_up": 0.5}) for epoch in range(4)]
    assert rising == [0.25, 0.5, 0.75, 1]


def test_a_pair_brings_its_student():
    kd = attar.KD.paper("resnet56-resnet20")
    assert (kd.student, kd.label_weight, kd.lr) == ("resnet20", 0.1, 0.05)
    assert attar.KD.paper("cifar100").student == attar.KD().student
    light = attar.RKD.paper("vgg13-mobilenetv2")
    assert (light.student, light.lr) == ("mobilenetv2", 0.01)
    assert attar.CRD.paper("vgg13-vgg8").student == "vgg8-bn"
    assert attar.DHKD.paper("cifar100").student == "shufflenetv2"
    review = attar.ReviewKD.paper("wrn40_2-wrn16_2")
    assert (review.student, review.teacher_layers, review.student_layers) == ("wrn16_2", (BEFORE,), ())
    assert attar.ND.paper("resnet56-resnet20", "reviewkd").teacher_layers == (BEFORE,)
    assert attar.ND.paper("resnet56-resnet20").teacher_layers == ()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: attar.DKD.paper("resnet56-resnet2"), "did you mean 'resnet56-resnet20'"),
        (
            lambda: attar.ND.paper("resnet34-resnet18", "dist"),
            "ND has no cell resnet34-resnet18-dist. Cells: resnet34-resnet18-kd",
        ),
        (lambda: attar.KD.paper("cifar10"), "KD has no cell of 'cifar10'; did you mean 'cifar100'"),
        (lambda: attar.KD.paper("resnet56-resnet2"), "did you mean 'resnet56-resnet20'"),
        (lambda: attar.DHKD.paper("resnet56-resnet20"), "DHKD has no cell of 'resnet56-resnet20'"),
    ],
)
def test_cells_that_are_not_there(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_from_the_command_line(capsys, tmp_path):
    words = ["--data", "digits", "--teacher", "convnet:norm=batch,width=8", "--out", str(tmp_path), "--epochs", "1"]
    main(["distill", "dkd", "--paper", "resnet56-resnet20", *words, "--student", "mlp:width=8"])
    assert "beta 2.0" in capsys.readouterr().err
    assert attar.open_artefact(tmp_path).student == "mlp:width=8"
    with pytest.raises(SystemExit):
        main(["distill", "alone", "--paper", "cifar100", *words])
    assert "alone has no published settings" in capsys.readouterr().err


@pytest.mark.parametrize("method, pair", [("reviewkd", "resnet56-resnet20"), ("fitnets", "vgg13-vgg8")])
def test_a_pairs_networks_fit_one_another_stage_by_stage(method, pair, shapes, engine):
    settings = {"reviewkd": attar.ReviewKD, "fitnets": attar.FitNets}[method].paper(pair)
    few = shapes.subset(torch.cat([rows[:2] for rows in shapes.rows_of]))
    draw = torch.Generator().manual_seed(0)
    teacher = parse(teacher_of(pair)).build(few.shape, len(few.classes), draw)
    made = attar.distill(few, dataclasses.replace(settings, epochs=1), teacher=teacher, engine=engine)
    assert made.student == student_of(pair)


def test_the_command_begins_from_the_pairs_networks(capsys):
    main(["distill", "kd", "--paper", "resnet32x4-resnet8x4", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "(default: resnet32x4)" in shown
    assert "(default: resnet8x4)" in shown
