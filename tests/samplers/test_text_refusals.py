"""Prompts from files, and what text-conditioned teachers refuse."""

import dataclasses
import json
import re
import shutil

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.extras import install
from attar.core.runtime import Runtime
from attar.samplers.artefact import StoredSampler
from attar.samplers.dmd2 import DMD2
from attar.samplers.pipeline import text_sampler
from attar.samplers.prompts import Prompts, read_prompts, text_work
from attar.samplers.reading import Reading
from attar.samplers.tasks import Teacher
from text_pipelines import PROMPTS, captioned_pictures, save_pipeline

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")

QUICK = DMD2(steps=4, batch=2, warm_start=0, critic_steps=2, guidance=1.75, half="off").changed_by(
    {"critic": {"critic_weighting": "epsilon"}, "pairing": {"pair_count": 4, "pair_levels": 3}}
)


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    return save_pipeline(tmp_path_factory.mktemp("pipelines") / "sd")


@pytest.fixture(scope="module")
def captioned(tmp_path_factory):
    return captioned_pictures(tmp_path_factory.mktemp("captioned"))


def runtime_of(engine):
    return Runtime(engine, 0)


# -------------------------------------------------------------------------------------------------------------- prompts


def test_prompts_are_read_from_lines_and_columns(tmp_path):
    (tmp_path / "a.txt").write_text("one thing\n\n  another \n", encoding="utf-8")
    assert read_prompts(tmp_path / "a.txt").texts == ("one thing", "another")
    (tmp_path / "b.jsonl").write_text('{"caption": "one"}\n{"caption": "two"}\n', encoding="utf-8")
    assert Reading().load(str(tmp_path / "b.jsonl")).texts == ("one", "two")
    (tmp_path / "c.jsonl").write_text('{"words": "one", "text": "two"}\n', encoding="utf-8")
    assert Reading(prompt_column="words").load(str(tmp_path / "c.jsonl")).texts == ("one",)
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["x", "y"]}), tmp_path / "d.parquet")
    assert Reading(prompts=str(tmp_path / "d.parquet")).load("ring").texts == ("x", "y")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.txt", "\n \n", r"a.txt is empty"),
        ("a.jsonl", '{"title": "one"}', r"has no column text or prompt or caption. It has title"),
        ("a.jsonl", '{"text": "one"}\n{"text": " "}', r"row 2 of .*a.jsonl has no prompt in 'text'"),
        ("a.jsonl", '{"text": "one", "file_name": "x.png"}', r"row 1 of .* names the picture 'x.png', which is not in"),
    ],
)
def test_bad_files_of_prompts_are_refused(name, text, told, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=told):
        read_prompts(tmp_path / name)


def test_prompts_that_are_none_or_missing_are_refused(tmp_path, sd, engine):
    with pytest.raises(InputError, match=r"none.txt is no file of prompts"):
        read_prompts(tmp_path / "none.txt")
    with pytest.raises(InputError, match=r"p has no prompt\. Give one on each line"):
        Prompts("p", ())
    with pytest.raises(InputError, match="prompts are empty or no texts"):
        text_sampler(sd, runtime_of(engine)).sample([])


# ------------------------------------------------------------------------------------------------------------ bad input


def test_prompts_without_an_encoder_and_images_for_one_are_refused(sd, tmp_path, engine):
    prompts = Prompts("p", PROMPTS)
    with pytest.raises(InputError, match="p holds prompts, so the teacher must take text"):
        Teacher().found(prompts, runtime_of(engine))
    with pytest.raises(InputError, match="is told by text, but ring has no prompts"):
        attar.distill("ring", QUICK, teacher=str(sd), engine=engine)
    bare = tmp_path / "bare"
    shutil.copytree(sd, bare)
    shutil.rmtree(bare / "text_encoder")
    with pytest.raises(InputError, match="has no text_encoder, so prompts mean nothing to it"):
        text_sampler(bare, runtime_of(engine))


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("tokenizer", "has no tokenizer, so prompts cannot be read"),
        ("vae", r"vae holds no AutoencoderKL \(no config.json\)"),
        ("unet", r"has no unet \(unet/config.json is missing\)"),
        ("scheduler", "has no scheduler"),
    ],
)
def test_missing_parts_are_refused(part, told, sd, tmp_path, engine):
    place = tmp_path / "pipeline"
    shutil.copytree(sd, place)
    shutil.rmtree(place / part)
    with pytest.raises(InputError, match=told):
        Teacher(network=str(place)).found(Prompts("p", PROMPTS), runtime_of(engine))


def test_a_pipeline_with_code_is_refused(sd, tmp_path, engine):
    place = tmp_path / "pipeline"
    shutil.copytree(sd, place)
    config = json.loads((place / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    (place / "text_encoder" / "config.json").write_text(
        json.dumps(config | {"auto_map": {"AutoModel": "x.Y"}}), encoding="utf-8"
    )
    with pytest.raises(InputError, match="names code of its own"):
        text_sampler(place, runtime_of(engine))
    (place / "text_encoder" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (place / "pipeline.py").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"pipeline.py is code"):
        text_sampler(place, runtime_of(engine))


def test_latents_that_are_not_finite_are_refused(sd, captioned, engine):
    teacher = text_sampler(sd, runtime_of(engine))
    with torch.no_grad():
        teacher.parts.vae.encoder.conv_in.bias[0] = torch.inf
    with pytest.raises(InputError, match=r"latents of pictures are not finite in rows 1 to 12"):
        text_work(read_prompts(captioned), teacher, runtime_of(engine))


def test_the_gan_term_needs_pictures(sd, engine):
    method = dataclasses.replace(QUICK, gan_weight=1e-3)
    with pytest.raises(InputError, match="has prompts without pictures, but this needs real samples"):
        attar.distill(Prompts("p", PROMPTS), method, teacher=str(sd), engine=engine)


def test_other_networks_are_refused(tmp_path, engine):
    place = save_pipeline(tmp_path / "pipeline")
    path = place / "unet" / "config.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    for change, told in (
        ({"in_channels": 9}, "takes 9 channels, but its VAE gives 4"),
        ({"cross_attention_dim": 24}, "takes embeddings of 24 values, but its encoders give 16"),
        ({"time_cond_proj_dim": 8}, "is itself distilled with guidance as an input"),
    ):
        unet = diffusers.UNet2DConditionModel.from_config(facts | change)
        unet.save_pretrained(place / "unet")
        with pytest.raises(InputError, match=told):
            text_sampler(place, runtime_of(engine))


def test_a_folder_that_was_altered_is_refused(sd, tmp_path, engine):
    made = attar.distill(Prompts("p", PROMPTS), dataclasses.replace(QUICK, steps=1), teacher=str(sd), engine=engine)
    made.save(tmp_path / "made")
    (tmp_path / "made" / "unet" / "extra.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"extra.safetensors is not part of the sampler"):
        StoredSampler.load(tmp_path / "made")
    (tmp_path / "made" / "unet" / "extra.safetensors").unlink()
    path = tmp_path / "made" / "scheduler" / "scheduler_config.json"
    path.write_text(path.read_text(encoding="utf-8").replace("0.012", "0.013"), encoding="utf-8")
    with pytest.raises(InputError, match="altered after it was written"):
        StoredSampler.load(tmp_path / "made")


def test_a_missing_extra_is_told(sd, engine, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=re.escape(f"UNet2DConditionModel needs diffusers: {install('samplers')}")):
        text_sampler(sd, runtime_of(engine))
