"""The examples run, from a user's point of view."""

import os
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(script, tmp_path, briefly):
    assert briefly(script, tmp_path)


@pytest.mark.skipif(bool(os.environ.get("ATTAR_AS_TYPED")), reason="examples run as they are typed")
def test_what_runs_briefly_takes_few_steps(tmp_path, briefly):
    told = "import attar; print(attar.DM(steps=50).steps, attar.Protocol(name='short', epochs=40).epochs)"
    (tmp_path / "told.py").write_text(told, encoding="utf-8")
    assert briefly(tmp_path / "told.py", tmp_path) == "4 2\n"
    (tmp_path / "wrong.py").write_text(
        "import attar; attar.load('digits'); raise ValueError('so it is')", encoding="utf-8"
    )
    with pytest.raises(AssertionError, match="so it is"):
        briefly(tmp_path / "wrong.py", tmp_path)
