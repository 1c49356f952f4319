import json

import pytest
import torch
import transformers

import attar.language as language
from attar.core.errors import InputError
from attar.language.artefact import DistilledLanguageModel


@pytest.fixture(scope="module")
def small(source, teacher, tokenizer, engine):
    method = language.DistillLanguage.of(student="gpt2:layers=1,width=16,heads=2", epochs=1, max_length=96)
    return language.distill(source, method, teacher=teacher, tokenizer=tokenizer, engine=engine, answers=3)


def test_it_comes_back_as_it_was_saved(small, tmp_path):
    small.save(tmp_path)
    again = DistilledLanguageModel.load(tmp_path)
    pairs = zip(again.model.parameters(), small.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert (again.origin, again.scores) == (small.origin, small.scores)
    assert again.tokenizer.get_vocab() == small.tokenizer.get_vocab()
    assert not list(tmp_path.glob(".draft-*"))


def test_transformers_opens_the_folder(small, tmp_path):
    small.save(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("Answer who:", return_tensors="pt")["input_ids"]
    torch.testing.assert_close(model(ids).logits, small.model(ids).logits)


def test_nothing_executable_is_written(small, tmp_path):
    small.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".md", ".jinja", ".txt"}
    facts = json.loads((tmp_path / "artefact.json").read_text())
    assert facts["kind"] == "language"
    assert set(facts["digests"]) == {"model.safetensors"}
    card = (tmp_path / "README.md").read_text()
    assert "| divergence | forward |" in card
    assert "| teacher |" in card


def test_it_answers(small):
    assert small.answer("Answer who: the fox\n", tokens=5, seed=1) == small.answer(
        "Answer who: the fox\n", tokens=5, seed=1
    )
    assert small.answer("Answer", tokens=4, temperature=0.0) == small.answer(
        "Answer", tokens=4, seed=3, temperature=0.0
    )


@pytest.mark.parametrize("tokens", [None, 5, 500])
def test_a_prompt_that_leaves_no_room_loses_its_beginning_and_says_so(small, tokens):
    long = "Answer who: the fox finds it. " * 20
    with pytest.warns(UserWarning, match=r"only the last 48 tokens of the prompt are read, as in training"):
        said = small.answer(long, tokens=tokens, seed=1)
    ids = small.tokenizer(long)["input_ids"]
    assert len(ids) > 96
    end = small.tokenizer.decode(ids[-48:])
    assert small.tokenizer(end)["input_ids"] == ids[-48:]
    assert said == small.answer(end, tokens=tokens, seed=1)
    with pytest.raises(InputError, match="a prompt has no token"):
        small.answer("")


def test_it_says_what_was_kept(small):
    lines = str(small).splitlines()
    assert lines[0].startswith("student: ")
    assert "cross-entropy" in lines[1]
    assert lines[2].startswith("kept: ")
    both = {"cross_entropy", "perplexity", "rouge_l", "length_ratio", "repetition"}
    assert set(small.scores["student"]) == {*both, "excess_error"}
    assert set(small.scores["teacher"]) == both
    assert small.picture() is None


def test_a_damaged_one_is_refused(small, tmp_path):
    with pytest.raises(InputError, match="holds no distilled language model"):
        DistilledLanguageModel.load(tmp_path)
    small.save(tmp_path)
    data = bytearray((tmp_path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(bytes(data))
    with pytest.raises(InputError, match="was altered after it was written"):
        DistilledLanguageModel.load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model.safetensors is missing"):
        DistilledLanguageModel.load(tmp_path)
    facts = json.loads((tmp_path / "artefact.json").read_text())
    (tmp_path / "artefact.json").write_text(json.dumps({**facts, "schema": 99}))
    with pytest.raises(InputError, match=r"has schema 99, but this attar reads up to 1\. Upgrade attar\."):
        DistilledLanguageModel.load(tmp_path)


def test_what_a_kill_left_behind_is_swept(small, tmp_path):
    (tmp_path / ".draft-old").mkdir()
    (tmp_path / ".draft-old" / "model.safetensors").write_bytes(b"half")
    small.save(tmp_path)
    assert not list(tmp_path.glob(".draft-*"))


def test_it_goes_to_the_hub_as_a_model(small, monkeypatch):
    import huggingface_hub

    sent = {}

    class Api:
        def __init__(self, token):
            sent["token"] = token

        def create_repo(self, name, **settings):
            return f"https://hub/{name}"

        def upload_folder(self, **settings):
            sent.update(settings)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert small.to_hub("me/small", private=True, token="t") == "https://hub/me/small"
    assert {"model.safetensors", "config.json", "artefact.json", "README.md"} <= set(sent["allow_patterns"])
    assert sent["token"] == "t"
