"""The combinations of losses: recorded values, and that each is the mean of what it is made of."""

import pytest
import torch

from attar.core.errors import InputError
from attar.embeddings.fewshot.icnn import icnn_loss
from attar.embeddings.fewshot.susana import COMBINATIONS, ICNN, Objective, ProtoTriplet, combined_loss
from embeddings.fewshot.helpers import cases

RECORDED = cases("susana_terms")
RELEASED = {"score_list": "released", "score_neighbours": 4}


def losses(case, terms, **how):
    made = RECORDED[case]
    support, query = made["in.support"].clone().requires_grad_(), made["in.query"]
    return combined_loss(support, query, 5, Objective(terms=terms, **{**RELEASED, **how})), support


@pytest.mark.parametrize("case", RECORDED)
@pytest.mark.parametrize("name", ["cross", *COMBINATIONS])
def test_a_combination_gives_the_recorded_loss(case, name):
    terms = COMBINATIONS.get(name, ("cross",))
    found, support = losses(case, terms)
    assert list(found) == list(terms)
    if "queryicnn" in name:
        return  # recorded with the nearest support of a query dropped
    recorded = RECORDED[case]
    total = torch.stack(list(found.values())).sum()
    torch.testing.assert_close(total, recorded[f"{name}.out.loss"], rtol=0, atol=1e-13)
    if f"{name}.out.grad.support" in recorded and total.requires_grad:
        gradient = torch.autograd.grad(total, support)[0]
        torch.testing.assert_close(gradient, recorded[f"{name}.out.grad.support"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_a_combination_is_the_mean_of_its_losses(name):
    terms = COMBINATIONS[name]
    found, _ = losses("three_shot", terms)
    for term in terms:
        alone, _ = losses("three_shot", (term,))
        torch.testing.assert_close(found[term] * len(terms), alone[term])


def test_queries_are_scored_among_supports_or_prototypes():
    made = RECORDED["three_shot"]
    support, query, of_query = made["in.support"], made["in.query"], made["in.query_labels"]
    of_support = torch.arange(5).repeat_interleave(3)
    found, _ = losses("three_shot", ("queryicnn", "queryicnn-protos"), score_list="class")
    among = icnn_loss(query, of_query, support, of_support, list_length=7)
    protos = icnn_loss(query, of_query, support.view(5, 3, -1).mean(dim=1), torch.arange(5), list_length=7)
    torch.testing.assert_close(found["queryicnn"], among / 2)
    torch.testing.assert_close(found["queryicnn-protos"], protos / 2)


def test_every_combination_of_the_scripts_is_a_baseline_and_goes_with_every_cell():
    for name, terms in COMBINATIONS.items():
        assert ICNN.baseline(name).objective.terms == terms
        cell = ProtoTriplet.paper("cub-1shot-resnet12", name)
        assert (cell.objective.terms, cell.objective.score_list) == (terms, "released")
        assert (cell.train_way, cell.train_shot, cell.encoder, cell.optimizer) == (30, 1, "resnet12", "sgd")
    assert ICNN.paper("mini-imagenet-5shot").objective.terms == ("fullicnn",)
    assert len(COMBINATIONS) == 12


def test_terms_that_teach_nothing_are_refused():
    with pytest.raises(InputError, match="terms are none; give some, each once"):
        Objective(terms=())
    with pytest.raises(InputError, match="terms are cross, cross; give some, each once"):
        Objective(terms=("cross", "cross"))
    with pytest.raises(InputError, match="score_terms is gamma alone, which counts and has no gradient"):
        Objective(score_terms=("gamma",))
    with pytest.raises(InputError, match="unknown combination of losses 'fulicnn'; did you mean 'fullicnn'"):
        ICNN.baseline("fulicnn")
