import torch

from attar.images import layout
from attar.images.networks.architecture import Architecture


def test_fewer_large_images_go_at_once_than_small_ones(runtime):
    counts = [layout.at_once((3, side, side), runtime) for side in (8, 32, 64, 512)]
    assert counts == [256, 16, 4, 1]


def test_an_uncompiled_cpu_has_channels_last(runtime, generator):
    images = torch.randn(2, 3, 4, 5, generator=generator)
    found = layout.ordered(images, runtime)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, images)
    network = layout.place(Architecture(width=8).build((3, 8, 8), 2, generator), runtime)
    kernels = [parameter for parameter in network.parameters() if parameter.ndim == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_a_compiled_cpu_has_no_layout_of_its_own_and_takes_more_images(runtime, monkeypatch):
    monkeypatch.setattr(type(runtime), "compiles", property(lambda self: True))
    assert layout.memory_format(runtime) is torch.contiguous_format
    assert layout.at_once((3, 32, 32), runtime) > 16
