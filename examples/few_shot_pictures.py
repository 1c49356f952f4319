"""Classify your own pictures from one of each class, with an encoder that was trained on other classes."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import attar
from attar.embeddings import FewShot, SupCon, Views, load

# Stand-ins for your pictures: digits that the encoder has never seen, a folder for each.
digits = load("digits", novel=("7", "8", "9"))
labels, classes = digits.test.labels, digits.test_classes
for row, image in enumerate(digits.test.samples[torch.arange(120)]):
    folder = Path("pictures", classes[labels[row]])
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[0].numpy()).save(folder / f"{row:03}.png")

network = "convnet:norm=batch,width=64,depth=2,pool=flat"
encoder = attar.train(digits, SupCon(encoder=network, epochs=10, view=Views(recipe="none")), out="runs/supcon")


def read(paths):
    """Pictures as the encoder takes them: of its size, grey if its training images were."""
    channels, height, width = encoder.shape
    opened = (Image.open(path).convert("L" if channels == 1 else "RGB").resize((width, height)) for path in paths)
    return np.stack([np.asarray(picture) for picture in opened])


first = [sorted(folder.iterdir())[0] for folder in sorted(Path("pictures").iterdir())]
classifier = FewShot(encoder).fit(read(first), [path.parent.name for path in first])

others = [path for path in sorted(Path("pictures").rglob("*.png")) if path not in first]
right = classifier.score(read(others), [path.parent.name for path in others])
print(f"{100 * right:.0f} % of {len(others)} pictures, from one picture of each class")
