"""Which batches are worth compiling for, and what runs them so or in eager."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from .. import nn
from ..errors import CompileError, TraceError

CALLS = 700
"""So many calls of a small step take in eager about as long as to compile it (0.2 to 0.5 s)."""
WORK = 4e6
"""Examples × weights of a step that takes about twice as long in eager as a small one."""


def worthwhile(model: Any, examples: int, batch: int, passes: int) -> frozenset[int]:
    """The sizes of batches that compiled code saves time for, in so many passes over the data.

    A size is worth it if calls·(1 + size·weights/WORK) reaches CALLS; the last batch of a pass,
    often smaller, counts for itself. It depends on no clock and no cache, so that a training which
    is taken up again computes what an unbroken one does. Only a Module is compiled: what another
    callable holds, and would have to be put back after an error, is not known.
    """
    if not isinstance(model, nn.Module):
        return frozenset()
    weights = sum(p.size for p in model.parameters())
    calls = {batch: examples // batch * passes, examples % batch: passes}
    return frozenset(
        size for size, n in calls.items() if size and n * (1 + size * weights / WORK) >= CALLS
    )


class Compiling:
    """A function of batches (x, y, …), compiled for the `sizes` that are worth it.

    What cannot be traced or compiled runs in eager from then on, with one warning that says why.
    """

    def __init__(self, function: Callable[..., Any], sizes: frozenset[int]) -> None:
        self.function, self.sizes = function, sizes
        self._compiled: Any = None

    def __call__(self, x: Any, y: Any, *rest: Any) -> Any:
        if len(x) in self.sizes:
            if self._compiled is None:
                from ..compiler.compile import compile

                self._compiled = compile(self.function)
            try:
                return self._compiled(x, y, *rest)
            except (TraceError, CompileError) as error:
                self.sizes = frozenset()
                warnings.warn(
                    f"what follows runs in eager, which is slower, as it cannot be compiled: "
                    f"{error}; compiled=False (--eager) does so from the start",
                    RuntimeWarning,
                    stacklevel=1,  # one place, so that training and measuring warn once
                )
        return self.function(x, y, *rest)
