import pytest

import attar
from attar.cli import main
from attar.core.errors import InputError


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


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: attar.DKD.paper("resnet56-resnet2"), "did you mean 'resnet56-resnet20'"),
        (lambda: attar.ND.paper("resnet34-resnet18", "dist"), "unknown base in ND's table of resnet34-resnet18 'dist'"),
        (lambda: attar.KD.paper("cifar10"), "unknown pair of KD's table 'cifar10'"),
    ],
)
def test_cells_that_are_not_there(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_from_the_command_line(capsys, tmp_path):
    words = ["--data", "digits", "--teacher", "convnet:norm=batch,width=8", "--out", str(tmp_path), "--epochs", "1"]
    main(["distill", "dkd", "--paper", "resnet56-resnet20", *words])
    assert "beta 2.0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["distill", "alone", "--paper", "cifar100", *words])
    assert "alone has no published settings" in capsys.readouterr().err
