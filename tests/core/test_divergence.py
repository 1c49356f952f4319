import json
import pickle
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Annotated

import pytest
import torch

from attar.core import store
from attar.core.divergence import LARGEST, Unlogged, check_learned, check_metrics, diverged, step_sizes, told_by
from attar.core.engine import run
from attar.core.errors import Diverged, InputError
from attar.core.fleet import Task, run_all
from attar.core.registry import METHODS
from attar.core.runtime import Engine, Runtime
from attar.core.settings import Range, Role, Settings

EVERY_STEP = Engine(device="cpu", checkpoint_seconds=0, quiet=True)
SOURCE = SimpleNamespace(fingerprint="")


@dataclass(frozen=True, kw_only=True)
class Training(Settings):
    """A network beside a method."""

    lr: Annotated[float, Range(0)] = 0.1
    """Step size."""


@dataclass
class State:
    values: torch.Tensor


@dataclass
class Made:
    values: torch.Tensor
    largest = LARGEST

    @property
    def learned(self):
        return {"values": self.values, "classes": torch.tensor([1])}

    def save(self, folder):
        store.make_folder(folder)
        store.write_tensors(folder / "made.safetensors", {"values": self.values}, None)

    def picture(self):
        return None


@dataclass(frozen=True, kw_only=True)
class Growing(Settings):
    """Multiplies what it has by a number at each step, and tells of a loss that is infinite at one of them."""

    lr: Annotated[float, Range(0)] = 1.0
    """The number."""
    lr_warm_up: Annotated[float, Range(0, 1)] = 0.0
    """No step size."""
    learn_lr: bool = False
    """Nor is this."""
    steps: int = 4
    """Steps."""
    wild_at: int = 0
    """Where the loss is infinite."""
    refused_at: int = 0
    """Where the step is refused."""
    beside: Annotated[Training, Role()] = field(default_factory=Training)
    """A network beside it."""

    name = "growing"
    total_steps = property(lambda self: self.steps)

    def resolve(self, source, runtime):
        return self

    def build(self, source, runtime):
        return State(torch.ones(3))

    def step(self, state, runtime):
        self.taken.append(len(self.taken) + 1)
        if self.taken[-1] == self.refused_at:
            raise InputError("its logits hold NaN.")
        state.values *= self.lr
        return {"loss": torch.tensor(torch.inf if self.taken[-1] == self.wild_at else 1.0)}

    def result(self, state, runtime):
        return Made(state.values.clone())


@pytest.fixture
def grown(tmp_path):
    """What a run of such a method says, and what it leaves."""

    def grow(engine=EVERY_STEP, **settings):
        Growing.taken = []
        runtime = Runtime(engine)
        with pytest.raises(InputError) as refusal:
            run(Growing(**settings), SOURCE, runtime, out=tmp_path, load=lambda folder: Made(torch.zeros(3)))
        assert not (tmp_path / "made.safetensors").exists()
        assert not json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8")).get("finished")
        return refusal.value

    return grow


SELDOM = Engine(device="cpu", quiet=True)
"""Nothing is checkpointed in a second."""


def test_a_loss_that_is_not_finite_ends_the_run(grown):
    error = grown(wild_at=3)
    assert type(error) is Diverged
    assert str(error) == "loss became inf at step 3. Try a smaller step size (--lr)."


def test_so_does_one_of_a_step_that_is_not_logged(grown):
    error = grown(SELDOM, steps=1500, wild_at=700)
    assert str(error) == "loss was infinite or not a number before step 702. Try a smaller step size (--lr)."
    assert len(Growing.taken) == 702


def test_values_that_are_too_large_are_not_saved(grown):
    error = grown(SELDOM, lr=1e3)
    assert type(error) is Diverged
    assert str(error) == "values became 1e+12 at step 4. Try a smaller step size (--lr)."


def test_the_checkpoint_before_is_kept_and_is_sound(grown, tmp_path):
    assert "values became 1e+09 at step 3" in str(grown(lr=1e3))
    tensors, facts = store.read_tensors(tmp_path / "run" / "checkpoint.safetensors")
    assert facts["step"] == 2
    assert tensors["state/values"].tolist() == [1e6] * 3


def test_a_step_that_is_refused_for_what_was_learned_before_it_is_a_run_that_diverged(grown):
    assert str(grown(SELDOM, refused_at=3)) == "its logits hold NaN."
    error = grown(SELDOM, refused_at=3, lr=1e4)
    assert str(error) == "values became 1e+08 at step 2. Try a smaller step size (--lr)."


