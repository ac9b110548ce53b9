"""Special functions and random bits that NumPy does not have: erf, erfinv, sigmoid, Threefry.

Each real function takes a float32 or float64 array of any shape and returns a new array of the
same shape and dtype. The work is done in float64, block by block so that the temporaries stay in
the cache; a float32 result is therefore the true value rounded once, but for about one value in
10^8. No warning is raised, whatever the input and the caller's `np.seterr`.

Errors are counted in ulp, the spacing of the result's dtype at the true value.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DTypeError

__all__ = ["bits", "erf", "erfinv", "sigmoid", "threefry_2x32"]

Real = NDArray[np.floating[Any]]
F64 = NDArray[np.float64]
U32 = NDArray[np.uint32]

# Elements worked on at a time: about five arrays of 64 KiB live at once, which an L2 cache holds.
_BLOCK = 8192


def _constants(*values: float) -> tuple[F64, ...]:
    # 0-d arrays: NumPy takes them in half the time it needs to convert a Python float, and that
    # conversion would be most of the cost of a small array.
    return tuple(np.array(v, np.float64) for v in values)


# The polynomials below, highest power first, are this library's own. With mpmath (mp.dps = 50)
# they are `[float(c) for c in mp.chebyfit(f, interval, number of coefficients, asc=True)]` in
# reverse, where
#
#                 f                                                interval        coefficients
#   _ERF          f(z) = erf(sqrt z) / sqrt z - 1                  0 <= z <= 0.78            11
#   _ERFCX        f(t) = exp(x^2) erfc(x), t = (x - 2.5)/(x + 3)   0.87 <= x <= 6.01         16
#   _INV_CENTRE   f(w) = erfinv(y) / y, w = log(1 - y^2)           1e-9 <= -w, x <= 0.875     4
#   _INV_TAIL     f(v) = v x, v = 1 / sqrt(-log erfc x)            0.875 <= x, erfc x >= 2^-53 9
#
# and tests/core/test_special.py makes them again and compares. Errors against f: 3e-17, 1e-17,
# 2e-7 and 1e-7; the last two are only starting points.
_ERF = _constants(
    1.0403734645151614e-08, -1.560001201474617e-07, 1.6384420461143686e-06, -1.4920692233635152e-05,
    0.00012055128391681426, -0.0008548321581317995, 0.005223977534977273, -0.02686617063634374,
    0.11283791670911293, -0.376126389031829, 0.12837916709551256,
)  # fmt: skip
_ERFCX = _constants(
    2.874658477171853e-07, 4.261112687832116e-06, 1.0668589988086457e-06, -2.6775539923759466e-05,
    -8.19193865791262e-06, 0.00017233692573855378, -3.811675299871717e-05, -0.0012215023802121697,
    0.002113471158240121, 0.006200459748970906, -0.0410564539129415, 0.11792238659761124,
    -0.23142268954821127, 0.34546400452749276, -0.40891040734387096, 0.2108063640611436,
)  # fmt: skip
_INV_CENTRE = _constants(
    0.002460072950415879, 0.01160177533117159, -0.23200533607772314, 0.8862271645486612,
)  # fmt: skip
_INV_TAIL = _constants(
    -0.36859785436267406, 1.678281840335701, -3.3743269297538876, 4.0380888351154445,
    -3.400212156403627, 2.329736472109946, -1.2114081620409143, -0.05644900080107114,
    1.0013287112697355,
)  # fmt: skip
_ZERO, _ONE, _2_5, _3, _SIX = _constants(0.0, 1.0, 2.5, 3.0, 6.0)
# Where erf and erfinv change from the one range to the other; 0.784... is erf(0.875).
_EDGE, _ERF_OF_EDGE = _constants(0.875, 0.7840750610598597)
_HALF_ROOT_PI = np.array(0.886226925452758)  # 1 / erf'(0)


def _polynomial(coefficients: tuple[F64, ...], z: F64) -> F64:
    """c[0] z^n + ... + c[n] by Horner's rule. float64, always a new array."""
    acc = z * coefficients[0]
    for c in coefficients[1:-1]:
        acc += c
        acc *= z
    acc += coefficients[-1]
    return acc


def _blockwise(kernel: Callable[[F64], F64], x: Real) -> Real:
    """out[i] = kernel(x)[i], with the kernel seeing one-dimensional blocks of float64."""
    if x.dtype != np.float64 and x.dtype != np.float32:
        raise DTypeError(f"got {x.dtype}, expected float32 or float64: convert with astype first")
    out = np.empty(x.shape, x.dtype)
    source, target = x.reshape(-1), out.reshape(-1)
    # Overflow, underflow and invalid operations happen on the way to right answers.
    with np.errstate(all="ignore"):
        for i in range(0, source.size, _BLOCK):
            block = source[i : i + _BLOCK].astype(np.float64, copy=False)
            target[i : i + _BLOCK] = kernel(block)
    return out


