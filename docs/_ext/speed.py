"""Tables of speed, memory, mixtures and convolutions, as they are recorded in `bench/results/`."""

from collections.abc import Callable, Iterator
from typing import Any

import encoders
import fair
import little
from results import Facts, gigabytes, lowest, machines, recorded, steady, times, took

from attar.core.card import table

LAYER = "64→96, 3×3, padding 1×1"
"""The layer of Inception-v3 that stands for sparse convolution in the first table."""


def steps() -> str:
    """Steps of every kind beside a rival that gives the same result."""
    rows = [*_matching(), *_images(), *_others(), *encoders.steps(), *little.steps(), *fair.steps()]
    return table(("what", "rival", "attar", "ratio"), rows)


def _matching() -> Iterator[tuple[str, ...]]:
    """Steps of distribution, gradient and trajectory matching."""
    for batch in ("64", "256"):
        facts = lowest("datadam_step", lambda all_, n=batch: all_["real_batch"][n], lambda one: one["ratio"])
        sides = _with_memory(facts, "rival", "attar")
        yield f"DataDAM step, {batch} real images per class", *sides, times(facts["ratio"])
    for batch in ("64", "256"):
        facts = _lowest_step("gradient", "default", batch)
        sides = _with_memory(facts, "rival", "default")
        yield f"DSA step, {batch} real images per class", *sides, times(facts["ratio"]["default"])
    mine = "adjoint, float32"
    facts = _lowest_step("trajectory", mine)
    sides = _with_memory(facts, "unrolled", mine)
    yield "MTT step of 20 student steps, unrolled and by our adjoint", *sides, times(facts["ratio"][mine])
    facts = _lowest_step("experts", "attar")
    yield (
        "ten experts, an epoch of 1,000 images each",
        took(facts["seconds"]["rival"]),
        took(facts["seconds"]["attar"]),
        times(facts["ratio"]["attar"]),
    )


def _lowest_step(part: str, side: str, batch: str | None = None) -> Facts:
    """A part of the matching steps on the machine where one side is least ahead."""
    return lowest(
        "matching_steps",
        lambda facts: facts[part][batch] if batch else facts[part],
        lambda facts: facts["ratio"][side],
    )


def machines_of_datadam() -> str:
    """The ratio of DataDAM's step, and its convolutions' share of the time, machine by machine."""
    rows = []
    for facts in machines("datadam_step"):
        told = facts["machine"]
        name = told.get("model", told["cpu"]) + (", AMX" if told["amx"] else "")
        cells = [facts["real_batch"][batch] for batch in ("64", "256")]
        shares = [f"{times(cell['ratio'])}, {1 / cell['convolution_share']:.2f}" for cell in cells]
        rows.append((name, str(told["threads"]), *shares))
    return table(("machine", "threads", "64 real images per class", "256 real images per class"), rows)


def _with_memory(facts: dict[str, Any], *sides: str) -> list[str]:
    """Time and most memory of each side."""
    return [f"{took(facts['seconds'][side])}, {gigabytes(facts['peak_mb'][side])}" for side in sides]


def _images() -> Iterator[tuple[str, ...]]:
    """Recovery, and training on a condensed set."""
    facts = lowest("recover_step", lambda facts: facts, lambda facts: facts["ratio"]["compiled"])
    sides = [took(facts["seconds"][side]) for side in ("rival", "compiled")]
    yield "SRe2L's recovery of a block of 100 (batch norm, 100 classes)", *sides, times(facts["ratio"]["compiled"])
    for name, words in (("float32", "float32"), ("bfloat16", "`--train-precision bfloat16`")):
        facts = lowest("evaluation_speed", lambda all_: all_["step"], lambda one, side=name: one["ratio"][side])
        what = f"training step on a condensed set of 100, {words}"
        yield what, took(facts["seconds"]["rival"]), took(facts["seconds"][name]), times(facts["ratio"][name])


