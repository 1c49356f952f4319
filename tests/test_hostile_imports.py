"""Files of teachers, caches and states as no one should make them: refused in one line, and nothing lost."""

import os
import re
from pathlib import Path

import pytest
import torch

import attar
import foreign_networks as theirs
from attar.classifiers.importing import state_in
from attar.core import cache, store
from attar.core.errors import InputError
from attar.core.fleet import Fleet
from attar.core.runtime import Engine

QUIET = Engine(device="cpu", quiet=True)
HOW = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}


@pytest.fixture(scope="module")
def network():
    return theirs.randomised(theirs.ResNet((1, 1, 1), (16, 32, 64), 5, width=16)).state_dict()


def pictures(channels=3):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (10, channels, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(5).repeat_interleave(2)
    return attar.load(((pixels, labels), (pixels, labels)))


def imported(tmp_path, state, source=None, **how):
    torch.save(state, tmp_path / "teacher.pth")
    how = {**HOW, **how}
    return attar.import_teacher(tmp_path / "teacher.pth", source or pictures(), **how)


def holding_itself(state):
    held: dict = {"network": state}
    held["also"] = held
    return held


def without_end(state):
    held: dict = {"x": torch.ones(2)}
    held["a"], held["b"] = held, {"c": held, "d": held}
    return held


FILES = {
    "itself": (holding_itself, "in one another without end"),
    "many times itself": (without_end, "in one another without end"),
    "a long number": (lambda state: {**state, f"layer1.{'9' * 5000}.conv1.weight": torch.ones(1)}, "no network that"),
    "no outputs": (lambda state: {**state, "fc.weight": torch.zeros(0, 64), "fc.bias": torch.zeros(0)}, "no network"),
    "too large": (
        lambda state: {name: one.double() * 1e300 if "conv1" in name else one for name, one in state.items()},
        "conv1.weight that are not finite, or too large",
    ),
    "of other shapes": (
        lambda state: {name: one[..., :1] if one.ndim == 4 else one for name, one in state.items()},
        r"conv1.weight is 16×3×3×1, not 16×3×3×3",
    ),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_is_no_network_is_refused_in_one_line(what, network, tmp_path):
    changed, words = FILES[what]
    with pytest.raises(InputError, match=words) as told:
        imported(tmp_path, changed(network))
    assert "\n" not in str(told.value)


def test_a_network_of_other_channels_is_named(network, tmp_path):
    with pytest.raises(InputError, match=r"resnet8 do not fit: conv1.weight is 16×3×3×3, not 16×1×3×3"):
        imported(tmp_path, network, pictures(1), mean=(0.5,), std=(0.2,))


def test_dictionaries_in_one_another_are_read(network):
    held = {"run": {"last": {"checkpoint": {"model": network}}}}
    assert state_in(held, "file").keys() == network.keys()


def test_eight_bit_floats_are_read(network, tmp_path):
    small = {name: one.to(torch.float8_e4m3fn) if one.is_floating_point() else one for name, one in network.items()}
    assert imported(tmp_path, small).network.state_dict()["classifier.bias"].dtype == torch.float32


def test_a_mean_of_pixels_up_to_255_is_refused(network, tmp_path):
    with pytest.raises(InputError, match=r"mean is 125; it is for pixels from 0 to 1\. Divide mean and std by 255"):
        imported(tmp_path, network, mean=(125, 123, 110), std=(60, 60, 60))


def test_an_order_of_classes_in_a_home_that_is_not_there(network, tmp_path):
    with pytest.raises(InputError, match="class_order is '~nobody-of-that-name/order'"):
        imported(tmp_path, network, class_order="~nobody-of-that-name/order")


def test_another_order_of_classes_under_the_same_name_is_other_data(network, tmp_path):
    source, order = pictures(), tmp_path / "order.txt"
    order.write_text("\n".join(source.classes), encoding="utf-8")
    imported(tmp_path, network, source, class_order=str(order), out=tmp_path / "made")
    imported(tmp_path, network, source, class_order=str(order), out=tmp_path / "made")
    order.write_text("\n".join(reversed(source.classes)), encoding="utf-8")
    with pytest.raises(InputError, match="holds a run with other settings"):
        imported(tmp_path, network, source, class_order=str(order), out=tmp_path / "made")


def test_a_file_as_observer_is_told_what_to_do(network, tmp_path):
    torch.save(network, tmp_path / "teacher.pth")
    with pytest.raises(InputError, match=r"teacher\.pth is a file\. Give the folder of a network"):
        attar.condense(
            pictures(), attar.Herding(ipc=1, observer={"folder": str(tmp_path / "teacher.pth")}), engine=QUIET
        )


def test_a_dead_address_is_told_before_a_table_begins():
    with pytest.raises(InputError, match=r"no Ray answers at 127\.0\.0\.1:1 "):
        Fleet(address="127.0.0.1:1").check()
    Fleet(workers=2).check()


# ---------------------------------------------------------------------------------------------------------------- cache


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "cache"
    monkeypatch.setenv("ATTAR_CACHE", str(place))
    (place / "networks" / "one").mkdir(parents=True)
    return place


def test_what_attar_did_not_put_there_stays(folder):
    for name in ("photos", ".git"):
        (folder / name).mkdir()
        (folder / name / "mine").write_bytes(b"1")
    (folder / "notes.txt").write_bytes(b"1")
    assert [one.path.name for one in cache.entries()] == ["one"]
    assert len(cache.prune(cache.rule_of("0d")).removed) == 1
    assert sorted(path.name for path in folder.iterdir()) == [".git", "held", "networks", "notes.txt", "photos"]
    assert (folder / "photos" / "mine").exists()


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="links need rights on Windows")
def test_a_link_is_removed_and_not_what_it_names(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "networks" / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "networks" / "nowhere").symlink_to(tmp_path / "nowhere")
    assert len(cache.prune(cache.rule_of("0d")).removed) == 3
    assert (tmp_path / "elsewhere").is_dir() and not list((folder / "networks").iterdir())


def test_notes_that_are_no_text_do_not_stop_it(folder):
    (folder / "held" / "1-a.lock").mkdir(parents=True)
    (folder / "held" / "1-a.txt").write_bytes(b"\xff\xfe")
    assert len(cache.prune(cache.rule_of("0d")).removed) == 1


def test_every_place_of_the_cache_is_known_and_noted():
    source = Path(attar.__file__).parent
    code = [path.read_text(encoding="utf-8") for path in source.rglob("*.py")]
    places = {name for text in code for name in re.findall(r'(?:cache_folder\(\) / |cache_place\()"(\w+)"', text)}
    assert places and places <= set(cache.GROUPS)
    for text in code:
        assert 'cache_folder() / "' not in text or "cache.use(" in text


def test_a_place_that_was_asked_for_is_in_use(folder):
    from attar.core.training import cache_place

    place = cache_place("experts", ["some", "facts"])
    place.mkdir(parents=True)
    assert [one.path.name for one in cache.prune(cache.rule_of("0d")).in_use] == [place.name]
    assert place.is_dir()


# --------------------------------------------------------------------------------------------------------------- states


TENSORS = {
    "float8": torch.arange(6.0).to(torch.float8_e5m2).view(2, 3).t(),
    "bfloat16": torch.arange(6.0).bfloat16().view(2, 3).t(),
    "bool": torch.tensor([True, False])[::2],
    "int8": torch.arange(6, dtype=torch.int8)[::2],
    "uint16": torch.arange(6).to(torch.uint16),
    "conjugate": torch.tensor([1 + 2j, 3 - 1j]).conj(),
    "one number repeated": torch.ones(1).expand(5),
    "none": torch.zeros(0, 3),
    "no dimension": torch.tensor(3.0),
}


def test_tensors_of_many_kinds_come_back(tmp_path):
    store.write_tensors(tmp_path / "file", TENSORS, None)
    found, _ = store.read_tensors(tmp_path / "file")
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype and found[name].tolist() == tensor.tolist()


@pytest.mark.parametrize(
    "tensor, word",
    [
        (torch.zeros(2, dtype=torch.complex128), "complex128"),
        (torch.zeros(2).to(torch.float8_e8m0fnu), "float8_e8m0fnu"),
        (torch.eye(2).to_sparse(), "sparse_coo"),
        (torch.eye(2, device="meta"), "without values"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_tensor_that_no_file_holds_is_refused_and_the_old_file_stays(tensor, word, tmp_path):
    store.write_tensors(tmp_path / "file", {"a": torch.ones(2)}, None)
    with pytest.raises(InputError, match=f"file is not written: b is {word}, which no safetensors file holds"):
        store.write_tensors(tmp_path / "file", {"a": torch.zeros(2), "b": tensor}, None)
    assert store.read_tensors(tmp_path / "file")[0]["a"].tolist() == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
