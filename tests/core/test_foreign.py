"""Models that were made elsewhere: no code that they name is run, and nobody is asked whether to."""

import json

import pytest

from attar import InputError
from attar.core.foreign import check_no_code

CODE = {"auto_map": {"AutoConfig": "its.Config", "AutoModelForCausalLM": "its.Model", "AutoTokenizer": "its.Tokenizer"}}


def folder_with(folder, files):
    folder.mkdir(exist_ok=True)
    for name, facts in files.items():
        (folder / name).write_text(facts if isinstance(facts, str) else json.dumps(facts), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("file", "facts"),
    [
        ("config.json", {"model_type": "gpt2", **CODE}),
        ("config.json", {"model_type": "its-own", **CODE}),
        ("config.json", {"text_config": {"model_type": "gpt2", **CODE}}),
        ("config.4.0.0.json", CODE),
        ("tokenizer_config.json", {"auto_map": ["its.Tokenizer", None]}),
        ("tokenizer_config.json", {"auto_map": None}),
        ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "its.Processor"}}),
        ("processor_config.json", {"image_processor": {"auto_map": {}}}),
        ("config.json", {"attn_implementation": "somebody/kernel"}),
        ("config.json", {"_attn_implementation": {"text_config": "somebody/kernel@main"}}),
    ],
)
def test_a_model_that_brings_code_is_refused(tmp_path, file, facts):
    with pytest.raises(InputError, match="runs no code that comes with a model") as told:
        check_no_code(folder_with(tmp_path / "model", {"config.json": {"model_type": "gpt2"}, file: facts}))
    assert str(tmp_path / "model" / file) in str(told.value)
    assert "\n" not in str(told.value)


def test_the_base_of_an_adapter_is_looked_at_too(tmp_path):
    base = folder_with(tmp_path / "base", {"config.json": CODE})
    adapter = folder_with(tmp_path / "adapter", {"adapter_config.json": {"base_model_name_or_path": str(base)}})
    with pytest.raises(InputError, match=r"base/config\.json names code"):
        check_no_code(adapter)
    own = {"adapter_config.json": {"base_model_name_or_path": str(tmp_path / "own")}}
    check_no_code(folder_with(tmp_path / "own", own))


@pytest.mark.parametrize("text", ["{", "\xff", "[" * 100_000])
def test_a_configuration_that_is_not_json_is_refused(tmp_path, text):
    folder = folder_with(tmp_path / "model", {})
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"config\.json is not JSON"):
        check_no_code(folder)


def test_models_without_code_pass(tmp_path):
    facts = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "attn_implementation": "eager"}
    files = {"config.json": facts, "tokenizer_config.json": {}, "map.json": CODE}
    check_no_code(folder_with(tmp_path / "model", files))
    check_no_code(tmp_path / "absent")
    check_no_code("user/absent")
    check_no_code("not a name at all")


def test_a_model_of_the_hub_is_looked_at(tmp_path, monkeypatch):
    from transformers.utils import hub

    folder = folder_with(tmp_path / "cache", {"config.json": {"model_type": "gpt2"}, "tokenizer_config.json": CODE})
    monkeypatch.setattr(
        hub, "cached_file", lambda name, file, **_: str(folder / file) if (folder / file).exists() else None
    )
    with pytest.raises(InputError, match=r"user/model/tokenizer_config\.json names code"):
        check_no_code("user/model")


def opened(door, folder):
    from attar.classifiers.teacher import classifier_named
    from attar.images.labels.captions import clip_named
    from attar.images.networks.pretrained import Classifier
    from attar.language.models import causal_model, tokenizer_of

    doors = {
        "causal model": lambda: causal_model(folder),
        "tokenizer": lambda: tokenizer_of(folder),
        "CLIP": lambda: clip_named(str(folder)),
        "teacher": lambda: classifier_named(str(folder)),
        "network": lambda: Classifier(str(folder), (3, 32, 32), 10, pretrained=True),
        "fresh network": lambda: Classifier(str(folder), (3, 32, 32), 10, pretrained=False),
    }
    return doors[door]()


@pytest.mark.parametrize("door", ["causal model", "tokenizer", "CLIP", "teacher", "network", "fresh network"])
def test_no_door_asks_or_runs_code(tmp_path, monkeypatch, door):
    ran = tmp_path / "ran"
    folder = folder_with(
        tmp_path / "model",
        {
            "config.json": {"model_type": "its-own", "architectures": ["ItsForImageClassification"], **CODE},
            "tokenizer_config.json": CODE,
            "its.py": f"open({str(ran)!r}, 'w')",
            "model.safetensors": "",
        },
    )
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    with pytest.raises(InputError, match="names code of its own"):
        opened(door, folder)
    assert not ran.exists()
