"""Plan your own network: time its convolutions, replace those that gain, and check that its outputs stay the same."""

import torch
from torch import nn

from attar.convolution import ConvolutionPlan, plan

if __name__ == "__main__":
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 128, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    ).eval()
    for layer in (network[0], network[3]):
        nn.init.constant_(layer.bias, -0.3)  # fewer units answer, as in many a trained network
    images = torch.randn(32, 3, 32, 32)

    planned, made = plan(network, images, methods=("packed", "direct"), say=print)
    print(made)
    made.save("runs/plan")

    again = ConvolutionPlan.load("runs/plan").load_network(network)
    with torch.inference_mode():
        print("largest difference:", float((again(images) - network(images)).abs().max()))
