"""Rows of the tables: which methods stand in each, with the settings that the table's budget gives them."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attar.bench.cells import Labels
from attar.images.condense.ast import AST, SMOOTH
from attar.images.condense.atom import ATOM
from attar.images.condense.cda import CDA
from attar.images.condense.coresets import ClassMean, Herding, KCenter, KMeans, Random
from attar.images.condense.datadam import DataDAM
from attar.images.condense.datm import DATM
from attar.images.condense.dc import DC
from attar.images.condense.dcc import DCC
from attar.images.condense.dm import DM
from attar.images.condense.dsa import DSA
from attar.images.condense.edf import EDF
from attar.images.condense.ftd import FTD
from attar.images.condense.hello import HeLlO
from attar.images.condense.mtt import MTT
from attar.images.condense.rded import RDED
from attar.images.condense.relabel import Relabelled
from attar.images.condense.sre2l import SRe2L
from attar.images.condense.tesla import TESLA
from attar.images.experts import Experts

DIGIT_EXPERTS = Experts(experts=5, epochs=21, lr=0.05, batch=64)
"""Experts that learn digits in so few epochs; the field's step size and batch are for sets forty times as large."""


@dataclass(frozen=True)
class Row:
    """One line of a table: a method, how many sets are condensed, and how many networks are trained on each."""

    label: str
    settings: Callable[[int], Any]
    """The method for a number of images per class."""
    sets: int
    networks: int
    most: int = 10**9
    """The largest ipc the row has."""
    chosen: bool = False
    """Whether the iterate is chosen on held-out training images, beside the last one."""
    labels: Labels = "hard"
    """What networks learn: classes, one soft label an image, or what a network says of every augmented image."""
    protocol: str | None = None
    """How networks are trained, where it is not the table's protocol."""
    least: int = 1
    """The smallest ipc the row has."""


def digits_rows(steps: int) -> tuple[Row, ...]:
    """Every method on digits; learning methods with so many steps."""
    return (
        Row("random", lambda ipc: Random(ipc=ipc), sets=10, networks=1),
        Row("class mean", lambda ipc: ClassMean(ipc=ipc), sets=1, networks=3, most=1),
        Row("herding", lambda ipc: Herding(ipc=ipc), sets=1, networks=3),
        Row("K-center", lambda ipc: KCenter(ipc=ipc), sets=1, networks=3),
        Row("k-means, pixels", lambda ipc: KMeans(ipc=ipc, space="pixel"), sets=1, networks=3),
        Row("k-means, embeddings", lambda ipc: KMeans(ipc=ipc), sets=1, networks=3),
        Row("DM", lambda ipc: DM(ipc=ipc, steps=steps), sets=4, networks=2),
        Row("DataDAM", lambda ipc: DataDAM(ipc=ipc, steps=steps), sets=4, networks=2),
        Row("ATOM", lambda ipc: ATOM(ipc=ipc, steps=steps), sets=4, networks=2),
        Row("RDED", lambda ipc: RDED(ipc=ipc), sets=4, networks=2, labels="soft"),
    )


def demo_rows(steps: int) -> tuple[Row, ...]:
    """The few rows of `make demo`, which takes two minutes: two learning methods, and what they have to beat."""
    return (
        Row("random", lambda ipc: Random(ipc=ipc), sets=10, networks=1),
        Row("class mean", lambda ipc: ClassMean(ipc=ipc), sets=1, networks=3, most=1),
        Row("K-center", lambda ipc: KCenter(ipc=ipc), sets=1, networks=3, least=10),
        Row("DM", lambda ipc: DM(ipc=ipc, steps=steps), sets=4, networks=1),
        Row("DataDAM", lambda ipc: DataDAM(ipc=ipc, steps=steps), sets=4, networks=1, least=10),
    )


