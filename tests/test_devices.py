"""Every method takes three steps on a pretended GPU, and asks no more of it than is recorded.

`pretend_cuda.py` says what is refused there, and what is counted: copies from host to device, and waits of the host for
the device. The record, `devices.json`, holds both for what a method builds and for each of its first three steps, and
for trainings, labels and evaluations as a whole. Where a change asks for less, or for more with a reason, it is written
anew:

    PYTHONPATH=tests:src python tests/test_devices.py
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attar
import small
from attar.core.runtime import Engine
from pretend_cuda import Account, MixedDevicesError, pretended_cuda

RECORD = Path(__file__).parent / "devices.json"
ON_CUDA = Engine(device="cuda", compile="off", quiet=True)
ON_CPU = dataclasses.replace(ON_CUDA, device="cpu")
ENTRIES = [*small.SMALL, *small.VARIANTS]
STEPS = 3

ON_THE_CPU = {
    **dict.fromkeys(small.MIXTURES, "a few Gaussians in float64, reduced by NumPy and SciPy"),
    "conv": "the kernels that it compares are a CPU's; the network is trained on the device before",
    "random": "rows are drawn, nothing is computed",
    "random/one number a class": "rows are drawn, nothing is computed",
    "class-mean": "it is one mean of each class",
    "k-means/pixels": "scikit-learn clusters the pixels",
    "graph-start": "rows are drawn, nothing is computed",
    "graph-random": "rows are drawn, nothing is computed",
    **dict.fromkeys(("copula", "copula-reweighed", "copula/columns apart"), "a few correlations in float64"),
    **dict.fromkeys(("table-random", "shuffled-labels"), "rows are drawn, nothing is computed"),
    **dict.fromkeys(("table-herding", "table-k-center"), "rows of a table in float64, a few at a time"),
    "oggmr/starts": "as oggmr",
    "ctdgmr/em": "as ctdgmr",
    "direct/samples": "as direct",
    "kelvin-helmholtz": "this is the NumPy source; that of PyTorch works there",
    "columns": "a code of radiative transfer answers, on the CPU",
    "spectra": "a code of radiative transfer answers, on the CPU",
}
"""What does not work on the device by its nature, and why: its steps leave the device alone, or, where it has none,
what it builds."""

WIDEST = ("pairs", "dmd2")
"""Methods whose samplers keep their state in float64 where the device has it (`attar.core.precision.widest`)."""

STAYS = ("artefact.teacher", "artefact.encoded")
"""The network that goes along with images is the one that is in use; it is on the CPU once it is saved and read. A
measurement keeps the copies of the encoders that it looked at, for pictures."""


@dataclass
class Part:
    """What a part of a run asked of the GPU."""

    copies: int
    waits: int
    made: int
    """Tensors that were made there."""
    where: str
    """In which lines of attar."""

    @property
    def counts(self) -> list[int]:
        return [self.copies, self.waits]


@dataclass
class Run:
    """A run on the pretended GPU: what it built and each step, and the artefact."""

    account: Account
    parts: list[Part] = field(default_factory=list)
    artefact: Any = None

    @contextlib.contextmanager
    def part(self) -> Iterator[None]:
        """Within, what is asked of the GPU is one part."""
        copies, waits, made = self.account.copies.copy(), self.account.waits.copy(), self.account.made
        yield
        copies, waits = self.account.copies - copies, self.account.waits - waits
        where = f"copies {dict(copies)}, waits {dict(waits)}"
        self.parts.append(Part(copies.total(), waits.total(), self.account.made - made, where))


@contextlib.contextmanager
def on_pretended_cuda() -> Iterator[Run]:
    """Within, there is a GPU, and nothing in any cache yet: what was asked before is asked again."""
    forget()
    with tempfile.TemporaryDirectory() as cache, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTAR_CACHE", cache)
        with pretended_cuda() as account:
            run = Run(account)
            yield run
            left = [name for name, tensor in tensors_in(run.artefact) if tensor.is_cuda]
            assert all(name.startswith(STAYS) for name in left), f"the artefact is still on the GPU: {left}"
    forget()  # what the data keep on a GPU is not there any more


def forget() -> None:
    """Nothing is kept of data and teachers."""
    for kept in (small.data_of, small.classifier, small.writer, small.sampler):
        kept.cache_clear()


@contextlib.contextmanager
def three_steps(kind: type, run: Run) -> Iterator[None]:
    """Within, what a method builds and its first three steps are parts of the run; it takes no further ones."""
    build, step, told = kind.build, kind.step, {}
    numbers = itertools.count(1)

    @functools.wraps(build)
    def watched_build(*given: Any) -> Any:
        with run.part():
            return build(*given)

    @functools.wraps(step)
    def watched_step(*given: Any) -> Any:
        if next(numbers) <= STEPS:
            with run.part():
                told["last"] = step(*given)
        return told["last"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "build", watched_build)
        patch.setattr(kind, "step", watched_step)
        yield


def tensors_in(thing: Any, name: str = "artefact") -> Iterator[tuple[str, Tensor]]:
    """All tensors of an artefact."""
    if isinstance(thing, Tensor):
        yield name, thing
    elif isinstance(thing, nn.Module):
        yield from tensors_in(thing.state_dict(), name)
    elif isinstance(thing, dict):
        for key, inner in thing.items():
            yield from tensors_in(inner, f"{name}.{key}")
    elif isinstance(thing, (list, tuple)):
        yield from tensors_in(dict(enumerate(thing)), name)
    elif dataclasses.is_dataclass(thing):
        yield from tensors_in({one.name: getattr(thing, one.name) for one in dataclasses.fields(thing)}, name)


def steps_of(entry: str) -> Run:
    """An entry of `small`: what it builds, three steps, its result."""
    method, kind = small.method_of(entry), small.kind_of(entry)
    with on_pretended_cuda() as run, three_steps(type(method), run):
        run.artefact = small.run(method, kind, engine=ON_CUDA)
    return run


def whole(work: Callable[[], Any]) -> Run:
    """A piece of work that is one part, as a whole."""
    with on_pretended_cuda() as run, run.part():
        run.artefact = work()
    return run


def evaluated(entry: str, **settings: Any) -> Run:
    """An entry of `small`, made on the CPU and scored on the pretended GPU."""
    kind = small.kind_of(entry)
    method = small.method_of(entry)
    made = small.run(method, kind, engine=ON_CPU)
    return whole(lambda: attar.evaluate(made, small.data_for(method, kind), engine=ON_CUDA, **settings))


def scored_images() -> Run:
    """Three epochs of a network on a condensed set, and its accuracy on the test images."""
    protocol = attar.Protocol(name="brief", epochs=STEPS)
    settings = {"networks": ["convnet:width=8"], "repeats": 1, "ceiling": "skip", "beside": "skip"}
    return evaluated("random", protocol=protocol, **settings)


def scored_graphs() -> Run:
    """Three epochs of a network on condensed graphs, and its accuracy on the others."""
    from attar.graphs.protocols import Protocol

    protocol = Protocol(name="brief", epochs=STEPS)
    return evaluated("graph-random", protocol=protocol, networks=["gcn:width=8"], repeats=1, ceiling="skip")


def observers(kind: str) -> Run:
    """An observer of three epochs, and what is chosen by its features."""
    entry = {"images": "herding", "graphs": "graph-herding"}[kind]
    plain = json.loads(json.dumps(small.SMALL[entry]))
    plain["observer"]["protocol"]["epochs"] = STEPS
    method = small.method_of(entry, plain)
    return whole(lambda: attar.condense(small.data_of(kind), method, engine=ON_CUDA))


def experts() -> Run:
    """Two experts of three epochs."""
    method, network = attar.Experts(experts=2, epochs=STEPS), "convnet:width=8"
    run = whole(lambda: attar.train(small.data_of("images"), method, network=network, engine=ON_CUDA))
    run.artefact = None  # files in the cache, which is gone
    return run


def stored_labels() -> Run:
    """A teacher's answers to three epochs of views."""
    made = small.run(small.method_of("rded"), "images", engine=ON_CPU, out=Path(tempfile.mkdtemp()) / "set")
    return whole(lambda: attar.label(made, attar.StoreLabels(epochs=STEPS), engine=ON_CUDA))