def _erfcx(x: F64) -> F64:
    """exp(x^2) erfc(x), for 0.87 <= x <= 6. float64, <= 3 ulp.

    A polynomial in t = (x - 2.5) / (x + 3), the kind of variable of M. M. Shepherd and
    J. G. Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < oo",
    Math. Comp. 36 (1981). NaN stays NaN; infinity gives NaN.
    """
    t = x - _2_5
    t /= x + _3
    return _polynomial(_ERFCX, t)


def _erf(x: F64) -> F64:
    # |x| < 0.875: x + x p(x^2). The second term is at most 0.13 |x|, so it adds little to the error
    # of the final addition, and for x = -0.0 both terms are -0.0.
    p = _polynomial(_ERF, x * x)
    p *= x
    p += x
    # Elsewhere, and for NaN: 1 - erfc(|x|). From 5.93 on this rounds to 1, hence the 6.
    inside = np.abs(x) < _EDGE
    if not inside.all():
        where = np.flatnonzero(~inside)
        far = x[where]
        a = np.minimum(np.abs(far), _SIX)
        tail = np.exp(-a * a)
        tail *= _erfcx(a)
        p[where] = np.copysign(_ONE - tail, far)
    return p


def erf(x: Real) -> Real:
    """erf(x) = 2 / sqrt(pi) * integral of exp(-t^2) for t from 0 to x.

    float32 and float64; <= 1.4 ulp in float64, <= 0.51 ulp in float32. The sign of a zero is
    kept, +-inf gives +-1, NaN gives NaN. The two ranges are in the manner of W. J. Cody, "Rational
    Chebyshev approximations for the error function", Math. Comp. 23 (1969); the coefficients are
    our own (see above).
    """
    return _blockwise(_erf, x)


def _improve(x: F64, residual: F64) -> F64:
    # One step of order three (Halley's) for erf(x) = y. With d = (y - erf x) / erf'(x), Taylor's
    # series of erfinv at erf x is x + d + x d^2 + (4 x^2 + 1) d^3 / 3 + ...; from the starting
    # points above the cubic term is below 1e-17 x. `residual` is (y - erf x) exp(x^2).
    d = residual * _HALF_ROOT_PI
    step: F64 = x * d
    step += _ONE
    step *= d
    step += x
    return step


def _erfinv_tail(a: F64) -> F64:
    # a >= erf(0.875). 1 - a is exact, and erfc(x) = 1 - a = q is solved instead, so that the small
    # q keeps all its digits: erfc(x) - q = exp(-x^2) (erfcx(x) - q exp(x^2)).
    q = _ONE - a
    r = np.sqrt(-np.log(q))
    x = _polynomial(_INV_TAIL, _ONE / r)
    x *= r
    residual = _erfcx(x)
    residual -= q * np.exp(x * x)
    x = _improve(x, residual)
    x[q == 0] = np.inf
    return x


def _erfinv(y: F64) -> F64:
    a = np.abs(y)
    x = _polynomial(_INV_CENTRE, np.log(_ONE - a * a))
    x *= a
    # erf(x) = x + x p(x^2). Here 0.88 <= x / a <= 1.12, so a - x is exact and only the small
    # second term is rounded.
    square = x * x
    p = _polynomial(_ERF, square)
    p *= x
    residual = a - x
    residual -= p
    residual *= np.exp(square)
    x = _improve(x, residual)
    inside = a < _ERF_OF_EDGE
    if not inside.all():
        where = np.flatnonzero(~inside)
        x[where] = _erfinv_tail(a[where])
    return np.copysign(x, y, out=x)


def erfinv(y: Real) -> Real:
    """erfinv(y) = the x with erf(x) = y.

    float32 and float64; <= 2 ulp in float64, <= 0.51 ulp in float32, also next to +-1. The sign
    of a zero is kept, +-1 gives +-inf, |y| > 1 and NaN give NaN. The starting points are
    polynomials in log(1 - y^2) and in 1 / sqrt(-log(1 - |y|)), the variables of M. Giles,
    "Approximating the erfinv function", GPU Computing Gems (2010), and M. J. Wichura, "Algorithm
    AS 241", Appl. Statist. 37 (1988); the coefficients are our own (see above). One Halley step
    follows.
    """
    return _blockwise(_erfinv, y)


