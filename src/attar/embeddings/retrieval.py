"""Retrieval between images and texts: how often what belongs together is among the most similar, in both directions."""

from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.embeddings.neighbours import PAIRS

Images = Float[Tensor, "pair width"]
Texts = Float[Tensor, "pair width"]
DIRECTIONS = ("image to text", "text to image")
AT = (1, 5, 10)


def recalls(
    images: Images, texts: Texts, captions: Sequence[str], *, at: Sequence[int] = AT
) -> dict[str, dict[int, float]]:
    """Recall at k in both directions: the share of queries with something right among the k most similar.

    Every pair whose caption is the same text is right. Ties count against the model, so that one that maps everything
    to one point finds nothing.

    Args:
        images: Embeddings of images, compared by cosine.
        texts: Embeddings of their captions.
        captions: The captions.
        at: Values of k.

    Returns:
        For "image to text" and "text to image" the recall at each k, from 0 to 1.

    Raises:
        InputError: There are other numbers of images, texts and captions, or none.
    """
    if not len(images) == len(texts) == len(captions) or not len(captions):
        raise InputError(
            f"retrieval needs pairs; there are {len(images)} images, {len(texts)} texts and {len(captions)} captions."
        )
    numbers = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
    meaning = torch.tensor([numbers[caption] for caption in captions], device=images.device)
    first, second = F.normalize(images.detach()), F.normalize(texts.detach())
    ranks = {
        DIRECTIONS[0]: ranks_of_right(first, second, meaning),
        DIRECTIONS[1]: ranks_of_right(second, first, meaning),
    }
    return {way: {k: float((rank <= k).double().mean()) for k in at} for way, rank in ranks.items()}


def ranks_of_right(
    queries: Float[Tensor, "pair width"], gallery: Float[Tensor, "pair width"], meaning: Int[Tensor, " pair"]
) -> Int[Tensor, " pair"]:
    """For each query the rank, from 1, of the most similar item that is right; wrong ones that tie are ahead of it.

    Args:
        queries: Embeddings of length one.
        gallery: Those to search in.
        meaning: A number for each pair; an item is right if it has the query's.
    """
    size, found = max(1, PAIRS // len(gallery)), []
    for chunk, own in zip(queries.split(size), meaning.split(size), strict=True):
        similarities = chunk @ gallery.t()
        right: Bool[Tensor, "query item"] = own[:, None] == meaning
        best = similarities.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        found.append(1 + ((similarities >= best) & ~right).sum(dim=1))
    return torch.cat(found)


def chance_of_recall(captions: Sequence[str], at: int) -> float:
    """The recall at k of a random order, averaged over queries: 1 - C(N - r, k) / C(N, k) with r right ones."""
    total, missed = len(captions), 0.0
    for count in Counter(captions).values():
        none = 1.0
        for place in range(min(at, total)):
            none *= max(total - count - place, 0) / (total - place)
        missed += count * none
    return 1 - missed / total