def stored_answers() -> Run:
    """A teacher's answers to three batches of rows."""
    import attar.language as language

    method, out = language.StoreAnswers(top=8, max_length=96, batch=14), Path(tempfile.mkdtemp()) / "answers"
    beside = {"teacher": small.writer(), "tokenizer": small.tokenizer(), "answers": 0}
    return whole(lambda: language.label(small.data_of("language"), method, out=out, engine=ON_CUDA, **beside))


OTHERS = {
    "evaluate images": scored_images,
    "evaluate graphs": scored_graphs,
    "evaluate classifiers": functools.partial(evaluated, "alone"),
    "evaluate embeddings": functools.partial(evaluated, "simclr", beside="skip"),
    "evaluate episodes": functools.partial(
        evaluated, "protonet", measures=["episodes"], beside="skip", test_episodes=3
    ),
    "evaluate language": functools.partial(evaluated, "language", repeats=1, answers=4),
    "observer of images": functools.partial(observers, "images"),
    "observer of graphs": functools.partial(observers, "graphs"),
    "experts": experts,
    "labels": stored_labels,
    "answers": stored_answers,
}
"""What else works on the device."""


@functools.cache
def recorded() -> dict[str, list[list[int]]]:
    """Copies and waits of each part, by entry."""
    found: dict[str, list[list[int]]] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


