"""The front matter of cards: what the hub's library reads of it, and that no text gets out of it."""

import math
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard, metadata_load
from hypothesis import example, given, settings
from hypothesis import strategies as st

import attar
from attar.cli import main
from attar.core import front
from attar.core.card import dataset_header, made, model_header
from attar.core.cell import Cell, Measure
from attar.core.errors import InputError
from attar.core.provenance import Call
from attar.core.score import Score
from attar.core.scores import scores_in

WILD = (
    "---", "a\n---\nb", "a\r\n---\r\n", "...", "x: y", "- {x", "'\"`", "# no", "&a *a", "!!python/object:os", "null",
    "1e3", "\u2028---\u2028", "\x85---", "é 漢 🌹", "no", "2024-01-01", "<script>", "word " * 60 + "--- " * 30,
)  # fmt: skip
TEXTS = st.text(max_size=80) | st.sampled_from(WILD)


def artefact(title="digits, by dm", source="digits", first=(), **call):
    origin = SimpleNamespace(source=source, call=call or None)
    return SimpleNamespace(title=title, origin=origin, first_scores=first)


def cell(**more):
    return Cell.of([[87.0, 89.0]], **{"column": "convnet", "protocol": "quick", **more})


def test_the_hub_reads_scores_with_their_spread():
    further = {"at the last look": Measure.of([[50.0]]), "undefined": Measure(Score(math.nan))}
    text = dataset_header(
        "t", "image-classification", 9, made=artefact(), scores=[cell(further=further)], metric="accuracy"
    )
    results = ModelCard(text).data.eval_results
    assert [(one.metric_type, one.metric_name, one.metric_value) for one in results] == [
        ("accuracy", "accuracy of convnet (%), quick protocol", 88.0),
        ("accuracy_std", "standard deviation of accuracy of convnet (%) over 2 values, quick protocol", math.sqrt(2)),
        ("accuracy_at_the_last_look", "accuracy of convnet, at the last look (%), quick protocol", 50.0),
    ]
    assert {(one.task_type, one.dataset_type, one.dataset_name, one.dataset_split) for one in results} == {
        ("image-classification", "digits", "digits", "test")
    }
    assert not any(one.verified for one in results)
    assert DatasetCard(text).data.to_dict()["model-index"][0]["name"] == "digits, by dm"


def test_a_later_score_takes_the_place_of_the_first_of_its_column():
    first = (Cell(Score(80.0), column="accuracy"), Cell(Score(0.3, "nats", "lower"), column="cross-entropy"))
    text = model_header("t", made=artefact(first=first), scores=[Cell(Score(90.0), column="accuracy")])
    found = {one.metric_type: one.metric_value for one in ModelCard(text).data.eval_results}
    assert found == {"accuracy": 90.0, "cross_entropy": 0.3}


def test_names_on_the_hub_are_data_and_base_models():
    call = {
        "data": "ada/roses:small",
        "task": {"teacher": {"network": ["transformers:ada/large", "convnet"]}, "corpus": "ada/text"},
        "settings": {"lr": 0.1, "loss": "one/two"},
        "hub": ["ada/roses", "ada/large", "ada/text", "one/two"],
    }
    data = ModelCard(model_header("t", made=artefact(**call))).data
    assert data.base_model == "ada/large" and data.get("base_model_relation") is None
    assert data.datasets == ["ada/roses", "ada/text"]
    call["settings"]["student"] = "ada/small"
    call["hub"].append("ada/small")
    data = ModelCard(model_header("t", made=artefact(**call))).data
    assert (data.base_model, data.base_model_relation) == ("ada/small", "finetune")
    data = DatasetCard(dataset_header("t", "graph-ml", 9, made=artefact(**call))).data
    assert data.source_datasets == ["ada/roses", "ada/text"]


