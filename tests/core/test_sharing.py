"""Several processes that share every batch learn what one process learns, up to the order of summation."""

import os
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import attar
import shared_trainings
from attar.core.dealing import deal, groups_for, in_order
from attar.core.errors import InputError
from attar.core.processes import ALONE, Processes
from attar.core.runtime import Engine, Runtime
from attar.core.sharing import Share, check_shareable, current, treats_rows_alone
from attar.images.networks.architecture import Architecture
from attar.images.protocols import PROTOCOLS, Protocol
from attar.images.trained import Auxiliary
from attar.images.training import TrainNetwork
from shared_trainings import BESIDE, NAMES, found
from two_processes import printed_by, several

CPU = torch.device("cpu")
SHARED = {2: NAMES, 3: ["network: batch", "network: dropout", "network: drawn", "classifier: kd", "classifier: crd"]}
"""What is trained by so many processes. In the last batch of most there are two samples."""
ENGINE = Engine(device="cpu", compile="off", quiet=True)


def of(index, count):
    """Process `index` of `count`, without the others."""
    one = Processes()
    one.rank, one.count = index, count
    return one


@pytest.mark.parametrize("rows, count", [(0, 3), (1, 3), (3, 8), (7, 2), (32, 5)])
def test_every_row_is_counted_once_and_no_process_is_without_work(rows, count):
    shares = [Share(rows, of(index, count)) for index in range(count)]
    whole = torch.arange(rows)
    own = [share.of(whole)[: share.own] for share in shares]
    assert torch.cat(own).tolist() == whole.tolist()
    assert all(share.counts == [len(one) for one in own] for share in shares)
    assert max(share.own for share in shares) - min(share.own for share in shares) <= 1
    if rows:
        assert all(len(share.of(whole)) == max(share.own, 1) for share in shares)


def test_one_process_does_what_it_always_did():
    share, rows = Share(5), torch.rand(5, 2)
    assert share.alone
    assert share.of(rows) is rows
    assert share.joined(rows)[0] is rows
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout())
    with share.within():
        assert current() is None
        network(rows).sum().backward()
    before = [parameter.grad.clone() for parameter in network.parameters()]
    share.add_gradients(network.parameters())
    assert all(torch.equal(one, parameter.grad) for one, parameter in zip(before, network.parameters(), strict=True))


class Echo(Processes):
    """Two processes of which the other one has the same tensors."""

    count = 2

    def sum_(self, tensor):
        return tensor.mul_(2)

    def join(self, rows, counts):
        return torch.cat([rows, rows])


def test_what_a_network_draws_otherwise_is_refused():
    share, rows = Share(4, Echo()), torch.rand(2, 3)
    for draw, words in (
        (lambda: torch.rand(2), "draws random numbers by rand,"),
        (lambda: torch.empty(2).bernoulli_(0.5), "draws random numbers by bernoulli_,"),
        (lambda: nn.AlphaDropout()(rows), "draws random numbers by alpha_dropout,"),
        (lambda: nn.functional.gumbel_softmax(rows), "draws random numbers by gumbel_softmax,"),
        (lambda: nn.functional.dropout(rows[:, 0].expand(3, 2)[:, :1]), "whose first axis is not that of the samples"),
        (lambda: nn.functional.scaled_dot_product_attention(*[rows[None]] * 3, None, 0.1), "drops attention,"),
    ):
        with share.within(), pytest.raises(InputError, match=words):
            draw()
    with share.within():
        assert torch.rand(1, generator=torch.Generator()).shape == (1,)
        assert nn.functional.scaled_dot_product_attention(*[rows[None]] * 3).shape == (1, 2, 3)


def test_activations_that_are_computed_again_are_refused():
    network = nn.Sequential(nn.Linear(2, 2))
    network[0].gradient_checkpointing = True
    check_shareable(network, ALONE)
    with pytest.raises(InputError, match="checkpointing is on in Sequential, which 2 processes cannot share"):
        check_shareable(network, Echo())


@pytest.mark.parametrize(
    "layer, words",
    [
        (nn.MultiheadAttention(4, 2, dropout=0.1), "MultiheadAttention has a dropout of its own, which 2 processes"),
        (nn.LSTM(4, 4, num_layers=2, dropout=0.1), "LSTM has a dropout of its own, which 2 processes"),
        (nn.InstanceNorm2d(4, track_running_stats=True), "track_running_stats is on in InstanceNorm2d, which 2"),
    ],
)
def test_layers_that_nothing_can_stand_in_for_are_refused(layer, words):
    network = nn.Sequential(nn.Linear(2, 2), layer)
    check_shareable(network, ALONE)
    with pytest.raises(InputError, match=words):
        check_shareable(network, Echo())
    check_shareable(network.eval(), Echo())


