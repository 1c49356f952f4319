"""What the global contrastive losses promise: small batches point where the data set does; τ follows the frequency.

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
import statistics
import time
from typing import Any

import harness
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from torch import Tensor

from attar.embeddings.selfsup.global_contrast import GlobalContrast
from attar.embeddings.selfsup.normaliser import root_temperature

RATES = (1.0, 0.3, 0.1, 0.03)
BOUNDS = (0.4, 1.0, 1.5)
ORDERS = 20
"""Random orders of the classes."""
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
    result["temperatures"] = {f"{rho:g}": by_frequency(rho, 2 if args.quick else ORDERS) for rho in BOUNDS}
    if args.record and not args.quick:
        harness.record("small_batches.json", result)


def compared(gamma: float, batches: int, *, samples: int = 128, width: int = 8, tau: float = 0.1, size: int = 8) -> Any:
    """Cosine and ratio of length of the mean small-batch gradient with that of the set, after a third to warm up."""
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(samples, width, generator=generator), dim=1).double()
    settings: dict[str, Any] = {"temperature": tau, "normalise": False, "dtype": torch.float64}
    loss = GlobalContrast(samples, gamma=gamma, **settings)
    mean, start = torch.zeros_like(features), time.perf_counter()
    for step in range(batches + batches // 3):
        rows = torch.randperm(samples, generator=generator)[:size]
        found = gradient(loss, features[rows], rows)
        if step >= batches // 3:
            mean[rows] += found
    full = gradient(GlobalContrast(samples, gamma=1.0, **settings), features, torch.arange(samples))
    cosine = F.cosine_similarity((mean / batches).flatten(), full.flatten(), dim=0).item()
    length = (mean.norm() / batches / full.norm()).item()
    seconds = round(time.perf_counter() - start, 1)
    print(f"γ {gamma:<5g} cosine {cosine:.3f}  length {length:.2f}   {seconds:.0f} s", flush=True)
    return {"cosine": round(cosine, 4), "length": round(length, 4), "batches": batches, "seconds": seconds}


def gradient(loss: GlobalContrast, features: Tensor, rows: Tensor) -> Tensor:
    """The gradient of the negatives' term: what the positives add is taken away."""
    z = features.clone().requires_grad_()
    value = loss(z, z, rows) + 2 * (z * z).sum() / len(rows)
    return torch.autograd.grad(value, z)[0]


def by_frequency(rho: float, orders: int) -> Any:
    """Mean temperatures of classes by their size, and the rank correlation of the two over samples."""
    generator, everything = torch.Generator().manual_seed(0), load_digits()
    images, labels = torch.tensor(everything.data), torch.tensor(everything.target)
    sizes = torch.tensor([round(MOST * (FEWEST / MOST) ** (place / 9)) for place in range(10)])
    ranks, means = [], []
    for number in range(1 + orders):
        order = torch.randperm(10, generator=generator) if number else torch.arange(10)
        rows = torch.cat([drawn(labels, label, size, generator) for label, size in zip(order, sizes, strict=True)])
        tau = temperatures(images[rows], rho)
        place = torch.arange(10).repeat_interleave(sizes)
        ranks.append(float(spearmanr(tau.numpy(), sizes[place].numpy()).statistic))
        means.append(torch.stack([tau[place == one].mean() for one in range(10)]))
    mean = [round(one, 3) for one in torch.stack(means[1:]).mean(dim=0).tolist()]
    middle, spread = statistics.mean(ranks[1:]), statistics.stdev(ranks[1:])
    print(f"ρ {rho:<4g} rank correlation of τ and class size {ranks[0]:+.2f} in the order 0 to 9, {middle:+.2f} over "
          f"{orders} orders (standard deviation {spread:.2f}); mean τ by size {mean}", flush=True)  # fmt: skip
    return {
        "class_sizes": sizes.tolist(),
        "in_order": {"spearman": round(ranks[0], 3), "mean_temperature": [round(t, 3) for t in means[0].tolist()]},
        "random_orders": {
            "orders": orders,
            "spearman": round(middle, 3),
            "deviation": round(spread, 3),
            "mean_temperature": mean,
        },
    }


def drawn(labels: Tensor, label: Tensor, size: Tensor, generator: torch.Generator) -> Tensor:
    """So many rows of a class."""
    rows = (labels == label).nonzero().flatten()
    return rows[torch.randperm(len(rows), generator=generator)[: int(size)]]


def temperatures(images: Tensor, rho: float) -> Tensor:
    """The temperature of each image at which the divergence of the others' weights is ρ."""
    features = F.normalize(images - images.mean(dim=0), dim=1)
    return root_temperature((features @ features.T).fill_diagonal_(-math.inf), rho, 0.005, 10.0)


if __name__ == "__main__":
    main()
