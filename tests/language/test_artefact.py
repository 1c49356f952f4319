import copy
import dataclasses
import json

import pytest
import torch
import transformers

import attar.language as language
from attar.core.artefact import digests_of, write_facts
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
    facts = json.loads((tmp_path / "artefact.json").read_text(encoding="utf-8"))
    assert facts["kind"] == "language"
    assert set(facts["digests"]) == set(facts["files"]) >= {"config.json", "model.safetensors", "tokenizer.json"}
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
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
    facts = json.loads((tmp_path / "artefact.json").read_text(encoding="utf-8"))
    (tmp_path / "artefact.json").write_text(json.dumps({**facts, "schema": 99}), encoding="utf-8")
    with pytest.raises(InputError, match=r"has schema 99, but this attar reads up to 1\. Upgrade attar\."):
        DistilledLanguageModel.load(tmp_path)


def test_damage_to_any_file_is_noticed(small, tmp_path):
    small.save(tmp_path)
    names = json.loads((tmp_path / "artefact.json").read_text(encoding="utf-8"))["files"]
    assert {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"} <= set(names)
    for name in names:
        whole = (tmp_path / name).read_bytes()
        for damaged in (whole + b" ", whole[:-1], b""):
            (tmp_path / name).write_bytes(damaged)
            with pytest.raises(InputError, match=rf"{name} was altered after it was written"):
                DistilledLanguageModel.load(tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(InputError, match=rf"{name} is missing"):
            DistilledLanguageModel.load(tmp_path)
        (tmp_path / name).write_bytes(whole)
    DistilledLanguageModel.load(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "chat_template.jinja",
        "special_tokens_map.json",
        "added_tokens.json",
        "adapter_config.json",
        "model.safetensors.index.json",
        "vocab.json",
        "custom_generate/generate.py",
    ],
)
def test_a_file_that_was_added_is_noticed(name, small, tmp_path):
    small.save(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=rf"{name} is not part of the student, but transformers would read it"):
        DistilledLanguageModel.load(tmp_path)


def test_files_that_decide_nothing_may_be_added(small, tmp_path):
    small.save(tmp_path)
    for name in ("notes.txt", "scores.json", "preview.png", "report.html", ".gitattributes"):
        (tmp_path / name).write_text("", encoding="utf-8")
    DistilledLanguageModel.load(tmp_path)


def test_one_of_an_early_version_is_read_and_told(small, tmp_path):
    small.save(tmp_path)
    facts = json.loads((tmp_path / "artefact.json").read_text(encoding="utf-8"))
    weights = {name: digest for name, digest in facts["digests"].items() if name.endswith(".safetensors")}
    early = {name: value for name, value in facts.items() if name not in ("kind", "schema", "facts_digest")}
    write_facts(tmp_path, "language", 1, {**early, "digests": weights})
    with pytest.warns(UserWarning, match=r"of an early version of attar, without digests of config\.json"):
        DistilledLanguageModel.load(tmp_path)


def test_one_that_is_not_finite_is_neither_saved_nor_read(small, tmp_path):
    broken = dataclasses.replace(small, make=lambda: copy.deepcopy(small.model))
    with torch.no_grad():
        next(broken.model.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(InputError, match=r"is not written: .* holds values that are infinite or not numbers"):
        broken.save(tmp_path)
    assert not (tmp_path / "artefact.json").exists() and not any(tmp_path.glob("*.safetensors"))
    broken.model.save_pretrained(tmp_path)
    broken.tokenizer.save_pretrained(tmp_path)
    names = [path.name for path in tmp_path.iterdir()]
    origin = dataclasses.asdict(small.origin)
    facts = {"digests": digests_of(tmp_path, names), "files": names, "origin": origin, "scores": {}}
    write_facts(tmp_path, "language", 1, facts)
    with pytest.raises(InputError, match=r"is of a run that diverged: .* holds values"):
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
