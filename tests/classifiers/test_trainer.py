"""Inside a Trainer of `transformers`: its loop, a method's terms, and what cannot be had there."""

import copy
import inspect
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch import nn

from attar.classifiers.arguments import check_arguments
from attar.classifiers.attention import AttentionTransfer
from attar.classifiers.cc import CC
from attar.classifiers.crd import CRD, Memory
from attar.classifiers.dhkd import DHKD, binary_kl_norm
from attar.classifiers.dist import DIST
from attar.classifiers.dkd import DKD
from attar.classifiers.fitnets import FitNets
from attar.classifiers.kd import KD, kd_loss
from attar.classifiers.nd import ND
from attar.classifiers.nst import NST
from attar.classifiers.numbered import ROW
from attar.classifiers.pkt import PKT
from attar.classifiers.reviewkd import ReviewKD
from attar.classifiers.rkd import RKD
from attar.classifiers.skd import SubclassKD
from attar.classifiers.sp import SP
from attar.classifiers.trainer import BESIDE, DistillationMixin, plain_loss
from attar.classifiers.vid import VID
from attar.classifiers.watched import Watched
from attar.core.errors import InputError
from attar.core.seeds import derived_seed
from attar.core.state import pack, rebuilt
from two_processes import free_port

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

HERE = Path(__file__).parent


class DistillingTrainer(DistillationMixin, transformers.Trainer):
    pass


class Digits(torch.utils.data.Dataset):
    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source.train)

    def __getitem__(self, row):
        images = self.source.inputs(torch.tensor([row]))[0]
        return {"pixel_values": images, "labels": int(self.source.targets[row])}


def classifier(width):
    config = transformers.ResNetConfig(
        num_channels=1, embedding_size=width, hidden_sizes=[width, 2 * width], depths=[1, 1], num_labels=10
    )
    with torch.random.fork_rng():
        torch.manual_seed(width)
        return transformers.ResNetForImageClassification(config)


def trainer(source, method, folder, teacher=None, **settings):
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no", **settings
    )
    teacher = teacher or classifier(8)
    return DistillingTrainer(
        model=classifier(4), teacher=teacher, method=method, args=arguments, train_dataset=Digits(source)
    )


def test_the_loss_is_the_sum_of_its_terms(few_digits, tmp_path):
    teacher = classifier(8).eval()
    made = trainer(few_digits, KD(), tmp_path, teacher)
    images, labels = few_digits.inputs(torch.arange(8)), few_digits.targets[:8]
    model = made.model.train()
    loss, outputs = made.compute_loss(model, {"pixel_values": images, "labels": labels}, return_outputs=True)
    with torch.no_grad():
        wanted = teacher(images).logits
    own = 0.1 * F.cross_entropy(outputs["logits"], labels) + 0.9 * kd_loss(outputs["logits"], wanted)
    assert torch.isclose(loss, own)


@pytest.mark.parametrize("method", [KD(), ND()])
def test_it_trains(method, few_digits, tmp_path):
    made = trainer(few_digits, method, tmp_path, max_steps=12, per_device_train_batch_size=40, learning_rate=1e-2)
    first = next(iter(made.model.parameters())).detach().clone()
    made.train()
    assert not torch.equal(first, next(iter(made.model.parameters())))
    assert all(parameter.grad is None for parameter in made._teacher.network.parameters())
    connectors = list(made._state.parts.parameters())
    assert bool(connectors) == (method.name == "nd")
    inside = {id(parameter) for group in made.optimizer.param_groups for parameter in group["params"]}
    assert {id(parameter) for parameter in connectors} <= inside


def test_what_a_trainer_cannot_do_is_refused(few_digits, tmp_path):
    wrong = classifier(8)
    wrong.classifier[1] = nn.Linear(16, 7)
    with pytest.raises(InputError, match="the student gives 10 logits and the teacher 7"):
        trainer(few_digits, KD(), tmp_path, wrong, max_steps=1).train()


def test_a_plain_loop_has_a_plain_loss(few_digits):
    networks = [classifier(width).eval() for width in (4, 8)]
    images, labels = few_digits.inputs(torch.arange(8)), few_digits.targets[:8]
    student, teacher = (Watched(network)(images) for network in networks)
    loss = plain_loss(KD(), student, teacher, labels)
    own = 0.1 * F.cross_entropy(student.logits, labels) + 0.9 * kd_loss(student.logits, teacher.logits)
    assert torch.isclose(loss, own)
    with pytest.raises(InputError, match="nd trains or remembers something beside the student"):
        plain_loss(ND(), student, teacher, labels)


# --------------------------------------------------------------------------------------------------------------- text


WORDS, CLASSES = 40, 4


