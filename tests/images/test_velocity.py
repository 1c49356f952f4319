import pytest
import torch

import attar
from attar.cli import main
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.images.networks.architecture import Architecture
from attar.images.networks.flat import FlatNetwork
from attar.images.protocols import Protocol
from attar.images.velocity import kernel_distance, kernel_velocity, tangent_kernel

ENGINE = Engine(device="cpu", compile="off", quiet=True)
SMALL = Architecture(width=8)
BRIEF = Protocol(name="brief", epochs=2)


def test_the_kernel_of_a_linear_network_is_that_of_its_inputs():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).double()
    flat, images = FlatNetwork(network), torch.randn(5, 3, 2, 2, dtype=torch.float64)
    inputs = torch.cat([images.flatten(1), torch.ones(5, 1, dtype=torch.float64)], dim=1)
    wanted = torch.kron(inputs @ inputs.T, torch.eye(3, dtype=torch.float64))
    assert torch.allclose(tangent_kernel(flat, flat.vector(), images), wanted)


def test_kernels_of_another_scale_are_at_no_distance_and_orthogonal_ones_at_one():
    kernel = torch.randn(4, 4, dtype=torch.float64)
    assert float(kernel_distance(kernel, 7 * kernel)) == pytest.approx(0, abs=1e-12)
    assert float(kernel_distance(torch.diag(torch.tensor([1.0, 0])), torch.diag(torch.tensor([0, 1.0])))) == 1


def test_velocity_is_none_where_nothing_is_learned_and_falls_as_training_settles(digits):
    small = attar.condense(digits, attar.Random(ipc=2), engine=ENGINE)

    def velocity(lr):
        protocol = Protocol(name="brief", epochs=20, lr=lr, augmented=False)
        return kernel_velocity(small, digits, SMALL, protocol, (0, 18), Runtime(ENGINE), probes=10)

    assert max(map(abs, velocity(0.0))) < 1e-5
    moving = velocity(0.05)
    assert moving[0] > moving[1] > 0


def test_batch_norm_is_refused(digits):
    small = attar.condense(digits, attar.Random(ipc=1), engine=ENGINE)
    with pytest.raises(InputError, match="but batch norm also has statistics"):
        kernel_velocity(small, digits, Architecture(width=8, norm="batch"), BRIEF, (0,), Runtime(ENGINE), probes=3)


def test_the_command_prints_sets_side_by_side(digits, tmp_path, capsys):
    for name, method in {"one": attar.Random(ipc=1), "two": attar.ClassMean()}.items():
        attar.condense(digits, method, out=tmp_path / name, engine=ENGINE)
    words = ["--sets", str(tmp_path / "one"), str(tmp_path / "two"), "--epochs", "0", "2", "--networks", "1"]
    main(["bench", "velocity", *words, "--probes", "4", "--architecture", "convnet:width=8"])
    out = capsys.readouterr().out
    assert "epoch 0" in out and "epoch 2" in out and "two" in out
