"""Whether two checkouts make the same artefacts: every method of `tests/small.py`, run by both, file by file.

    python bench/same_bytes.py OLD_CHECKOUT NEW_CHECKOUT [--only NAME ...] [--cards] [--keep FOLDER] [--out FILE.json]

Tensors, pictures and tables must agree byte for byte. What is JSON must agree by value, and may say more than before.
What else may differ is in EXEMPT, each line with its reason. `run/` and cards are left out (--cards compares them).
Exits 1 where something differs.
"""

import argparse
import dataclasses
import fnmatch
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "tests"))

import small  # noqa: E402

EXEMPT = [
    ("conv", "artefact.json", "layers", "a clock decides the plan"),
    ("conv", "artefact.json", "whole", "a clock decides the plan"),
    ("conv", "preview.png", "", "shows the plan"),
    ("conv", "artefact.json", "origin.data", "its origin has the form of all others: data are the source"),
    ("conv", "artefact.json", "origin.network", "its origin has the form of all others: the network is a setting"),
    ("*", "timing.json", "", "wall time, which is now in run/cost.json"),
    ("*", "artefact.json", "kind", "the word for what it is"),
    ("*", "*.json", "facts_digest", "a digest of the rest, which is compared"),
    ("*", "artefact.json", "classifier.place", "where the classifier of a calibrator lies"),
    ("*", "artefact.json", "machine", "versions and hardware"),
    ("*", "artefact.json", "origin.machine", "versions and hardware"),
]
"""Entry, file, dotted key ("" for the whole file) and reason; the first three are patterns."""

RENAMED: dict[str, str | None] = {}
"""Settings by their old dotted name and their new one, `METHOD:NAME` for those of one method alone; None for one that
is gone. What the new checkout's settings say themselves (`moved`) need not stand here."""

MISSING = object()
Names = Sequence[tuple[str, str | None]]
"""Old names of settings and new ones."""


# ------------------------------------------------------------------------------------ inside one checkout, for one kind


def drive(out: Path, entries: list[str], renamed: dict[str, Names]) -> None:
    """Make every entry in a folder of its own, and note what failed and which names have changed."""
    told = {}
    for entry in entries:
        folder, start = out / folder_of(entry), time.monotonic()
        error = failure(entry, folder, renamed.get(entry, []))
        moved = names_moved(class_of(entry))
        told[entry] = {"error": error, "seconds": round(time.monotonic() - start, 2), "renamed": moved}
        (out / "driven.json").write_text(json.dumps(told), encoding="utf-8")


def failure(entry: str, folder: Path, renamed: Names) -> str | None:
    """Make one entry; what went wrong, if anything."""
    try:
        OTHERS.get(entry, partial(made, entry))(folder, renamed)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}".strip().splitlines()[0]
    return None


def made(entry: str, folder: Path, renamed: Names) -> Any:
    """One method on its small data."""
    return small.run(method_of(entry, renamed), small.kind_of(entry), out=folder, engine=machine())


def machine() -> Any:
    from attar.core.runtime import Engine

    return Engine(device="cpu", compile="off", quiet=True)


def class_of(entry: str) -> Any:
    from attar.core.registry import METHODS

    return METHODS[small.method_name(LABELLED.get(entry, entry))].load()


def method_of(entry: str, renamed: Names) -> Any:
    """The settings of an entry, in the words of this checkout."""
    known, plain = class_of(entry)().to_json(), json.loads(json.dumps({**small.SMALL, **small.VARIANTS}[entry]))
    for old, new in renamed:
        if new and found(known, old) is not MISSING and found(known, new) is MISSING:
            value = taken(plain, new)
            if value is not MISSING:
                put(plain, old, value)
    return small.method_of(entry, plain)


def names_moved(settings: Any) -> list[tuple[str, str | None]]:
    """What settings say themselves of older names, those of nested settings too: old and new."""
    moved = list(getattr(settings, "moved", {}).items())
    for one in dataclasses.fields(settings):
        inner = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        if dataclasses.is_dataclass(inner):
            moved += [(f"{one.name}.{old}", new and f"{one.name}.{new}") for old, new in names_moved(type(inner))]
    return moved


def stored_labels(folder: Path, renamed: Names) -> None:
    """Labels of three epochs beside a set that carries its teacher."""
    import attar

    made(LABELLED["attar.label"], folder, renamed)
    attar.label(folder, attar.StoreLabels(epochs=3), engine=machine())


