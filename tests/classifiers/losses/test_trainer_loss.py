"""A loss as the `compute_loss_func` of a Trainer: its share of a step, what is logged, what evaluation sees."""

import pytest
import torch
import torch.nn.functional as F

from attar.classifiers.losses import BCE, CrossEntropy, EnsLoss, TrainerLoss
from attar.core.errors import InputError

transformers = pytest.importorskip("transformers", reason="transformers is not installed")


class Sentences(torch.utils.data.Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, row):
        draw = torch.Generator().manual_seed(row)
        return {"input_ids": torch.randint(2, 30, (6,), generator=draw), "labels": row % 2}


def model():
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=8, hidden_dropout_prob=0, attention_probs_dropout_prob=0, num_labels=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.BertForSequenceClassification(config)


def trained(loss, folder, **settings):
    usual = {"max_steps": 3, "per_device_train_batch_size": 12, "learning_rate": 1e-2, "logging_steps": 1, "seed": 1}
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no", **usual | settings
    )
    trainer = transformers.Trainer(
        model=model(), args=arguments, train_dataset=Sentences(), eval_dataset=Sentences(), compute_loss_func=loss
    )
    trainer.train()
    return trainer


def weights(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def test_a_trainer_trains_by_it_and_logs_cross_entropy(tmp_path):
    made = trained(TrainerLoss(EnsLoss()), tmp_path)
    plain = trained(None, tmp_path)
    first, other = made.state.log_history[0]["loss"], plain.state.log_history[0]["loss"]
    assert first == pytest.approx(other, abs=1e-4)
    assert not torch.allclose(weights(made), weights(plain))
    found = made.evaluate()["eval_loss"]
    with torch.no_grad():
        rows = [Sentences()[row] for row in range(24)]
        logits = made.model(input_ids=torch.stack([row["input_ids"] for row in rows])).logits
    assert found == pytest.approx(float(F.cross_entropy(logits, torch.arange(24) % 2)), abs=1e-5)


def test_accumulation_counts_samples_and_changes_only_what_sorts(tmp_path):
    parts = {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 2}
    settings = {"max_steps": 1, "optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0}
    for loss, same in ((BCE(), True), (CrossEntropy(), True), (EnsLoss(), False)):
        whole, several = (trained(TrainerLoss(loss), tmp_path, **settings, **how) for how in ({}, parts))
        assert torch.allclose(weights(whole), weights(several), atol=1e-6) == same
        if type(loss) is CrossEntropy:
            assert torch.allclose(weights(whole), weights(trained(None, tmp_path, **settings)), atol=1e-6)


def test_its_gradient_is_the_pseudo_loss_s_share():
    logits = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([0, 1, 1, 0, 0, 1])
    loss = TrainerLoss(EnsLoss(generator=torch.Generator().manual_seed(3)))({"logits": logits}, labels, 24)
    assert torch.isclose(loss, F.cross_entropy(logits, labels, reduction="sum") / 24)
    (found,) = torch.autograd.grad(loss, logits)
    own = EnsLoss(generator=torch.Generator().manual_seed(3)).values(logits, labels).sum() / 24
    assert torch.equal(found, torch.autograd.grad(own, logits)[0])


@pytest.mark.parametrize(
    "labels, words",
    [
        (None, "a batch has no labels. Give them as `labels`."),
        (torch.tensor([0.2, 0.8]), "labels are of type torch.float32; give the number of a class for each sample."),
        (torch.tensor([0, 2]), "a label is 2; classes are 0 to 1."),
    ],
)
def test_bad_labels_are_one_line(labels, words):
    with pytest.raises(InputError, match=words):
        TrainerLoss(EnsLoss())({"logits": torch.zeros(2, 2, requires_grad=True)}, labels)


@pytest.mark.parametrize("labels", [[0, 1, 1], [-1.0, 1.0, 1.0], [[0.0], [1.0], [1.0]]])
def test_a_model_with_one_logit_takes_labels_of_two_classes(labels):
    labels = torch.tensor(labels)
    score = torch.tensor([[0.5], [-2.0], [3.0]], requires_grad=True)
    found = TrainerLoss(BCE())({"logits": score}, labels)
    wanted = F.binary_cross_entropy_with_logits(score[:, 0], torch.tensor([0.0, 1, 1]))
    assert torch.isclose(found, wanted)
    told = TrainerLoss(EnsLoss())({"logits": score.detach()}, labels)
    assert torch.isclose(told, wanted)
    with pytest.raises(InputError, match="a label is 2; give 0 and 1, or -1 and 1"):
        TrainerLoss(BCE())({"logits": score}, torch.tensor([0, 1, 2]))


@pytest.mark.parametrize("loss", [CrossEntropy(), EnsLoss()])
def test_labels_of_minus_100_are_not_counted(loss):
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([0, -100, 2, -100])
    for items, divisor in ((None, 2), (torch.tensor(8), 8)):
        found = TrainerLoss(loss)({"logits": logits}, labels, items)
        assert torch.isclose(found, F.cross_entropy(logits[[0, 2]], labels[[0, 2]], reduction="sum") / divisor)
    (slope,) = torch.autograd.grad(found, logits)
    assert not slope[[1, 3]].any() and slope[[0, 2]].any()
    none = TrainerLoss(loss)({"logits": logits}, torch.full((4,), -100), torch.tensor(8))
    assert none == 0 and not torch.autograd.grad(none, logits)[0].any()
