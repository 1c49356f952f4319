"""Every method once, with settings and data so small that it runs in about a second.

The battery (`tests/test_promises.py`) and the recorder (`bench/same_bytes.py`) read this table: a new method joins both
by one line here. Settings are plain values, as `Settings.from_json` reads them, and say themselves what a method's own
defaults could say otherwise.
"""

import contextlib
import functools
import importlib
from typing import Any

Table = dict[str, dict[str, Any]]

NETWORK = {"width": 8, "norm": "auto"}
BATCH_NORM = {"width": 8, "norm": "batch"}
BRIEF = {"name": "brief", "epochs": 2, "batch": 256}

AUXILIARY = {"architecture": NETWORK, "protocol": BRIEF}

PICKED = {"ipc": 2, "observer": AUXILIARY}
MATCHED = {"ipc": 2, "steps": 6, "real_batch": 4, "architecture": NETWORK}
GRADIENTS = {
    "ipc": 2,
    "network_draws": 2,
    "matches": 2,
    "network_epochs": 1,
    "real_batch": 4,
    "architecture": NETWORK,
}
TRAJECTORY = {
    "ipc": 2,
    "steps": 6,
    "student_steps": 3,
    "last_start": 2,
    "zca": True,
    "architecture": NETWORK,
    "experts": {"experts": 2, "flat_radius": 0.0},
}
SMOOTH = {
    "experts": 2,
    "lr": 0.003,
    "momentum": 0.9,
    "weight_decay": 1e-3,
    "cut_epoch": 27,
    "smooth_penalty": 2.0,
    "smooth_warm_up": True,
}
RECOVERED = {
    "ipc": 2,
    "block_steps": 3,
    "block": 4,
    "start": "real",
    "teacher": {"architecture": BATCH_NORM, "protocol": BRIEF},
}
LEARNED_GRAPHS = {"gpc": 2, "steps": 6, "real_batch": 4, "drop_at": 3, "architecture": {"width": 8}}
PICKED_GRAPHS = {
    "gpc": 2,
    "observer": {"architecture": {"width": 8}, "protocol": {"name": "brief", "epochs": 2}},
}
STUDENT = {"student": "convnet:norm=batch,width=4", "epochs": 3, "batch": 50}
PARITY = [0, 1] * 5
WRITER = {"student": "gpt2:layers=1,width=16,heads=2", "epochs": 2, "batch": 16, "max_length": 96}
SHORT = {"new_tokens": 6}

