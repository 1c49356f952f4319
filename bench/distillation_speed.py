"""What storing a teacher's answers saves an epoch, and ND's loss against a loop over classes.

    python bench/distillation_speed.py --quick    # does it run
    python bench/distillation_speed.py            # recorded in bench/results/distillation_speed.json

2,000 random images of CIFAR-10's shape; teacher a ConvNet of 64 filters, student of 16, both with batch norm. The epoch
with stored answers is one after the views were answered once.
"""

import argparse
import dataclasses
import statistics
import time

import harness
import torch

import attar
from attar.classifiers.nd import nd_loss
from attar.classifiers.pair import Pair
from attar.core.runtime import Engine, Runtime
from attar.images.networks.architecture import Architecture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    args = parser.parse_args()
    rounds = 1 if args.quick else 5
    anew, stored = (epochs(views, 200 if args.quick else 2000, rounds) for views in (0, 1))
    print(f"epoch, teacher anew {anew:.2f} s, its answers stored {stored:.2f} s: {anew / stored:.2f}x (target 1.5)")
    loop, ours = direction(rounds * 20)
    print(f"ND at 100 classes: loop {1e3 * loop:.2f} ms, ours {1e3 * ours:.2f} ms: {loop / ours:.1f}x (target 5)")
    if not args.quick:
        facts = {"epoch": {"anew": anew, "stored": stored}, "nd": {"loop": loop, "ours": ours}}
        harness.record("distillation_speed.json", {"machine": harness.machine(), **facts}, by_machine=True)


def epochs(views: int, images: int, rounds: int) -> float:
    """Median seconds of an epoch after the first."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 3, 32, 32), dtype=torch.uint8, generator=draw)
    labels = torch.arange(images) % 10
    source = attar.load(((pixels, labels), (pixels[:100], labels[:100])))
    teacher = Architecture(norm="batch", width=64).build(source.shape, 10, draw).eval()
    runtime = Runtime(Engine(quiet=True))
    pair = Pair(source, teacher)
    method = attar.KD(student="convnet:norm=batch,width=16", views=views, epochs=rounds + 1)
    method = dataclasses.replace(method).resolve(pair, runtime)
    runtime.plan(method.work(pair))
    state, taken = method.build(pair, runtime), []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(method.batches):
            method.step(state, runtime)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def direction(rounds: int) -> tuple[float, float]:
    """Median seconds of the loss and its gradient: class by class, and all together."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(128, 256, generator=draw) for _ in range(2))
    directions = torch.nn.functional.normalize(torch.randn(100, 256, generator=draw), dim=1)
    labels = torch.randint(100, (128,), generator=draw)
    student.requires_grad_()

    def by_class() -> torch.Tensor:
        total = student.new_zeros(())
        for label in range(100):
            rows = labels == label
            if rows.any():
                g, f = student[rows], teacher[rows]
                longest = torch.maximum(g.norm(dim=1), f.norm(dim=1))
                total = total + (1 - g @ directions[label] / longest).sum()
        return total / len(labels)

    def together() -> torch.Tensor:
        return nd_loss(student, teacher, labels, directions)

    assert torch.isclose(by_class(), together(), atol=1e-6)
    found = [harness.timed(lambda loss=loss: loss().backward(), 5, rounds)["seconds"] for loss in (by_class, together)]
    return found[0], found[1]


if __name__ == "__main__":
    main()