def largest_labels(folder: Path, renamed: Names) -> None:
    """The largest logits only, of a teacher that is trained for it."""
    import attar
    from attar.images.networks.architecture import Architecture

    made(LABELLED["attar.label/largest"], folder, renamed)
    how = attar.StoreLabels(epochs=2, format="top-k", top=3, mix="mixup", teacher_bn="batch")
    word = "architecture" if "architecture" in inspect.signature(attar.label).parameters else "network"
    network = {word: Architecture(norm="batch", width=4)}
    attar.label(folder, how, data=small.data_of("images"), **network, engine=machine())


def imported(folder: Path, renamed: Names) -> None:
    """A set as DC's authors release theirs."""
    import torch

    import attar

    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(20, 1, 8, 8, generator=generator), torch.arange(10).repeat_interleave(2)
    file = folder.parent / "released.pt"
    torch.save({"data": [[images, labels]], "accs_all_exps": {}}, file)
    attar.import_set([file], small.data_of("images"), out=folder)


def experts(folder: Path, renamed: Names) -> None:
    """Two plain experts and two flat ones, beside each other."""
    from attar import verbs
    from attar.images.experts import Experts
    from attar.images.networks.architecture import Architecture

    verb, word = (verbs.train_experts, "architecture") if hasattr(verbs, "train_experts") else (verbs.train, "network")
    for radius in (0.0, 0.01):
        place = str(folder / f"radius-{radius}")  # names that both checkouts read
        how = Experts.from_json({"experts": 2, "expert_epochs": 2, "expert_folder": place, "flat_radius": radius})
        verb(small.data_of("images"), how, **{word: Architecture(width=8)}, zca=True, engine=machine())


OTHERS = {
    "attar.label": stored_labels,
    "attar.label/largest": largest_labels,
    "attar.import_set": imported,
    "attar.train_experts": experts,
}
"""Verbs that are no method; all of images."""
LABELLED = dict.fromkeys(OTHERS, "random") | {"attar.label": "sre2l", "attar.train_experts": "experts"}
"""The method whose settings they have, or whose set they work on."""


# ---------------------------------------------------------------------------------------------------- settings by name


def renamed_of(entry: str, told: Names) -> Names:
    """The renamed settings that an entry may have, by RENAMED and by what the new checkout tells."""
    pairs = [(old.rpartition(":"), new) for old, new in RENAMED.items()]
    mine = [(old, new) for (owner, _, old), new in pairs if owner in ("", small.method_name(entry))]
    return [*mine, *((old, new) for old, new in told)]


def found(settings: Any, name: str) -> Any:
    """The setting of a dotted name."""
    for part in name.split("."):
        settings = settings.get(part, MISSING) if isinstance(settings, dict) else MISSING
    return settings


def taken(settings: dict[str, Any], name: str) -> Any:
    """The setting of a dotted name, which is taken out, and the groups that it leaves empty with it."""
    value, (group, _, last) = found(settings, name), name.rpartition(".")
    if value is not MISSING:
        home = found(settings, group) if group else settings
        del home[last]
        if group and not home:
            taken(settings, group)
    return value


def put(settings: dict[str, Any], name: str, value: Any) -> None:
    """Set the setting of a dotted name."""
    *groups, last = name.split(".")
    for group in groups:
        settings = settings.setdefault(group, {})
    settings[last] = value


# --------------------------------------------------------------------------------------------- two folders side by side