def _others() -> Iterator[tuple[str, ...]]:
    """Students, mixtures, convolutions and language models."""
    facts = recorded("distillation_speed")
    for what, slow, fast in (
        ("epoch of distillation, the teacher asked again and its answers stored", *facts["epoch"].values()),
        ("ND's loss at 100 classes, class by class and at once", *facts["nd"].values()),
    ):
        yield what, took(slow), took(fast), times(slow / fast)
    facts = recorded("mixtures")["plain"]["150"]
    slow, fast = facts["seconds"]["recomputed"], facts["seconds"]["kept"]
    what = "merging 150 Gaussians, every pair looked at, distances recomputed and updated"
    yield what, took(slow), took(fast), times(facts["ratio"]["recomputed"])
    for row in recorded("convolution")["layers, 1 threads"]["rows"]:
        if row["geometry"] == LAYER and row["density"] in (0.1, 0.3):
            what = f"convolution {LAYER.split(', padding')[0]} of a map of {row['side']} px, density {row['density']:g}"
            slow, fast = row["ms"][row["rival"]]["value"] / 1000, row["ms"]["direct"]["value"] / 1000
            yield what, took(slow), took(fast), times(row["ratio"]["direct"]["value"])
    facts = recorded("language_rivals")["off"]
    sides = [took(facts["seconds"][side]) for side in ("TRL GKD", "attar")]
    yield "step of a language student, TRL's GKD and attar", *sides, times(facts["ratio"]["attar"])


def graph_steps() -> str:
    """Steps of learned graphs, each of the machine on which its lead is smallest among steady measurements."""
    rows, sides = [], ("rival", "rival with sparse products", "attar", "doscond")
    for name in dict.fromkeys(name for facts in machines("graph_step") for name in facts["cells"]):
        found = [facts["cells"][name] for facts in machines("graph_step") if name in facts["cells"]]
        steadily = [one for one in found if all(map(steady, one["seconds_of_each_process"].values()))]
        facts = min(steadily, key=lambda one: one["ratio"]["attar"] / one["ratio"]["rival with sparse products"])
        dense, sparse, ours, doscond = (facts["seconds"][side] for side in sides)
        words = [took(dense), took(sparse), took(ours), times(dense / ours), times(sparse / ours), took(doscond)]
        rows.append((name.removesuffix(" per class"), *words))
    heads = ("three passes", "three passes, sparse products", "GSTAM", "GSTAM over the first", "over the second")
    return table(("data, per class", *heads, "DosCond"), rows)


def mixtures(name: str) -> Callable[[], str]:
    """Every reducer on one set of mixtures."""

    def filled() -> str:
        rows = []
        for method, facts in recorded("mixtures")[name].items():
            nearer = [_nearer(facts.get(f"{which} nearer")) for which in ("oggmr", "oggmr, greedy only")]
            means = (f"{facts['nise']['mean']:.4f}", f"{facts['angle']['mean']:.3f}")
            rows.append((method, *means, f"{1000 * facts['seconds']['median']:.1f}", *nearer))
        heads = ("NISE", "angle", "ms", "OGGMR nearer, %", "its greedy stage nearer, %")
        return table(("method", *heads), rows)

    return filled


def _nearer(facts: dict[str, Any] | None) -> str:
    """The share of mixtures on which one is nearer by the angle, of those where the two differ."""
    if facts is None:
        return ""
    angle = facts["angle"]
    if not angle["differ"]:
        return "never differ"
    return f"{100 * angle['share']:.0f} [{100 * angle['low']:.0f}, {100 * angle['high']:.0f}]"


def tracker() -> str:
    """Reducers inside a tracker."""
    rows = []
    for method, facts in recorded("mixtures")["tracking"].items():
        gain = facts.get("rmse_minus_runnalls")
        told = f"{gain[0]:+.1f} [{gain[1]:.1f}, {gain[2]:.1f}]" if gain else ""
        error = f"{facts['rmse']['mean']:.1f} ({facts['rmse']['median']:.1f})"
        sizes = (f"{facts['milliseconds']:.1f}", f"{facts['angle']:.3f}")
        rows.append((method, error, str(facts["lost"]), *sizes, told))
    return table(("method", "error, m (median)", "lost", "ms a reduction", "angle", "error minus Runnalls', m"), rows)


