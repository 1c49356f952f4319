"""The documentation builds without a warning, has a page for every method, and its code runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import attar
from attar.core.flags import flags_of
from attar.core.kinds import built_in
from attar.core.registry import METHODS

DOCS = Path(__file__).parents[1] / "docs"
README = DOCS.parent / "README.md"
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = (
    *(
        "tutorial",
        "images",
        "data",
        "sharing",
        "distillation",
        "little-data",
        "calibration",
        "tables",
        "language",
        "graphs",
    ),
    *("mixtures", "convolution", "embeddings", "samplers", "notebook", "plasma", "scenes"),
)
CITED = {"cff-version", "message", "type", "title", "authors", "version", "license", "abstract", "keywords"}
"""Keys of CITATION.cff that we use, all of the format's; one of more keys needs a look at the format."""
RUN = [DOCS / f"{page}.md" for page in PAGES]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built pages."""
    pytest.importorskip("sphinx", reason="sphinx is not installed: pip install '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(out / ".tree")]
    done = subprocess.run([*command, str(DOCS), str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def text_of(page):
    return re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))


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
        for line in (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8").splitlines():
            if line.startswith("| `"):
                assert not line.endswith("|  |"), f"{name}: {line}"


def test_links_between_pages_lead_somewhere(site):
    for page in site.rglob("*.html"):
        for target in re.findall(r'href="([^"#:]+\.html)', page.read_text(encoding="utf-8")):
            assert (page.parent / target).resolve().exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs_in_its_order(page, tmp_path, briefly):
    """All Python of a page shares one process, as a reader's session would; commands run between its blocks."""
    script = ["from warm import run as _run"]
    for language, code in BLOCK.findall(page.read_text(encoding="utf-8")):
        script += [code] if language == "python" else [f"_run({line!r})" for line in code.splitlines() if line]
    (tmp_path / "page.py").write_text("\n".join(script), encoding="utf-8")
    briefly(tmp_path / "page.py", tmp_path)


FURTHER = ("calibration", "little-data")
"""Pages of a part of a kind that begin as those of kinds do."""


@pytest.mark.parametrize("page", [*(kind.page or kind.name for kind in built_in().values()), *FURTHER])
def test_a_page_of_a_kind_begins_with_five_lines_to_copy(page):
    """At most two sentences stand above them, and the tests run the page."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    above, _, code = text.partition("\n```")
    language, _, code = code.partition("\n")
    assert language in ("python", "bash") and page in PAGES
    assert len([line for line in code.partition("```")[0].splitlines() if line]) == 5
    words = " ".join(line for line in above.splitlines() if not line.startswith("# "))
    assert "##" not in words and len(re.findall(r"[.!?](?= [A-Z]| *$)", re.sub(r"\(.*?\)|`", "", words))) <= 2


def test_the_readme_and_the_pages_name_only_verbs_that_there_are():
    from attar.commands.verbs import VERBS

    for page in [README, *DOCS.glob("[a-z]*.md")]:
        blocks = "\n".join(
            re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        )
        for verb in re.findall(r"^attar (\w+)", blocks, re.MULTILINE):
            assert verb in VERBS, f"{page.name} names attar {verb}"


def test_the_readme_is_a_first_screen():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    for language, code in BLOCK.findall(README.read_text(encoding="utf-8")):
        assert len([line for line in code.splitlines() if line]) == 6, f"the {language} snippet"
    pictures = re.findall(r"!\[.*?\]\((.+?)\)", README.read_text(encoding="utf-8"))
    assert len(pictures) == 1 and (DOCS.parent / pictures[0]).exists()


@pytest.mark.parametrize("language", ["python", "bash"])
def test_the_snippets_of_the_readme_run_as_typed(language, tmp_path):
    (code,) = (code for name, code in BLOCK.findall(README.read_text(encoding="utf-8")) if name == language)
    typed = {"python": [sys.executable, "-c", code], "bash": ["bash", "-e", "-c", code]}
    places = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(typed[language], cwd=tmp_path, env={**os.environ, **places}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "runs" in {path.name for path in tmp_path.iterdir()} and done.stdout


def test_every_link_of_the_readme_leads_to_a_file():
    for target in re.findall(r"\]\(([^)#]+)", README.read_text(encoding="utf-8")):
        assert (DOCS.parent / target).exists(), target


def test_the_index_links_every_page():
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in DOCS.glob("[a-z]*.md"):
        assert page.stem == "index" or f"({page.name})" in text, page.name


@pytest.mark.parametrize(
    ("page", "kind", "verb"),
    [
        ("embeddings", "embeddings", "train"),
        ("calibration", "classifiers", "calibrate"),
        ("tables", "tables", "condense"),
        ("samplers", "samplers", "train"),
        ("samplers", "samplers", "distill"),
    ],
)
def test_a_page_says_when_each_method_is_of_use(page, kind, verb):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    names = [name for name, entry in METHODS.items() if (entry.kind, entry.verb) == (kind, verb)]
    assert [name for name in names if f"(methods/{name}.md)" not in text] == []


def test_the_page_of_little_data_names_every_loss():
    from typing import get_args

    from attar.core.losses import LossName

    text = (DOCS / "little-data.md").read_text(encoding="utf-8")
    assert [name for name in get_args(LossName) if f"`{name}`" not in text] == []


def test_how_to_cite_attar():
    """CITATION.cff has what the Citation File Format 1.2.0 requires, and nothing that it does not know."""
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    facts = yaml.safe_load((DOCS.parent / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(facts) <= CITED
    assert facts["cff-version"] == "1.2.0" and facts["type"] == "software"
    assert facts["version"] == attar.__version__ and facts["license"] == "Apache-2.0"
    assert all(set(author) == {"name"} for author in facts["authors"])
    assert len(facts["keywords"]) == len(set(facts["keywords"])) > 0
    assert all(isinstance(facts[name], str) and facts[name] for name in ("title", "message", "abstract", "version"))


def test_the_worked_example_keeps_the_promises(digits, engine, tmp_path):
    import importlib.util
    import json

    import torch

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
