"""What a checkpoint takes: seconds and memory, beside one that is put together in memory before it is written.

    python bench/checkpoint_cost.py --quick    # does it run
    python bench/checkpoint_cost.py            # a network of 200 MB with Adam, 600 MB in all; half a minute

Each is written three times, in a process of its own, to a temporary folder. The rival makes a digest over copies of
the tensors' bytes, has `safetensors.torch.save` put the file together, and writes it. Memory is the process's peak
beyond what the state itself holds. The numbers go to bench/results/checkpoint_cost.json.
"""

import argparse
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import torch
from safetensors.torch import save
from torch import Tensor, nn

from attar.core import store
from attar.core.state import pack

LAYERS, WIDTH = 12, 2048


@dataclass
class State:
    network: nn.Module
    optimizer: torch.optim.Optimizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    args = parser.parse_args()
    layers, width = (2, 64) if args.quick else (LAYERS, WIDTH)
    with tempfile.TemporaryDirectory() as name:
        found = {
            worker: harness.in_own_process(__file__, worker, Path(name), layers=layers, width=width)
            for worker in ("streamed", "whole")
        }
    for worker, report in found.items():
        print(f"{worker:<9}{report['seconds']:.2f} s, {report['extra_mb']:.0f} MB beyond {report['state_mb']:.0f} MB")
    if not args.quick:
        harness.record("checkpoint_cost.json", {"machine": harness.machine(), **found})


def built(layers: int, width: int) -> State:
    """A network with Adam's two averages."""
    torch.manual_seed(0)
    network = nn.Sequential(*[nn.Linear(width, width) for _ in range(layers)])
    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return State(network, optimizer)


def measured(write: Callable[[Path, dict[str, Tensor], Any], Any], folder: str, layers: int, width: int) -> Any:
    """Seconds and memory of writing a state three times."""
    write(Path(folder) / "first", {"x": torch.zeros(9)}, {})
    tensors, plain = pack(built(layers, width))
    held, seconds = harness.peak_mb(), []
    for _ in range(3):
        began = time.perf_counter()
        write(Path(folder) / "state", tensors, plain)
        seconds.append(time.perf_counter() - began)
    size = sum(tensor.nbytes for tensor in tensors.values()) / 2**20
    return {"seconds": statistics.median(seconds), "extra_mb": harness.peak_mb() - held, "state_mb": size}


def streamed(folder: str, layers: int, width: int) -> Any:
    return measured(store.write_tensors, folder, layers, width)


def whole(folder: str, layers: int, width: int) -> Any:
    return measured(_write_whole, folder, layers, width)


def _write_whole(path: Path, tensors: dict[str, Tensor], plain: Any) -> None:
    here = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    store.check_finite(here, "not written")
    digest = hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=16)
    for name in sorted(here):
        digest.update(here[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    header = {"attar": json.dumps({"digest": digest.hexdigest(), "plain": plain}, sort_keys=True)}
    draft = path.with_suffix(".tmp")
    with draft.open("wb") as file:
        file.write(save(here, header))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


if __name__ == "__main__" and not harness.run_worker({"streamed": streamed, "whole": whole}):
    main()
