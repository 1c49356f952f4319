"""A U-Net's folder opens in diffusers, and gives there what attar gives; nothing in it can be executed."""

import dataclasses
import json

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.samplers.artefact import StoredSampler
from attar.samplers.export import scheduled
from attar.samplers.sampling import few_step, noise_from
from attar.samplers.schedules import Grid, karras
from promises import EVERY_STEP, dying

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install '.[samplers]'")

WORDS = "unet:width=8,layers=1,depth=2"
FILES = {"model_index.json", "scheduler/scheduler_config.json", "unet/config.json"}


@pytest.fixture(scope="module")
def few_digits(digits):
    return digits.subset(torch.arange(200))


@pytest.fixture(scope="module")
def teacher(few_digits, engine):
    """A U-Net that has learned a little, also without labels."""
    method = attar.EDM(network=WORDS, steps=12, batch=32, sampling_levels=3, label_dropout=0.3, weights_average=0.0)
    return attar.train(few_digits, method, engine=engine)


def student_of(teacher, steps, grid=None, **how):
    """The boundary form of the teacher, of so many calls."""
    grid = grid or teacher.grid
    low = grid.ends[0]
    given = {"solver": "few-step", "steps": steps, "given": tuple(grid.few(steps).tolist()), "floor": low}
    return dataclasses.replace(teacher, grid=grid, denoiser=teacher.denoiser.student(low).eval(), **{**given, **how})


def opened(folder):
    pipeline = diffusers.ConsistencyModelPipeline.from_pretrained(str(folder), use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def gap(sampler, folder, labels, **how):
    """The largest difference of images between 0 and 1, drawn by the pipeline and by attar from the same generator."""
    theirs = opened(folder)(
        batch_size=len(labels), class_labels=labels.tolist(), output_type="pt", generator=draw(), **how
    ).images
    generator = draw()
    noise = torch.randn(len(labels), *sampler.shape, generator=generator)
    own = StoredSampler.load(folder)
    ours = few_step(
        own.denoiser, noise, own.levels(), labels, draw=noise_from(generator, noise), floor=own.floor, clamp=own.clamp
    )
    return float((theirs - (ours / 2 + 0.5).clamp(0, 1)).abs().max())


def draw():
    return torch.Generator().manual_seed(7)


LABELS = torch.tensor([0, 1, 5, 9])


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("ends", [(0.02, 20.0), (0.002, 80.0), (0.01, 5.0)])
def test_diffusers_draws_the_same_images(teacher, steps, ends, tmp_path):
    grid = Grid(sigma_min=ends[0], sigma_max=ends[1])
    student = student_of(teacher, steps, grid)
    student.save(tmp_path / "made")
    assert gap(student, tmp_path / "made", LABELS, num_inference_steps=steps) <= 1e-5


def test_levels_on_another_grid_are_given_by_their_places(teacher, tmp_path):
    levels = karras(18, *teacher.grid.ends)[[0, 9]]
    student = student_of(teacher, 2, given=tuple(levels.tolist()))
    student.save(tmp_path / "made")
    facts = json.loads((tmp_path / "made" / "artefact.json").read_text(encoding="utf-8"))
    assert facts["timesteps"] == [9, 0]
    how = {"num_inference_steps": None, "timesteps": facts["timesteps"]}
    assert gap(student, tmp_path / "made", LABELS, **how) <= 1e-5


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (attar.DMD2, {"steps": 2, "batch": 8, "calls": 4, "warm_start": 0, "gan_weight": 0.0}),
        (attar.Consistency, {"steps": 2, "batch": 8, "calls": 2}),
        (attar.PairRegression, {"steps": 2, "batch": 8, "pair_count": 16}),
        (attar.Progressive, {"steps": 6, "batch": 8, "first_steps": 2}),
    ],
    ids=lambda given: getattr(given, "name", None),
)
def test_students_of_every_method_open(method, settings, teacher, few_digits, engine, tmp_path):
    attar.distill(few_digits, method(**settings), teacher=teacher, out=tmp_path / "made", engine=engine)
    facts = json.loads((tmp_path / "made" / "artefact.json").read_text(encoding="utf-8"))
    how = {"num_inference_steps": None, "timesteps": facts["timesteps"]}
    assert gap(StoredSampler.load(tmp_path / "made"), tmp_path / "made", LABELS, **how) <= 1e-5


