"""The mixin on two processes that talk by gloo: with whole students, and with students that FSDP shards."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import transformers

from attar.language.trainer import _sharded
from two_processes import free_port

HERE = Path(__file__).parents[2]
EXAMPLE, CONFIG = HERE / "examples" / "distill_on_several.py", HERE / "examples" / "fsdp.yaml"
SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_ACTIVATION_CHECKPOINTING": "true",
}
"""What `accelerate launch` makes of the configuration beside the example."""


@pytest.mark.parametrize("variables", [{}, SHARDED], ids=["whole", "sharded"])
def test_the_example_runs_on_two_processes(tmp_path, variables):
    briefly = os.pathsep.join([str(HERE / "tests" / "brief"), str(HERE / "src")])
    place = {**os.environ, **variables, "PYTHONPATH": briefly, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]
    done = subprocess.run([*words, str(EXAMPLE)], cwd=tmp_path, env=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if "processes" in line]
    assert len(told) == 1 and told[0].startswith("2 processes: cross-entropy before ")
    before, after = (float(word.strip(",")) for word in told[0].split() if word[0].isdigit() and "." in word)
    assert after < before - 1
    student = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "runs" / "several" / "student")
    assert student.config.num_hidden_layers == 1
    assert student.model.layers[0].mlp.up_proj.weight.shape == (64, 32)


def test_the_configuration_is_one_of_accelerate_s():
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(CONFIG))
    assert config.distributed_type == "FSDP"
    assert {f"FSDP_{name.removeprefix('fsdp_').upper()}" for name in config.fsdp_config} >= set(SHARDED) - {
        "ACCELERATE_USE_FSDP"
    }


def test_a_sharded_student_is_recognised():
    def trainer(**given):
        return SimpleNamespace(accelerator=SimpleNamespace(state=SimpleNamespace(**given)), is_fsdp_enabled=False)

    assert not _sharded(trainer())
    assert not _sharded(trainer(deepspeed_plugin=SimpleNamespace(zero_stage=2)))
    assert _sharded(trainer(deepspeed_plugin=SimpleNamespace(zero_stage=3)))
    assert _sharded(SimpleNamespace(accelerator=trainer().accelerator, is_fsdp_enabled=True))
