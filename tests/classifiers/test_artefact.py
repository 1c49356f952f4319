import json
from dataclasses import replace

import pytest
import torch
from huggingface_hub import ModelCard
from torch import nn

import attar
from attar.classifiers.artefact import DistilledClassifier
from attar.core import store
from attar.core.errors import InputError


@pytest.fixture(scope="module")
def small(few_digits, engine):
    return attar.distill(few_digits, attar.Alone(student="mlp:width=4", epochs=1), engine=engine)


def test_it_comes_back_as_it_was_saved(small, digits, tmp_path):
    small.save(tmp_path)
    again = DistilledClassifier.load(tmp_path)
    assert (again.origin, again.scores, again.classes) == (small.origin, small.scores, small.classes)
    images = digits.inputs(torch.arange(4))
    assert torch.equal(again.logits(images), small.logits(images))


def test_a_student_of_whitened_images_brings_the_whitening(few_digits, engine, tmp_path):
    whitened = few_digits.whitened()
    made = attar.distill(whitened, attar.Alone(student="mlp:width=4", epochs=1), out=tmp_path, engine=engine)
    again = DistilledClassifier.load(tmp_path)
    pixels = few_digits.test.pixels[torch.arange(4)]
    shown = again.transform.forward(pixels)
    torch.testing.assert_close(shown, whitened.transform.forward(pixels), rtol=0, atol=0)
    assert not torch.allclose(shown, few_digits.transform.forward(pixels))
    assert torch.equal(again.logits(shown), made.logits(shown))
    assert attar.evaluate(again, few_digits).networks[0].score.value == made.scores["student"]
    (tmp_path / "whitening.safetensors").unlink()
    with pytest.raises(InputError, match="is missing"):
        DistilledClassifier.load(tmp_path)


def test_the_card_tells_how_and_where_it_was_made(small, tmp_path):
    small.save(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    data = ModelCard(card).data
    assert (data.library_name, data.pipeline_tag) == ("attar", "image-classification")
    assert data.tags == ["knowledge-distillation", "attar"]
    assert "# A student of digits, by alone" in card
    assert "| epochs | 1 |" in card
    assert f"Data fingerprint: `{small.origin.fingerprint}`" in card


def test_a_damaged_one_is_refused(small, tmp_path):
    with pytest.raises(InputError, match="holds no distilled classifier"):
        DistilledClassifier.load(tmp_path)
    small.save(tmp_path)
    path = tmp_path / "artefact.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    for change, words in (
        ({"kind": "graphs"}, "holds an artefact of kind 'graphs', not 'classifiers'"),
        ({"schema": 9}, "has schema 9, but this attar reads up to 1"),
        ({"classes": []}, "was altered after it was written"),
    ):
        store.write_json(path, facts | change)
        with pytest.raises(InputError, match=words):
            DistilledClassifier.load(tmp_path)


def test_a_digest_that_was_deleted_is_noticed(small, tmp_path):
    small.save(tmp_path)
    facts = json.loads((tmp_path / "artefact.json").read_text(encoding="utf-8"))
    del facts["facts_digest"]
    store.write_json(tmp_path / "artefact.json", facts)
    with pytest.raises(InputError, match="is damaged: it is not an artefact's description"):
        DistilledClassifier.load(tmp_path)


def test_the_first_ones_had_no_digest_which_is_told(small, tmp_path):
    small.save(tmp_path)
    facts = json.loads((tmp_path / "artefact.json").read_text(encoding="utf-8"))
    del facts["facts_digest"], facts["origin"]["call"]
    store.write_json(tmp_path / "artefact.json", facts)
    with pytest.warns(UserWarning, match="is of an early version of attar, which wrote no digest"):
        assert DistilledClassifier.load(tmp_path).origin == replace(small.origin, call=None)


def test_a_module_of_the_callers_own_is_built_by_the_caller(few_digits, engine, tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    own = attar.distill(few_digits, attar.Alone(epochs=1), student=network, engine=engine).save(tmp_path)
    with pytest.raises(InputError, match=r"is a module of its maker's own\. Give build="):
        DistilledClassifier.load(tmp_path)
    build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))  # noqa: E731
    again = DistilledClassifier.load(tmp_path, build=build)
    assert torch.equal(again.network[1].weight, own.network[1].weight)
