"""A function that all threads call: loops split over them, scratch memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .ir import Function, Index, Value, scalar_type


class Sharing:
    """The function being written, on A, B and further buffers; its last parameters are scratch
    memory, the number of the thread, and the pool for barriers."""

    def __init__(self, f: Function, dtype: np.dtype[np.generic],
                 others: Sequence[np.dtype[np.generic]], threads: int) -> None:  # fmt: skip
        self.f, self.dtype, self.threads = f, np.dtype(dtype), threads
        self.scalar = scalar_type(dtype)
        self.scalars = [self.scalar] * 2 + [scalar_type(d) for d in others]
        *self.buffers, self.scratch_at, self.thread, self.pool = f.parameters
        self.scratch = 0
        """Bytes of scratch that are taken."""

    def nest(self, sizes: Sequence[int], known: list[Index],
             body: Callable[[list[Index]], None]) -> None:  # fmt: skip
        """Loops of these sizes inside those whose indices are known."""
        if len(known) == len(sizes):
            body(known)
            return
        with self.f.loop(0, sizes[len(known)]) as i:
            self.nest(sizes, [*known, i], body)

    def share(self, sizes: Sequence[int], body: Callable[[list[Index]], None]) -> None:
        """A nest whose outer loops, as many as are needed, are split over the threads."""
        f, split, total = self.f, 0, 1
        while self.threads > 1 and split < len(sizes) and total < 16 * self.threads:
            if total >= self.threads and total % self.threads == 0:
                break
            total *= sizes[split]
            split += 1
        if not split:
            self.nest(sizes, [], body)
            return
        threads = f.index(self.threads)
        first, last = (
            f.op("sdiv", f.index(f.mul(f.add(self.thread, k), total)), threads) for k in (0, 1)
        )
        with f.loop(first, last) as item:
            digits: list[Index] = []
            for size in reversed(sizes[:split]):
                digits.insert(0, f.op("srem", item, f.index(size)) if size > 1 else 0)
                item = f.op("sdiv", item, f.index(size)) if size > 1 else item
            self.nest(sizes, digits, body)

    def room(self, size: int) -> Value:
        """So many entries of scratch."""
        at = self.f.at(self.scratch_at, self.scratch, "i8")
        self.scratch += -(-size * self.dtype.itemsize // 64) * 64
        return at

    def shift(self, f: Function, at: Sequence[Value], index: Index,
              strides: Sequence[int]) -> list[Value]:  # fmt: skip
        """Addresses of others after so many steps of a loop."""
        return [
            f.at(p, f.mul(index, s), t)
            for p, s, t in zip(at, strides[2:], self.scalars[2:], strict=True)
        ]
