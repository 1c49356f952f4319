"""Condense the digits, then train your own network on ten images instead of 1,297."""

import torch

import attar


def small_transformer(shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    """Any function from image shape and number of classes to a module will do."""
    channels, height, width = shape
    layer = torch.nn.TransformerEncoderLayer(32, nhead=4, dim_feedforward=64, dropout=0.0, batch_first=True)
    return torch.nn.Sequential(
        torch.nn.Flatten(2),  # one token per channel and row of pixels
        torch.nn.Unflatten(2, (height, width)),
        torch.nn.Flatten(1, 2),
        torch.nn.Linear(width, 32),
        torch.nn.TransformerEncoder(layer, num_layers=1, enable_nested_tensor=False),
        torch.nn.Flatten(),
        torch.nn.Linear(channels * height * 32, classes),
    )


digits = attar.load("digits")
small = attar.condense(digits, attar.DM(ipc=1, steps=50), out="runs/ten-digits")
protocol = attar.Protocol(name="short", epochs=60)
networks = ["convnet", small_transformer]
print(attar.evaluate(small, digits, networks=networks, repeats=2, protocol=protocol, ceiling="skip"))