IMAGES: Table = {
    "random": {"ipc": 2},
    "class-mean": {"ipc": 1},
    "herding": PICKED,
    "k-center": PICKED,
    "k-means": PICKED,
    "dm": MATCHED,
    "datadam": {**MATCHED, "architecture": BATCH_NORM},
    "atom": MATCHED,
    "dc": {**GRADIENTS, "start": "real"},
    "dsa": {**GRADIENTS, "architecture": BATCH_NORM},
    "dcc": {**GRADIENTS, "matches": 3},
    "mtt": TRAJECTORY,
    "tesla": {**TRAJECTORY, "assigned_labels": True},
    "ftd": {**TRAJECTORY, "experts": {"experts": 2, "flat_radius": 0.01}},
    "datm": TRAJECTORY,
    "ast": {**TRAJECTORY, "experts": SMOOTH},
    "edf": {**TRAJECTORY, "refresh": 2, "parameter_dropout": 0.25},
    "rded": {**PICKED, "candidates": 10, "labels": "teacher"},
    "hello": {
        **PICKED,
        "candidates": 10,
        "fit_steps": 6,
        "rank": 2,
        "tiny": {"clip_width": 16, "clip_layers": 1, "clip_epochs": 1},
    },
    "sre2l": RECOVERED,
    "cda": RECOVERED,
    "relabel": {"ipc": 2, "teacher": AUXILIARY, "teachers": 2},
}
GRAPHS: Table = {
    "gstam": LEARNED_GRAPHS,
    "doscond": {**LEARNED_GRAPHS, "outer": 2, "inner": 1},
    "graph-start": {"gpc": 2},
    "graph-random": {"gpc": 2},
    "graph-herding": PICKED_GRAPHS,
    "graph-k-center": PICKED_GRAPHS,
}
MIXTURES: Table = {
    "oggmr": {"n_components": 5},
    "runnalls": {"n_components": 5},
    "salmond": {"n_components": 5},
    "west": {"n_components": 5},
    "williams": {"n_components": 5},
    "gmrc": {"n_components": 5},
    "cowa": {"n_components": 5},
    "ctdgmr": {"n_components": 5},
    "direct": {"n_components": 5},
    "brute-force": {"n_components": 7},
}
CONVOLUTION: Table = {
    "conv": {
        "network": "convnet:norm=none,pooling=none,width=8,depth=2",
        "epochs": 1,
        "images": 8,
        "methods": ["cpo", "direct"],
    },
}
CLASSIFIERS: Table = {
    "classifier": {"network": "convnet:norm=batch,width=4", "epochs": 3, "batch": 50, "loss": {"name": "log-hinge"}},
    "alone": STUDENT,
    "kd": {**STUDENT, "views": 2},
    "dkd": STUDENT,
    "dist": STUDENT,
    "fitnets": {**STUDENT, "hint_share": 0.5, "teacher_weight": 1.0},
    "attention": {**STUDENT, "views": 1},
    "rkd": STUDENT,
    "sp": STUDENT,
    "pkt": STUDENT,
    "vid": STUDENT,
    "cc": {**STUDENT, "features": 8},
    "nst": STUDENT,
    "crd": {**STUDENT, "negatives": 20, "features": 8},
    "reviewkd": STUDENT,
    "skd": {**STUDENT, "group": PARITY, "optimizer": "adam", "images_in": "easy-to-hard", "head_share": 0.4},
    "discover": {**STUDENT, "subclasses": 2},
    "nd": {**STUDENT, "base": "reviewkd"},
    "dhkd": STUDENT,
}
CALIBRATORS: Table = {
    "ts": {},
    "ets": {},
    "ca": {"epochs": 20},
    "pts": {"epochs": 20},
    "vector-scaling": {"intercept_penalty": 0.1},
    "matrix-scaling": {"off_diagonal_penalty": 0.1, "intercept_penalty": 0.1},
    "dirichlet": {"off_diagonal_penalty": 0.1, "intercept_penalty": 0.1},
    "platt": {},
    "beta": {},
    "histogram": {"bins": 5},
    "isotonic": {},
    "irm": {},
    "spline": {"knots": 4},
}
LANGUAGE: Table = {
    "language": {**WRITER, "objective": {"label_weight": 0.5}, "micro": 6},
}
ENCODER = {"encoder": "convnet:norm=batch,width=8,depth=2", "epochs": 2, "batch": 50}
PROJECTED = {**ENCODER, "projector": {"projected": 8}}
BY_CLASS = {"encoder": "convnet:norm=batch,width=8,depth=2", "epochs": 2, "episodes": 3}
EPISODIC = {**BY_CLASS, "train_way": 3, "train_shot": 1, "train_query": 2}
EMBEDDINGS: Table = {
    "simclr": ENCODER,
    "dcl": {**ENCODER, "positive_sigma": 0.5},
    "moco": {**PROJECTED, "keys": {"queue": 9}},
    "simsiam": {**PROJECTED, "predictor_width": 4},
    "barlow": PROJECTED,
    "amcl": {**PROJECTED, "framework": "moco", "heads": 2, "keys": {"queue": 9}},
    "sogclr": {**PROJECTED, "text_encoder": "words:width=8,depth=0"},
    "isogclr": {**PROJECTED, "text_encoder": "words:width=8,depth=1,heads=2"},
    "clip": {**PROJECTED, "text_encoder": "bytes:width=8,depth=0", "learn_temperature": True},
    "supcon": {**ENCODER, "linear": {"epochs": 2}},
    "probmcl": {**ENCODER, "linear": {"epochs": 2}},
    "kmcl": ENCODER,
    "multilabel": ENCODER,
    "protonet": EPISODIC,
    "prototriplet": EPISODIC,
    "icnn": EPISODIC,
    "triplet": {**BY_CLASS, "classes_per_batch": 3, "samples_per_class": 2},
}
GENERATOR = {"rows": 60, "epochs": 2, "batch": 50}
FAIR_TABLES = {
    "rows": 40,
    "tables": 2,
    "teaching": {"epochs": 3, "batch": 50, "width": 8, "latents": 3},
    "learning": {"student_epochs": 1, "student_width": 4},
}
TABLES: Table = {
    "fair": FAIR_TABLES,
    "copula": {"rows": 60},
    "copula-reweighed": {"rows": 60},
    "tvae": {**GENERATOR, "width": 8, "latents": 4},
    "tabfairgan": {**GENERATOR, "fair_epochs": 1, "critic_steps": 2},
    "table-random": {"rows": 10},
    "table-herding": {"rows": 10},
    "table-k-center": {"rows": 10},
    "shuffled-labels": {"rows": 10},
    "table-classifier": {"network": "mlp:width=8,depth=1", "epochs": 2, "batch": 50},
}
SAMPLERS: Table = {
    "edm": {"network": "mlp:width=16,depth=1", "steps": 6, "batch": 32, "sampling_levels": 4},
    "pairs": {"steps": 6, "batch": 32, "pair_count": 64},
    "dmd2": {
        "steps": 8,
        "batch": 16,
        "warm_start": 2,
        "critic_steps": 2,
        "gan_weight": 0.01,
        "pairing": {"pair_count": 32, "pair_levels": 3},
    },
    "consistency": {"steps": 6, "batch": 32},
    "consistency-data": {"network": "mlp:width=16,depth=1", "steps": 6, "batch": 32},
    "progressive": {"first_steps": 4, "steps": 8, "batch": 32},
}
SCENES: Table = {
    "autoencoder": {"network": "conv:width=8,latents=2,halvings=1", "steps": 3, "batch": 2},
    "latent-field": {"voxels": 6, "steps": 6, "batch": 2, "ray_samples": 8, "refine_width": 8},
    "image-edit": {"source_prompt": "3", "target_prompt": "8", "edits": 5, "steps": 6},
    "ed-nerf": {"target_prompt": "blue cube", "steps": 6, "batch": 2},
    "ed-nerf-refit": {"target_prompt": "blue cube", "steps": 6, "batch": 2},
}
PLASMA: Table = {
    "kelvin-helmholtz": {"cells": [12, 10], "end": 0.6, "outputs": 6, "solver": "numpy"},
    "columns": {"count": 22},
    "emulator": {"student": "cnn:width=6,depth=2", "steps": 8, "batch": 6, "watch": 2},
    "spectra": {
        "transfer": {
            "lines": ["ca-k"],
            "incident": "zero",
            "other_atoms": "hydrogen",
            "conserve_charge": False,
            "conserve_pressure": False,
        },
        "columns": 2,
        "at_snapshots": [3, 6],
    },
}
BY_KIND = {
    "images": IMAGES,
    "graphs": GRAPHS,
    "mixtures": MIXTURES,
    "convolution": CONVOLUTION,
    "classifiers": {**CLASSIFIERS, **CALIBRATORS},
    "language": LANGUAGE,
    "embeddings": EMBEDDINGS,
    "tables": TABLES,
    "samplers": SAMPLERS,
    "scenes": SCENES,
    "plasma": PLASMA,
}
SMALL: Table = {name: settings for methods in BY_KIND.values() for name, settings in methods.items()}
"""A line for each method."""

