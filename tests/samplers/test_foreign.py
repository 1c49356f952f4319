"""Models from elsewhere as denoisers: predictions, schedules, folders of diffusers, and what is refused."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import attar
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.samplers.artefact import StoredSampler
from attar.samplers.denoisers import guided
from attar.samplers.dmd2 import DMD2
from attar.samplers.foreign import Exploding, Flow, Steps, Wrapped
from attar.samplers.networks import MLPWords, ResidualMLP
from attar.samplers.pairs import PairRegression
from attar.samplers.sampling import euler, few_step, heun
from attar.samplers.schedules import VP, Grid, from_x0
from attar.samplers.sources import Source
from attar.samplers.tasks import Teacher
from attar.samplers.toys import drawn, exact_denoiser, ring_modes

PREDICTED = ("epsilon", "v", "flow", "x0")
SCHEDULES = {"vp": VP.linear(), "flow": "flow", "exploding": "exploding"}


def exact(x, sigma, labels=None):
    """The exact denoiser of eight Gaussians on a circle."""
    return exact_denoiser(x, sigma, ring_modes().double(), 0.05)


class Answering(nn.Module):
    """A network that predicts ε, v, flow or x0 as a denoiser has it, whose parameters it shares."""

    def __init__(self, denoiser, prediction, schedule):
        super().__init__()
        self.denoiser, self.prediction, self.schedule = denoiser, prediction, schedule

    def forward(self, x, time, labels=None):
        """The prediction for scaled samples."""
        alpha, sigma = (one.reshape(-1, *[1] * (x.ndim - 1)) for one in mixed(self.schedule, time.double()))
        level = (sigma / alpha).flatten()
        x0 = self.denoiser(x.double() / alpha, level, labels)
        return from_x0(x0, x, alpha, sigma, self.prediction)


def mixed(schedule, time):
    """α and σ at a time; of numbered steps by the same interpolation, of ln σ."""
    if schedule == "flow":
        return 1 - time, time
    if schedule == "exploding":
        return torch.ones_like(time), time
    table = schedule.exploding().log()
    below = time.floor().long().clamp(0, len(table) - 2)
    level = (table[below] + (time - below) * (table[below + 1] - table[below])).exp()
    alpha = (1 + level**2).rsqrt()
    return alpha, level * alpha


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTED)
def test_every_prediction_of_one_denoiser_is_that_denoiser(prediction, name):
    schedule = SCHEDULES[name]
    wrapped = Wrapped(Answering(exact, prediction, schedule), prediction, schedule)
    draw = torch.Generator().manual_seed(0)
    sigma = torch.logspace(-1.5, 1.5, 64, dtype=torch.float64)
    x = torch.randn(64, 2, generator=draw, dtype=torch.float64) * (1 + sigma[:, None] ** 2).sqrt()
    assert (wrapped(x, sigma) - exact(x, sigma)).abs().max() < 1e-10


def test_a_level_of_the_table_is_its_step_and_one_between_two_is_a_fraction_of_ln_sigma():
    schedule = VP.scaled_linear()
    table = schedule.exploding()
    alpha, sigma, time = Steps(schedule).place(table)
    assert torch.equal(time, torch.arange(1000, dtype=torch.float64))
    assert (alpha - schedule.alpha(torch.arange(1000))).abs().max() < 1e-14
    assert (sigma - schedule.sigma(torch.arange(1000))).abs().max() < 1e-14
    middle = (table[:-1] * table[1:]).sqrt()
    assert (Steps(schedule).place(middle)[2] - torch.arange(999) - 0.5).abs().max() < 1e-9
    assert torch.equal(Steps(schedule).place(table.float().double())[2], torch.arange(1000, dtype=torch.float64))
    assert Steps(schedule, whole=True).place(middle[:5] * 1.00001)[2].tolist() == [1, 2, 3, 4, 5]
    ends = Steps(schedule).place(torch.tensor([1e-6, 1e6], dtype=torch.float64))[2]
    assert ends.tolist() == [0, 999]


def test_flow_is_told_the_share_of_noise():
    alpha, sigma, time = Flow(1000).place(torch.tensor([0.25, 1.0, 3.0], dtype=torch.float64))
    assert sigma.tolist() == [0.2, 0.5, 0.75]
    assert (alpha + sigma).tolist() == [1, 1, 1]
    assert time.tolist() == [200, 500, 750]
    assert Exploding().place(torch.tensor([2.0]))[2].tolist() == [2]


def test_a_schedule_by_words_is_that_schedule():
    assert torch.equal(VP.named("linear").alphas_cumprod, VP.linear().alphas_cumprod)
    assert torch.equal(
        VP.named("scaled-linear:steps=20,low=0.001,high=0.3").alphas_cumprod,
        VP.scaled_linear(20, 0.001, 0.3).alphas_cumprod,
    )
    for made in (VP.linear(), VP.linear(50), VP.scaled_linear(), VP.cosine(), VP.cosine(30)):
        assert torch.equal(VP.named(made.words).alphas_cumprod, made.alphas_cumprod)
    zero = VP.named("scaled-linear:zero_snr=1").alphas_cumprod
    assert zero[-1] == 2**-24 and (zero[0] - VP.scaled_linear().alphas_cumprod[0]).abs() < 1e-15
    assert VP.cosine().alphas_cumprod[-1] < 1e-4
    with pytest.raises(InputError, match="unknown schedule 'cubic'"):
        VP.named("cubic")
    with pytest.raises(InputError, match="unknown option; it takes steps, low and high"):
        VP.named("linear:width=3")
    with pytest.raises(InputError, match="no number"):
        VP.named("linear:steps=many")


def test_schedules_are_those_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    for name, mine in (
        ("linear", VP.linear()),
        ("scaled_linear", VP.scaled_linear()),
        ("squaredcos_cap_v2", VP.cosine()),
    ):
        ends = {"scaled_linear": {"beta_start": 0.00085, "beta_end": 0.012}}.get(name, {})
        theirs = diffusers.DDIMScheduler(beta_schedule=name, **ends).alphas_cumprod
        assert (theirs - mine.alphas_cumprod).abs().max() < 1e-6
    theirs = diffusers.EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, rescale_betas_zero_snr=True
    )
    mine = VP.named("scaled-linear:zero_snr=1")
    assert (theirs.alphas_cumprod[:-1] - mine.alphas_cumprod[:-1]).abs().max() < 1e-6
    assert theirs.alphas_cumprod[-1] == mine.alphas_cumprod[-1]


def test_a_grid_with_a_schedule_by_words_has_its_levels():
    grid = Steps(VP.linear(50, 0.001, 0.2)).grid()
    assert grid.table_by == "linear:steps=50,low=0.001,high=0.2"
    assert torch.equal(grid.few(5), VP.linear(50, 0.001, 0.2).exploding()[[49, 39, 29, 19, 9]])
    assert Grid.from_json(grid.to_json()) == grid
    assert Steps(VP.scaled_linear()).grid().schedule == "scaled-linear"
    unnamed = Steps(VP(VP.linear().alphas_cumprod)).grid()
    assert unnamed.schedule == "karras" and unnamed.ends == (
        float(VP.linear().exploding()[0]),
        float(VP.linear().exploding()[-1]),
    )
    assert Flow().grid().ends == (0.002, 80.0)


def test_samplers_take_a_wrapped_function():
    levels = Grid(sigma_min=0.01, sigma_max=5.0).levels(12)
    noise = torch.randn(32, 2, generator=torch.Generator().manual_seed(1))
    wanted = heun(exact, noise, levels)
    for prediction in PREDICTED:
        wrapped = Wrapped(Answering(exact, prediction, "flow").forward, prediction, "flow")
        assert (heun(wrapped, noise, levels) - wanted).abs().max() < 1e-9
        assert (euler(wrapped, noise, levels) - euler(exact, noise, levels)).abs().max() < 1e-9


def test_a_model_that_is_given_noise_alone_begins_from_it():
    seen = []

    def network(x, time):
        seen.append(x)
        return torch.zeros_like(x)

    noise = torch.randn(3, 2, dtype=torch.float64)
    levels = VP.scaled_linear().exploding()[[399]]
    few_step(Wrapped(network, "x0", VP.scaled_linear(), pure=True), noise, levels)
    assert (seen[-1] - noise).abs().max() < 1e-12
    few_step(Wrapped(network, "x0", VP.scaled_linear()), noise, levels)
    assert (seen[-1] - VP.scaled_linear().sigma(torch.tensor(399)) * noise).abs().max() < 1e-12


def test_guidance_of_a_wrapped_model_is_that_of_its_noise():
    def network(x, time, labels=None):
        told = torch.zeros(len(x)) if labels is None else labels.double()
        return x.tanh() * (1 + told[:, None])

    schedule, x = VP.scaled_linear(), torch.randn(4, 3, dtype=torch.float64)
    labels, t = torch.tensor([0, 1, 2, 3]), torch.tensor([10, 300, 600, 999])
    alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    found = guided(Wrapped(network, "epsilon", schedule), 1.75)(x / alpha, (sigma / alpha).flatten(), labels)
    free, told = network(x, t), network(x, t, labels)
    assert (found - (x - sigma * (free + 1.75 * (told - free))) / alpha).abs().max() < 1e-10


# ----------------------------------------------------------------------------------------------------- released numbers


def released():
    """Tensors of the released gradient for guided models that predict noise."""
    data = os.environ.get("ATTAR_DATA")
    path = Path(data).parent / "fixtures" / "generators" / "dmd2_vp.safetensors" if data else None
    if path is None or not path.is_file():
        pytest.skip("the released numbers (37 KB) are not at hand: they lie beside ATTAR_DATA, in fixtures/generators")
    return load_file(path)


def fixture_network(kept, who):
    """F(x, t, y) = tanh(x A + t/1000 u + y V + a) B + b."""

    def network(x, time, told=None):
        weights = {name: kept[f"{who}.{name}"] for name in "AuVaBb"}
        inner = x.flatten(1) @ weights["A"] + (time / 1000)[:, None] * weights["u"] + weights["a"]
        inner = inner if told is None else inner + told @ weights["V"]
        return (inner.tanh() @ weights["B"] + weights["b"]).view_as(x)

    return network


def test_guided_teacher_and_critic_predict_what_the_released_code_predicts():
    kept = released()
    schedule, t = VP(kept["in.alphas_cumprod"]), kept["in.t"]
    alpha, sigma = schedule.alpha(t).view(-1, 1, 1, 1), schedule.sigma(t).view(-1, 1, 1, 1)
    noisy = kept["in.x"] + sigma / alpha * kept["in.noise"]
    levels = (sigma / alpha).flatten()
    teacher, critic = (Wrapped(fixture_network(kept, who), "epsilon", schedule) for who in ("teacher", "critic"))
    real = guided(teacher, 1.75, kept["in.uncond"])(noisy, levels, kept["in.cond"])
    fake = critic(noisy, levels, kept["in.cond"])
    assert (real - kept["out.pred_real"]).abs().max() < 1e-9 * kept["out.pred_real"].abs().max()
    assert (fake - kept["out.pred_fake"]).abs().max() < 1e-9 * kept["out.pred_fake"].abs().max()


def test_the_weighted_error_in_x0_is_the_released_error_in_noise():
    kept = released()
    schedule, t, noise = VP(kept["in.alphas_cumprod"]), kept["in.critic.t"], kept["in.critic.noise"]
    level = schedule.exploding()[t].view(-1, 1, 1, 1)
    critic = Wrapped(fixture_network(kept, "critic"), "epsilon", schedule)
    found = critic(kept["in.x"] + level * noise, level.flatten(), kept["in.cond"])
    loss = ((found - kept["in.x"]) / level).square().mean()
    assert (loss - kept["out.critic.loss"]).abs() < 1e-9 * kept["out.critic.loss"]


# ----------------------------------------------------------------------------------------------------- the same student


class Net(nn.Module):
    """D(x, σ) = x0 of a small network in double precision, told ln σ / 4."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(3)
            self.inner = ResidualMLP((2,), 8, MLPWords(width=16, depth=1)).double()

    def forward(self, x, sigma, labels=None):
        scale = (1 + sigma.square()).rsqrt()[:, None]
        return self.inner(scale * x, sigma.log() / 4, labels)


