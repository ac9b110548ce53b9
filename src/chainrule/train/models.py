"""Networks described by data: what a run folder says of its model.

A kind of model is one entry of `KINDS`: what its description holds, how many numbers it has
(counted before memory is taken), what one example looks like, and how it is built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .. import nn
from ..errors import RunError
from ..ops.tensor import Tensor

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
LARGEST_MODEL = 1 << 32
"""Numbers that a model may have: 16 GiB of float32."""
KERNEL = 3
Description = dict[str, Any]


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
    return nn.Sequential(*_dense(sizes, activation), seed=seed)


def _dense(sizes: Sequence[int], activation: str) -> list[Any]:
    layers: list[Any] = []
    for n, m in pairwise(sizes):
        layers += [ACTIVATIONS[activation], nn.Linear(n, m)]
    return layers[1:]


def cnn(
    image: Sequence[int], channels: Sequence[int], hidden: Sequence[int], outputs: int, *,
    activation: str = "relu", seed: int = 0,
) -> nn.Sequential:  # fmt: skip
    """Convolutions 3×3 that keep the size, each with an activation and max pooling 2×2; then
    Linear layers. Images are (n, height, width, channels).

    >>> from chainrule.train import cnn
    >>> import chainrule as cr
    >>> cnn((8, 8, 1), [4, 8], [16], 10)(cr.ones((5, 8, 8, 1))).shape
    (5, 10)
    """
    layers: list[Any] = []
    for n, m in pairwise([image[2], *channels]):
        layers += [nn.Conv2d(n, m, KERNEL, padding="same"), ACTIVATIONS[activation], halve]
    return nn.Sequential(
        *layers, nn.flatten, *_dense([_flat(image, channels), *hidden, outputs], activation),
        seed=seed,
    )  # fmt: skip


def halve(x: Any) -> Tensor:
    """Max pooling over 2×2."""
    y: Tensor = nn.max_pool2d(x, 2)
    return y


def _flat(image: Sequence[int], channels: Sequence[int]) -> int:
    """The numbers that the convolutions of an image end in."""
    height, width, depth = image
    by: int = 2 ** len(channels)
    last: int = channels[-1] if channels else depth
    return (height // by) * (width // by) * last


class TextModel(nn.Module):
    """Scores of the next token: Linear(LSTM(Embedding(tokens))), with dropout between them.

    Tokens are int64 (n, time); scores (n, time, tokens).
    """

    def __init__(
        self, tokens: int, embedding: int, hidden: int, layers: int, *, dropout: float = 0.0,
        seed: int = 0,
    ) -> None:  # fmt: skip
        self.embedding = nn.Embedding(tokens, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers=layers)
        self.out = nn.Linear(hidden, tokens)
        self.dropout = nn.Dropout(dropout)
        self.initialize(seed)

    def forward(self, x: Any, training: bool = False) -> Tensor:
        """The scores of each place, from a state of zeros."""
        return self.carry(x, None, training)[0]

    def carry(self, x: Any, state: Any, training: bool = False) -> tuple[Tensor, Any]:
        """The scores, and the state to go on with; `state` is None at the start of a text."""
        inputs = self.dropout(self.embedding(x), training=training)
        outputs, state = self.lstm(inputs, state)
        return self.out(self.dropout(outputs, training=training)), state


# -- descriptions -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """One kind of model. Functions of a description that is known to be good, but for `sizes`."""

    numbers: tuple[str, ...]
    """The fields that hold one whole number,"""
    lists: tuple[str, ...]
    """and those that hold a list of them."""
    count: Callable[[Description], int]
    """How many weights and biases it has."""
    example: Callable[[Description], tuple[int, ...]]
    """The shape of one example's inputs; () where it may vary."""
    build: Callable[[Description, int], nn.Module]
    activated: bool = True


def _count_dense(sizes: Sequence[int]) -> int:
    return sum((n + 1) * m for n, m in pairwise(sizes))


def _count_cnn(d: Description) -> int:
    steps = pairwise([d["image"][2], *d["channels"]])
    dense = _count_dense([_flat(d["image"], d["channels"]), *d["hidden"], d["outputs"]])
    return dense + int(sum((KERNEL * KERNEL * n + 1) * m for n, m in steps))