VARIANTS: Table = {
    "random/one number a class": {"ipc": [3, 1, 2, 2, 2, 2, 2, 2, 2, 4]},
    "k-means/pixels": {**PICKED, "space": "pixel"},
    "dm/noise": {**MATCHED, "start": "noise"},
    "dm/one number a class": {**MATCHED, "ipc": [3, 1, 2, 2, 2, 2, 2, 2, 2, 4]},
    "datadam/whitened": {**MATCHED, "zca": True, "distance": "angular"},
    "dc/noise": {**GRADIENTS, "start": "noise", "metric": "mse"},
    "mtt/soft labels": {**TRAJECTORY, "zca": False, "labels": "soft", "start": "noise"},
    "tesla/whole gradient": {**TRAJECTORY, "gradient": "adjoint"},
    "datm/gated": {**TRAJECTORY, "grow_from": 1, "grow_over": 3, "gate": 1.0},
    "rded/soft": {**PICKED, "candidates": 10},
    "sre2l/noise": {**RECOVERED, "start": "noise", "labels": "hard"},
    "relabel/herding": {"ipc": 2, "teacher": AUXILIARY, "chosen_by": "herding", "teachers": 1},
    "gstam/released": {**LEARNED_GRAPHS, "start": "noise", "synthetic_map": "released"},
    "doscond/continuous": {**LEARNED_GRAPHS, "adjacency": "continuous"},
    "oggmr/starts": {"n_components": 5, "starts": 4, "criterion": "nise", "weights_qp": True},
    "ctdgmr/em": {"n_components": 5, "cost": "w2", "start": "em", "regularisation": 0.1},
    "direct/samples": {"n_components": 5, "criterion": "cauchy_schwarz", "start_from": ["k-means", "em"]},
    "nd/mixed crops": {
        **STUDENT,
        "smallest_crop": 0.3,
        "flips": "on",
        "turns": True,
        "mixup": 0.8,
        "cutmix": 1.0,
        "optimizer": "adamw",
        "lr": 2e-3,
        "schedule": "cosine",
        "lr_warm_up": 0.5,
        "smoothing": 0.1,
    },
    "kd/best epoch": {**STUDENT, "keep": "accuracy", "held_out": 0.2},
    "fitnets/hints throughout": STUDENT,
    "kd/ensloss": {**STUDENT, "label_loss": {"name": "ensloss", "lam": 1.0, "clip": None}},
    "classifier/ensloss": {
        "network": "convnet:norm=batch,width=4",
        "epochs": 3,
        "batch": 50,
        "loss": {"name": "ensloss", "tail": "log2", "period": 1},
        "keep": "f1",
        "held_out": 0.2,
    },
    "classifier/many masks": {
        "network": "convnet:norm=batch,width=4",
        "epochs": 3,
        "batch": 50,
        "dropout": 0.5,
        "dropout_samples": 4,
    },
    "language/sft": {**WRITER, "objective": {"divergence": "none"}},
    "language/jsd mixed": {
        **WRITER,
        "objective": {"divergence": "jsd"},
        "schedule": {"answers_by": "mixed"},
        "correction": {"corrections": 1},
        "sampling": SHORT,
    },
    "language/seqkd": {
        **WRITER,
        "objective": {"divergence": "none"},
        "schedule": {"answers_by": "teacher"},
        "sampling": SHORT,
    },
    "language/all levels": {
        **WRITER,
        "clipping": {"teacher_clip": "learned"},
        "spans": {"span_weight": 1.0},
        "correction": {"corrections": 1},
        "schedule": {"answers_by": "adaptive", "init_threshold": 0.8, "capacity": 20},
        "sampling": SHORT,
        "select": "rouge",
        "validation_answers": 4,
    },
    "language/aligned": {**WRITER, "alignment": {"align_by": "spans"}, "objective": {"divergence": "jsd"}},
    "language/corpus": {**WRITER, "objective": {"corpus_weight": 0.5, "teacher_weight": 0.5}},
    "language/adapters": {**WRITER, "lora": {"lora_rank": 2, "lora_dropout": 0.1}, "select": "loss"},
    "language/at size": {
        **WRITER,
        "memory": {
            "student_precision": "bfloat16",
            "saved_precision": "bfloat16",
            "gradient_checkpointing": True,
            "packing": True,
        },
    },
    "fair/noise": {**FAIR_TABLES, "student": "noise", "cutting": {"within": "learned"}, "fairness_weight": 0.5},
    "fair/alone": {**FAIR_TABLES, "student": "none", "decoding": "keep", "cutting": {"edges": "width"}},
    "copula/columns apart": {"rows": 60, "dependence": 0.0},
    "tvae/as released": {**GENERATOR, "width": 8, "latents": 4, "depth": 1, "levels": "likeliest"},
    "tabfairgan/as released": {
        **GENERATOR,
        "fair_epochs": 1,
        "fair_term": "released",
        "critic_output": "features",
        "mixing": "entries",
    },
    "table-classifier/batch norm, best epoch": {
        "network": "mlp:width=8,norm=batch",
        "epochs": 3,
        "batch": 50,
        "keep": "f1",
        "held_out": 0.2,
        "reserved": 0.2,
    },
    "icnn/best epoch": {**EPISODIC, "held_out_classes": 0.4, "held_out_episodes": 5, "keep_epoch": "best"},
    "sogclr/views": {**ENCODER, "pairs": "off", "learn_temperature": True},
    "supcon/classes": {**ENCODER, "classes_per_batch": 3, "samples_per_class": 8, "weighted": True},
    "dmd2/few calls, adapters, average": {
        **SAMPLERS["dmd2"],
        "calls": 3,
        "lora": {"lora_rank": 2},
        "weights_average": 0.9,
        "critic": {"critic_turns": "other", "critic_weighting": "none"},
        "adversary": {"discriminator_noise": "shared"},
        "pairing": {"pair_count": 32, "pair_levels": 3, "regression_weight": 0.25},
        "half": "on",
        "watch": 4,
    },
    "edm/half, hidden labels, churn": {
        **SAMPLERS["edm"],
        "half": "on",
        "label_dropout": 0.5,
        "churn": {"churn": 2.0},
        "optimizer": "radam",
        "average_half_life": 100.0,
        "watch": 4,
    },
    "pairs/huber": {**SAMPLERS["pairs"], "distance": "pseudo-huber", "weights_average": 0.0, "half": "on"},
    "progressive/as released": {**SAMPLERS["progressive"], "calls": 2, "last_step": "released", "weights_average": 0.9},
    "consistency/two calls": {
        **SAMPLERS["consistency"],
        "call_levels": [0, 9],
        "clamp": True,
        "target_decay": 0.0,
        "level_weight": "snr+1",
        "distance": "l1",
    },
    "latent-field/low rank": {
        "tensors": "vm",
        "field_rank": 2,
        "voxels": 6,
        "steps": 6,
        "batch": 2,
        "ray_samples": 8,
        "refine_weight": 0.0,
    },
    "language/policy": {
        **WRITER,
        "objective": {"divergence": "policy"},
        "policy": {"rollouts": 16, "rollout_epochs": 2},
        "sampling": SHORT,
    },
    "kelvin-helmholtz/torch": {
        "cells": [12, 10],
        "end": 0.6,
        "outputs": 3,
        "solver": "torch",
        "radiation": "true",
        "waves": 1,
        "frame": "corona",
        "x_walls": "mirror",
        "y_walls": "periodic",
    },
}
"""Further settings of a method, by `method/what is other`."""


