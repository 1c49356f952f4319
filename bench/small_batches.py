"""What the global contrastive loss promises: small batches point where the data set does; τ follows the frequency.

    python bench/small_batches.py --quick    # does it run
    python bench/small_batches.py --record   # a minute or two, into bench/results/small_batches.json

Part one: frozen random features. The mean of many small-batch gradients of the negatives' term beside the gradient of
the whole set, by its angle and its length, for several rates γ. γ = 1 is what a batch alone gives, as in SimCLR. Half a
percent is what the mean over so few batches leaves to chance.

Part two: digits with a long tail of classes, their centred pixels as features, and for each sample the temperature at
which the divergence of its negatives' weights is ρ. For small ρ frequent classes have large temperatures; for large ρ
small ones.
"""

import argparse
import math
import time
from typing import Any

import harness
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor

from attar.embeddings.selfsup.global_contrast import GlobalContrast, root_temperature
from attar.images.sources import load

RATES = (1.0, 0.3, 0.1, 0.03)
BOUNDS = (0.4, 1.0, 1.5)
MOST, FEWEST = 170, 4
"""Images of the most and of the least frequent class."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few batches")
    parser.add_argument("--record", action="store_true", help="write bench/results/small_batches.json")
    parser.add_argument("--batches", type=int, default=18_000, help="batches whose gradients are averaged")
    args = parser.parse_args()
    batches = 600 if args.quick else args.batches
    result: dict[str, Any] = {"machine": harness.machine()}
    result["gradients"] = {f"{gamma:g}": compared(gamma, batches) for gamma in RATES}
    angles = [found["cosine"] for found in result["gradients"].values()]
    lengths = [found["length"] for found in result["gradients"].values()]
    result["ordered"] = angles == sorted(angles) and lengths == sorted(lengths)
    print("cosine and length rise as the rate falls:", result["ordered"])
    result["temperatures"] = {f"{rho:g}": by_frequency(rho) for rho in BOUNDS}
    if args.record and not args.quick:
        harness.record("small_batches.json", result)


def compared(gamma: float, batches: int, *, samples: int = 128, width: int = 8, tau: float = 0.1, size: int = 8) -> Any:
    """Cosine and ratio of length of the mean small-batch gradient with that of the set, after a third to warm up."""
    generator = torch.Generator().manual_seed(0)
    views = [F.normalize(torch.randn(samples, width, generator=generator), dim=1) for _ in range(1)] * 2
    settings: dict[str, Any] = {"temperature": tau, "normalise": False, "dtype": torch.float64}
    views = [view.double() for view in views]
    loss, mean, start = GlobalContrast(samples, gamma=gamma, **settings), torch.zeros(samples, width).double(), time.time()
    for step in range(batches + batches // 3):
        rows = torch.randperm(samples, generator=generator)[:size]
        found = gradient(loss, [view[rows] for view in views], rows)
        if step >= batches // 3:
            mean[rows] += found
    full = gradient(GlobalContrast(samples, gamma=1.0, **settings), views, torch.arange(samples))
    cosine = F.cosine_similarity((mean / batches).flatten(), full.flatten(), dim=0).item()
    length = (mean.norm() / batches / full.norm()).item()
    print(f"γ {gamma:<5g} cosine {cosine:.3f}  length {length:.2f}   {time.time() - start:.0f} s", flush=True)
    return {"cosine": round(cosine, 4), "length": round(length, 4), "batches": batches, "seconds": time.time() - start}


def gradient(loss: GlobalContrast, views: list[Tensor], rows: Tensor) -> Tensor:
    """The gradient of the negatives' term: what the positives add is taken away."""
    z = views[0].clone().requires_grad_()
    value = loss(z, z, rows) + 2 * (z * z).sum() / len(rows)
    return torch.autograd.grad(value, z)[0]


def by_frequency(rho: float) -> Any:
    """The mean temperature of each class, and the rank correlation of temperature and class size over samples."""
    source = load("digits")
    counts = [round(MOST * (FEWEST / MOST) ** (place / 9)) for place in range(10)]
    pixels = torch.cat([source.train.pixels[torch.arange(len(source.train))], source.test.pixels[torch.arange(len(source.test))]])
    labels = torch.cat([source.train.labels, source.test.labels])
    rows = torch.cat([(labels == label).nonzero().flatten()[:count] for label, count in enumerate(counts)])
    features = pixels[rows].double().flatten(1)
    features = F.normalize(features - features.mean(dim=0), dim=1)
    similar = (features @ features.T).fill_diagonal_(-math.inf)
    tau, size = root_temperature(similar, rho, 0.005, 10.0), torch.tensor(counts)[labels[rows]]
    means = [round(tau[labels[rows] == label].mean().item(), 4) for label in range(10)]
    rank = float(spearmanr(tau.numpy(), size.numpy()).statistic)
    print(f"ρ {rho:g}: rank correlation of τ and class size {rank:+.2f}; mean τ of {counts}: {means}", flush=True)
    return {"spearman": round(rank, 4), "class_sizes": counts, "mean_temperature": means}


if __name__ == "__main__":
    main()
