"""Folders of diffusers: what they hold, as teachers, and how students are written to such a folder.

Parts are opened one by one, as models that diffusers and transformers have themselves. No pipeline is opened as a whole
here, because a folder can name code of its own as its pipeline; such folders, and pickles, are refused.
"""

import importlib
import json
import logging
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attar.core import artefact as core
from attar.core import hub, store
from attar.core.errors import InputError, near_path, unknown
from attar.core.foreign import check_no_code
from attar.core.jsonfiles import read_json
from attar.core.kinds import imported
from attar.samplers.denoisers import Denoiser
from attar.samplers.foreign import (
    LEVELS,
    PREDICTIONS,
    ClassUNet,
    Flow,
    ForeignSampler,
    Steps,
    Wrapped,
    origin_of,
    schedule_named,
)
from attar.samplers.schedules import VP, Grid

INDEX = "model_index.json"
EXTRA = "samplers"
DRAFT = ".draft-"
PIXELS, TEXT = "UNet2DModel", "UNet2DConditionModel"
LIBRARIES = ("diffusers", "transformers")
PARTS = (
    "unet",
    "vae",
    "scheduler",
    "tokenizer",
    "tokenizer_2",
    "text_encoder",
    "text_encoder_2",
)
"""Parts of a pipeline that are read; others, such as a safety checker, are not."""
WEIGHTS = ("diffusion_pytorch_model", "model")
"""Names of files of weights, without what says that they are of half precision."""
PULLED = (
    INDEX,
    *(f"{part}/{form}" for part in PARTS for form in ("*.json", "*.txt")),
    *(f"{part}/{name}{form}.safetensors" for part in PARTS for name in WEIGHTS for form in ("", "-*")),
)
"""What is fetched from the hub, by pattern."""
BROKEN = (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What other libraries raise of damaged files."""
BETAS = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}
"""Schedules of β by their names in diffusers and here."""


def looks_foreign(given: Any) -> bool:
    """Whether a folder, or a name, is that of a model of diffusers and of no artefact of attar."""
    if not isinstance(given, (str, Path)):
        return False
    folder = Path(given).expanduser()
    if not folder.is_dir():
        return not folder.exists() and hub.looks_like_one(str(given))
    if (folder / core.ARTEFACT).is_file():
        return False
    return (folder / INDEX).is_file() or (folder / "unet").is_dir() or (folder / "config.json").is_file()


def local(given: Any) -> Path:
    """The folder of a model: as it is, or fetched from the hub.

    Raises:
        InputError: It is on no hub, or cannot be reached.
    """
    folder = Path(given).expanduser()
    if folder.is_dir():
        return folder
    try:
        return hub.pull(str(given), list(PULLED), repo_type="model")
    except InputError as error:
        near = near_path(str(given))
        meant = f"; did you mean {near!r}?" if near else f" here, and {error}"
        raise InputError(f"{given} is no folder of a sampler{meant}") from None


def check_parts(folder: Path) -> dict[str, str]:
    """The parts of a pipeline's folder with the names of their classes, none of which is code of its own.

    Raises:
        InputError: The folder brings code, or names a class of another library.
    """
    code = sorted(folder.rglob("*.py"))
    if code:
        raise InputError(f"{code[0]} is code, and attar runs no code that comes with a model. Give a folder without.")
    index = read_json(folder / INDEX) if (folder / INDEX).is_file() else {}
    if not isinstance(index, dict):
        raise InputError(f"{folder / INDEX} is damaged: it does not name the parts of a pipeline.")
    if isinstance(index.get("_class_name"), list):
        raise InputError(f"{folder / INDEX} names code of its own as its pipeline, and attar runs none.")
    found = {}
    for name, told in index.items():
        if name not in PARTS or not isinstance(told, list) or None in told:
            continue
        if len(told) != 2 or told[0] not in LIBRARIES:
            raise InputError(
                f"{folder / INDEX} takes its {name} from {told[0]!r}; attar reads {' and '.join(LIBRARIES)}."
            )
        found[name] = str(told[1])
    for place in (folder, *(folder / name for name in PARTS)):
        if place.is_dir():
            check_no_code(place)
    return found


def kind_of_unet(folder: Path) -> str:
    """The class of a folder's network.

    Raises:
        InputError: It has none, or one of another class.
    """
    config = read_json(_part(folder, "unet") / "config.json")
    name = config.get("_class_name") if isinstance(config, dict) else None
    if name not in (PIXELS, TEXT):
        raise InputError(f"the network of {folder} is a {name}; attar reads {PIXELS} and {TEXT} of diffusers.")
    return str(name)


def unet_in(folder: Path) -> Any:
    """The U-Net in a folder, in float32, frozen.

    Raises:
        InputError: It is missing, damaged, a pickle, or diffusers is not installed.
    """
    config = read_json(folder / "config.json")
    name = config.get("_class_name") if isinstance(config, dict) else None
    return opened(folder, name if name in (PIXELS, TEXT) else PIXELS)


def opened(folder: Path, name: str, library: str = "diffusers", **more: Any) -> Any:
    """A model of diffusers or transformers from its folder: safetensors, in float32, for inference.

    Raises:
        InputError: It is missing or damaged, has pickles alone, or the library is not installed.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} holds no {name} (no config.json).")
    check_no_code(folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InputError(f"{folder} holds no safetensors; attar reads no pickles. Save {name} with safe_serialization.")
    stem = WEIGHTS[library != "diffusers"]
    if not any(path.name.startswith((f"{stem}.safetensors", f"{stem}-")) for path in weights):
        halves = [path for path in weights if path.name.startswith(f"{stem}.fp16")]
        more |= {"variant": "fp16"} if halves else {}
    made = imported(f"{library}:{name}", EXTRA)
    with quiet():
        try:
            found = made.from_pretrained(folder, use_safetensors=True, local_files_only=True, **more)
        except BROKEN as error:
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise InputError(f"{folder} is damaged: {name} does not open ({reason}).") from None
    if any(tensor.is_meta for tensor in found.state_dict().values()):
        raise InputError(f"{folder} is damaged: its weights are not all there.")
    found = found.float().eval().requires_grad_(False)
    store.check_finite(found.state_dict(), f"{folder} cannot be used")
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Switch off what diffusers and transformers say while they open files."""
    names = [logging.getLogger(name) for name in LIBRARIES]
    levels = [logger.level for logger in names]
    bars = importlib.import_module("transformers.utils.logging") if "transformers" in sys.modules else None
    shown = bars is not None and bars.is_progress_bar_enabled()
    if bars is not None:
        bars.disable_progress_bar()
    for logger in names:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(names, levels, strict=True):
            logger.setLevel(level)
        if shown and bars is not None:
            bars.enable_progress_bar()


# --------------------------------------------------------------------------------------------------------- its schedule


def scheduler_in(folder: Path) -> dict[str, Any]:
    """The configuration of a folder's scheduler; empty where there is none.

    Raises:
        InputError: It is damaged.
    """
    for path in (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json"):
        if path.is_file():
            found = read_json(path)
            if not isinstance(found, dict):
                raise InputError(f"{path} is damaged: it holds no settings.")
            return found
    return {}


def schedule_of(config: Mapping[str, Any], where: str) -> Any:
    """How a model mixes sample and noise, by the configuration of a scheduler of diffusers.

    Raises:
        InputError: The schedule is none that attar knows, or damaged.
    """
    with _settings_of(where):
        return _schedule_of(config, where)


@contextmanager
def _settings_of(where: str) -> Iterator[None]:
    """Refuse settings of a scheduler that cannot be read."""
    try:
        yield
    except BROKEN as error:
        raise InputError(f"the scheduler of {where} is damaged ({type(error).__name__}: {error}).") from None


def _schedule_of(config: Mapping[str, Any], where: str) -> Any:
    steps = int(config.get("num_train_timesteps", 1000))
    if steps < 1:
        raise InputError(f"the scheduler of {where} has {steps} steps (num_train_timesteps); it needs one or more.")
    if "FlowMatch" in str(config.get("_class_name", "")):
        return Flow(float(steps))
    betas, zero = config.get("trained_betas"), bool(config.get("rescale_betas_zero_snr"))
    if betas is not None:
        return Steps(VP((1 - torch.tensor(betas, dtype=torch.float64)).cumprod(0)))
    name = config.get("beta_schedule", "linear")
    if name not in [*BETAS]:
        raise InputError(f"the schedule of {where} is {name!r}; attar knows {', '.join(BETAS)}.")
    low, high = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    made = {"linear": VP.linear, "scaled_linear": VP.scaled_linear}
    plain = made[name](steps, low, high) if name in made else VP.cosine(steps)
    if not zero:
        return Steps(plain)
    return Steps(VP.named(f"{plain.words}{',' if ':' in plain.words else ':'}zero_snr=1"))


def prediction_of(config: Mapping[str, Any], where: str, given: str | None = None) -> str:
    """What a model predicts: as given, or by the configuration of its scheduler.

    Raises:
        InputError: Neither says, or it is nothing that attar knows.
    """
    flow = "flow" if "FlowMatch" in str(config.get("_class_name", "")) else None
    told = given or config.get("prediction_type") or flow
    if told is None and not config:
        raise InputError(f"{where} has no scheduler. Say what it predicts and how it adds noise: prediction, schedule.")
    told = str(told or "epsilon")
    if told not in PREDICTIONS:
        raise unknown("prediction", told, PREDICTIONS)
    return told


# ------------------------------------------------------------------------------------------------------------ a teacher


def pixel_sampler(
    folder: Path, source: Any, runtime: Any, *, prediction: str | None = None, schedule: str | None = None
) -> ForeignSampler:
    """A teacher of images: the `UNet2DModel` of a folder of diffusers, with its scheduler.

    Args:
        folder: Of a pipeline (`unet/`, `scheduler/`), or of a network alone.
        source: The data, which say how many classes there are.
        runtime: The machine.
        prediction: What it predicts. Default: as its scheduler says.
        schedule: How it adds noise, by words. Default: as its scheduler says.

    Raises:
        InputError: A part is missing, or the network makes samples of another shape.
    """
    check_parts(folder)
    config, where = scheduler_in(folder), str(folder)
    unet = unet_in(_part(folder, "unet"))
    if unet.config.class_embed_type is not None:
        kind = unet.config.class_embed_type
        raise InputError(f"the network of {where} takes classes as {kind!r}; attar gives their numbers only.")
    rows = int(unet.config.num_class_embeds or 0)
    classes = len(source.classes)
    if rows and rows not in (classes, classes + 1):
        raise InputError(f"{where} knows {rows} classes, but {source.name} has {classes}.")
    with _settings_of(where):
        made = None if prediction or schedule else preconditioned(unet, classes, config)
    if made is None:
        wrapped = wrapped_unet(ClassUNet(unet, classes), config, where, source.sigma_data, prediction, schedule)
        made = wrapped, {"grid": wrapped.schedule.grid(), "steps": LEVELS, "solver": "heun"}
    denoiser, fields = made
    return ForeignSampler(
        denoiser=denoiser,
        network=None,
        shape=shape_of(unet, source.shape),
        classes=source.classes if rows else (),
        class_shares=source.class_shares if rows else (),
        pictures=source.pictures,
        origin=origin_of(denoiser, where, runtime),
        **fields,
    )


def wrapped_unet(
    network: ClassUNet,
    config: Mapping[str, Any],
    where: str,
    sigma_data: float,
    prediction: str | None,
    schedule: str | None,
) -> Wrapped:
    """A U-Net as a denoiser, by its scheduler or by what is given.

    Raises:
        InputError: Neither says what it predicts, or how it adds noise.
    """
    told = prediction_of(config, where, prediction)
    if schedule is None and not config:
        raise InputError(f"{where} has no scheduler. Say how it adds noise: --teacher.schedule linear, flow, ….")
    mixed = schedule_named(schedule) if schedule else schedule_of(config, where)
    return Wrapped(network, told, mixed, sigma_data=sigma_data, pure=True)


def preconditioned(unet: Any, classes: int, config: Mapping[str, Any]) -> tuple[Denoiser, dict[str, Any]] | None:
    """A U-Net in EDM's form, or in the boundary form of consistency models, with its levels; None of any other.

    Args:
        unet: The model.
        classes: Number of classes.
        config: Of its scheduler.
    """
    name = str(config.get("_class_name", ""))
    spread = float(config.get("sigma_data", 0.5))
    low, high = float(config.get("sigma_min", 0.002)), float(config.get("sigma_max", 80.0))
    grid = Grid(sigma_min=low, sigma_max=high, rho=float(config.get("rho", 7.0)))
    if name == "CMStochasticIterativeScheduler":
        student = Denoiser(ClassUNet(unet, classes, 1000.0), spread, low)
        return student, {"grid": grid, "steps": 1, "solver": "few-step", "floor": low}
    if name.startswith("EDM") and config.get("prediction_type", "epsilon") == "epsilon":
        return Denoiser(ClassUNet(unet, classes), spread), {"grid": grid, "steps": 18, "solver": "heun"}
    return None


def shape_of(unet: Any, like: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape of a U-Net's samples: its channels, and the size that it was made for."""
    size = unet.config.sample_size
    sides = (size, size) if isinstance(size, int) else tuple(size or like[1:])
    if len(sides) != 2 or not all(isinstance(side, int) for side in sides):
        raise InputError(f"the network has the sample_size {size!r}; it must be one whole number or two.")
    height, width = sides
    return int(unet.config.in_channels), int(height), int(width)


def _part(folder: Path, name: str) -> Path:
    """The folder of a part, or the folder itself where it holds a network alone."""
    place = folder / name
    if not place.is_dir() and (folder / "config.json").is_file():
        return folder
    if not (place / "config.json").is_file():
        raise InputError(f"{folder} has no {name} ({name}/config.json is missing).")
    return place


# ------------------------------------------------------------------------------------------------------------ a student


def write_model(folder: Path, parts: Mapping[str, Any], texts: Mapping[str, Any]) -> dict[str, str]:
    """Write models of diffusers and transformers to folders of their own, and return a digest of each file.

    Args:
        folder: Where.
        parts: Models, tokenizers and schedulers, each with `save_pretrained`, by the name of its folder.
        texts: Further JSON files, by name.

    Raises:
        InputError: A value is not finite, or the folder cannot be written to.
    """
    for left_by_a_kill in folder.glob(f"{DRAFT}*"):
        store.remove(left_by_a_kill)
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            store.check_finite(part.state_dict(), f"{folder / name} is not written")
    with tempfile.TemporaryDirectory(prefix=DRAFT, dir=folder) as place, quiet():
        draft = Path(place)
        for name, part in parts.items():
            how = {"safe_serialization": True} if isinstance(part, nn.Module) else {}
            part.save_pretrained(draft / name, **how)
        for name, text in texts.items():
            (draft / name).write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
        names = sorted(str(path.relative_to(draft)) for path in draft.rglob("*") if path.is_file())
        digests = core.digests_of(draft, names)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).replace(folder / name)
    return digests


def check_nothing_added(folder: Path, parts: Iterable[str], names: Iterable[str]) -> None:
    """Refuse files in the folders of parts that diffusers would read besides those that attar wrote.

    Raises:
        InputError: There is one.
    """
    known = set(names)
    for part in parts:
        for path in sorted((folder / part).rglob("*")):
            name = str(path.relative_to(folder))
            if path.is_file() and name not in known:
                raise InputError(f"{folder / name} is not part of the sampler, but it would be read. Remove it.")
