"""What is said of how to install an extra: never a name that is not ours."""

import json
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest

import attar
from attar.core import extras
from attar.core.extras import install

WORDS = "in a clone of attar's repository"


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """A function that says what pip has noted of this attar."""
    (tmp_path / "pyproject.toml").touch()

    def note(facts):
        text = facts if facts is None or isinstance(facts, str) else json.dumps(facts)
        monkeypatch.setattr(extras, "distribution", lambda name: SimpleNamespace(read_text=lambda file: text))
        extras._origin.cache_clear()
        return tmp_path

    yield note
    monkeypatch.undo()
    extras._origin.cache_clear()


def test_from_a_clone_it_names_the_clone(installed):
    place = installed(None)
    installed({"url": place.as_uri(), "dir_info": {"editable": True}})
    assert install("tables") == f"pip install -e '{place}[tables]'"
    installed({"url": place.as_uri(), "dir_info": {}})
    assert install("graphs", "ogb") == f"pip install '{place}[graphs]' ogb"


def test_from_a_repository_it_names_the_repository(installed):
    installed({"url": "ssh://host/attar", "vcs_info": {"vcs": "git", "commit_id": "0" * 40}})
    assert install("tables") == "pip install 'attar[tables] @ git+ssh://host/attar'"


@pytest.mark.parametrize("facts", [None, "", "{", "[]", '{"url": "file:///no/such/folder"}', '{"url": 3}', "{}"])
def test_elsewhere_it_says_where_to_be(facts, installed):
    installed(facts)
    assert install("tables") == f"pip install '.[tables]' {WORDS}"


def test_without_an_installation_it_says_so_too(installed, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    installed(None)
    monkeypatch.setattr(extras, "distribution", missing)
    assert install("tables") == f"pip install '.[tables]' {WORDS}"


def test_once_the_name_is_ours_it_is_enough(installed, monkeypatch):
    installed(None)
    monkeypatch.setattr(extras, "PUBLISHED", True)
    assert install("tables") == "pip install 'attar[tables]'"


def test_no_message_names_a_package_that_is_not_ours():
    from pathlib import Path

    root = Path(attar.__file__).parent
    naming = [path for path in root.rglob("*.py") if "pip install 'attar" in path.read_text(encoding="utf-8")]
    assert {str(path.relative_to(root)) for path in naming} == set()
