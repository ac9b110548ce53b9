"""The primitives and the functions users call; also the namespace that recorded rules run on."""

from . import linalg, random
from .contraction import (
    contract, dot, einsum, matmul, outer, tensordot, trace, vecdot, vector_norm,
)  # fmt: skip
from .creation import (
    arange, asarray, can_cast, empty, empty_like, eye, finfo, from_dlpack, full, full_like, iinfo,
    isdtype, linspace, meshgrid, nextafter, nonzero, ones, ones_like, result_type, searchsorted,
    tril, triu, unique_all, unique_counts, unique_inverse, unique_values, zeros, zeros_like,
)  # fmt: skip
from .custom import Gate, TensorGate
from .dispatch import astype, broadcast_to, elementwise, stop_gradient
from .dispatch import bind as apply
from .arithmetic import abs, add, ceil, divide, floor, floor_divide, maximum, minimum, multiply, negative, positive, pow, reciprocal, relu, remainder, round, scale_gradient, sign, square, subtract, trunc
from .transcendental import acos, asin, atan, atan2, cos, cosh, erf, erfinv, exp, expm1, log, log1p, log2, log10, sigmoid, sin, sinh, sqrt, tan, tanh  # fmt: skip
from .indexing import repeat, take, take_along_axis
from .logic import (
    bitwise_and, bitwise_invert, bitwise_left_shift, bitwise_or, bitwise_right_shift, bitwise_xor,
    copysign, equal, greater, greater_equal, isfinite, isinf, isnan, less, less_equal, logical_and,
    logical_not, logical_or, logical_xor, not_equal, select_gradient, signbit, where,
)  # fmt: skip
from .reducing import (
    all, any, argmax, argmin, argsort, count_nonzero, cumulative_prod, cumulative_sum, diff,
    log_softmax, logsumexp, max, mean, min, prod, softmax, sort, std, sum, var,
)  # fmt: skip
from .shaping import (
    broadcast_arrays, concat, diag, diagonal, expand_dims, flip, matrix_transpose, moveaxis, pad,
    permute_dims, reshape, roll, split, squeeze, stack, swapaxes, tile, unstack, windows,
)  # fmt: skip
from .special import acosh, asinh, atanh, clip, hypot, logaddexp, softplus
from .tensor import Parameter, Tensor, tensor

from . import operators, numpy_functions  # noqa: E402, I001, F401 - they complete the class Tensor
