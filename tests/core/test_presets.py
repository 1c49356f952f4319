import json
from typing import get_args, get_type_hints

import pytest

from attar.core import presets
from attar.core.errors import InputError
from attar.core.presets import SOURCES, VARIANTS, has_table, published, table_of
from attar.core.registry import METHODS

PUBLISHED = [name for name, entry in METHODS.items() if entry.presets and entry.presets[0].startswith("--paper")]
NONE_IS_A_VALUE = {
    "grow_from": "starts do not grow",
    "gate": "no gate",
    "source_prompt": "the user's own",
    "target_prompt": "the user's own",
    "average": "no average",
    "threshold": "the map's mean, as in the paper",
    "experts.cut_epoch": "no cut",
    "experts.folder": "trained",
    "observer.folder": "trained",
    "teacher.folder": "trained",
    "observer.architecture.width": "its only width",
    "observer.architecture.depth": "its only depth",
    "teacher.architecture.width": "its only width",
    "teacher.architecture.depth": "its only depth",
    "observer.protocol.cut_momentum": "as before",
    "teacher.protocol.cut_momentum": "as before",
    "clusters": "images are no clusters",
    "blocks_at_once": "of the machine",
    "adapted": "all layers",
    "ratio": "a number is given",
    "clip_norm": "no limit",
    "slope_limit": "no limit",
    "hinge": "no hinge",
    "encoder": "theirs is not among attar's networks",
    "components": "of the labels",
    "mean_size": "of the encoder",
    "smallest_crop": "no crops",
    "fusion_channels": "those of the networks",
    "group": "the classes",
    "rows": "as many as there are",
    "average_half_life": "the decay is given",
    "churn.churn_max": "no limit",
    "half": "by the hardware: the released runs are in float16",
    "levels.sigma_min": "that of the teacher",
    "levels.sigma_max": "that of the teacher",
    "solver": "by the machine",
    "units.unit_distance": "by the cooling time",
    "unprivileged": "the group with the lower rate",
}
"""Settings of published cells that may be None, and what that says. All others would be filled in from the data."""


def cells():
    for name in PUBLISHED:
        method = METHODS[name].load()
        for variant in table_of(method).variants or (None,):
            yield from ((name, method, variant, cell) for cell in table_of(method, variant).cells)


def made(method, variant, cell):
    size = int(cell.size) if cell.size.isdigit() else cell.size or None
    return published(method, cell.data, size, variant=variant)


def nothing(settings, path=""):
    """Settings that are None or auto, by their dotted names."""
    for name, value in vars(settings).items():
        if hasattr(value, "__dataclass_fields__"):
            yield from nothing(value, f"{path}{name}.")
        elif value is None or value == "auto":
            yield f"{path}{name}"


def test_every_method_with_published_settings_has_a_table():
    assert {"dm", "gstam", "kd", "language"} <= set(PUBLISHED)
    assert all(has_table(METHODS[name].load()) for name in PUBLISHED)
    with pytest.raises(InputError, match="random has no table of published settings"):
        table_of(METHODS["random"].load())


def test_every_cell_has_a_source_and_makes_settings():
    found = list(cells())
    assert len(found) > 500
    for name, method, variant, cell in found:
        assert cell.source in SOURCES, (name, cell.name)
        assert name == "language" or made(method, variant, cell).name == name
        assert cell.note == cell.note.strip() and (not cell.note or cell.note.endswith((".", ".)"))), cell.note


def test_no_value_of_a_cell_comes_from_a_default_that_is_filled_in():
    open_ = {}
    for name, method, variant, cell in cells():
        if name == "language":
            continue
        for setting in nothing(made(method, variant, cell)):
            if setting not in NONE_IS_A_VALUE:
                open_.setdefault(f"{name}: {setting}", []).append(cell.name)
    assert not open_


def test_variants_are_those_of_the_signature():
    for name in PUBLISHED:
        method = METHODS[name].load()
        variants = table_of(method).variants
        assert variants in ((), VARIANTS)
        if variants:
            hints = get_type_hints(method.paper)
            assert get_args(hints["variant"]) == VARIANTS


class Method:
    def __init__(self, **values):
        self.values = values

    from_json = classmethod(lambda cls, values: cls(**values))
    name, kind = "method", "images"


@pytest.fixture
def table(monkeypatch):
    """A function that makes a table of one method from its facts."""

    def make(facts, **file):
        home = json.dumps([facts, file])  # a name of its own, because tables are remembered by it
        monkeypatch.setattr(presets, "kind_named", lambda name: type("Kind", (), {"home": home}))
        content = {"methods": {"method": {"title": "M", "source": "paper", **facts}}, **file}
        monkeypatch.setattr(presets, "beside", lambda where, name: content)
        return Method

    return make


def test_layers_lie_on_one_another(table):
    method = table(
        {
            "size": "ipc",
            "all": {"a": 1, "b": 1, "like": "more"},
            "data": {"x": {"b": 2}},
            "columns": ["c", "deep.d"],
            "cells": {"x": {"1": [3, 4], "10": [5, 6, {"a": 7}]}, "y": [1]},
        },
        shared={"more": {"e": 8, "deep": {"f": 9}}},
    )
    assert published(method, "x", 1).values == {"a": 1, "b": 2, "e": 8, "deep": {"f": 9, "d": 4}, "c": 3, "ipc": 1}
    assert published(method, "X", 10).values["a"] == 7
    assert published(method, "y", 1).values == {"a": 1, "b": 1, "e": 8, "deep": {"f": 9}, "ipc": 1}


def test_variants_lie_on_top_and_may_have_other_cells(table):
    method = table(
        {
            "size": "ipc",
            "all": {"a": 1},
            "columns": ["b"],
            "cells": {"x": {"1": [1], "10": [2]}},
            "apart": {"*-10": {"note": "Ten."}, "x-1": {"source": "attar"}},
            "variants": {
                "paper": {"all": {"c": 1}},
                "released": {"source": "released", "columns": ["b"], "cells": {"x": {"1": [9]}}},
            },
        }
    )
    assert published(method, "x", 10).values == {"a": 1, "b": 2, "c": 1, "ipc": 10}
    assert published(method, "x", 1, variant="released").values == {"a": 1, "b": 9, "ipc": 1}
    assert [(cell.name, cell.source, cell.note) for cell in table_of(method).cells] == [
        ("x-1", "attar", ""),
        ("x-10", "paper", "Ten."),
    ]
    with pytest.raises(InputError, match=r"M has no cell x-10\. Cells: x-1\."):
        published(method, "x", 10, variant="released")
    with pytest.raises(InputError, match="unknown variant 'relased'; did you mean 'released'"):
        published(method, "x", 1, variant="relased")


def test_rows_without_a_size_go_by_their_name_or_group(table):
    facts = {"cells": {"whole": {"a": 1}, "some": {"a": 2}}}
    method = table(facts, groups={"some": ["p-q", "r-s"]}, shared={"p-q": {"student": "q"}}, names={"pq": "p-q"})
    assert published(method, "p-q").values == {"student": "q", "a": 2}
    assert published(method, "pq").values == published(method, "p-q").values
    assert published(method, "r-s").values == {"a": 2}
    with pytest.raises(
        InputError, match=r"M has no cell of 'hole'; did you mean 'whole'\? Its cells are of whole, p-q"
    ):
        published(method, "hole")
    with pytest.raises(InputError, match="only one published variant"):
        published(method, "whole", variant="released")
