"""Causal language models into smaller ones: token by token, span by span, answer by answer."""

from typing import TYPE_CHECKING

from attar.core.lazy import lazily

if TYPE_CHECKING:
    from attar.language.artefact import DistilledLanguageModel as DistilledLanguageModel
    from attar.language.chunkers import CHUNKERS as CHUNKERS
    from attar.language.clipping import Clipping as Clipping
    from attar.language.clipping import QuantileNetwork as QuantileNetwork
    from attar.language.correction import Correction as Correction
    from attar.language.distillation import DistillLanguage as DistillLanguage
    from attar.language.divergences import Objective as Objective
    from attar.language.generation import Sampling as Sampling
    from attar.language.models import Lora as Lora
    from attar.language.models import byte_tokenizer as byte_tokenizer
    from attar.language.objective import Spans as Spans
    from attar.language.objective import distillation_loss as distillation_loss
    from attar.language.policy import Policy as Policy
    from attar.language.rouge import porter as porter
    from attar.language.rouge import rouge_l as rouge_l
    from attar.language.schedules import Schedule as Schedule
    from attar.language.sources import load as load
    from attar.language.trainer import DistillationMixin as DistillationMixin
    from attar.language.verbs import distill as distill
    from attar.language.verbs import evaluate as evaluate
    from attar.language.verbs import train as train

__getattr__, __dir__ = lazily(
    __name__,
    {
        "CHUNKERS": "attar.language.chunkers",
        "Clipping": "attar.language.clipping",
        "Correction": "attar.language.correction",
        "DistillLanguage": "attar.language.distillation",
        "DistillationMixin": "attar.language.trainer",
        "DistilledLanguageModel": "attar.language.artefact",
        "Lora": "attar.language.models",
        "Objective": "attar.language.divergences",
        "Policy": "attar.language.policy",
        "QuantileNetwork": "attar.language.clipping",
        "Sampling": "attar.language.generation",
        "Schedule": "attar.language.schedules",
        "Spans": "attar.language.objective",
        "byte_tokenizer": "attar.language.models",
        "distill": "attar.language.verbs",
        "distillation_loss": "attar.language.objective",
        "evaluate": "attar.language.verbs",
        "load": "attar.language.sources",
        "porter": "attar.language.rouge",
        "rouge_l": "attar.language.rouge",
        "train": "attar.language.verbs",
    },
)