def _count_text(d: Description) -> int:
    inputs = [d["embedding"], *[d["hidden"]] * (d["layers"] - 1)]
    gates = sum(4 * d["hidden"] * (n + d["hidden"] + 2) for n in inputs)
    return int(gates + d["outputs"] * d["embedding"]) + _count_dense([d["hidden"], d["outputs"]])


KINDS = {
    "mlp": Kind(
        ("inputs", "outputs"), ("hidden",),
        lambda d: _count_dense([d["inputs"], *d["hidden"], d["outputs"]]),
        lambda d: (d["inputs"],),
        lambda d, seed: mlp(
            d["inputs"], d["hidden"], d["outputs"], activation=d["activation"], seed=seed
        ),
    ),
    "cnn": Kind(
        ("outputs",), ("image", "channels", "hidden"),
        _count_cnn,
        lambda d: tuple(d["image"]),
        lambda d, seed: cnn(
            d["image"], d["channels"], d["hidden"], d["outputs"], activation=d["activation"],
            seed=seed,
        ),
    ),
    "lstm": Kind(
        ("outputs", "embedding", "hidden", "layers"), (),
        _count_text,
        lambda d: (),
        lambda d, seed: TextModel(
            d["outputs"], d["embedding"], d["hidden"], d["layers"],
            dropout=d.get("dropout", 0.0), seed=seed,
        ),
        activated=False,
    ),
}  # fmt: skip
"""The kinds of model by name."""
MOST_LAYERS = 64


def check_description(description: Any) -> None:
    """RunError unless a description read from a file is one that `build` takes."""
    name = description.get("kind") if isinstance(description, dict) else None
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise RunError(
            f"unknown kind of model: {description!r:.80}; this version knows {', '.join(KINDS)}"
        )
    sizes = [description.get(field) for field in kind.numbers]
    for field in kind.lists:
        listed = description.get(field)
        sizes += listed if isinstance(listed, list) else [None]
    if not all(type(n) is int and 1 <= n <= LARGEST_LAYER for n in sizes):
        raise RunError(
            f"the model's sizes are not whole numbers from 1 to {LARGEST_LAYER:,}: "
            f"{description!r:.120}"
        )
    activation = description.get("activation")
    if kind.activated and (not isinstance(activation, str) or activation not in ACTIVATIONS):
        raise RunError(f"the model's activation {activation!r:.40} is not known to this version")
    if name == "cnn":
        _check_image(description["image"], description["channels"])
    if name == "lstm" and description["layers"] > MOST_LAYERS:
        raise RunError(f"{description['layers']} layers of LSTM; at most {MOST_LAYERS}")
    rate = description.get("dropout", 0.0)
    if name == "lstm" and not (type(rate) in (int, float) and 0 <= rate < 1):
        raise RunError(f"dropout must be from 0 to below 1, received {rate!r:.40}")
    if count_weights(description) > LARGEST_MODEL:
        raise RunError(
            f"the model would have {count_weights(description):,} numbers, more than "
            f"{LARGEST_MODEL:,}: make its layers smaller"
        )


def _check_image(image: list[int], channels: list[int]) -> None:
    if len(image) != 3:
        raise RunError(f"a cnn takes images (height, width, channels), received {image}")
    if len(channels) > MOST_LAYERS or min(image[:2]) < 2 ** len(channels):
        raise RunError(
            f"images of {image[0]}×{image[1]} cannot be halved {len(channels)} times: "
            "give fewer channels"
        )


def count_weights(description: Description) -> int:
    """The number of weights and biases of the model described."""
    return KINDS[description["kind"]].count(description)


def example_shape(description: Description) -> tuple[int, ...]:
    """The shape of one example's inputs; () where it may vary."""
    return KINDS[description["kind"]].example(description)


def build(description: Any, seed: int = 0) -> nn.Module:
    """The model of a description; RunError if it is no good one."""
    check_description(description)
    return KINDS[description["kind"]].build(description, seed)


def describe_mlp(inputs: int, hidden: Sequence[int], outputs: int, activation: str) -> Description:
    """The description of `mlp` that `build` makes a model of."""
    return {
        "kind": "mlp", "inputs": inputs, "hidden": list(hidden), "outputs": outputs,
        "activation": activation,
    }  # fmt: skip
