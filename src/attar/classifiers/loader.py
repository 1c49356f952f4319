"""The training samples of a Trainer, as a method reads them before the first step."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from attar.classifiers.distilled import in_its_type
from attar.classifiers.numbered import ROW
from attar.classifiers.pair import Samples
from attar.classifiers.watched import Watched
from attar.core.seeds import derived_seed

BESIDE_INPUTS = ("labels", ROW, "skip_logits")
"""Names in a batch that are no inputs of a network."""


class SamplesOfTrainer(Samples):
    """The training samples of a Trainer, which places them on the device itself."""

    teacher: Watched

    def __init__(self, trainer: Any, teacher: Watched, classes: int, device: torch.device) -> None:
        self.trainer, self.teacher, self.classes, self.device = trainer, teacher, classes, device

    def labels(self) -> Tensor:
        """The labels that the collator finds; only for numbered samples."""
        collate = self.trainer._get_collator_with_removed_columns(self.trainer.data_collator)
        return self.trainer.train_dataset.labels(collate)

    def batches(self, *, moved: bool) -> Iterator[tuple[Any, Tensor]]:
        """The batches of the Trainer's loader; with several processes, all samples in order in each of them."""
        trainer, network = self.trainer, self.teacher.network
        if trainer.args.world_size > 1 and trainer.train_dataset is not None:
            collate = trainer._get_collator_with_removed_columns(trainer.data_collator)
            loader: Any = DataLoader(trainer.train_dataset, trainer.args.train_batch_size, collate_fn=collate)
        else:
            loader = trainer.get_train_dataloader()
        for found in loader:
            inputs = {name: tensor.to(self.device) for name, tensor in model_inputs(found).items()}
            yield in_its_type(network, inputs), found["labels"].to(self.device)

    def generator(self) -> torch.Generator:
        """A generator with the Trainer's seed."""
        return torch.Generator().manual_seed(derived_seed(self.trainer.args.seed, "memory"))


def model_inputs(batch: Any) -> dict[str, Any]:
    """The inputs of the networks in a batch."""
    return {name: value for name, value in batch.items() if name not in BESIDE_INPUTS}
