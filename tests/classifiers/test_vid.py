import json
import math

import pytest
import torch
from torch import nn

import attar
from attar.classifiers.pair import Batch, Distilling
from attar.classifiers.vid import EPSILON, VID, Gaussian, vid_loss
from attar.classifiers.watched import Answers
from attar.core.errors import InputError
from attar.core.runtime import Engine
from attar.images.networks.architecture import Architecture


def maps(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_gaussians_negative_logarithm_up_to_a_constant():
    mean, teacher, variance = maps(0, 4, 3, 5, 5), maps(1, 4, 3, 5, 5), torch.tensor([0.3, 1.0, 7.0]).double()
    spread = variance.sqrt()[:, None, None].expand_as(mean)
    plain = -torch.distributions.Normal(mean, spread).log_prob(teacher).mean()
    assert torch.isclose(vid_loss(mean, variance, teacher), plain - 0.5 * math.log(2 * math.pi))


def test_at_one_variance_it_is_squared_error():
    mean, teacher = maps(0, 4, 3, 5, 5), maps(1, 4, 3, 5, 5)
    found = vid_loss(mean, torch.full((3,), 2.0, dtype=torch.float64), teacher)
    assert torch.isclose(found, (mean - teacher).square().mean() / 4 + 0.5 * math.log(2))


def test_the_best_variance_is_a_channels_mean_squared_error():
    mean, teacher = maps(0, 4, 3, 5, 5), maps(1, 4, 3, 5, 5)
    best = (mean - teacher).square().mean(dim=(0, 2, 3)).requires_grad_()
    loss = vid_loss(mean, best, teacher)
    (slope,) = torch.autograd.grad(loss, best)
    assert slope.abs().max() < 1e-12
    for factor in (0.9, 1.1):
        assert vid_loss(mean, factor * best, teacher) > loss


def test_a_mean_that_is_right_is_pulled_nowhere():
    mean = maps(0, 4, 3, 5, 5).requires_grad_()
    vid_loss(mean, torch.ones(3, dtype=torch.float64), mean.detach()).backward()
    assert mean.grad.abs().max() == 0


def test_maps_that_are_zero_have_a_gradient():
    gaussian = Gaussian(4, 6)
    student = torch.zeros(2, 4, 3, 3, requires_grad=True)
    vid_loss(gaussian(student), gaussian.variance, torch.zeros(2, 6, 3, 3)).backward()
    assert student.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in gaussian.parameters())


def test_variances_begin_at_five_and_stay_positive():
    gaussian = Gaussian(4, 6)
    assert torch.allclose(gaussian.variance, torch.full((6,), 5.0))
    nn.init.constant_(gaussian.scale, -1000.0)
    assert torch.allclose(gaussian.variance, torch.full((6,), EPSILON))
    assert gaussian(torch.zeros(2, 4, 3, 3)).shape == (2, 6, 3, 3)


def test_stages_are_summed_and_the_larger_map_is_pooled():
    def said(seed, channels, side):
        stages = [
            maps(seed, 2, channels, side, side).float(),
            maps(seed + 1, 2, 2 * channels, side // 2, side // 2).float(),
        ]
        return Answers(torch.zeros(2, 10), torch.zeros(2, 4), stages)

    student, teacher = said(0, 3, 8), said(2, 5, 4)
    parts = nn.ModuleDict(VID().connectors(student, teacher))
    batch = Batch(student, teacher, torch.zeros(2).long(), torch.arange(2), warm=1.0)
    state = Distilling(nn.Identity(), parts, torch.optim.SGD(parts.parameters(), 0.1))
    total = torch.zeros(())
    for gaussian, large, wanted in zip(parts["gaussians"], student.stages, teacher.stages, strict=True):
        total = total + vid_loss(gaussian(nn.functional.avg_pool2d(large, 2)), gaussian.variance, wanted)
    assert torch.isclose(VID(weight=3.0).terms(batch, state)["information"], 3 * total)


def test_it_guesses_better_and_better_and_keeps_no_guesses(few_digits, tmp_path):
    method = VID(student="convnet:norm=batch,width=4", epochs=20, lr=0.5)
    teacher = Architecture(norm="batch", width=8).build((1, 8, 8), 10, torch.Generator().manual_seed(3)).eval()
    made = attar.distill(few_digits, method, teacher=teacher, out=tmp_path, engine=Engine(device="cpu", quiet=True))
    curve = [
        json.loads(line)["information"]
        for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert curve[-1] < curve[0] - 0.1
    assert not any("gaussian" in name for name in made.network.state_dict())


def test_what_it_cannot_compare_is_refused(few_digits):
    assert VID.paper("cifar100").weight == VID.paper("resnet50-vgg8").weight == 1
    with pytest.raises(InputError, match="VID has no cell of 'cifar10'"):
        VID.paper("cifar10")
    student = {"student": "convnet:norm=batch,width=4", "epochs": 1}
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(InputError, match="the student gives 2 stages and the teacher 0"):
        attar.distill(few_digits, VID(**student), teacher=plain, engine=Engine(device="cpu", quiet=True))
