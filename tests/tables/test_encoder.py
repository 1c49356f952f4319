"""Classifiers of rows: they keep how rows became numbers, and are measured, calibrated and distilled as rows."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch

import attar
from attar.classifiers.calibration.ts import TemperatureScaling, temperature_of
from attar.classifiers.encoder import Encoder
from attar.classifiers.kd import KD
from attar.classifiers.selection import reserved_rows
from attar.cli import main
from attar.core import store
from attar.core.artefact import write_facts
from attar.core.errors import InputError
from attar.core.registry import class_in
from attar.core.runtime import Engine
from attar.core.scores import scores_in
from attar.tables.classifier import TableClassifier
from attar.tables.data.columns import arrow_of
from attar.tables.data.load import sources_from
from attar.tables.downstream import Answers, measures
from attar.tables.encoder import RowEncoder, RowSource, as_images
from attar.tables.fairness import demographic_parity_difference, equalized_odds_difference
from tables.made import source as loans

ENGINE = Engine(device="cpu", quiet=True)
SMALL = {"network": "mlp:width=16,norm=batch", "epochs": 4, "batch": 50}
HOW = {"label": "paid", "split_seed": 3}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(scope="module")
def file(place):
    """Loans as a file of one's own, which has no split."""
    import pyarrow.csv

    path = place / "loans.csv"
    rows = arrow_of(loans(500, 10).train).drop_columns(["note"])
    pyarrow.csv.write_csv(rows, path)
    return path


@pytest.fixture(scope="module")
def source(file):
    return sources_from(file, **HOW)


@pytest.fixture(scope="module")
def made(source, place):
    """A classifier that reserved a fifth of the rows."""
    return attar.train(source, TableClassifier(**SMALL, reserved=0.2), out=place / "made", seed=2, engine=ENGINE)


@pytest.fixture(scope="module")
def table(source):
    return arrow_of(source.test)


# ------------------------------------------------------------------------------------------- what a folder answers with


def test_a_folder_answers_for_the_original_columns_as_the_network_did(made, source, table):
    opened = attar.open_artefact(made.folder)
    images = as_images(source)
    expected = made.logits(images.test.pixels[torch.arange(len(images.test))]).softmax(dim=1)
    assert 100 * float((expected.argmax(dim=1) == source.test.labels).double().mean()) == made.scores["student"]
    for data in (table, source, source.test, table.drop_columns(["paid"]), table.append_column("more", table["age"])):
        assert torch.equal(opened.predict_proba(data), expected)
    names = np.asarray(made.classes)[expected.argmax(dim=1).numpy()]
    assert (opened.predict(table) == names).all() and set(names) <= {"no", "yes"}
    assert opened.predict_proba(table.slice(0, 0)).shape == (0, 2)


def test_a_dataframe_is_taken_too(made, table):
    pytest.importorskip("pandas")
    frame = table.to_pandas()
    assert torch.equal(made.predict_proba(frame), made.predict_proba(table))
    assert (made.predict(frame) == made.predict(table)).all()


def test_unseen_levels_are_none_and_missing_numbers_are_the_mean(made, table):
    row = table.slice(0, 1)

    def with_(name, value, kind):
        return row.set_column(row.column_names.index(name), name, pa.array([value], kind))

    width = made.encoder.design.features
    unseen = made.encoder.matrix(with_("town", "east", pa.string()))
    missing = made.encoder.matrix(with_("town", None, pa.string()))
    assert torch.equal(unseen, missing)
    assert not unseen[0, [place for place, name in enumerate(width) if name.startswith("town=")]].any()
    age = made.encoder.matrix(with_("age", None, pa.int64()))
    assert float(age[0, width.index("age")]) == 0.0
    assert made.predict_proba(with_("income", None, pa.float64())).isfinite().all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table.drop_columns(["age"]), "has no column 'age'"),
        (
            lambda table: table.set_column(0, "age", pa.array(["old"] * len(table))),
            "'age', which holds no numbers",
        ),
        (lambda table: table.set_column(3, "group", pa.array(["c"] * len(table))), r"\('c'\) in column 'group'"),
        (lambda table: 7, "data is of type int"),
        (lambda table: torch.zeros(3, 2), "data is a tensor of shape"),
    ],
)
def test_other_columns_are_refused_in_one_line(made, table, change, told):
    with pytest.raises(InputError, match=told) as found:
        made.predict_proba(change(table))
    assert "\n" not in str(found.value)


def test_labels_have_the_type_of_their_column():
    rows = pa.table({"x": [float(n % 7) for n in range(60)], "target": [n % 2 for n in range(60)]})
    made = attar.train(sources_from(rows), TableClassifier(**SMALL), engine=ENGINE)
    assert made.predict(rows).dtype == np.int64 and made.encoder.schema.positive == "1"


