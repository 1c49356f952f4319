"""Fair tables: the teacher's loss, the student's limits, decoding, whole small runs, and what is refused."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression

from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.tables import student as students
from attar.tables import teacher as teachers
from attar.tables.decoding import FairGenerator
from attar.tables.dependence import dependence
from attar.tables.discrete import Coding, Cutting
from attar.tables.fair import FairTables
from attar.tables.images_fair import coloured_digits, pictures
from attar.tables.leakage import auc_from, forgot
from attar.tables.sources import Column, Rows, Schema, TableSource
from attar.tables.student import FairStudent, gaussian_kl, mmd, moments, paired_loss
from attar.tables.teacher import FairTeacher, sampled, teacher_loss

GOLDEN = load_file(Path(__file__).parent / "golden" / "fair_teacher_loss.safetensors")
SCHEMA = Schema(
    columns=(
        Column(name="skill", missing=True),
        Column(name="height"),
        Column(name="town", type="category", levels=("A", "B", "C"), stored="string"),
        Column(name="sex", role="sensitive", type="category", levels=("f", "m"), stored="string"),
        Column(name="paid", role="label", type="category", levels=("no", "yes"), stored="string"),
    ),
    positive="yes",
)


def drawn(count, seed):
    """Rows whose height tells the group, and whose skill tells the label."""
    generator = torch.Generator().manual_seed(seed)
    sex = (torch.rand(count, generator=generator) < 0.6).double()
    skill, noise = torch.randn(2, count, generator=generator, dtype=torch.float64)
    height = 2.0 * sex + 0.7 * noise
    town = torch.randint(3, (count,), generator=generator).double()
    paid = (skill + 0.5 * sex + 0.4 * torch.randn(count, generator=generator, dtype=torch.float64) > 0.3).double()
    skill[torch.rand(count, generator=generator) < 0.03] = torch.nan
    return Rows(SCHEMA, torch.stack([skill, height, town, sex, paid], dim=1))


SOURCE = TableSource("people", drawn(1000, 1), drawn(600, 2))
QUICK = FairTables(
    tables=3,
    teaching=FairTeacher(epochs=40, batch=250, latents=3, width=24, lr=0.01),
    learning=FairStudent(student_epochs=10),
)


def made(method=QUICK, source=SOURCE, seed=0, say=None):
    runtime = Runtime(Engine(device="cpu", quiet=True), seed, say=say)
    method = method.resolve(source, runtime)
    state = method.build(source, runtime)
    for _ in range(method.total_steps):
        method.step(state, runtime)
    return method.result(state, runtime), state, method


@pytest.fixture(scope="module")
def usual():
    return made()


# ------------------------------------------------------------------------------------------------ losses of the teacher


def of_columns(sizes):
    names = [f"column {number}" for number in range(len(sizes))]
    coded = [
        Column(name=name, type="category", levels=tuple(map(str, range(size))))
        for name, size in zip(names, sizes, strict=True)
    ]
    last = [
        Column(name="s", role="sensitive", type="category", levels=("0", "1")),
        Column(name="y", role="label", type="category", levels=("0", "1")),
    ]
    return Schema(columns=(*coded, *last), positive="1")


class Golden(Coding):
    """The columns of a fixture, which has no label."""

    @property
    def columns(self):
        return super().columns[:-1]


@pytest.mark.parametrize("name", sorted({name.partition(".")[0] for name in GOLDEN}))
def test_the_loss_is_the_released_one_with_the_penalty_always_on(name):
    golden = {key.partition(".")[2]: value for key, value in GOLDEN.items() if key.startswith(f"{name}.")}
    hidden, read = golden["param.encoder.0.weight"].shape
    sizes, latents = golden["in.columns"].tolist(), golden["in.noise"].shape[1]
    groups = read - sum(sizes)
    settings = FairTeacher(latents=latents, width=hidden)
    teacher = teachers.Autoencoder(sum(sizes), groups, settings).double()
    teacher.load_state_dict(
        {key.removeprefix("param."): one for key, one in golden.items() if key.startswith("param.")}
    )
    coding = Golden(of_columns(sizes), Cutting(), {}, {})
    levels = golden["in.categories"]
    coded = dataclasses.replace(
        coding.coded(Rows(coding.schema, torch.cat([levels, 0 * levels[:, :2]], dim=1).double()))
    )
    share = len(levels) / int(golden["in.nominal_batch"])
    parts = teacher_loss(
        teacher, coding, coded, golden["in.group"], golden["in.noise"], weight=float(golden["in.beta"]), share=share
    )
    for ours, theirs in [("reconstruction", "out.reconstruction"), ("kl", "out.kl"), ("loss", "ref.loss")]:
        torch.testing.assert_close(parts[ours], golden[theirs], rtol=1e-9, atol=1e-12)
    if name == "beta_1":  # the released code switches the penalty off here
        assert parts["loss"] > golden["out.loss"]
        return
    parts["loss"].backward()
    for part, parameter in teacher.named_parameters():
        torch.testing.assert_close(parameter.grad, golden[f"out.grad.{part}"], rtol=1e-6, atol=1e-9)


def test_without_a_weight_it_is_a_conditional_autoencoder():
    coding = Coding.of(SOURCE.train)
    coded, groups = coding.coded(SOURCE.train), SOURCE.train.groups
    teacher = teachers.fresh(coding.width, 2, FairTeacher(), torch.Generator().manual_seed(0))
    noise = torch.randn(1000, 8, generator=torch.Generator().manual_seed(1))
    parts = teacher_loss(teacher, coding, coded, groups, noise, weight=0.0)
    assert parts["loss"] == parts["reconstruction"] + parts["kl"] and parts["dependence"] == 0


def test_a_batch_of_one_group_has_no_penalty():
    coding = Coding.of(SOURCE.train)
    own = SOURCE.train.select((SOURCE.train.groups == 1).nonzero()[:, 0])
    teacher = teachers.fresh(coding.width, 2, FairTeacher(), torch.Generator().manual_seed(0))
    parts = teacher_loss(teacher, coding, coding.coded(own), own.groups, torch.zeros(len(own), 8), weight=1e7)
    assert parts["dependence"] == 0


# ------------------------------------------------------------------------------------------------ losses of the student


def codes(rows=64, latents=3, seed=0):
    return torch.randn(2, rows, latents, generator=torch.Generator().manual_seed(seed))


def test_a_student_with_the_teachers_codes_has_nothing_to_learn():
    mean, log_variance = codes()
    parts = paired_loss((mean, log_variance), (mean, log_variance))
    assert parts["quality"] == 0 and float(parts["utility"]) == pytest.approx(0, abs=1e-6)


def test_the_divergence_is_that_of_torch():
    p, q = codes(), codes(seed=1)
    normal = [torch.distributions.Normal(mean, (spread / 2).exp()) for mean, spread in (p, q)]
    expected = torch.distributions.kl_divergence(*normal).sum(dim=1).mean()
    torch.testing.assert_close(gaussian_kl(tuple(p), tuple(q)), expected)


def test_mmd_is_zero_among_equals_and_not_among_others():
    first, second, far = codes(800)[0], codes(800, seed=5)[0], codes(800, seed=7)[0] + 1.0
    assert abs(float(mmd(first, second))) < 0.005
    assert float(mmd(far, second)) > 0.05


def test_mmd_without_bias_is_zero_on_average():
    values = [float(mmd(codes(40, seed=2 * seed)[0], codes(40, seed=2 * seed + 1)[0])) for seed in range(60)]
    spread = torch.tensor(values).std() / len(values) ** 0.5
    assert abs(sum(values) / len(values)) < 3 * float(spread)


def test_moments_are_those_of_all_codes():
    mean, log_variance = moments(codes(500)[0])
    assert mean.shape == log_variance.shape == (1, 3)
    torch.testing.assert_close(log_variance.exp()[0], codes(500)[0].var(dim=0, unbiased=False))


def test_a_wide_student_learns_the_same_means():
    target = torch.randn(2, 200, 2, generator=torch.Generator().manual_seed(0))
    features, groups = torch.eye(200), torch.zeros(200, dtype=torch.long)
    student = students.fresh(200, 1, 2, 128, torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(student.parameters(), 0.01)
    for _ in range(300):
        optimizer.zero_grad()
        loss = paired_loss(student(features, groups), (target[0], target[1]))["quality"]
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1e-3


# --------------------------------------------------------------------------------------------------------- what is read


def test_a_latent_auc_is_chance_where_nothing_is_told_and_one_where_all_is():
    values, generator = codes(2000)[0], torch.Generator().manual_seed(0)
    assert auc_from(values, (values[:, 0] > 0).long(), generator) > 0.98
    assert abs(auc_from(values, torch.arange(2000) % 2, generator) - 0.5) < 0.06
    thirds = (values[:, 1:2] > torch.tensor([-0.5, 0.5])).sum(dim=1)
    assert auc_from(values, thirds, generator) > 0.95


def test_of_a_rare_class_nothing_is_measured():
    assert auc_from(codes(100)[0], torch.arange(100) // 97, torch.Generator().manual_seed(0)) is None
    assert not forgot(None) and forgot(0.54) and not forgot(0.56)


def test_means_may_tell_what_sampled_codes_do_not():
    """Means of the groups alternate on a fine grid, and noise blurs that."""
    generator = torch.Generator().manual_seed(0)
    cell = torch.randint(60, (4000,), generator=generator)
    groups, mean = cell % 2, cell.float()[:, None] / 20
    log_variance = torch.full_like(mean, -1.0)
    assert float(dependence(mean[:1000], log_variance[:1000], groups[:1000], normalise=True)) < 1e-2
    drawn_codes = sampled(mean, log_variance, torch.randn(4000, 1, generator=generator))
    assert abs(auc_from(drawn_codes, groups, generator) - 0.5) < 0.06
    assert auc_from(mean, groups, generator) > 0.7


# ----------------------------------------------------------------------------------------------------------- whole runs


def test_a_run_makes_tables_of_the_same_columns(usual):
    made_of, _, method = usual
    assert len(made_of.tables) == 3 and all(len(table) == 1000 for table in made_of.tables)
    assert made_of.rows.schema == SCHEMA
    assert not torch.equal(made_of.tables[0].values, made_of.tables[1].values)
    assert method.total_steps == 4 * 50


def test_the_run_tells_what_can_be_read_from_its_codes(usual):
    scores = usual[0].scores
    assert {"V²", "AUC(s|z)", "AUC(s|μ)", "AUC(y|z)"} <= set(scores) and "collapsed" not in scores
    assert scores["AUC(y|z)"] > 0.7 > scores["AUC(s|z)"] + 0.05
    assert scores["V², mean of 20 permutations of s"] <= scores["V², largest of 20 permutations of s"]
    json.dumps(scores, allow_nan=False)


def test_with_more_weight_codes_depend_less_on_the_group():
    plain, fair = (made(dataclasses.replace(QUICK, fairness_weight=weight, student="none")) for weight in (0.0, 30.0))
    assert fair[0].scores["V² of its scale"] < plain[0].scores["V² of its scale"] / 2


def test_kept_groups_go_with_their_height_and_neutral_ones_do_not(usual):
    gaps = {}
    for decoding in ("keep", "permute", "neutral"):
        table = dataclasses.replace(usual[0].generator, decoding=decoding).sample(1000)
        heights = table.of("height")
        gaps[decoding] = float(heights[table.groups == 1].mean() - heights[table.groups == 0].mean())
    assert gaps["keep"] > 1 and gaps["permute"] > 1, "the decoder writes the group back"
    assert abs(gaps["neutral"]) < 0.3


def test_a_label_survives_decoding(usual):
    table = usual[0].rows
    known = ~table.of("skill").isnan()
    model = LogisticRegression().fit(table.of("skill")[known, None].numpy(), table.labels[known].numpy())
    test = ~SOURCE.test.of("skill").isnan()
    assert model.score(SOURCE.test.of("skill")[test, None].numpy(), SOURCE.test.labels[test].numpy()) > 0.75


@pytest.mark.parametrize(
    "settings",
    [
        {"student": "noise"},
        {"student": "none", "teaching": {"penalty": "spectral"}},
        {"learning": {"quality": "mmd"}, "teaching": {"penalty": "exact"}, "fairness_weight": 100.0},
        {"cutting": {"within": "learned"}, "decoding": "keep"},
        {"cutting": {"edges": "width", "within": "median"}, "decoding": "permute", "student": "noise"},
    ],
    ids=str,
)
def test_other_settings_run_too_and_draw_more_rows(settings):
    brief = dataclasses.replace(QUICK, teaching=dataclasses.replace(QUICK.teaching, epochs=4), rows=100, tables=1)
    made_of, _, _ = made(brief.changed_by(settings))
    again = FairGenerator.restored(
        SCHEMA, made_of.generator.tensors(), json.loads(json.dumps(made_of.generator.facts()))
    )
    more = made_of.generator.sample(77, seed=5)
    assert len(more) == 77
    torch.testing.assert_close(more.values, again.sample(77, seed=5).values, equal_nan=True, rtol=0, atol=0)
    assert not torch.equal(more.values, made_of.generator.sample(77, seed=6).values)


def test_a_student_of_noise_stores_no_codes_of_rows():
    generator = made(
        dataclasses.replace(QUICK, student="noise", teaching=dataclasses.replace(QUICK.teaching, epochs=2))
    )[0].generator
    assert len(generator.codes) == 0 and generator.sampler is not None


def test_stored_codes_are_sampled_and_not_means(usual):
    made_of, state, method = usual
    mean, _ = method._encoded(state)
    gaps = (made_of.generator.codes[:1000] - mean).abs().max(dim=1).values
    assert float((gaps < 1e-4).double().mean()) < 0.01


def test_a_run_whose_codes_forgot_the_label_is_called_collapsed():
    said = []
    brief = dataclasses.replace(QUICK, fairness_weight=0.0, student="none")
    brief = dataclasses.replace(brief, teaching=dataclasses.replace(brief.teaching, epochs=1, lr=0.0))
    runtime = Runtime(Engine(device="cpu", quiet=True), 0, say=said.append)
    method = brief.resolve(SOURCE, runtime)
    state = method.build(SOURCE, runtime)
    for _ in range(method.total_steps):
        method.step(state, runtime)
    with torch.no_grad():
        state.teacher.encoder[2].weight.zero_()
    made_of = method.result(state, runtime)
    assert made_of.scores["collapsed"].startswith("collapsed: the codes no longer tell the label (AUC 0.")
    assert "from codes" in said[0] and said[1:] == [f"note: {made_of.scores['collapsed']}"]


def test_a_run_is_the_same_again_whatever_was_looked_at():
    runtime = Runtime(Engine(device="cpu", quiet=True), 0)
    method = dataclasses.replace(QUICK, teaching=dataclasses.replace(QUICK.teaching, epochs=5), tables=1, rows=50)
    method = method.resolve(SOURCE, runtime)
    state = method.build(SOURCE, runtime)
    for _ in range(method.total_steps):
        method.step(state, runtime)
        method.result(state, runtime) if state.done % 15 == 0 else None
    assert torch.equal(method.result(state, runtime).rows.values.nan_to_num(), made(method)[0].rows.values.nan_to_num())


def test_the_length_of_a_run_follows_from_the_number_of_rows():
    runtime = Runtime(Engine(device="cpu", quiet=True), 0)
    found = FairTables().resolve(SOURCE, runtime)
    assert (found.rows, found.teaching.epochs, found.learning.student_epochs) == (1000, 1000, 334)
    assert FairTables(student="none").resolve(SOURCE, runtime).total_steps == 2000


@pytest.mark.parametrize(("data", "bins"), [("adult", 8), ("compas", 5)])
def test_published_settings(data, bins):
    method = FairTables.paper(data)
    assert method.fairness_weight == 1e7 and method.teaching.penalty == "exact"
    assert (method.teaching.latents, method.teaching.width, method.teaching.epochs, method.teaching.batch) == (
        *(8, 64),
        *(1000, 2048),
    )
    assert (method.cutting.number_bins, method.cutting.edges, method.cutting.within) == (bins, "width", "uniform")


# --------------------------------------------------------------------------------------------------------------- images


def test_coloured_digits_are_what_they_say():
    source = coloured_digits()
    shown, rows = pictures(source.train), source.train
    assert shown.shape == (len(rows), 3, 8, 8) and shown.max() == 1
    assert torch.equal(shown.sum(dim=(2, 3)).argmax(dim=1), rows.groups)
    agrees = (rows.groups == 0) == (rows.labels == 1)
    assert float(agrees.double().mean()) == pytest.approx(0.8, abs=0.03)
    assert coloured_digits().fingerprint == source.fingerprint != source.at(1).fingerprint


@pytest.fixture(scope="module")
def digits():
    quick = FairTables(
        tables=1,
        student="none",
        cutting=Cutting(numbers="share"),
        teaching=FairTeacher(epochs=60, batch=256, latents=8, width=64, lr=0.005),
    )
    source = coloured_digits(agreement=0.6)
    weights = (0.0, 5.0)
    return source, {weight: made(dataclasses.replace(quick, fairness_weight=weight), source)[0] for weight in weights}


def test_codes_of_digits_lose_their_colour(digits):
    plain, fair = (one.scores for one in digits[1].values())
    assert fair["V² of its scale"] < plain["V² of its scale"] / 2
    assert fair["AUC(s|z)"] < 0.65 and "collapsed" not in fair


def test_decoded_digits_have_no_colour_and_stay_legible(digits):
    source, both = digits
    shown = pictures(both[5.0].rows)
    red, green = shown[:, 0].sum(dim=(1, 2)), shown[:, 1].sum(dim=(1, 2))
    assert float(((red - green).abs() / (red + green)).mean()) < 0.6, "of real ones it is 1"
    grey, real = (pictures(rows).sum(dim=1).flatten(1).numpy() for rows in (both[5.0].rows, source.test))
    model = LogisticRegression(max_iter=100, tol=0.01).fit(grey, both[5.0].rows.codes("digit").numpy())
    assert model.score(real, source.test.codes("digit").numpy()) > 0.4, "guessing is right in a tenth"


# ------------------------------------------------------------------------------------------------------------ bad input


def with_column(name, values):
    return dataclasses.replace(SOURCE, train=SOURCE.train.replaced(name, values), again=None)


def lonely():
    values = torch.zeros(1000)
    values[7] = 1
    return values


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            with_column("sex", torch.ones(1000)),
            "all training rows of people have sex 'm'; a fair table needs two groups.",
        ),
        (
            with_column("sex", lonely()),
            "group 'm' of sex has a single training row. Leave it out, or join it with another.",
        ),
        (
            with_column("paid", torch.zeros(1000)),
            "label paid has no 'yes' among training rows of people; both outcomes are needed.",
        ),
        (
            with_column("paid", torch.ones(1000)),
            "label paid has only 'yes' among training rows of people; both outcomes are needed.",
        ),
    ],
)
def test_a_table_with_nothing_to_be_fair_about_is_refused(source, words):
    with pytest.raises(InputError) as refused:
        FairTables().resolve(source, Runtime(Engine(device="cpu", quiet=True), 0))
    assert str(refused.value) == words


def test_a_hundred_groups_are_refused():
    levels = tuple(f"group {number}" for number in range(100))
    columns = tuple(dataclasses.replace(one, levels=levels) if one.name == "sex" else one for one in SCHEMA.columns)
    rows = Rows(
        dataclasses.replace(SCHEMA, columns=columns), SOURCE.train.replaced("sex", torch.arange(1000.0) % 100).values
    )
    with pytest.raises(InputError, match="sex has 100 groups; give a sensitive column of 20 or fewer"):
        FairTables().resolve(TableSource("many", rows, rows), Runtime(Engine(device="cpu", quiet=True), 0))


def test_an_unknown_student_is_refused():
    with pytest.raises(InputError, match="unknown student 'nose'; did you mean 'noise'"):
        FairTables(student="nose")