@dataclass
class Compared:
    """What two checkouts made of one entry."""

    entry: str
    renamed: Names = ()
    files: int = 0
    differing: list[str] = field(default_factory=list)
    exempt: Counter[str] = field(default_factory=Counter)
    """By reason."""
    respelled: bool = False
    """Whether a header of tensors says the same in other words, which changes digests."""

    def folders(self, old: Path, new: Path, *, cards: bool) -> None:
        """Compare every file."""
        names = sorted({*files_in(old), *files_in(new)}, key=lambda name: (not name.endswith(".safetensors"), name))
        for name in names:
            if Path(name).name == "README.md" and not cards:
                self.exempt["cards, without --cards"] += 1
            elif not (old / name).exists() or not (new / name).exists():
                self.differ(name, "", "there" if (old / name).exists() else "absent", "the other way round")
            else:
                self.files += 1
                self.file(name, (old / name).read_bytes(), (new / name).read_bytes())

    def file(self, name: str, old: bytes, new: bytes) -> None:
        """Compare one file."""
        if old == new:
            return
        if name.endswith(".json"):
            self.values(name, "", json.loads(old), json.loads(new))
        elif name.endswith(".safetensors"):
            self.tensors(name, old, new)
        else:
            self.differ(name, "", f"{len(old)} bytes", f"{len(new)} other bytes")

    def tensors(self, name: str, old: bytes, new: bytes) -> None:
        """Compare tensors byte for byte, and what their header says by value."""
        (plain, header, numbers), (new_plain, new_header, new_numbers) = parts_of(old), parts_of(new)
        if header != new_header or numbers != new_numbers:
            self.differ(name, "", f"{len(old)} bytes", f"{len(new)} other bytes of tensors")
            return
        before, self.respelled = len(self.differing), True
        self.values(name, "", plain, new_plain)
        self.respelled = len(self.differing) == before

    def values(self, name: str, key: str, old: Any, new: Any) -> None:
        """Compare plain values: what was said must still be said; more may be."""
        if isinstance(old, dict) and isinstance(new, dict):
            old = self.in_new_words(old, new) if key.rpartition(".")[2] in ("settings", "training") else old
            for inner, value in old.items():
                self.values(name, f"{key}.{inner}".strip("."), value, new.get(inner, MISSING))
            for inner in new.keys() - old.keys():
                self.exempt[f"new field {f'{key}.{inner}'.strip('.')}"] += 1
        elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            for number, pair in enumerate(zip(old, new, strict=True)):
                self.values(name, f"{key}.{number}".strip("."), *pair)
        elif new is MISSING or json.dumps(old) != json.dumps(new):
            self.differ(name, key, old, new)

    def in_new_words(self, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        """Old settings by their new names, where the new ones have those."""
        old, moved = json.loads(json.dumps(old)), {}
        for before, after in self.renamed:
            here = found(new, before)
            if (after is None and here is MISSING) or (after and found(new, after) is not MISSING):
                value = (
                    MISSING if isinstance(found(old, before), dict) and isinstance(here, dict) else taken(old, before)
                )
                if value is not MISSING:
                    moved[before] = (after, value)
        for before, (after, value) in moved.items():
            self.exempt[f"setting {before} is now {after}" if after else f"setting {before} is none any more"] += 1
            if after:
                put(old, after, value)
        return old

    def differ(self, name: str, key: str, old: Any, new: Any) -> None:
        """Note a difference, or the reason why it may be."""
        for entry, file, keys, reason in EXEMPT:
            mine = fnmatch.fnmatchcase(name, file) or fnmatch.fnmatchcase(Path(name).name, file)
            if mine and within(key, keys) and fnmatch.fnmatchcase(self.entry, entry):
                self.exempt[reason] += 1
                return
        if self.respelled and is_digest(old) and is_digest(new) and not key.endswith("fingerprint"):
            self.exempt["digest of a header in other words"] += 1
            return
        place = f"{self.entry}: {name}{f' · {key}' if key else ''}"
        self.differing.append(f"{place}: {shown(old)} became {shown(new)}")


def files_in(folder: Path) -> Iterator[str]:
    """What the artefact consists of, without the run that made it."""
    for path in folder.rglob("*"):
        inner = path.relative_to(folder)
        if path.is_file() and "run" not in inner.parts[:-1]:
            yield str(inner)


def parts_of(raw: bytes) -> tuple[Any, dict[str, Any], bytes]:
    """A file of tensors: what it says, which tensors it has, their numbers."""
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    said = header.pop("__metadata__", {})
    return (
        {name: json.loads(text) if name == "attar" else text for name, text in said.items()},
        header,
        raw[8 + length :],
    )


def within(key: str, keys: str) -> bool:
    """Whether a dotted key is one of those, or inside it."""
    parts = key.split(".")
    heads = [".".join(parts[:count]) for count in range(len(parts) + 1)]
    return any(fnmatch.fnmatchcase(head, keys) for head in heads[: 1 if keys == "" else None])


def is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{32}|[0-9a-f]{64}", value) is not None


def shown(value: Any) -> str:
    text = "nothing" if value is MISSING else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) < 60 else text[:57] + "..."


# ------------------------------------------------------------------------------------------------------- both checkouts


def folder_of(entry: str) -> str:
    return re.sub("[^a-z0-9.]+", "-", entry)


def grouped(only: list[str]) -> dict[str, list[str]]:
    """What is to be run, by kind."""
    kinds: dict[str, list[str]] = {}
    for entry in [*small.SMALL, *small.VARIANTS, *OTHERS]:
        if not only or entry in only or small.method_name(entry) in only:
            kinds.setdefault("images" if entry in OTHERS else small.kind_of(entry), []).append(entry)
    return kinds


