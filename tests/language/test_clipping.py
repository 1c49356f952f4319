import pytest
import torch

from attar.core.errors import InputError
from attar.language.clipping import Clipping, QuantileNetwork, clipped, features, mid_ranks
from attar.language.divergences import Objective
from attar.language.losses import Places, Terms, chunked_loss, learned_bounds
from attar.language.objective import check_clipping, distillation_loss


@pytest.fixture
def batch(logits):
    teacher, student = logits
    places = Places(torch.arange(6), torch.tensor([0, 3, 8, 1, 2, 2]), torch.zeros(6, dtype=torch.bool))
    return student[None], teacher[None], places


def dac(student, teacher, places, clipping, bounds=None, floor=1.0):
    terms = Terms(teacher=1.0, floor=floor, clipping=clipping)
    return chunked_loss(student, teacher, places, terms, bounds=bounds)[0]


def by_definition(student, teacher, places, clipping, bounds):
    """The sheet's steps, with PyTorch's derivative; a hard mask is put in the soft one's place, as its copy."""
    log_p, log_q = teacher[0, places.rows].log_softmax(1), student[0, places.rows].log_softmax(1)
    total = 0.0
    for row, target in enumerate(places.targets.tolist()):
        order = log_p[row].argsort(descending=True)
        p = log_p[row][order].exp()
        ranks = p.cumsum(0) - p / 2
        u, low = bounds[row]
        mask = torch.sigmoid((u - ranks) / clipping.softness) * torch.sigmoid((ranks - low) / clipping.softness)
        always = (order == target) | (torch.arange(len(p)) == 0)
        mask = torch.where(always, torch.ones_like(mask), mask)
        mass = (mask * p).sum()
        kept = mask * p / mass
        total = total + (kept * (kept.log() - log_q[row][order])).sum()
        total = total + torch.relu(clipping.mass_floor - mass)
    return total


def test_mid_ranks_count_what_is_more_probable():
    p = torch.tensor([[0.2, 0.5, 0.3]])
    torch.testing.assert_close(mid_ranks(p), torch.tensor([[0.9, 0.25, 0.65]]))


@pytest.mark.parametrize(
    "setting", [{"teacher_clip": "top-k", "top_k": 9}, {"teacher_clip": "top-p", "clip_mass": 1.0}]
)
def test_keeping_everything_is_the_forward_divergence(setting, batch):
    whole = chunked_loss(*batch, Terms(teacher=1.0))[0]
    torch.testing.assert_close(dac(*batch, Clipping(**setting)), whole)


def test_wide_quantiles_are_the_forward_divergence(batch):
    bounds = torch.tensor([[2.0, -1.0]], dtype=torch.float64).expand(6, 2)
    whole = chunked_loss(*batch, Terms(teacher=1.0))[0]
    torch.testing.assert_close(dac(*batch, Clipping(teacher_clip="learned"), bounds), whole)


def test_top_k_and_top_p_keep_the_head_and_the_label():
    p = torch.tensor([[0.05, 0.5, 0.3, 0.15]], dtype=torch.float64)
    for setting in ({"teacher_clip": "top-k", "top_k": 2}, {"teacher_clip": "top-p", "clip_mass": 0.75}):
        found = clipped(p.log(), p, torch.tensor([0]), Clipping(**setting), None)
        torch.testing.assert_close(found.p, torch.tensor([[0.05, 0.5, 0.3, 0.0]], dtype=torch.float64) / 0.85)
        torch.testing.assert_close(found.mass, torch.tensor([0.85], dtype=torch.float64))


