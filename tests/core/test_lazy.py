"""Public names stand once, in stubs, and import their module when first used."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import attar
from attar.core.lazy import homes_of, lazily

HOME = Path(attar.__file__).parent
PACKAGES = sorted(".".join(["attar", *stub.parent.relative_to(HOME).parts]) for stub in HOME.rglob("__init__.pyi"))


def test_there_are_packages_with_names():
    assert {"attar", "attar.graphs", "attar.mixtures", "attar.language", "attar.convolution"} <= set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_of_a_stub_is_there(package):
    module = importlib.import_module(package)
    assert module.__all__ == sorted(homes_of(package))
    for name, (home, original) in homes_of(package).items():
        assert getattr(module, name) is getattr(importlib.import_module(home), original)
        assert name in dir(module)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_stub_names_everything_under_its_own_name(package):
    """What a type checker takes for public: `from home import Name as Name`."""
    lines = (HOME.joinpath(*package.split(".")[1:]) / "__init__.pyi").read_text(encoding="utf-8").splitlines()
    for line in lines:
        words = line.split()
        assert words[0] == "from" and words[-3] == words[-1] and words[-2] == "as", line


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_that_is_not_there_is_missing(package):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        importlib.import_module(package).nonsense  # noqa: B018


def test_packages_are_imported_without_torch():
    imports = "; ".join(f"import {package}" for package in PACKAGES)
    program = f"import sys; {imports}; attar.__version__, attar.InputError; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_a_name_may_differ_from_that_in_its_module(tmp_path, monkeypatch):
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "some_package" / "__init__.pyi").write_text(
        "from math import tau as circle, pi as pi\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("some_package")
    get, names, public = lazily("some_package")
    assert public == ["circle", "pi"]
    assert get("circle") == 2 * get("pi")
    assert {"circle", "pi", "__name__"} <= set(names())
    del sys.modules["some_package"]
