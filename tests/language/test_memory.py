"""Large students: activations computed again, master copies, and the precision in which a student is saved."""

import json
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from torch.autograd.graph import saved_tensors_hooks

import attar.language as language
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.state import pack
from attar.language.distillation import DistillLanguage
from attar.language.memory import keep_activations, recompute_activations
from attar.language.pair import paired
from attar.language.steps import descend
from promises import EVERY_STEP

SMALL = {"student": "gpt2:layers=3,width=32,heads=2", "epochs": 1, "batch": 8, "max_length": 96}


@pytest.fixture
def begun(source, teacher, tokenizer, engine):
    """A run before its first step."""

    def made(**settings):
        pair, runtime = paired(source, teacher, None, tokenizer), Runtime(engine)
        method = DistillLanguage.of(**{**SMALL, **settings}).resolve(pair, runtime)
        return method, method.build(pair, runtime), runtime

    return made


@pytest.fixture
def run(source, teacher, tokenizer):
    def distilled(out=None, **settings):
        method = DistillLanguage.of(**{**SMALL, **settings})
        return language.distill(
            source, method, teacher=teacher, tokenizer=tokenizer, engine=EVERY_STEP, answers=0, out=out
        )

    return distilled


def gradients(begun, **settings):
    method, state, runtime = begun(**settings)
    torch.manual_seed(3)  # of dropout
    shown = descend(method, list(range(8)), state, runtime)
    return float(shown["loss"]), {name: value.grad for name, value in state.learned.items()}, state


@pytest.mark.parametrize("student", ["gpt2:layers=3,width=32,heads=2", "llama:layers=3,width=32,heads=2"])
@pytest.mark.parametrize("more", [{}, {"lora_rank": 2, "lora_dropout": 0.2}, {"packing": True}, {"micro": 3}])
def test_activations_computed_again_give_the_same_gradient(begun, student, more):
    """With dropout, which GPT-2 has: the second time it is the same."""
    kept = gradients(begun, student=student, **more)
    again = gradients(begun, student=student, gradient_checkpointing=True, **more)
    assert again[0] == pytest.approx(kept[0], rel=1e-6)
    assert any(float(value.abs().max()) > 0 for value in kept[1].values())
    for name, value in kept[1].items():
        torch.testing.assert_close(again[1][name], value, rtol=1e-5, atol=1e-8)


def test_fewer_activations_are_kept(begun):
    """Bytes that the forward pass keeps for the backward pass: less than half with six layers."""
    found = []
    for again in (False, True):
        _, state, _ = begun(student="gpt2:layers=6,width=64,heads=2", gradient_checkpointing=again)
        held = {}

        def hold(tensor, held):
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        batch = state.tokens.batch(range(16))
        with saved_tensors_hooks(partial(hold, held=held), lambda tensor: tensor):
            output = state.student(**batch.inputs, use_cache=False)
        parameters = {value.untyped_storage().data_ptr() for value in state.student.parameters()}
        found.append(sum(size for place, size in held.items() if place not in parameters))
        assert output.logits.requires_grad
    assert found[1] < 0.5 * found[0]


def test_a_saved_student_keeps_nothing_of_it(run, tmp_path):
    made = run(tmp_path / "again", gradient_checkpointing=True)
    plain = run(tmp_path / "plain")
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(made.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    student = run(gradient_checkpointing=True).model
    assert not any(getattr(module, "gradient_checkpointing", False) for module in student.modules())
    assert not any(module._forward_hooks for module in student.modules())


def test_a_family_without_it_is_refused(bigram):
    with pytest.raises(InputError, match="--gradient-checkpointing does not work with this student: Bigram"):
        recompute_activations(bigram(torch.rand(4, 4)))
    keep_activations(bigram(torch.rand(4, 4)))


def test_a_student_in_bfloat16_has_masters_in_its_checkpoints(begun):
    method, state, runtime = begun(student_precision="bfloat16")
    before = {name: value.detach().clone() for name, value in state.learned.items()}
    metrics = method.step(state, runtime)
    assert {value.dtype for value in state.student.parameters()} == {torch.bfloat16}
    tensors, _ = pack(state)
    kept = {name: value for name, value in tensors.items() if name.startswith("state/learned/")}
    assert {value.dtype for value in kept.values()} == {torch.float32}
    assert all(value.dtype == torch.float32 for name, value in tensors.items() if name.startswith("state/optimizer"))
    for name, value in state.student.named_parameters():
        assert torch.equal(value, state.learned[name].bfloat16())
        assert not torch.equal(state.learned[name], before[name])
    plain, begins, same = begun()
    assert float(metrics["loss"]) == pytest.approx(float(plain.step(begins, same)["loss"]), rel=1e-2)


def test_tiny_steps_are_not_lost(begun):
    """Steps far below the resolution of bfloat16 move the masters, and in time parameters."""
    method, state, runtime = begun(student_precision="bfloat16", lr=1e-6, weight_decay=0.0, steps=40)
    start = {name: value.detach().clone() for name, value in state.learned.items()}
    rounded = {name: value.detach().clone() for name, value in state.student.named_parameters()}
    for _ in range(40):
        method.step(state, runtime)
    moved = torch.cat([(state.learned[name] - value).abs().flatten() for name, value in start.items()])
    assert float((moved > 5e-6).float().mean()) > 0.2
    assert any(not torch.equal(value, rounded[name]) for name, value in state.student.named_parameters())


@pytest.mark.parametrize(("saved", "kind"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_student_is_saved_in_the_precision_that_is_asked_for(run, tmp_path, precision, saved, kind):
    made = run(tmp_path, student_precision=precision, saved_precision=saved)
    tensors = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in tensors.values()} == {kind}
    assert {value.dtype for value in made.model.parameters()} == {kind}
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["dtype"] == saved
    masters = run(student_precision=precision).model.state_dict()
    for name, value in tensors.items():
        assert torch.equal(value, masters[name].to(kind))
    if saved == "float32" and precision == "bfloat16":
        assert any(not torch.equal(value, value.bfloat16().float()) for value in tensors.values())


def test_adapters_are_merged_in_float32(run):
    made = run(student_precision="bfloat16", lora_rank=2)
    assert {value.dtype for value in made.model.parameters()} == {torch.float32}


def test_the_best_epoch_is_that_of_the_masters(run, tmp_path):
    made = run(tmp_path, student_precision="bfloat16", select="loss", epochs=2)
    assert {value.dtype for value in made.model.parameters()} == {torch.float32}


def test_all_of_it_together(run, tmp_path):
    settings = {
        "student_precision": "bfloat16",
        "gradient_checkpointing": True,
        "packing": True,
        "micro": 5,
        "answers_by": "mixed",
        "new_tokens": 4,
    }
    made = run(tmp_path, **settings)
    assert made.origin.settings["memory"]["packing"] is True
