"""Golden numbers of released calibration code: all of them where the fixtures are at hand, otherwise some."""

import os
from functools import cache
from pathlib import Path

from safetensors.torch import load_file

FIXTURES = Path(os.environ.get("ATTAR_DATA", "")).parent / "fixtures" / "little-data"
GOLDEN = Path(__file__).parent / "classifiers" / "golden"
KEPT = {
    "temperature_scaling": ("very_overconfident", "all_right", "single_row", "large_logits"),
    "ensemble_scaling_isotonic": ("very_overconfident", "binary"),
    "parameterised_temperature_scaling": ("ordinary", "no_hidden", "clipped_logits", "fewer_classes_than_top"),
    "spline_calibration_ks": ("very_overconfident",),
    "correctness_aware_calibration": ("partly_clamped", "all_right"),
}
"""The cases beside the tests."""


@cache
def known(name):
    """The tensors of a fixture."""
    whole = FIXTURES / f"{name}.safetensors"
    return load_file(whole if whole.exists() else GOLDEN / f"{name}.safetensors")


def cases(name, *parts):
    """Its cases that have all of these tensors."""
    found = known(name)
    first = dict.fromkeys(key.split(".")[0] for key in sorted(found))
    return [case for case in first if all(f"{case}.{part}" in found for part in parts)]


def case(name, which):
    """The tensors of a case by what follows its name."""
    return {key.partition(".")[2]: value for key, value in known(name).items() if key.split(".")[0] == which}


def keep():
    """Write the cases that lie beside the tests."""
    from safetensors.torch import save_file

    for name, kept in KEPT.items():
        whole = load_file(FIXTURES / f"{name}.safetensors")
        save_file(
            {key: value for key, value in whole.items() if key.split(".")[0] in kept and ".test_" not in key},
            GOLDEN / f"{name}.safetensors",
        )
