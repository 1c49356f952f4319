"""What is measured of an edit: by a classifier of the real pictures, by distances, and between views.

The classifier is trained here on the training pictures and kept in the cache. It stands for CLIP where none is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.cell import Beside, Cell
from attar.core.errors import InputError
from attar.core.evaluation import Row
from attar.core.rows import rows_of
from attar.core.runtime import Runtime
from attar.core.score import Score
from attar.images.data.whiten import Transform
from attar.images.networks.architecture import Architecture, device_of
from attar.images.protocols import PROTOCOLS
from attar.images.sources import ImageSource
from attar.images.trained import trained
from attar.samplers.schedules import SMALL
from attar.samplers.sources import pixels_of
from attar.scenes.direction import (
    ByClassifier,
    class_number,
    direction_score,
    source_similarity,
    target_similarity,
    view_consistency,
)
from attar.scenes.editing import rms, within
from attar.scenes.score import Measurement

Pictures = Float[Tensor, "image channel height width"]
LEARNING = replace(PROTOCOLS["ceiling"], augmented=False, optimizer="adamw", lr=2e-3, schedule="cosine")
"""How the classifier learns: 30 epochs, without views that would turn digits round."""
EPOCHS = 8
"""Epochs of a classifier of views, whose classes are easier."""
VIEW_WIDTH = 16
"""Filters of its convolutions."""
PROTOTYPES = 2000
"""Training pictures whose features are averaged, at most."""
PORTION = 256
PATH = 24
"""Views of the path of the camera along which edits are compared."""


@dataclass(frozen=True)
class Judge:
    """A classifier of pictures between -1 and 1, and the prototypes of its classes."""

    transform: Transform
    by: ByClassifier

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.by.classes

    @torch.no_grad()
    def predicted(self, pictures: Pictures) -> Int[Tensor, " _image"]:
        """The likeliest class of each picture."""
        return self._all(pictures, lambda part: self.by.network(part).argmax(dim=1))

    @torch.no_grad()
    def images(self, pictures: Pictures) -> Float[Tensor, "image feature"]:
        """The penultimate features of pictures."""
        return self._all(pictures, self.by.images)

    def text(self, prompt: str) -> Tensor:
        """The prototype of a class."""
        return self.by.text(prompt).cpu()

    def accuracy(self, pictures: Pictures, prompt: str) -> float:
        """Share of the pictures, in per cent, that are taken for a class."""
        wanted = class_number(prompt, self.classes)
        return 100 * float((self.predicted(pictures) == wanted).float().mean())

    def _all(self, pictures: Pictures, function: Callable[[Tensor], Tensor]) -> Tensor:
        where = device_of(self.by.network)
        parts = ((part.clamp(-1, 1) + 1) / 2 for part in pictures.split(PORTION))
        return torch.cat([function(self.transform.forward(part.to(where))).cpu() for part in parts])


def judge_of(source: ImageSource, runtime: Runtime) -> Judge:
    """A classifier of labelled pictures: an MLP up to 16 pixels, else a small ConvNet; from the cache, or trained now.

    Args:
        source: Pictures with classes.
        runtime: The machine; the training has seed 0.
    """
    network, learning = Architecture(network="mlp"), LEARNING
    if max(source.shape[1:]) > SMALL:
        network = Architecture(network="convnet", width=VIEW_WIDTH)
        learning = replace(LEARNING, epochs=EPOCHS)
    found = trained(source, network.resolve(source.shape), runtime.with_seed(0), learning).network.eval()
    rows = torch.linspace(0, len(source.train) - 1, min(len(source.train), PROTOTYPES)).round().long()
    inputs = source.inputs(rows, runtime.device)
    labels = source.targets[rows].to(runtime.device)
    return Judge(source.transform, ByClassifier.of(found, inputs, labels, source.classes))


def image_scores(made: Any, judge: Judge | None) -> dict[str, float]:
    """What is measured of edited images.

    Args:
        made: `EditedImages`.
        judge: A classifier of the real images, which knows both prompts; None: only distances are measured.
    """
    edited, before = made.edited, made.before
    distances = {
        "spread": float(within(edited)),
        "spread_before": float(within(before)),
        "rms_to_source": float(rms(edited, before)),
    }
    if judge is None:
        return distances
    features, known = judge.images(edited), judge.images(before)
    target, source = judge.text(made.target_prompt), judge.text(made.source_prompt)
    return {
        "target_accuracy": judge.accuracy(edited, made.target_prompt),
        "target_accuracy_before": judge.accuracy(before, made.target_prompt),
        **distances,
        "direction": float(direction_score(features, known, target, source).mean()),
    }


def view_scores(edited: Pictures, before: Pictures, embedder: Any, target: str, source: str) -> dict[str, float]:
    """How far views of an edited scene follow the prompts, and one another.

    Args:
        edited: Pictures from a path of the camera, after the edit.
        before: The same before it.
        embedder: CLIP, or a `Judge`.
        target: The target prompt.
        source: The source prompt.
    """
    features, known = embedder.images(edited), embedder.images(before)
    wanted, there = embedder.text(target), embedder.text(source)
    return {
        "direction": float(direction_score(features, known, wanted, there).mean()),
        "target_similarity": float(target_similarity(features, wanted).mean()),
        "source_similarity": float(source_similarity(features, known).mean()),
        "view_consistency": float(view_consistency(features, known).mean()),
    }


def psnr(one: Pictures, other: Pictures, where: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio of pictures between -1 and 1 in dB, with a peak of 2.

    Args:
        one: Pictures.
        other: Those they are compared with.
        where: The share of each pixel that counts, `[image, height, width]`. Default: all.
    """
    error = (one - other).square().mean(dim=1)
    mean = error.mean() if where is None else (error * where).sum() / where.sum().clamp(min=1e-12)
    return float(10 * (4 / mean.clamp(min=1e-12)).log10())