def test_a_network_of_ones_own_takes_all_rows_of_a_process_at_once(digits):
    """Masks are drawn for them all."""
    runtime, seen = Runtime(ENGINE, 0), []
    runtime.processes = Echo()
    method = TrainNetwork(protocol=PROTOCOLS["quick"]).resolve(digits, runtime)
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 10))
    network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    state = method.build_with(network, digits, runtime)
    state.at_once = 3
    method.step(state, runtime)
    assert seen == [method.protocol.batch // 2]


def test_batch_norm_of_both_halves_is_that_of_the_whole():
    """Here the other process has the same rows."""
    rows = torch.randn(6, 3, 4, dtype=torch.float64, requires_grad=True)
    one, other = (nn.BatchNorm1d(3, momentum=None, dtype=torch.float64) for _ in range(2))
    weight = torch.randn(6, 3, 4, dtype=torch.float64)
    twice = torch.cat([rows, rows])
    (one(twice) * torch.cat([weight, weight])).sum().backward()
    wanted, rows.grad = rows.grad / 2, None
    share = Share(12, Echo())
    with share.within():
        (other(rows) * weight).sum().backward()
    torch.testing.assert_close(rows.grad, wanted)
    torch.testing.assert_close(dict(other.named_buffers()), dict(one.named_buffers()))
    share.add_gradients(other.parameters())
    for mine, whole in zip(other.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, whole.grad)
    few = torch.rand(0, 3)
    with share.within(), pytest.raises(InputError, match="at least two values for each channel"):
        nn.BatchNorm1d(3)(few)


def test_layers_tell_whether_they_compare_rows():
    assert treats_rows_alone(Architecture(width=4).resolve((1, 8, 8)).build((1, 8, 8), 10, torch.Generator()))
    assert not treats_rows_alone(nn.Sequential(nn.BatchNorm2d(2)))
    assert not treats_rows_alone(nn.Sequential(nn.Dropout2d()))
    assert not treats_rows_alone(nn.MultiheadAttention(4, 2, dropout=0.1))
    assert treats_rows_alone(nn.Sequential(nn.Linear(2, 2), nn.MultiheadAttention(4, 2)))

    class Own(nn.Linear):
        """It may draw as it likes."""

    assert not treats_rows_alone(nn.Sequential(Own(2, 2)))


@pytest.mark.parametrize("norm, exchanges", [("instance", 1), ("batch", 1 + 2 * 2)])
def test_a_step_exchanges_gradients_once_and_twice_for_each_batch_norm(norm, exchanges, digits, monkeypatch):
    calls = []
    monkeypatch.setattr(Echo, "sum_", lambda self, tensor: calls.append(tensor.numel()) or tensor.mul_(2))
    runtime = Runtime(ENGINE, 0)
    runtime.processes = Echo()
    architecture = Architecture(width=4, depth=2, norm=norm)
    method = TrainNetwork(architecture=architecture, protocol=PROTOCOLS["quick"]).resolve(digits, runtime)
    state = method.build(digits, runtime)
    method.step(state, runtime)
    assert len(calls) == exchanges
    parameters = list(state.network.parameters())
    assert calls[-1] == sum(one.numel() for one in parameters) + 1 + len(parameters)


BRANCHES = """
import json, os, sys
import torch
from torch import nn
from attar.core import processes
from attar.core.sharing import Share, add_each_gradient

class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.odd, self.unused = (nn.Linear(2, 2, dtype=torch.float64) for _ in range(3))

    def forward(self, rows):
        large = (rows[:, 0] > 5).nonzero().flatten()
        return self.used(rows).index_add(0, large, self.odd(rows[large])) if len(large) else self.used(rows)

def trained(kind, several):
    torch.manual_seed(0)
    network, rows = Branches(), torch.arange(8, dtype=torch.float64).view(4, 2)
    optimizer = {
        "adamw": lambda given: torch.optim.AdamW(given, 0.1, weight_decay=0.5),
        "sgd": lambda given: torch.optim.SGD(given, 0.1, momentum=0.9, weight_decay=0.5),
    }[kind.split()[0]](network.parameters())
    for step in range(4):  # the branch of the last row is used in two of them
        share = Share(4, several)
        batch = rows - 10 * (step % 2)
        optimizer.zero_grad()
        network(share.of(batch)).square().sum().backward()
        if "each" in kind:
            add_each_gradient(network.parameters(), several)
        else:
            share.add_gradients(network.parameters())
        optimizer.step()
    return {name: one.tolist() for name, one in network.state_dict().items()}, network.unused.weight.grad is None

KINDS = ["adamw", "sgd", "adamw each"]
if not os.fork():
    os.environ |= {"RANK": "1", "WORLD_SIZE": "2"}
    [trained(kind, processes.current(cpu=True)) for kind in KINDS]
    os._exit(0)
os.environ |= {"RANK": "0", "WORLD_SIZE": "2"}
several = processes.current(cpu=True)
print(json.dumps({kind: [trained(kind, several), trained(kind, processes.ALONE)] for kind in KINDS}))
"""


def test_parameters_without_a_gradient_are_left_alone_by_several_processes_as_by_one():
    """One branch is never used, and one only by the rows of the second process."""
    for kind, ((two, kept), (one, _)) in printed_by(BRANCHES).items():
        assert kept, kind
        for name, values in one.items():
            torch.testing.assert_close(torch.tensor(two[name]), torch.tensor(values), rtol=1e-6, atol=1e-9)


# Trainings dealt out.


@pytest.mark.parametrize("count, items", [(1, 3), (2, 5), (8, 20), (8, 5), (3, 2), (8, 16)])
@pytest.mark.parametrize("work", [0.0, 1e12])
def test_every_training_is_done_once(count, items, work):
    done, parts = {}, {}

    def part(rank, groups):
        number = rank * groups // count
        return number, parts.setdefault((groups, number), Processes())

    for rank in range(count):
        one = of(rank, count)
        one.divided = partial(part, rank)
        for numbers, together in deal(items, one, work, CPU):
            for number in numbers:
                done.setdefault(number, []).append(together)
    assert sorted(done) == list(range(items))
    assert all(len(set(several)) == 1 for several in done.values())
    assert all(several == [ALONE] for several in map(done.get, range(items - items % count)))


@pytest.mark.parametrize("items, count, work, groups", [(4, 8, 1e12, 4), (5, 8, 1e12, 1), (5, 8, 1e6, 5), (1, 8, 0, 1)])
def test_groups_take_the_shortest_time(items, count, work, groups):
    """Four networks: two processes each. Five large ones: all processes, one after another. Five small ones: alone."""
    assert groups_for(items, count, work, CPU) == groups


def test_results_come_in_the_order_of_the_items(monkeypatch):
    one = of(0, 2)
    monkeypatch.setattr(one, "collect", lambda mine: [*mine, {1: "b", 2: "other"}])
    assert in_order({0: "a", 2: "c"}, one) == ["a", "b", "c"]


# The same trainings by one process and by several.


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A set with stored labels and its teacher."""
    brief = Protocol(name="brief", epochs=2, batch=64, lr=0.1, augmented=False)
    observer = Auxiliary(architecture=Architecture(width=4, norm="batch"), protocol=brief)
    method = attar.RDED(ipc=4, candidates=8, labels="teacher", observer=observer)
    small = attar.condense("digits", method, engine=ENGINE).save(tmp_path_factory.mktemp("made") / "set")
    return attar.label(small, attar.StoreLabels(epochs=1, format="float32"), engine=ENGINE).folder


@pytest.fixture(scope="module")
def shared(labelled, tmp_path_factory):
    """The folder with what so many processes have learned; they learn once."""

    @cache
    def by(count):
        folder = tmp_path_factory.mktemp("shared")
        (folder / "set").symlink_to(labelled)
        place = {**several(count), "OMP_NUM_THREADS": "1", "ATTAR_CACHE": str(folder / "cache")}
        place["PYTHONPATH"] = os.pathsep.join([str(Path(shared_trainings.__file__).parent), *filter(None, sys.path)])
        command = [sys.executable, shared_trainings.__file__, str(folder), *SHARED[count]]
        done = subprocess.run(command, env=place, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return folder

    return by


@pytest.mark.parametrize("count, name", [(count, name) for count in SHARED for name in SHARED[count]])
def test_several_processes_learn_what_one_learns(count, name, shared):
    folder = shared(count)
    one = found(name, folder)
    files = [load_file(folder / f"{NAMES.index(name)}-{rank}") for rank in range(count)]
    assert all(set(file) == set(one) for file in files)
    if name == BESIDE:  # one folder of the cache, which all of them have filled
        assert len(list((folder / "cache" / "networks").iterdir())) == 1
    for key, wanted in one.items():
        assert all(torch.equal(file[key], files[0][key]) for file in files), key
        torch.testing.assert_close(
            files[0][key], wanted, rtol=1e-4, atol=5e-5, msg=lambda told, key=key: f"{key}: {told}"
        )


@pytest.mark.parametrize("count", SHARED)
def test_one_process_goes_on_where_several_were_killed(count, shared):
    folder = shared(count)
    curve = folder / "killed" / "run" / "metrics.jsonl"
    assert len(curve.read_text(encoding="utf-8").splitlines()) == 2
    made = shared_trainings.begun(folder)
    whole = found("classifier: crd", folder)
    for name, tensor in made.network.state_dict().items():
        torch.testing.assert_close(tensor, whole[f"state/student/state_dict/{name}"], rtol=1e-4, atol=5e-5)
