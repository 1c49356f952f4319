"""Distill a classifier with a `transformers.Trainer` whose loss has the terms of a teacher."""

import torch
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

import attar
from attar.classifiers.teacher import accuracy_on_classes
from attar.classifiers.trainer import DistillationMixin
from attar.core.runtime import Runtime

digits = attar.load("digits")
images = digits.inputs(torch.arange(len(digits.train)))
rows = [{"pixel_values": image, "labels": y} for image, y in zip(images, digits.targets.tolist(), strict=True)]


class DistillingTrainer(DistillationMixin, Trainer):
    """The Trainer of your choice, and attar's `compute_loss`."""


def resnet(width: int) -> ResNetForImageClassification:
    """A small network; yours may come from a folder or the hub."""
    sizes = {"embedding_size": width, "hidden_sizes": [width, 2 * width], "depths": [1, 1]}
    return ResNetForImageClassification(ResNetConfig(num_channels=1, num_labels=10, **sizes))


def train(kind: type[Trainer], model: ResNetForImageClassification, epochs: int, **others: object) -> None:
    """Some epochs of any Trainer."""
    settings = {"output_dir": "runs/trainer", "per_device_train_batch_size": 64, "learning_rate": 3e-3}
    arguments = TrainingArguments(**settings, num_train_epochs=epochs, report_to=[], save_strategy="no")
    kind(model=model, args=arguments, train_dataset=rows, **others).train()


teacher, student = resnet(32), resnet(4)
train(Trainer, teacher, epochs=4)
train(DistillingTrainer, student, epochs=4, teacher=teacher, method=attar.KD(temperature=4))
print(f"{accuracy_on_classes(student, digits, Runtime()):.1f} % of the test images right")
