"""Mistakes in a training that raise no error: read from the record of one batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.node import Node
from ..core.primitive import Elementwise
from ..ops.dispatch import to_tensor
from ..ops.tensor import Tensor
from .forms import only_moves
from .numbers import place

SUM = 1e-3
"""Rows of probabilities add up to 1 as closely as this."""


class Mistake(NamedTuple):
    """Its name, where it is, what was seen, what to do, and how bad it is."""

    name: str
    where: str
    text: str
    advice: str
    severity: str = "warning"


def in_loss(order: Sequence[Node], predicted: Any, targets: Sequence[Any]) -> Iterator[Mistake]:
    """Mistakes between predictions and the loss; `order` has the gates of the loss."""
    if not isinstance(predicted, Tensor) or predicted.node is None:
        return
    after = {predicted.node}
    gates = []
    for node in order:
        if any(x in after for x in node.inputs if isinstance(x, Node)):
            after.add(node)
            gates.append(node)
    if targets:
        yield from _every_with_every(gates, predicted, to_tensor(targets[0]))
    yield from _squashed_twice(gates, predicted)


def _every_with_every(gates: Iterable[Node], predicted: Tensor, target: Tensor
                      ) -> Iterator[Mistake]:  # fmt: skip
    """Predictions (n, 1) and targets (n,) are broadcast to (n, n)."""
    n = predicted.size
    if n < 2 or target.size != n or target.shape == predicted.shape:
        return
    for node in gates:
        sizes = [x.type.shape if isinstance(x, Node) else np.shape(x) for x in node.inputs]
        alone = any(not isinstance(x, Node) and np.size(x) == n for x in node.inputs)
        gate = isinstance(node.primitive, Elementwise) and len(sizes) == 2
        if gate and alone and np.prod(node.type.shape, dtype=int) == n * n:
            yield Mistake(
                "predictions and targets broadcast",
                place(node.line),
                f"predictions of shape {predicted.shape} and targets of shape {target.shape} give "
                f"{node.name} of shape {node.type.shape}: each prediction is compared with every "
                "target",
                f"Give both one shape: predictions.reshape({target.shape}), or the targets "
                f".reshape({predicted.shape}); nn.mean_squared_error does so by itself.",
            )
            return


def _squashed_twice(gates: Sequence[Node], predicted: Tensor) -> Iterator[Mistake]:
    """The model ends in softmax or sigmoid, and the loss takes scores."""
    exponential = next((g for g in gates if g.name in ("exp", "sigmoid", "expm1")), None)
    if exponential is None:
        return
    last = predicted.node
    while last is not None and last.primitive is not None and only_moves(last):
        last = next((x for x in last.inputs if isinstance(x, Node)), None)
    p = predicted.numpy()
    rows = p.ndim > 1 and p.shape[-1] > 1 and p.size > 0 and p.dtype.kind == "f"
    if rows and (p >= 0).all() and (np.abs(p.sum(-1) - 1) < SUM).all():
        kind, remedy = "softmax", "softmax_cross_entropy takes scores"
    elif last is not None and last.name == "sigmoid":
        kind, remedy = "sigmoid", "take a loss of probabilities, or one that takes scores"
    else:
        return
    yield Mistake(
        f"{kind} applied twice",
        place(exponential.line),
        f"the predictions have gone through {kind}, and the loss takes {exponential.name} of them: "
        "they stay between 0 and 1, so that no answer is ever sure and gradients are small",
        f"Leave out one of the two: {remedy}.",
    )


def left_out(named: Sequence[tuple[str, Tensor]], moving: set[int], optimizer: Any
             ) -> Iterator[Mistake]:  # fmt: skip
    """Parameters with a gradient (`moving` has their ids) that the optimizer does not know.

    It is only a note if the last ones are known: first layers are frozen on purpose.
    """
    if optimizer is None:
        return
    known = {id(p) for p in optimizer.parameters}
    missing = [name for name, p in named if id(p) in moving and id(p) not in known]
    if missing:
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        yield Mistake(
            "not in the optimizer",
            missing[0],
            f"{len(missing)} of {len(named)} parameters get a gradient that nothing uses: "
            f"{', '.join(missing[:4])}{more}",
            "Give the optimizer the whole model, after all layers are in place (a layer that was "
            "replaced has new parameters). If they are frozen on purpose, nothing is wrong.",
            "warning" if missing[-1] == named[-1][0] else "note",
        )