class Sentences(torch.utils.data.Dataset):
    """Of 5 to 9 words, with padding; the class is the first word's quarter of the dictionary."""

    def __init__(self, count=48):
        draw = torch.Generator().manual_seed(0)
        self.words = torch.randint(1, WORDS, (count, 9), generator=draw)
        self.lengths = torch.randint(5, 10, (count,), generator=draw)

    def __len__(self):
        return len(self.words)

    def __getitem__(self, row):
        mask = torch.arange(9) < self.lengths[row]
        return {
            "input_ids": self.words[row] * mask,
            "attention_mask": mask.long(),
            "token_type_ids": torch.zeros(9, dtype=torch.long),
            "labels": int(self.words[row, 0]) * CLASSES // WORDS,
        }


def batch_of(sentences, many=8):
    rows = [sentences[row] for row in range(many)]
    named = {name: torch.stack([row[name] for row in rows]) for name in rows[0] if name != "labels"}
    return named, torch.tensor([row["labels"] for row in rows])


def text_classifier(family, width, layers=2):
    sizes = {"vocab_size": WORDS, "num_labels": CLASSES, "pad_token_id": 0}
    heads = {"num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 2 * width}
    made = {
        "bert": lambda: transformers.BertForSequenceClassification(
            transformers.BertConfig(**sizes, **heads, hidden_size=width)
        ),
        "distilbert": lambda: transformers.DistilBertForSequenceClassification(
            transformers.DistilBertConfig(**sizes, dim=width, n_layers=layers, n_heads=2, hidden_dim=2 * width)
        ),
        "gpt2": lambda: transformers.GPT2ForSequenceClassification(
            transformers.GPT2Config(**sizes, n_embd=width, n_layer=layers, n_head=2, n_positions=16)
        ),
        "llama": lambda: transformers.LlamaForSequenceClassification(
            transformers.LlamaConfig(**sizes, **heads, hidden_size=width)
        ),
    }
    with torch.random.fork_rng():
        torch.manual_seed(width)
        return made[family]()


def text_trainer(method, folder, student=None, teacher=None, samples=None, **settings):
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), report_to=[], use_cpu=True, disable_tqdm=True, **{"save_strategy": "no"} | settings
    )
    return DistillingTrainer(
        model=student or text_classifier("distilbert", 8, 1),
        teacher=teacher or text_classifier("bert", 16),
        method=method,
        args=arguments,
        train_dataset=Sentences() if samples is None else samples,
        eval_dataset=Sentences(8),
    )


def parameters(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "llama"])
def test_a_classifier_of_text_shows_what_its_last_layer_saw(family):
    network = text_classifier(family, 16).eval()
    named, _ = batch_of(Sentences())
    watched = Watched(network)
    said = watched(named)
    if family == "distilbert":
        del named["token_type_ids"]
    assert torch.equal(said.logits, network(**named).logits)
    assert said.embedding.shape == (8, 16)
    assert torch.allclose(watched.head(said.embedding), said.logits, atol=1e-6)


LAYERS = {"student_layers": ("distilbert.transformer.layer.0",), "teacher_layers": ("bert.encoder.layer.1",)}


@pytest.mark.parametrize(
    "method",
    [
        KD(),
        DKD(standardise=True),
        DIST(),
        RKD(),
        SP(),
        PKT(),
        CC(),
        CRD(features=8),
        ND(),
        DHKD(),
        SubclassKD(group=(0, 0, 1, 1)),
        FitNets(**LAYERS, stage=0, hint_share=0.5, teacher_weight=1.0),
        AttentionTransfer(**LAYERS),
        ReviewKD(**LAYERS),
        VID(**LAYERS),
        NST(**LAYERS),
    ],
    ids=lambda method: method.name,
)
def test_a_student_of_text_learns_from_a_teacher_of_another_family(method, tmp_path):
    made = text_trainer(method, tmp_path, max_steps=4, per_device_train_batch_size=16, learning_rate=1e-2)
    first, taught = parameters(made.model).clone(), parameters(made._teacher.network).clone()
    made.train()
    assert not torch.equal(parameters(made.model), first)
    assert torch.equal(parameters(made._teacher.network), taught)
    assert made.evaluate()["eval_loss"] > 0
    assert made.predict(Sentences(8)).predictions.shape == (8, CLASSES)