def test_known_tables_are_prepared_as_in_training():
    there = {"job": "a", "marital": "b", "education": "c", "balance": 1, "housing": "no", "loan": "no"}
    there |= {"contact": "d", "duration": 3, "campaign": 2, "pdays": 1}
    rows = pa.table(
        {**{name: [value] * 60 for name, value in there.items()}, "age": [*range(20, 80)], "y": ["no", "yes"] * 30}
    )
    usual, plain = (sources_from(rows, preparation=how, label="y", sensitive="none") for how in ("usual", "none"))
    assert RowEncoder.fitted(usual).preparation == "usual" and RowEncoder.fitted(plain).preparation == "none"
    assert "duration" not in RowEncoder.fitted(usual).design.features
    assert RowEncoder.fitted(usual).matrix(rows).shape[0] == len(rows)


# ---------------------------------------------------------------------------------------------------------- its folder


def test_it_is_saved_as_it_was_read_and_an_older_folder_still_opens(made, table, tmp_path, source):
    again = attar.open_artefact(made.folder).save(tmp_path / "again")
    for name in ("encoder.safetensors", "artefact.json", "README.md", "student.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (made.folder / name).read_bytes()
    assert again.encoder.schema == source.schema
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    assert (
        "tabular-classification" in card
        and "predict_proba(frame)" in card
        and "image" not in card.split("| setting")[0]
    )
    older = tmp_path / "older"
    shutil.copytree(made.folder, older)
    (older / "encoder.safetensors").unlink()
    facts = {
        k: v for k, v in json.loads((older / "artefact.json").read_text(encoding="utf-8")).items() if k != "encoder"
    }
    kind, schema, _ = (facts.pop(name) for name in ("kind", "schema", "facts_digest"))
    write_facts(older, kind, schema, facts)
    opened = attar.open_artefact(older)
    assert opened.encoder is None and opened.shape == made.shape
    with pytest.raises(InputError, match="give network input"):
        opened.predict_proba(table)
    assert attar.evaluate(opened, source, engine=ENGINE).networks[0].score.value == made.scores["student"]


def test_an_altered_or_foreign_encoder_is_refused(made, tmp_path):
    shutil.copytree(made.folder, tmp_path / "a")
    tensors, plain = store.read_tensors(tmp_path / "a" / "encoder.safetensors")
    store.write_tensors(tmp_path / "a" / "encoder.safetensors", {**tensors, "shift": tensors["shift"] + 1}, plain)
    with pytest.raises(InputError, match="is not the file that"):
        attar.open_artefact(tmp_path / "a")
    for ref in ("os:system", "attar", "attar.tables.sources:Rows", "attar.nowhere:X", "test_encoder:Own"):
        assert class_in(ref, Encoder, "table-classifier", ("train",)) is None
    assert class_in("attar.tables.encoder:RowEncoder", Encoder, "none", ("train",)) is RowEncoder


# --------------------------------------------------------------------------------------------------------- measured


def test_it_is_measured_by_group_beside_trees_and_the_majority(made, source):
    found = attar.evaluate(made, source, engine=ENGINE)
    assert found.columns == ("accuracy", "AUROC", "DPD", "EOD")
    cells = {cell.column: cell for cell in found.networks}
    scores = made.predict_proba(source)[:, 1].double()
    chosen, labels, groups = (scores >= 0.5).double(), source.test.labels, source.test.groups
    assert cells["DPD"].score.value == pytest.approx(100 * demographic_parity_difference(chosen, groups))
    assert cells["EOD"].score.value == pytest.approx(100 * equalized_odds_difference(chosen, labels, groups))
    expected = measures(Answers.of(scores), source.test, 1, float(source.train.labels.double().mean()))
    assert cells["AUROC"].score.value == pytest.approx(100 * float(expected["AUROC"]))
    further = cells["accuracy"].further
    assert {"ECE, 15 bins", "NLL", "EOR", "DPR", "moved by s alone", "consistency"} <= set(further)
    assert "AUC of the second class" not in further
    assert further["DPR"].score.value == pytest.approx(100 * float(expected["DPR"]))
    rivals = [one.label for one in cells["AUROC"].beside]
    assert rivals == [f"gradient-boosted trees, {len(source.train) - 80} rows", "the more frequent label"]
    assert [one.label for one in cells["accuracy"].beside] == rivals[:1]
    assert cells["DPD"].beside[1].score.value == 0.0


def test_a_table_without_a_sensitive_column_has_no_measures_by_group():
    rows = arrow_of(loans(200, 10).train).drop_columns(["group", "note"])
    source = sources_from(rows, sensitive="none", label="paid")
    found = attar.evaluate(attar.train(source, TableClassifier(**SMALL), engine=ENGINE), source, engine=ENGINE)
    assert found.columns == ("accuracy", "AUROC") and "EOR" not in found.networks[0].further


def test_it_is_tested_on_its_own_split_and_told_of_other_rows(made, file, source):
    told = []
    other = sources_from(file, **{**HOW, "split_seed": 0})
    found = attar.evaluate(made, other, engine=ENGINE, say=told.append)
    assert found.networks[0].score.value == made.scores["student"]
    assert any("tested on the split that it was made with" in line for line in told)
    assert isinstance(as_images(other).at(3), RowSource)
    assert as_images(other).at(3).fingerprint == as_images(source).fingerprint
    for setting in ({"shifts": ("rotate",)}, {"beyond": "x"}):
        with pytest.raises(InputError, match="is for images, but loans has rows"):
            attar.evaluate(made, source, engine=ENGINE, **setting)
    with pytest.raises(InputError, match="takes rows of a table, but digits is none"):
        made.seen(attar.load("digits"))


# ------------------------------------------------------------------------------------- calibrated, and as a teacher


def test_the_reserved_rows_calibrate_and_the_result_takes_tables(made, source, table, place):
    scaled = attar.calibrate(source, TemperatureScaling(), classifier=made, out=place / "scaled", engine=ENGINE)
    images = as_images(source)
    rows = reserved_rows(images, 0.2, 2)
    logits = made.logits(images.inputs(rows)).double()
    wanted = temperature_of(logits, images.targets[rows])
    assert float(scaled.calibrator["temperature"]) == pytest.approx(wanted, rel=1e-6)
    assert (scaled.rows["which"], scaled.rows["count"]) == ("reserved", len(rows)) and "80 rows of loans" in str(scaled)
    opened = attar.open_artefact(place / "scaled")
    sharper = made.logits(made.encoder.input_of(table)) / scaled.calibrator["temperature"]
    assert torch.allclose(opened.predict_proba(table), sharper.float().softmax(dim=1), atol=1e-6)
    assert (opened.predict(table) == made.predict(table)).all()
    found = attar.evaluate(opened, source, engine=ENGINE)
    assert found.columns == ("accuracy", "AUROC", "DPD", "EOD")
    assert "tabular-classification" in (place / "scaled" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="ca looks at transformed copies of images, but loans has rows"):
        attar.calibrate(source, attar.CorrectnessAware(), classifier=made, engine=ENGINE)


def test_other_rows_of_the_same_columns_calibrate(made, source):
    other = arrow_of(loans(200, 10, gap=2.0).train).drop_columns(["note"])
    scaled = attar.calibrate(source, TemperatureScaling(), classifier=made, calibration_data=other, engine=ENGINE)
    assert scaled.rows["which"] == "other data" and scaled.rows["count"] in range(158, 163)


def test_a_student_of_rows_sees_them_as_its_teacher_does(made, source, table):
    method = KD(student="mlp:width=4", epochs=2, lr=0.01)
    student = attar.distill(source, method, teacher=made.folder, engine=ENGINE)
    assert student.scores["teacher"] == made.scores["student"]
    assert student.encoder.facts() == made.encoder.facts()
    assert (student.predict(table) == source.test.labels.numpy()).shape == (len(table),)
    with pytest.raises(InputError, match=r"student is convnet:.*, which takes images\. For rows give --student mlp"):
        attar.distill(source, KD(epochs=1), teacher=made.folder, engine=ENGINE)
    with pytest.raises(InputError, match="network is lenet, which takes images"):
        attar.train(source, TableClassifier(**{**SMALL, "network": "lenet"}), engine=ENGINE)


def test_commands_read_as_the_classifier_was_read(file, place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(file, "loans.csv")
    read = ["--data", "loans.csv", "--label", "paid", "--positive", "no", "--split-seed", "5"]
    how = ["--network", "mlp:width=8", "--epochs", "9", "--lr", "0.01", "--reserved", "0.2", "--out", "run"]
    assert not main(["train", "table-classifier", *read, *how])
    assert not main(["calibrate", "ts", "--classifier", "run", "--out", "ts"])
    assert not main(["distill", "kd", "--teacher=run", "--student", "mlp:width=4", "--epochs", "1", "--out", "kd"])
    capsys.readouterr()
    for folder, verb in (("ts", "calibrate"), ("kd", "distill")):
        call = json.loads((tmp_path / folder / "artefact.json").read_text(encoding="utf-8"))["origin"]["call"]
        assert (call["kind"], call["verb"], call["data"]) == ("tables", verb, "loans.csv")
        assert call["reading"] == {"label": "paid", "positive": "no", "split_seed": 5}
        assert not main(["evaluate", folder])
        assert "DPD" in capsys.readouterr().out and "DPD" in {cell.column for cell in scores_in(tmp_path / folder)}
    assert not main(["calibrate", "--settings", "ts", "--out", "again"])
    one, other = ((tmp_path / name / "calibrator.safetensors").read_bytes() for name in ("ts", "again"))
    assert one == other