def test_a_folder_is_no_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "teacher").mkdir(parents=True)

    def hub(data, **task):
        settings = SimpleNamespace(to_json=lambda: task)
        return Call.of("distill", "images", data, SimpleNamespace(to_json=dict), settings, settings).to_json()

    assert "hub" not in hub("digits", teacher="runs/teacher")
    assert hub("ada/roses", teacher={"network": "transformers:ada/large"})["hub"] == ["ada/roses", "ada/large"]
    assert "hub" not in hub(attar.load("digits"))


def test_a_name_without_a_user_is_one_where_nothing_else_can_be_meant(tmp_path, monkeypatch):
    """A language model is read from a folder or from the hub; elsewhere a bare name is that of a network."""
    language = pytest.importorskip("attar.language", reason="transformers is not installed")
    from attar.language.tasks import Distill, Label

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()

    def models(teacher, student, task=Distill, verb="distill", **more):
        method = language.DistillLanguage.of(student=student) if verb == "distill" else language.StoreAnswers()
        made = task(teacher={"model": teacher, **more}) if task is Label else task.from_names(teacher=teacher, **more)
        call = Call.of(verb, "language", "phrases", SimpleNamespace(to_json=dict), made, method)
        return front.models_on_hub(SimpleNamespace(call=call.to_json()))

    fresh = "gpt2:layers=1,width=16"
    assert models("gpt2-xl", fresh) == (["gpt2-xl"], None)
    assert models("gpt2-xl", "gpt2") == (["gpt2"], "finetune")
    assert models("mine", fresh) == models(None, fresh) == ([], None)
    assert models("mine", "gpt2", module=object()) == ([], None)
    assert models("gpt2-xl", "", task=Label, verb="label") == (["gpt2-xl"], None)
    assert models("gpt2-xl\nlicense: mit", fresh) == ([], None)
    settings = SimpleNamespace(to_json=lambda: {"teacher": {"network": ["resnet56", "transformers:resnet-50"]}})
    call = Call.of(
        "distill", "classifiers", "digits", SimpleNamespace(to_json=dict), settings, SimpleNamespace(to_json=dict)
    )
    assert front.models_on_hub(SimpleNamespace(call=call.to_json())) == (["resnet-50"], None)


def test_a_students_card_names_its_teacher():
    call = {"verb": "distill", "kind": "classifiers", "data": "", "named": False}
    origin = SimpleNamespace(
        call={**call, "task": {"teacher": {"network": "runs/large"}}},
        **{"method": "kd", "settings": {}, "seed": 0, "machine": {}, "fingerprint": "f", "source": "digits"},
    )
    assert "Teacher: runs/large." in made(origin)
    for task, names in (
        ({"teacher": ["a", "b", 3]}, ["a", "b"]),
        ({"teacher": {"model": "large", "precision": "bfloat16"}}, ["large"]),
        ({"server": {"address": "http://localhost:1/v1", "model": "larger"}}, ["larger"]),
        ({"teacher": {"precision": "bfloat16"}}, []),
        ({}, []),
    ):
        assert front.teachers_of(SimpleNamespace(call={"task": task})) == names


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS, TEXTS, TEXTS, st.sampled_from(["", "accuracy"]))
@example("a\n---\nlicense: mit", "\n---\n", "x", "y", "")
def test_no_text_gets_out_of_the_front_matter(title, source, column, note, metric):
    thing = artefact(title, source, data=source, hub=[source, note], task={"teacher": note})
    scores = [cell(column=column, notes=(note,), further={title: Measure.of([[1.0]])})]
    for text, card in (
        (model_header("t", made=thing, scores=scores), ModelCard),
        (dataset_header(title, "graph-ml", 9, made=thing, scores=scores, metric=metric), DatasetCard),
    ):
        assert text.startswith("---\n") and text.endswith("\n---")
        inside = text[4:-4]
        assert "\n---" not in inside and "\r" not in inside
        facts = yaml.safe_load(inside)
        assert "license" not in facts
        found = card(f"{text}\n# title\n")
        assert found.data.to_dict()["model-index" if card is DatasetCard else "tags"] is not None
        assert found.text.strip() == "# title"
        (entry,) = facts["model-index"]
        assert entry["name"] == front.clean(title)
        for result in entry["results"]:
            assert result["dataset"]["name"] == front.clean(source)
            assert all(isinstance(metric["value"], float) for metric in result["metrics"])


