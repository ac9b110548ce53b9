"""chainrule: neural networks you can see through, at full speed.

Write NumPy-style Python; every gradient is exact, inspectable and explained.

>>> import chainrule as cr
>>> x, y, z = cr.tensor(-2.0), cr.tensor(5.0), cr.tensor(-4.0)
>>> q = x + y
>>> f = q * z
>>> f.backward()
>>> [float(t.grad) for t in (x, y, z, q)]
[-4.0, -4.0, 3.0, -4.0]
"""

from math import e, inf, nan, pi
from typing import Any

from . import errors
from .autodiff.batching import vmap
from .autodiff.check import check_gradients
from .autodiff.forward import hvp, jvp
from .autodiff.jacobian import Jacobian, hessian, jacobian
from .autodiff.reverse import grad, value_and_grad, vjp
from .core.context import no_grad
from .core.graph import Graph
from .core.types import (
    bool_, float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, uint64,
)  # fmt: skip
from .errors import ChainruleError
from .namespace import __array_namespace_info__
from .ops import (
    Gate, Parameter, Tensor, TensorGate, abs, acos, acosh, add, all, any, arange, argmax, argmin,
    argsort, asarray, asin, asinh, astype, atan, atan2, atanh, bitwise_and, bitwise_invert,
    bitwise_left_shift, bitwise_or, bitwise_right_shift, bitwise_xor, broadcast_arrays,
    broadcast_to, can_cast, ceil, clip, concat, contract, copysign, cos, cosh, count_nonzero,
    cumulative_prod, cumulative_sum, diag, diagonal, diff, divide, dot, einsum, empty, empty_like,
    equal, erf, erfinv, exp, expand_dims, expm1, eye, finfo, flip, floor, floor_divide, from_dlpack,
    full, full_like, greater, greater_equal, hypot, iinfo, isdtype, isfinite, isinf, isnan, less,
    less_equal, linalg, linspace, log, log1p, log2, log10, log_softmax, logaddexp, logical_and,
    logical_not, logical_or, logical_xor, logsumexp, matmul, matrix_transpose, max, maximum, mean,
    meshgrid, min, minimum, moveaxis, multiply, negative, nextafter, nonzero, not_equal, ones,
    ones_like, outer, pad, permute_dims, positive, pow, prod, random, reciprocal, relu, remainder,
    repeat, reshape, result_type, roll, round, scale_gradient, searchsorted, sigmoid, sign, signbit,
    sin, sinh, softmax, softplus, sort, split, sqrt, square, squeeze, stack, std, stop_gradient,
    subtract, sum, swapaxes, take, take_along_axis, tan, tanh, tensor, tensordot, tile, trace, tril,
    triu, trunc, unique_all, unique_counts, unique_inverse, unique_values, unstack, var, vecdot,
    where, windows, zeros, zeros_like,
)  # fmt: skip

bool = bool_
newaxis = None
__version__ = "0.1.0"
__array_api_version__ = "2024.12"

_LATER_ROOMS = ("data", "explain", "nn", "optim", "train")


def __getattr__(name: str) -> Any:
    """The rooms above the engine are imported when first used, so that the engine starts fast."""
    if name in _LATER_ROOMS:
        from importlib import import_module

        return import_module(f".{name}", __name__)
    hints = {
        "complex64": "complex numbers", "complex128": "complex numbers", "real": "complex numbers",
        "imag": "complex numbers", "conj": "complex numbers", "fft": "Fourier transforms",
        "float16": "float16", "bfloat16": "bfloat16",
    }  # fmt: skip
    if name in hints:
        raise AttributeError(f"chainrule has no {name}: {hints[name]} are not supported")
    raise AttributeError(f"module 'chainrule' has no attribute {name!r}")