def test_a_plain_loop_has_it_for_text_too():
    teacher, student = text_classifier("llama", 16).eval(), text_classifier("gpt2", 8)
    named, labels = batch_of(Sentences())
    optimizer, losses = torch.optim.AdamW(student.parameters(), lr=1e-2), []
    seen, wanted = Watched(student), Watched(teacher)
    for _ in range(15):
        with torch.no_grad():
            answers = wanted(named)
        loss = plain_loss(KD(label_weight=0.5, teacher_weight=0.5), seen(named), answers, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_padding_says_nothing_to_maps():
    named, _ = batch_of(Sentences())
    maps = Watched(text_classifier("bert", 16).eval(), ["bert.encoder.layer.0"])(named).stages[0]
    assert maps.shape == (8, 16, 9, 1)
    assert not maps.transpose(1, 2)[named["attention_mask"] == 0].any()
    assert maps.transpose(1, 2)[named["attention_mask"] == 1].any()


def test_a_teacher_comes_from_a_folder_and_not_from_a_pickle(tmp_path):
    teacher = text_classifier("bert", 16).eval()
    teacher.save_pretrained(tmp_path / "teacher")
    made = text_trainer(KD(), tmp_path, teacher=tmp_path / "teacher")
    named, _ = batch_of(Sentences())
    with torch.no_grad():
        assert torch.equal(made._teacher(named).logits, teacher(**named).logits)
    (tmp_path / "teacher" / "model.safetensors").unlink()
    torch.save(teacher.state_dict(), tmp_path / "teacher" / "pytorch_model.bin")
    with pytest.raises(InputError, match="holds no network that is safe to read"):
        text_trainer(KD(), tmp_path, teacher=tmp_path / "teacher")
    text_classifier("bert", 16).bert.save_pretrained(tmp_path / "body")
    with pytest.raises(InputError, match=r"is a BertModel\. Give a teacher that classifies images or texts"):
        text_trainer(KD(), tmp_path, teacher=tmp_path / "body")
    with pytest.raises(InputError, match="'nowhere' is not a classifier in a folder or on the hub"):
        text_trainer(KD(), tmp_path, teacher="nowhere")


# ------------------------------------------------------------------------------------- what a loss cannot do by itself


def test_gradients_are_aligned_there_too(few_digits, tmp_path):
    made = trainer(few_digits, DHKD(label_weight=1.0), tmp_path)
    images, labels = few_digits.inputs(torch.arange(8)), few_digits.targets[:8]
    model = made.model.train()
    inputs = {"pixel_values": images, "labels": labels}
    made.compute_loss(model, inputs)  # builds the second head
    found = {}
    for alignment in ("off", "on"):
        made.method = DHKD(alignment=alignment)
        model.zero_grad()
        made._state.parts.zero_grad()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            loss = made.compute_loss(model, inputs)
        loss.backward()
        found[alignment] = (loss.item(), [parameter.grad.clone() for parameter in model.parameters()])
    assert found["on"][0] == pytest.approx(found["off"][0], rel=1e-5)
    assert any(not torch.allclose(a, b) for a, b in zip(found["on"][1], found["off"][1], strict=True))


def test_dhkd_counts_in_a_plain_loss(few_digits):
    networks = [classifier(width).eval() for width in (4, 8)]
    images, labels = few_digits.inputs(torch.arange(8)), few_digits.targets[:8]
    student, teacher = (Watched(network)(images) for network in networks)
    method = DHKD(head="shared", alignment="off", stop_at=0.5)
    own = F.cross_entropy(student.logits, labels)
    assert torch.isclose(
        plain_loss(method, student, teacher, labels), own + binary_kl_norm(student.logits, teacher.logits)
    )
    assert torch.isclose(plain_loss(method, student, teacher, labels, progress=0.5), own)


LLAMA = {"student_layers": ("model.layers.0",), "teacher_layers": ("bert.encoder.layer.1",)}


def without_dropout(network):
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


@pytest.mark.parametrize("method", [KD(), DKD(), VID(**LLAMA), NST(**LLAMA)], ids=lambda method: method.name)
def test_accumulated_batches_count_as_one(method, tmp_path):
    """Three batches of 16, 16 and 15 samples, accumulated, move student and connectors as one of 47 does."""
    moved = []
    for batch, steps in ((47, 1), (16, 3)):
        made = text_trainer(
            method, tmp_path, text_classifier("llama", 8, 1), samples=Sentences(47), num_train_epochs=1,
            gradient_accumulation_steps=steps, per_device_train_batch_size=batch, max_grad_norm=0.0, optim="sgd",
            learning_rate=0.1, lr_scheduler_type="constant",
        )  # fmt: skip
        made.train()
        moved.append(parameters(made._distilled))
        assert made.state.global_step == 1
    assert torch.allclose(*moved, atol=1e-6)


def test_a_method_that_compares_samples_compares_those_of_a_batch(tmp_path):
    """Accumulated, its loss is the mean over the batches, each weighed by its samples."""
    method, teacher = RKD(), without_dropout(text_classifier("bert", 16)).eval()
    student = text_classifier("llama", 8, 1)
    made = text_trainer(method, tmp_path, student, teacher, gradient_accumulation_steps=2)
    named, labels = batch_of(Sentences(), 12)
    found, apart = [], []
    for rows in (slice(0, 8), slice(8, 12)):
        inputs = {name: value[rows] for name, value in named.items()}
        batch = {**inputs, "labels": labels[rows]}
        found.append(made.compute_loss(student.train(), batch, num_items_in_batch=torch.tensor(12)))
        said, wanted = Watched(student)(inputs), Watched(teacher)(inputs)
        apart.append(plain_loss(method, said, wanted, labels[rows]))
    torch.testing.assert_close(sum(found), (8 * apart[0] + 4 * apart[1]) / 12)


@pytest.mark.parametrize("method", [DHKD(), ND(), CRD(features=8)], ids=lambda method: method.name)
def test_what_is_learned_beside_the_student_is_in_the_checkpoint(method, tmp_path):
    settings = {"per_device_train_batch_size": 16, "learning_rate": 1e-2, "save_strategy": "steps", "save_steps": 2}
    settings |= {"logging_steps": 1}
    whole = text_trainer(method, tmp_path, text_classifier("distilbert", 8, 1), max_steps=4, **settings)
    whole.train()
    assert (tmp_path / "checkpoint-2" / BESIDE).exists()
    again = text_trainer(method, tmp_path, text_classifier("distilbert", 8, 1), max_steps=4, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert torch.allclose(parameters(again._state.parts), parameters(whole._state.parts), atol=1e-6)
    assert torch.allclose(parameters(again.model), parameters(whole.model), atol=1e-6)
    losses = [[row["loss"] for row in made.state.log_history if "loss" in row] for made in (whole, again)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    memories = [pack(made._state.memory)[0] for made in (whole, again)]
    assert all(torch.allclose(value, memories[1][name], atol=1e-6) for name, value in memories[0].items())
    other = text_trainer(KD(), tmp_path, max_steps=4, **settings)
    with pytest.raises(InputError, match=f"is a checkpoint of {method.name}, not of kd"):
        other._resumed = tmp_path / "checkpoint-2"
        other._begin(batch_of(Sentences())[0])


# ------------------------------------------------------------------------------------- samples that are remembered


def test_what_is_remembered_of_samples_is_what_was_said_of_them(few_digits, tmp_path):
    """After one epoch each sample was seen once; those that an epoch leaves out are as they were drawn."""
    made = trainer(
        few_digits, CRD(features=8, negatives=20), tmp_path, num_train_epochs=1,
        per_device_train_batch_size=50, dataloader_drop_last=True, learning_rate=0.0,
    )  # fmt: skip
    made.train()
    memory = made._state.memory
    assert torch.equal(memory.labels, few_digits.targets)
    fresh = Memory.fresh(120, 8, torch.Generator().manual_seed(derived_seed(made.args.seed, "memory")))
    images = few_digits.inputs(torch.arange(120))
    with torch.no_grad():
        said = made._state.parts["teacher"](made._teacher(images).embedding)
    moved = F.normalize((fresh.teacher + said) / 2, dim=1)
    seen = torch.isclose(memory.teacher, moved, atol=1e-5).all(dim=1)
    assert seen.sum() == 100
    assert torch.equal(memory.teacher[~seen], fresh.teacher[~seen])
    assert (memory.constants > 0).all()


def test_a_data_set_with_columns_too_many_is_numbered_too(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [Sentences()[row] for row in range(48)]
    columns = {name: [row[name] if name == "labels" else row[name].tolist() for row in rows] for name in rows[0]}
    table = datasets.Dataset.from_dict({**columns, "source": ["a book"] * 48})
    settings = {"max_steps": 3, "per_device_train_batch_size": 16, "learning_rate": 1e-2, "logging_steps": 1}
    losses = []
    for samples in (Sentences(), table):
        made = text_trainer(CRD(features=8), tmp_path, text_classifier("distilbert", 8, 1), samples=samples, **settings)
        made.train()
        losses.append([row["loss"] for row in made.state.log_history if "loss" in row])
        assert ROW not in next(iter(made.get_eval_dataloader()))
        assert made.predict(table).predictions.shape == (48, CLASSES)
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


@dataclass
class Seen:
    labels: torch.Tensor
    times: torch.Tensor
    rows: torch.Tensor = rebuilt(default=None)


class Counting(KD):
    """A method of somebody else's, which counts how often it has seen each sample."""

    name = "counting"
    remembers = remembers_rows = True

    def memory_from(self, samples):
        assert len(samples.labels()) == self.images == sum(len(labels) for _, labels in samples.batches(moved=False))
        return Seen(samples.labels(), torch.zeros(self.images, dtype=torch.long))

    def terms(self, batch, state):
        state.memory.rows = batch.rows
        return super().terms(batch, state)

    def settle(self, state):
        state.memory.times[state.memory.rows] += 1


def test_a_trainer_asks_a_method_what_it_remembers_and_not_who_it_is(tmp_path):
    made = text_trainer(Counting(), tmp_path, num_train_epochs=2, per_device_train_batch_size=16)
    made.train()
    assert made._state.memory.times.tolist() == [2] * len(Sentences())
    assert made._state.memory.labels.tolist() == [sample["labels"] for sample in Sentences()]
    named, labels = batch_of(Sentences())
    said = Watched(text_classifier("distilbert", 8, 1))(named)
    with pytest.raises(InputError, match=r"^counting trains or remembers something beside the student"):
        plain_loss(Counting(), said, said, labels)
    code = Path(inspect.getsourcefile(DistillationMixin)).read_text(encoding="utf-8")
    assert "isinstance(method" not in code
    assert "isinstance(self.method" not in code


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(Sentences())


def test_samples_without_numbers_and_several_processes_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"^Stream has no numbered samples\. Give a data set with a length\.$"):
        text_trainer(CRD(), tmp_path, samples=Stream(), max_steps=1)
    made = text_trainer(CRD(), tmp_path)
    named, labels = batch_of(Sentences())
    with pytest.raises(InputError, match="a batch has no sample numbers"):
        made.compute_loss(made.model.train(), {**named, "labels": labels})
    monkeypatch.setattr(transformers.TrainingArguments, "world_size", 2)
    with pytest.raises(
        InputError, match=r"^crd remembers samples in one process, but there are 2\. Use one process\.$"
    ):
        text_trainer(CRD(), tmp_path)


@pytest.mark.parametrize("method", [RKD(), DHKD()], ids=lambda method: method.name)
def test_a_last_batch_of_one_has_its_label(method, tmp_path):
    made = text_trainer(method, tmp_path, num_train_epochs=1, per_device_train_batch_size=47)
    assert made.train().training_loss > 0
    with pytest.raises(InputError, match=f"{method.name} compares the samples of a batch"):
        text_trainer(method, tmp_path, max_steps=1, per_device_train_batch_size=1).train()


class Blind(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, CLASSES)

    def forward(self, input_ids):
        return self.head(input_ids[:, :1].float()) * float("nan")


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda folder: text_trainer(KD(), folder, teacher=Blind(), max_steps=1).train(),
            "the teacher's logits for the",
        ),
        (
            lambda folder: text_trainer(FitNets(), folder, max_steps=1).train(),
            "fitnets compares maps, but no layers are known",
        ),
        (
            lambda folder: text_trainer(SubclassKD(group=(0, 1)), folder, max_steps=1).train(),
            "group gives 2 classes for 4 logits",
        ),
        (
            lambda folder: text_trainer(KD(student_layers=("distilbert.layer.0",)), folder, max_steps=1).train(),
            r"unknown module 'distilbert\.layer\.0'; did you mean 'distilbert",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(call, words, tmp_path):
    with pytest.raises(InputError, match=words):
        call(tmp_path)


def test_empty_batches_are_refused(few_digits, tmp_path):
    made = trainer(few_digits, KD(), tmp_path)
    for inputs in ({"pixel_values": few_digits.inputs(torch.arange(2))}, {"labels": torch.zeros(0, dtype=torch.long)}):
        with pytest.raises(InputError, match="a batch is empty or has no labels"):
            made.compute_loss(made.model, inputs)
    nothing = Watched(classifier(4).eval())(few_digits.inputs(torch.arange(2))).rows(torch.arange(0))
    with pytest.raises(InputError, match=r"^the batch is empty\.$"):
        plain_loss(KD(), nothing, nothing, torch.zeros(0, dtype=torch.long))
    whole = Watched(classifier(4).eval())(few_digits.inputs(torch.arange(2)))
    with pytest.raises(InputError, match="the batch has one sample, but rkd compares samples"):
        plain_loss(RKD(), whole.rows(torch.tensor([0])), whole.rows(torch.tensor([0])), torch.tensor([0]))
    with pytest.raises(InputError, match="dhkd aligns gradients, which a plain loss cannot do"):
        plain_loss(DHKD(head="shared"), whole, whole, torch.tensor([0, 1]))


# --------------------------------------------------------------------------------- the wrapped model, and its arguments


def test_two_processes_train_the_student_of_one(tmp_path):
    """Both end with the same student and connectors, and with those of one process that has all samples of a step.

    Accumulated batches (kd) count as one. A compiled student is called and learns the same. A regressor with batch norm
    sees the samples of its own process only, so fitnets is equal in both but not to one.
    """
    sys.path.insert(0, str(HERE))
    import two_students

    sys.path.remove(str(HERE))
    port = free_port()
    launched = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, str(HERE / "two_students.py"), str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, **launched}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in two_students.METHODS:
        first, second = (load_file(tmp_path / f"{name}-{number}.safetensors") for number in range(2))
        assert all(torch.equal(value, second[key]) for key, value in first.items())
        assert any(key.startswith("parts.") for key in first) == (name in ("vid", "fitnets"))
        saved = transformers.DistilBertForSequenceClassification.from_pretrained(tmp_path / f"{name}-student")
        assert all(torch.equal(value, first[f"student.{key}"]) for key, value in saved.named_parameters())
        if name != "fitnets":
            one = two_students.parameters(two_students.train(name, tmp_path, 16))
            assert one.keys() == first.keys()
            assert all(torch.allclose(value, first[key], atol=1e-6) for key, value in one.items())
    plain, compiled = (load_file(tmp_path / f"{name}-0.safetensors") for name in ("vid", "compiled"))
    assert all(torch.allclose(value, compiled[key], atol=1e-6) for key, value in plain.items())
    facts = json.loads((tmp_path / "compiled.json").read_text(encoding="utf-8"))
    assert facts.pop("calls") > 40
    assert facts == {"wrapper": "OptimizedModule", "inside": "DistributedDataParallel", "again": 0, "hooks": 0}


class Wrapper(nn.Module):
    """Counts the passes of what is in it."""

    def __init__(self, inside, **settings):
        super().__init__()
        self.inside, self.passes = inside, 0

    def forward(self, *args):
        self.passes += 1
        return self.inside(*args)


@pytest.mark.parametrize("method", [KD(), FitNets(**LAYERS, stage=0), CRD(features=8)], ids=lambda method: method.name)
def test_a_step_is_one_pass_of_the_trainer_s_wrapper(method, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", Wrapper)
    made = text_trainer(method, tmp_path, max_steps=3, per_device_train_batch_size=16, torch_compile=True)
    made.train()
    assert made.model_wrapped.passes == 3
    inside = {id(parameter) for parameter in made.model_wrapped.parameters()}
    assert inside == {id(p) for p in (*made.model.parameters(), *made._distilled.parts.parameters())}
    made.evaluate()
    assert made.model_wrapped.passes == 3


def test_a_checkpoint_holds_the_student_as_a_plain_trainer_saves_it(tmp_path):
    settings = {"max_steps": 1, "per_device_train_batch_size": 16, "save_strategy": "steps", "save_steps": 1}
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "plain"), report_to=[], use_cpu=True, disable_tqdm=True, **settings
    )
    transformers.Trainer(text_classifier("distilbert", 8, 1), arguments, train_dataset=Sentences()).train()
    made = text_trainer(VID(**LAYERS), tmp_path / "distilled", **settings)
    made.train()
    folders = [tmp_path / name / "checkpoint-1" for name in ("plain", "distilled")]
    plain, distilled = (load_file(folder / "model.safetensors") for folder in folders)
    assert {name: value.shape for name, value in plain.items()} == {n: v.shape for n, v in distilled.items()}
    assert {path.name for path in folders[1].iterdir()} - {path.name for path in folders[0].iterdir()} == {BESIDE}
    configurations = [json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in folders]
    configurations[0].pop("problem_type")  # which a model of transformers adds when it computes its own loss
    assert configurations[0] == configurations[1]


def test_decay_and_clipping_reach_what_is_trained_beside_the_student(tmp_path):
    settings = {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "weight_decay": 0.25}
    made = text_trainer(
        VID(**LAYERS), tmp_path, max_steps=1, per_device_train_batch_size=16, max_grad_norm=1e-4, **settings
    )
    made.create_optimizer()
    decays = {id(p): group["weight_decay"] for group in made.optimizer.param_groups for p in group["params"]}
    weights = {name: decays[id(p)] for name, p in made._distilled.parts.named_parameters()}
    assert set(weights.values()) == {0.25}
    biases = [decays[id(p)] for name, p in made.model.named_parameters() if name.endswith("bias")]
    assert set(biases) == {0.0}
    both = made._distilled
    before = torch.cat([(1 - 0.1 * decays[id(p)]) * p.detach().flatten() for p in both.parameters()])
    made.train()
    moved = parameters(both) - before
    assert moved.norm() == pytest.approx(0.1 * 1e-4, rel=0.05)
    assert moved[-both.parts["gaussians"][0].scale.numel() :].norm() > 0


def test_the_schedule_and_the_optimiser_of_a_user(tmp_path):
    student = text_classifier("distilbert", 8, 1)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no", max_steps=2
    )
    given = {"args": arguments, "train_dataset": Sentences(), "teacher": text_classifier("bert", 16)}
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    made = DistillingTrainer(student, method=VID(**LAYERS), optimizers=(optimizer, None), **given)
    made.train()
    known = {id(p) for group in made.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in made._distilled.parameters()} == known
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    DistillingTrainer(student, method=KD(), optimizers=(optimizer, schedule), **given).train()
    made = DistillingTrainer(student, method=VID(**LAYERS), optimizers=(optimizer, schedule), **given)
    with pytest.raises(InputError, match=r"^vid trains modules beside the student, which your schedule does not know"):
        made.train()


