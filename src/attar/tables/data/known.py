"""Tables that are known by their columns: Adult, COMPAS, German credit, bank marketing, law school, student grades.

Each is prepared as the literature on fairness does it, and a note says how. Which columns are the label and sensitive
can still be chosen.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from attar.core.errors import InputError
from attar.images.data.arrow import Table

ADULT = (
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
)
GERMAN = (
    "status",
    "months",
    "credit_history",
    "purpose",
    "credit_amount",
    "savings",
    "employment",
    "rate",
    "personal_status",
    "debtors",
    "residence",
    "property",
    "age",
    "other_plans",
    "housing",
    "credits",
    "job",
    "liable",
    "telephone",
    "foreign_worker",
    "credit",
)
RAW = {
    "adult": (ADULT, re.compile(r"\d+, [\w?-]+, \d+, [\w-]+, \d+, .*[<>]=?50K\.?")),
    "german": (GERMAN, re.compile(r"A1\d \d+ A3\d A4\d+ \d+ A6\d A7\d \d A9\d .*[12]")),
}
"""Files without a line of names: the names of their columns, and the form of a line."""
PROPUBLICA = 30
"""Most days between arrest and screening in ProPublica's filter."""


@dataclass(frozen=True)
class Known:
    """A known table."""

    name: str
    has: tuple[str, ...]
    """Columns by which it is known, in small letters with hyphens."""
    label: str
    positive: str
    sensitive: str
    ignored: tuple[str, ...] = ()
    prepare: Callable[[Table], Table] = lambda table: table
    note: str = ""


def raw_table(text: str, name: str) -> Table | None:
    """The rows of a known file without a line of names; None if it is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("|")]
    found = next((names for names, form in RAW.values() if lines and form.fullmatch(lines[0])), None)
    if found is None:
        return None
    cells = [line.split(", ") if ", " in line else line.split() for line in lines]
    wrong = next((row for row, one in enumerate(cells) if len(one) != len(found)), None)
    if wrong is not None:
        raise InputError(f"row {wrong} of {name} has {len(cells[wrong])} values; the first has {len(found)}.")
    import pyarrow

    columns = {column: _typed(list(values)) for column, values in zip(found, zip(*cells, strict=True), strict=True)}
    return Table(name, pyarrow.table(columns), count=len(cells))


def _typed(values: list[str]) -> Any:
    """Whole numbers if all are, otherwise text."""
    import pyarrow

    whole = all(value.lstrip("-").isdigit() for value in values)
    return pyarrow.array([int(value) for value in values] if whole else values)


def recognised(table: Table) -> Known | None:
    """What is known of a table with these columns; its names are those of the table."""
    there = {_normal(name): name for name in table.there}
    found = next((one for one in KNOWN if set(one.has) <= there.keys()), None)
    if found is None:
        return None
    label = next((name for name in (_normal(found.label), "income", "class", "target", "label") if name in there), None)
    ignored = tuple(there[_normal(name)] for name in found.ignored if _normal(name) in there)
    return replace(found, ignored=ignored, label=there[label] if label else found.label)


def _normal(name: str) -> str:
    return re.sub(r"[ ._]", "-", name.strip().lower())


def _with(table: Table, **columns: Any) -> Table:
    """The table with some columns replaced, in their places."""
    whole = table.columns
    for name, values in columns.items():
        whole = whole.set_column(whole.column_names.index(name), name, values)
    return replace(table, columns=whole)


def _trimmed(table: Table) -> Table:
    """Text without blanks around it and without the dot that ends the labels of Adult's test file."""
    import pyarrow.compute as pc
    from pyarrow import types

    text = [field.name for field in table.columns.schema if types.is_string(field.type)]
    columns = {name: pc.utf8_trim_whitespace(table.columns.column(name)) for name in text}
    return _with(table, **{name: pc.utf8_rtrim(column, ".") for name, column in columns.items()})


def _propublica(table: Table) -> Table:
    """The rows of ProPublica's analysis."""
    import pyarrow.compute as pc

    days, again = table.columns.column("days_b_screening_arrest"), table.columns.column("is_recid")
    kept = pc.and_(pc.less_equal(pc.abs(days), PROPUBLICA), pc.not_equal(again, -1))
    return table.rows([row for row, one in enumerate(kept.to_pylist()) if one])


def _german(table: Table) -> Table:
    """The sex instead of marital status with sex, and the label in words."""
    import pyarrow.compute as pc

    women = pc.is_in(table.columns.column("personal_status"), _texts(["A92", "A95"]))
    good = pc.equal(table.columns.column("credit"), 1)
    columns = {"personal_status": pc.if_else(women, "female", "male"), "credit": pc.if_else(good, "good", "bad")}
    named = _with(table, **columns)
    names = ["sex" if name == "personal_status" else name for name in named.there]
    return replace(named, columns=named.columns.rename_columns(names))


def _texts(values: list[str]) -> Any:
    import pyarrow

    return pyarrow.array(values)


KNOWN = (
    Known(
        "adult",
        tuple(name for name in ADULT if name not in ("income", "education-num")),
        label="income",
        positive=">50K",
        sensitive="sex",
        ignored=("fnlwgt",),
        prepare=_trimmed,
        note="Adult: the weights fnlwgt are left out",
    ),
    Known(
        "compas",
        ("c-charge-degree", "days-b-screening-arrest", "is-recid", "score-text", "decile-score", "two-year-recid"),
        label="two_year_recid",
        positive="0",
        sensitive="race=African-American",
        ignored=("days_b_screening_arrest", "is_recid", "score_text", "decile_score", "age_cat"),
        prepare=_propublica,
        note="COMPAS: ProPublica's filter (screened within 30 days of the arrest, recidivism known); its own scores "
        "and what tells the label are left out",
    ),
    Known(
        "compas",
        ("two-yr-recidivism", "number-of-priors", "score-factor", "african-american", "misdemeanor"),
        label="Two_yr_Recidivism",
        positive="0",
        sensitive="African_American",
        ignored=("score_factor",),
        note="COMPAS after ProPublica's filter: COMPAS's own score is left out",
    ),
    Known(
        "german",
        tuple(_normal(name) for name in GERMAN),
        label="credit",
        positive="good",
        sensitive="sex",
        prepare=_german,
        note="German credit: personal_status is replaced by sex; another sensitive column is 'age<30'",
    ),
    Known(
        "bank",
        ("job", "marital", "education", "balance", "housing", "loan", "contact", "duration", "campaign", "pdays", "y"),
        label="y",
        positive="yes",
        sensitive="age<30",
        ignored=("duration",),
        note="bank marketing: duration, which is known only when the outcome is, is left out",
    ),
    Known(
        "law",
        ("lsat", "ugpa", "zfya", "race-white", "sex-1", "sex-2", "pf-0", "pf-1"),
        label="PF_1",
        positive="1",
        sensitive="Race_White",
        ignored=("PF_0", "Sex_2"),
        note="law school: of PF and Sex one column each is kept",
    ),
    Known(
        "student",
        ("school", "sex", "famsize", "mjob", "fjob", "studytime", "g1", "g2", "probability"),
        label="Probability<10",
        positive="false",
        sensitive="sex",
        note="student grades: a final grade below 10 is a failure",
    ),
)
