"""What all artefacts share: their origin, the file `artefact.json`, and upload to and download from the hub."""

import functools
import io
import json
import math
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from torch import Tensor

from attar.core import front, hub, notebook, store
from attar.core.cell import Cell
from attar.core.errors import LONGEST, InputError
from attar.core.failures import on_one_line, told
from attar.core.jsonfiles import valid
from attar.core.kinds import Ref, imported, kind_named
from attar.core.notes import note
from attar.core.provenance import ARTEFACT as ARTEFACT
from attar.core.runtime import Runtime
from attar.core.scores import keep_scores, scores_in
from attar.core.settings import check_fields, plain

CARD = "README.md"
FORM = "form"
"""Name of the entry of `artefact.json` that tells the forms of a kind apart, where it has several."""
T = TypeVar("T")
UNSEEN = "damage to it is not noticed. Make it again to have it checked."


@dataclass(frozen=True)
class Origin:
    """Where an artefact came from."""

    source: str
    fingerprint: str
    method: str
    settings: dict[str, Any]
    seed: int
    machine: dict[str, Any]
    call: dict[str, Any] | None = field(default=None, kw_only=True)
    """What was asked for, as `attar.core.provenance.Call` has it; None of older artefacts."""

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def made(cls, source: Any, method: Any, runtime: Runtime, **more: Any) -> Self:
        """The origin of what `method` makes of `source`.

        Args:
            source: Has a name and a fingerprint.
            method: Resolved settings.
            runtime: The machine and the seed.
            more: What the kind of artefact tells besides.
        """
        return cls(
            source=source.name,
            fingerprint=source.fingerprint,
            method=method.name,
            settings=plain(method),
            seed=runtime.seed,
            machine=runtime.describe(),
            call=runtime.call.to_json() if runtime.call else None,
            **more,
        )


@dataclass(frozen=True)
class Picture:
    """Something drawn, of one artefact."""

    label: str
    """What is in it; empty of a picture of the whole."""
    png: bytes
    shown: int = 1
    """How many things are in it."""
    total: int = 1
    """How many there are."""
    side: int = 0
    """Pixels of one thing's side where it is small, to be enlarged with sharp edges; 0 of a drawing."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a page shows of an artefact, whatever its kind. All of it is optional."""

    size: str = ""
    """How many of what it holds, in words: "20 images, 2 per class"."""
    count: int | None = None
    """The number by which sizes are compared."""
    bytes: int | None = None
    share: float | None = None
    """Per cent of what it was made from."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What else there is to say, by what it is called."""
    scores: tuple[Cell, ...] = ()
    """What was measured when it was made; a score of the same column that lies beside it goes before."""
    table: Sequence[Sequence[str]] = ()
    """A table of its parts: what stands above the columns, and the rows."""
    text: str = ""
    """Lines that keep their form."""
    pictures: tuple[Picture, ...] = ()
    snapshots: tuple[Picture, ...] = ()
    """What it looked like on the way, in order."""


