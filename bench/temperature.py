"""Time of fitting one temperature: attar's Newton iteration beside L-BFGS, as it is often done, and scikit-learn.

    python bench/temperature.py                     # recorded in bench/results/temperature.json
    python bench/temperature.py [rows] [classes]    # other sizes, of which nothing is recorded

All three fit the same logits in float64, drawn at a temperature of 2.5, in one process on one thread.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

import harness
import torch
import torch.nn.functional as F
from sklearn.calibration import _TemperatureScaling
from torch import Tensor

from attar.classifiers.calibration.ts import temperature_of

ROUNDS = 3
ITERATIONS = 200
"""L-BFGS at a step size of .01, as in the released code of temperature scaling."""


def drawn(rows: int, classes: int, factor: float = 2.5) -> tuple[Tensor, Tensor]:
    """Over-confident logits and labels."""
    draw = torch.Generator().manual_seed(0)
    true = 2 * torch.randn(rows, classes, generator=draw, dtype=torch.float64)
    return factor * true, torch.multinomial(true.softmax(dim=1), 1, generator=draw).squeeze(1)


def by_lbfgs(logits: Tensor, labels: Tensor) -> float:
    """The temperature after 200 iterations of L-BFGS from 1.5 on."""
    temperature = torch.full((), 1.5, dtype=logits.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([temperature], lr=0.01, max_iter=ITERATIONS)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits / temperature, labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(temperature.detach())


def by_scikit_learn(logits: Tensor, labels: Tensor) -> float:
    """The temperature of scikit-learn's bounded search."""
    return 1 / float(_TemperatureScaling().fit(logits.numpy(), labels.numpy()).beta_)


def timed(fit: Callable[[Tensor, Tensor], float], logits: Tensor, labels: Tensor) -> dict[str, float]:
    """The median of its seconds, and its temperature."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        found = fit(logits, labels)
        seconds.append(time.perf_counter() - start)
    return {"seconds": round(statistics.median(seconds), 4), "temperature": found}


def main() -> None:
    """Print one line of JSON, and record it if no sizes were given."""
    rows, classes = (int(text) for text in (sys.argv[1:] + ["50000", "100"][len(sys.argv) - 1 :])[:2])
    logits, labels = drawn(rows, classes)
    fits = {"attar": temperature_of, "L-BFGS, 200 iterations": by_lbfgs, "scikit-learn": by_scikit_learn}
    found = {"rows": rows, "classes": classes, **{name: timed(fit, logits, labels) for name, fit in fits.items()}}
    print(json.dumps(found))
    if not sys.argv[1:]:
        harness.record("temperature.json", {"machine": harness.machine(), **found}, by_machine=True)


if __name__ == "__main__":
    main()
