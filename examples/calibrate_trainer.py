"""Train a text classifier with EnsLoss inside a Trainer, then scale its logits by a temperature."""

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from attar.classifiers.calibration.metrics import CalibrationReport
from attar.classifiers.calibration.ts import TemperatureScaling
from attar.classifiers.losses import EnsLoss
from attar.classifiers.losses.trainer import TrainerLoss

# Sentences of eight numbered words; the class is which half of the dictionary has more of them. Yours: a tokenizer's.
words = torch.randint(1, 40, (900, 8), generator=torch.Generator().manual_seed(0))
labels = ((words > 20).sum(dim=1) > 4).long()
rows = [{"input_ids": sentence, "label": label} for sentence, label in zip(words, labels.tolist(), strict=True)]
training, reserved, test = slice(500), slice(500, 700), slice(700, 900)

sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
model = BertForSequenceClassification(BertConfig(vocab_size=40, hidden_size=32, num_labels=2, **sizes))
settings = {"output_dir": "runs/text", "per_device_train_batch_size": 50, "learning_rate": 5e-3, "num_train_epochs": 8}
Trainer(
    model=model,
    args=TrainingArguments(**settings, report_to=[], save_strategy="no"),
    train_dataset=rows[training],
    compute_loss_func=TrainerLoss(EnsLoss()),
).train()

with torch.no_grad():
    logits = model.eval()(words.to(model.device)).logits.cpu()
method = TemperatureScaling()  # any calibrator; it is fitted to rows that the model was not trained on
learned = method.fit(logits[reserved], labels[reserved], generator=torch.Generator().manual_seed(0))
calibrated = method.applied(learned, logits[test])
print(f"before: {CalibrationReport.of(logits[test], labels[test])}")
print(f"after, at {method.told(learned)}: {CalibrationReport.of(calibrated, labels[test])}")