METHODS = {
    "dmd2": DMD2(steps=6, batch=16, warm_start=2, critic_steps=2, half="off").changed_by(
        {"pairing": {"pair_count": 16}}
    ),
    "pairs": PairRegression(steps=6, batch=16, pair_count=16, half="off"),
}


@pytest.mark.parametrize("name", METHODS)
def test_noise_velocity_flow_and_x0_give_the_same_student(name, engine):
    ring = drawn("ring", 200)
    made = {}
    for prediction in PREDICTED:
        teacher = Wrapped(Answering(Net(), prediction, "flow"), prediction, "flow", sigma_data=0.5)
        teacher.schedule = Flow(sigma_min=0.01, sigma_max=5.0)
        made[prediction] = attar.distill(ring, METHODS[name], teacher=teacher, engine=engine)
    first = made["x0"].denoiser.state_dict()
    moved = Wrapped(Answering(Net(), "x0", "flow"), "x0", "flow").state_dict()
    assert max((first[key] - moved[key]).abs().max() for key in first) > 1e-4
    for prediction in PREDICTED:
        other = made[prediction].denoiser.state_dict()
        assert max((first[key] - other[key]).abs().max() for key in first) < 1e-6
    noise = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    samples = [one.sample(noise=noise, labels=torch.arange(8)) for one in made.values()]
    assert max((one - samples[0]).abs().max() for one in samples) < 1e-6