def test_a_student_that_is_made_again_has_its_own_connectors(tmp_path):
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no", max_steps=1
    )
    made = DistillingTrainer(
        model_init=lambda: text_classifier("distilbert", 8, 1), method=VID(**LAYERS), args=arguments,
        train_dataset=Sentences(), teacher=text_classifier("bert", 16),
    )  # fmt: skip
    made.train()
    first = made._distilled
    made.train()
    assert made._distilled is not first
    assert made._distilled.student is made.model
    made.model_init = None
    made.train()
    assert made._distilled.student is made.model


@pytest.mark.parametrize("optim", ["lomo", "adalomo", "galore_adamw_layerwise"])
def test_an_optimiser_that_does_not_reach_connectors_is_refused(optim, tmp_path):
    made = text_trainer(VID(**LAYERS), tmp_path, max_steps=1)
    made.create_optimizer()  # with another one, since these are not installed
    made.optimizer = torch.optim.SGD(made.model.parameters(), 0.1)
    made.args.optim = transformers.training_args.OptimizerNames(optim)
    with pytest.raises(InputError, match=f"^vid trains modules beside .* the optimiser {optim} does not reach"):
        made.create_optimizer()


class Asked(nn.Module):
    """Counts its calls."""

    def __init__(self):
        super().__init__()
        self.head, self.calls = nn.Linear(1, CLASSES), 0

    def forward(self, input_ids):
        self.calls += 1
        return self.head(input_ids[:, :1].float())


