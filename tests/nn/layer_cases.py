"""One row a layer (or two): how to make it, what it takes, and what PyTorch computes for it.

`torch` gets the library, the layer's own Parameters by name (in chainrule's layout, as torch
tensors) and the inputs, and returns the output in chainrule's layout; or it says why there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

import chainrule as cr
from chainrule import nn


class Case(NamedTuple):
    """A layer or function with what it takes; names start with the name in `nn`."""

    name: str
    make: Callable[[Any], Any]
    inputs: tuple[Any, ...]
    torch: Callable[..., Any] | str
    options: Mapping[str, Any] = MappingProxyType({})
    """Keywords of the call, such as training."""
    batched: bool = True
    """Whether examples along axis 0 are independent."""


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers from -1 to 1, no two alike, in random order."""
    r = np.random.default_rng(seed)
    size = int(np.prod(shape))
    return (r.permutation(size) * 2 / size - 1 + r.uniform(0, 0.5 / size)).reshape(shape)


def plain(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """A function needs no making."""
    return lambda dtype: function


def first(x: Any) -> Any:
    """Channels-last to PyTorch's order."""
    return x.movedim(-1, 1)


def last(x: Any) -> Any:
    return x.movedim(1, -1)


def weights(w: Any) -> Any:
    """(kernel…, in, out) to (out, in, kernel…)."""
    return w.movedim((-1, -2), (0, 1))


def conv(name: str, **options: Any) -> Callable[..., Any]:
    def run(torch: Any, p: dict[str, Any], x: Any, *given: Any) -> Any:
        w, b = given if given else (p["weight"], p["bias"])
        return last(getattr(torch.nn.functional, name)(first(x), weights(w), b, **options))

    return run


def pool(name: str, *options: Any) -> Callable[..., Any]:
    return lambda torch, p, x: last(getattr(torch.nn.functional, name)(first(x), *options))


def batch_norm(torch: Any, p: dict[str, Any], x: Any, *, training: bool = False) -> Any:
    mean, variance = torch.zeros(3), torch.ones(3)
    f = torch.nn.functional.batch_norm
    return last(f(first(x), mean, variance, p["weight"], p["bias"], training))


def recurrent(kind: str, layers: int = 1, bidirectional: bool = False) -> Callable[..., Any]:
    """PyTorch's layer with our Parameters: outputs and the last state, one after the other."""

    def run(torch: Any, p: dict[str, Any], x: Any) -> Any:
        hidden = p["layers.0.forward.hidden_weight"].shape[0]
        twin = getattr(torch.nn, kind)(
            x.shape[-1], hidden, layers, batch_first=True, bidirectional=bidirectional
        )
        ours = {"weight_ih": "input_weight", "weight_hh": "hidden_weight",
                "bias_ih": "input_bias", "bias_hh": "hidden_bias"}  # fmt: skip
        given = {}
        for name, _ in twin.named_parameters():
            what, rest = name.rsplit("_l", 1)
            way = "backward" if rest.endswith("_reverse") else "forward"
            value = p[f"layers.{rest[0]}.{way}.{ours[what]}"]
            given[name] = value.T if value.ndim == 2 else value
        outputs, state = torch.func.functional_call(twin, given, (x,))
        return (outputs, *(state if isinstance(state, tuple) else (state,)))

    return run


def attend(torch: Any, p: dict[str, Any], x: Any, context: Any = None, **options: Any) -> Any:
    """Multi-head attention with PyTorch's own layer."""
    context = x if context is None else context
    mask = options.get("mask")
    if options.get("causal"):
        mask = torch.ones(x.shape[1], context.shape[1]).tril().bool()
    y, _ = torch.nn.functional.multi_head_attention_forward(
        x.transpose(0, 1), context.transpose(0, 1), context.transpose(0, 1), x.shape[-1], 2,
        torch.cat([p[f"{n}.weight"].T for n in ("query", "key", "value")]),
        torch.cat([p[f"{n}.bias"] for n in ("query", "key", "value")]),
        None, None, False, 0.0, p["output.weight"].T, p["output.bias"],
        attn_mask=None if mask is None else ~torch.as_tensor(mask),
    )  # fmt: skip
    return y.transpose(0, 1)


def maxout(torch: Any, p: dict[str, Any], x: Any) -> Any:
    return (x @ p["linear.weight"] + p["linear.bias"]).unflatten(-1, (-1, 3)).amax(-1)


def dense(x: Any, p: dict[str, Any], name: str) -> Any:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


MASK = numbers(4, 6) > -0.5
IMAGE, SIGNAL, ROWS = numbers(2, 7, 6, 4), numbers(3, 9, 4), numbers(5, 6)

CASES = [
    Case("Linear", lambda d: nn.Linear(6, 3, dtype=d), (ROWS,),
         lambda t, p, x: x @ p["weight"] + p["bias"]),
    Case("Sequential", lambda d: nn.Sequential(nn.Linear(6, 3, dtype=d), nn.tanh), (ROWS,),
         lambda t, p, x: dense(x, p, "0").tanh()),
    Case("Residual", lambda d: nn.Residual(nn.Linear(6, 6, dtype=d)), (ROWS,),
         lambda t, p, x: x + dense(x, p, "module")),
    Case("Maxout", lambda d: nn.Maxout(6, 2, 3, dtype=d), (ROWS,), maxout),
    Case("Embedding", lambda d: nn.Embedding(7, 3, dtype=d),
         (np.array([[0, 6, 2], [2, 2, 5]]),),
         lambda t, p, i: t.nn.functional.embedding(i, p["weight"])),
    Case("flatten", plain(nn.flatten), (IMAGE,), lambda t, p, x: x.flatten(1)),

    Case("conv1d", plain(lambda x, w, b: nn.conv1d(x, w, b, stride=2, padding=1)),
         (SIGNAL, numbers(3, 4, 5), numbers(5)), conv("conv1d", stride=2, padding=1),
         batched=False),
    Case("conv2d", plain(lambda x, w, b: nn.conv2d(x, w, b, padding=(1, 0), dilation=2)),
         (IMAGE, numbers(3, 2, 4, 5), numbers(5)),
         conv("conv2d", padding=(1, 0), dilation=2), batched=False),
    Case("conv_transpose1d", plain(lambda x, w, b: nn.conv_transpose1d(x, w, b, 2, 1, 1)),
         (SIGNAL, numbers(3, 5, 4), numbers(5)),
         conv("conv_transpose1d", stride=2, padding=1, output_padding=1), batched=False),
    Case("conv_transpose2d",
         plain(lambda x, w, b: nn.conv_transpose2d(x, w, b, (2, 1), dilation=2)),
         (IMAGE, numbers(3, 2, 5, 4), numbers(5)),
         conv("conv_transpose2d", stride=(2, 1), dilation=2), batched=False),
    Case("Conv1d", lambda d: nn.Conv1d(4, 6, 3, padding="same", groups=2, dtype=d), (SIGNAL,),
         conv("conv1d", padding="same", groups=2)),
    Case("Conv2d", lambda d: nn.Conv2d(4, 5, (3, 2), stride=(2, 1), padding=1, dtype=d), (IMAGE,),
         conv("conv2d", stride=(2, 1), padding=1)),
    Case("Conv2d depthwise", lambda d: nn.Conv2d(4, 8, 3, groups=4, dtype=d), (IMAGE,),
         conv("conv2d", groups=4)),
    Case("Conv2d 1×1", lambda d: nn.Conv2d(4, 3, 1, dtype=d), (IMAGE,), conv("conv2d")),
    Case("ConvTranspose1d", lambda d: nn.ConvTranspose1d(4, 6, 4, 3, 1, groups=2, dtype=d),
         (SIGNAL,), conv("conv_transpose1d", stride=3, padding=1, groups=2)),
    Case("ConvTranspose2d", lambda d: nn.ConvTranspose2d(4, 3, 3, 2, 1, (1, 0), dtype=d),
         (IMAGE,), conv("conv_transpose2d", stride=2, padding=1, output_padding=(1, 0))),

    Case("max_pool1d", plain(lambda x: nn.max_pool1d(x, 3)), (SIGNAL,), pool("max_pool1d", 3)),
    Case("max_pool2d", plain(lambda x: nn.max_pool2d(x, 2)), (IMAGE,), pool("max_pool2d", 2)),
    Case("max_pool2d overlapping", plain(lambda x: nn.max_pool2d(x, 3, (2, 1), 1)), (IMAGE,),
         pool("max_pool2d", 3, (2, 1), 1)),
    Case("avg_pool1d", plain(lambda x: nn.avg_pool1d(x, 3, 2)), (SIGNAL,),
         pool("avg_pool1d", 3, 2)),
    Case("avg_pool2d", plain(lambda x: nn.avg_pool2d(x, (3, 2), padding=(1, 1))), (IMAGE,),
         pool("avg_pool2d", (3, 2), None, (1, 1))),
    Case("MaxPool1d", lambda d: nn.MaxPool1d(2), (SIGNAL,), pool("max_pool1d", 2)),
    Case("MaxPool2d", lambda d: nn.MaxPool2d(3, 2), (IMAGE,), pool("max_pool2d", 3, 2)),
    Case("AvgPool1d", lambda d: nn.AvgPool1d(2), (SIGNAL,), pool("avg_pool1d", 2)),
    Case("AvgPool2d", lambda d: nn.AvgPool2d(2), (IMAGE,), pool("avg_pool2d", 2)),
    Case("global_max_pool", plain(nn.global_max_pool), (IMAGE,),
         lambda t, p, x: x.amax((1, 2))),
    Case("global_avg_pool", plain(nn.global_avg_pool), (IMAGE,),
         lambda t, p, x: x.mean((1, 2))),

    Case("batch_norm", plain(nn.batch_norm), (numbers(5, 4, 3), numbers(3), numbers(3)),
         lambda t, p, x, w, b: last(t.nn.functional.batch_norm(first(x), None, None, w, b, True)),
         batched=False),
    Case("layer_norm", plain(nn.layer_norm), (ROWS, numbers(6), numbers(6, seed=1)),
         lambda t, p, x, w, b: t.nn.functional.layer_norm(x, (6,), w, b), batched=False),
    Case("group_norm", plain(lambda x, w, b: nn.group_norm(x, 2, w, b)),
         (IMAGE, numbers(4), numbers(4, seed=1)),
         lambda t, p, x, w, b: last(t.nn.functional.group_norm(first(x), 2, w, b)), batched=False),
    Case("rms_norm", plain(nn.rms_norm), (ROWS, numbers(6)),
         lambda t, p, x, w: t.nn.functional.rms_norm(x, (6,), w, eps=1e-6), batched=False),
    Case("BatchNorm", lambda d: nn.BatchNorm(3, dtype=d), (numbers(5, 4, 3),), batch_norm),
    Case("BatchNorm training", lambda d: nn.BatchNorm(3, dtype=d), (numbers(5, 4, 3),),
         lambda t, p, x: batch_norm(t, p, x, training=True), {"training": True}, batched=False),
    Case("LayerNorm", lambda d: nn.LayerNorm(6, dtype=d), (ROWS,),
         lambda t, p, x: t.nn.functional.layer_norm(x, (6,), p["weight"], p["bias"])),
    Case("GroupNorm", lambda d: nn.GroupNorm(2, 4, dtype=d), (IMAGE,),
         lambda t, p, x: last(t.nn.functional.group_norm(first(x), 2, p["weight"], p["bias"]))),
    Case("RMSNorm", lambda d: nn.RMSNorm(6, dtype=d), (ROWS,),
         lambda t, p, x: t.nn.functional.rms_norm(x, (6,), p["weight"], eps=1e-6)),

    Case("dropout", plain(lambda x: nn.dropout(x, 0.4, cr.random.key(5))), (ROWS,),
         "PyTorch draws other random numbers", batched=False),
    Case("Dropout", lambda d: nn.Dropout(0.4), (ROWS,), lambda t, p, x: x.clone()),

    Case("scaled_dot_product_attention", plain(nn.scaled_dot_product_attention),
         (numbers(2, 4, 3), numbers(2, 6, 3, seed=1), numbers(2, 6, 5, seed=2)),
         lambda t, p, q, k, v: t.nn.functional.scaled_dot_product_attention(q, k, v)),
    Case("scaled_dot_product_attention masked",
         plain(lambda q, k, v: nn.scaled_dot_product_attention(q, k, v, MASK, causal=True)),
         (numbers(2, 4, 3), numbers(2, 6, 3, seed=1), numbers(2, 6, 5, seed=2)),
         lambda t, p, q, k, v: t.nn.functional.scaled_dot_product_attention(
             q, k, v, t.as_tensor(MASK).tril().bool())),
    Case("MultiHeadAttention", lambda d: nn.MultiHeadAttention(4, 2, dtype=d),
         (numbers(3, 5, 4),), attend),
    Case("MultiHeadAttention causal", lambda d: nn.MultiHeadAttention(4, 2, dtype=d),
         (numbers(3, 5, 4),), lambda t, p, x: attend(t, p, x, causal=True), {"causal": True}),
    Case("MultiHeadAttention context", lambda d: nn.MultiHeadAttention(4, 2, dtype=d),
         (numbers(3, 4, 4), numbers(3, 6, 4, seed=1)),
         lambda t, p, x, c: attend(t, p, x, c, mask=MASK), {"mask": MASK}),

    Case("RNN", lambda d: nn.RNN(4, 3, dtype=d), (SIGNAL,), recurrent("RNN")),
    Case("LSTM", lambda d: nn.LSTM(4, 3, dtype=d), (SIGNAL,), recurrent("LSTM")),
    Case("LSTM stacked", lambda d: nn.LSTM(4, 3, 2, True, dtype=d), (SIGNAL,),
         recurrent("LSTM", 2, True)),
    Case("GRU", lambda d: nn.GRU(4, 3, dtype=d), (SIGNAL,), recurrent("GRU")),
    Case("GRU bidirectional", lambda d: nn.GRU(4, 3, bidirectional=True, dtype=d), (SIGNAL,),
         recurrent("GRU", 1, True)),
    Case("RNN stacked", lambda d: nn.RNN(4, 3, 3, dtype=d), (SIGNAL,), recurrent("RNN", 3)),
]  # fmt: skip
