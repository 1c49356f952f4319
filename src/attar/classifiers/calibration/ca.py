"""CA: a small network gives each sample a temperature, which shall raise confidence where the prediction is right.

It reads how sure the classifier is of transformed copies of the image. Prefer it where images will differ from those of
the calibration rows, and always beside its control, `ts` with `loss="ca-balanced"`: in our measurements most of the
gain on shifted data came from the balanced weights, which a single temperature can have as well.
Liu, Wang, Zou, Zou and Zheng, Optimizing Calibration by Gaining Aware of Prediction Correctness, 2024,
arXiv:2404.13016.
The released code cuts the temperature to .1 to 10 while it trains, where the gradient is zero, so that many seeds never
train; here it is a softplus that starts at 1, and is cut only when it is applied. Its weights of right and wrong
predictions come from each batch; here from all calibration rows.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.classifiers.calibration import views as transforms
from attar.classifiers.calibration.calibration import Images, Labels, Learned, Logits, Views, correct
from attar.classifiers.calibration.losses import Each, balance, brier, cross_entropy, top_label
from attar.classifiers.calibration.network import ByDescent, Features, answered, folded, spread, started
from attar.classifiers.calibration.pts import largest
from attar.classifiers.calibration.views import Transform
from attar.core.errors import InputError
from attar.core.presets import published
from attar.core.settings import Range

Temperatures = Float[Tensor, " sample"]
ONE = math.log(math.e - 1)
"""The number whose softplus is 1."""
TINY = 1e-4
"""The smallest temperature during the fit."""


@dataclass(frozen=True, kw_only=True)
class CorrectnessAware(ByDescent):
    """Predict a temperature from transformed copies (Liu, Wang, Zou, Zou and Zheng, arXiv 2024, arXiv:2404.13016).

    p = softmax(z / T(u)), u the probabilities of copies of the image for the top classes of the image itself, fitted by
    Σ w (max p - c)² / Σ w, c = 1 if the prediction is right. Another loss in Python: a subclass with its own `losses`.
    """

    top_classes: Annotated[int, Range(1)] = 4
    """Number k of classes that the network reads, those with the largest logits."""
    hidden: tuple[Annotated[int, Range(1)], ...] = (5,)
    """Units of each hidden layer of the network."""
    balanced_loss: bool = False
    """Whether right and wrong predictions weigh the same together. This lowers confidence, on purpose: worse on data
    like the calibration rows, better where the classifier is worse. The released code does it."""
    loss: Literal["ca", "ce", "mse"] = "ca"
    """Loss of the fit: correctness-aware, cross-entropy or the Brier score of all classes. The first is the Brier score
    of the top class."""
    cues: Literal["views", "softmax", "logits", "none"] = "views"
    """What the network reads: probabilities of transformed copies (views) or of the sample (softmax), its largest
    logits, or nothing, so that all have one temperature."""
    transforms: tuple[Transform, ...] = ()
    """Transforms of the copies. Default: rotation, grey and jitter for images in colour, otherwise rotation, dim and
    blur."""
    temperature_map: Literal["softplus", "clamped"] = "softplus"
    """How the network's output becomes a temperature: by softplus, starting at 1, or cut to the range at once, as in
    the released code."""
    temperature_range: tuple[float, float] = (0.1, 10.0)
    """Smallest and largest temperature that can be learned, to which temperatures are cut when they are applied."""

    name = "ca"

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.temperature_range
        if not 0 < low < high:
            raise InputError(f"temperature_range is {low:g} to {high:g}; it must rise, from above 0.")

    @property
    def looks_at_views(self) -> bool:
        """Whether it needs the logits of transformed copies of the images."""
        return self.cues == "views"

    def copies(self, images: Images) -> list[Images]:
        """The transformed copies of images with pixels from 0 to 1."""
        return transforms.copies(images, self.transforms) if self.looks_at_views else []

    def learn(self, logits: Logits, labels: Labels, views: Views, generator: torch.Generator) -> Learned:
        """The network."""
        features, clamped = self.features(logits, views), self.temperature_map == "clamped"
        mean, scale = spread(features)
        standard = features if clamped else (features - mean) / scale
        sizes = [features.shape[1], *self.hidden, 1]
        start = as_torch_starts(sizes, generator) if clamped else started(sizes, generator, output=ONE)
        weights = balance(correct(logits, labels)) if self.balanced_loss else torch.ones_like(logits[:, 0])

        def loss(learned: Learned, rows: Int[Tensor, " row"]) -> Float[Tensor, ""]:
            temperature = self.positive(answered(learned, standard[rows]))
            each = self.losses(logits[rows] / temperature[:, None], labels[rows])
            return (weights[rows] * each).sum() / weights[rows].sum()

        found = self.fitted(start, loss, len(logits), generator)
        return found if clamped else folded(found, mean, scale)

    def losses(self, scaled: Logits, labels: Labels) -> Each:
        """The loss of each sample, of scaled logits."""
        return {"ca": top_label, "ce": cross_entropy, "mse": brier}[self.loss](scaled, labels)

    def features(self, logits: Logits, views: Views) -> Features:
        """What the network reads."""
        if self.cues == "none":
            return logits[:, :0]
        if self.cues == "logits":
            return largest(logits, self.top_classes)
        return at_top(logits, views if self.cues == "views" else [logits], self.top_classes)

    def positive(self, output: Temperatures) -> Temperatures:
        """The network's outputs as temperatures, during the fit."""
        if self.temperature_map == "clamped":
            return output.clamp(*self.temperature_range)
        return F.softplus(output).clamp_min(TINY)

    def temperature(self, learned: Learned, logits: Logits, views: Views = ()) -> Temperatures:
        """The temperature of each sample."""
        features, wanted = self.features(logits, views), learned["weight0"].shape[1]
        if features.shape[1] != wanted:
            raise InputError(
                f"{self.name} was fitted to {wanted} cues a sample, but here are {features.shape[1]}. Give the same "
                "views as in the fit, and as many classes."
            )
        return self.positive(answered(learned, features)).clamp(*self.temperature_range)

    def calibrated(self, learned: Learned, logits: Logits, views: Views) -> Logits:
        """The log-softmax of the scaled logits."""
        return F.log_softmax(logits / self.temperature(learned, logits, views)[:, None], dim=1)

    @classmethod
    def paper(cls, data: str = "imagenet-val", *, variant: Literal["paper", "released"] = "paper") -> Self:
        """The published settings.

        Args:
            data: imagenet-val, half of whose images calibrate.
            variant: "paper", whose loss has no weights, or "released", whose weights are balanced.

        Raises:
            InputError: Another data set.
        """
        return published(cls, data, variant=variant)


def at_top(logits: Logits, views: Views, top: int) -> Features:
    """The probabilities of views for the top classes of the logits, in descending order of the logits."""
    places = logits.topk(min(top, logits.shape[1]), dim=1).indices
    return torch.cat([view.softmax(dim=1).gather(1, places) for view in views], dim=1)


def as_torch_starts(sizes: list[int], generator: torch.Generator) -> dict[str, Tensor]:
    """Weights and biases as PyTorch draws them: uniform within one over the root of the number of inputs."""
    learned = {}
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        bound = 1 / math.sqrt(max(inputs, 1))
        for name, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
            drawn = torch.empty(shape, dtype=torch.float64)
            learned[f"{name}{layer}"] = nn.init.uniform_(drawn, -bound, bound, generator=generator)
    return learned
