"""Teachers in other places: offloaded to a folder or to memory they say exactly the same, and have one fingerprint."""

import copy

import accelerate
import pytest
import torch

import attar.language as language
from attar.core.errors import InputError
from attar.language.artefact import parameter_count
from attar.language.distillation import DistillLanguage
from attar.language.models import causal_model, check_runs, device_of, fresh_model
from attar.language.offloaded import Stored, placed
from attar.language.pair import paired
from attar.language.placement import Teacher, check_alone

SMALL = {"student": "gpt2:layers=1,width=16,heads=2", "steps": 2, "batch": 8, "max_length": 96}
CPU = torch.device("cpu")

pytestmark = pytest.mark.filterwarnings("ignore:.*meta device.*")


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    """A teacher of four layers in a folder."""
    place = tmp_path_factory.mktemp("teacher")
    generator = torch.Generator().manual_seed(1)
    fresh_model("llama:layers=4,width=64,heads=2", tokenizer, 96, generator).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture
def offloaded(folder, tmp_path):
    """The same with most of its layers on disk."""
    return causal_model(folder, place=Teacher(memory=("cpu=300KB",), offload=str(tmp_path / "off")))


@pytest.fixture
def ids(tokenizer):
    return torch.arange(12).unsqueeze(0) % len(tokenizer)


def test_an_offloaded_teacher_says_exactly_the_same(folder, offloaded, ids):
    assert "disk" in offloaded.hf_device_map.values()
    assert any(parameter.device.type == "meta" for parameter in offloaded.parameters())
    whole = causal_model(folder)
    with torch.no_grad():
        assert torch.equal(offloaded(ids).logits, whole(ids).logits)
    assert placed(offloaded, CPU) is offloaded
    assert device_of(offloaded) == CPU
    check_runs(offloaded, "teacher", 256, answers=True)


def test_a_teacher_in_the_memory_of_the_cpu_says_exactly_the_same(folder, ids):
    whole = causal_model(folder).eval()
    away = accelerate.cpu_offload(copy.deepcopy(whole), execution_device=CPU)
    with torch.no_grad():
        assert torch.equal(away(ids).logits, whole(ids).logits)
    assert placed(away, CPU) is away
    check_runs(away, "teacher", 256, answers=True)


def test_its_fingerprint_is_that_of_the_whole_one(source, folder, offloaded):
    whole, away = paired(source, folder, None), paired(source, offloaded, None, tokenizer=str(folder))
    assert whole.fingerprint == away.fingerprint
    assert len(Stored({"teacher": None})) == 0


def test_a_student_learns_the_same_from_it(source, folder, tmp_path, engine):
    found = []
    for given in (folder, Teacher(model=folder, memory=("cpu=300KB",), offload=str(tmp_path / "off"))):
        made = language.distill(source, DistillLanguage.of(**SMALL), teacher=given, engine=engine, answers=2)
        found.append((made.model.state_dict(), made.scores))
    assert found[0][1] == found[1][1]
    for name, value in found[0][0].items():
        assert torch.equal(value, found[1][0][name])


def test_a_teacher_is_read_in_the_precision_that_is_asked_for(source, folder, engine):
    assert causal_model(folder, place=Teacher(precision="bfloat16")).dtype == torch.bfloat16
    assert causal_model(folder, place=Teacher(device_map="auto")).dtype == torch.float32
    how = Teacher(model=str(folder), precision="bfloat16")
    made = language.distill(source, DistillLanguage.of(**SMALL), teacher=how, engine=engine, answers=2)
    assert made.scores["teacher"]["cross_entropy"] > 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"memory": ("gpu=1GB",)}, "--teacher.memory 'gpu=1GB' is not DEVICE=SIZE"),
        ({"memory": ("cpu",)}, "--teacher.memory 'cpu' is not DEVICE=SIZE"),
        ({"memory": ("cpu=-1GB",)}, "--teacher.memory 'cpu=-1GB' is not DEVICE=SIZE"),
        ({"memory": ("cpu=lots",)}, "--teacher.memory 'cpu=lots' is not DEVICE=SIZE"),
        ({"offload": __file__}, "is a file. Give a folder"),
    ],
)
def test_bad_places_are_refused_on_one_line(folder, settings, sentence):
    with pytest.raises(InputError, match=sentence) as told:
        causal_model(folder, place=Teacher(**settings))
    assert "\n" not in str(told.value)


def test_what_cannot_be_placed_is_refused(source, teacher, tokenizer):
    how = Teacher(device_map="auto")
    with pytest.raises(InputError, match="but no teacher"):
        paired(source, how, None)
    with pytest.raises(InputError, match="the teacher is in memory already"):
        paired(source, Teacher(model=teacher, device_map="auto"), None, tokenizer)
    with pytest.raises(InputError, match="deals one teacher to all GPUs, but there are 2 processes"):
        check_alone(how, 2)
    check_alone(Teacher(precision="bfloat16"), 2)


def test_its_answers_are_stored_alike_from_everywhere(source, tokenizer, tmp_path, engine):
    """Also those of one whose embeddings are tied, which are two tensors once they are offloaded."""
    place = tmp_path / "teacher"
    teacher = fresh_model("gpt2:layers=3,width=32,heads=2", tokenizer, 96, torch.Generator().manual_seed(1))
    for one in (teacher, tokenizer):
        one.save_pretrained(place)
    found = []
    for name, how in (("here", {}), ("away", {"memory": ("cpu=20KB",), "offload": str(tmp_path / "off")})):
        given = Teacher(model=str(place), **how)
        method = language.StoreAnswers(top=9, max_length=96)
        language.label(source, method, teacher=given, out=tmp_path / name, engine=engine, answers=2)
        found.append(language.StoredAnswers.load(tmp_path / name))
    one, other = found
    assert one.fingerprint == other.fingerprint
    assert (one.scores, one.shards) == (other.scores, other.shards)
    assert one.origin.teacher_parameters == other.origin.teacher_parameters == parameter_count(teacher)


@pytest.mark.parametrize(
    ("memory", "sentence"),
    [
        (("99=1GiB", "cpu=1GiB"), "--teacher.memory names GPU 99, but there"),
        (("cpu=1GiB", "cpu=2GiB"), "names a device twice"),
    ],
)
def test_devices_that_are_not_there_are_refused(folder, memory, sentence):
    with pytest.raises(InputError, match=sentence):
        causal_model(folder, place=Teacher(memory=memory))
