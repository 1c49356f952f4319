"""Students in a Trainer: small models of text, trained by one process here, or by two that this file forks."""

import json
import os
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

from attar.classifiers.fitnets import FitNets
from attar.classifiers.kd import KD
from attar.classifiers.nd import ND
from attar.classifiers.trainer import DistillationMixin
from attar.classifiers.vid import VID

WORDS, CLASSES, LENGTH, SAMPLES = 40, 4, 9, 48
LAYERS = {"student_layers": ("distilbert.transformer.layer.0",), "teacher_layers": ("distilbert.transformer.layer.0",)}
METHODS = {"kd": KD(), "vid": VID(**LAYERS), "nd": ND(), "fitnets": FitNets(**LAYERS, stage=0, teacher_weight=1.0)}


class DistillingTrainer(DistillationMixin, transformers.Trainer):
    """The Trainer with a teacher."""


class Sentences(torch.utils.data.Dataset):
    """The class is the first word's quarter of the dictionary."""

    def __init__(self):
        self.words = torch.randint(1, WORDS, (SAMPLES, LENGTH), generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return SAMPLES

    def __getitem__(self, row):
        words = self.words[row]
        return {
            "input_ids": words,
            "attention_mask": torch.ones_like(words),
            "labels": int(words[0]) * CLASSES // WORDS,
        }


def network(width, seed):
    """A classifier without dropout, which two processes would draw for other samples than one."""
    quiet = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    sizes = {"vocab_size": WORDS, "num_labels": CLASSES, "max_position_embeddings": LENGTH, "n_layers": 1, "n_heads": 2}
    config = transformers.DistilBertConfig(**sizes, **quiet, dim=width, hidden_dim=2 * width)
    torch.manual_seed(seed)
    return transformers.DistilBertForSequenceClassification(config)


def train(name, folder, batch, **settings):
    """A trainer after three steps, the last with fewer samples than the others."""
    usual = {"num_train_epochs": 1, "optim": "sgd", "learning_rate": 0.1, "weight_decay": 0.1, "max_grad_norm": 1.0}
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), report_to=[], use_cpu=True, disable_tqdm=True, per_device_train_batch_size=batch,
        accelerator_config={"even_batches": True}, save_strategy="no", **{**usual, **settings},
    )  # fmt: skip
    made = DistillingTrainer(
        model=network(8, 1), teacher=network(8 if name == "nd" else 12, 2), method=METHODS[name], args=arguments,
        train_dataset=Sentences(),
    )  # fmt: skip
    made.train()
    return made


def parameters(made):
    """The student's parameters and those beside it."""
    return {name: p.detach().clone() for name, p in made._distilled.named_parameters()}


def main(folder):
    """Train by every method in this process, one of several, and write what came out."""
    for name in METHODS:
        made = train(name, folder, 8) if name != "kd" else train(name, folder, 4, gradient_accumulation_steps=2)
        save_file(parameters(made), folder / f"{name}-{made.args.process_index}.safetensors")
        made.save_model(folder / f"{name}-student")
    made = train("vid", folder, 8, torch_compile=True, torch_compile_backend="eager")
    save_file(parameters(made), folder / f"compiled-{made.args.process_index}.safetensors")
    counters = torch._dynamo.utils.counters
    facts = {
        "wrapper": type(made.model_wrapped).__name__,
        "inside": type(made.model_wrapped._orig_mod).__name__,
        "calls": counters["stats"]["calls_captured"],
        "again": sum(counters["recompiles"].values()),
        "hooks": sum(len(module._forward_hooks) for module in made.model.modules()),
    }
    (folder / "compiled.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    children = []
    for rank in ("0", "1"):
        if not (child := os.fork()):
            os.environ |= {"RANK": rank, "LOCAL_RANK": rank}
            main(Path(sys.argv[1]))
            os._exit(0)
        children.append(child)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
