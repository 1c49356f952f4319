"""Distill inside TRL's SFTTrainer: the student answers half of the prompts; all answers are compared with the teacher.

The same works for chats (`messages`, with `assistant_only_loss=True`) and for plain text.
"""

import sys

import datasets

import attar.language as language

try:
    import trl
except ImportError:
    print("This example needs TRL: pip install trl")
    sys.exit()

data = language.load("phrases")
sizes = {"max_length": 96, "batch": 16, "answers": 0}
teacher = language.train(data, "gpt2:layers=2,width=64", epochs=3, lr=4e-3, **sizes)
student = language.train(data, "gpt2:layers=1,width=32", epochs=1, lr=4e-3, **sizes)


class Trainer(language.DistillationMixin, trl.SFTTrainer):
    """TRL's loop, data and checkpoints, and attar's loss."""


def rows(part: datasets.Dataset) -> datasets.Dataset:
    """Prompts and completions, as TRL calls them; the loss is over completions alone."""
    return part.select_columns(["prompt", "response"]).rename_column("response", "completion")


trainer = Trainer(
    model=student.model,
    teacher=teacher.model,
    distillation=language.DistillLanguage.of(divergence="jsd", jsd_beta=0.5, answers_by="mixed", new_tokens=24),
    args=trl.SFTConfig(
        "runs/trl",
        max_steps=30,
        per_device_train_batch_size=16,
        learning_rate=2e-3,
        max_length=96,
        bf16=False,  # TRL's default is True, which asks for a GPU
        report_to="none",
    ),
    train_dataset=rows(data.train),
    eval_dataset=rows(data.validation),
    processing_class=student.tokenizer,
)
before = trainer.evaluate()["eval_loss"]
trainer.train()
print(f"cross-entropy before {before:.3f}, after {trainer.evaluate()['eval_loss']:.3f}")