def assert_no_more_than_recorded(run: Run, name: str) -> None:
    known = recorded()[name]
    assert len(run.parts) == len(known)
    for part, most in zip(run.parts, known, strict=True):
        assert all(count <= limit for count, limit in zip(part.counts, most, strict=True)), part.where


def test_the_record_is_of_all_that_there_is():
    assert recorded().keys() == {*ENTRIES, *OTHERS}
    assert ON_THE_CPU.keys() <= set(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES)
def test_three_steps_on_a_gpu_ask_no_more_of_it_than_recorded(entry):
    run = steps_of(entry)
    build, *steps = run.parts
    made_there = sum(part.made for part in steps or [build])
    assert (made_there == 0) == (entry in ON_THE_CPU)
    known = getattr(small.method_of(entry), "float64", False) or small.method_name(entry) in WIDEST
    assert known or not run.account.doubles, "the GPUs of Macs have no float64"
    assert_no_more_than_recorded(run, entry)


@pytest.mark.parametrize("name", OTHERS)
def test_trainings_labels_and_scores_do_so_too(name):
    run = OTHERS[name]()
    assert run.parts[0].made
    assert not run.account.doubles
    assert_no_more_than_recorded(run, name)


# The pretended GPU itself.


@pytest.fixture
def gpu():
    with pretended_cuda() as account:
        yield account


def test_tensors_know_where_they_are_and_so_do_their_views_copies_and_gradients(gpu):
    there = torch.ones(2, 3, device="cuda", requires_grad=True)
    for one in (there, there[0], there.detach(), there.T, there.clone(), there * 2, torch.zeros_like(there)):
        assert (one.device.type, one.is_cuda, one.is_cpu) == ("cuda", True, False)
    there.sum().backward()
    assert there.grad.is_cuda
    assert there.cpu().is_cpu
    assert torch.ones(2).is_cpu
    assert nn.Linear(2, 2).to("cuda").weight.is_cuda
    assert torch.sparse_coo_tensor([[0], [1]], [1.0], (2, 2), check_invariants=True).to("cuda").is_cuda
    with torch.device("cpu"):
        assert torch.func.vmap(lambda row: row + torch.ones_like(row))(there).is_cuda


def test_devices_are_not_mixed(gpu):
    here, there = torch.ones(2), torch.ones(2, device="cuda")
    for mixed in (
        lambda: here + there,
        lambda: torch.cat([here, there]),
        lambda: nn.Linear(2, 2)(there),
        lambda: here[torch.tensor([0, 1], device="cuda")],
        lambda: torch.randn(2, generator=torch.Generator(), device="cuda"),
        lambda: torch.randn(2, generator=torch.Generator("cuda")),
        lambda: there.index_add_(0, torch.tensor([0, 1]), there),
        there.numpy,
    ):
        with pytest.raises(MixedDevicesError):
            mixed()
    assert (there + torch.tensor(1.0)).is_cuda  # a lone number may come along
    assert there[torch.tensor([0, 1])].is_cuda


def test_mixed_devices_in_the_backward_pass_are_refused(gpu):
    here = torch.ones(2)

    class Crossing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient + here

    with pytest.raises(MixedDevicesError):
        Crossing.apply(torch.ones(2, device="cuda", requires_grad=True)).sum().backward()


def test_copies_and_waits_are_counted(gpu):
    there = torch.ones(4).to("cuda")
    torch.tensor([1.0], device="cuda")
    there[torch.tensor([0])]
    there[:2].copy_(torch.ones(2))
    torch.zeros(3, device="cuda")  # made there
    assert gpu.copies.total() == 4
    for wait in (
        there.sum().item,
        there.cpu,
        there.nonzero,
        there.tolist,
        lambda: there[there > 0],
        lambda: +bool(there[0]),
    ):
        before = gpu.waits.total()
        wait()
        assert gpu.waits.total() == before + 1
    before = gpu.waits.total()
    there[there > 0] = 2.0  # filled where it is
    float(torch.ones(2).sum())
    assert (gpu.waits.total(), gpu.copies.total()) == (before, 4)


def test_outside_of_it_there_is_no_gpu():
    with pretended_cuda():
        assert torch.cuda.is_available()
    assert not torch.cuda.is_available()
    assert isinstance(torch.Generator(), torch.Generator)


def write_record() -> None:
    """Measure everything anew."""
    runs = {entry: steps_of(entry) for entry in ENTRIES} | {name: work() for name, work in OTHERS.items()}
    lines = [f"  {json.dumps(name)}: {json.dumps([part.counts for part in run.parts])}" for name, run in runs.items()]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    write_record()
