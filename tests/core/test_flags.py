"""Settings become flags and words and come back the same; a flag of one name has one type and one meaning."""

import json
import re
import subprocess
import sys
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import reduce
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest

from attar.core.errors import InputError
from attar.core.flags import Flag, flags_of, parse, texts_of, words_of
from attar.core.hints import kind_of_type, type_words
from attar.core.kinds import kinds
from attar.core.machine import Engine
from attar.core.registry import METHODS
from attar.core.settings import Hidden, Range, Role, Settings, Words
from small import SMALL, VARIANTS, method_of


@dataclass(frozen=True, kw_only=True)
class Training(Settings):
    epochs: Annotated[int, Range(1)] = 3
    """Passes over the data."""
    lr: Annotated[float, Range(0)] = 0.1
    """Step size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lr > self.epochs:
            raise InputError(f"lr is {self.lr}; it must be at most epochs, {self.epochs}.")


@dataclass(frozen=True, kw_only=True)
class Teacher(Settings):
    folder: str | None = None
    """Where it lies."""
    training: Training = Training(lr=0.2)
    """How it is trained."""

    itself: ClassVar[str] = "folder"


@dataclass(frozen=True, kw_only=True)
class Method(Settings):
    ipc: Annotated[int, Range(1)] | tuple[Annotated[int, Range(1)], ...] = 10
    """Images per class:
    one number, or one each."""
    real_batch: Annotated[int, Range(1)] | None = None
    """Real images per step."""
    start: Literal["real", "noise"] = "real"
    """What is there first."""
    training: Training = Training()
    """How networks are trained."""
    teacher: Annotated[Teacher, Role()] = Teacher(folder="given")
    """Who teaches."""
    cuts: tuple[float, ...] = (0.5,)
    """When."""
    picks: tuple[Literal["a", "b"], ...] = ("a",)
    """Which."""
    siamese: bool = True
    """Whether both."""
    network: Annotated[Any, Words()] = None
    """A network."""
    rows: Annotated[int, Hidden()] = 0
    """Filled in from the data."""
    gate: Annotated[float, Range(0)] | None = 1.5
    """Above which nothing happens."""
    out: Path | None = None
    """Folder."""


@dataclass(frozen=True, kw_only=True)
class Given(Settings):
    folders: tuple[str, ...]
    """What is measured."""
    data: str | None = None
    """What with."""


@dataclass(frozen=True, kw_only=True)
class Inherited(Method):
    start: Literal["real", "noise"] = "noise"
    power: float = 4.0
    """Power of it."""


def made(line, **parts):
    parts = parts or {"method": Method()}
    return parse(parts, line.split(), program="attar condense x")


def refusal(line, **parts):
    with pytest.raises(InputError) as refused:
        made(line, **parts)
    return str(refused.value)


def test_the_walk_flattens_settings_and_puts_roles_in_front():
    flags = {flag.name: flag for flag in flags_of(Method)}
    assert list(flags) == [
        *("--ipc", "--real-batch", "--start", "--epochs", "--lr", "--teacher", "--teacher.epochs", "--teacher.lr"),
        *("--cuts", "--picks", "--siamese", "--network", "--gate", "--out"),
    ]
    assert flags["--teacher"].path == ("teacher", "folder")
    assert flags["--teacher.lr"] == Flag(
        "--teacher.lr", ("teacher", "training", "lr"), Annotated[float, Range(0)], 0.2, "Step size.", Training
    )
    assert flags["--ipc"].sentence == "Images per class: one number, or one each."


def test_a_role_can_be_given_to_all():
    assert [flag.name for flag in flags_of(Teacher, "observer")] == ["--observer", "--observer.epochs", "--observer.lr"]


def test_defaults_are_those_of_the_settings_at_hand():
    assert {flag.name: flag.default for flag in flags_of(Method(ipc=3))}["--ipc"] == 3
    assert flags_of(Given)[0].default is MISSING


def test_a_sentence_is_that_of_the_class_which_has_one():
    sentences = {flag.name: flag.sentence for flag in flags_of(Inherited)}
    assert (sentences["--start"], sentences["--power"]) == ("What is there first.", "Power of it.")


def test_every_type_is_read():
    line = "--ipc 3 1 2 --teacher /t --teacher.lr 3 --no-siamese --cuts --picks b a --network resnet18"
    method = made(f"{line} --gate None --out a/b --real_batch=7 --epochs 5")["method"]
    teacher = Teacher(folder="/t", training=Training(lr=3.0))
    assert method == Method(
        ipc=(3, 1, 2),
        teacher=teacher,
        siamese=False,
        cuts=(),
        picks=("b", "a"),
        network="resnet18",
        gate=None,
        out=Path("a/b"),
        real_batch=7,
        training=Training(epochs=5),
    )


def test_none_is_a_value_where_a_setting_can_be_left_open():
    assert made("--gate none")["method"].gate is made("--gate None")["method"].gate is None
    assert made("--network none --out none")["method"] == Method(network="none", out=Path("none"))


def test_values_of_one_level_are_checked_together():
    assert made("--lr 7 --epochs 8")["method"].training == Training(lr=7, epochs=8)
    assert refusal("--lr 7") == "lr is 7.0; it must be at most epochs, 3."


def test_groups_come_back_by_name_and_what_is_not_given_stays():
    method = Method(ipc=4, rows=100)
    parts = made("--folders a b --quiet", method=method, given=Given, engine=Engine())
    assert parts == {"method": method, "given": Given(folders=("a", "b")), "engine": Engine(quiet=True)}
    assert parts["method"].rows == 100


def test_words_without_a_flag_go_where_they_are_expected():
    parts = parse({"given": Given}, ["a", "--data", "d", "b"], program="attar evaluate", positional=("folders",))
    assert parts["given"] == Given(folders=("a", "b"), data="d")
    with pytest.raises(InputError) as refused:
        parse({"given": Given}, [], program="attar evaluate", positional=("folders",))
    assert str(refused.value) == "FOLDERS must be given. For help: attar evaluate --help"


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("--real-bach 3", "unknown flag --real-bach; did you mean '--real-batch'? All settings: @ --help-all"),
        ("-real_batch 3", "unknown flag -real_batch; did you mean '--real-batch'? All settings: @ --help-all"),
        ("—IPC 3", "unknown flag —IPC; did you mean '--ipc'? All settings: @ --help-all"),
        ("--student.gate 3", "unknown flag --student.gate; did you mean '--gate'? All settings: @ --help-all"),
        ("--hlep", "unknown flag --hlep; did you mean '--help'? All settings: @ --help-all"),
        ("--rows 3", "unknown flag --rows. All settings: @ --help-all"),
        ("--folder f", "unknown flag --folder. All settings: @ --help-all"),
        ("--no-start", "unknown flag --no-start; did you mean '--start'? All settings: @ --help-all"),
        ("--real-batch abc", "--real-batch takes a whole number, at least 1, not 'abc'."),
        ("--real-batch 1.5 --lr 1", "--real-batch takes a whole number, at least 1, not '1.5'."),
        ("--real-batch 0", "--real-batch takes a whole number, at least 1, not '0'."),
        (f"--real-batch {'7x' * 99}", f"--real-batch takes a whole number, at least 1, not '{'7x' * 30}...'."),
        (f"--real-batch {'7' * 9999}", f"--real-batch takes a whole number, at least 1, not '{'7' * 60}...'."),
        ("--teacher.lr -1", "--teacher.lr takes a number, at least 0, not '-1'."),
        ("--cuts 1 nan", "--cuts takes several numbers, not '1 nan'."),
        ("--teacher.lr 1e308", "--teacher.lr is 1e+308; it must be at most 1000000."),
        ("--real-batch 100000000000000000000", "--real-batch is 100000000000000000000; it must be at most 1e+09."),
        ("--ipc 3 10000000000", "number 2 of --ipc is 10000000000; it must be at most 1e+09."),
        ("--teacher.lr 1e400", "--teacher.lr takes a number, at least 0, not '1e400'."),
        ("--real-batch 1e400", "--real-batch takes a whole number, at least 1, not '1e400'."),
        ("--gate inf", "--gate takes a number, at least 0, not 'inf'."),
        ("--ipc 3 0", "--ipc takes one or several whole numbers, each at least 1, not '3 0'."),
        ("--real-batch --lr 1", "--real-batch needs a value, a whole number, at least 1."),
        ("--out -x", "--out needs a value, a path. Give a value that begins with a dash as --out=-x."),
        ("--out=", "--out needs a value, a path, not an empty one."),
        ("--ipc", "--ipc needs a value, one or several whole numbers, each at least 1."),
        ("--start nois", "--start takes real or noise, not 'nois'; did you mean 'noise'?"),
        ("--picks a c", "--picks takes any of a, b, not 'c'."),
        ("--siamese=yes", "--siamese takes no value, not 'yes'. Give --siamese or --no-siamese."),
        ("--siamese False", "--siamese takes no value, not 'False'. Give --siamese or --no-siamese."),
        ("--gate 1 --gate 2", "--gate is given twice. Give it once."),
        ("--siamese --no-siamese", "--siamese is given twice. Give it once."),
        ("--real-batch 3 4", "'4' belongs to no flag. Give a setting as --name value. For help: @ --help"),
        (
            "real-batch=4",
            "'real-batch=4' belongs to no flag; did you mean '--real-batch'? Give a setting as --name value. "
            "For help: @ --help",
        ),
        ("--ipc 0 --real-bach 3", "--ipc takes one or several whole numbers, each at least 1, not '0'."),
        ("--real-bach 3 --ipc 0", "unknown flag --real-bach; did you mean '--real-batch'? All settings: @ --help-all"),
        ("--ipc 0 --gate x", "--ipc takes one or several whole numbers, each at least 1, not '0'."),
    ],
)
def test_what_is_wrong_is_said_in_one_line(line, sentence, capsys):
    assert refusal(line) == sentence.replace("@", "attar condense x")
    assert capsys.readouterr() == ("", "")


def test_a_flag_of_a_role_is_found_by_its_own_name():
    assert "did you mean '--teacher.lr'?" in refusal("--lr 3", teacher=OnlyTeacher())


@dataclass(frozen=True, kw_only=True)
class OnlyTeacher(Settings):
    teacher: Annotated[Teacher, Role()] = Teacher()


def test_a_path_begins_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert made("--out ~/x")["method"].out == Path("/home/ada/x")


def test_flags_that_were_taken_before_may_have_been_meant():
    with pytest.raises(InputError, match="did you mean '--paper'"):
        parse({"method": Method()}, ["--papr", "x"], program="", others=("--paper",))


def test_a_flag_of_two_groups_is_our_mistake():
    with pytest.raises(AssertionError, match="--ipc is a setting of Method and of Method"):
        made("", one=Method(), two=Method())


@pytest.mark.parametrize(
    "hint, words",
    [
        (Annotated[int, Range(1)] | None, "whole number, at least 1"),
        (Annotated[float, Range(0, 1)], "number from 0 to 1"),
        (tuple[int, ...], "several whole numbers"),
        (tuple[int, int], "two whole numbers"),
        (tuple[float, float, float], "three numbers"),
        (tuple[Literal["a", "b"], ...], "any of a, b"),
        (Literal["avg", "max", "none"], "avg, max or none"),
        (bool, "yes or no"),
        (Annotated[Any, Words()], "text"),
    ],
)
def test_types_are_told_in_words(hint, words):
    assert type_words(hint) == words


def test_settings_in_words_have_the_everyday_ones_first():
    texts = texts_of(Method, ("start", "teacher.lr"))
    assert [text.flag for text in texts[:3]] == ["--start", "--teacher.lr", "--ipc"]
    assert [text.everyday for text in texts[:3]] == [True, True, False]
    known = {text.setting: (text.type, text.default) for text in texts}
    assert known["real_batch"] == ("whole number, at least 1", "nothing")
    assert known["gate"] == ("number, at least 0, or none", "1.5")
    assert known["siamese"] == ("yes or no", "yes")
    assert known["teacher.training.lr"] == ("number, at least 0", "0.2")


def test_words_are_the_inverse():
    method = made("--ipc 3 1 --teacher /t --teacher.lr 2 --no-siamese --cuts --gate None --out=--odd")["method"]
    for changed in (False, True):
        words = words_of(flags_of(Method), method, changed=changed)
        assert parse({"method": Method()}, words, program="")["method"] == method
    short = words_of(flags_of(Method), method, changed=True)
    assert short[:5] == ["--ipc", "3", "1", "--teacher", "/t"]
    assert "--no-siamese" in short and "--out=--odd" in short and "--start" not in short


def values_of(settings):
    """The values of all settings that are flags."""
    return {flag.name: flag.default for flag in flags_of(settings)}


@pytest.mark.parametrize("entry", [*SMALL, *VARIANTS])
def test_settings_of_a_method_survive_the_command_line(entry):
    method = method_of(entry)
    family = type(method)
    for start, changed in ((family(), True), (family(), False)):
        words = words_of(flags_of(start), method, changed=changed)
        made = parse({"method": start}, words, program="")["method"]
        assert values_of(made) == values_of(method)


def test_flags_need_neither_torch_nor_tyro():
    program = "import sys, attar.core.flags; print([name for name in ('torch', 'tyro') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


GLOSSARY = json.loads((files("attar.core") / "glossary.json").read_text(encoding="utf-8"))


def all_flags():
    """Every flag without a role in front, of all methods and of all that stands around them."""
    groups = [Engine, *(entry.load() for entry in METHODS.values())]
    for kind in kinds().values():
        groups += [kind.read(), *map(kind.task, kind.tasks), *([kind.scores()] if kind.scoring else [])]
    return [flag for group in groups for flag in flags_of(group) if "." not in flag.name]


def fits(flag):
    """Whether a flag has the glossary's type, and its sentence or that with more behind it."""
    meant = GLOSSARY[flag.name]
    start = re.escape(meant["sentence"].rstrip("."))
    return kind_of_type(flag.hint) == meant["type"] and re.match(rf"{start}(?!\w)", flag.sentence) is not None


