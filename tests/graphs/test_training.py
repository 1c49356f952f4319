import pytest
import torch

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.graphs.protocols import Protocol, protocol_named
from attar.graphs.training import Follow, measured
from graphs.helpers import ENGINE, NARROW


def test_the_step_size_is_cut_half_way_and_that_of_one_epoch_is_not():
    assert [Protocol(epochs=5).lr_at(epoch) for epoch in range(5)] == [1e-3, 1e-3, 1e-4, 1e-4, 1e-4]
    assert Protocol(epochs=1).lr_at(0) == 1e-3


def test_the_validation_score_is_looked_at_now_and_then_and_in_the_end():
    assert [epochs for epochs in range(1, 9) if Protocol(epochs=8, look_every=3).looks_after(epochs)] == [3, 6, 8]


def test_the_chosen_epoch_is_the_first_with_the_best_validation_score(motifs):
    scores = iter([50.0, 70.0, 70.0, 60.0, 11.0, 22.0])
    follow = Follow(NARROW.build(8, 2, torch.Generator()), [motifs.validation], "accuracy", Runtime(ENGINE))
    follow._score = lambda parameters, graphs: next(scores)
    for epoch in range(1, 5):
        follow.look({"w": torch.tensor([[epoch]])}, epoch)
    assert follow.kept[0]["w"].item() == 2
    outcome = follow.outcomes({"w": torch.tensor([[4]])}, [motifs.test])[0]
    assert (outcome.chosen, outcome.last, outcome.validation, outcome.epoch) == (11.0, 22.0, 70.0, 2)


def test_measures(generator):
    labels = torch.tensor([0, 1, 1, 0])
    assert measured(torch.tensor([[2.0, 1], [0, 1], [1, 0], [3, 0]]), labels, "accuracy") == 75
    assert measured(torch.tensor([[0.1], [0.9], [0.3], [0.2]]), labels, "roc-auc") == 100


def test_an_unknown_protocol_is_refused():
    with pytest.raises(InputError, match="unknown protocol 'fields'; did you mean 'field'"):
        protocol_named("fields")
