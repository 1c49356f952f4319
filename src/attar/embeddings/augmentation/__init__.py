"""Views drawn in torch: colours, blur, affine maps, cutout, RandAugment, and the corruption of rows of a table.

Each change takes a batch of pixels in [0, 1] and the numbers that were drawn for each image. Draws are made on the CPU,
so that a seed gives the same view on every device.
"""