def test_an_evaluation_does_not_ask_the_teacher(tmp_path):
    made = text_trainer(KD(), tmp_path, teacher=Asked(), max_steps=1)
    loss = made.evaluate()["eval_loss"]
    made.predict(Sentences(8))
    assert made._teacher.network.calls == 0
    named, labels = batch_of(Sentences(8))
    del named["token_type_ids"]
    with torch.no_grad():
        assert loss == pytest.approx(0.1 * F.cross_entropy(made.model(**named).logits, labels).item(), rel=1e-5)
    made.train()
    asked = made._teacher.network.calls
    made.evaluate()
    assert made._teacher.network.calls == asked > 0


def test_a_student_that_takes_no_labels_is_evaluated_too(tmp_path):
    made = text_trainer(KD(), tmp_path, student=Asked(), max_steps=1)
    made.train()
    assert made.evaluate()["eval_loss"] > 0


class Pair(nn.Module):
    """A student that returns its logits in a tuple."""

    def __init__(self):
        super().__init__()
        self.model = text_classifier("bert", 8)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        return (self.model(input_ids, attention_mask, token_type_ids).logits,)


def test_a_student_that_returns_a_tuple_is_trained_and_evaluated(tmp_path):
    made = text_trainer(KD(), tmp_path, student=Pair(), max_steps=1)
    made.train()
    assert made.evaluate()["eval_loss"] > 0
    assert made.predict(Sentences(8)).predictions.shape == (8, CLASSES)