def family_rows(steps: int, sets: int, networks: int, experts: Experts) -> tuple[Row, ...]:
    """Every family, those that learn from soft labels and from a teacher kept apart: what `digits-all` holds.

    Args:
        steps: Of the learning methods: as many matches of gradients and students at one image per class, half and a
            fifth as many at more; three times as many iterations.
        sets: Condensed sets per cell of the learning methods.
        networks: Networks per set; one where a network teaches, which takes three times as many epochs.
        experts: How the experts of trajectory matching are trained.
    """

    def row(label: str, settings: Callable[[int], Any], **others: Any) -> Row:
        return Row(label, settings, sets, networks, **others)

    def taught(label: str, settings: Callable[[int], Any], protocol: str = "rded") -> Row:
        return Row(label, settings, sets, 1, labels="taught", protocol=protocol)

    def matches(ipc: int) -> dict[str, Any]:
        return {"network_draws": max(1, steps // (1 if ipc == 1 else 2 * ipc))}

    def students(ipc: int) -> dict[str, Any]:
        count = {"steps": max(1, steps // (1 if ipc == 1 else 5)), "student_steps": 20}
        return {**count, "last_start": 20, "lr": 10.0 if ipc == 1 else 50.0, "lr_lr": 1e-4}

    dcc_loops: dict[str, Any] = {"network_draws": max(1, steps // 10), "matches": 10, "network_epochs": 5}
    flat = dataclasses.replace(experts, flat_radius=0.01)
    gentle = {"student_lr": 0.002, "lr_lr": 1e-7, "lr": 10.0}  # with momentum a step counts tenfold
    smooth = Experts(**{**SMOOTH.to_json(), "experts": experts.experts, "epochs": experts.epochs})
    recover: dict[str, Any] = {"block_steps": 3 * steps}
    untouched: dict[str, Any] = {"start": "real", "block_steps": 1, "image_lr": 0.0, "rounding": "nearest"}
    return (
        row("DC", lambda ipc: DC(ipc=ipc, start="real", **matches(ipc))),
        row("DSA", lambda ipc: DSA(ipc=ipc, **matches(ipc))),
        row("DSA, DCC's loops", lambda ipc: DSA(ipc=ipc, **dcc_loops), most=1),
        row("DCC", lambda ipc: DCC(ipc=ipc, network_draws=max(1, steps // (10 if ipc == 1 else 2 * ipc)))),
        row("MTT", lambda ipc: MTT(ipc=ipc, experts=experts, **students(ipc))),
        row("TESLA", lambda ipc: TESLA(ipc=ipc, experts=experts, **{**students(ipc), "lr": 10.0})),
        row("FTD", lambda ipc: FTD(ipc=ipc, experts=flat, **students(ipc))),
        row("AST", lambda ipc: AST(ipc=ipc, experts=smooth, **{**students(ipc), **gentle})),
        row("relabelled random", lambda ipc: Relabelled(ipc=ipc), labels="soft"),
        row("relabelled k-means", lambda ipc: Relabelled(ipc=ipc, chosen_by="k-means", space="pixel"), labels="soft"),
        row("DATM", lambda ipc: DATM(ipc=ipc, experts=flat, **students(ipc)), labels="soft"),
        row("EDF", lambda ipc: EDF(ipc=ipc, experts=flat, **students(ipc)), labels="soft"),
        taught("random, taught", lambda ipc: SRe2L(ipc=ipc, **untouched)),
        taught("RDED, taught", lambda ipc: RDED(ipc=ipc, labels="teacher")),
        taught("SRe2L", lambda ipc: SRe2L(ipc=ipc, **recover)),
        taught("CDA", lambda ipc: CDA(ipc=ipc, **recover)),
        taught("HeLlO", lambda ipc: HeLlO(ipc=ipc, fit_steps=3 * steps), protocol="hello"),
    )


def cifar_rows(steps: int, sets: int, networks: int) -> tuple[Row, ...]:
    """The rivals of the published tables on CIFAR-10."""
    return (
        Row("random", lambda ipc: Random(ipc=ipc), sets=sets, networks=networks),
        Row("class mean", lambda ipc: ClassMean(ipc=ipc), sets=1, networks=networks, most=1),
        Row("DM", lambda ipc: DM(ipc=ipc, steps=steps), sets=sets, networks=networks, chosen=True),
        Row("DataDAM", lambda ipc: DataDAM(ipc=ipc, steps=steps), sets=sets, networks=networks, chosen=True),
        Row("ATOM", lambda ipc: ATOM(ipc=ipc, steps=steps), sets=sets, networks=networks, chosen=True),
        Row("RDED", lambda ipc: RDED(ipc=ipc), sets=sets, networks=networks),
    )
