"""The environment that is declared: bounds and pins, the package page, and the files that other machines read."""

import importlib.util
import re
import sys
import tomllib
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest

from attar.core.registry import METHODS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def module_at(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lowest():
    return module_at(ROOT / "bench" / "lowest.py")


def pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def test_every_package_has_a_lower_bound_and_its_pin_lies_within_its_bounds(lowest):
    packaging = pytest.importorskip("packaging.requirements", reason="packaging is not installed")
    pins = pinned()
    for text in chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        one = packaging.Requirement(text)
        if one.name == "attar":
            assert one.extras <= set(PROJECT["optional-dependencies"])
            continue
        assert any(bound.operator == ">=" for bound in one.specifier), text
        assert one.name not in pins or one.specifier.contains(pins[one.name]), f"{text}, but {pins[one.name]} is pinned"


def test_the_lowest_versions_are_those_of_the_bounds(lowest):
    pins = lowest.pins()
    assert pins["torch"] == "2.7"  # the first with recompile_limit
    assert lowest.pins("2.13.0")["torch"] == "2.13.0"
    assert {"filelock", "transformers", "diffusers", "numba", "pandas"} <= pins.keys()
    for text in PROJECT["dependencies"]:
        name, _, version = re.split("[,<]", text)[0].partition(">=")
        assert lowest._parts(pins[name]) >= lowest._parts(version)
    assert {line.partition("==")[0] for line in lowest.tools()} == set(lowest.TOOLS)


def test_some_methods_of_every_kind_are_run_on_them(lowest):
    from attar.core.kinds import built_in

    assert lowest.ENTRIES.keys() == built_in().keys()
    for kind, names in lowest.ENTRIES.items():
        assert names and {METHODS[name].kind for name in names} == {kind}
    assert all((ROOT / name).is_file() for name in lowest.FILES)
    assert "[dm] or [edf]" in lowest.chosen()


@pytest.fixture(scope="module")
def page():
    """hatch_build.py, without the package that builds."""
    names = ["hatchling", "hatchling.metadata", "hatchling.metadata.plugin", "hatchling.metadata.plugin.interface"]
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setitem(sys.modules, name, ModuleType(name))
        sys.modules[names[-1]].MetadataHookInterface = object
        yield module_at(ROOT / "hatch_build.py")


def targets(text):
    return re.findall(r"\]\(([^)]+)\)", text)


def test_links_of_the_package_page_lead_to_the_repository(page):
    there = page.outside(README, "https://forge.example/team/attar")
    assert len(targets(there)) == len(targets(README))
    assert all(target.startswith("https://forge.example/team/attar/") for target in targets(there))
    (picture,) = re.findall(r"!\[[^\]]*\]\((.+?)\)", there)
    assert picture == "https://forge.example/team/attar/raw/HEAD/docs/demo.svg"
    assert "/tree/HEAD/examples/)" in there and "/blob/HEAD/docs/index.md)" in there


def test_without_an_address_the_package_page_has_no_links(page):
    text = page.outside(README, "")
    assert targets(text) == [] and "![" not in text
    assert "[list of methods]" not in text and "The list of methods has a line and a paper" in text


def test_the_hook_fills_in_what_is_declared_as_dynamic(page):
    hook = page.Page()
    hook.root, hook.config = str(ROOT), {"repository": "https://forge.example/team/attar/"}
    found = {}
    hook.update(found)
    assert found.keys() | {"version"} == set(PROJECT["dynamic"])
    assert found["readme"]["content-type"] == "text/markdown"
    assert found["urls"]["Issues"] == "https://forge.example/team/attar/issues"
    hook.config = {"repository": ""}
    hook.update(found)
    assert found["urls"] == {}


def test_other_machines_run_the_two_commands_of_the_readme():
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    read = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in ROOT.glob(".github/*/*.yml")}
    assert read.keys() == {"test.yml", "release.yml", "fault.yml", "method.yml", "config.yml"}
    steps = read["test.yml"]["jobs"]["test"]["steps"]
    assert any(step.get("run", "").startswith("make test ") for step in steps)
    tried = {f"Programming Language :: Python :: {version}" for version in ("3.11",)}
    assert tried <= set(PROJECT["classifiers"])
    pages = yaml.safe_load((ROOT / ".readthedocs.yaml").read_text(encoding="utf-8"))
    assert pages["build"]["commands"][0].startswith("make docs ")
    docker = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (packages,) = re.findall(r"sudo apt install ([a-z0-9 -]+)`", README)
    assert packages in docker and 'ENTRYPOINT ["make"]' in docker and 'CMD ["demo"]' in docker
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"demo", "test", "lowest", "docs"} <= set(targets)
