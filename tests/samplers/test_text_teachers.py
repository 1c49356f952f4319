"""Text-conditioned teachers: embeddings and latents as diffusers has them, DMD2 on them, and the folder it leaves."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import attar
from attar.cli import main
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.samplers.artefact import StoredSampler
from attar.samplers.denoisers import guided
from attar.samplers.dmd2 import DMD2
from attar.samplers.pairs import PairRegression
from attar.samplers.pipeline import PipelineSampler, text_sampler
from attar.samplers.prompts import Prompts, read_prompts, text_work
from attar.samplers.schedules import VP
from attar.samplers.tasks import Teacher
from text_pipelines import PROMPTS, captioned_pictures, save_pipeline

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")

QUICK = DMD2(steps=4, batch=2, warm_start=0, critic_steps=2, guidance=1.75, half="off").changed_by(
    {"critic": {"critic_weighting": "epsilon"}, "pairing": {"pair_count": 4, "pair_levels": 3}}
)


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def folder(request, tmp_path_factory):
    return save_pipeline(tmp_path_factory.mktemp("pipelines") / request.param, sdxl=request.param == "sdxl")


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    return save_pipeline(tmp_path_factory.mktemp("pipelines") / "sd")


@pytest.fixture(scope="module")
def captioned(tmp_path_factory):
    return captioned_pictures(tmp_path_factory.mktemp("captioned"))


def theirs(folder):
    """The pipeline in a folder, opened by diffusers."""
    made = diffusers.DiffusionPipeline.from_pretrained(str(folder), use_safetensors=True)
    made.set_progress_bar_config(disable=True)
    return made


def runtime_of(engine):
    return Runtime(engine, 0)


# ------------------------------------------------------------------------------------------------ what stands around it


def test_embeddings_are_those_of_the_pipeline(folder, engine):
    teacher, pipeline = text_sampler(folder, runtime_of(engine)), theirs(folder)
    wanted = pipeline.encode_prompt(
        prompt=list(PROMPTS), device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True
    )
    rows, null = teacher.parts.embed(PROMPTS), teacher.parts.null()
    cut = wanted[0][0].numel()
    assert torch.equal(rows[:, :cut], wanted[0].flatten(1)) and torch.equal(null[0, :cut], wanted[1][0].flatten())
    if teacher.parts.sdxl:
        assert torch.equal(rows[:, cut:-6], wanted[2]) and torch.equal(null[0, cut:-6], wanted[3][0])
        assert rows[0, -6:].tolist() == [16, 16, 0, 0, 16, 16] == null[0, -6:].tolist()


def test_the_denoiser_is_x0_of_the_network(folder, engine):
    teacher, pipeline = text_sampler(folder, runtime_of(engine)), theirs(folder)
    rows = teacher.parts.embed(PROMPTS[:3])
    t, x = torch.tensor([999, 500, 7]), torch.randn(3, 4, 8, 8)
    embedded = pipeline.encode_prompt(
        prompt=list(PROMPTS[:3]), device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    added = None
    if teacher.parts.sdxl:
        added = {"text_embeds": embedded[2], "time_ids": torch.tensor([[16.0, 16, 0, 0, 16, 16]] * 3)}
    with torch.no_grad():
        noise = pipeline.unet(x, t, encoder_hidden_states=embedded[0], added_cond_kwargs=added).sample
    schedule = VP.scaled_linear()
    alpha, sigma = schedule.alpha(t).view(-1, 1, 1, 1), schedule.sigma(t).view(-1, 1, 1, 1)
    wanted = (x - sigma * noise) / alpha
    found = teacher.denoiser(x / alpha, (sigma / alpha).flatten(), rows)
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert teacher.denoiser.encoded(x, (sigma / alpha).flatten(), rows).shape == (3, 16, 4, 4)


def test_velocity_is_read_from_the_scheduler_and_may_be_overruled(tmp_path, engine):
    made = save_pipeline(tmp_path / "v", prediction="v_prediction")
    assert text_sampler(made, runtime_of(engine)).denoiser.prediction == "v"
    assert text_sampler(made, runtime_of(engine), prediction="epsilon").denoiser.prediction == "epsilon"


def test_pictures_become_scaled_latents(sd, captioned, engine):
    teacher, prompts = text_sampler(sd, runtime_of(engine)), read_prompts(captioned)
    work = text_work(prompts, teacher, runtime_of(engine))
    assert len(work.source.train) == 11 and len(work.source.test) == 1 and work.source.shape == (4, 8, 8)
    picture = Image.open(prompts.pictures[4])
    assert picture.size == (20, 20)
    small = torch.from_numpy(np.array(picture.resize((16, 16), Image.Resampling.LANCZOS)))
    wanted = teacher.parts.vae.encode(small.permute(2, 0, 1)[None].float() / 127.5 - 1).latent_dist.mode() * 0.18215
    assert (work.source.train[torch.tensor([4])] - wanted).abs().max() < 1e-5
    assert torch.equal(work.labels_of(torch.tensor([0, 4])), teacher.parts.embed(PROMPTS[:1] * 2))


def test_embeddings_are_computed_once(sd, engine, monkeypatch):
    teacher, prompts = text_sampler(sd, runtime_of(engine)), Prompts("p", ("a cat", *PROMPTS))
    first = text_work(prompts, teacher, runtime_of(engine))

    def never(*given):
        raise AssertionError("computed again")

    calls = []
    monkeypatch.setattr(type(teacher.parts), "embed", lambda self, texts, device="cpu": calls.append(texts) or never())
    monkeypatch.setattr(type(teacher.parts), "null", lambda self, device="cpu": torch.zeros(1, 192))
    again = text_work(prompts, teacher, runtime_of(engine))
    rows = torch.arange(5)
    assert torch.equal(first.embeddings[rows], again.embeddings[rows]) and not calls


# --------------------------------------------------------------------------------------------------------- distillation


def test_dmd2_leaves_a_folder_that_diffusers_opens_with_the_same_images(folder, tmp_path, engine):
    method = dataclasses.replace(QUICK, calls=4)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS) + "\n\n", encoding="utf-8")
    made = attar.distill(str(prompts), method, teacher=str(folder), out=tmp_path / "made", engine=engine)
    assert isinstance(made, PipelineSampler) and made.timesteps == [999, 749, 499, 249]
    start = text_sampler(folder, runtime_of(engine)).denoiser.state_dict()
    assert any(not torch.equal(start[name], value) for name, value in made.denoiser.state_dict().items())

    opened = attar.open_artefact(tmp_path / "made")
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    images = opened.sample(PROMPTS[:2], noise=noise)
    assert images.shape == (2, 3, 16, 16) and torch.equal(images, made.sample(list(PROMPTS[:2]), noise=noise))
    pipeline = theirs(tmp_path / "made")
    for steps in (1, 4):
        given = opened.timesteps[:steps]
        mine = dataclasses.replace(opened, given=opened.given[:steps], steps=steps).sample(PROMPTS[:2], noise=noise)
        pixels = pipeline(
            list(PROMPTS[:2]),
            timesteps=given,
            guidance_scale=0.0,
            latents=noise.clone(),
            generator=torch.Generator().manual_seed(derived_seed(0, "fresh noise 0")),
            output_type="pt",
        ).images
        assert (pixels * 2 - 1 - mine).abs().max() < 1e-5
    names = {path.suffix for path in (tmp_path / "made").rglob("*") if path.is_file() and "run" not in path.parts}
    assert names == {".json", ".safetensors", ".md", ".png"}
    assert opened.shown().facts["network"] == "UNet2DConditionModel" and len(opened.shown().pictures) == 1
    with pytest.raises(InputError, match="samplers that are told by text are not measured here"):
        attar.evaluate(opened, str(prompts), engine=engine)
    card = (tmp_path / "made" / "README.md").read_text(encoding="utf-8")
    assert "timesteps=[999, 749, 499, 249], guidance_scale=0" in card and PROMPTS[0] in card


def test_images_follow_the_seed_and_no_other_image(sd, engine):
    teacher = dataclasses.replace(text_sampler(sd, runtime_of(engine)), steps=2)
    alone, both = teacher.images(PROMPTS[0], seed=3), teacher.images(PROMPTS[:2], seed=3)
    assert alone.dtype == torch.uint8 and (alone[0].int() - both[0].int()).abs().max() <= 1
    assert not torch.equal(alone, teacher.images(PROMPTS[0], seed=4))


ROWS = ("sd15", "sd15-resumed", "sdxl-4-step", "sdxl-4-step-lora", "sdxl-1-step")


@pytest.mark.parametrize("row", ROWS)
def test_published_rows_run(row, captioned, tmp_path, tmp_path_factory, engine):
    place = tmp_path_factory.getbasetemp() / row.partition("-")[0]
    if not place.is_dir():
        save_pipeline(place, sdxl=row.startswith("sdxl"))
    method = DMD2.paper(row)
    warm = 1 if method.warm_start else 0
    method = dataclasses.replace(method, steps=2 + warm, batch=2, warm_start=warm).changed_by(
        {"pairing": {"pair_count": 4, "pair_levels": 2}}
    )
    made = attar.distill(str(captioned), method, teacher=str(place), engine=engine)
    assert made.timesteps == {"sdxl-1-step": [399], "sd15": [999], "sd15-resumed": [999]}.get(row, [999, 749, 499, 249])
    assert made.sample(PROMPTS[:1]).isfinite().all()
    assert not any("lora" in name for name in made.denoiser.state_dict())


def test_a_student_of_pairs_is_a_pipeline_too(sd, tmp_path, engine):
    method = PairRegression(steps=2, batch=2, pair_count=4, half="off")
    prompts = Prompts("p", PROMPTS)
    made = attar.distill(prompts, method, teacher=str(sd), out=tmp_path / "made", engine=engine)
    assert made.timesteps == [999] and theirs(tmp_path / "made").scheduler.config.original_inference_steps == 1


def test_guidance_moves_the_student_and_not_the_critic(sd, engine):
    prompts, found = Prompts("p", PROMPTS), {}
    for guidance in (1.0, 4.0):
        runtime = runtime_of(engine)
        work = text_work(prompts, Teacher(network=str(sd)).found(prompts, runtime), runtime)
        method = dataclasses.replace(QUICK, guidance=guidance).resolve(work, runtime)
        state = method.build(work, runtime)
        before = {name: one.clone() for name, one in state.critic.state_dict().items()}
        method.step(state, runtime)
        found[guidance] = (state.student.state_dict(), state.critic.state_dict())
        assert any(not torch.equal(before[name], one) for name, one in found[guidance][1].items())
    (student, critic), (guided_student, same_critic) = found.values()
    assert any(not torch.equal(student[name], one) for name, one in guided_student.items())
    assert all(torch.equal(critic[name], one) for name, one in same_critic.items())


def test_guidance_takes_the_embedding_of_no_prompt(sd, engine):
    prompts, runtime = Prompts("p", PROMPTS), runtime_of(engine)
    teacher = text_sampler(sd, runtime)
    work = text_work(prompts, teacher, runtime)
    assert torch.equal(work.null, teacher.parts.embed([""])) and not work.unconditional
    x, sigma = torch.randn(2, 4, 8, 8), torch.tensor([1.0, 9.0])
    rows = work.conditions(2, torch.Generator().manual_seed(0), torch.device("cpu"))
    null, told = (teacher.denoiser(x, sigma, one) for one in (work.null.expand(2, -1), rows))
    found = guided(teacher.denoiser, 7.5, work.null)(x, sigma, rows)
    assert (found - (null + 7.5 * (told - null))).abs().max() < 1e-5
    assert (null - told).abs().max() > 1e-4


def test_from_the_shell(sd, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS), encoding="utf-8")
    words = ["--steps", "2", "--batch", "2", "--warm-start", "0", "--calls", "2", "--device", "cpu", "--quiet"]
    named = ["--data", str(tmp_path / "prompts.txt"), "--teacher", str(sd), "--out", str(tmp_path / "made")]
    main(["distill", "dmd2", *named, *words])
    assert "a sample by 2 calls instead of 99" in capsys.readouterr().out
    assert StoredSampler.load(tmp_path / "made").timesteps == [999, 499]
    main(["data", str(tmp_path / "prompts.txt"), "--kind", "samplers"])
    assert "4 prompts" in capsys.readouterr().out


def test_a_name_on_the_hub_is_fetched_without_pickles(sd, engine, monkeypatch):
    asked = []
    monkeypatch.setattr("attar.core.hub.pull", lambda name, files, repo_type: asked.append((name, files)) or sd)
    teacher = Teacher(network="someone/quick").found(Prompts("p", PROMPTS), runtime_of(engine))
    assert isinstance(teacher, PipelineSampler) and asked[0][0] == "someone/quick"
    assert {form.rpartition(".")[2] for form in asked[0][1]} == {"json", "txt", "safetensors"}


def test_an_open_pipeline_is_a_teacher(sd, engine):
    prompts = Prompts("p", PROMPTS)
    teacher = Teacher(network=theirs(sd)).found(prompts, runtime_of(engine))
    same = text_sampler(sd, runtime_of(engine))
    assert torch.equal(teacher.parts.embed(PROMPTS), same.parts.embed(PROMPTS))
    x, rows = torch.randn(1, 4, 8, 8), teacher.parts.embed(PROMPTS[:1])
    assert torch.equal(teacher.denoiser(x, torch.ones(1), rows), same.denoiser(x, torch.ones(1), rows))
