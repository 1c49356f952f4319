"""What is decoded ahead is what would be decoded now; faults are told when the rows are asked for."""

import dataclasses

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.images.data.ahead import Ahead
from attar.images.data.pixels import Encoded, InMemory
from attar.images.training import TrainNetwork
from images.helpers import NARROW, PLAIN, assert_same
from picture_files import pictures, write_parquet
from pretend_cuda import pretended_cuda


@dataclasses.dataclass(frozen=True)
class Numbered(InMemory):
    """Pictures of their number, which remember what they were asked for; the ninth cannot be read."""

    asked: list = dataclasses.field(default_factory=list)

    def __getitem__(self, rows):
        self.asked.append(rows.tolist())
        if 9 in rows:
            raise InputError("a picture cannot be read.")
        return super().__getitem__(rows)


def numbered():
    return Numbered(torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1))


def test_what_was_expected_is_decoded_once_and_what_was_not_is_decoded_then():
    pixels, rows, others = numbered(), torch.tensor([3, 1]), torch.tensor([2])
    ahead = Ahead(pixels)
    assert ahead.take(others).flatten().tolist() == [2]
    ahead.expect(rows)
    ahead.expect(others)  # one batch at a time
    assert ahead.take(rows).flatten().tolist() == [3, 1]
    ahead.expect(rows)
    assert ahead.take(others).flatten().tolist() == [2]
    assert ahead.take(rows).flatten().tolist() == [3, 1]
    assert pixels.asked == [[2], [3, 1], [3, 1], [2], [3, 1]]


def test_a_fault_is_told_when_the_rows_are_asked_for():
    ahead = Ahead(numbered())
    ahead.expect(torch.tensor([4, 9]))
    with pytest.raises(InputError, match="cannot be read"):
        ahead.take(torch.tensor([4, 9]))
    ahead.expect(torch.tensor([9]))
    assert ahead.take(torch.tensor([5])).item() == 5


def test_a_training_on_a_gpu_decodes_ahead_within_a_pass(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    file = write_parquet(tmp_path / "pets.parquet", pictures(40), [0, 1] * 20)
    held, drawn = (attar.load(file, memory=memory) for memory in (4.0, 0))
    taken = []
    take = Ahead.take
    monkeypatch.setattr(Ahead, "take", lambda self, rows: taken.append(self._found is not None) or take(self, rows))
    method = TrainNetwork(architecture=NARROW, protocol=dataclasses.replace(PLAIN, epochs=2, batch=10)).resolve(drawn)
    networks = []
    for source in (held, drawn):
        with pretended_cuda():
            runtime = Runtime(Engine(device="cuda", compile="off", quiet=True), 3)
            state = method.build(source, runtime)
            for _ in range(method.total_steps):
                method.step(state, runtime)
            networks.append(state.network.cpu())
    assert isinstance(drawn.train.pixels, Encoded)
    assert method.batches == 4
    assert taken == [False, True, True, True] * 2
    assert_same(*networks, rtol=0, atol=0)