def test_the_learned_mask_is_its_definition(batch):
    student, teacher, places = batch
    clipping = Clipping(teacher_clip="learned", softness=0.1, mass_floor=0.9)
    bounds = torch.linspace(0.3, 0.9, 6, dtype=torch.float64)
    bounds = torch.stack([bounds, 0.1 * bounds], dim=1)
    free = [x.clone().requires_grad_() for x in (student, bounds)]
    ours = dac(free[0], teacher, places, clipping, free[1])
    theirs_free = [x.clone().requires_grad_() for x in (student, bounds)]
    theirs = by_definition(theirs_free[0], teacher, places, clipping, theirs_free[1])
    torch.testing.assert_close(ours, theirs)
    ours.backward()
    theirs.backward()
    for one, other in zip(free, theirs_free, strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    assert (free[1].grad != 0).all()


def test_finite_differences_agree(batch, differences):
    student, teacher, places = batch
    bounds = torch.tensor([[0.8, 0.1]], dtype=torch.float64).repeat(6, 1)
    clipping = Clipping(teacher_clip="learned", softness=0.1)
    free = [x.clone().requires_grad_() for x in (student, bounds)]
    dac(free[0], teacher, places, clipping, free[1]).backward()
    by_student = differences(lambda x: dac(x, teacher, places, clipping, bounds), student)
    by_bounds = differences(lambda x: dac(student, teacher, places, clipping, x), bounds)
    torch.testing.assert_close([x.grad for x in free], [by_student, by_bounds], rtol=1e-5, atol=1e-7)


def test_a_hard_mask_has_the_soft_one_s_gradient_in_its_bounds(batch):
    student, teacher, places = batch
    grads, values = [], []
    for hard in (False, True):
        bounds = torch.tensor([[0.6, 0.1]], dtype=torch.float64).repeat(6, 1).requires_grad_()
        loss = dac(student, teacher, places, Clipping(teacher_clip="learned", hard_clip=hard, softness=0.1), bounds)
        loss.backward()
        grads.append(bounds.grad)
        values.append(loss.item())
    torch.testing.assert_close(*grads)
    assert values[0] != values[1]


def test_a_hard_mask_costs_at_least_what_lies_outside_it(batch):
    """L >= -log q(M); with a soft mask everything is a little inside, and the bound is 0."""
    student, teacher, places = batch
    for quantile in (0.2, 0.5, 0.9):
        for row in range(6):
            one = Places(places.rows[row : row + 1], places.targets[row : row + 1], places.joined[:1])
            bounds = torch.tensor([[quantile, 0.0]], dtype=torch.float64)
            log_p = teacher[0, row].log_softmax(0)[None]
            kept = (
                clipped(log_p, log_p.exp(), one.targets, Clipping(teacher_clip="learned", hard_clip=True), bounds).p > 0
            )
            outside = -student[0, row].softmax(0)[kept[0]].sum().log()
            loss = dac(student, teacher, one, Clipping(teacher_clip="learned", hard_clip=True), bounds, floor=0.0)
            assert loss >= outside - 1e-12
            assert dac(student, teacher, one, Clipping(teacher_clip="learned"), bounds, floor=0.0) >= 0


def test_keeping_one_token_costs_its_own_cross_entropy(batch):
    student, teacher, _ = batch
    first = int(teacher[0, 2].argmax())
    one = Places(torch.tensor([2]), torch.tensor([first]), torch.tensor([False]))
    loss = dac(student, teacher, one, Clipping(teacher_clip="top-k", top_k=1))
    torch.testing.assert_close(loss, -student[0, 2].log_softmax(0)[first])


def test_the_network_begins_wide_and_learns(batch):
    student, teacher, places = batch
    clipping = Clipping(teacher_clip="learned")
    torch.manual_seed(0)
    network = QuantileNetwork(clipping, 9).double()
    bounds = learned_bounds(student, teacher, places, network, clipping, 9)
    upper, lower = bounds.unbind(1)
    assert ((upper > 0.9) & (upper < 0.99) & (lower >= 0) & (lower < 0.01)).all()
    dac(student, teacher, places, clipping, bounds).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in network.parameters())


def test_the_lower_quantile_stays_below_the_upper():
    network = QuantileNetwork(Clipping(teacher_clip="learned"), 9)
    with torch.no_grad():
        network[3].weight.mul_(1e3)
    upper, lower = network(torch.randn(50, 20)).unbind(1)
    assert (lower <= 0.2 * upper).all()


def test_what_the_network_sees_are_numbers_even_where_words_cannot_come():
    log_p = torch.tensor([[0.0, -torch.inf, -torch.inf]])
    seen = features(log_p, log_p, 64)
    assert seen.shape == (1, 8)
    assert seen.isfinite().all()


def test_a_clipped_teacher_goes_with_the_forward_divergence_alone():
    with pytest.raises(InputError) as refusal:
        check_clipping(Objective(divergence="reverse"), Clipping(teacher_clip="top-k"))
    assert str(refusal.value) == (
        "teacher_clip top-k needs --divergence forward, not reverse. Other divergences are infinite, or mean "
        "something else, at tokens that are clipped."
    )


def test_a_learned_mask_needs_its_network(batch):
    student, teacher, _ = batch
    with pytest.raises(InputError, match="QuantileNetwork go together"):
        distillation_loss(
            student, teacher, torch.ones(1, 7, dtype=torch.long), clipping=Clipping(teacher_clip="learned")
        )