class Shareable:
    """An artefact that goes to the Hugging Face hub and comes back, without the run that made it."""

    kind: ClassVar[str]
    """The kind that it is of."""
    repo_type: ClassVar[hub.RepoType]
    files: ClassVar[tuple[str, ...]]
    """Its files, by name or pattern; it need not have them all."""
    folder: Path | None = None
    """Where it was last saved, for kinds that remember."""
    largest: ClassVar[float] = math.inf
    """Beyond what size a learned value counts as diverged, where finite ones do at all."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make `load` of every kind refuse in one line whatever it cannot make sense of."""
        super().__init_subclass__(**kwargs)
        if "__repr__" not in vars(cls):  # a dataclass would write out all its tensors
            cls.__repr__ = Shareable.__repr__  # type: ignore[method-assign]
        if "load" in vars(cls):
            cls.load = classmethod(_refusing(vars(cls)["load"].__func__))  # type: ignore[assignment,method-assign]

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is, in a few words."""

    @property
    def learned(self) -> Mapping[str, Tensor]:
        """Tensors that may have been learned by steps, by what they are called; none are saved that are not finite."""
        return {}

    @property
    def summary(self) -> str:
        """What came out, for the terminal."""
        return str(self)

    def __repr__(self) -> str:
        place = "" if self.folder is None else f" in {self.folder}"
        return on_one_line(f"<{type(self).__name__}: {self.title}{place}>")

    def _repr_html_(self) -> str:
        return notebook.described(self.title, self.summary, self.picture())

    def _repr_png_(self) -> bytes | None:
        return self.picture()

    def picture(self) -> bytes | None:
        """What it looks like, as PNG; None of what cannot be drawn."""
        return None

    def shown(self, images: int = 10) -> Shown:
        """What the report shows of it: its summary and its picture, unless its kind knows better.

        Args:
            images: Things of a class that are pictured at most.
        """
        drawn = self.picture()
        pictures = () if drawn is None else (Picture("", drawn),)
        return Shown(text=self.summary, bytes=getattr(self, "bytes", None), pictures=pictures)

    @abstractmethod
    def card(self, scores: list[Cell]) -> str:
        """Its README, with its scores."""

    @property
    def first_scores(self) -> Sequence[Cell]:
        """What was measured of it when it was made, apart from any evaluation."""
        return ()

    def write_card(self, folder: Path, license: str | None = None) -> None:  # noqa: A002
        """Write its README, with the scores that lie beside it.

        Args:
            folder: Where.
            license: The hub's name of a licence. Default: that in the front matter of the README that is there.

        Raises:
            InputError: That is no name of a licence.
        """
        terms = front.terms_in(folder / CARD) if license is None else {"license": front.check_licence(license)}
        store.write_text(folder / CARD, front.with_terms(self.card(scores_in(folder)), terms))

    def with_facts(self, folder: Path, schema: int, facts: dict[str, Any]) -> Self:
        """Write what there is to say of it, after its files; return it as saved there."""
        write_facts(folder, self.kind, schema, facts)
        saved = replace(self, folder=folder)  # type: ignore[type-var]
        saved.write_card(folder)
        return saved

    def remember(self, scores: list[Cell]) -> None:
        """Keep scores beside a saved artefact, replace older ones of the same columns, and write its card again."""
        assert self.folder is not None, "save it first"
        keep_scores(self.folder, scores)
        self.write_card(self.folder)

    @abstractmethod
    def save(self, folder: str | Path) -> Self:
        """Write it to a folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote."""

    @classmethod
    def files_in(cls, folder: Path) -> list[str]:
        """The files of the artefact whose `artefact.json` lies in a folder, by name or pattern."""
        return list(cls.files)

    def to_hub(
        self,
        name: str,
        *,
        private: bool = False,
        license: str | None = None,  # noqa: A002
        token: str | None = None,
        message: str | None = None,
    ) -> str:
        """Upload it to the Hugging Face hub as `user/name`, without the run that made it; return its address.

        Args:
            name: `user/name`; made if it is not there.
            private: Whether only its owner sees it.
            license: The hub's name of the licence that it is given, such as `cc-by-4.0`, which its card keeps.
                Default: the one in its card, if there is one.
            token: Token of the account. Default: the token that `hf auth login` has stored.
            message: What the commit says.

        Raises:
            InputError: A name that is none, no token, no connection; nothing is changed here.
        """
        with tempfile.TemporaryDirectory() as scratch:
            folder = self.folder
            if folder is None:
                folder = Path(scratch)
                self.save(folder)
            if license is not None:
                self.write_card(folder, license)
            return hub.push(
                folder,
                self.files_in(folder),
                name,
                repo_type=self.repo_type,
                private=private,
                token=token,
                message=message or self.title,
            )

    @classmethod
    def from_hub(cls, name: str, *, revision: str | None = None) -> Self:
        """Read one from the Hugging Face hub, or from the hub's cache.

        Args:
            name: `user/name`.
            revision: A branch, a tag or a commit. Default: the newest commit.

        Raises:
            InputError: No such artefact there, or no connection and none in the cache.
        """
        described = hub.pull(name, [ARTEFACT], repo_type=cls.repo_type, revision=revision)
        return cls.load(hub.pull(name, cls.files_in(described), repo_type=cls.repo_type, revision=revision))


class CondensedSet(Shareable):
    """A data set made small."""

    repo_type = "dataset"
    origin: Any

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return f"{self.origin.source}, condensed by {self.origin.method}"


def _refusing(load: Callable[..., T]) -> Callable[..., T]:
    """A function that reads a folder, in which whatever its files do not have is told on one line.

    Digests do not find this, since a description may be whole and still not say what is expected.
    """

    @functools.wraps(load)
    def safe(cls: type, folder: str | Path, *args: Any, **kwargs: Any) -> T:
        try:
            return load(cls, folder, *args, **kwargs)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if told(error) is not None:  # memory, libraries
                raise
            why = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST]
            where = Path(folder) / ARTEFACT
            raise InputError(f"{where} is damaged: it does not describe what lies beside it ({why}).") from error

    return safe


class Stored(Shareable):
    """What lies in a folder of a kind whose artefacts have several forms."""

    forms: ClassVar[Mapping[str, Ref]]
    """The class of each form. The first is that of a description that names none."""
    extra: ClassVar[str] = ""
    """The extra that installs what the forms build on, if there is one."""

    @classmethod
    def load(cls, folder: str | Path, **how: Any) -> Any:
        """Read an artefact of whatever form.

        Args:
            folder: The folder.
            how: What the form takes besides.

        Raises:
            InputError: There is none, a file is damaged, or its form is not known.
        """
        return cls.form_in(Path(folder)).load(folder, **how)

    @classmethod
    def files_in(cls, folder: Path) -> list[str]:
        """The files of the artefact in a folder."""
        return list(cls.form_in(folder).files)

    @classmethod
    def form_in(cls, folder: Path) -> type[Any]:
        """The class of what lies in a folder; the first one of what is of another kind, which it says when it is read.

        Raises:
            InputError: Its form is not known.
        """
        path = folder / ARTEFACT
        facts: Any = store.read_json(path) if path.is_file() else None
        usual = next(iter(cls.forms))
        mine = kind_told(facts) in (cls.kind, *kind_named(cls.kind).was)
        form = str(facts.get(FORM, usual)) if mine else usual
        if form not in cls.forms:
            raise InputError(
                f"{path} is of the form {form!r}, which this version of attar does not know. Upgrade attar."
            )
        found: type[Any] = imported(cls.forms[form], cls.extra)
        return found


def write_facts(folder: Path, kind: str, schema: int, facts: dict[str, Any]) -> None:
    """Write `artefact.json`: the kind, the version of its form, what there is to say, and a digest of that.

    Args:
        folder: Where.
        kind: Of artefact.
        schema: The version of the form that this kind's facts have.
        facts: Plain values.
    """
    facts = valid({"kind": kind, "schema": schema, **facts})
    store.write_json(folder / ARTEFACT, {**facts, "facts_digest": store.digest_of({}, facts)})


def read_facts(folder: Path, kind: str, schema: int, what: str) -> dict[str, Any]:
    """Read what `write_facts` wrote.

    Args:
        folder: Where the artefact lies.
        kind: What it must be.
        schema: The newest form that can be read.
        what: What to call it where there is none.

    Raises:
        InputError: There is none, or another kind, a newer schema, or a damaged or altered file.
    """
    path = folder / ARTEFACT
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}.")
    if not path.is_file():
        raise InputError(f"{folder} holds no {what} (no {ARTEFACT}){_why_missing(folder)}.")
    facts = store.read_json(path)
    found = kind_told(facts)
    if found is not None and found != kind and found not in kind_named(kind).was:
        raise InputError(f"{folder} holds an artefact of kind {found!r}, not {kind!r}.")
    return unsealed(facts, path, schema, "an artefact's description")


def _why_missing(folder: Path) -> str:
    """Why a run's folder holds no artefact, with what to do; empty if it is no run's folder."""
    settings = folder / "run" / "settings.json"
    if not settings.is_file():
        return ""
    try:
        facts = store.read_json(settings)
    except InputError:
        facts = None
    if isinstance(facts, dict) and facts.get("finished"):
        return ", although its run is finished. Delete the folder to make it again"
    return "; its run is unfinished. Run the same command again to resume it"


def unsealed(facts: Any, path: Path, schema: int, what: str) -> dict[str, Any]:
    """What a description says, without its digest, which is checked.

    The first students of attar carried no digest. They are read with a warning, and known by an origin that does not
    tell the command.

    Args:
        facts: What was read.
        path: The file it was read from.
        schema: The newest form that can be read.
        what: What the file should be.

    Raises:
        InputError: A newer schema, or a damaged or altered file.
    """
    if not isinstance(facts, dict) or not _is_sealed(facts):
        raise InputError(f"{path} is damaged: it is not {what}.")
    found = facts.get("schema", 0)
    if isinstance(found, bool) or not isinstance(found, int):
        raise InputError(f"{path} is damaged: its schema is not a number.")
    if found > schema:
        raise InputError(f"{path} has schema {found}, but this attar reads up to {schema}. Upgrade attar.")
    digest = facts.pop("facts_digest", None)
    if digest is None:
        note(f"{path} is of an early version of attar, which wrote no digest: {UNSEEN}", stacklevel=3)
    elif store.digest_of({}, facts) != digest:
        raise InputError(f"{path} was altered after it was written: its contents do not match its digest.")
    return facts


def _is_sealed(facts: Mapping[str, Any]) -> bool:
    """Whether a description carries its digest, or is of a student from before there were any."""
    origin = facts.get("origin")
    first_students = "scores" in facts and isinstance(origin, dict) and "call" not in origin
    return facts.get("facts_digest") is not None or first_students


def digests_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The digests of files in a folder, by name."""
    return {name: store.file_digest(folder / name) for name in sorted(names)}