def test_a_student_of_which_nothing_is_trained_is_refused(tmp_path):
    frozen = text_classifier("bert", 8).requires_grad_(False)
    with pytest.raises(InputError, match=r"^every parameter of the student is frozen\."):
        text_trainer(KD(), tmp_path, student=frozen, max_steps=1).train()
    one = text_classifier("bert", 8)
    with pytest.raises(InputError, match=r"^the teacher is the student itself, which would not be trained\."):
        text_trainer(KD(), tmp_path, student=one, teacher=one, max_steps=1).train()


@pytest.mark.parametrize("family", ["gpt2", "llama", "distilbert"])
def test_half_precision_changes_a_loss_by_little(family, tmp_path):
    """Mixed precision, and networks that are in bfloat16 themselves; connectors and losses are in single precision."""
    layer = {"gpt2": "transformer.h.0", "llama": "model.layers.0", "distilbert": "distilbert.transformer.layer.0"}
    method = VID(student_layers=(layer[family],), teacher_layers=("transformer.h.1",))
    student, teacher = text_classifier(family, 8, 1), text_classifier("gpt2", 16)
    forms = [(student, teacher, False), (student, teacher, True)]
    forms += [(copy.deepcopy(student).bfloat16(), teacher, False), (student, copy.deepcopy(teacher).bfloat16(), True)]
    losses = []
    for mine, theirs, mixed in forms:
        mine, theirs = without_dropout(copy.deepcopy(mine)), copy.deepcopy(theirs)
        made = text_trainer(method, tmp_path, mine, theirs, max_steps=2, learning_rate=1e-2, bf16=mixed)
        losses.append(made.train().training_loss)
        assert made._distilled.parts["gaussians"][0].scale.dtype == torch.float32
        assert made.predict(Sentences(8)).predictions.dtype == "float32"
    assert losses == pytest.approx([losses[0]] * len(forms), rel=1e-3)


