"""Fields on grids: values at nodes, low rank against their definition, total variation, sizes."""

import math

import pytest
import torch

from attar.scenes.fields import START, FactorField, GridField, field_of, sizes_of
from attar.scenes.refinement import Refinement

BOX = ((-1.0, 0.0, -2.0), (1.0, 3.0, 2.0))


def nodes_of(sizes):
    axes = [torch.linspace(low, high, size) for low, high, size in zip(*BOX, sizes, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def test_a_dense_field_has_its_values_at_its_nodes():
    field = GridField(BOX, (4, 3, 5), 2)
    with torch.no_grad():
        field.values.normal_(generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(field.raw(nodes_of((4, 3, 5))), field.values, rtol=0, atol=1e-5)
    torch.testing.assert_close(field.table[7], field.values.view(-1, 3)[7])


def test_an_untouched_field_is_almost_empty_and_there_is_nothing_outside():
    field = GridField(BOX, (4, 4, 4), 2)
    density, features = field(torch.tensor([[0.0, 1.0, 0.0], [0.0, 3.1, 0.0]]))
    torch.testing.assert_close(density * field.voxel, torch.tensor([START, 0.0]))
    assert not features.any()


@pytest.mark.parametrize("form", ["vm", "cp"])
def test_a_field_of_low_rank_is_its_definition(form):
    field = field_of(form, BOX, (5, 5, 5), 2, 3, torch.Generator().manual_seed(0))
    assert isinstance(field, FactorField)
    lines = field.lines.detach()
    if form == "cp":
        parts = torch.einsum("rx,ry,rz->rxyz", *lines)
    else:
        # grid_sample's first coordinate runs along the last axis.
        planes = field.planes.detach()
        products = ("rzy,rx->rxyz", "rzx,ry->rxyz", "ryx,rz->rxyz")
        parts = torch.cat([torch.einsum(how, planes[axis], lines[axis]) for axis, how in enumerate(products)])
    wanted = torch.einsum("cr,rxyz->xyzc", field.basis.detach(), parts)
    torch.testing.assert_close(field.raw(nodes_of((5, 5, 5))).detach(), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", ["dense", "vm", "cp"])
def test_shapes_gradients_and_variation_of_every_form(form):
    field = field_of(form, BOX, (4, 6, 5), 3, 2, torch.Generator().manual_seed(0))
    density, features = field(torch.rand(2, 7, 3, generator=torch.Generator().manual_seed(1)))
    assert density.shape == (2, 7) and features.shape == (2, 7, 3)
    loss = density.sum() + features.square().sum() + field.variation() + field.background.sum()
    loss.backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in field.parameters())
    assert float(field.variation().detach()) >= 0


def test_variation_is_that_of_neighbours():
    field = GridField(BOX, (3, 2, 2), 1)
    with torch.no_grad():
        field.values[..., 1] = torch.arange(3.0)[:, None, None]
        field.values[:, 1, :, 0] = 2.0
    assert float(field.variation().detach()) == pytest.approx(1.0 + 4.0)


def test_voxels_are_as_dense_along_every_side():
    assert sizes_of(BOX, 24) == (12, 18, 24)
    assert sizes_of(((0.0, 0.0, 0.0), (1.0, 1.0, 1e-3)), 10) == (10, 10, 2)


def test_a_refinement_layer_begins_as_the_identity():
    maps = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    layer = Refinement.drawn(4, 16, torch.Generator().manual_seed(1))
    assert torch.equal(layer(maps), maps)
    assert torch.equal(Refinement.drawn(4, 16, torch.Generator().manual_seed(1)).enter.weight, layer.enter.weight)


def test_a_refinement_layer_sees_the_whole_map():
    layer = Refinement.drawn(2, 8, torch.Generator().manual_seed(1))
    with torch.no_grad():
        layer.leave.weight.normal_(generator=torch.Generator().manual_seed(2))
    maps = torch.randn(1, 2, 12, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(maps)[0, 0, 0, 0], maps)
    assert float(gradient[0, :, -1, -1].abs().max()) > 0 and math.isfinite(float(gradient.sum()))
