"""Held-out views against their pictures and their latents: peak signal-to-noise ratios, and mean squared errors.

The peak of pictures is 2, the range from -1 to 1, which gives the usual figure of pictures from 0 to 1. The peak of
latents is the range of the held-out latents. Each figure of the refined field stands beside that of the field alone,
because a refinement layer can hide a bad field.
"""

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.cell import Beside, Cell, Measure
from attar.core.errors import InputError
from attar.core.evaluation import Evaluation, Row
from attar.core.rows import rows_of
from attar.core.runtime import Runtime
from attar.core.score import Score
from attar.core.training import LONG, cached, seconds_for
from attar.scenes.artefact import Autoencoder, LatentField
from attar.scenes.pictures import rows
from attar.scenes.scoring import Scoring
from attar.scenes.sources import Scene
from attar.scenes.work import Work, encoded

PEAK = 2.0
"""The range of pictures between -1 and 1."""
PLAIN = "a plain latent field"
ALONE = "the autoencoder alone"
Found = dict[str, tuple[float, float]]
"""Mean squared error and peak, by column."""


@dataclass(frozen=True)
class Measurement(Evaluation):
    """What was measured, with a picture of it."""

    drawn: tuple[tuple[Any, bytes], ...] = field(default=(), repr=False, compare=False)
    """Each artefact with its picture of held-out views."""


def decibels(error: float, peak: float) -> float:
    """PSNR: 10 log10(peak² / MSE)."""
    return 10 * math.log10(peak**2 / max(error, 1e-20))


def squared_error(found: Float[Tensor, "..."], wanted: Float[Tensor, "..."]) -> float:
    """The mean squared error."""
    return float((found.double() - wanted.double()).square().mean())


def range_of(values: Float[Tensor, "..."]) -> float:
    """The range of values, the peak of their PSNR."""
    return float(values.max() - values.min())


def measure(artefacts: Sequence[Any], scene: Scene, how: Scoring, runtime: Runtime) -> Measurement:
    """Measure latent fields, or autoencoders, on the held-out views of their scene.

    Args:
        artefacts: Of one form. Those that differ only in their seed share a row.
        scene: The scene.
        how: What is measured beside them.
        runtime: The machine.

    Raises:
        InputError: There is nothing to measure, or artefacts do not fit the scene or one another.
    """
    start = time.perf_counter()
    fields = all(isinstance(one, LatentField) for one in artefacts)
    if not artefacts or not (fields or all(isinstance(one, Autoencoder) for one in artefacts)):
        raise InputError("give latent fields alone, or autoencoders alone: their scores have other columns.")
    if not len(scene.test):
        raise InputError(f"{scene.name} has no held-out view to measure on. Give --held-out-views.")
    groups, made, drawn = rows_of(artefacts), [], []
    for label, members in groups:
        found, pictures = [], []
        for one in members:
            scores, picture = _of_field(one, scene) if fields else _of_autoencoder(one, scene)
            found.append(scores)
            pictures.append((one, picture))
        drawn += pictures
        beside = _beside(members[0], scene, how, runtime, single=len(groups) == 1) if fields else {}
        cells = [_cell(column, found, beside) for column in found[0]]
        made.append(Row.of(label, members, cells, count=_count(members[0]), bytes=members[0].bytes))
    seconds = round(time.perf_counter() - start, 3)
    return Measurement(tuple(made), *_words(fields), seconds=seconds, drawn=tuple(drawn))


def _words(fields: bool) -> tuple[str, str, str]:
    return ("voxels", "fields", "measurements") if fields else ("channels", "autoencoders", "measurements")


def _count(one: Any) -> int:
    return math.prod(one.field.sizes) if isinstance(one, LatentField) else int(one.codec.channels)


def _of_field(made: LatentField, scene: Scene) -> tuple[Found, bytes]:
    """Errors of the refined field and of the field alone, and a picture of the views."""
    made.scene.check(scene)
    if made.autoencoder is None:
        raise InputError("the autoencoder of this field is not saved with it. Give it by with_autoencoder.")
    codec, poses, wanted = made.autoencoder, scene.test.poses, scene.test.images
    latents = encoded(codec, wanted)
    peak, found = range_of(latents), {}
    views = {"held out": wanted, "autoencoder": _decoded(codec, latents)}
    for told, refined in (("", True), (", field alone", False)):
        if not refined and made.refinement is None:
            continue
        maps = made.render_latents(poses, refined=refined)
        seen = _decoded(codec, maps)
        found[f"rgb{told}"] = squared_error(seen, wanted), PEAK
        found[f"latents{told}"] = squared_error(maps, latents), peak
        views["field alone" if told else "field"] = seen
    return found, rows(views)


def _of_autoencoder(made: Autoencoder, scene: Scene) -> tuple[Found, bytes]:
    """The error of decoded pictures, and a picture of them."""
    wanted = scene.test.images
    seen = _decoded(made.codec, encoded(made.codec, wanted))
    return {"rgb": (squared_error(seen, wanted), PEAK)}, rows({"held out": wanted, "decoded": seen})


@torch.no_grad()
def _decoded(codec: Any, latents: Tensor) -> Tensor:
    return torch.cat([codec.decode(part).clamp(-1, 1) for part in latents.split(8)])


def _beside(made: LatentField, scene: Scene, how: Scoring, runtime: Runtime, *, single: bool) -> dict[str, Found]:
    """What the scores of a field are read with."""
    if how.beside == "skip" or made.autoencoder is None:
        return {}
    work = Work(scene, made.autoencoder)
    alone = squared_error(_decoded(made.autoencoder, work.held_out), scene.test.images)
    found: dict[str, Found] = {ALONE: {"rgb": (alone, PEAK)}}
    plain = _plain(made, work, runtime) if made.refinement is not None and (single or how.beside == "run") else None
    if plain is None:
        return found
    machine = runtime.with_seed(made.origin.seed)
    if how.beside == "run" or seconds_for(plain, work, machine) < LONG:
        rival = cached(plain, work, machine, title="training a plain latent field")
        found[PLAIN] = _of_field(rival, scene)[0]
    return found


def _plain(made: LatentField, work: Work, runtime: Runtime) -> Any:
    """The settings of the same field without a refinement layer; None of an edited field."""
    from attar.scenes.latent_field import TrainLatentField

    if made.origin.method != TrainLatentField.name:
        return None
    settings = TrainLatentField.from_json(made.origin.settings)
    return dataclasses.replace(settings, refine_weight=0.0).resolve(work, runtime)


def _cell(column: str, found: Sequence[Found], beside: dict[str, Found]) -> Cell:
    errors = [[one[column][0]] for one in found]
    peaks = [one[column][1] for one in found]
    base = column.partition(",")[0]
    rivals = tuple(
        Beside(name, Score(decibels(*scores[base]), "dB")) for name, scores in beside.items() if base in scores
    )
    return Cell.of(
        [[decibels(error, peak)] for (error,), peak in zip(errors, peaks, strict=True)],
        "dB",
        "higher",
        column=column,
        further={"mean squared error": Measure.of(errors, "", "lower")},
        beside=rivals,
        notes=tuple(f"PSNR of held-out views, peak {peak:.3g}" for peak in peaks),
    )
