"""The documentation builds without a warning, has a page for every method, and its code runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from attar.core.flags import flags_of
from attar.core.registry import METHODS

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = ("tutorial", "data", "sharing", "distillation", "language", "graphs", "mixtures", "convolution")
RUN = [DOCS / f"{page}.md" for page in PAGES]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built pages."""
    pytest.importorskip("sphinx", reason="sphinx is not installed: pip install 'attar[docs]'")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(out / ".tree")]
    done = subprocess.run([*command, str(DOCS), str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def text_of(page):
    return re.sub(r"<[^>]+>", "", page.read_text())


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_has_its_page(name, site):
    entry = METHODS[name]
    page = text_of(site / "methods" / f"{name}.html")
    settings = entry.load()
    assert f"attar {entry.verb} {name}" in page
    for flag in flags_of(settings):
        assert ".".join(flag.path) in page
    if entry.paper:
        assert entry.paper.title in page
    assert entry.verb in ("distill", "train") or (DOCS / "previews" / f"{name}.png").exists(), (
        "run docs/make_previews.py"
    )


def test_every_setting_is_explained(site):
    for name in METHODS:
        for line in (DOCS / "methods" / f"{name}.md").read_text().splitlines():
            if line.startswith("| `"):
                assert not line.endswith("|  |"), f"{name}: {line}"


def test_links_between_pages_lead_somewhere(site):
    for page in site.rglob("*.html"):
        for target in re.findall(r'href="([^"#:]+\.html)', page.read_text()):
            assert (page.parent / target).resolve().exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs_in_its_order(page, tmp_path, briefly):
    """All Python of a page shares one process, as a reader's session would; commands run between its blocks."""
    script = ["from warm import run as _run"]
    for language, code in BLOCK.findall(page.read_text()):
        script += [code] if language == "python" else [f"_run({line!r})" for line in code.splitlines() if line]
    (tmp_path / "page.py").write_text("\n".join(script))
    briefly(tmp_path / "page.py", tmp_path)


def test_the_readme_and_the_pages_name_only_verbs_that_there_are():
    from attar.cli import VERBS

    for page in [DOCS.parent / "README.md", *DOCS.glob("[a-z]*.md")]:
        blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
        for verb in re.findall(r"^attar (\w+)", blocks, re.MULTILINE):
            assert verb in VERBS, f"{page.name} names attar {verb}"


def test_the_worked_example_keeps_the_promises(digits, engine, tmp_path):
    import importlib.util
    import json

    import torch

    import attar

    spec = importlib.util.spec_from_file_location("new_method", DOCS.parent / "examples" / "new_method.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["new_method"] = module
    spec.loader.exec_module(module)
    method = module.MomentMatching(ipc=1, steps=4, real_batch=4, architecture=attar.Architecture(width=8))
    assert type(method).from_json(json.loads(json.dumps(method.to_json()))) == method
    for name in ("one", "two"):
        attar.condense(digits, method, out=tmp_path / name, engine=engine)
    one, two = ((tmp_path / name / "images.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    plain = {"ipc": 1, "steps": 4, "real_batch": 4, "architecture": attar.Architecture(width=8)}
    without = attar.condense(digits, module.MomentMatching(second_weight=0, **plain), engine=engine)
    assert torch.equal(without.images, attar.condense(digits, attar.DM(**plain), engine=engine).images)