def test_the_boundary_form_is_x_at_the_smallest_level_and_that_of_the_preconditioned_network():
    from attar.samplers.denoisers import Denoiser

    net = ResidualMLP((2,), 0, MLPWords(width=8, depth=1)).double()
    plain = Denoiser(net, 0.5)
    wrapped = Wrapped(Answering(plain, "epsilon", "exploding"), "epsilon", "exploding", sigma_data=0.5).student(0.02)
    wanted = plain.student(0.02)
    x, sigma = torch.randn(5, 2, dtype=torch.float64), torch.tensor([0.02, 0.1, 1.0, 5.0, 80.0], dtype=torch.float64)
    assert (wrapped(x, sigma) - wanted(x, sigma)).abs().max() < 1e-9
    assert torch.equal(wrapped(x, sigma)[0], x[0])


def test_a_student_is_a_copy_that_learns_and_leaves_the_teacher_alone():
    teacher = Wrapped(nn.Linear(2, 2), "epsilon", VP.linear()).requires_grad_(False)
    teacher.network.forward = lambda x, t: nn.Linear.forward(teacher.network, x)
    student = teacher.thawed()
    assert all(one.requires_grad for one in student.parameters())
    assert not any(one.requires_grad for one in teacher.parameters())
    assert student.network.weight.data_ptr() != teacher.network.weight.data_ptr()