def method_name(entry: str) -> str:
    """The method of an entry of either table."""
    return entry.partition("/")[0]


def kind_of(entry: str) -> str:
    """What the method makes smaller."""
    return next(kind for kind, methods in BY_KIND.items() if method_name(entry) in methods)


def method_of(entry: str, settings: dict[str, Any] | None = None) -> Any:
    """The settings of an entry; or of its method, from plain values."""
    from attar.core.registry import METHODS

    plain = settings or {**SMALL, **VARIANTS}[entry]
    return METHODS[method_name(entry)].load().from_json(plain)


@functools.cache
def data_of(kind: str) -> Any:
    """The small data of a kind."""
    return DATA[kind]()


def images() -> Any:
    """Twelve training images of each digit, and all the test images."""
    import torch

    import attar

    digits = attar.load("digits")
    return digits.subset(torch.cat([rows[:12] for rows in digits.rows_of]))


def graphs() -> Any:
    """Twelve training graphs of each of the two classes of `motifs`; validation and test as they are."""
    import dataclasses

    import torch

    from attar.graphs.sources import load

    motifs = load("motifs")
    train = motifs.rows[0]
    labels = motifs.graphs.labels[train]
    rows = torch.cat([train[labels == label][:12] for label in range(2)])
    return dataclasses.replace(motifs, rows=(rows, *motifs.rows[1:]))


