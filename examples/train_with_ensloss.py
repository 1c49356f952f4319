"""Train on few images in a plain PyTorch loop: EnsLoss beside Log-Hinge and BCE, with eight masks of dropout a step."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from attar.classifiers.dropout import MultiSampleDropout
from attar.classifiers.losses import BCE, EnsLoss, LogHinge

pixels, digits = load_digits(return_X_y=True)  # 3 against 8; any images of two classes will do
own = (digits == 3) | (digits == 8)
images = torch.tensor(pixels[own] / 16).float().view(-1, 1, 8, 8)
labels = torch.tensor(digits[own] == 8).long()
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
train, test = order[:60], order[60:]


def accuracy_with(loss):
    """Test accuracy in per cent of a network that is trained with a loss of scores and labels."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    head = MultiSampleDropout(nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 1)), p=0.5, num_samples=8)
    optimizer = torch.optim.SGD([*trunk.parameters(), *head.parameters()], lr=0.02, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    loader = DataLoader(TensorDataset(images[train], labels[train]), batch_size=20, shuffle=True)
    for _ in range(50):
        for some, theirs in loader:
            optimizer.zero_grad()
            head.loss(trunk(some), theirs, loss).backward()  # the mean over masks; its value means nothing for EnsLoss
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        scores = head.eval()(trunk(images[test])).squeeze(1)  # one pass without dropout
    return 100 * ((scores > 0) == labels[test]).float().mean()


for loss in (BCE(), LogHinge(), EnsLoss()):
    print(f"{type(loss).__name__}: {accuracy_with(loss):.1f} % of {len(test)} test images, from {len(train)}")
