"""Recurrent layers: a step that is applied along time, its state carried from one to the next.

Weights and gates are in PyTorch's order, transposed to (inputs, outputs), so they can be exchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from ..core.types import as_dtype, float32
from ..errors import DTypeError, ShapeError
from ..ops import (
    astype,
    concat,
    matmul,
    moveaxis,
    random,
    reshape,
    scan,
    sigmoid,
    stack,
    tanh,
    unstack,
    zeros,
)
from ..ops.dispatch import floats
from ..ops.tensor import ArrayLike, Parameter, Tensor
from .arguments import check_sizes
from .module import Module

State = tuple[Tensor, ...]


class Cell(Module):
    """One layer in one direction: its weights, and what a step does with them."""

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    """How many arrays a step hands on; the first of them is its output."""

    def __init__(self, inputs: int, hidden: int, dtype: Any) -> None:
        wide = self.gates * hidden
        self.input_weight = Parameter(np.zeros((inputs, wide), dtype))
        self.hidden_weight = Parameter(np.zeros((hidden, wide), dtype))
        self.input_bias = Parameter(np.zeros(wide, dtype))
        self.hidden_bias = Parameter(np.zeros(wide, dtype))
        self.initialize()

    def draw(self, key: Tensor) -> None:
        """Uniform on (-1/√hidden, 1/√hidden), weights and biases."""
        own = self.parameters()
        bound = 1 / sqrt(self.hidden_weight.shape[0])
        for k, p in zip(random.split(key, len(own)), own, strict=True):
            p.assign(random.uniform(k, p.shape, low=-bound, high=bound, dtype=p.dtype))

    def project(self, x: Tensor) -> Tensor:
        """What the inputs bring to the gates, all steps in one product."""
        return matmul(x, self.input_weight) + (self.input_bias + self.hidden_bias)

    def step(self, state: State, projected: Tensor) -> State:
        """The state after one more input."""
        raise NotImplementedError(f"{type(self).__name__} must define step")

    def forward(self, x: Tensor, state: Sequence[Tensor], reverse: bool) -> tuple[State, Tensor]:
        """The last state, and the outputs of all steps; x and they have time in front."""
        projected = self.project(x)

        def step(state: State, p: Tensor) -> tuple[State, Tensor]:
            new = self.step(state, p)
            return new, new[0]

        first = tuple(astype(s, projected.dtype, copy=False) for s in state)
        last, outputs = scan(step, first, projected, reverse=reverse)
        return last, outputs


class RNNCell(Cell):
    def step(self, state: State, projected: Tensor) -> State:
        """h' = tanh(x·W_x + b_x + h·W_h + b_h)."""
        (h,) = state
        return (tanh(projected + matmul(h, self.hidden_weight)),)


class LSTMCell(Cell):
    gates, states = 4, 2

    def step(self, state: State, projected: Tensor) -> State:
        """c' = f·c + i·g, h' = o·tanh(c')."""
        h, c = state
        i, f, g, o = parts(projected + matmul(h, self.hidden_weight), 4)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c


class GRUCell(Cell):
    gates = 3

    def project(self, x: Tensor) -> Tensor:
        """Without the bias of the state, which the reset gate multiplies."""
        return matmul(x, self.input_weight) + self.input_bias

    def step(self, state: State, projected: Tensor) -> State:
        """h' = (1 - z)·n + z·h, n = tanh(n_x + r·n_h)."""
        (h,) = state
        r, z, n = parts(projected, 3)
        r_h, z_h, n_h = parts(matmul(h, self.hidden_weight) + self.hidden_bias, 3)
        n = tanh(n + sigmoid(r + r_h) * n_h)
        return (n + sigmoid(z + z_h) * (h - n),)