def test_every_flag_has_a_sentence():
    assert [f"{flag.name} {flag.owner.__name__}" for flag in all_flags() if not flag.sentence] == []


def test_a_flag_with_several_sentences_or_types_is_in_the_glossary():
    meanings: dict[str, set[tuple[str, str]]] = {}
    for flag in all_flags():
        meanings.setdefault(flag.name, set()).add((kind_of_type(flag.hint), flag.sentence))
    assert {name for name, found in meanings.items() if len(found) > 1} - set(GLOSSARY) == set()
    assert set(GLOSSARY) - set(meanings) == set(), "no longer flags"


def test_a_flag_has_one_type_and_one_meaning():
    conflicts = {
        f"{flag.name} {flag.owner.__module__.split('.')[1]}.{flag.owner.__name__}"
        for flag in all_flags()
        if flag.name in GLOSSARY and not fits(flag)
    }
    assert conflicts == set(), "mend the class's sentence or its setting's name; or the glossary"


def older_names(settings, path=()):
    """Where settings have moved, those of nested settings too: the nested settings' place, old name and new one."""
    found = [(path, old, new) for old, new in getattr(settings, "moved", {}).items()]
    for field in fields(settings):
        value = getattr(settings, field.name)
        found += older_names(value, (*path, field.name)) if is_dataclass(value) else []
    return found


def value_at(plain, path):
    return reduce(lambda inner, name: inner[name], path, plain)


@pytest.mark.parametrize("name", METHODS)
def test_older_names_are_still_read(name):
    usual = METHODS[name].load()()
    for path, old, new in older_names(usual):
        value = None if new is None else value_at(usual.to_json(), (*path, *new.split(".")))
        given = reduce(lambda inner, place: {place: inner}, reversed(path), {old: value})
        assert type(usual).from_json(given) == usual, (path, old)
