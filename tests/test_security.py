"""Nothing that comes from elsewhere runs: pickles, code of models, scripts in names; and damage is noticed."""

import io
import json
import os
import pickle
import re
import shlex
import stat
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import attar
from attar.cli import main
from attar.core import store
from attar.core.artefact import write_facts
from attar.core.errors import InputError
from attar.core.front import clean
from attar.core.kinds import kind_in
from attar.reporting.collect import collect
from attar.reporting.page import page

QUIET = ["--device", "cpu", "--quiet"]
NETWORK = "convnet:norm=batch,width=4,depth=1"
LANGUAGE = "distill language --student gpt2:layers=1,width=16,heads=2 --steps 1 --answers 0 --max-length 64"
MAKING = {
    "images": "condense random --ipc 1",
    "graphs": "condense graph-random --gpc 1",
    "mixtures": "compress runnalls --n-components 4",
    "convolution": "compress conv --epochs 1 --images 8 --methods direct "
    "--network convnet:norm=none,pooling=none,width=4,depth=1",
    "classifiers": f"distill kd --student {NETWORK} --epochs 1 --teacher {NETWORK}",
    "language": f"{LANGUAGE} --divergence none",
}
"""The quickest command of each kind."""


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def trace(tmp_path, monkeypatch):
    """A folder that is there as soon as code of a file has run. Nobody is asked whether it may."""
    monkeypatch.setattr("builtins.input", lambda *words: pytest.fail("somebody was asked"))
    trace = tmp_path / "ran"
    yield trace
    assert not trace.exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An artefact of each kind, made by its command once."""
    found = {}

    def of(kind):
        if kind not in found:
            found[kind] = tmp_path_factory.mktemp(kind) / "run"
            main([*shlex.split(MAKING[kind]), "--out", str(found[kind]), *QUIET])
        return found[kind]

    return of


def copied(source, target):
    for path in source.rglob("*"):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    return target


def refused(capsys, *words):
    """The one line of a refusal."""
    with pytest.raises(SystemExit) as stop:
        main([*map(str, words), *QUIET])
    error = capsys.readouterr().err
    assert stop.value.code == 2, error
    assert error.startswith("attar: ") and error.count("\n") == 1
    return error


# Pickles.


def torch_file(code, file):
    torch.save({"images": torch.zeros(2, 1, 8, 8), "labels": code}, file)


def old_torch_file(code, file):
    torch.save([torch.zeros(2, 1, 8, 8), code], file, _use_new_zipfile_serialization=False)


def plain_pickle(code, file):
    file.write_bytes(pickle.dumps([code]))


def array_of_objects(code, file):
    np.save(file, np.array([code], dtype=object), allow_pickle=True)


def arrays_of_objects(code, file):
    np.savez(file, images=np.zeros((2, 1, 8, 8), np.uint8), labels=np.array([code], dtype=object))


def zip_of_a_pickle(code, file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(code))
        archive.writestr("archive/version", "3\n")
    assert file.exists()


FORMS = (torch_file, old_torch_file, plain_pickle, array_of_objects, arrays_of_objects, zip_of_a_pickle)


def saved(form, code, file):
    """A file with code, under any name."""
    whole = file.with_name(f"whole{'.npz' if form is arrays_of_objects else '.npy'}")
    form(code, whole)
    return whole.rename(file)


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".pkl", ".npy", ".npz", ".safetensors", ""])
@pytest.mark.parametrize("form", FORMS)
def test_no_import_of_a_set_runs_code(form, ending, trace, tmp_path, capsys):
    file = saved(form, Code(trace), tmp_path / f"set{ending}")
    refused(capsys, "import", file, "--data", "digits", "--out", tmp_path / "out")
    assert not (tmp_path / "out" / "artefact.json").exists()


@pytest.mark.parametrize("ending", [".npy", ".npz", ".safetensors", ".json", ".csv", ".parquet", ".jsonl", ".pt"])
@pytest.mark.parametrize("form", FORMS)
def test_no_data_run_code(form, ending, trace, tmp_path, capsys):
    file = saved(form, Code(trace), tmp_path / f"data{ending}")
    for words in ("data", "condense random --data", "compress runnalls --data", f"{LANGUAGE} --data"):
        refused(capsys, *shlex.split(words), file, *(["--out", tmp_path / "out"] if "--data" in words else []))


@pytest.mark.parametrize("kind", MAKING)
def test_no_file_of_an_artefact_runs_code(kind, made, trace, tmp_path):
    for number, path in enumerate(sorted(made(kind).glob("*.safetensors"))):
        folder = copied(made(kind), tmp_path / str(number))
        for form in FORMS:
            saved(form, Code(trace), folder / path.name)
            with pytest.raises(InputError):
                attar.open_artefact(folder)
    assert number >= 0


@pytest.mark.parametrize("ending", ["safetensors", "bin", "pt"])
@pytest.mark.parametrize("name", ["network", "model", "pytorch_model", "student"])
@pytest.mark.parametrize("form", FORMS[:3])
def test_no_network_runs_code(form, name, ending, trace, tmp_path, capsys):
    folder = tmp_path / "teacher"
    folder.mkdir()
    saved(form, Code(trace), folder / f"{name}.{ending}")
    (folder / "config.json").write_text(
        json.dumps({"model_type": "vit", "architectures": ["ViTForImageClassification"]}), encoding="utf-8"
    )
    out = ["--out", tmp_path / "out"]
    for teacher in (folder, f"transformers:{folder}"):
        refused(capsys, *shlex.split(f"distill kd --student {NETWORK} --teacher"), teacher, *out)
    (folder / "config.json").write_text(
        json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}), encoding="utf-8"
    )
    refused(capsys, *shlex.split(LANGUAGE), "--teacher", folder, *out)


@pytest.mark.parametrize("form", FORMS[:3])
def test_no_checkpoint_or_cached_answer_runs_code(form, trace, tmp_path):
    file = saved(form, Code(trace), tmp_path / "checkpoint.safetensors")
    for read in (store.read_tensors, store.Rows):
        with pytest.raises(InputError, match=r"is a pickle|is damaged or truncated"):
            read(file)


# Code that a model brings.


@pytest.fixture
def model(trace, tmp_path):
    """A model of transformers whose folder brings code for everything that can be opened."""
    folder = tmp_path / "model"
    folder.mkdir()
    code = {"AutoConfig": "its.Config", "AutoModelForCausalLM": "its.Model", "AutoTokenizer": ["its.Tokens", None]}
    code |= {
        "AutoModelForImageClassification": "its.Model",
        "AutoImageProcessor": "its.Model",
        "AutoModel": "its.Model",
    }
    facts = {"model_type": "its-own", "architectures": ["ItsForImageClassification"], "auto_map": code}
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        (folder / name).write_text(json.dumps(facts), encoding="utf-8")
    (folder / "its.py").write_text(f"import os\nos.mkdir({str(trace)!r})\n", encoding="utf-8")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(f"import os\nos.mkdir({str(trace)!r})\n", encoding="utf-8")
    store.write_bytes(folder / "model.safetensors", b"")
    return folder


DOORS = {
    "teacher": f"distill kd --student {NETWORK} --teacher {{}}",
    "teacher by name": f"distill kd --student {NETWORK} --teacher transformers:{{}}",
    "student": f"distill kd --student transformers:{{}} --epochs 1 --teacher {NETWORK}",
    "language teacher": LANGUAGE + " --teacher {}",
    "language student": "distill language --divergence none --steps 1 --answers 0 --student {}",
    "tokenizer": LANGUAGE + " --divergence none --tokenizer {}",
    "encoder": "condense hello --encoder {}",
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_no_model_runs_its_own_code(door, model, tmp_path, capsys):
    words = shlex.split(door.format(model))
    assert "names code of its own" in refused(capsys, *words, "--out", tmp_path / "out")


def test_no_evaluation_runs_the_code_of_a_network(model, made, tmp_path, capsys):
    folder = copied(made("images"), tmp_path / "run")
    words = ["evaluate", folder, "--networks", f"transformers:{model}", "--ceiling", "skip"]
    assert "names code of its own" in refused(capsys, *words)


def test_the_kernel_in_the_cache_is_not_loaded_where_others_could_have_written_it(tmp_path):
    kernel = tmp_path / "sparse.so"
    kernel.write_bytes(b"code")
    store.check_own(kernel)
    for place in (kernel, tmp_path):
        mode = place.stat().st_mode
        place.chmod(mode | stat.S_IWOTH)
        with pytest.raises(InputError, match=r"sparse\.so is code"):
            store.check_own(kernel)
        place.chmod(mode)


# Scripts in the report and in cards.

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>]]>--><svg onload=alert(2)>\n---\nevil: |\n```\n<svg>"


HEADER = {
    "pretty_name", "configs", "task_categories", "size_categories", "tags", "library_name", "pipeline_tag",
    "source_datasets", "datasets", "base_model", "base_model_relation", "model-index",
}  # fmt: skip


class Seen(HTMLParser):
    """The elements and the attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.names, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.names.append(name)
        self.attributes += attributes