def parts(x: Tensor, count: int) -> tuple[Tensor, ...]:
    """Equal parts of the last axis: one gate with several outputs, so one gradient goes back."""
    return unstack(reshape(x, (*x.shape[:-1], count, x.shape[-1] // count)), axis=-2)


class RNN(Module):
    """h_t = tanh(x_t·W_x + b_x + h_{t-1}·W_h + b_h). Elman 1990.

    x (…, time, inputs) gives `outputs, state = layer(x, state=None)`: outputs (…, time, hidden),
    the h_t of the last layer, and the last state of each layer, (layers, …, hidden), with which
    the sequence can be continued; without a state it is 0. Layer l + 1 reads what layer l gives.
    With `bidirectional` each layer runs in both directions: outputs have 2·hidden features,
    forward ones first, and the state 2·layers entries (layer 0 forward, layer 0 backward, …).
    W_x·x is one product for all steps; the rest is `cr.scan` over time.

    Parameters of each layer and direction, `layers.0.forward.…`: input_weight (inputs, hidden),
    hidden_weight (hidden, hidden), input_bias and hidden_bias (hidden,), uniform on
    (-1/√hidden, 1/√hidden). A sequence of no steps is a ShapeError.

    >>> import chainrule as cr
    >>> layer = cr.nn.RNN(3, 8, layers=2)
    >>> outputs, state = layer(cr.ones((5, 7, 3)))
    >>> outputs.shape, state.shape
    ((5, 7, 8), (2, 5, 8))
    """

    cell: ClassVar[type[Cell]] = RNNCell

    def __init__(
        self, inputs: int, hidden: int, layers: int = 1, bidirectional: bool = False, *,
        seed: Any = None, dtype: Any = float32,
    ) -> None:  # fmt: skip
        check_sizes(type(self).__name__, inputs=inputs, hidden=hidden, layers=layers)
        dtype = as_dtype(dtype)
        self.inputs, self.hidden = inputs, hidden
        names = ("forward", "backward") if bidirectional else ("forward",)
        widths = [inputs, *[hidden * len(names)] * (layers - 1)]
        self.layers = [{name: self.cell(n, hidden, dtype) for name in names} for n in widths]
        if seed is not None:
            self.initialize(seed)

    def forward(self, x: ArrayLike, state: Any = None) -> tuple[Tensor, Any]:
        """The outputs of all steps, and the last state."""
        (x,) = floats(x)
        if x.ndim < 2 or x.shape[-1] != self.inputs:
            raise ShapeError(
                f"{self._where()}{type(self).__name__}({self.inputs}, {self.hidden}) takes arrays "
                f"(…, time, {self.inputs}), received shape {x.shape}"
            )
        if not x.shape[-2]:
            raise ShapeError(
                f"{self._where()}{type(self).__name__} takes sequences of at least one step, "
                f"received shape {x.shape}: leave empty ones out"
            )
        given = self._states(x.shape[:-2], x.dtype, state)
        y = moveaxis(x, -2, 0)
        last: list[State] = []
        for layer in self.layers:
            found = []
            for name, cell in layer.items():
                own = [s[len(last)] for s in given]
                state, outputs = cell(y, own, name == "backward")
                last.append(state)
                found.append(outputs)
            y = concat(found, axis=-1) if len(found) > 1 else found[0]
        ends = tuple(map(stack, zip(*last, strict=True)))
        return moveaxis(y, 0, -2), ends[0] if len(ends) == 1 else ends

    def _states(self, lead: tuple[int, ...], dtype: Any, state: Any) -> list[Tensor]:
        """The arrays of the first state, of one entry a layer and direction."""
        count = self.cell.states
        shape = (sum(map(len, self.layers)), *lead, self.hidden)
        if state is None:
            return [zeros(shape, dtype=dtype)] * count
        if count > 1 and not (isinstance(state, (tuple, list)) and len(state) == count):
            raise DTypeError(
                f"{self._where()}{type(self).__name__} takes a state (h, c), received {state!r:.60}"
            )
        given = floats(*(state if count > 1 else (state,)))
        for s in given:
            if s.shape != shape:
                raise ShapeError(
                    f"{self._where()}{type(self).__name__} takes a state of shape {shape}, "
                    f"received {s.shape}"
                )
        return given


class LSTM(RNN):
    """c_t = f·c_{t-1} + i·g, h_t = o·tanh(c_t); i, f, o = σ(…), g = tanh(…) of x_t and h_{t-1}.

    Arguments, shapes and Parameters as in `RNN`, with weights (…, 4·hidden): the gates i, f, g, o.
    The state is a pair (h, c). Hochreiter & Schmidhuber 1997; Gers et al. 2000.

    >>> import chainrule as cr
    >>> layer = cr.nn.LSTM(3, 8, bidirectional=True)
    >>> outputs, (h, c) = layer(cr.ones((5, 7, 3)))
    >>> outputs.shape, h.shape, c.shape
    ((5, 7, 16), (2, 5, 8), (2, 5, 8))
    """

    cell = LSTMCell


class GRU(RNN):
    """h_t = (1 - z)·n + z·h_{t-1}, n = tanh(n_x + r·n_h); r, z = σ(…) of x_t and h_{t-1}.

    Arguments, shapes and Parameters as in `RNN`, with weights (…, 3·hidden): the gates r, z, n.
    The reset gate r multiplies h·W + b as a whole. Cho et al. 2014.

    >>> import chainrule as cr
    >>> outputs, state = cr.nn.GRU(3, 8)(cr.ones((5, 7, 3)))
    >>> outputs.shape, state.shape
    ((5, 7, 8), (1, 5, 8))
    """

    cell = GRUCell


__all__ = ["GRU", "LSTM", "RNN"]