def mixtures() -> Any:
    """Ten Gaussians in one dimension."""
    from attar.mixtures.sources import load

    return load("standard-1d")


def language() -> Any:
    """Forty prompts with responses to learn from, and eight of either other part."""
    from attar.language.phrases import drawn
    from attar.language.sources import load

    parts = {part: drawn(count, part) for part, count in {"train": 40, "validation": 8, "test": 8}.items()}
    return load({part: list(rows) for part, rows in parts.items()})


def embeddings() -> Any:
    """A hundred and twenty mosaics of digits, with several labels and a caption each, and all the test mosaics."""
    import torch

    from attar.embeddings.reading import Reading

    return Reading().load("mosaics").subset(torch.arange(120))


def tables() -> Any:
    """A hundred and twenty applicants, and all the test rows."""
    import torch

    from attar.tables.data.applicants import applicants

    return applicants().subset(torch.arange(120))


def samplers() -> Any:
    """Two hundred points around eight modes."""
    from attar.samplers.reading import Reading

    return Reading(points=250).load("ring")


def scenes() -> Any:
    """Six views of three spheres, of 16 pixels a side, two of them held out."""
    from attar.scenes.simulated import simulated

    return simulated("spheres", 16, 6, 2)


def objects() -> Any:
    """Six views of an object of a class, of 16 pixels a side, two of them held out, with views of all classes."""
    from attar.scenes.simulated import simulated

    return simulated("objects", 16, 6, 2)


