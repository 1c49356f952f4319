"""Inside a Trainer of `transformers`: its loop, a method's terms, and what cannot be had there."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attar.classifiers.crd import CRD
from attar.classifiers.kd import KD, kd_loss
from attar.classifiers.nd import ND
from attar.classifiers.trainer import DistillationMixin, plain_loss
from attar.classifiers.watched import Watched
from attar.core.errors import InputError

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
    with pytest.raises(InputError, match="crd remembers samples by number"):
        trainer(few_digits, CRD(), tmp_path)
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
    with pytest.raises(InputError, match="nd learns or remembers something beside the student"):
        plain_loss(ND(), student, teacher, labels)
