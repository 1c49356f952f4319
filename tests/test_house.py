"""The house rules that a test can see: imports point one way, and every public name is there and documented."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import attar
from attar.core.kinds import built_in

ROOT = Path(attar.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
KINDS = built_in()
LAYERS = {
    "core": set(),
    "verbs": {"core"},
    "bench": {"core", "verbs", *KINDS},
    "reporting": {"core", "bench"},
    "commands": {"core", "verbs", "bench", "reporting"},
    "cli": {"core", "commands"},
    "__main__": {"cli"},
    "__init__": {"core"},
}
"""What each part may import besides itself; a kind says so in its declaration."""
BY_NAME = {"core/kinds.py", "core/lazy.py", "cli.py"}
"""Files that import modules of attar by names that are found at run time."""
NAMES_KINDS = {"core/kinds.py"}
"""Files outside the kinds that name one."""


def part_of(path):
    """The folder below `attar`, or the module in it, that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def allowed(part):
    """What a part may import; of an unknown one nothing is known."""
    if part in KINDS:
        return {"core", part, *KINDS[part].imports}
    return {part, *LAYERS[part]}


def imports(path):
    """Modules of attar that a file imports, wherever in it, by their whole names."""
    package = ["attar", *path.relative_to(ROOT).with_suffix("").parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "attar")
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            if module == "attar":
                yield from (f"attar.{alias.name}" for alias in node.names)
            elif module.startswith("attar."):
                yield module


def named_at_run_time(path):
    """The first arguments of calls that import by name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield node.args[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    part = part_of(path)
    assert part in KINDS or part in LAYERS, f"{part} is neither a kind nor a layer that the house knows"
    assert {name.split(".")[1] for name in imports(path)} <= allowed(part)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_of_attar_are_imported_by_name_in_three_files_only(path):
    if str(path.relative_to(ROOT)) in BY_NAME:
        return
    for name in named_at_run_time(path):
        assert isinstance(name, ast.Constant) and not name.value.startswith("attar"), ast.unparse(name)


def test_every_folder_is_a_kind_or_a_layer():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders - {"core", "commands", "reporting", "bench"} == set(KINDS)


def constants(path):
    """The texts of a file that are values, not docstrings or other prose."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def test_no_file_outside_the_kinds_names_one():
    names = "|".join(name for name in KINDS if name != "images")
    one = re.compile(rf"({names})|attar[./]({names})([.:/].*)?", re.DOTALL)
    outside = [path for path in FILES if part_of(path) not in KINDS and part_of(path) != "bench"]
    naming = {
        str(path.relative_to(ROOT))
        for path in outside
        if any(one.fullmatch(text) for text in [*constants(path), *imports(path)])
    }
    assert naming <= NAMES_KINDS


def test_kinds_import_one_another_in_no_circle():
    done: set[str] = set()
    while len(done) < len(KINDS):
        ready = {name for name, kind in KINDS.items() if set(kind.imports) <= done} - done
        assert ready, f"{set(KINDS) - done} import one another"
        done |= ready


@pytest.mark.parametrize(
    "name", sorted(n for n in dir(attar) if n[0] != "_" and not inspect.ismodule(getattr(attar, n)))
)
def test_public_names_are_documented(name):
    assert inspect.getdoc(getattr(attar, name))


def test_the_page_of_the_house_has_every_file():
    page = (ROOT.parents[1] / "docs" / "house.md").read_text(encoding="utf-8")
    files = [path for path in ROOT.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    missing = [path for path in files if path.name != "__init__.py" and f"| `{path.name}` |" not in page]
    assert not missing, "run docs/write_figures.py"


def opened_as_text(path):
    """The calls that read or write text, and whether they name an encoding; a mode with "b" is not text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        named = any(keyword.arg == "encoding" for keyword in node.keywords)
        own = ast.unparse(node).startswith(("store.", "write_text(", "distribution("))
        if name in ("read_text", "write_text") and not own:
            yield node, named
        if name == "open":
            given = node.args if isinstance(node.func, ast.Attribute) else node.args[1:]
            mode = given[0] if given else ast.Constant("r")
            if isinstance(mode, ast.Constant) and re.fullmatch("[rwax+t]+", str(mode.value)):
                yield node, named


OUTSIDE = [path for folder in ("bench", "docs", "examples") for path in (ROOT.parents[1] / folder).rglob("*.py")]


@pytest.mark.parametrize("path", [*FILES, *OUTSIDE], ids=lambda path: str(path.relative_to(ROOT.parents[1])))
def test_text_is_read_and_written_in_utf_8_on_every_system(path):
    unnamed = [f"line {node.lineno}: {ast.unparse(node)}" for node, named in opened_as_text(path) if not named]
    assert unnamed == []
