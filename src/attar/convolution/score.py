"""The time ratio of a planned network, as confirmed on held-out images when the plan was made."""

from collections.abc import Sequence

from attar.convolution.artefact import ConvolutionPlan, WholeNetwork
from attar.convolution.timing import Median
from attar.core.cell import Beside, Cell, Measure
from attar.core.errors import InputError
from attar.core.evaluation import Evaluation, Row
from attar.core.rows import made, rows_of
from attar.core.score import Better, Score


def measure(plans: Sequence[ConvolutionPlan]) -> Evaluation:
    """The confirmed ratio of each plan, with its interval.

    Args:
        plans: Plans. Each has its own row, because times are not pooled.

    Raises:
        InputError: There is no plan, or the whole network of a plan was not compared.
    """
    if not plans:
        raise InputError("there is no plan of convolutions to evaluate. Give at least one.")
    rows = []
    for label, (first, *_) in rows_of(plans, lambda one: {"seed": made(one)[2], "folder": one.folder}):
        if first.whole is None:
            raise InputError("the whole network was not compared when this plan was made. Make the plan again.")
        sizes = {"count": len(first.methods), "full_count": len(first.layers)}
        rows.append(Row.of(label, [first], [_cell(first.whole)], **sizes))
    return Evaluation(tuple(rows), "switched convolutions", "plans", "runs")


def _cell(whole: WholeNetwork) -> Cell:
    """The ratio as a cell, together with the times of both networks and the changes of the outputs."""
    equal = 100 * whole.agreeing / whole.images
    further = {
        f"milliseconds for {whole.batch} of {whole.images} images": _median(whole.planned, "ms", "lower"),
        "predictions equal": Measure(Score(equal)),
        f"largest difference of outputs up to {whole.largest:.3g}": Measure(Score(whole.difference, "", "lower")),
    }
    ratio = _median(whole.ratio, "×", "higher")
    beside = Beside(f"all by PyTorch, {whole.layout}", _median(whole.dense, "ms", "lower").score)
    return Cell(ratio.score, ratio.values, column="times faster", further=further, beside=(beside,))


def _median(found: Median, unit: str, better: Better) -> Measure:
    """A median with its interval as a measure, without a spread."""
    return Measure(Score(found.value, unit, better, n=found.n, interval=(found.low, found.high)), ((found.value,),))
