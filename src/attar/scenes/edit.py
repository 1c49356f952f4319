"""Image-edit: images of one class become another, each keeping its own style, by descent on DDS or SDS.

The two-dimensional form of ED-NeRF's edit, and the place to see what a score does: SDS turns all images into one, DDS
moves each by the difference of the prompts. Prefer it where the images themselves are wanted and no scene is behind
them. Amir Hertz, Kfir Aberman and Daniel Cohen-Or, Delta Denoising Score, ICCV 2023, arXiv:2304.07090.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core import store
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.core.state import rebuilt
from attar.samplers.schedules import Levels
from attar.samplers.sources import Source
from attar.scenes.codecs import Codec
from attar.scenes.editing import (
    Editing,
    Prompts,
    codec_of_teacher,
    rms,
    teacher_digest,
    teacher_levels,
    teacher_named,
)
from attar.scenes.masks import CLIPSeg, difference_mask, given_mask, grown
from attar.scenes.scores import Mask
from attar.scenes.work import encoded

PORTION = 8
"""Latents that are decoded at once."""


@dataclass(frozen=True)
class ImageWork:
    """Images, the teacher that edits them, and where it may."""

    source: Source
    teacher: Any
    mask: Any = None
    """None; the word difference; clipseg: with a folder; a file; or a tensor."""

    @cached_property
    def codec(self) -> Codec | None:
        """The autoencoder in whose latents images are edited; None of a teacher of images."""
        return codec_of_teacher(self.teacher)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of images, teacher and mask."""
        return teacher_digest(self.teacher, self.source.fingerprint, mask_digest(self.mask))

    @property
    def name(self) -> str:
        """The name of the images."""
        return self.source.name

    def __str__(self) -> str:
        return str(self.source)


@dataclass
class Edited:
    """Images in the middle of an edit."""

    images: Float[Tensor, "image channel height width"]
    done: int = 0
    before: Tensor = rebuilt(default=None)
    mask: Mask | None = rebuilt(default=None)
    prompts: Prompts = rebuilt(default=None)
    levels: Levels = rebuilt(default=None)
    work: ImageWork = rebuilt(default=None)