# ---------------------------------------------------------------------------------------------------- folders of images


def images(count=24, classes=3, side=8):
    draw = torch.Generator().manual_seed(0)
    values = torch.rand(count, 1, side, side, generator=draw) * 2 - 1
    labels = torch.arange(count) % classes
    names = tuple("abc"[:classes])
    return Source.of_tensors(values[:18], values[18:], labels=(labels[:18], labels[18:]), classes=names, name="squares")


def save_unet(folder, *, rows=None, scheduler=True, **settings):
    """A folder of diffusers with a `UNet2DModel` and a scheduler."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    unet = diffusers.UNet2DModel(
        8, 1, 1, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, num_class_embeds=rows, **blocks
    )
    if not scheduler:
        unet.save_pretrained(folder)
        return folder
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(**settings)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classed(tmp_path_factory):
    return save_unet(tmp_path_factory.mktemp("unet") / "classed", rows=4)


def found(engine, given, source=None, **beside):
    return Teacher(network=given, **beside).found(source or images(), Runtime(engine, 0))


def test_a_folder_of_diffusers_teaches_with_its_schedule(classed, engine):
    teacher = found(engine, classed)
    assert teacher.shape == (1, 8, 8) and teacher.classes == ("a", "b", "c") and teacher.grid.schedule == "linear"
    unet, t = teacher.denoiser.network.unet, torch.tensor([999, 500, 3])
    x, labels = torch.randn(3, 1, 8, 8), torch.tensor([0, 2, -1])
    alpha, sigma = (one.view(-1, 1, 1, 1) for one in (VP.linear().alpha(t), VP.linear().sigma(t)))
    told = unet(x, t, class_labels=torch.tensor([0, 2, 3])).sample
    wanted = (x - sigma * told) / alpha
    assert (
        teacher.denoiser(x / alpha, (sigma / alpha).flatten(), labels) - wanted
    ).abs().max() < 1e-4 * wanted.abs().max()
    assert teacher.denoiser.encoded(x, torch.ones(3), labels).shape == (3, 8, 4, 4)


@pytest.mark.parametrize(
    ("settings", "prediction", "schedule"),
    [
        ({"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"}, "v", "cosine"),
        ({"prediction_type": "sample", "num_train_timesteps": 50}, "x0", "linear:steps=50,low=0.0001,high=0.02"),
        ({"trained_betas": [0.1, 0.2, 0.3]}, "epsilon", ""),
        ({"rescale_betas_zero_snr": True}, "epsilon", "linear:zero_snr=1"),
    ],
)
def test_the_scheduler_says_what_is_predicted_and_when(settings, prediction, schedule, tmp_path, engine):
    teacher = found(engine, save_unet(tmp_path / "unet", rows=3, **settings))
    assert teacher.denoiser.prediction == prediction
    assert teacher.denoiser.schedule.words == schedule


def test_a_pipeline_of_a_consistency_model_is_a_student(tmp_path, engine):
    import diffusers

    folder = save_unet(tmp_path / "unet", rows=3)
    unet = diffusers.UNet2DModel.from_pretrained(folder / "unet")
    scheduler = diffusers.CMStochasticIterativeScheduler(clip_denoised=False)
    pipeline = diffusers.ConsistencyModelPipeline(unet, scheduler)
    pipeline.save_pretrained(tmp_path / "student")
    student = found(engine, tmp_path / "student")
    assert student.calls == 1 and student.levels().tolist() == [pytest.approx(80.0)]
    x = torch.randn(3, 1, 8, 8)
    scheduler.set_timesteps(1)
    told = unet(
        scheduler.scale_model_input(80 * x, scheduler.timesteps[0]), scheduler.timesteps[0], torch.arange(3)
    ).sample
    wanted = scheduler.step(told, scheduler.timesteps[0], 80 * x).prev_sample
    assert (student.denoiser(80 * x, torch.tensor(80.0), torch.arange(3)) - wanted).abs().max() < 1e-5
    student.save(tmp_path / "kept")
    again = StoredSampler.load(tmp_path / "kept")
    assert torch.equal(again.sample(3, torch.arange(3), seed=1), student.sample(3, torch.arange(3), seed=1))


def test_a_preconditioned_network_of_diffusers_is_read_as_such(tmp_path, engine):
    import diffusers

    folder = save_unet(tmp_path / "unet", rows=3)
    scheduler = diffusers.EDMEulerScheduler()
    scheduler.save_pretrained(folder / "scheduler")
    teacher, sigma = found(engine, folder), torch.tensor([0.3, 1.0, 20.0])
    x = torch.randn(3, 1, 8, 8) * sigma.view(-1, 1, 1, 1)
    unet = teacher.denoiser.network.unet
    for row in range(3):
        noisy, level = x[row : row + 1], sigma[row]
        told = unet(
            scheduler.precondition_inputs(noisy, level), scheduler.precondition_noise(level), torch.tensor([1])
        ).sample
        wanted = scheduler.precondition_outputs(noisy, told, level)
        assert (teacher.denoiser(noisy, level, torch.tensor([1])) - wanted).abs().max() < 1e-5


def test_a_network_without_a_scheduler_needs_to_be_told(tmp_path, engine):
    folder = save_unet(tmp_path / "unet", rows=3, scheduler=False)
    with pytest.raises(InputError, match="has no scheduler"):
        found(engine, folder)
    teacher = found(engine, folder, prediction="flow", schedule="flow:scale=1000")
    assert teacher.denoiser.prediction == "flow" and teacher.denoiser.schedule.scale == 1000


def test_a_student_of_a_folder_is_saved_opened_and_the_same(classed, tmp_path, engine):
    method = dataclasses.replace(METHODS["dmd2"], calls=2, guidance=1.5)
    made = attar.distill(images(), method, teacher=str(classed), out=tmp_path / "made", engine=engine)
    opened = attar.open_artefact(tmp_path / "made")
    assert torch.equal(opened.sample(4, seed=1), made.sample(4, seed=1))
    assert opened.calls == 2 and opened.levels().tolist() == VP.linear().exploding()[[999, 499]].tolist()
    files = {path.suffix for path in (tmp_path / "made").rglob("*") if path.is_file() and "run" not in path.parts}
    assert files == {".json", ".safetensors", ".md"}
    import diffusers

    unet = diffusers.UNet2DModel.from_pretrained(tmp_path / "made" / "unet")
    mine = opened.denoiser.network.unet.state_dict()
    assert all(torch.equal(mine[name], value) for name, value in unet.state_dict().items())
    weights = tmp_path / "made" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\1")
    with pytest.raises(InputError, match="altered after it was written"):
        StoredSampler.load(tmp_path / "made")


# ------------------------------------------------------------------------------------------------------------ bad input


def test_an_unknown_prediction_is_refused():
    with pytest.raises(InputError, match="unknown prediction 'score'"):
        Wrapped(exact, "score")
    with pytest.raises(InputError, match="did you mean 'epsilon'"):
        Wrapped(exact, "epsilom")


def test_an_unknown_prediction_or_schedule_of_a_folder_is_refused(tmp_path, engine):
    folder = save_unet(tmp_path / "unet", rows=3)
    path = folder / "scheduler" / "scheduler_config.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(facts | {"prediction_type": "score"}), encoding="utf-8")
    with pytest.raises(InputError, match="unknown prediction 'score'"):
        found(engine, folder)
    path.write_text(json.dumps(facts | {"beta_schedule": "sigmoid"}), encoding="utf-8")
    with pytest.raises(InputError, match="is 'sigmoid'; attar knows"):
        found(engine, folder)


def test_a_folder_with_code_is_refused(tmp_path, engine):
    folder = save_unet(tmp_path / "unet", rows=3)
    (folder / "unet" / "my_unet.py").write_text("raise SystemExit\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"my_unet.py is code"):
        found(engine, folder)
    (folder / "unet" / "my_unet.py").unlink()
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    for change, told in (
        ({"_class_name": ["my_pipeline", "Mine"]}, "names code of its own as its pipeline"),
        ({"unet": ["my_unet", "Mine"]}, "takes its unet from 'my_unet'"),
    ):
        (folder / "model_index.json").write_text(json.dumps(index | change), encoding="utf-8")
        with pytest.raises(InputError, match=told):
            found(engine, folder)
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    config = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
    (folder / "unet" / "config.json").write_text(
        json.dumps(config | {"auto_map": {"AutoModel": "mine.Mine"}}), encoding="utf-8"
    )
    with pytest.raises(InputError, match="names code of its own"):
        found(engine, folder)


def test_a_folder_with_pickles_or_without_a_network_is_refused(tmp_path, engine):
    folder = save_unet(tmp_path / "unet", rows=3)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InputError, match="holds no safetensors; attar reads no pickles"):
        found(engine, folder)
    config = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
    (folder / "unet" / "config.json").write_text(
        json.dumps(config | {"_class_name": "DiTTransformer2DModel"}), encoding="utf-8"
    )
    with pytest.raises(InputError, match="is a DiTTransformer2DModel; attar reads UNet2DModel"):
        found(engine, folder)
    (folder / "unet" / "config.json").unlink()
    with pytest.raises(InputError, match=r"has no unet \(unet/config.json is missing\)"):
        found(engine, folder)


def test_classes_that_do_not_fit_and_guidance_without_a_row_for_no_class_are_refused(tmp_path, engine):
    with pytest.raises(InputError, match="knows 7 classes, but squares has 3"):
        found(engine, save_unet(tmp_path / "seven", rows=7))
    teacher = found(engine, save_unet(tmp_path / "three", rows=3))
    with pytest.raises(InputError, match="none for samples without a label"):
        guided(teacher.denoiser, 2.0)(torch.zeros(1, 1, 8, 8), torch.ones(1), torch.tensor([0]))


def test_objects_that_are_no_denoisers_are_refused_with_what_to_do(engine):
    with pytest.raises(InputError, match=r"the teacher is a Linear\. Wrap a network"):
        found(engine, nn.Linear(2, 2), drawn("ring", 100))
    with pytest.raises(InputError, match="a function without parameters, from which no student can start"):
        attar.distill(drawn("ring", 100), METHODS["pairs"], teacher=Wrapped(exact, "x0"), engine=engine)


def test_answers_of_another_shape_or_kind_are_refused():
    x, sigma = torch.zeros(3, 2), torch.ones(3)
    with pytest.raises(InputError, match=r"gives \[3, 1\] for samples of \[3, 2\]"):
        Wrapped(lambda x, t: x[:, :1], "x0")(x, sigma)
    with pytest.raises(InputError, match="gives a str; it must give a tensor"):
        Wrapped(lambda x, t: "x0", "x0")(x, sigma)
    with pytest.raises(InputError, match=r"has no encoded\(x, t, condition\)"):
        Wrapped(exact, "x0").encoded(x, sigma)


def test_a_network_of_ones_own_is_not_saved(tmp_path, engine):
    teacher = Wrapped(Answering(Net(), "x0", "flow"), "x0", "flow")
    made = attar.distill(drawn("ring", 100), METHODS["pairs"], teacher=teacher, engine=engine)
    with pytest.raises(InputError, match=r"a network of one's own \(Answering\) cannot be saved"):
        made.save(tmp_path / "made")