@settings(deadline=None, max_examples=60)
@given(TEXTS)
def test_a_licence_on_a_card_is_kept_as_it_is_or_not_at_all(text):
    header = model_header("t")
    facts = yaml.safe_load(front.with_terms(header, {"license": front.clean(text)})[4:-4])
    assert facts == {"license": front.clean(text), **yaml.safe_load(header[4:-4])}


def test_attar_invents_no_licence_and_says_where_one_goes():
    text = model_header("t")
    assert text.splitlines()[1] == front.NO_TERMS and "license" not in yaml.safe_load(text[4:-4])


def test_a_licence_that_a_person_has_written_stays(tmp_path, engine):
    small = attar.condense("digits", attar.Random(ipc=1), out=tmp_path, engine=engine)
    path = tmp_path / "README.md"
    assert front.NO_TERMS in path.read_text(encoding="utf-8")
    given = "license: other\nlicense_name: roses\nlicense_link: https://roses.example"
    path.write_text(path.read_text(encoding="utf-8").replace(front.NO_TERMS, given), encoding="utf-8")
    small.remember([cell()])
    data = metadata_load(path)
    assert [data[name] for name in front.TERMS] == ["other", "roses", "https://roses.example"]
    assert ModelCard.load(path).data.eval_results[0].metric_value == 88.0
    small.write_card(tmp_path, "CC-BY-4.0")
    assert metadata_load(path)["license"] == "cc-by-4.0" and "license_name" not in metadata_load(path)


@pytest.mark.parametrize("text", ["", "---\nlicense: [mit]\n---\n", "---\n: :\n- [\n---\n", "---\n3\n---\n", "no head"])
def test_a_card_without_a_readable_licence_has_none(text, tmp_path):
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert front.terms_in(tmp_path / "README.md") == {}
    (tmp_path / "README.md").write_bytes(b"---\nlicense: \xff\n---\n")
    assert front.terms_in(tmp_path / "README.md") == {} == front.terms_in(tmp_path)


@pytest.mark.parametrize("name", ["", "a b", "mit\n---", "x" * 99, "../x"])
def test_other_texts_are_no_licence(name):
    with pytest.raises(
        InputError, match=r"is not the name of a licence\. Give the hub's, such as cc-by-4\.0 or mit\.$"
    ):
        front.check_licence(name)


def test_push_gives_the_card_a_licence(tmp_path, engine, monkeypatch, capsys):
    attar.condense("digits", attar.Random(ipc=1), out=tmp_path, engine=engine)
    monkeypatch.setattr("attar.core.hub.push", lambda *given, **how: "there")
    main(["push", str(tmp_path), "ada/small", "--license", "cc-by-4.0"])
    assert capsys.readouterr().out.strip() == "there"
    assert metadata_load(tmp_path / "README.md")["license"] == "cc-by-4.0"
    with pytest.raises(SystemExit) as stop:
        main(["push", str(tmp_path), "ada/small", "--license", "my own"])
    assert stop.value.code == 2


def test_evaluating_later_updates_what_the_hub_reads(tmp_path, engine, capsys):
    attar.condense("digits", attar.Random(ipc=1), out=tmp_path, engine=engine)
    assert ModelCard.load(tmp_path / "README.md").data.eval_results is None
    words = "--networks mlp:width=4 --repeats 2 --protocol quick --ceiling skip --beside skip --quiet"
    main(["evaluate", str(tmp_path), *words.split()])
    score, spread = ModelCard.load(tmp_path / "README.md").data.eval_results
    (kept,) = scores_in(tmp_path)
    assert (score.metric_value, spread.metric_value) == (kept.score.value, kept.score.spread)
    assert score.metric_type == "accuracy" and DatasetCard.load(tmp_path / "README.md").data.tags
