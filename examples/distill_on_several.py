"""Distil on several processes or GPUs inside the trainer of transformers, which brings DDP, FSDP and DeepSpeed.

    accelerate launch --num_processes 2 examples/distill_on_several.py
    accelerate launch --config_file examples/fsdp.yaml examples/distill_on_several.py

Without GPUs, `torchrun --nproc-per-node 2` starts two processes. Every process has the whole teacher; the student is
what is sharded.
"""

import torch
import transformers

import attar.language as language

data = language.load("phrases")
teacher = language.train(data, "llama:layers=2,width=64", epochs=3, lr=4e-3, max_length=96, answers=0)
tokenizer = teacher.tokenizer


class Trainer(language.DistillationMixin, transformers.Trainer):
    """The loop, the sharding and the checkpoints of transformers, and attar's loss."""


def row(pair: dict[str, str]) -> dict[str, list[int]]:
    """Tokens and labels of a prompt with its response; the prompt is not learned."""
    prompt, response = (tokenizer(pair[name])["input_ids"] for name in ("prompt", "response"))
    response.append(tokenizer.eos_token_id)
    return {"input_ids": prompt + response, "labels": [-100] * len(prompt) + response}


torch.manual_seed(0)
sizes = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
sizes |= {"num_key_value_heads": 2, "head_dim": 16}
config = transformers.LlamaConfig(**{**teacher.model.config.to_dict(), **sizes})
trainer = Trainer(
    model=transformers.LlamaForCausalLM(config),
    teacher=teacher.model,
    distillation=language.DistillLanguage.of(divergence="forward"),
    args=transformers.TrainingArguments(
        "runs/several",
        max_steps=30,
        per_device_train_batch_size=8,
        learning_rate=3e-3,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
    ),
    train_dataset=[row(pair) for pair in data.train],
    eval_dataset=[row(pair) for pair in data.validation],
    processing_class=tokenizer,
    data_collator=transformers.DataCollatorForSeq2Seq(tokenizer),
)
before = trainer.evaluate()["eval_loss"]
trainer.train()
after = trainer.evaluate()["eval_loss"]
trainer.save_model("runs/several/student")
if trainer.is_world_process_zero():
    print(f"{trainer.accelerator.num_processes} processes: cross-entropy before {before:.3f}, after {after:.3f}")
