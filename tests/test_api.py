"""The API reference: every public name stands on one page, and its docstring says what it takes and what it raises."""

import ast
import re
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS / "_ext"))

import api_names  # noqa: E402
import api_pages  # noqa: E402

from attar.core.kinds import built_in  # noqa: E402
from attar.core.lazy import homes_of  # noqa: E402

DOCUMENTED = re.compile(r"^\.\. auto(?:function|class|data):: ([\w.]+)(?:\(\*\*settings\))?$", re.MULTILINE)
FUNCTION = '''
def scaled(values, factor, *, least=0.0):
    """Scale values.

    Args:
        values: Numbers.
        factor: By how much.

    Raises:
        ValueError: A number is infinite.
    """
    if least:
        raise InputError("no")
    raise ValueError("infinite")
'''


def test_every_public_name_stands_on_one_page():
    pages = "\n".join(api_pages.page(kind) for kind in api_pages.TITLES)
    found = DOCUMENTED.findall(pages)
    assert sorted(found) == sorted(api_names.public())
    further = set(DOCUMENTED.findall((DOCS / "api.md").read_text(encoding="utf-8")))
    assert not further & set(found)


def test_every_name_of_every_stub_is_public():
    imports = {name for one in api_names.public().values() for name in one.imports}
    assert imports == {f"{package}.{name}" for package in api_names.packages() for name in homes_of(package)}
    assert "attar.condense" in imports and "attar.samplers.Source" in imports
    assert set(api_pages.TITLES) == {"core", *built_in()}


def test_every_public_name_is_explained():
    assert [line for one in api_names.public().values() for line in api_names.lacking(one)] == []


def test_every_public_name_is_defined_where_it_is_said_to_be():
    for one in api_names.public().values():
        assert one.name in api_names.defined(one.module), one.path


def test_a_name_is_told_with_all_its_imports_and_its_method():
    text = api_pages.entry(api_names.public()["attar.samplers.dmd2.DMD2"])
    assert text.startswith("### DMD2\n\n`attar.DMD2`, `attar.samplers.DMD2` · [dmd2](../methods/dmd2.md)")
    assert "   :no-members:" in text


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("", "", ["it does not explain least", "it raises InputError and does not say so"]),
        ("factor: By how much.", "other: Much.", ["it does not explain factor, least", "it raises InputError"]),
        ("ValueError: A", "A", ["it does not explain least", "it raises InputError", "it raises ValueError"]),
        ("raise InputError", "raise NotImplementedError", ["it does not explain least"]),
        ("def scaled(values, factor, *, least=0.0)", "def scaled(values)", ["it raises InputError"]),
    ],
)
def test_what_a_docstring_lacks_is_found(before, after, told):
    node = ast.parse(FUNCTION.replace(before, after) if before else FUNCTION).body[0]
    text = ast.get_docstring(node)
    found = [*api_names._untold(node, text, "it"), *api_names._silent(node, text, "it")]
    assert len(found) == len(told) and all(line.startswith(start) for line, start in zip(found, told, strict=True))