def test_a_teacher_of_images_may_be_in_half_precision(few_digits, tmp_path):
    made = trainer(few_digits, ND(), tmp_path, classifier(8).bfloat16(), max_steps=2)
    assert made.train().training_loss > 0


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"label_smoothing_factor": 0.1}, r"label_smoothing_factor has no effect.* smoothing=0\.1 instead\.$"),
        ({"label_names": ["target"]}, r"label_names is \['target'\], but the labels must be called `labels`"),
        ({"label_names": ["labels", "more"]}, "label_names is .* but the labels must be called `labels`"),
        ({"gradient_accumulation_steps": 2}, r"dhkd aligns .* work with gradient_accumulation_steps=2\. Set alignment"),
        ({"torch_compile": True}, "dhkd aligns the gradients of one whole batch, .* work with torch_compile"),
        (
            {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": True}},
            "dhkd aligns the gradients .* reentrant checkpointing",
        ),
    ],
)
def test_an_argument_without_effect_is_refused(settings, words, tmp_path):
    with pytest.raises(InputError, match=words) as told:
        text_trainer(DHKD(), tmp_path, **settings)
    assert "\n" not in str(told.value)


def test_alignment_that_is_off_accumulates(tmp_path):
    made = text_trainer(DHKD(alignment="off"), tmp_path, max_steps=1, gradient_accumulation_steps=2)
    assert made.train().training_loss > 0


def test_maps_under_reentrant_checkpointing_are_refused(tmp_path):
    how = {"activation_checkpointing": True}
    text_trainer(VID(**LAYERS), tmp_path, max_steps=1, **how).train()
    with pytest.raises(InputError, match=r"^vid compares maps, which get no gradient under reentrant checkpointing"):
        text_trainer(VID(**LAYERS), tmp_path, **how, activation_checkpointing_kwargs={"use_reentrant": True})