def layers() -> str:
    """Attar's sparse kernel on the layers of Inception-v3, by density."""
    facts = recorded("convolution")["layers, 1 threads"]
    densities = (0.05, 0.1, 0.2, 0.3, 0.5)
    rows = []
    for layer, even in facts["break_even"].items():
        mine = {row["density"]: row for row in facts["rows"] if str(row["layer"]) == layer}
        first = mine[0.1]
        gains = [times(mine[density]["ratio"]["direct"]["value"]) for density in densities]
        against = [times(first["ratio"][f"direct against {rival}"]["value"]) for rival in ("im2col", "mec")]
        rows.append((first["geometry"].split(", padding")[0], first["side"], *gains, f"{even:.2f}", *against))
    heads = (*(f"density {density:g}" for density in densities), "even at", "im2col, at 0.1", "MEC, at 0.1")
    return table(("layer", "map", *heads), rows)


def beside_trl() -> str:
    """Attar's losses beside TRL's, step by step."""
    facts = recorded("language_rivals")
    sides = ("attar", "attar in TRL", "TRL GKD", "TRL distillation")

    def line(name: str) -> list[str]:
        return [f"{facts[name]['seconds'][side]:.3f} s" if side in facts[name]["seconds"] else "" for side in sides]

    memory = facts["memory"]
    held = [f"{max(memory[side]['beyond_gb'], 0.0):.1f} GB" if side in memory else "" for side in sides]
    seconds = [f"{memory[side]['seconds']:.1f} s" if side in memory else "" for side in sides]
    tokens = f"{facts['setting']['tokens']:,} tokens of {facts['setting']['words']:,} words"
    rows = [
        ("a step on references", *line("off")),
        ("a step on 32 tokens of the student's own", *line("on")),
        (f"memory for {tokens}, beyond logits and gradient", *held),
        ("the same batch, from hidden states to gradient (once)", *seconds),
    ]
    return table(("", "attar", "attar in TRL's SFTTrainer", "TRL GKD", "TRL distillation"), rows)


