"""What layers refuse, and how they say it: every layer has a row for sizes and one for input."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import DataError, DTypeError, ShapeError, UnsupportedError

X = np.ones((2, 5, 5, 3), "f")
KEY = cr.random.key(0)
W = np.ones((3, 3, 3, 4), "f")

# the class, and the arguments it does not take
MAKE = [
    (nn.Conv1d, (0, 2, 3), ShapeError,
     r"Conv1d takes positive sizes \(inputs, outputs, groups\), received \(0, 2, 1\)"),
    (nn.Conv2d, (3, 8, (3, 3, 3)), ShapeError,
     r"Conv2d: kernel must be a whole number from 1 on or 2 of them, received \(3, 3, 3\)"),
    (nn.Conv2d, (3, 8, 0), ShapeError, "kernel must be a whole number from 1 on"),
    (nn.Conv2d, (3, 8, 3, 1.5), ShapeError, "stride must be .*received 1.5"),
    (nn.Conv2d, (3, 8, 3, 1, "full"), ShapeError, 'padding must be "same", "valid".*\'full\''),
    (nn.Conv2d, (3, 8, 3, 1, -1), ShapeError, "padding must be .*received -1"),
    (nn.Conv2d, (3, 8, 3, 1, (1, 1, 1)), ShapeError, "for each of the 2 axes"),
    (nn.Conv2d, (3, 8, 3, 1, 0, 0), ShapeError, "dilation must be .*received 0"),
    (nn.Conv2d, (3, 8, 3, 1, 0, 1, 2), ShapeError,
     "multiples of groups, received inputs=3, outputs=8, groups=2"),
    (nn.ConvTranspose1d, (3, 2.5, 3), ShapeError, "ConvTranspose1d takes positive sizes"),
    (nn.ConvTranspose2d, (3, 3, 3, 2, 0, -1), ShapeError, "output_padding must be .*from 0 on"),
    (nn.MaxPool1d, (0,), ShapeError,
     "MaxPool1d: size must be a whole number from 1 on, received 0"),
    (nn.MaxPool2d, ("2",), ShapeError, "size must be .* received 2"),
    (nn.AvgPool1d, (2, 0), ShapeError, "AvgPool1d: stride must be"),
    (nn.AvgPool2d, (2, 2, "x"), ShapeError, "AvgPool2d: padding must be"),
    (nn.BatchNorm, (0,), ShapeError,
     r"BatchNorm takes positive sizes \(features\), received \(0,\)"),
    (nn.BatchNorm, (3, 1.5), DataError, "momentum must be from 0 to 1, received 1.5"),
    (nn.BatchNorm, (3, 0.1, -1), DataError, "eps must be from 0 up to, not 1, received -1"),
    (nn.BatchNorm, (3, "x"), DTypeError, "momentum must be a number, received 'x'"),
    (nn.LayerNorm, (-1,), ShapeError, "LayerNorm takes positive sizes"),
    (nn.RMSNorm, (None,), ShapeError, "RMSNorm takes positive sizes"),
    (nn.GroupNorm, (4, 6), ShapeError, "multiple of groups, received features=6, groups=4"),
    (nn.Dropout, (1,), DataError, "Dropout: rate must be from 0 up to, not 1, received 1"),
    (nn.Dropout, (float("nan"),), DataError, "received nan"),
    (nn.Embedding, (0, 3), ShapeError, r"Embedding takes positive sizes \(count, size\)"),
    (nn.Residual, (nn.Linear,), DTypeError,
     r"Residual takes modules and functions.*write Linear\("),
    (nn.Sequential, ("relu",), DTypeError, "entry 0 is 'relu'"),
    (nn.Linear, (3, 0), ShapeError, "Linear takes positive sizes"),
    (nn.Maxout, (3, 2, 0), ShapeError,
     r"Maxout takes positive sizes \(inputs, outputs, pieces\), received \(3, 2, 0\)"),
    (nn.MultiHeadAttention, (6, 4), ShapeError, "multiple of heads, received features=6, heads=4"),
    (nn.RNN, (3, 0), ShapeError, r"RNN takes positive sizes \(inputs, hidden, layers\)"),
    (nn.LSTM, (3, 4, 0), ShapeError, r"LSTM takes positive .*received \(3, 4, 0\)"),
    (nn.GRU, (0, 4), ShapeError, "GRU takes positive sizes"),
]  # fmt: skip

# a layer, standing at place 1 of a model, and the input it does not take
CALL = [
    (nn.Linear(4, 2), X, ShapeError, r"Linear\(4, 2\) takes arrays with a last axis of 4"),
    (nn.Sequential(nn.Linear(4, 2)), X, ShapeError, r"layer 1.0, Linear\(4, 2\)"),
    (nn.Conv1d(4, 2, 3), X, ShapeError,
     r"Conv1d: conv1d with a weight \(3, 4, 2\) and groups=1 takes arrays \(…, length, 4\), "
     r"received shape \(2, 5, 5, 3\)"),
    (nn.Conv2d(3, 2, 7), X, ShapeError,
     r"Conv2d: a window of 7 .*longer than axis 1 .*\(2, 5, 5, 3\)"),
    (nn.Conv2d(3, 2, 3), X[0, 0], ShapeError, r"takes arrays \(…, height, width, 3\), received"),
    (nn.ConvTranspose1d(4, 2, 3), X, ShapeError, r"conv_transpose1d with .*\(…, length, 4\)"),
    (nn.ConvTranspose2d(3, 2, 3, 1, 0, 1), X, ShapeError,
     "output_padding 1 must be smaller than the stride 1"),
    (nn.ConvTranspose2d(3, 2, 1, 1, 3), X, ShapeError,
     r"an axis of 5 grows to 5; padding \(3, 3\) leaves nothing"),
    (nn.ConvTranspose2d(3, 2, 3, 2, "same", 1), X, ShapeError, "leave output_padding out"),
    (nn.MaxPool1d(2), X[0, 0, 0], ShapeError, r"MaxPool1d: pooling .*\(…, length, channels\)"),
    (nn.MaxPool2d(2, 2, 2), X, ShapeError, r"padding 2 must be smaller than the window 2|\(2, 2\)"),
    (nn.AvgPool1d(9), X, ShapeError, "a window of 9"),
    (nn.AvgPool2d(6), X, ShapeError, "a window of 6"),
    (nn.BatchNorm(4), X, ShapeError, r"BatchNorm: batch_norm with a weight of shape \(4,\) takes"),
    (nn.LayerNorm(4), X, ShapeError,
     r"LayerNorm: layer_norm .*\(4,\).*received shape \(2, 5, 5, 3\)"),
    (nn.RMSNorm(4), X, ShapeError, r"RMSNorm: rms_norm .*\(4,\)"),
    (nn.GroupNorm(2, 4), X, ShapeError, r"GroupNorm: group_norm .*\(4,\)"),
    (nn.Dropout(0.5), "text", UnsupportedError, "dtype <U4 is not supported"),
    (nn.Embedding(4, 2), X, DTypeError, r"Embedding\(4, 2\) takes integers, received float32"),
    (nn.Embedding(4, 2), [[0, 3], [4, 0]], DataError,
     r"takes indices from 0 to 3, received 4 at \(1, 0\)"),
    (nn.Embedding(4, 2), [-1], DataError, r"received -1 at \(0,\)"),
    (nn.Residual(nn.Linear(3, 1)), X, ShapeError,
     r"Residual .*\(2, 5, 5, 3\) became \(2, 5, 5, 1\)"),
    (nn.Maxout(4, 2), X, ShapeError, r"layer 1.linear, Linear\(4, 4\) takes"),
    (nn.MultiHeadAttention(4, 2), X, ShapeError, r"layer 1.query, Linear\(4, 4\) takes"),
    (nn.MultiHeadAttention(3, 1), X[0, 0, 0], ShapeError,
     r"\(…, times, features\), received \(3,\)"),
    (nn.MultiHeadAttention(3, 1), X[:, :, :0], ShapeError, "times ≥ 1"),
    (nn.RNN(4, 2), X, ShapeError, r"RNN\(4, 2\) takes arrays \(…, time, 4\), received shape"),
    (nn.LSTM(3, 2), X[:, :, :0], ShapeError,
     r"LSTM takes sequences of at least one step.*\(2, 5, 0, 3"),
    (nn.GRU(3, 2), X[0, 0, 0], ShapeError, r"GRU\(3, 2\) takes arrays"),
]  # fmt: skip

FUNCTIONS = [
    (lambda: nn.conv2d(X, W[0]), ShapeError,
     r"conv2d takes a weight \(height, width, inputs / groups, outputs\), received shape"),
    (lambda: nn.conv_transpose1d(X, W), ShapeError, r"\(length, outputs / groups, inputs\)"),
    (lambda: nn.conv2d(X, W, groups=3), ShapeError, "must be a multiple of groups=3"),
    (lambda: nn.conv2d(X, W, groups=0), ShapeError, "must be a multiple of groups=0"),
    (lambda: nn.conv2d(X, W, np.ones(3, "f")), ShapeError,
     r"the bias must have shape \(4,\), received \(3,\)"),
    (lambda: nn.conv2d(X, W, groups=2), ShapeError,
     r"groups=2 takes arrays \(…, height, width, 6\)"),
    (lambda: nn.conv_transpose2d(X[:, :0], W.swapaxes(2, 3)), ShapeError, "an axis of 0"),
    (lambda: nn.global_avg_pool(X[0, 0]), ShapeError, r"\(batch, sizes…, channels\), received"),
    (lambda: nn.global_max_pool(X[:, :0]), ShapeError, "max of no entries"),
    (lambda: nn.flatten(np.float32(1)), ShapeError, "received a 0-d array"),
    (lambda: nn.layer_norm(np.float32(1)), ShapeError, "received a 0-d array"),
    (lambda: nn.batch_norm(X, mean=np.ones(3)), ShapeError, "both mean and variance, or neither"),
    (lambda: nn.group_norm(X, 2), ShapeError, "multiple of groups=2"),
    (lambda: nn.dropout(X, 1.0, KEY), DataError, "rate must be"),
    (lambda: nn.dropout(X, 0.5, 3), DTypeError, "a key is a uint32 array"),
    (lambda: nn.scaled_dot_product_attention(X, X[..., :2], X), ShapeError, "attention takes q"),
    (lambda: nn.scaled_dot_product_attention(X, X, X, np.ones((5, 5))), DTypeError,
     "a mask holds bools.*received float64"),
    (lambda: nn.scaled_dot_product_attention(X, X, X, np.ones((4, 5), bool)), ShapeError,
     r"\(4, 5\)"),
    (lambda: nn.LSTM(3, 2)(X[0], np.ones((1, 5, 2))), DTypeError, r"takes a state \(h, c\)"),
    (lambda: nn.GRU(3, 2, 2)(X[0], np.ones((1, 5, 2))), ShapeError,
     r"GRU takes a state of shape \(2, 5, 2\), received \(1, 5, 2\)"),
    (lambda: nn.BatchNorm(3)(X[0, 0, :1], training=True), ShapeError,
     r"BatchNorm in training takes at least 2 values per channel, received shape \(1, 3\): use"),
    (lambda: nn.BatchNorm(3)(X[:0], training=True), ShapeError, r"received shape \(0, 5, 5, 3\)"),
]  # fmt: skip


def test_the_tables_are_complete():
    layers = {
        kind
        for kind in (getattr(nn, name) for name in nn.__all__)
        if isinstance(kind, type) and issubclass(kind, nn.Module) and kind is not nn.Module
    }
    assert {row[0] for row in MAKE} == layers
    assert {type(row[0]) for row in CALL} == layers


@pytest.mark.parametrize(("kind", "arguments", "error", "message"), MAKE)
def test_sizes_that_cannot_be(kind, arguments, error, message):
    with pytest.raises(error, match=message):
        kind(*arguments)


@pytest.mark.parametrize(("layer", "x", "error", "message"), CALL)
def test_input_that_does_not_fit(layer, x, error, message):
    model = nn.Sequential(nn.Sequential(), layer)
    with pytest.raises(error, match=message) as caught:
        model(x)
    # what is no array at all is found before a layer sees it
    assert str(caught.value).startswith("layer 1") or error is UnsupportedError


@pytest.mark.parametrize(("call", "error", "message"), FUNCTIONS)
def test_functions(call, error, message):
    with pytest.raises(error, match=message):
        call()
