"""Inside a Trainer of `transformers`: its loop, a method's terms, and what cannot be had there."""

import inspect
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

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

transformers = pytest.importorskip("transformers", reason="transformers is not installed")


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


def test_accumulated_batches_count_as_one(tmp_path):
    """Two batches of eight, accumulated, move a student as one of sixteen does."""
    moved = []
    for settings in ({"per_device_train_batch_size": 16}, {"per_device_train_batch_size": 8}):
        steps = 16 // settings["per_device_train_batch_size"]
        student = text_classifier("llama", 8, 1)
        made = text_trainer(
            KD(), tmp_path, student, max_steps=1, gradient_accumulation_steps=steps, max_grad_norm=0.0,
            optim="sgd", learning_rate=0.1, lr_scheduler_type="constant", **settings,
        )  # fmt: skip
        first = parameters(student).clone()
        made.train()
        moved.append(parameters(student) - first)
    assert torch.allclose(*moved, atol=1e-6)


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
        other._begin(other.model, batch_of(Sentences())[0])


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
    code = Path(inspect.getsourcefile(DistillationMixin)).read_text()
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
