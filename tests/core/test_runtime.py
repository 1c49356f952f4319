import dataclasses
import os
import shutil

import pytest
import torch

from attar.core import runtime as machine
from attar.core.errors import InputError
from attar.core.runtime import COMPILE_WORTH_IT, Engine, Runtime
from pretend_cuda import pretended_cuda

CPU = Engine(device="cpu", quiet=True)


def compiling(say=None):
    """A runtime that compiles."""
    runtime = Runtime(dataclasses.replace(CPU, compile="on"), say=say)
    runtime.plan(0)
    return runtime


@pytest.fixture
def compiler_there(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.mark.parametrize(
    "setting, work, compiles",
    [
        ("auto", COMPILE_WORTH_IT * 2, True),
        ("auto", COMPILE_WORTH_IT / 2, False),
        ("on", 0.0, True),
        ("off", COMPILE_WORTH_IT * 2, False),
    ],
)
def test_only_long_runs_are_compiled_unless_told_otherwise(setting, work, compiles, compiler_there):
    runtime = Runtime(dataclasses.replace(CPU, compile=setting))
    runtime.plan(work)
    assert runtime.compiles is compiles


def test_without_a_compiler_nothing_is_compiled_and_it_says_so(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    said = []
    assert not compiling(said.append).compiles
    assert said == ["no C++ compiler was found, so nothing is compiled. To install one on Debian: apt install g++."]


def test_a_function_that_is_not_compiled_is_the_function_itself():
    runtime = Runtime(CPU)
    assert runtime.compiled(abs) is abs


@pytest.mark.parametrize("where", ["torch._dynamo.exc", "torch._inductor.exc"])
def test_an_error_in_compiling_falls_back_to_the_plain_function(where, compiler_there, monkeypatch):
    class CompilerError(Exception):
        pass

    CompilerError.__module__ = where
    tries = []

    def broken(function, **options):
        def call(*arguments):
            tries.append(arguments)
            raise CompilerError

        return call

    monkeypatch.setattr(torch, "compile", broken)
    said = []
    runtime = compiling(said.append)
    double = runtime.compiled(lambda x: 2 * x)
    assert [double(1), double(2), double(3)] == [2, 4, 6]
    assert tries == [(1,)]
    assert said == ["torch.compile failed (CompilerError); continuing without it."]
    assert not runtime.compiles


def test_an_error_of_the_function_itself_is_not_swallowed(compiler_there, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)

    def fail(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compiling().compiled(fail)(1)


def test_compiled_functions_are_called_while_they_work(compiler_there, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: lambda x: ("compiled", function(x)))
    assert compiling().compiled(lambda x: x + 1)(1) == ("compiled", 2)


# Precision.


def test_a_cpu_without_compilation_computes_in_float32():
    runtime = Runtime(CPU)
    assert runtime.forward_dtype == torch.float32
    with runtime.autocast(), runtime.autocast(training=True):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("native", [True, False])
def test_a_compiled_cpu_computes_in_bfloat16_where_the_hardware_does(native, compiler_there, monkeypatch):
    monkeypatch.setattr(machine, "_multiplies_bfloat16", lambda: native)
    assert compiling().forward_dtype == (torch.bfloat16 if native else torch.float32)


def test_precisions_asked_for_are_used_with_and_without_a_gradient():
    runtime = Runtime(dataclasses.replace(CPU, precision="bfloat16"))
    for training, dtype in ((False, torch.bfloat16), (True, torch.float32)):
        with runtime.autocast(training=training):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    trained = Runtime(dataclasses.replace(CPU, train_precision="bfloat16"))
    with trained.autocast(training=True):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


# The rest of the machine.


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(InputError) as refusal:
        Runtime(dataclasses.replace(CPU, device="abacus"))
    text = str(refusal.value)
    assert text.startswith("device 'abacus' is not available here (")
    assert text.endswith("). Try --device cpu.")
    assert "\n" not in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_is_refused_where_there_is_none_and_auto_does_without():
    with pytest.raises(InputError, match=r"^device 'cuda' is not available here \(.*\)\. Try --device cpu\.$"):
        Runtime(dataclasses.replace(CPU, device="cuda"))
    assert Runtime(Engine()).device == torch.device("cpu")


def test_another_seed_has_generators_of_its_own_on_the_same_machine():
    runtime = Runtime(CPU, 1)
    other = runtime.with_seed(2)
    assert (other.seed, runtime.seed) == (2, 1)
    assert other.device == runtime.device
    assert runtime.with_seed(1).generator("x").initial_seed() == runtime.generator("x").initial_seed()
    assert other.generator("x").initial_seed() != runtime.generator("x").initial_seed()


def test_it_describes_itself_in_plain_values():
    facts = Runtime(CPU).describe()
    assert facts["torch"] == torch.__version__
    assert (facts["forward_precision"], facts["train_precision"], facts["compiled"]) == ("float32", "float32", False)
    assert all(isinstance(value, (str, int, bool)) for value in facts.values())


def test_engine_settings_out_of_range_are_refused():
    with pytest.raises(InputError) as refusal:
        Engine(checkpoint_seconds=-1)
    assert str(refusal.value) == "checkpoint_seconds is -1; it must be at least 0."


class _Exact:
    """Settings of something that computes in float64."""

    float64 = True


@pytest.fixture
def on_a_mac(monkeypatch):
    """A GPU of Apple's and none of CUDA."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_auto_finds_the_gpu_of_a_mac_for_one_process(on_a_mac, monkeypatch):
    runtime = Runtime(Engine(quiet=True))
    assert runtime.device == torch.device("mps")
    assert runtime.forward_dtype == torch.float32
    runtime.plan(COMPILE_WORTH_IT * 2)
    assert not runtime.compiles
    assert runtime.describe()["device"].endswith(" GPU (mps)")
    monkeypatch.setattr(machine, "size", lambda: 2)
    assert machine._device("auto") == torch.device("cpu")


def test_float64_leaves_the_gpu_of_a_mac_and_says_so(on_a_mac):
    said = []
    runtime = Runtime(Engine(), say=said.append)
    runtime.see_to_float64(object(), "this")
    assert runtime.device.type == "mps" and said == []
    runtime.see_to_float64(_Exact(), "gmrc")
    assert runtime.device.type == "cpu"
    assert said == ["gmrc computes in float64, which mps does not have, and works on the CPU."]


def test_float64_is_refused_on_mps_in_one_line():
    runtime = Runtime(CPU)
    runtime.device, runtime.engine = torch.device("mps"), Engine(device="mps")
    with pytest.raises(InputError, match=r"^gmrc computes in float64, which mps does not have. Give --device cpu.$"):
        runtime.see_to_float64(_Exact(), "gmrc")


def test_float64_that_nobody_foresaw_is_one_line_too():
    from attar.core.failures import told

    error = TypeError(
        "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
        "Please use float32 instead."
    )
    assert told(error) == "this computes in float64, which mps does not have. Give --device cpu."
    assert told(TypeError("a float64 where a word was wanted")) is None


# A GPU, which is pretended.


@pytest.fixture
def as_before():
    """PyTorch's settings of a GPU are put back."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    yield
    cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("tf32", [True, False])
def test_how_a_gpu_computes_is_set_and_stands_on_the_card(tf32, as_before):
    with pretended_cuda():
        facts = Runtime(Engine(device="cuda", tf32=tf32)).describe()
    assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == tf32
    assert torch.backends.cudnn.benchmark
    assert (facts["tf32"], facts["deterministic"], facts["cuda_graphs"]) == (tf32, False, False)
    assert "tf32" not in Runtime(CPU).describe()


def test_deterministic_says_what_it_cannot_give(as_before, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    said = []
    with pretended_cuda():
        Runtime(Engine(device="cuda", deterministic=True), say=said.append)
    assert said == [machine.NOT_THE_SAME]
    assert not torch.backends.cudnn.benchmark
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    Runtime(dataclasses.replace(CPU, deterministic=True), say=said.append)
    assert len(said) == 1


def test_cuda_graphs_are_refused_where_there_are_none():
    with pytest.raises(InputError, match="needs a GPU of CUDA, but this run is on cpu"):
        Runtime(dataclasses.replace(CPU, cuda_graphs=True))
    with pretended_cuda(), pytest.raises(InputError, match="records what is compiled, but compile is off"):
        Runtime(Engine(device="cuda", cuda_graphs=True, compile="off"))


def test_what_a_graph_has_made_is_copied_out_of_its_memory(compiler_there, as_before, monkeypatch):
    made, asked = torch.ones(2), []

    def compiled(function, **settings):
        asked.append(settings)
        return lambda *given: (made, 3)

    monkeypatch.setattr(torch, "compile", compiled)
    with pretended_cuda():
        runtime = Runtime(Engine(device="cuda", cuda_graphs=True, compile="on", precision="float32"))
        runtime.plan(0)
        first, number = runtime.compiled(abs)(torch.ones(2))
        made.zero_()
        assert (first.tolist(), number) == ([1.0, 1.0], 3)
    assert asked == [{"dynamic": False, "mode": "reduce-overhead"}]
