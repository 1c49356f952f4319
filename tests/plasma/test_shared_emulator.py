"""An emulator that two processes train together."""

import torch

from shared_runs import two_and_one

PROGRAM = """
import attar
from attar.core.machine import Engine
from attar.plasma.answers import AnsweredColumns
from attar.plasma.emulator import LineEmulator
from attar.plasma.threads import RandomThreads, Threads

QUIET = Engine(device="cpu", quiet=True)
COLUMNS = attar.simulate(AnsweredColumns(count=40, threads=Threads(most_threads=1)), RandomThreads(), engine=QUIET)

def made(where):
    found = attar.distill(COLUMNS, LineEmulator(steps=6, batch=9, student="cnn:width=8", watch=3), engine=QUIET)
    return {"weights": [number for one in found.network.parameters() for number in one.flatten().tolist()]}
"""


def test_two_processes_share_the_columns_of_a_batch():
    two, one = (torch.tensor(result["weights"]) for result in two_and_one(PROGRAM))
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