class OwnLoss(DistillingTrainer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, compute_loss_func=lambda *outputs, **others: 0, **kwargs)


def test_another_loss_and_other_ways_to_several_devices_are_refused(tmp_path, monkeypatch):
    arguments = transformers.TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    given = {"model": text_classifier("distilbert", 8, 1), "teacher": Asked(), "method": KD(), "args": arguments}
    with pytest.raises(InputError, match=r"^compute_loss_func has no effect, because the method sets the loss"):
        OwnLoss(**given)
    with monkeypatch.context() as several:
        several.setattr(transformers.TrainingArguments, "n_gpu", 2)
        with pytest.raises(InputError, match=r"^one process does not share 2 GPUs here\. Start one process for each"):
            DistillingTrainer(**given)
    made = DistillingTrainer(**given)
    for kind in ("DEEPSPEED", "FSDP", "MEGATRON_LM"):
        monkeypatch.setattr(made.accelerator.state, "distributed_type", DistributedType(kind))
        with pytest.raises(InputError, match=f"^{kind} splits the student among processes, which does not work here"):
            check_arguments(made, KD())


@pytest.mark.parametrize("who", ["student", "teacher"])
@pytest.mark.parametrize(
    "settings, words",
    [
        ({"problem_type": "multi_label_classification"}, "gives several classes to one sample"),
        ({"problem_type": "regression"}, "gives one number for each sample"),
        ({"num_labels": 1}, "gives one number for each sample"),
    ],
    ids=str,
)
def test_networks_that_do_not_choose_one_class_are_refused(settings, words, who, tmp_path):
    other = text_classifier("distilbert", 8, 1)
    for name, value in settings.items():
        setattr(other.config, name, value)
    with pytest.raises(InputError, match=f"^the {who} {words}"):
        text_trainer(KD(), tmp_path, **{who: other})


@pytest.mark.parametrize(
    "method, labels, words",
    [
        (
            KD(),
            torch.eye(CLASSES).flip(0) + torch.eye(CLASSES),
            "the labels are real numbers, but not shares of classes",
        ),
        (KD(), torch.zeros(4, CLASSES), "the labels are real numbers, but not shares of classes"),
        (KD(), torch.ones(4), "the labels are real numbers, but not shares of classes"),
        (KD(), torch.ones(4, CLASSES, dtype=torch.long), r"the labels have shape \[4, 4\], not one class"),
        (KD(), torch.ones(4, CLASSES, dtype=torch.bool), r"the labels have shape \[4, 4\], not one class"),
        (DKD(), torch.eye(CLASSES), "dkd needs one class for each sample, but the labels are real numbers"),
    ],
)
def test_labels_of_several_classes_are_refused(method, labels, words, tmp_path):
    made = text_trainer(method, tmp_path)
    inputs = {**batch_of(Sentences(), 4)[0], "labels": labels}
    for model in (made.model.train(), made.model.eval()):
        with pytest.raises(InputError, match=f"^{words}"):
            made.compute_loss(model, inputs)


def test_shares_of_classes_are_labels(tmp_path):
    made = text_trainer(KD(), tmp_path)
    named, labels = batch_of(Sentences(), 4)
    model = without_dropout(made.model).train()
    whole = [
        made.compute_loss(model, {**named, "labels": some}) for some in (labels, F.one_hot(labels, CLASSES).float())
    ]
    torch.testing.assert_close(*whole)


def test_a_network_that_does_not_take_the_first_batch_is_refused_in_one_line(tmp_path):
    unpadded = text_classifier("gpt2", 8)
    unpadded.config.pad_token_id = None
    for who, networks in (("student", {"student": unpadded}), ("teacher", {"teacher": unpadded})):
        made = text_trainer(KD(), tmp_path, max_steps=1, **networks)
        with pytest.raises(InputError, match=f"^the {who} does not take the first batch .*padding token") as told:
            made.train()
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("family", ["distilbert", "gpt2"])
def test_many_masks_of_dropout_are_drawn_before_the_last_layer_there_too(family, tmp_path):
    settings = {"max_steps": 3, "per_device_train_batch_size": 4, "save_strategy": "no"}
    found = {}
    for samples in (1, 4):
        student = without_dropout(text_classifier(family, 8, 1))
        method = KD(dropout=0.5, dropout_samples=samples)
        made = text_trainer(method, tmp_path, student, **settings)
        named, labels = batch_of(Sentences())
        torch.manual_seed(0)
        loss, outputs = made.compute_loss(made.model.train(), {**named, "labels": labels}, return_outputs=True)
        assert loss.isfinite()
        with torch.no_grad():
            whole = made.model.eval()(**named).logits
        assert not torch.allclose(outputs["logits"], whole)
        made.train()
        found[samples] = parameters(made.model)
        assert all("forward" not in vars(module) for module in made.model.modules())
    assert not torch.equal(found[1], found[4])