def test_a_snapshot_of_what_is_too_large_is_not_written(grown, tmp_path):
    assert "values became 1e+08 at step 2" in str(grown(Engine(device="cpu", quiet=True, snapshots=4), lr=1e4))
    assert sorted(path.name for path in (tmp_path / "run" / "snapshots").iterdir()) == ["step-000001"]


# What is found.


@pytest.mark.parametrize(
    "values, told",
    [([1.0, torch.nan, torch.inf], "nan"), ([-2e6, 1.0], "2e+06"), ([torch.inf], "inf"), ([0.0, -torch.inf], "inf")],
)
def test_what_was_learned_must_be_finite_and_of_a_size(values, told):
    with pytest.raises(Diverged, match=rf"^pixels became {told.replace('+', '.')} at step 5"):
        check_learned({"pixels": torch.tensor(values)}, LARGEST, 5, None)


def test_what_is_large_but_may_be_is_let_through():
    check_learned({"weights": torch.tensor([1e30, -1e9])}, torch.inf, 5, None)
    check_learned({"pixels": torch.tensor([LARGEST])}, LARGEST, 5, None)
    check_learned({"none": torch.zeros(0), "classes": torch.tensor([2**40])}, LARGEST, 5, None)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, torch.tensor(torch.nan), torch.tensor(torch.inf)])
def test_a_metric_is_remembered_until_it_is_asked_for(value):
    unlogged = Unlogged()
    for number in (1.0, value, torch.tensor(3.4e38), torch.tensor(6e4, dtype=torch.float16)):
        unlogged.see({"loss": number, "other": torch.tensor(3.4e38)})
    with pytest.raises(Diverged, match=r"^loss was infinite or not a number before step 9\.$"):
        unlogged.check(9, None)


def test_large_metrics_of_many_steps_are_finite_all_the_same():
    unlogged = Unlogged()
    for _ in range(9):
        unlogged.see({"loss": torch.tensor(3.4e38), "half": torch.tensor(6e4, dtype=torch.float16), "steps": 2**40})
    unlogged.check(9, None)
    assert unlogged.zeros == {}


# Whose step sizes are named.


def test_step_sizes_are_numbers_that_have_no_upper_end():
    assert [flag.name for flag in step_sizes(Growing())] == ["--lr", "--beside.lr"]
    assert step_sizes(object()) == []


@pytest.mark.parametrize("name", METHODS)
def test_every_method_tells_its_step_sizes_by_flags_that_it_has(name):
    known = {flag.flag for flag in METHODS[name].flags}
    found = {flag.name for flag in step_sizes(METHODS[name].load())}
    assert found <= known
    assert {flag for flag in known if flag.rpartition("-")[2].rpartition(".")[2] == "lr"} - {"--learn-lr"} <= found


def test_a_network_beside_a_method_is_told_of_by_its_role():
    with pytest.raises(Diverged) as refusal, told_by(Growing()):
        check_metrics({"loss": torch.nan}, 2, Training())
    assert str(refusal.value) == "loss became nan at step 2. Try a smaller step size (--beside.lr)."


def test_step_sizes_that_nobody_asked_for_are_not_named():
    with pytest.raises(Diverged) as refusal, told_by(Settings()):
        raise diverged("loss became nan at step 2", Growing())
    assert str(refusal.value) == "loss became nan at step 2."
    with pytest.raises(Diverged, match=r"^as it was\.$"), told_by(Growing()):
        raise Diverged("as it was.")


def test_it_travels_between_processes():
    error = diverged("loss became nan at step 2", Growing())
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), back.what, back.flags) == (Diverged, str(error), error.what, error.flags)


def test_of_many_runs_that_diverged_the_step_sizes_are_named_once():
    def fail(error):
        raise error

    wild = diverged("loss became nan at step 2", Growing())
    tasks = [Task(name, lambda: fail(wild)) for name in ("one", "two")]
    with pytest.raises(Diverged) as refusal:
        run_all(tasks)
    assert str(refusal.value) == (
        "2 of 2 tasks failed. The results of the others are kept. one: loss became nan at step 2. "
        "two: loss became nan at step 2. Try a smaller step size (--lr)."
    )
    with pytest.raises(InputError) as refusal:
        run_all([tasks[0], Task("three", lambda: fail(InputError("no room.")))])
    assert type(refusal.value) is InputError
    assert str(refusal.value).endswith(
        "one: loss became nan at step 2. Try a smaller step size (--lr). three: no room."
    )
