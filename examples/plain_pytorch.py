"""Train any model on a condensed set with nothing but PyTorch."""

import torch
from torch.utils.data import DataLoader, TensorDataset

import attar

digits = attar.load("digits")
small = attar.condense(digits, attar.KCenter(ipc=10), out="runs/k-center")

loader = DataLoader(TensorDataset(small.network_input, small.labels), batch_size=32, shuffle=True)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for _ in range(50):
    for images, labels in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

test = digits.transform.forward(digits.test.pixels[torch.arange(500)])
right = (model(test).argmax(dim=1) == digits.test.labels).float().mean()
print(f"{100 * right:.1f} % from 100 of 1,297 images")
