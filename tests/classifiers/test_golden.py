"""Recorded losses: what a change of the mathematics, a library or a default would move.

Written by this file itself: `python tests/classifiers/test_golden.py`. To change `golden.json` needs a reason.
"""

import json
from pathlib import Path

import pytest
import torch

from attar.classifiers.attention import attention_loss
from attar.classifiers.cc import kernel_loss, neighbour_loss
from attar.classifiers.crd import Memory, crd_loss
from attar.classifiers.dhkd import binary_kl, binary_kl_norm
from attar.classifiers.discovery import decorrelation
from attar.classifiers.dist import dist_losses
from attar.classifiers.dkd import dkd_loss
from attar.classifiers.fitnets import hint_loss
from attar.classifiers.kd import kd_loss, standardised
from attar.classifiers.nd import nd_loss
from attar.classifiers.nst import nst_loss
from attar.classifiers.pkt import pkt_loss
from attar.classifiers.reviewkd import review_loss
from attar.classifiers.rkd import angle_loss, distance_loss
from attar.classifiers.skd import subclass_loss
from attar.classifiers.sp import similarity_loss
from attar.classifiers.subclasses import Grouping, soft_bits
from attar.classifiers.vid import vid_loss

RECORDED = Path(__file__).with_name("golden.json")


def waves(seed, *shape):
    """Values that no generator has to repeat."""
    count = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (3 * torch.sin(1.7 * seed + 0.9 * count + 0.01 * count**2)).view(shape)


def losses():
    student, teacher, labels = waves(1, 6, 4), waves(2, 6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    maps, others = waves(3, 6, 3, 8, 8), waves(4, 6, 3, 8, 8)
    units = torch.nn.functional.normalize(waves(5, 4, 4), dim=1)
    banks = [torch.nn.functional.normalize(waves(seed, 20, 4), dim=1) for seed in (6, 7)]
    sides = [torch.nn.functional.normalize(side, dim=1) for side in (student, teacher)]
    memory = Memory(*banks, torch.full((2,), -1.0, dtype=torch.float64))
    drawn = (torch.arange(6)[:, None] * 3 + torch.arange(5)) % 14 + 6
    between, within = dist_losses(student, teacher)
    return {
        "kd": kd_loss(student, teacher),
        "kd, standardised": kd_loss(standardised(student), standardised(teacher), 2.0),
        "dkd": dkd_loss(student, teacher, labels, beta=8.0),
        "dist, between": between,
        "dist, within": within,
        "fitnets": hint_loss(maps, others),
        "attention": attention_loss(maps, others),
        "rkd, distances": distance_loss(student, teacher),
        "rkd, angles": angle_loss(student, teacher),
        "sp": similarity_loss(maps, others),
        "pkt": pkt_loss(student, teacher),
        "vid": vid_loss(maps, torch.tensor([0.5, 1.0, 2.0]), others),
        "cc, neighbours": neighbour_loss(student, teacher),
        "cc, kernel": kernel_loss(student, teacher),
        "nst": nst_loss(maps, others),
        "crd": crd_loss(*sides, torch.arange(6), drawn, memory),
        "reviewkd": review_loss([maps], [others]),
        "skd": subclass_loss(student, teacher),
        "skd, bits": torch.tensor(soft_bits(teacher, Grouping((0, 0, 1, 1)))),
        "discover": decorrelation(student),
        "nd": nd_loss(student, teacher, labels, units),
        "dhkd": binary_kl_norm(student, teacher),
        "dhkd, binary": binary_kl(student, teacher),
    }


@pytest.mark.parametrize("name", json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else [])
def test_a_loss_is_as_it_was_recorded(name):
    assert float(losses()[name]) == pytest.approx(json.loads(RECORDED.read_text(encoding="utf-8"))[name], rel=1e-9)


def test_every_loss_is_recorded():
    assert set(json.loads(RECORDED.read_text(encoding="utf-8"))) == set(losses())


if __name__ == "__main__":
    RECORDED.write_text(
        json.dumps({name: float(loss) for name, loss in losses().items()}, indent=2) + "\n", encoding="utf-8"
    )
