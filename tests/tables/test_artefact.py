"""A synthetic table in a folder: the types of the original, further tables, a generator, and damage."""

import dataclasses
import json

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from attar.core.errors import InputError
from attar.tables.artefact import TABLE, WEIGHTS, Generator, Origin, SyntheticTable, drawn
from attar.tables.data.applicants import applicants
from attar.tables.data.columns import arrow_of
from attar.tables.data.load import sources_from
from attar.tables.sources import Rows, Schema


class Bootstrap(Generator):
    """Real rows, drawn with replacement: enough of a generator for these tests."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.schema = rows, rows.schema

    def tensors(self):
        """The rows; a missing number is stored as zero beside a mask."""
        return {"values": self.rows.values.nan_to_num(), "missing": self.rows.values.isnan()}

    def facts(self):
        return {"count": len(self.rows)}

    @classmethod
    def restored(cls, schema, tensors, facts):
        assert facts["count"] == len(tensors["values"])
        return cls(Rows(schema, tensors["values"].masked_fill(tensors["missing"], torch.nan)))

    def sample(self, n, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return self.rows.select(torch.randint(len(self.rows), (n,), generator=generator))


def origin(**more):
    facts = {"source": "applicants", "fingerprint": "f", "method": "own", "settings": {"rows": 5}, "seed": 0}
    return Origin(**facts, machine={"torch": "2"}, full=4000, **more)


@pytest.fixture(scope="module")
def table():
    rows, further = drawn(Bootstrap(applicants().train), rows=60, tables=3, seed=0)
    return SyntheticTable(rows, origin(), scores={"auroc": 0.8}, further=further)


@pytest.fixture(scope="module")
def saved(table, tmp_path_factory):
    return table.save(tmp_path_factory.mktemp("saved"))


def test_it_comes_back_as_it_was(table, saved):
    back = SyntheticTable.load(saved.folder)
    assert back == table and back.schema == table.schema
    assert [len(one) for one in back.tables] == [60, 60, 60]
    for one, other in zip(back.tables, table.tables, strict=True):
        torch.testing.assert_close(one.values, other.values, rtol=0, atol=0, equal_nan=True)


def test_it_has_the_columns_and_types_of_the_original(saved):
    assert [str(kind.type) for kind in saved.to_arrow().schema] == [one.stored for one in saved.schema.columns]
    written = parquet.read_table(saved.folder / TABLE)
    assert written.column_names == saved.to_arrow().column_names
    assert written.column("savings").null_count == saved.to_arrow().column("savings").null_count


def test_datasets_opens_it_with_the_right_types(saved):
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset("parquet", data_files=str(saved.folder / TABLE), split="train")
    types = {name: kind.dtype for name, kind in loaded.features.items()}
    assert types["age"] == "int64" and types["applied"] == "date32" and types["homeowner"] == "bool"
    assert types["savings"] == "float64" and types["channel"] == types["group"] == "string"


def test_it_goes_to_csv_and_is_read_again(saved, tmp_path):
    saved.to_csv(tmp_path / "table.csv")
    source = sources_from(tmp_path / "table.csv", label="approved", positive="yes")
    assert [column.name for column in source.schema.columns] == [column.name for column in saved.schema.columns]
    assert source.schema.sensitive.name == "group" and source.schema.column("applied").dated


def test_its_folder_is_data(saved):
    source = sources_from(saved.folder)
    assert source.schema == saved.schema and len(source.train) + len(source.test) == 60


def test_the_card_says_what_it_is_and_what_it_is_not(saved):
    text = (saved.folder / "README.md").read_text(encoding="utf-8")
    assert "There is no privacy guarantee" in text and "path: table.parquet" in text
    assert "task_categories" in text and "amber, green" in text


def test_what_the_report_shows(saved):
    shown = saved.shown()
    assert shown.count == 60 and shown.share == pytest.approx(1.5) and shown.facts["privacy"] == "no guarantee"
    assert "approved yes in green" in shown.facts and shown.facts["further tables"] == "2"


def test_numbers_are_written_as_the_original_has_them():
    source = applicants()
    values = source.train.values[:4].clone()
    names = [column.name for column in source.schema.columns]
    values[0, names.index("age")] = 30.4
    values[1, names.index("experience")] = 1e12  # more than 32 bits hold
    values[2, names.index("applied")] = 19_800.6
    made = SyntheticTable(Rows(source.schema, values), origin())
    assert made.rows.of("age")[0] == 30 and made.rows.of("experience")[1] == 2**31 - 1
    assert made.to_arrow().column("applied")[2].as_py().isoformat() == "2024-03-19"


def test_values_that_no_column_may_have_are_refused():
    source = applicants()
    values = source.train.values[:4].clone()
    values[2, 0] = torch.inf
    with pytest.raises(InputError, match="row 2 of the synthetic table has inf in column 'age'"):
        SyntheticTable(Rows(source.schema, values), origin())


def test_a_generator_draws_the_same_rows_after_it_was_saved(tmp_path, monkeypatch):
    made = SyntheticTable(applicants().train.select(torch.arange(9)), origin(), generator=Bootstrap(applicants().train))
    made.save(tmp_path)
    with pytest.raises(InputError, match="does not know"):  # a class of nobody's
        SyntheticTable.load(tmp_path)
    monkeypatch.setattr("attar.tables.artefact.generator_class", lambda *given: Bootstrap)
    back = SyntheticTable.load(tmp_path)
    one, other = (table.sample(25, seed=3).values for table in (made, back))
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(back.sample(25, seed=4).of("age"), back.sample(25, seed=3).of("age"))
    with pytest.raises(InputError, match="n is 0"):
        back.sample(0)


def test_without_a_generator_there_are_no_further_rows(saved):
    with pytest.raises(InputError, match="leaves no generator"):
        saved.sample(3)


def test_damage_is_refused_in_one_line(saved, tmp_path):
    def broken(change):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        saved.save(folder)
        change(folder)
        with pytest.raises(InputError) as found:
            SyntheticTable.load(folder)
        assert "\n" not in str(found.value)
        return str(found.value)

    assert "is missing" in broken(lambda folder: (folder / TABLE).unlink())
    assert "was altered" in broken(lambda folder: (folder / TABLE).write_bytes(b"PAR1"))
    assert "is missing" in broken(lambda folder: (folder / "tables" / "0002.parquet").unlink())

    def retold(folder):
        path = folder / "artefact.json"
        path.write_text(path.read_text(encoding="utf-8").replace("4000", "9999"), encoding="utf-8")

    assert "was altered" in broken(retold)


def test_a_description_that_names_another_class_imports_nothing(tmp_path):
    from attar.tables.artefact import generator_class

    for ref in (
        "os:system",
        "attar.tables.sources:Rows",
        "attar",
        "subprocess:Popen",
        "tables.test_artefact:Bootstrap",
    ):
        with pytest.raises(InputError, match="does not know"):
            generator_class(ref, "own", "artefact.json")


def test_to_pandas_keeps_types(saved):
    pandas = pytest.importorskip("pandas")
    frame = saved.to_pandas()
    assert isinstance(frame["channel"].dtype, pandas.CategoricalDtype) and frame["age"].dtype == np.int64
    assert frame["homeowner"].dtype == bool and frame["savings"].isna().any()


def test_schema_of_a_saved_table_is_whole(saved):
    facts = json.loads((saved.folder / "artefact.json").read_text(encoding="utf-8"))
    assert Schema.from_json(facts["table"]) == saved.schema and facts["scores"] == {"auroc": 0.8}
    assert not (saved.folder / WEIGHTS).exists()
    assert dataclasses.replace(saved, folder=None) == saved and isinstance(saved.to_arrow(), pyarrow.Table)


def test_a_synthetic_table_teaches_and_real_rows_test(saved, tmp_path):
    """Real test rows may have levels that the synthetic rows lack; these are a level of their own."""
    real = arrow_of(applicants().test)
    place = real.column_names.index("district")
    parquet.write_table(real.set_column(place, "district", [["abroad", *["hill"] * 1999]]), tmp_path / "test.parquet")
    source = sources_from(saved.folder, test_data=str(tmp_path / "test.parquet"))
    assert (len(source.train), len(source.test), source.split) == (60, 2000, "given")
    assert source.schema.column("district").levels[-1] == "<other>" and source.test.codes("district")[0] == 4
    assert source.train == Rows(source.schema, saved.rows.values)


def test_the_card_tells_what_was_found_when_the_table_was_made(table):
    told = {"AUC(y|z)": 0.51234, "collapsed": "collapsed: the codes no longer tell the label"}
    made = SyntheticTable(table.rows, origin(), scores=told)
    card = made.card([])
    assert "0.5123" in card
    assert "**Note: collapsed: the codes no longer tell the label.**" in card
    assert made.shown().facts["note"] == told["collapsed"] and made.shown().facts["AUC(y|z)"] == "0.5123"