def test_images_without_a_label_survive(teacher, tmp_path):
    """No label is the last embedding of the U-Net."""
    student = student_of(teacher, 1)
    student.save(tmp_path / "made")
    unet = opened(tmp_path / "made").unet
    assert unet.config.num_class_embeds == 11
    noise = torch.randn(3, 1, 8, 8, generator=draw())
    own = StoredSampler.load(tmp_path / "made").denoiser
    high = torch.tensor(student.grid.ends[1], dtype=torch.float64)
    free = own(high * noise.double(), high, torch.full((3,), -1))
    torch.testing.assert_close(free, own(high * noise.double(), high, None))
    assert not torch.allclose(free, own(high * noise.double(), high, torch.zeros(3, dtype=torch.long)))
    theirs = opened(tmp_path / "made")(batch_size=3, class_labels=[10] * 3, output_type="pt", generator=draw()).images
    torch.testing.assert_close(theirs.double(), (free / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)


def test_samples_without_classes_open_too(engine, few_digits, tmp_path):
    from attar.samplers.sources import Source

    images = Source.of_images(few_digits).train.all()
    source = Source.of_tensors(images[:100], images[100:], name="unlabelled")
    made = attar.train(source, attar.EDM(network=WORDS, steps=2, batch=8), engine=engine)
    student = student_of(made, 1)
    student.save(tmp_path / "made")
    theirs = opened(tmp_path / "made")(batch_size=2, output_type="pt", generator=draw()).images
    ours = student.sample(noise=torch.randn(2, 1, 8, 8, generator=draw()))
    torch.testing.assert_close(theirs, (ours / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------- the folder


def test_nothing_in_the_folder_can_be_executed(teacher, tmp_path):
    student_of(teacher, 4).save(tmp_path / "made")
    found = {str(path.relative_to(tmp_path / "made")) for path in (tmp_path / "made").rglob("*") if path.is_file()}
    assert {path.rpartition(".")[2] for path in found} == {"json", "safetensors", "md", "png"}
    assert found >= FILES
    index = json.loads((tmp_path / "made" / "model_index.json").read_text(encoding="utf-8"))
    assert index["_class_name"] == "ConsistencyModelPipeline"
    assert {tuple(part) for part in index.values() if isinstance(part, list)} == {
        ("diffusers", "UNet2DModel"),
        ("diffusers", "CMStochasticIterativeScheduler"),
    }


def test_every_file_of_diffusers_is_under_a_digest(teacher, tmp_path):
    student_of(teacher, 4).save(tmp_path / "made")
    digests = json.loads((tmp_path / "made" / "artefact.json").read_text(encoding="utf-8"))["digests"]
    assert digests.keys() == {*FILES, "unet/diffusion_pytorch_model.safetensors"}
    for name in digests:
        place = tmp_path / "made" / name
        whole = place.read_bytes()
        place.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(InputError, match=r"was altered after it was written"):
            StoredSampler.load(tmp_path / "made")
        place.unlink()
        with pytest.raises(InputError, match=r"is missing"):
            StoredSampler.load(tmp_path / "made")
        place.write_bytes(whole)
    StoredSampler.load(tmp_path / "made")


def test_a_teacher_is_a_unet_alone_and_is_read_again(teacher, tmp_path):
    teacher.save(tmp_path / "made")
    assert not (tmp_path / "made" / "model_index.json").exists() and not (tmp_path / "made" / "scheduler").exists()
    read = StoredSampler.load(tmp_path / "made")
    torch.testing.assert_close(read.sample(3, seed=1), teacher.sample(3, seed=1), rtol=0, atol=1e-4)
    assert all(torch.equal(tensor, teacher.learned[name]) for name, tensor in read.learned.items())
    unet = diffusers.UNet2DModel.from_pretrained(str(tmp_path / "made" / "unet"), use_safetensors=True)
    assert unet.config.block_out_channels == [8, 16] or tuple(unet.config.block_out_channels) == (8, 16)


def test_a_killed_training_ends_in_the_same_files(few_digits, tmp_path):
    method = attar.EDM(network=WORDS, steps=3, batch=8)

    def run(name):
        attar.train(few_digits, method, out=tmp_path / name, engine=EVERY_STEP)

    run("whole")
    with dying(method, 2):
        run("again")
    run("again")
    for name in ("unet/diffusion_pytorch_model.safetensors", "unet/config.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_killed_draft_leaves_nothing(teacher, tmp_path):
    (tmp_path / "made" / ".draft-old").mkdir(parents=True)
    teacher.save(tmp_path / "made")
    assert not list((tmp_path / "made").glob(".draft-*"))


def test_a_unet_that_diverged_is_not_saved(teacher, tmp_path):
    broken = student_of(teacher, 1)
    with torch.no_grad():
        next(broken.denoiser.parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match=r"is not written"):
        broken.save(tmp_path / "made")


@pytest.mark.parametrize(
    "change",
    [
        lambda made: {"given": (7.7, 0.3), "steps": 2},
        lambda made: {"denoiser": made.denoiser.student(0.5)},
        lambda made: {"solver": "heun"},
        lambda made: {"grid": Grid(schedule="linear").resolve((1, 8, 8)), "given": None},
        lambda made: {"shape": (1, 8, 16)},
    ],
)
def test_what_diffusers_could_not_draw_is_no_pipeline(teacher, change):
    student = student_of(teacher, 4)
    assert scheduled(student) == (1000, [750, 500, 250, 0])
    assert scheduled(dataclasses.replace(student, **change(student))) is None