def assert_harmless(text):
    seen = Seen(text)
    assert (seen.names.count("script"), seen.names.count("style")) == (2, 1)
    assert not {"iframe", "object", "embed", "base", "link", "form"} & set(seen.names)
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("style", "srcdoc", "action")]
    links = [value for name, value in seen.attributes if name in ("src", "href", "xlink:href")]
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in links)
    for wrong in ("<script>alert", "<img src=x", "<svg onload"):
        assert wrong not in text
    assert "Content-Security-Policy" in text and "unsafe-inline" not in text


def leaves(value, path=()):
    """The places of all plain values."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, (*path, number))
    else:
        yield path


def put(value, path, what):
    """A copy with something else in one place; under another name where `what` is a function."""
    if not path:
        return what
    first, *rest = path
    return (
        {**value, first: put(value[first], rest, what)}
        if isinstance(value, dict)
        else [put(item, rest, what) if number == first else item for number, item in enumerate(value)]
    )


def everywhere(value, *, names=False):
    """The same with the evil text in all texts, and beside all names if asked."""
    if isinstance(value, dict):
        return {name: everywhere(item, names=names) for name, item in value.items()} | ({EVIL: EVIL} if names else {})
    if isinstance(value, list):
        return [everywhere(item, names=names) for item in value]
    return EVIL if isinstance(value, str) else value


def sealed(folder, facts):
    plain = {name: value for name, value in facts.items() if name not in ("kind", "schema", "facts_digest")}
    write_facts(folder, facts["kind"], facts["schema"], plain)


@pytest.mark.parametrize("kind", MAKING)
def test_no_text_of_a_description_becomes_part_of_a_page(kind, made, tmp_path):
    folder = copied(made(kind), tmp_path / "runs" / EVIL.replace("/", "-")[:90])
    facts = json.loads((folder / "artefact.json").read_text(encoding="utf-8"))
    kept = ("digest", "digests", "files", "whitening", "teacher", "logits", "student", "kind", "group")
    texts = {name: value if name in kept else everywhere(value) for name, value in facts.items()}
    for name in ("settings", "machine"):
        texts["origin"][name] = everywhere(facts["origin"][name], names=True)
    typed = [name for name, value in facts["origin"].items() if isinstance(value, dict)]
    texts["origin"] |= {name: facts["origin"][name] for name in typed if name not in ("settings", "machine")}
    sealed(folder, texts)
    text = page(collect(tmp_path / "runs"))
    assert_harmless(text)
    card = re.fullmatch(r"---\n(.*?)\n---\n(.*)", kind_in(folder).load(folder).card([]), re.DOTALL)
    header = yaml.safe_load(card[1])
    shown = clean(EVIL)
    assert set(header) <= HEADER and header.get("pretty_name", shown).startswith(shown)
    shown = re.sub(r"^(`{3,}).*?^\1$", "", card[2], flags=re.DOTALL | re.MULTILINE)  # without blocks of code
    assert not [wrong for wrong in ("<script", "<img", "<svg") if wrong in shown]


@pytest.mark.parametrize("file", ["artefact.json", "scores.json", "run/cost.json", "run/settings.json"])
def test_no_value_of_a_file_becomes_part_of_a_page(file, made, tmp_path, capsys):
    whole = copied(made("images"), tmp_path / "whole")
    main(["evaluate", str(whole), "--networks", "mlp:width=4", "--protocol", "quick", "--repeats", "1",
          "--ceiling", "skip", "--beside", "skip", *QUIET])  # fmt: skip
    facts = json.loads((whole / file).read_text(encoding="utf-8"))
    for number, path in enumerate(leaves(facts)):
        folder = copied(whole, tmp_path / "runs" / str(number))
        changed = put(facts, path, EVIL)
        (folder / file).write_text(json.dumps(changed), encoding="utf-8")
        if file == "artefact.json" and path[0] not in ("kind", "schema", "facts_digest"):
            sealed(folder, changed)
    assert_harmless(page(collect(tmp_path / "runs", images=1)))


@pytest.mark.parametrize(
    "line", [{"step": EVIL, "loss": 1}, {"step": 1, EVIL: 1}, {"step": 2, EVIL: 2}, {"step": 3, "loss": EVIL}]
)
def test_no_curve_becomes_part_of_a_page(line, made, tmp_path):
    folder = copied(made("images"), tmp_path / "runs" / "one")
    lines = [{"step": 8, "loss": 1.0, EVIL: 3}, {"step": 9, "loss": 2.0, EVIL: 4}, line]
    (folder / "run" / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    assert_harmless(page(collect(tmp_path / "runs")))


def test_a_picture_that_is_a_drawing_with_a_script_is_not_shown(made, tmp_path):
    folder = copied(made("mixtures"), tmp_path / "runs" / "one")
    for path in folder.rglob("*.png"):
        path.write_text(f"<svg xmlns='http://www.w3.org/2000/svg'><script>{EVIL}</script></svg>", encoding="utf-8")
    assert_harmless(page(collect(tmp_path / "runs")))


def test_the_statement_is_where_people_look():
    root = Path(__file__).parents[1]
    assert "SECURITY.md" in (root / "README.md").read_text(encoding="utf-8") and (root / "SECURITY.md").exists()


def test_a_long_zip_of_nothing_is_no_code(tmp_path, trace):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("nothing", "")
    (tmp_path / "x.pt").write_bytes(sink.getvalue())
    with pytest.raises(SystemExit):
        main(["import", str(tmp_path / "x.pt"), "--data", "digits", "--out", str(tmp_path / "out"), *QUIET])
