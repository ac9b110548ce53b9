"""Weights in PyTorch's names and layouts, in safetensors files, which need no PyTorch.

What differs between the two, layer by layer:

Linear        weight (outputs, inputs), the transpose
Conv          weight (outputs, inputs / groups, sizes…), of a transposed one (inputs, outputs /
              groups, sizes…)
BatchNorm     `running_var`, and a count of batches, `num_batches_tracked`
RNN LSTM GRU  `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, …, `…_l0_reverse`
attention     query, key and value in one, `in_proj_weight`, and `out_proj`
Dropout       nothing

All else has its own names and layouts. A Linear layer that reads flattened images is the one case
that names do not show: PyTorch flattens (channels, height, width), chainrule (height, width,
channels). Reorder the inputs of its weight W, (outputs, inputs), before loading it:
`W.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(W.shape)`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import ChainruleError, DTypeError, RunError
from ..files import AnyPath, Arrays, pack_arrays, read_arrays, write_files
from ..nn import RNN, BatchNorm, Dropout, Linear, Module, MultiHeadAttention
from ..nn.convolution import _Convolution
from ..nn.module import _contents, _names_that_differ
from ..ops.tensor import Tensor, as_array


class Entry(NamedTuple):
    """An array of PyTorch's: these variables of ours, their axes permuted, one after another."""

    name: str
    variables: tuple[Tensor, ...]
    swapped: bool = False
    """Whether the last two axes stand in front, in the other order."""

    def array(self) -> np.ndarray[Any, Any]:
        """What PyTorch holds."""
        if not self.variables:
            return np.array(0)  # num_batches_tracked
        parts = [np.transpose(v.numpy(), self._axes(v)) for v in self.variables]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def values(self, array: np.ndarray[Any, Any]) -> list[Any]:
        """The values of the variables, of an array of PyTorch's."""
        count = len(self.variables)
        parts = np.split(array, count) if count > 1 else [array] * count
        return [
            np.transpose(part, np.argsort(self._axes(v)))
            for part, v in zip(parts, self.variables, strict=True)
        ]

    def _axes(self, variable: Tensor) -> list[int]:
        n = variable.ndim
        return [n - 1, n - 2, *range(n - 2)] if self.swapped else list(range(n))


def _entries(module: Module, path: str, seen: set[int]) -> Iterator[Entry]:
    """The arrays of a module and those below it; what stands in two places once."""
    for name, variables, *swapped in _own(module):
        if not variables or not seen.issuperset(map(id, variables)):
            seen.update(map(id, variables))
            yield Entry(path + name, variables, *swapped)
    if isinstance(module, (RNN, MultiHeadAttention)):
        return
    for local, value in _contents(module):
        if isinstance(value, Module) and id(value) not in seen:
            seen.add(id(value))
            yield from _entries(value, f"{path}{'.'.join(local)}.", seen)


def _own(module: Module) -> Iterator[Any]:
    """(name, variables, swapped) for the arrays that a module has itself."""
    if isinstance(module, RNN):
        for k, layer in enumerate(module.layers):
            for direction, cell in layer.items():
                end = f"_l{k}" + ("_reverse" if direction == "backward" else "")
                yield f"weight_ih{end}", (cell.input_weight,), True
                yield f"weight_hh{end}", (cell.hidden_weight,), True
                yield f"bias_ih{end}", (cell.input_bias,)
                yield f"bias_hh{end}", (cell.hidden_bias,)
        return
    if isinstance(module, MultiHeadAttention):
        layers = (module.query, module.key, module.value)
        yield "in_proj_weight", tuple(layer.weight for layer in layers), True
        yield "out_proj.weight", (module.output.weight,), True
        if module.output.bias is not None:
            yield "in_proj_bias", tuple(layer.bias for layer in layers)
            yield "out_proj.bias", (module.output.bias,)
        return
    if isinstance(module, Dropout):
        return
    swapped = isinstance(module, (Linear, _Convolution))
    for local, value in _contents(module):
        if not isinstance(value, Module):
            name = ".".join(local)
            if isinstance(module, BatchNorm) and name == "running_variance":
                name = "running_var"
            yield name, (value,), swapped and name == "weight"
    if isinstance(module, BatchNorm):
        yield "num_batches_tracked", ()


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """The name in the file: that of the longest beginning, up to a dot, that `names` has."""
    parts = name.split(".")
    for k in range(len(parts), -1, -1):
        beginning = ".".join(parts[:k])
        if beginning in names:
            return ".".join(part for part in (names[beginning], *parts[k:]) if part)
    return name


