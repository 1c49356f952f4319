"""Sets of labelled graphs, a few of which are made to stand for many."""

from typing import TYPE_CHECKING

from attar.core.lazy import lazily

if TYPE_CHECKING:
    from attar.graphs.artefact import CondensedGraphs as CondensedGraphs
    from attar.graphs.coresets import GraphHerding as GraphHerding
    from attar.graphs.coresets import GraphKCenter as GraphKCenter
    from attar.graphs.coresets import GraphRandom as GraphRandom
    from attar.graphs.coresets import GraphStart as GraphStart
    from attar.graphs.crossvalidation import cross_validate as cross_validate
    from attar.graphs.doscond import DosCond as DosCond
    from attar.graphs.gstam import GSTAM as GSTAM
    from attar.graphs.networks import Architecture as Architecture
    from attar.graphs.score import evaluate as evaluate
    from attar.graphs.sources import load as load
    from attar.graphs.training import Protocol as Protocol

__getattr__, __dir__ = lazily(
    __name__,
    {
        "GSTAM": "attar.graphs.gstam",
        "Architecture": "attar.graphs.networks",
        "CondensedGraphs": "attar.graphs.artefact",
        "DosCond": "attar.graphs.doscond",
        "GraphHerding": "attar.graphs.coresets",
        "GraphKCenter": "attar.graphs.coresets",
        "GraphRandom": "attar.graphs.coresets",
        "GraphStart": "attar.graphs.coresets",
        "Protocol": "attar.graphs.training",
        "cross_validate": "attar.graphs.crossvalidation",
        "evaluate": "attar.graphs.score",
        "load": "attar.graphs.sources",
    },
)
