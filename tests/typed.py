"""What type checkers make of the verbs: each gives what its method makes. Checked by tests/test_verbs.py."""

from typing import assert_type

import attar
from attar.convolution import CompressConvolution, ConvolutionPlan
from attar.embeddings import SimCLR, TrainedEncoder
from attar.graphs import GSTAM, CondensedGraphs
from attar.language import DistilledLanguageModel, DistillLanguage
from attar.mixtures import OGGMR
from attar.mixtures.artefact import ReducedMixture

assert_type(attar.condense("digits", attar.DM()), attar.CondensedImages)
assert_type(attar.condense("motifs", GSTAM()), CondensedGraphs)
assert_type(attar.compress("digits", OGGMR()), ReducedMixture)
assert_type(attar.compress("digits", CompressConvolution()), ConvolutionPlan)
assert_type(attar.distill("digits", attar.KD()), attar.DistilledClassifier)
assert_type(attar.distill("phrases", DistillLanguage()), DistilledLanguageModel)
assert_type(attar.train("mosaics", SimCLR()), TrainedEncoder)