def _sigmoid(x: F64) -> F64:
    # With e = exp(-|x|), which cannot overflow, and f = e / (1 + e) <= 1/2: 1 - f for x > 0 and
    # e - e f for x <= 0. The quotients 1 / (1 + e) and e / (1 + e) are the same in fewer
    # operations but err by up to 2.5 ulp; here the rounding of 1 + e is damped by the factor f.
    e = np.abs(x)
    np.negative(e, out=e)
    np.exp(e, out=e)
    f = e + _ONE
    np.divide(e, f, out=f)
    np.maximum(e, x > _ZERO, out=e)  # True is 1, and e <= 1; faster than `where`, and keeps NaN
    f *= e
    e -= f
    return e


def sigmoid(x: Real) -> Real:
    """sigmoid(x) = 1 / (1 + exp(-x)).

    float32 and float64; <= 1.8 ulp in float64, <= 0.51 ulp in float32, down to the smallest
    subnormal number. -inf gives 0, inf gives 1, NaN gives NaN. float32 too goes through float64
    because NumPy's float32 exp is itself wrong by up to 2.5 ulp.
    """
    return _blockwise(_sigmoid, x)


# Rotation distances of Threefry-2x32, one per round and then again from the start (Salmon et al.,
# table 2), each as the two shifts that make a rotation.
_SHIFTS = tuple(
    (np.array(r, np.uint32), np.array(32 - r, np.uint32)) for r in (13, 15, 26, 6, 17, 29, 16, 24)
)
_PARITY = np.uint32(0x1BD11BDA)  # keeps the three key words from all being zero


def _threefry(keys: tuple[U32, U32], x0: U32, x1: U32) -> None:
    """(x0, x1) <- Threefry-2x32-20(keys, (x0, x1)), in place; the keys broadcast against x0, x1.

    The arrays must have at least one axis: NumPy warns of wrap-around in 0-d arithmetic only.
    """
    schedule = (keys[0], keys[1], keys[0] ^ keys[1] ^ _PARITY)
    shifted = np.empty_like(x0)
    x0 += schedule[0]
    x1 += schedule[1]
    for group in range(1, 6):  # five groups of four rounds, each followed by a key injection
        for left, right in _SHIFTS[:4] if group % 2 else _SHIFTS[4:]:
            x0 += x1
            np.left_shift(x1, left, out=shifted)
            np.right_shift(x1, right, out=x1)
            x1 |= shifted
            x1 ^= x0
        x0 += schedule[group % 3]
        x1 += schedule[(group + 1) % 3] + np.uint32(group)


def _words(count: NDArray[np.uint64]) -> tuple[U32, U32]:
    """(low, high) with count = low + 2^32 high. Conversion to uint32 drops the upper half."""
    return count.astype(np.uint32), (count >> np.uint64(32)).astype(np.uint32)


def threefry_2x32(key: U32, count: NDArray[np.uint64]) -> U32:
    """out[..., :] = Threefry-2x32-20(key, counter words (count mod 2^32, count div 2^32)).

    `key` is uint32[..., 2], `count` uint64[...]; the leading axes of the key broadcast against the
    axes of the count, and the result has one more axis of length 2. Word order: index 0 of key,
    counter and result is v[0] of Random123; the low half of the count is word 0. Exact.

    Source: J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as
    easy as 1, 2, 3", SC11 (2011); 20 rounds, the rotations and the key parity given there.
    """
    shape = np.broadcast_shapes(key.shape[:-1], count.shape)
    x0, x1 = _words(np.broadcast_to(count, shape)[..., np.newaxis])
    _threefry((key[..., 0:1], key[..., 1:2]), x0, x1)
    return np.concatenate((x0, x1), axis=-1)


def bits(key: U32, size: int) -> U32:
    """out[..., n] = word (n mod 2) of Threefry-2x32-20(key[...], counter n div 2), 0 <= n < size.

    `key` is uint32[..., 2], the result uint32[..., size]; see `threefry_2x32` for the word order.
    A longer `size` only appends: bits(key, m) is bits(key, n)[..., :m] for m <= n. Exact.
    """
    keys = key.reshape(-1, 2)
    blocks = (size + 1) // 2
    out = np.empty((len(keys), blocks, 2), np.uint32)
    columns = max(1, min(blocks, _BLOCK))
    rows = _BLOCK // columns
    for j in range(0, blocks, columns):
        low, high = _words(np.arange(j, min(j + columns, blocks), dtype=np.uint64))
        for i in range(0, len(keys), rows):
            some = keys[i : i + rows]
            x0, x1 = np.tile(low, (len(some), 1)), np.tile(high, (len(some), 1))
            _threefry((some[:, 0:1], some[:, 1:2]), x0, x1)
            out[i : i + rows, j : j + columns, 0] = x0
            out[i : i + rows, j : j + columns, 1] = x1
    words = out.reshape(len(keys), 2 * blocks)[:, :size]
    return np.ascontiguousarray(words.reshape(*key.shape[:-1], size))
