"""A network as a function of one vector of parameters, as trajectory matching needs it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

Vector = Float[Tensor, " parameter"]
Images = Float[Tensor, "image channel height width"]
Logits = Float[Tensor, "image classes"]


class FlatNetwork:
    """A network whose parameters are given as one vector, in their order."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.requires_grad_(False)
        named = list(network.named_parameters())
        self.names = [name for name, _ in named]
        self.shapes = [tuple(parameter.shape) for _, parameter in named]
        self.sizes = [parameter.numel() for _, parameter in named]

    @property
    def length(self) -> int:
        """The length of the vector."""
        return sum(self.sizes)

    def vector(self) -> Vector:
        """The network's own parameters, copied."""
        return torch.cat([parameter.detach().flatten() for parameter in self.network.parameters()])

    def parameters(self, vector: Vector) -> dict[str, Tensor]:
        """A vector as named parameters."""
        # The gradient of one split is one concatenation. A slice for each would need a full-length zero for each.
        pieces = vector.split(self.sizes)
        return {name: piece.view(shape) for name, piece, shape in zip(self.names, pieces, self.shapes, strict=True)}

    def logits(self, vector: Vector, images: Images) -> Logits:
        """The logits of the network with these parameters."""
        return functional_call(self.network, self.parameters(vector), (images,))

    def filled(self, vector: Vector) -> nn.Module:
        """The network itself, after its parameters are set to these."""
        with torch.no_grad():
            for parameter, value in zip(self.network.parameters(), self.parameters(vector).values(), strict=True):
                parameter.copy_(value)
        return self.network