def driven(checkout: Path, place: Path, kind: str, entries: list[str], renamed: dict[str, Names]) -> dict[str, Any]:
    """Let a checkout make the entries of a kind; seconds and errors by entry."""
    out = place / kind
    out.mkdir(parents=True)
    settings = {
        "PYTHONPATH": str(checkout / "src"),
        "OMP_NUM_THREADS": "1",
        "ATTAR_CACHE": str(place / "cache"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    words = [sys.executable, str(HERE), "--drive", str(out), str(checkout), json.dumps(renamed), *entries]
    with (place / f"{kind}.log").open("w", encoding="utf-8") as log:
        subprocess.run(words, env={**os.environ, **settings}, stdout=log, stderr=log, check=False)
    told = json.loads((out / "driven.json").read_text(encoding="utf-8")) if (out / "driven.json").exists() else {}
    lost = {"error": f"the process of {kind} ended before it; see its log (--keep)", "seconds": 0.0, "renamed": []}
    return {entry: told.get(entry, lost) for entry in entries}


def compared(
    entry: str, both: tuple[dict[str, Any], ...], folders: list[Path], renamed: Names, cards: bool
) -> Compared:
    """Both checkouts' artefacts of one entry."""
    row = Compared(entry, renamed)
    for who, told in zip(("old", "new"), both, strict=True):
        if told["error"]:
            row.differing.append(f"{entry}: fails in the {who} checkout ({told['error']})")
    if not row.differing:
        row.folders(*(folder / folder_of(entry) for folder in folders), cards=cards)
        if not row.files:
            row.differing.append(f"{entry}: no files")
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="methods, or entries of the tables")
    parser.add_argument("--cards", action="store_true", help="compare README.md as well")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave what was made, and logs, there")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write what was found")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows, seconds = everything(given, (given.keep or Path(scratch)).resolve())
    report(rows, seconds)
    if given.out:
        told = [{**vars(row), "seconds": seconds[row.entry]} for row in rows]
        given.out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return int(not rows or any(row.differing for row in rows))


def everything(given: argparse.Namespace, place: Path) -> tuple[list[Compared], dict[str, list[float]]]:
    """Run both checkouts, kind by kind, and compare."""
    rows, seconds, folders = [], {}, [place / "old", place / "new"]
    for kind, entries in grouped(given.only).items():
        print(f"{len(entries)} entries of {kind}", file=sys.stderr, flush=True)
        known = {entry: renamed_of(entry, []) for entry in entries}
        new = driven(given.new.resolve(), folders[1], kind, entries, known)
        renamed = {entry: renamed_of(entry, new[entry]["renamed"]) for entry in entries}
        old = driven(given.old.resolve(), folders[0], kind, entries, renamed)
        for entry in entries:
            both = (old[entry], new[entry])
            seconds[entry] = [told["seconds"] for told in both]
            rows.append(compared(entry, both, [folder / kind for folder in folders], renamed[entry], given.cards))
    return rows, seconds


def report(rows: list[Compared], seconds: dict[str, list[float]]) -> None:
    """The table, the differences, and why the rest may differ."""
    print(f"{'method':32} {'files':>6} {'differing':>10} {'exempt':>7} {'seconds':>14}")
    for row in rows:
        took = " / ".join(f"{one:.1f}" for one in seconds[row.entry])
        print(f"{row.entry:32} {row.files:6} {len(row.differing):10} {row.exempt.total():7} {took:>14}")
    total = sum((row.exempt for row in rows), Counter())
    differing = [line for row in rows for line in row.differing]
    print(f"{len(rows)} entries, {sum(row.files for row in rows)} files, {len(differing)} differences")
    for line in differing:
        print(f"  {line}")
    for reason, count in total.most_common():
        print(f"  exempt, {count}: {reason}")


def begin() -> int:
    """This checkout's part, where asked for that; otherwise the comparison."""
    if sys.argv[1:2] != ["--drive"]:
        return main()
    out, checkout, renamed, *entries = sys.argv[2:]
    import attar

    assert Path(attar.__file__).is_relative_to(Path(checkout) / "src"), f"{attar.__file__} is not of {checkout}"
    drive(Path(out), entries, json.loads(renamed))
    return 0


if __name__ == "__main__":
    raise SystemExit(begin())