@functools.cache
def run_of_plasma() -> Any:
    """A simulated run of a few cells."""
    from attar.core.registry import METHODS
    from attar.core.runtime import Engine
    from attar.verbs import simulate

    method = METHODS["kelvin-helmholtz"].load().from_json(PLASMA["kelvin-helmholtz"])
    return simulate(method, engine=Engine(device="cpu", quiet=True))


def threads() -> Any:
    """Random threads."""
    from attar.plasma.threads import RandomThreads

    return RandomThreads()


@functools.cache
def columns() -> Any:
    """The columns of a few random threads with their profiles."""
    from attar.core.registry import METHODS
    from attar.core.runtime import Engine
    from attar.verbs import simulate

    return simulate(METHODS["columns"].load()(count=30), threads(), engine=Engine(device="cpu", quiet=True))


@functools.cache
def folder_of_plasma() -> str:
    """The folder of that run."""
    import tempfile

    folder = tempfile.mkdtemp()
    return str(run_of_plasma().save(folder).folder)


def one_label() -> Any:
    """The small images as samples of encoders that need one label each."""
    from attar.embeddings.sources import Source

    return Source.of_images(images())


def all_images() -> Any:
    """All the digits, of which a tenth is enough for a calibrator."""
    import attar

    return attar.load("digits")


DATA = {
    "images": images,
    "graphs": graphs,
    "mixtures": mixtures,
    "convolution": images,
    "classifiers": images,
    "language": language,
    "embeddings": embeddings,
    "tables": tables,
    "samplers": samplers,
    "scenes": scenes,
    "plasma": run_of_plasma,
    "threads": threads,
    "columns": columns,
    "one label": one_label,
    "objects": objects,
    "all images": all_images,
}


def data_for(method: Any, kind: str) -> Any:
    """The small data for a method: those of its kind, or such as have the labels that it needs."""
    if getattr(method, "verb", "") == "calibrate" or getattr(method, "name", "") == "image-edit":
        return data_of("all images")
    if getattr(method, "name", "").startswith("ed-nerf"):
        return data_of("objects")
    of_plasma = {"columns": "threads", "emulator": "columns"}.get(getattr(method, "name", ""))
    if of_plasma:
        return data_of(of_plasma)
    return data_of("one label" if getattr(method, "needs", "") == "one" else kind)


@functools.cache
def classifier() -> Any:
    """A network of the digits that was never trained, for a teacher."""
    import torch

    from attar.images.networks.architecture import Architecture

    source = data_of("images")
    return Architecture(norm="batch", width=8).build(source.shape, 10, torch.Generator().manual_seed(3)).eval()


@functools.cache
def classifier_folder() -> str:
    """The folder of a network that was trained on nine tenths of the digits, to be calibrated on the last."""
    import tempfile
    from pathlib import Path

    from attar.core.registry import METHODS
    from attar.core.runtime import Engine
    from attar.verbs import train

    method = METHODS["classifier"].load()(network="mlp:width=16", epochs=1, batch=32, reserved=0.1)
    folder = Path(tempfile.mkdtemp()) / "classifier"
    train(data_of("all images"), method, out=folder, engine=Engine(device="cpu", quiet=True))
    return str(folder)


@functools.cache
def tokenizer() -> Any:
    """Three hundred tokens, learned from the small text."""
    from attar.language.models import byte_tokenizer

    return byte_tokenizer(data_of("language").texts(), 300)


@functools.cache
def writer() -> Any:
    """A language model that was never trained, for a teacher."""
    import torch

    from attar.language.models import fresh_model

    return fresh_model("gpt2:layers=2,width=32,heads=2", tokenizer(), 96, torch.Generator().manual_seed(1)).eval()


@functools.cache
def sampler() -> Any:
    """A diffusion model that has learned for a few steps, for a teacher."""
    from attar.core.registry import METHODS
    from attar.core.runtime import Engine
    from attar.verbs import train

    method = METHODS["edm"].load().from_json(SAMPLERS["edm"])
    return train(data_of("samplers"), method, engine=Engine(device="cpu", quiet=True))


