"""What lies in the cache, and what is removed of it: never what a process uses."""

import json
import os
import subprocess
import sys
import time

import pytest

from attar.cli import main
from attar.core import cache, store
from attar.core.errors import InputError

DAY = 86400


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache with two networks, a teacher's outputs and downloaded data, of known sizes and ages."""
    place = tmp_path / "cache"
    monkeypatch.setenv("ATTAR_CACHE", str(place))
    for name, size, days in [
        ("networks/old", 400_000, 40),
        ("networks/new", 100_000, 1),
        ("teachers/two", 200_000, 10),
        ("ogbg_molhiv", 300_000, 20),
    ]:
        lay(place / name, size, days)
    return place


def lay(path, size, days):
    (path / "run").mkdir(parents=True)
    file = path / "run" / "file"
    file.write_bytes(bytes(size))
    for one in (file, path / "run", path):
        os.utime(one, (time.time() - days * DAY,) * 2)


def names(found):
    return [one.path.name for one in found]


def test_entries_are_listed_with_their_sizes_and_ages(folder):
    found = cache.entries()
    assert names(found) == ["old", "ogbg_molhiv", "two", "new"]
    assert [one.bytes for one in found] == [400_000, 300_000, 200_000, 100_000]
    assert [one.days for one in found] == [40, 20, 10, 1]
    assert [one.what for one in found] == [
        *("trained networks", "downloaded data", "outputs of teachers", "trained networks"),
    ]


@pytest.mark.parametrize(
    "text, gone",
    [
        ("30d", ["old"]),
        ("2w", ["old", "ogbg_molhiv"]),
        ("12h", ["old", "ogbg_molhiv", "two", "new"]),
        ("0d", ["old", "ogbg_molhiv", "two", "new"]),
        ("365d", []),
        ("0.7MB", ["old"]),
        ("600 KB", ["old"]),
        ("300kb", ["old", "ogbg_molhiv"]),
        ("1GB", []),
        ("0GB", ["old", "ogbg_molhiv", "two", "new"]),
    ],
)
def test_what_is_removed(text, gone, folder):
    rule = cache.rule_of(text)
    assert names(cache.prune(rule, dry=True).removed) == gone
    assert len(cache.entries()) == 4
    assert names(cache.prune(rule).removed) == gone
    assert names(cache.entries()) == [name for name in ("old", "ogbg_molhiv", "two", "new") if name not in gone]
    assert not list((folder / cache.HELD).glob("*.gone"))


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "30 days", "2 G B", "1e9GB", "two weeks", "9999999999d"])
def test_an_amount_that_is_none_is_refused(text):
    with pytest.raises(InputError, match="is neither an age nor a size"):
        cache.rule_of(text)


HOLDER = """
import sys
from attar.core import cache, store
cache.use(store.cache_folder() / "networks" / "old")
cache.use(store.cache_folder() / "networks" / "old")
print("held", flush=True)
sys.stdin.read()
"""


def test_what_a_process_uses_stays_until_it_ends_however_it_ends(folder):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        assert cache.entries()[-1].days == 0  # it counts as used now
        done = cache.prune(cache.rule_of("0GB"))
        assert names(done.in_use) == ["old"] and len(done.removed) == 3
    finally:
        holder.kill()
        holder.communicate()
    assert names(cache.prune(cache.rule_of("0GB")).removed) == ["old"]
    assert {path.name for path in (folder / cache.HELD).iterdir()} == {"lock"}


def test_a_folder_in_which_a_run_is_at_work_stays(folder):
    with store.locked(folder / "networks" / "old" / "run"):
        done = cache.prune(cache.rule_of("0d"))
    assert names(done.in_use) == ["old"] and len(done.removed) == 3


def test_what_lies_elsewhere_is_not_noted(folder, tmp_path):
    cache.use(tmp_path / "elsewhere")
    assert not (folder / cache.HELD).exists()


def test_a_cache_that_cannot_be_noted_in_is_used_all_the_same(folder):
    (folder / cache.HELD).write_text("not a folder", encoding="utf-8")
    cache.use(folder / "networks" / "old")


def test_a_network_that_was_removed_is_trained_again(few_digits, runtime, tmp_path, monkeypatch):
    from attar.core.training import cached, is_cached
    from attar.images.networks.architecture import Architecture
    from attar.images.protocols import Protocol
    from attar.images.training import TrainNetwork

    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    protocol = Protocol(name="brief", epochs=1)
    method = TrainNetwork(architecture=Architecture(width=4), protocol=protocol).resolve(few_digits)
    cached(method, few_digits, runtime, title="a network")
    assert is_cached(method, few_digits, runtime.seed)
    assert cache.prune(cache.rule_of("0d")).in_use  # by this process
    monkeypatch.setattr(cache, "_held", lambda folder: set())
    cache.prune(cache.rule_of("0d"))
    assert not is_cached(method, few_digits, runtime.seed)
    cached(method, few_digits, runtime, title="a network")
    assert is_cached(method, few_digits, runtime.seed)


def test_the_command(folder, tmp_path, capsys):
    main(["cache"])
    lines = capsys.readouterr().out.replace("┃", "│").splitlines()
    assert lines[0].split() == ["what", "│", "entries", "│", "size", "│", "last", "used"]
    assert lines[2].split() == ["trained", "networks", "│", "2", "│", "0.5", "MB", "│", "yesterday"]
    assert lines[-1] == f"4 entries, 1.0 MB in {folder}"
    main(["cache", "--entries", "--json", str(tmp_path / "list.json")])
    assert "networks/new" in capsys.readouterr().out.splitlines()[2]
    assert json.loads((tmp_path / "list.json").read_text(encoding="utf-8"))[0]["bytes"] == 400_000
    main(["cache", "--prune", "30d", "--dry-run"])
    assert capsys.readouterr().out == "1 entry would be removed, 0.4 MB\n"
    main(["cache", "--prune", "30d", "--entries"])
    assert capsys.readouterr().out.splitlines()[-1] == "1 entry removed, 0.4 MB"
    main(["cache", "--prune", "0d"])
    main(["cache"])
    assert capsys.readouterr().out.splitlines()[-1] == f"{folder} is empty"
