"""The score of an encoder while it is trained, on the samples that its method holds out; quick, and without a rival."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.runtime import Runtime
from attar.embeddings.answers import accuracy
from attar.embeddings.encoders import features_of
from attar.embeddings.linear import LINEAR
from attar.embeddings.metrics import mean_average_precision
from attar.embeddings.neighbours import knn_votes
from attar.embeddings.sources import evenly

MOST_LEARNED, MOST_HELD = 5000, 2000
"""Most samples that vote, and that are tested."""


@torch.no_grad()
def held_out_score(
    method: Any, encoder: nn.Module, heads: nn.ModuleDict, state: Any, runtime: Runtime
) -> dict[str, float]:
    """KNN of samples with one label, or mAP of several by the method's own classifier; nothing without labels.

    Args:
        method: The method in training.
        encoder: Its encoder, whose mode is restored.
        heads: Its heads, too.
        state: What it learns, with the rows to learn from and those that are held out.
        runtime: The machine.

    Returns:
        One value in per cent, under the name that its curve has.
    """
    source, labels = state.source, state.source.train.labels
    if labels is None or not len(state.held):
        return {}
    learn, held = (
        rows[evenly(len(rows), most)] for rows, most in ((state.learn, MOST_LEARNED), (state.held, MOST_HELD))
    )
    tested = features_of(encoder, source, held, runtime)
    right, classes = labels[held], len(source.classes)
    scores = _classified(method, tested, heads) if labels.ndim == 2 else None
    if scores is None:
        scores = knn_votes(tested, features_of(encoder, source, learn, runtime), labels[learn], classes)
    if labels.ndim == 1:
        return {"held-out kNN": accuracy(scores, right)}
    return {"held-out mAP": 100 * mean_average_precision(scores, right)} if right.any() else {}


def _classified(method: Any, features: Float[Tensor, "sample width"], heads: nn.ModuleDict) -> Tensor | None:
    """What the method's own classifier says; None if it has none but the one that is trained last."""
    trained = nn.ModuleDict({name: head for name, head in heads.items() if name != LINEAR})
    modes = {name: head.training for name, head in trained.items()}
    found = method.outputs(features, trained.eval()).get("logits")
    for name, head in trained.items():
        head.train(modes[name])
    return found