@functools.cache
def codec() -> Any:
    """An autoencoder that was never trained."""
    import torch

    from attar.scenes.codecs import codec_named

    draw = torch.Generator().manual_seed(2)
    return codec_named("conv:width=8,latents=2,halvings=1", draw).eval().requires_grad_(False)


def denoiser_of(source: Any, **settings: Any) -> Any:
    """A diffusion model of a source that has learned for a few steps."""
    from attar.core.registry import METHODS
    from attar.core.runtime import Engine
    from attar.verbs import train

    method = METHODS["edm"].load().from_json({**SAMPLERS["edm"], **settings})
    return train(source, method, engine=Engine(device="cpu", quiet=True))


@functools.cache
def drawer() -> Any:
    """One of digits, for a teacher of edits."""
    return denoiser_of(data_of("all images"))


@functools.cache
def latent_field() -> Any:
    """A latent field of the small object, for edits."""
    from attar.core.registry import METHODS
    from attar.core.runtime import Engine
    from attar.verbs import train

    method = METHODS["latent-field"].load().from_json(SCENES["latent-field"])
    return train(data_of("objects"), method, autoencoder=codec(), engine=Engine(device="cpu", quiet=True))


@functools.cache
def latent_drawer() -> Any:
    """A diffusion model of that object's latents."""
    from attar.scenes.work import latents_of

    return denoiser_of(latents_of(data_of("objects"), codec()), label_dropout=0.1)


def given_to(method: Any, kind: str) -> dict[str, Any]:
    """What a verb is given beside data and method: a teacher, and what goes with it."""
    if kind == "classifiers":
        beside = {"calibrate": lambda: {"classifier": classifier_folder()}, "train": dict}
        return beside.get(getattr(method, "verb", ""), lambda: {"teacher": classifier()})()
    if kind == "samplers":
        return {"teacher": sampler()} if getattr(method, "verb", "") == "distill" else {}
    if kind == "scenes" and method.name == "latent-field":
        return {"autoencoder": codec()}
    if kind == "scenes" and method.name == "image-edit":
        return {"teacher": drawer()}
    if kind == "scenes" and method.name.startswith("ed-nerf"):
        return {"teacher": latent_drawer(), "field": latent_field()}
    if kind != "language":
        return {}
    further = {} if method.objective.corpus_weight == 1 else {"corpus": ["once upon a time " * 20] * 5}
    return {"teacher": writer(), "tokenizer": tokenizer(), "answers": 0, **further}


HOMES = {
    "images": ["attar.verbs:condense"],
    "graphs": ["attar.verbs:condense"],
    "mixtures": ["attar.verbs:compress"],
    "convolution": ["attar.verbs:compress"],
    "classifiers": ["attar.verbs:distill"],
    "language": ["attar.language.verbs:distill", "attar.verbs:distill"],
    "embeddings": ["attar.verbs:train"],
    "tables": ["attar.verbs:condense"],
    "samplers": ["attar.verbs:distill"],
    "scenes": ["attar.verbs:distill"],
    "plasma": ["attar.verbs:distill"],
}
"""Where the verb of a kind is; the recorder also asks older checkouts."""


def verb_of(kind: str, method: Any) -> Any:
    """What makes a kind smaller, or trains or calibrates it."""
    own = getattr(method, "verb", "")
    for home in [f"attar.verbs:{own}"] if own in ("train", "calibrate", "simulate") else HOMES[kind]:
        module, _, name = home.partition(":")
        with contextlib.suppress(ImportError, AttributeError):
            return getattr(importlib.import_module(module), name)
    raise ImportError(f"none of {', '.join(HOMES[kind])}")


def run(method: Any, kind: str, *, data: Any = None, **settings: Any) -> Any:
    """Run a method of a kind, on its small data unless others are given; further settings go to the verb."""
    if getattr(method, "name", "") == "kelvin-helmholtz":
        return verb_of(kind, method)(method, **settings)
    source = data_for(method, kind) if data is None else data
    if getattr(method, "verb", "") == "simulate":
        return verb_of(kind, method)(method, source, **settings)
    return verb_of(kind, method)(source, method, **given_to(method, kind), **settings)
