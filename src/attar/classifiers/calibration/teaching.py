"""Teachers that are calibrated before they teach: their logits become calibrated log-probabilities."""

from pathlib import Path
from typing import Any

from torch import nn

from attar.classifiers.calibration.calibration import Calibration
from attar.classifiers.calibration.opening import Found, Link, digest_of, found
from attar.classifiers.calibration.work import TENTH, Calibrating, Chosen
from attar.classifiers.selection import reserved_rows
from attar.core import hub
from attar.core.errors import InputError
from attar.core.registry import find
from attar.core.runtime import Runtime
from attar.images.networks.architecture import parse
from attar.images.networks.pretrained import PREFIX
from attar.images.protocols import Protocol
from attar.images.sources import ImageSource
from attar.images.trained import trained


def calibrator(given: Any) -> Calibration:
    """A calibrator from its settings, or by its name, with its usual settings.

    Raises:
        InputError: There is none of that name.
    """
    method = find(given, "calibrate").load()() if isinstance(given, str) else given
    if not isinstance(method, Calibration):
        raise InputError(f"the teacher's calibrate is {given!r}. Give a calibrator, such as ts.")
    return method


def calibrated_teacher(
    network: Any, given: Any, source: ImageSource, runtime: Runtime, protocol: Protocol
) -> nn.Module:
    """A teacher that gives calibrated log-probabilities.

    A network that is trained here leaves a tenth of the training images out, on which it is calibrated. Any other
    classifier is calibrated as by `attar calibrate`.

    Args:
        network: A module, the folder or name of a classifier, or a network by name, which is trained here.
        given: The calibrator, or its name.
        source: The images and classes that the teacher has to fit.
        runtime: The machine, and the seed of the teacher.
        protocol: How it is trained.

    Raises:
        InputError: There is no such network or calibrator, or there are no images to calibrate on.
    """
    method = calibrator(given)
    if isinstance(network, str) and _is_to_train(network):
        work = _trained_here(network, source, runtime, protocol)
    else:
        work = Calibrating.of(found(network), source, runtime)
    runtime.say(f"the teacher is calibrated by {method.name} on {work.rows}")
    return work.network(method.resolve(work, runtime), runtime)


def _is_to_train(text: str) -> bool:
    """Whether a text names a network, and not a classifier that is there."""
    return not (text.startswith(PREFIX) or Path(text).exists() or hub.looks_like_one(text))


def _trained_here(text: str, source: ImageSource, runtime: Runtime, protocol: Protocol) -> Calibrating:
    rows = reserved_rows(source, TENTH, runtime.seed)
    network = trained(source.without(rows), parse(text), runtime, protocol).network
    one = Found("module", "", network)
    base = one.fitted_to(source)
    chosen = Chosen(source.train.select(rows), "reserved", source.name)
    return Calibrating(source, base, Link(one.how, one.place, digest_of(base)), None, chosen)
