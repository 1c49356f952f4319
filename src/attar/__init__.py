"""attar turns something large into something small that does the same job, and measures how much was kept."""

from typing import TYPE_CHECKING

from attar.core.errors import InputError as InputError
from attar.core.lazy import lazily
from attar.core.version import __version__ as __version__

if TYPE_CHECKING:
    from attar.classifiers.alone import Alone as Alone
    from attar.classifiers.artefact import DistilledClassifier as DistilledClassifier
    from attar.classifiers.attention import AttentionTransfer as AttentionTransfer
    from attar.classifiers.cc import CC as CC
    from attar.classifiers.crd import CRD as CRD
    from attar.classifiers.dhkd import DHKD as DHKD
    from attar.classifiers.discovery import Discover as Discover
    from attar.classifiers.dist import DIST as DIST
    from attar.classifiers.dkd import DKD as DKD
    from attar.classifiers.fitnets import FitNets as FitNets
    from attar.classifiers.kd import KD as KD
    from attar.classifiers.nd import ND as ND
    from attar.classifiers.nst import NST as NST
    from attar.classifiers.pkt import PKT as PKT
    from attar.classifiers.reviewkd import ReviewKD as ReviewKD
    from attar.classifiers.rkd import RKD as RKD
    from attar.classifiers.skd import SubclassKD as SubclassKD
    from attar.classifiers.sp import SP as SP
    from attar.classifiers.vid import VID as VID
    from attar.core.runtime import Engine as Engine
    from attar.core.score import Score as Score
    from attar.images.artefact import CondensedImages as CondensedImages
    from attar.images.condense.ast import AST as AST
    from attar.images.condense.atom import ATOM as ATOM
    from attar.images.condense.cda import CDA as CDA
    from attar.images.condense.coresets import ClassMean as ClassMean
    from attar.images.condense.coresets import Herding as Herding
    from attar.images.condense.coresets import KCenter as KCenter
    from attar.images.condense.coresets import KMeans as KMeans
    from attar.images.condense.coresets import Random as Random
    from attar.images.condense.datadam import DataDAM as DataDAM
    from attar.images.condense.datm import DATM as DATM
    from attar.images.condense.dc import DC as DC
    from attar.images.condense.dcc import DCC as DCC
    from attar.images.condense.dm import DM as DM
    from attar.images.condense.dsa import DSA as DSA
    from attar.images.condense.edf import EDF as EDF
    from attar.images.condense.ftd import FTD as FTD
    from attar.images.condense.hello import HeLlO as HeLlO
    from attar.images.condense.mtt import MTT as MTT
    from attar.images.condense.rded import RDED as RDED
    from attar.images.condense.relabel import Relabelled as Relabelled
    from attar.images.condense.sre2l import SRe2L as SRe2L
    from attar.images.condense.tesla import TESLA as TESLA
    from attar.images.labels.stored import StoreLabels as StoreLabels
    from attar.images.networks.architecture import Architecture as Architecture
    from attar.images.sources import load as load
    from attar.images.training import Protocol as Protocol
    from attar.reporting.page import report as report
    from attar.verbs import compare as compare
    from attar.verbs import compress as compress
    from attar.verbs import condense as condense
    from attar.verbs import distill as distill
    from attar.verbs import evaluate as evaluate
    from attar.verbs import import_set as import_set
    from attar.verbs import label as label
    from attar.verbs import open_artefact as open_artefact

# Torch takes a second or two to import, so each name brings its module when it is first used.
__getattr__, __dir__ = lazily(
    __name__,
    {
        "Alone": "attar.classifiers.alone",
        "AttentionTransfer": "attar.classifiers.attention",
        "CC": "attar.classifiers.cc",
        "CRD": "attar.classifiers.crd",
        "DHKD": "attar.classifiers.dhkd",
        "DIST": "attar.classifiers.dist",
        "DKD": "attar.classifiers.dkd",
        "Discover": "attar.classifiers.discovery",
        "DistilledClassifier": "attar.classifiers.artefact",
        "FitNets": "attar.classifiers.fitnets",
        "KD": "attar.classifiers.kd",
        "ND": "attar.classifiers.nd",
        "NST": "attar.classifiers.nst",
        "PKT": "attar.classifiers.pkt",
        "RKD": "attar.classifiers.rkd",
        "ReviewKD": "attar.classifiers.reviewkd",
        "SubclassKD": "attar.classifiers.skd",
        "SP": "attar.classifiers.sp",
        "VID": "attar.classifiers.vid",
        "ATOM": "attar.images.condense.atom",
        "CDA": "attar.images.condense.cda",
        "Architecture": "attar.images.networks.architecture",
        "ClassMean": "attar.images.condense.coresets",
        "CondensedImages": "attar.images.artefact",
        "DC": "attar.images.condense.dc",
        "DCC": "attar.images.condense.dcc",
        "DSA": "attar.images.condense.dsa",
        "MTT": "attar.images.condense.mtt",
        "TESLA": "attar.images.condense.tesla",
        "FTD": "attar.images.condense.ftd",
        "DATM": "attar.images.condense.datm",
        "AST": "attar.images.condense.ast",
        "EDF": "attar.images.condense.edf",
        "DM": "attar.images.condense.dm",
        "DataDAM": "attar.images.condense.datadam",
        "Engine": "attar.core.runtime",
        "HeLlO": "attar.images.condense.hello",
        "Herding": "attar.images.condense.coresets",
        "KCenter": "attar.images.condense.coresets",
        "KMeans": "attar.images.condense.coresets",
        "Protocol": "attar.images.training",
        "RDED": "attar.images.condense.rded",
        "Relabelled": "attar.images.condense.relabel",
        "SRe2L": "attar.images.condense.sre2l",
        "Random": "attar.images.condense.coresets",
        "Score": "attar.core.score",
        "StoreLabels": "attar.images.labels.stored",
        "compare": "attar.verbs",
        "compress": "attar.verbs",
        "condense": "attar.verbs",
        "distill": "attar.verbs",
        "evaluate": "attar.verbs",
        "import_set": "attar.verbs",
        "label": "attar.verbs",
        "load": "attar.images.sources",
        "open_artefact": "attar.verbs",
        "report": "attar.reporting.page",
    },
)
