"""Distill a text classifier from a larger one: with a Trainer, and then in a plain loop."""

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Trainer,
    TrainingArguments,
)

import attar
from attar.classifiers.trainer import DistillationMixin, plain_loss
from attar.classifiers.watched import Watched

# Sentences of eight numbered words; the class is which half of the dictionary has more of them. Yours: a tokenizer's.
words = torch.randint(1, 40, (600, 8), generator=torch.Generator().manual_seed(0))
labels = ((words > 20).sum(dim=1) > 4).long()
rows = [
    {"input_ids": sentence, "attention_mask": torch.ones(8, dtype=torch.long), "labels": label}
    for sentence, label in zip(words, labels.tolist(), strict=True)
]
training, test = rows[:500], rows[500:]


class DistillingTrainer(DistillationMixin, Trainer):
    """The Trainer of your choice, and attar's `compute_loss`."""


def train(kind: type[Trainer], model: torch.nn.Module, epochs: int, **others: object) -> None:
    """Some epochs of any Trainer."""
    settings = {"output_dir": "runs/text", "per_device_train_batch_size": 50, "learning_rate": 5e-3}
    arguments = TrainingArguments(**settings, num_train_epochs=epochs, report_to=[], save_strategy="no")
    kind(model=model, args=arguments, train_dataset=training, **others).train()


@torch.no_grad()
def accuracy(model: torch.nn.Module) -> float:
    """Per cent of the test sentences whose class is found."""
    model.eval()
    found = model(words[500:], attention_mask=torch.ones(100, 8)).logits.argmax(dim=1)
    return 100 * (found == labels[500:]).float().mean().item()


sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
teacher = BertForSequenceClassification(BertConfig(vocab_size=40, hidden_size=32, num_labels=2, **sizes))
train(Trainer, teacher, epochs=8)
teacher.save_pretrained("runs/text/teacher")  # a teacher is a module, a folder, or a name on the hub

config = DistilBertConfig(vocab_size=40, dim=8, n_layers=1, n_heads=2, hidden_dim=16, num_labels=2)
student = DistilBertForSequenceClassification(config)
train(DistillingTrainer, student, epochs=16, teacher="runs/text/teacher", method=attar.KD(temperature=2))
print(f"{accuracy(teacher):.1f} % teacher, {accuracy(student):.1f} % student")

plain = DistilBertForSequenceClassification(config)
optimizer, answers, wanted = torch.optim.AdamW(plain.parameters(), lr=5e-3), Watched(plain), Watched(teacher)
for part in torch.arange(500).split(50) * 8:
    batch = {"input_ids": words[part], "attention_mask": torch.ones(len(part), 8, dtype=torch.long)}
    with torch.no_grad():
        said = wanted(batch)
    optimizer.zero_grad()
    plain_loss(attar.KD(temperature=2), answers(batch), said, labels[part]).backward()
    optimizer.step()
print(f"{accuracy(plain):.1f} % by a plain loop")
