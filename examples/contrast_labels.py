"""Contrast samples with several labels in a plain PyTorch loop: those whose labels overlap enough are positives."""

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from attar.embeddings import ClassBatches, load, mean_average_precision
from attar.embeddings.losses import SupCon

mosaics = load("mosaics")  # 2×2 mosaics of digits; any tensors of samples and rows of 0 and 1 will do


def whole(part):
    """All samples as floats, and which labels each has."""
    return part.samples[torch.arange(len(part))].float() / 255, part.labels


(images, labels), (test_images, test_labels) = whole(mosaics.train), whole(mosaics.test)
batches = ClassBatches(labels, classes_per_batch=8, samples_per_class=8)  # so that every sample has positives
loader = DataLoader(TensorDataset(images, labels), batch_sampler=batches)

encoder = nn.Sequential(nn.Conv2d(1, 32, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 7 * 7, 64))
projector = nn.Sequential(nn.ReLU(), nn.Linear(64, 32))
contrast = SupCon(temperature=0.1, positives="jaccard", threshold=0.5)
optimizer = torch.optim.AdamW([*encoder.parameters(), *projector.parameters()], lr=1e-3)
for _ in range(20):
    for some, theirs in loader:
        optimizer.zero_grad()
        contrast(projector(encoder(some)), theirs).backward()
        optimizer.step()

with torch.no_grad():
    features, test_features = encoder(images), encoder(test_images)
probe = OneVsRestClassifier(LogisticRegression(max_iter=500)).fit(features.numpy(), labels.numpy())
scores = torch.from_numpy(probe.predict_proba(test_features.numpy()))
print(f"mAP {100 * mean_average_precision(scores, test_labels):.1f} % by a linear probe")