def costs() -> str:
    """What a step of one method of each family costs."""
    datadam, found = recorded("datadam_step")["real_batch"]["64"], recorded("matching_steps")
    rows = [
        ("DataDAM, 64 real images per class", took(datadam["seconds"]["attar"])),
        (
            "DSA, 64 real images per class (without the training between two matches)",
            took(found["gradient"]["64"]["seconds"]["default"]),
        ),
        ("SRe2L, a block of 100 images", took(recorded("recover_step")["seconds"]["compiled"])),
        ("MTT, a student of 20 steps on 100 images", took(found["trajectory"]["seconds"]["adjoint, float32"])),
    ]
    return table(("a step on two CPU cores, ConvNet of 128 filters at 32 pixels, ten per class", "time"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "steps": steps,
    "machines": machines_of_datadam,
    "graph steps": graph_steps,
    "random mixtures": mixtures("random"),
    "mixtures of digits": mixtures("digits"),
    "tracker": tracker,
    "layers": layers,
    "beside TRL": beside_trl,
    "costs": costs,
}


def sentences() -> Iterator[tuple[str, str]]:
    """Figures of speed and memory in running text, by page: each must stand there as it was recorded."""
    datadam, found = recorded("datadam_step"), recorded("matching_steps")
    shares = [100 * facts["convolution_share"] for facts in datadam["real_batch"].values()]
    for text in (
        f"{shares[0]:.0f} and {shares[1]:.0f} %",
        f"{100 * datadam['check']['default']['gradient']:.1f} %",
        f"{100 * datadam['check']['bfloat16']['gradient']:.0f} %",
        f"by {100 * found['gradient']['check']['default']['gradient']:.0f} %",
        " and ".join(f"{found['gradient'][batch]['ratio']['float32']:.1f}×" for batch in ("64", "256")),
        f"{found['trajectory']['held_mb']['adjoint, float32']:.0f} MB",
        f"{found['trajectory']['held_mb']['unrolled'] / 1000:.1f} GB",
        f"{found['memory']['mb_per_student_step']:.1f} MB",
        f"{found['memory']['mb_per_student_step'] / found['memory']['parameter_vector_mb']:.1f} parameter vectors",
        f"{found['trajectory']['seconds']['adjoint, eager']:.1f} s",
    ):
        yield "measured.md", text
    scores = recorded("evaluation_speed")["accuracy"]
    yield "measured.md", ", ".join(f"{side} {scores[side]['mean']:.1f}" for side in ("rival", "float32", "bfloat16"))
    rounds = recorded("streaming_memory")["rounds"]
    for number in range(3):
        held = sorted(one[number]["peak_anonymous_mb"]["condensing"] for one in rounds)
        yield "measured.md", " and ".join(f"{megabytes:.0f}" for megabytes in held) + " MB"
    most = max(one["peak_anonymous_mb"]["condensing"] for each in rounds for one in each)
    yield "data.md", f"{most / 1000:.2f} GB"
    yield from (("measured.md", text) for text in (*_of_mixtures(), *_of_convolutions(), *_of_language()))
    yield "choosing.md", f"{found['experts']['seconds']['attar']:.0f} s"


def _of_mixtures() -> Iterator[str]:
    facts = recorded("mixtures")
    yield f"{facts['speed']['seconds']:.1f} s and {gigabytes(facts['speed']['peak_mb'])}"
    yield f"n to the {facts['growth']['exponent']:.2f}"
    plain = facts["plain"]
    yield ", ".join(f"{times(plain[n]['ratio']['recomputed'])} at {n}" for n in ("50", "100", "150"))
    yield f"{plain['50']['ratio']['defined']:.0f}× at 50"
    nise = {name: cell["nise"]["mean"] for name, cell in facts["random"].items()}
    for name in ("oggmr", "oggmr by nise", "williams, optimised", "direct nise"):
        yield f"{nise[name]:.3f}"
    share = facts["random"]["ctdgmr (ise)"]["oggmr, greedy only nearer"]["angle"]["share"]
    yield f"{100 * share:.0f} %"
    yield f"angle {facts['tracking']['oggmr']['angle']:.3f}"
    lost = [facts["tracking"][name]["lost"] for name in ("oggmr", "oggmr, greedy only")]
    yield f"in {lost[0]} of 24 flights, and its merged ones in {lost[1]}"
    own = {"oggmr", "oggmr, 3 starts", "direct cs"}
    others = [cell for name, cell in facts["random"].items() if name not in own]
    shares = [100 * cell["oggmr nearer"]["angle"]["share"] for cell in others]
    yield f"on {min(shares):.0f} to {max(shares):.0f} % of the mixtures"


def _of_convolutions() -> Iterator[str]:
    facts = recorded("convolution")
    for name in ("convnet:norm=none,pooling=max", "vgg11:norm=none", "convnet:norm=none,pooling=max,width=64"):
        found = facts[f"{name}, 1 threads"]
        ratio = found["whole"]["ratio"]
        yield f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
        if "width" not in name:
            yield f"{found['accuracy']:.1f} %"
            yield f"{found['whole']['planned']['value']:.2f} ms against {found['whole']['dense']['value']:.2f}"
            switched = [layer for layer in found["layers"] if layer["method"] == "direct"]
            gains = [layer["ratio"]["value"] for layer in switched]
            yield f"{min(gains):.2f} to {max(gains):.2f} times"
            assert found["whole"]["agreeing"] == found["whole"]["images"] == 500
    first = [row["ratio"]["cpo"]["value"] for row in facts["layers, 1 threads"]["rows"] if row["density"] == 0.05]
    yield f"at most {max(first):.1f}× at density 0.05"
    sparse = [row for row in facts["layers, 2 threads"]["rows"] if row["density"] <= 0.1]
    for side in (17, 8):
        gains = sorted(row["ratio"]["direct"]["value"] for row in sparse if row["side"] == side)
        lowest = gains[1] if side == 8 else gains[0]
        yield f"{lowest:.1f} to {gains[-1]:.1f}× on maps of {side} pixels"
        if side == 8:
            yield f"(one cell: {gains[0]:.1f}×)"


def _of_language() -> Iterator[str]:
    memory, again = recorded("language_memory")["memory"], recorded("language_again")
    yield f"{memory['none']['extra_gb']:.2f} GB"
    yield f"{memory['learned']['extra_gb']:.2f} GB"
    seconds = again["seconds"]
    yield f"{seconds['correct and go on']:.2f} s"
    yield f"{seconds['the same with a cache']:.2f} s"
    yield f"{again['gain']:.2f}×"
