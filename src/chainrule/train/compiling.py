"""Which batches are worth compiling for, and what runs them so or in eager."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import nn
from ..core.context import no_grad
from ..core.node import Node
from ..core.types import ArrayType
from ..errors import ChainruleError, CompileError, TraceError
from ..ops.tracing import trace

CALLS = 500
"""So many calls of a small step take in eager about as long as to compile it (0.2 to 0.5 s)."""
WORK = 4e6
"""Examples × multiplications of each in a step that takes about twice as long as a small one."""


def worthwhile(
    model: Any, examples: int, batch: int, passes: int, inputs: Any = None
) -> frozenset[int]:
    """The sizes of batches that compiled code saves time for, in so many passes over the data.

    A size is worth it if calls·(1 + size·multiplications/WORK) reaches CALLS; the last batch of a
    pass, often smaller, counts for itself. `inputs` (n, …) says what an example is like. It depends
    on no clock and no cache, so that a training which is taken up again computes what an unbroken
    one does. Only a Module is compiled: what another callable holds, and would have to be put back
    after an error, is not known.
    """
    if not isinstance(model, nn.Module):
        return frozenset()
    work = multiplications(model, inputs)
    calls = {batch: examples // batch * passes, examples % batch: passes}
    return frozenset(
        size for size, n in calls.items() if size and n * (1 + size * work / WORK) >= CALLS
    )


def equal_batches(examples: int, most: int) -> int:
    """The size of batches, at most `most`, that leaves the last one as little smaller as can be."""
    return max(1, -(-examples // max(1, -(-examples // most))))


def multiplications(model: nn.Module, inputs: Any = None) -> float:
    """About those of one example on its way through the model: its weights, if it is no picture.

    Where weights of more than two axes may be used at many places (convolutions), the model is
    traced and its products counted.
    """
    weights = float(sum(p.size for p in model.parameters()))
    if inputs is None or all(p.ndim <= 2 for p in model.parameters()):
        return weights
    dtype = np.dtype(np.float32) if inputs.dtype == np.uint8 else inputs.dtype  # pixels, as x/255
    try:
        with no_grad():
            graph, _ = trace(model, [ArrayType((1, *inputs.shape[1:]), dtype)], pure=True)
    except ChainruleError:  # it needs more than inputs, or cannot be traced: training says why
        return weights
    return max(weights, graph_flops(graph.nodes) / 2)


def graph_flops(nodes: Sequence[Node]) -> float:
    """Additions and multiplications of these gates, of loops in every step."""
    total = 0.0
    for node in nodes:
        params = node.params or {}
        assert node.primitive is not None
        kind: Any = node.type
        if isinstance(kind, ArrayType):
            types = [x.type if isinstance(x, Node) else ArrayType(np.shape(x), np.asarray(x).dtype)
                     for x in node.inputs]  # fmt: skip
            total += node.primitive.flops(kind, types, params)
        steps = getattr(params.get("loop"), "length", 1)
        total += steps * sum(graph_flops(body.nodes) for body in node.primitive.bodies(params))
    return total


class Compiling:
    """A function of a batch of `size` examples, compiled for the `sizes` that are worth it.

    What cannot be traced or compiled runs in eager from then on, with one warning that says why.
    """

    def __init__(self, function: Callable[..., Any], sizes: frozenset[int]) -> None:
        self.function, self.sizes = function, sizes
        self._compiled: Any = None

    def __call__(self, size: int, *batch: Any) -> Any:
        if size in self.sizes:
            if self._compiled is None:
                from ..compiler.compile import compile

                self._compiled = compile(self.function)
            try:
                return self._compiled(*batch)
            except (TraceError, CompileError) as error:
                self.sizes = frozenset()
                warnings.warn(
                    f"what follows runs in eager, which is slower, as it cannot be compiled: "
                    f"{error}; compiled=False (--eager) does so from the start",
                    RuntimeWarning,
                    stacklevel=1,  # one place, so that training and measuring warn once
                )
        with np.errstate(over="ignore", invalid="ignore"):  # it shows in the loss
            return self.function(*batch)
