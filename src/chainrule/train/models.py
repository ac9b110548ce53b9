"""Networks described by data: what a run folder says of its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from .. import nn
from ..errors import RunError

ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
    "leaky_relu": nn.leaky_relu,
    "elu": nn.elu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "softplus": nn.softplus,
}
"""The activations that a model can be described with, by name."""
LARGEST_LAYER = 1_000_000


def mlp(
    inputs: int, hidden: Sequence[int], outputs: int, *, activation: str = "relu", seed: int = 0
) -> nn.Sequential:
    """Linear layers with an activation between them: W_n·a(… a(W_1·x + b_1) …) + b_n.

    No hidden sizes give a linear classifier. The same seed gives the same weights.

    >>> from chainrule.train import mlp
    >>> len(mlp(64, [32], 10))
    3
    """
    if activation not in ACTIVATIONS:
        raise RunError(f"unknown activation {activation!r}; one of {', '.join(ACTIVATIONS)}")
    sizes = [inputs, *hidden, outputs]
    if min(sizes) < 1:
        raise RunError(f"layer sizes must be positive, received {sizes}")
    layers: list[Any] = []
    for k, (n, m) in enumerate(pairwise(sizes)):
        if k:
            layers.append(ACTIVATIONS[activation])
        layers.append(nn.Linear(n, m))
    return nn.Sequential(*layers, seed=seed)


def describe_mlp(
    inputs: int, hidden: Sequence[int], outputs: int, activation: str
) -> dict[str, Any]:
    """The description that `build` makes a model of."""
    return {
        "kind": "mlp",
        "inputs": inputs,
        "hidden": list(hidden),
        "outputs": outputs,
        "activation": activation,
    }


def check_description(description: Any) -> None:
    """RunError unless a description read from a file is one that `build` takes."""
    if not isinstance(description, dict) or description.get("kind") != "mlp":
        raise RunError(f"unknown kind of model: {description!r:.80}; this version knows 'mlp'")
    sizes = [description.get("inputs"), description.get("outputs")]
    hidden = description.get("hidden")
    if not isinstance(hidden, list) or not all(
        type(n) is int and 1 <= n <= LARGEST_LAYER for n in (*sizes, *hidden)
    ):
        raise RunError(
            f"the model's sizes are not whole numbers from 1 to {LARGEST_LAYER:,}: "
            f"{description!r:.120}"
        )
    activation = description.get("activation")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise RunError(f"the model's activation {activation!r:.40} is not known to this version")


def count_weights(description: dict[str, Any]) -> int:
    """The number of weights and biases of the model described."""
    sizes = [description["inputs"], *description["hidden"], description["outputs"]]
    return sum((n + 1) * m for n, m in pairwise(sizes))


def build(description: Any, seed: int = 0) -> nn.Sequential:
    """The model of a description; RunError if it is no good one."""
    check_description(description)
    return mlp(
        description["inputs"],
        description["hidden"],
        description["outputs"],
        activation=description["activation"],
        seed=seed,
    )