@dataclass(frozen=True, kw_only=True)
class ImageEdit(Editing):
    """Images of one class that become another, each in its own style.

    Hertz, Aberman and Cohen-Or, Delta Denoising Score, ICCV 2023, arXiv:2304.07090. Prefer it where there is no scene.
    """

    edits: Annotated[int, Range(1)] = 100
    """Number of images that are edited: the first test images of the source's class; of all classes, where the source
    prompt is a text that names none."""
    steps: Annotated[int, Range(1)] = 300
    """Steps in all."""
    lr: Annotated[float, Range(0)] = 0.1
    """Step size of plain descent on the images."""

    name = "image-edit"

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of released code.

        Args:
            data: dds-notebook.

        Raises:
            InputError: There are no others.
        """
        from attar.core.presets import published

        return published(cls, data)

    @property
    def total_steps(self) -> int:
        """Number of steps of the run."""
        return self.steps

    def resolve(self, work: ImageWork, runtime: Runtime) -> Self:
        """The same settings with the guidance filled in, after prompts and teacher were looked at.

        Raises:
            InputError: A prompt is missing or unknown, or the teacher has no unconditional branch for guidance.
        """
        self.prompts(work.teacher, None)
        return dataclasses.replace(self, guidance=self.guided_by(work.teacher))

    def prepared(self, source: Any, task: Any, runtime: Runtime) -> ImageWork:
        """The images with the teacher that a task names.

        Raises:
            InputError: The data are no images, or there is no such teacher.
        """
        if not isinstance(source, Source) or not source.pictures:
            raise InputError(f"image-edit edits labelled images, such as digits; {source.name} is none.")
        self.checked(task, source.name, source.classes, None)
        given, how = task.teacher.network, {"steps": task.teacher.steps, "guided": self.guided}
        work = ImageWork(source, teacher_named(given, source, runtime, **how), task.mask)
        self.rows(work)
        return work

    def rows(self, work: ImageWork) -> Tensor:
        """The test images that are edited.

        Raises:
            InputError: The source prompt is no class of the images, or the class has no test image.
        """
        source, prompt = work.source, self.source_prompt
        if prompt not in source.classes and not work.teacher.classes:
            return torch.arange(min(self.edits, len(source.test)))
        if prompt not in source.classes:
            raise InputError(f"the source prompt {prompt!r} is no class of {source.name}: {', '.join(source.classes)}.")
        labels = source.test.labels
        assert labels is not None
        found = (labels == source.classes.index(str(prompt))).nonzero()[:, 0][: self.edits]
        if not len(found):
            raise InputError(f"{source.name} has no test image of {prompt}.")
        return found

    def build(self, work: ImageWork, runtime: Runtime) -> Edited:
        """The images as they are."""
        pictures = work.source.test[self.rows(work)]
        images = pictures if work.codec is None else encoded(work.codec, coloured(pictures))
        images, levels, prompts = (
            images.to(runtime.device),
            teacher_levels(work.teacher),
            self.prompts(work.teacher, None),
        )
        mask = mask_for(self, work.mask, images, pictures, work.teacher, prompts, levels)
        return Edited(images.clone(), 0, images, mask, prompts, levels, work)

    def step(self, state: Edited, runtime: Runtime) -> Metrics:
        """One step of descent for every image, each at noise of its own."""
        gradient = self.gradient(state.images, state.before, state.work.teacher, state.prompts, state.levels, runtime)
        state.images.copy_(self.stepped(state.images, gradient, self.lr, state.mask))
        state.done += 1
        return {"gradient": rms(gradient, torch.zeros_like(gradient)), "moved": rms(state.images, state.before)}

    def result(self, state: Edited, runtime: Runtime) -> Any:
        """The images as they are now."""
        from attar.scenes.edited import EditedImages, Origin

        work = state.work
        edited, before, mask = state.images.float().cpu().clone(), state.before.float().cpu(), state.mask
        if work.codec is not None:
            edited, before = (decoded(work.codec, one, work.source.shape[0]) for one in (edited, before))
            mask = None if mask is None else larger(mask, work.codec.factor)
        return EditedImages(
            edited=edited,
            before=before,
            mask=None if mask is None else mask.float().cpu(),
            classes=work.source.classes,
            source_prompt=str(self.source_prompt),
            target_prompt=str(self.target_prompt),
            origin=Origin.made(work, self, runtime),
        )

    def scored(self, made: Any, work: ImageWork, runtime: Runtime) -> Any:
        """The edited images with what is measured of them, by a classifier that is trained here on the real ones.

        Where a prompt is no class of them, only distances are measured.
        """
        from attar.scenes.judging import image_scores, judge_of

        known = {made.source_prompt, made.target_prompt} <= set(work.source.classes)
        judge = judge_of(work.source.images, runtime) if known and work.source.images is not None else None
        return dataclasses.replace(made, scores=image_scores(made, judge))


def coloured(pictures: Tensor) -> Float[Tensor, "image 3 height width"]:
    """Pictures with three channels."""
    return pictures.expand(-1, 3, -1, -1) if pictures.shape[1] == 1 else pictures


@torch.no_grad()
def decoded(codec: Codec, latents: Tensor, channels: int) -> Tensor:
    """Pictures of latents, grey ones of one channel."""
    found = torch.cat([codec.decode(part) for part in latents.split(PORTION)])
    return found.mean(dim=1, keepdim=True) if channels == 1 else found


def larger(mask: Mask, factor: int) -> Float[Tensor, "batch y x"]:
    """A mask of latents on the pixels of pictures."""
    return mask.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


def mask_for(
    method: Editing,
    given: Any,
    latents: Tensor,
    pictures: Tensor,
    teacher: Any,
    prompts: Prompts,
    levels: Levels,
) -> Mask | None:
    """The mask of an edit on the pixels of latents; None where everything may change.

    Args:
        method: Settings of the edit.
        given: None or none, the word difference, clipseg: with a folder, a tensor, a PNG, or a folder of PNGs.
        latents: Before the edit, one for each view.
        pictures: What they stand for, between -1 and 1.
        teacher: A sampler.
        prompts: The conditions.
        levels: The teacher's levels.

    Raises:
        InputError: The mask is of another size, there is no such file, or it is empty.
    """
    if given is None or given == "none":
        return None
    size, there = (latents.shape[2], latents.shape[3]), (pictures.shape[2], pictures.shape[3])
    if isinstance(given, str) and given == "difference":
        target, known, _ = prompts.of(len(latents), latents.device)
        found = difference_mask(
            teacher.denoiser,
            latents,
            target,
            known,
            levels,
            torch.Generator().manual_seed(0),
            draws=method.mask_draws,
            percentile=method.mask_percentile,
            low=method.noise_from,
            high=method.noise_to,
        )
    elif isinstance(given, str) and given.startswith("clipseg:"):
        seen = CLIPSeg(given.partition(":")[2]).mask(coloured(pictures.float().cpu()), str(method.source_prompt))
        found = given_mask(seen, size, there, len(latents))
    else:
        mask = given if isinstance(given, Tensor) else read_mask(Path(given))
        found = given_mask(mask, size, there, len(latents))
    if not found.any():
        why = (
            " (the teacher sees no difference between the prompts)"
            if isinstance(given, str) and given == "difference"
            else ""
        )
        raise InputError(f"the mask is empty, so that nothing would change{why}. Give another.")
    return grown(found.to(latents), method.mask_growth)


def check_mask(given: Any) -> None:
    """Look whether there is such a mask, before anything is trained.

    Raises:
        InputError: There is none.
    """
    if given is None or isinstance(given, Tensor) or (isinstance(given, str) and given in ("none", "difference")):
        return
    if not isinstance(given, (str, Path)):
        raise InputError(f"the mask is a {type(given).__name__}. Give a tensor, a PNG, a folder of PNGs, or a word.")
    if isinstance(given, str) and given.startswith("clipseg:"):
        CLIPSeg(given.partition(":")[2])
    else:
        read_mask(Path(given))


def read_mask(path: Path) -> Tensor:
    """A mask from a PNG, in which white may change; or one for each view from a folder of PNGs, in the order of names.

    Raises:
        InputError: There is no such file, it is no picture, or the pictures are of several sizes.
    """
    import numpy as np

    from attar.images.data.decoding import Unreadable, opened

    files = sorted(path.glob("*.png")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise InputError(f"{path} is no mask. Give a PNG, a folder of PNGs, difference, or clipseg: with a folder.")
    found = []
    for file in files:
        try:
            with opened(file) as picture:
                deep = picture.mode.startswith("I")
                values = np.array(picture if deep else picture.convert("L")).astype(np.float32)
        except Unreadable as why:
            raise InputError(f"the mask {file} is no picture that can be read: it {why}.") from None
        found.append(torch.from_numpy(values) / (2**16 - 1 if deep else 255))
    if len({one.shape for one in found}) > 1:
        raise InputError(f"the masks in {path} are of several sizes. Give masks of one size.")
    return torch.stack(found) if path.is_dir() else found[0]


def mask_digest(given: Any) -> Any:
    """What tells one mask from another: its values, the word, or the content of its files."""
    if isinstance(given, Tensor):
        return given.tolist()
    path = Path(str(given))
    if path.is_file():
        return store.file_digest(path)
    return [store.file_digest(file) for file in sorted(path.glob("*.png"))] if path.is_dir() else str(given)