def edit_scores(made: Any, work: Any, method: Any, runtime: Runtime) -> dict[str, float]:
    """What is measured of an edited field: at held-out poses, outside the mask, and along a path of the camera.

    The classes are judged by a classifier of what the autoencoder makes of pictures of all classes; without pictures of
    classes, or where a prompt is none of them, only distances are measured.

    Args:
        made: The edited `LatentField`.
        work: The scene with its field before the edit, and its mask.
        method: Settings of the edit.
        runtime: The machine.
    """
    scene, before = work.scene, work.field
    after, known, real = (made.render(scene.train.poses), before.render(scene.train.poses), scene.train.images)
    scores = {"rms_to_source": float(rms(after, known))}
    outside = background(work, method, runtime)
    if outside is not None:
        scores["background"] = psnr(after, real, outside)
        scores["background_before"] = psnr(known, real, outside)
    target, source = str(method.target_prompt), str(method.source_prompt)
    judge = scene_judge(work.base, runtime) if {target, source} <= set(scene.classes) else None
    if judge is None:
        return scores
    poses = scene.test.poses if len(scene.test) else scene.train.poses
    scores["target_accuracy"] = judge.accuracy(made.render(poses), target)
    scores["target_accuracy_before"] = judge.accuracy(before.render(poses), target)
    path = before.orbit(PATH)
    return scores | view_scores(made.render(path), before.render(path), judge, target, source)


def background(work: Any, method: Any, runtime: Runtime) -> Float[Tensor, "view height width"] | None:
    """The pixels of the training pictures that lie outside the mask of the edit; None where everything may change."""
    before = work.field.render_latents(work.scene.train.poses).to(runtime.device)
    mask = method.masks(work, before)
    if mask is None or not (mask < 1).any():
        return None
    factor = work.field.factor
    return 1 - mask.cpu().repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


def scene_judge(base: Any, runtime: Runtime) -> Judge | None:
    """A classifier of the pictures of a scene's classes, each as it is and as the autoencoder has it.

    Args:
        base: The scene with its autoencoder.
        runtime: The machine.
    """
    scene = base.scene
    if not scene.others:
        return None
    pictures = torch.cat([views.images for views in scene.others])
    labels = torch.repeat_interleave(
        torch.arange(len(scene.others)), torch.tensor([len(views) for views in scene.others])
    )
    return judge_of(_as_images(pictures, base, labels, scene.classes), runtime)


WORDS = ("values", "edits", "measurements")
"""What edits are called in a table."""
COLUMNS: dict[str, tuple[str, str, Any]] = {
    "target_accuracy": ("target accuracy", "%", "higher"),
    "background": ("background", "dB", "higher"),
    "view_consistency": ("view consistency", "", "higher"),
    "direction": ("direction score", "", "higher"),
    "target_similarity": ("similarity to the target", "", "higher"),
    "source_similarity": ("similarity to the source", "", "higher"),
    "spread": ("spread (rms)", "", "higher"),
    "rms_to_source": ("distance from the source (rms)", "", "lower"),
}
"""What is measured of an edit, with its unit, and whether more of it is better."""
BEFORE = "_before"


def is_edit(made: Any) -> bool:
    """Whether an artefact is an edit that was measured when it was made."""
    return "rms_to_source" in getattr(made, "scores", {})


def edits(artefacts: Sequence[Any]) -> Measurement:
    """A row for each method with its settings, of what was measured when the edits were made.

    The pictures before an edit, of which the field before it is needed, are at hand only then.

    Raises:
        InputError: Some are edits of scenes, and others of images.
    """
    if len({type(one) for one in artefacts}) > 1:
        raise InputError("give edits of scenes alone, or edits of images alone: their scores have other columns.")
    columns = [name for name in COLUMNS if all(name in one.scores for one in artefacts)]
    found = []
    for label, members in rows_of(artefacts):
        cells = [_cell(name, members) for name in columns]
        found.append(Row.of(label, members, cells, count=None, bytes=members[0].bytes))
    return Measurement(tuple(found), *WORDS)


def _cell(name: str, members: Sequence[Any]) -> Cell:
    column, unit, better = COLUMNS[name]
    known = members[0].scores.get(f"{name}{BEFORE}")
    beside = () if known is None else (Beside("before the edit", Score(known, unit, better)),)
    return Cell.of([[one.scores[name]] for one in members], unit, better, column=column, beside=beside)


def _as_images(pictures: Tensor, base: Any, labels: Tensor, classes: tuple[str, ...]) -> ImageSource:
    """Labelled pictures with their decoded copies; every eighth is for testing."""
    from attar.images.sources import load

    decoded = torch.cat([base.codec.decode(part) for part in base.encoded(pictures).split(PORTION)]).detach()
    both = pixels_of(torch.cat([pictures, decoded]))
    labels = labels.repeat(2)
    held = torch.arange(len(both)) % 8 == 7
    parts = [(both[rows].permute(0, 2, 3, 1).numpy(), labels[rows].numpy()) for rows in (~held, held)]
    return replace(load((parts[0], parts[1])), name="views of classes", classes=classes)
