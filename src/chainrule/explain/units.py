"""A network as the biologist draws it: layers of units, and the connections between them, as data.

Found in the graph of one forward pass, so it is what the program does and not what it is called: a
layer is wherever an array of weights meets what comes from the layer before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from ..core.context import context
from ..core.node import Node
from ..errors import GraphError, ShapeError
from ..ops.dispatch import to_tensor
from ..ops.tensor import ArrayLike, Parameter, Tensor
from .forms import only_moves


@dataclass(frozen=True)
class UnitLayer:
    """A layer of units. `shape` is that of one example: (4,), or (28, 28, 16) for an image."""

    name: str
    """The path of its weights in the model; "input" for the first."""
    shape: tuple[int, ...]
    weight: Any = None
    """The Parameter, whose entries are the strengths of the connections."""
    weights: int = 0
    biases: int = 0
    connections: int = 0
    """Products of a weight with an input, for one example: shared weights count each time."""
    activation: str = ""
    """The gates between this layer and the next, as "relu"."""

    @property
    def units(self) -> int:
        """How many units (neurons) there are."""
        return prod(self.shape)


@dataclass(frozen=True)
class Units:
    """The layers of a network, the input first."""

    layers: tuple[UnitLayer, ...]

    @property
    def depth(self) -> int:
        """How many layers have weights: the input does not count, the output does."""
        return len(self.layers) - 1

    @property
    def neurons(self) -> int:
        """How many units compute something: all but the inputs."""
        return sum(layer.units for layer in self.layers[1:])

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(layer.weights + layer.biases for layer in self.layers)

    def __str__(self) -> str:
        hidden = self.depth - 1
        sizes = " → ".join("×".join(map(str, layer.shape)) or "1" for layer in self.layers)
        weights, biases = (sum(getattr(x, k) for x in self.layers) for k in ("weights", "biases"))
        return (
            f"{self.depth}-layer net ({hidden} hidden layer{'s' * (hidden != 1)}): {sizes}\n"
            f"{self.neurons:,} neurons, {weights:,} weights + {biases:,} biases = "
            f"{self.parameters:,} parameters"
        )


def units(model: Callable[..., Any], example: ArrayLike) -> Units:
    """The layers of units that `model` makes of inputs like `example` (its first axis: the batch).

    Raises ShapeError for an example without a batch axis or without entries, GraphError if no
    Parameter is multiplied with anything.

    >>> import chainrule as cr
    >>> nn = cr.nn
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.relu, nn.Linear(4, 4), nn.relu, nn.Linear(4, 1))
    >>> print(cr.explain.units(model, cr.ones((1, 3))))
    3-layer net (2 hidden layers): 3 → 4 → 4 → 1
    9 neurons, 32 weights + 9 biases = 41 parameters
    """
    x = to_tensor(example)
    if not x.ndim or not x.shape[0]:
        raise ShapeError(f"the example needs a batch axis with an entry, received shape {x.shape}")
    with context(recording=True):
        out = model(x[:1].detach())
    out = out[0] if isinstance(out, tuple) else out
    if not isinstance(out, Tensor) or out._node is None:
        raise GraphError("the model's result depends on no Parameter: it has no layers to show")
    nodes = out.graph.nodes
    meetings = [(k, p) for k, n in enumerate(nodes) if (p := _weight_of(n)) is not None]
    if not meetings:
        raise GraphError("no Parameter is multiplied with anything: there are no layers to show")
    firsts: dict[int, tuple[int, Parameter]] = {}
    for k, p in meetings:  # weights that are used again, as in a loop, are one layer
        firsts.setdefault(id(p), (k, p))
    layers = [UnitLayer("input", x.shape[1:])]
    ordered = list(firsts.values())
    for place, (k, p) in enumerate(ordered):
        end = ordered[place + 1][0] if place + 1 < len(ordered) else len(nodes)
        uses = [nodes[j] for j, q in meetings if q is p]
        layers.append(_layer(nodes[k:end], uses, p))
    return Units(tuple(layers))


def _layer(part: list[Node], uses: list[Node], weight: Parameter) -> UnitLayer:
    """The layer of a weight, from the gates between its first use and the next layer."""
    scope = part[0].scope
    own = [n for n in part if n.scope == scope] if scope else part
    biases = {
        id(p): p.size
        for n in own
        for x in n.inputs
        if (p := _parameter(x)) is not None and p is not weight
    }
    summed = part[0]
    for n in own:  # the sum with the bias belongs to the layer
        if n.name == "add" and summed in n.inputs:
            summed = n
    after = [n.name for n in part if n.serial > summed.serial and not _moves(n)]
    return UnitLayer(
        weight.name or "weight", summed.shape[1:], weight, weight.size, sum(biases.values()),
        sum(n.primitive.flops(n.type, [_type(x) for x in n.inputs], n.params or {}) // 2
            for n in uses if n.primitive is not None),
        ", ".join(dict.fromkeys(after)),
    )  # fmt: skip


def _weight_of(node: Node) -> Parameter | None:
    """The Parameter that a contraction multiplies with."""
    if node.name != "contract":
        return None
    found = [p for x in node.inputs if (p := _parameter(x)) is not None]
    return found[0] if len(found) == 1 else None


def _parameter(x: Any) -> Parameter | None:
    """The Parameter that an operand is, up to a change of layout or of dtype."""
    while isinstance(x, Node) and _moves(x):
        x = x.inputs[0]
    handle = x.handle() if isinstance(x, Node) and x.handle is not None else None
    return handle if isinstance(handle, Parameter) else None


def _moves(node: Node) -> bool:
    """Whether a gate only moves entries, or casts them."""
    return only_moves(node) or node.name == "cast"


def _type(x: Any) -> Any:
    return x.type if isinstance(x, Node) else to_tensor(x).type
