"""The pixels of the next batch, decoded by a thread while a GPU works on this one."""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from attar.images.data.pixels import Batch, Pixels


class Ahead:
    """Pixels that are expected to be asked for next. What is asked for instead is decoded as without it.

    Args:
        pixels: Encoded pictures, or pixels in the memory of the CPU.
    """

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self._rows: Tensor | None = None
        self._found: Future[Batch] | None = None

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="attar-decoding")

    def expect(self, rows: Int[Tensor, " batch"]) -> None:
        """Begin to decode these rows, unless others are still waited for."""
        if self._found is None:
            self._rows, self._found = rows, self._thread.submit(self.pixels.__getitem__, rows)

    def take(self, rows: Int[Tensor, " batch"]) -> Batch:
        """The pixels of these rows: what was decoded, if it is of these.

        Raises:
            BadPictures: Some of them cannot be read.
        """
        found, expected = self._found, self._rows
        if found is None or expected is None:
            return self.pixels[rows]
        self._rows = self._found = None
        if torch.equal(expected, rows):
            return found.result()
        found.exception()  # so that no two threads read at once
        return self.pixels[rows]
