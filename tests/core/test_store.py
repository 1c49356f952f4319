import json
import os
import subprocess
import sys
import threading

import pytest
import torch

from attar.core import store
from attar.core.errors import InputError

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1, 2], dtype=torch.int64), "none": torch.zeros(0, 3)}


def refusal_of(function, *arguments):
    with pytest.raises(InputError) as refusal:
        function(*arguments)
    return str(refusal.value)


# Whole or not there.


def test_a_file_is_replaced_whole_and_no_draft_is_left(tmp_path):
    file = tmp_path / "file"
    for data in (b"one", b"two"):
        store.write_bytes(file, data)
        assert file.read_bytes() == data
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_bytes(broken, tmp_path, monkeypatch):
    file = tmp_path / "file"
    store.write_bytes(file, b"old")

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if broken == "fsync" else (type(file), "replace")), fail)
    told = refusal_of(store.write_bytes, file, b"new")
    assert told == f"cannot write {file}: No space left on device. Make room, then run the same command again."
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_write_that_is_stopped_leaves_no_draft(error, tmp_path, monkeypatch):
    def stop(number):
        raise error

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(error):
        store.write_bytes(tmp_path / "file", b"new")
    assert not any(tmp_path.iterdir())


def test_a_full_disk_is_told_and_leaves_no_draft(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        told = refusal_of(store.write_bytes, tmp_path / "file", bytes(10**6))
        assert told.startswith(f"cannot write {tmp_path}/file: No space left on device. Make room")
        assert not any(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_names_that_are_not_utf_8_are_escaped(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    store.write_json(tmp_path / "facts.json", {"data": name})
    assert (tmp_path / "facts.json").read_bytes().decode("utf-8").count("caf\\udce9") == 1
    assert store.read_json(tmp_path / "facts.json") == {"data": name}
    store.write_text(tmp_path / "README.md", name)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "caf\\udce9"


def test_a_reader_never_sees_half_a_file(tmp_path):
    file, whole = tmp_path / "file", [bytes([letter]) * 200_000 for letter in b"ab"]
    store.write_bytes(file, whole[0])
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(file.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(50):
        store.write_bytes(file, whole[turn % 2])
    done.set()
    reader.join()
    assert seen <= set(whole)


def test_json_keeps_the_order_of_its_keys_and_its_letters(tmp_path):
    value = {"z": 1, "a": [1.5, None, "größe"]}
    store.write_json(tmp_path / "file.json", value)
    assert list(store.read_json(tmp_path / "file.json")) == ["z", "a"]
    assert store.read_json(tmp_path / "file.json") == value
    assert "größe" in (tmp_path / "file.json").read_text()


def test_missing_and_damaged_json_are_refused(tmp_path):
    file = tmp_path / "file.json"
    assert refusal_of(store.read_json, file) == f"{file} is missing."
    for damage in (b"{", b"\xff\xfe\x00"):
        file.write_bytes(damage)
        assert refusal_of(store.read_json, file) == f"{file} is damaged: it is not JSON."


# Tensors.


def test_tensors_and_plain_values_come_back(tmp_path):
    plain = {"step": 3, "state": {"x": None, "y": [1, 2.5, "z"]}}
    digest = store.write_tensors(tmp_path / "file", TENSORS, plain)
    tensors, again = store.read_tensors(tmp_path / "file")
    assert again == plain
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert digest == store.digest_of(tensors, plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.uint8, torch.float64])
def test_every_kind_of_number_comes_back(dtype, tmp_path):
    tensor = torch.arange(5).to(dtype)
    store.write_tensors(tmp_path / "file", {"x": tensor}, {})
    assert torch.equal(store.read_tensors(tmp_path / "file")[0]["x"], tensor)


def test_a_transposed_tensor_comes_back_as_it_looks(tmp_path):
    tensor = torch.arange(6.0).view(2, 3).T
    store.write_tensors(tmp_path / "file", {"x": tensor}, {})
    assert torch.equal(store.read_tensors(tmp_path / "file")[0]["x"], tensor)


def test_the_same_contents_are_the_same_bytes(tmp_path):
    store.write_tensors(tmp_path / "one", TENSORS, {"x": 1, "y": 2})
    store.write_tensors(tmp_path / "two", dict(reversed(TENSORS.items())), {"y": 2, "x": 1})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_digest_changes_with_names_types_shapes_values_and_plain_ones():
    base = {"x": torch.zeros(2, 3)}
    variants = [
        (base, {}),
        ({"y": torch.zeros(2, 3)}, {}),
        ({"x": torch.zeros(3, 2)}, {}),
        ({"x": torch.zeros(2, 3, dtype=torch.int32)}, {}),
        ({"x": torch.ones(2, 3)}, {}),
        ({"x": torch.zeros(2, 3), "y": torch.zeros(0)}, {}),
        (base, {"a": 1}),
        (base, {"a": 2}),
    ]
    assert len({store.digest_of(*variant) for variant in variants}) == len(variants)
    assert store.digest_of({"x": torch.zeros(2, 3)}, {}) == store.digest_of(base, {})


def test_every_flipped_byte_is_noticed(tmp_path):
    file = tmp_path / "file"
    store.write_tensors(file, {"x": torch.arange(4.0)}, {"step": 1})
    whole = file.read_bytes()
    for place in range(8, len(whole)):
        spoilt = bytearray(whole)
        spoilt[place] ^= 0x01
        file.write_bytes(spoilt)
        try:
            tensors, plain = store.read_tensors(file)
        except InputError:
            continue
        assert torch.equal(tensors["x"], torch.arange(4.0)) and plain == {"step": 1}, place


@pytest.mark.parametrize("names", [store.NAMES, [torch.float32], []], ids=["all", "one", "none"])
def test_the_file_is_to_the_byte_what_the_library_writes(names, tmp_path):
    from safetensors.torch import save

    tensors = {f"{kind} ö/{kind}": torch.arange(7).to(kind).reshape(7, 1) for kind in names}
    tensors |= {"empty": torch.zeros(0, 2), "scalar": torch.tensor(2.0), "slice": torch.arange(12.0)[::3]}
    plain = {"step": 1, "text": 'quoted "ö"\n', "nothing": None}
    digest = store.write_tensors(tmp_path / "file", tensors, plain)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    header = {"attar": json.dumps({"digest": digest, "plain": plain}, sort_keys=True)}
    assert (tmp_path / "file").read_bytes() == save(whole, header)


def test_tensors_that_share_memory_are_written_each(tmp_path):
    tensor = torch.arange(4.0)
    store.write_tensors(tmp_path / "file", {"one": tensor, "other": tensor, "part": tensor[1:]}, {})
    read, _ = store.read_tensors(tmp_path / "file")
    assert read["one"].tolist() == read["other"].tolist() == [0, 1, 2, 3] and read["part"].tolist() == [1, 2, 3]


WEIGHING = """
import resource, sys, pathlib, torch
from attar.core import store

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

tensors = {f"t{n}": torch.full((10_000_000,), float(n)) for n in range(3)}  # 40 MB each
store.write_tensors(pathlib.Path(sys.argv[1]) / "small", {"x": torch.zeros(9)}, {})
before = peak()
store.write_tensors(pathlib.Path(sys.argv[1]) / "file", tensors, {})
store.digest_of(tensors, {})
print(peak() - before)
"""


def test_writing_and_digesting_hold_no_second_copy_in_memory(tmp_path):
    done = subprocess.run([sys.executable, "-c", WEIGHING, tmp_path], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 30
    assert (tmp_path / "file").stat().st_size > 120_000_000


def test_each_tensor_is_digested_once(tmp_path, monkeypatch):
    seen, real = [], store._take_in
    monkeypatch.setattr(store, "_take_in", lambda digest, name, tensor: seen.append(name) or real(digest, name, tensor))
    store.write_tensors(tmp_path / "file", TENSORS, {})
    assert seen == sorted(TENSORS)


def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path):
    # The first bytes are the header's length; 640 of them begin as a pickle of protocol 2 does.
    marks = set()
    for padding in range(0, 1500, 4):
        store.write_tensors(tmp_path / "file", {"x": torch.ones(1)}, {"padding": "x" * padding})
        marks.add((tmp_path / "file").read_bytes()[:2])
        store.read_tensors(tmp_path / "file")
    assert {b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"} <= marks


# Folders.


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "below"
    assert refusal_of(store.make_folder, folder) == f"cannot write to {folder}: Not a directory."


def test_making_a_folder_leaves_nothing_in_it(tmp_path):
    store.make_folder(tmp_path / "a" / "b")
    store.make_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def hold(folder):
    with store.locked(folder):
        pass


def test_a_folder_is_held_against_others_and_let_go(tmp_path):
    folder = tmp_path / "out" / "run"
    folder.mkdir(parents=True)
    with store.locked(folder):
        assert refusal_of(hold, folder) == (
            f"another process is working in {tmp_path / 'out'}. Wait for it, or choose another --out."
        )
    hold(folder)


def test_a_lock_goes_with_the_process_that_held_it(tmp_path):
    program = f"""
import os, pathlib, sys
from attar.core import store
with store.locked(pathlib.Path({str(tmp_path)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    refusal_of(hold, tmp_path)
    holder.kill()
    holder.communicate()
    hold(tmp_path)


@pytest.mark.parametrize("number", store.LOCKLESS)
def test_storage_without_locks_is_told_and_used(number, tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="Windows has locks of another kind")

    def refuse(*_):
        raise OSError(number, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match=r"lies on storage without locks\. Let no other process work in it\."):
        hold(tmp_path)


def test_waiting_for_a_lock_ends_when_it_is_free(tmp_path):
    order, held = [], threading.Event()

    def first():
        with store.locked(tmp_path):
            held.set()
            threading.Event().wait(0.1)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    held.wait()
    with store.locked(tmp_path, wait=True):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "mine"))
    assert store.cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("ATTAR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert store.cache_folder() == tmp_path / "xdg" / "attar"
    assert (tmp_path / "xdg" / "attar").is_dir()


def test_named_files_and_folders_are_copied_and_others_are_not(tmp_path):
    for name in ("a.json", "b.json", "data/x.parquet"):
        path = tmp_path / "from" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(name))
    store.copy_files(tmp_path / "from", tmp_path / "to", ["a.json", "data", "missing.json"])
    copied = {str(path.relative_to(tmp_path / "to")) for path in (tmp_path / "to").rglob("*") if path.is_file()}
    assert copied == {"a.json", "data/x.parquet"}


def test_removing_takes_a_file_a_folder_or_nothing(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    for name in ("folder", "file", "neither"):
        store.remove(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# Finite or refused.

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "values, dtype",
    [
        ([0.0, NAN], torch.float32),
        ([INF, 1.0], torch.float64),
        ([-INF, 1.0], torch.float32),
        ([-INF, 0.0, NAN], torch.float32),
        ([-INF, 0.0, INF], torch.float32),
        ([NAN], torch.bfloat16),
        ([70000.0], torch.float16),
        ([0.0, NAN], torch.complex64),
        ([NAN], torch.float8_e5m2),
    ],
)
def test_tensors_that_are_not_finite_are_neither_written_nor_read(values, dtype, tmp_path, monkeypatch):
    tensors, path = {"pixels": torch.tensor(values).to(dtype)}, tmp_path / "t.safetensors"
    told = "pixels holds values that are infinite or not numbers."
    assert refusal_of(store.write_tensors, path, tensors, None) == f"{path} is not written: {told}"
    assert not any(tmp_path.iterdir())
    with monkeypatch.context() as without:
        without.setattr(store, "check_finite", lambda tensors, told: None)
        store.write_tensors(path, tensors, None)
    assert refusal_of(store.read_tensors, path) == f"{path} is of a run that diverged: {told}"


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3).masked_fill(torch.tensor([True, False, True]), -INF),
        torch.full((2, 2), -INF),
        torch.full((2,), torch.finfo(torch.float32).max),
        torch.zeros(0),
        torch.arange(3),
        torch.tensor([True]),
        torch.zeros(2, dtype=torch.float8_e4m3fn),
    ],
)
def test_masks_and_whatever_is_finite_are_kept(tensor, tmp_path):
    store.write_tensors(tmp_path / "t.safetensors", {"mask": tensor}, None)
    again = store.read_tensors(tmp_path / "t.safetensors")[0]["mask"]
    assert torch.equal(again.view(torch.uint8), tensor.view(torch.uint8))


def test_rows_that_are_not_finite_are_refused(tmp_path, monkeypatch):
    rows = torch.tensor([[1.0, 2.0], [3.0, NAN]])
    assert "rows holds values" in refusal_of(store.write_rows, tmp_path / "r.safetensors", rows, {})
    monkeypatch.setattr(store, "check_finite", lambda tensors, told: None)
    store.write_rows(tmp_path / "r.safetensors", rows, {})
    monkeypatch.undo()
    read = store.Rows(tmp_path / "r.safetensors")
    assert read[0].tolist() == [1.0, 2.0]
    assert "of a run that diverged: row 1 holds values" in refusal_of(read.__getitem__, 1)