def check_files(folder: Path, names: Iterable[str], digests: Mapping[str, str]) -> None:
    """Check the files of an artefact that other libraries read.

    Args:
        folder: Where the artefact lies.
        names: Names of all of them.
        digests: What `digests_of` gave. Early versions had those of the weights only, which is told.

    Raises:
        InputError: One is missing or altered, or its name leads out of the folder.
    """
    for name in (*digests, *names):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{folder / ARTEFACT} is damaged: {name!r} does not lie in the folder.")
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing.")
    for name, digest in digests.items():
        if store.file_digest(folder / name) != digest:
            raise InputError(f"{folder / name} was altered after it was written: it does not match its digest.")
    unseen = ", ".join(sorted(set(names) - set(digests)))
    if unseen:
        note(f"{folder} is of an early version of attar, without digests of {unseen}: {UNSEEN}", stacklevel=3)


def seconds_of(folder: Path, older: str = "") -> float | None:
    """How many seconds a run took, from its cost; None where that is not at hand.

    Args:
        folder: Of the artefact.
        older: The file in which earlier versions kept it.
    """
    places = [folder / "run" / "cost.json", *([folder / older] if older else [])]
    return next((store.read_cost(place)["seconds"] for place in places if place.is_file()), None)


def kind_told(facts: Any) -> str | None:
    """The kind of artefact that a description is of; none if it is no description."""
    return str(facts.get("kind", "images")) if isinstance(facts, dict) else None


def read_tensors(path: Path, digest: Any) -> tuple[dict[str, Tensor], Any]:
    """Read tensors, and the plain values beside them, from a file that `artefact.json` knows by its digest.

    Raises:
        InputError: The file is missing, damaged, or another one.
    """
    tensors, plain = store.read_tensors(path)
    if store.digest_of(tensors, plain) != digest:
        raise InputError(f"{path} is not the file that {ARTEFACT} describes.")
    return tensors, plain


def parquet(columns: dict[str, Any], features: dict[str, Any]) -> bytes:
    """Columns of pyarrow as a parquet file, with the note by which `datasets` knows their types."""
    import pyarrow
    from pyarrow.parquet import write_table

    note = json.dumps({"info": {"features": features}})
    sink = io.BytesIO()
    write_table(pyarrow.table(columns).replace_schema_metadata({"huggingface": note}), sink)
    return sink.getvalue()
