"""The house rules that a test can see: imports point one way, and every public name is there and documented."""

import ast
import inspect
from pathlib import Path

import pytest

import attar

ROOT = Path(attar.__file__).parent
ALLOWED = {
    "core": {"core"},
    "images": {"core", "images"},
    "graphs": {"core", "graphs"},
    "language": {"core", "language"},
    "mixtures": {"core", "mixtures"},
    "convolution": {"core", "images", "convolution"},  # a network's layers are measured on images
    "classifiers": {"core", "images", "classifiers"},
    "verbs": {"core", "images", "classifiers"},  # other kinds by name, when they are named
    "bench": {"core", "images", "verbs", "bench"},
    "reporting": {"core", "images", "bench", "reporting"},
    "commands": {"core", "images", "graphs", "language", "verbs", "bench", "reporting", "commands"},
    "cli": {"core"},
}


def imports(path):
    """The parts of attar that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        yield from (name.split(".")[1] for name in names if name.startswith("attar."))


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if part in ALLOWED:
        assert set(imports(path)) <= ALLOWED[part]


@pytest.mark.parametrize(
    "name", sorted(n for n in dir(attar) if n[0] != "_" and not inspect.ismodule(getattr(attar, n)))
)
def test_public_names_are_documented(name):
    assert inspect.getdoc(getattr(attar, name))


def test_the_readme_draws_every_folder_and_file():
    readme = (ROOT.parents[1] / "README.md").read_text()
    missing = [path.name for path in ROOT.rglob("*.py") if path.name not in readme and path.name[0] != "_"]
    assert not missing