def _layout(module: Module, names: Mapping[str, str] | None) -> dict[str, Entry]:
    if not isinstance(module, Module):
        raise DTypeError(f"expected a Module, received {type(module).__name__}")
    found = list(_entries(module, "", {id(module)}))
    layout = {_renamed(entry.name, names or {}): entry for entry in found}
    if len(layout) != len(found):
        raise RunError(f"names={names!r:.120} gives two arrays one name")
    return layout


def load_pytorch(
    module: Module, source: AnyPath | Mapping[str, Any], *, names: Mapping[str, str] | None = None
) -> None:
    """Give a module the weights of a PyTorch model of the same build.

    `source` is a safetensors file, or a dict of arrays such as `state_dict()`. Its names are the
    paths of the module's arrays, with PyTorch's endings; `names` maps those that differ, or their
    beginnings up to a dot, to what they are in the source: {"0": "features.0"}, {"": "model"}.
    Nothing changes unless all names and shapes fit; a RunError says what does not. Floats are cast
    to the dtype of the module.

    >>> import chainrule as cr, numpy as np
    >>> from chainrule.interop.pytorch import load_pytorch
    >>> layer = cr.nn.Linear(3, 2)
    >>> load_pytorch(layer, {"weight": np.ones((2, 3)), "bias": np.zeros(2)})
    >>> layer.weight.shape
    (3, 2)
    """
    layout = _layout(module, names)
    arrays = _read(source)
    optional = {name for name, entry in layout.items() if not entry.variables}
    expected = {name: entry for name, entry in layout.items() if name in arrays}
    unfit = _names_that_differ(
        {name: None for name in layout if name not in optional},
        {name: None for name in arrays if name not in optional},
    )
    title = f"this does not fit {type(module).__name__}"
    if unfit:
        raise RunError(f"{title}: {unfit}")
    new: list[tuple[Tensor, Any]] = []
    for name, entry in expected.items():
        array, like = arrays[name], entry.array()
        if array.shape != like.shape:
            raise RunError(f"{title}: {name} must have shape {like.shape}, received {array.shape}")
        if array.dtype.kind != like.dtype.kind:
            raise RunError(f"{title}: {name} must hold {like.dtype}, received {array.dtype}")
        new += zip(entry.variables, entry.values(array), strict=True)
    for variable, value in new:
        variable.assign(value)


def save_pytorch(module: Module, path: AnyPath, *, names: Mapping[str, str] | None = None) -> None:
    """Write a module's weights to a safetensors file, in PyTorch's names and layouts.

    In PyTorch: model.load_state_dict(safetensors.torch.load_file(path)). `names` as in
    `load_pytorch`. An array that stands in two places is written once, under the first.

    >>> import chainrule as cr, tempfile, os
    >>> from chainrule.interop.pytorch import load_pytorch, save_pytorch
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> save_pytorch(cr.nn.LSTM(3, 8), path)
    >>> load_pytorch(cr.nn.LSTM(3, 8), path)
    """
    arrays = {name: entry.array() for name, entry in _layout(module, names).items()}
    write_files({Path(path): pack_arrays(arrays, {"format": "pt"})})


def _read(source: AnyPath | Mapping[str, Any]) -> Arrays:
    if isinstance(source, Mapping):
        return {str(name): _array(name, value) for name, value in source.items()}
    if Path(source).suffix in (".pt", ".pth", ".bin", ".ckpt"):
        raise RunError(
            f"{os.fspath(source)} is a pickle, which may run code when read: write a safetensors "
            "file in PyTorch, safetensors.torch.save_file(model.state_dict(), path)"
        )
    return read_arrays(source)[0]


def _array(name: Any, value: Any) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(value)
        return as_array(array.astype(np.float32) if array.dtype == np.float16 else array)
    except (ChainruleError, TypeError, RuntimeError) as error:
        raise RunError(f"{name} is no array that can be read: {error!s:.200}") from error


__all__ = ["load_pytorch", "save_pytorch"]
