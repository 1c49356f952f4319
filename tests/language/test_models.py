import pytest
import torch

from attar.core.errors import InputError
from attar.language.models import (
    Lora,
    byte_tokenizer,
    causal_model,
    fresh_model,
    is_fresh,
    longest_input,
    merged,
    tokenizer_beside,
    tokenizer_of,
    with_lora,
)
from attar.language.stops import stops_of


@pytest.mark.parametrize("kind", ["gpt2", "llama", "opt", "qwen2"])
def test_fresh_models_of_many_families_have_the_sizes_asked_for(kind, tokenizer):
    one, other = (
        fresh_model(f"{kind}:layers=1,width=32,heads=2", tokenizer, 64, torch.Generator().manual_seed(3)) for _ in "ab"
    )
    assert (one.config.num_hidden_layers, one.config.hidden_size, one.config.num_attention_heads) == (1, 32, 2)
    assert longest_input(one) == 64
    logits = one(input_ids=torch.tensor([[5, 6]])).logits
    assert logits.shape == (1, 2, len(tokenizer))
    assert all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))
    assert sum(p.numel() for p in one.parameters()) < 60_000


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gtp2:layers=1", "unknown kind of model 'gtp2'; did you mean 'gpt2'?"),
        ("gpt2:depth=1", "unknown size of gpt2 'depth'; did you mean 'width'? Known: heads, layers, width."),
        ("gpt2:width=33,heads=2", "cannot be built as a causal model"),
        ("vit:layers=1", "vit:layers=1 cannot be built as a causal model"),
        (
            "llama:layers=1,width=30,heads=2",
            "(Class validation error for validator 'validate_rope': ",
        ),
        ("rwkv:layers=1,width=32", "cannot be built as a causal model (division by zero)."),
    ],
)
def test_models_that_cannot_be_built_are_refused(name, sentence, tokenizer, generator):
    with pytest.raises(InputError) as refusal:
        fresh_model(name, tokenizer, 64, generator)
    assert sentence in str(refusal.value)


def test_a_description_is_told_from_a_folder():
    assert is_fresh("gpt2:layers=1,width=64")
    assert not any(map(is_fresh, ["gpt2", "user/name", "runs/gpt2:layers", "C:/x"]))


def test_a_model_and_its_tokenizer_come_back_from_a_folder(student, tokenizer, tmp_path):
    student.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = causal_model(tmp_path)
    pairs = zip(model.parameters(), student.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert tokenizer_of(tmp_path).get_vocab() == tokenizer_beside(model).get_vocab() == tokenizer.get_vocab()
    assert tokenizer_beside(student) is None


def test_a_pickle_is_never_read(student, tmp_path):
    student.config.save_pretrained(tmp_path)
    torch.save(student.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError) as refusal:
        causal_model(tmp_path)
    assert str(refusal.value) == (
        f"{tmp_path} holds only a pickle (pytorch_model.bin), which can run code when read. Save the model as "
        "safetensors."
    )


def test_what_holds_no_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no model.safetensors"):
        causal_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="is not a causal language model in a folder or on the hub"):
        causal_model(tmp_path)
    with pytest.raises(InputError, match="'nobody/nothing' is not a causal language model in a folder or on the hub"):
        causal_model("nobody/nothing")
    with pytest.raises(InputError, match="is not a tokenizer"):
        tokenizer_of(tmp_path)


def test_any_text_survives_a_byte_tokenizer(tokenizer):
    text = "Zoë — 漢字 🌹\n\tend"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) == 300
    with pytest.raises(InputError, match="bytes and marks alone are 258"):
        byte_tokenizer(["x"], 200)


def test_a_byte_tokenizer_is_the_same_each_time(source, tokenizer):
    assert byte_tokenizer(source.texts(), 300).get_vocab() == tokenizer.get_vocab()


def test_adapters_alone_are_trained_and_merge_without_changing_a_word(student, generator):
    import copy

    ids = torch.tensor([[5, 6, 7]])
    model = with_lora(copy.deepcopy(student), Lora(lora_rank=2), generator)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, student(input_ids=ids).logits)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
        said = model.eval()(input_ids=ids).logits
        torch.testing.assert_close(merged(model)(input_ids=ids).logits, said, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(said, student(input_ids=ids).logits)


def test_no_adapters_leave_the_model(student, generator):
    assert with_lora(student, Lora(), generator) is student
    assert merged(student) is student


def test_adapters_on_modules_that_are_not_there_are_refused(student, generator):
    import copy

    with pytest.raises(InputError, match="adapters do not fit the student"):
        with_lora(copy.deepcopy(student), Lora(lora_rank=2, lora_targets=("nowhere",)), generator)


def test_no_torchvision_is_imported():
    """One that was built for another torch breaks every model of transformers."""
    import sys
    import tomllib
    from pathlib import Path

    assert "torchvision" not in sys.modules
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    assert not [one for one in wanted if "torchvision" in one]


def test_a_text_ends_with_any_of_the_ends_that_a_model_knows(student, tokenizer):
    import copy

    model = copy.deepcopy(student)
    model.generation_config.eos_token_id = [7, 299, 5000]
    assert stops_of(model, tokenizer) == tuple(sorted({tokenizer.eos_token_id, 7, 299}))
