"""Elementary functions in LLVM IR, on scalars and on vectors of any number of lanes.

`emit(name, f, x)` writes the function of that name into `f` for operands of float or double;
`FUNCTIONS` knows the names, which are those of the elementwise gates. Special values are as those
gates have them in NumPy; subnormal numbers are kept; nothing is called from a C library. `ULP`
says how large the errors are. Code is straight-line but for sin, cos and tan, which branch off
where some lane is large.

The polynomials are this library's own: coefficients of smallest largest weighted error, by the
exchange algorithm of Remez in 50 digits (mpmath), then rounded; the weight is the derivative of the
result by the polynomial over the result (plus a thousandth where that vanishes). "q of [a, b]"
beside a table says what is approximated, and where.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..errors import CompileError
from . import trigonometry
from .formula import (
    SINGLE,
    Term,
    absolute,
    fma,
    polynomial,
    power_of_two,
    shifted,
    sqrt,
    two_sum,
    where,
)
from .ir import Function, Value

# q in exp r = 1 + r + r²·q(r), |r| <= log 2.
EXP = {
    "float": (
        2.4467596e-05, 0.00020108142, 0.0013893376, 0.00833254, 0.041666538, 0.16666673, 0.5,
    ),
    "double": (
        1.1385990775470931e-11, 1.619029882244006e-10, 2.0878887420582025e-09,
        2.505122342824143e-08, 2.7557304362022045e-07, 2.7557322187807026e-06,
        2.4801587348808897e-05, 0.00019841269836172524, 0.0013888888888816699, 0.00833333333333747,
        0.04166666666666714, 0.16666666666666655, 0.5,
    ),
    "short": (
        2.446759508731905e-05, 0.00020108142558044478, 0.0013893376291783865, 0.008332540562544144,
        0.04166653787556772, 0.16666673636060989, 0.5000000091980823,
    ),
}  # fmt: skip
# The same, |r| <= log(2)/2.
EXPM1 = {
    "float": (0.00019914236, 0.0013941012, 0.008333273, 0.041666355, 0.16666667, 0.5),
    "double": (
        2.0924488866726085e-09, 2.5109069316959483e-08, 2.755724261405024e-07,
        2.7557244127456073e-06, 2.4801587360724662e-05, 0.00019841269886194818,
        0.0013888888888866754, 0.00833333333332161, 0.0416666666666667, 0.16666666666666677, 0.5,
    ),
}  # fmt: skip
# R in log((1 + s)/(1 - s)) = 2 s + s³·R(s²), |s| <= 0.1716.
LOG = {
    "float": (0.29821563, 0.39979732, 0.6666675),
    "double": (
        0.14734220287572827, 0.15320537942217924, 0.18183295919558165, 0.22222204087326725,
        0.28571428684340155, 0.3999999999970142, 0.6666666666666685,
    ),
    "short": (
        0.19517924493812658, 0.2218116162584592, 0.2857197847736012, 0.39999997009082944,
        0.6666666667101007,
    ),
}  # fmt: skip
# P in R(z) = 2/3 + z·P(z), for the logarithm in two parts.
PRECISE_LOG = (
    0.11880400958398236, 0.11688718589572406, 0.133355849168602, 0.15384577313288972,
    0.18181818547505135, 0.22222222220377263, 0.28571428571432506, 0.39999999999999997,
)  # fmt: skip
# P in tanh x = x + x³·P(x²), |x| <= 0.625.
TANH = {
    "float": (-0.00572158, 0.020655176, -0.053745132, 0.13331515, -0.33333284),
    "double": (
        6.068726350231138e-06, -3.0249514016011627e-05, 9.1623173386407e-05,
        -0.0002370504839471671, 0.0005894665411329493, -0.0014557296632369081,
        0.0035921146267575478, -0.008863234382527478, 0.021869488473689924, -0.05396825396626871,
        0.133333333333302, -0.33333333333333315,
    ),
}  # fmt: skip
# P in sinh x = x + x³·P(x²), |x| <= 1.
SINH = {
    "float": (2.8174004e-06, 0.00019836075, 0.0083333505, 0.16666667),
    "double": (
        7.759221657611437e-13, 1.605724365550403e-10, 2.505212335059556e-08, 2.7557319155683527e-06,
        0.00019841269841436386, 0.00833333333333314, 0.16666666666666669,
    ),
}  # fmt: skip
# P in erf x = x + x·P(x²), |x| <= 0.88.
ERF = {
    "float": (
        8.646734e-05, -0.000820547, 0.005206346, -0.026861459, 0.112837315, -0.37612635, 0.12837917,
    ),
    "double": (
        -8.613630855212053e-10, 1.410148692594616e-08, -1.6285534127444302e-07,
        1.6456243618939665e-06, -1.4925365091615126e-05, 0.0001205532370208754,
        -0.000854832682431631, 0.0052239776227297014, -0.02686617064491308, 0.11283791670954219,
        -0.37612638903183737, 0.1283791670955126,
    ),
}  # fmt: skip
# log erfc x, 0.87 <= x <= 4.
LOG_ERFC = (
    0.00020042832, -0.0030870766, 0.022400904, -0.10429059, -0.6367757, -1.1279155, -0.00013806194,
)  # fmt: skip
# exp(x²)·erfc x by (x - 2.5)/(x + 3), 0.87 <= x <= 6.
ERFCX = (
    1.5108289772414922e-07, 4.23957849483578e-06, 1.149135488335486e-06, -2.6764577200271408e-05,
    -8.211889348131265e-06, 0.00017233476175056487, -3.8114277848984795e-05, -0.0012215021720690914,
    0.0021134709930849503, 0.006200459738938628, -0.041056453907263896, 0.11792238659783365,
    -0.23142268954829756, 0.345464004527491, -0.4089104073438706, 0.2108063640611436,
)  # fmt: skip

HALVES = {"float": (0.693145751953125, 1.4286068203094173e-06),
          "double": (0.6931471805598903, 5.497923018708371e-14)}  # fmt: skip
"""log 2 in two parts; the first has zeros enough for exact products with any exponent."""


def _exp_parts(x: Term, low: float, high: float) -> tuple[Term, Term, Term, Term]:
    """2^m, r, and e and d of which it is the difference; x = 2m·log 2 + r.

    x is clamped to [low, high]; 0 for an end that it keeps by itself.
    """
    if low:
        x = where(x < low, low, x)
    if high:
        x = where(x > high, high, x)
    m, bits = shifted(x, 0.5 / math.log(2))
    first, second = HALVES[x.format.scalar]
    e = fma(m, -2 * first, x)
    return power_of_two(bits), fma(m, -2 * second, e), e, m * (2 * second)


def _exp(x: Term, low: float, high: float, rest: Term | None = None,
         short: bool = False) -> Term:  # fmt: skip
    """exp(x + rest) for x clamped to [low, high]; NaN stays NaN.

    2^m is multiplied twice: results beyond the range and subnormal ones come out rounded once.
    """
    scale, r, _, _ = _exp_parts(x, low, high)
    if rest is not None:
        r = r + rest
    q = polynomial(r, EXP["short" if short else x.format.scalar])
    return (fma(r * r, q, r) + 1) * scale * scale


def _exp_pair(x: Term, low: float, high: float, factor: float) -> tuple[Term, Term]:
    """factor·exp x and, to be added to it, its error."""
    scale, r, e, d = _exp_parts(x, low, high)
    start = e + 1
    tail = fma(r * r, polynomial(r, EXP[x.format.scalar]), ((1 - start) + e) - d)
    p = start + tail
    scaled = scale * factor
    return p * scale * scaled, ((start - p) + tail) * scale * scaled


RANGE = {"float": (-104.0, 89.0), "double": (-746.0, 710.0)}
"""Beyond these exp is 0 and infinite."""


def exp(x: Term) -> Term:
    return _exp(x, *RANGE[x.format.scalar])


def expm1(x: Term) -> Term:
    """x = n·log 2 + r: 2^n (exp(r) - 1) + (2^n - 1), in halves as 2^n may be too large."""
    scalar = x.format.scalar
    clamped = where(x < -40.0, -40.0, x)
    clamped = where(clamped > RANGE[scalar][1], RANGE[scalar][1], clamped)
    n, bits = shifted(clamped, 1 / math.log(2))
    first, second = HALVES[scalar]
    r = fma(n, -second, fma(n, -first, clamped))
    p = fma(r * r, polynomial(r, EXPM1[scalar]), r)
    half = power_of_two(bits, 0.5)
    result = where(n.equals(0), p, fma(p, half, half - 0.5) * 2)
    return where(x.equals(0), x, result)


def _parts(x: Term) -> tuple[Term, Term, Term]:
    """k, m, and the bits of 2^k: x = 2^k m with m in [√½, √2), for finite normal x > 0."""
    kind = x.format
    bits = x.bits()
    raised = (bits + (kind.bits(1.0) - kind.bits(math.sqrt(0.5)))) >> kind.stored
    large = 2.0**kind.stored
    k = (raised | kind.bits(large)).number() - (large + kind.bias)
    power = raised << kind.stored
    return k, (bits - power + kind.bits(1.0)).number(), power


def _all_parts(x: Term) -> tuple[Term, Term]:
    """k and m of `_parts`, also for subnormal x."""
    tiny = x < 2.0 ** (1 - x.format.bias)
    shift = float(x.format.digits)
    k, m, _ = _parts(where(tiny, x * 2.0**shift, x))
    return where(tiny, k - shift, k), m


def _log(k: Term, f: Term, short: bool = False) -> Term:
    """k·log 2 + log(1 + f): with s = f/(2 + f) the last is f - s·(f - s²·R(s²))."""
    scalar = f.format.scalar
    s = f / (f + 2)
    z = s * s
    tail = s * (f - z * polynomial(z, LOG["short" if short else scalar]))
    first, second = HALVES[scalar]
    return fma(k, first, f + fma(k, second, -tail))


def _log_domain(x: Term, inside: Term) -> Term:
    """What a logarithm is at 0, at ∞, below 0 and for NaN; else the value given."""
    outside = where(x > 0, x, where(x.equals(0), -math.inf, x.like(math.nan)))
    return where((x > 0) & (x < math.inf), inside, outside)


def log(x: Term) -> Term:
    k, m = _all_parts(x)
    return _log_domain(x, _log(k, m - 1))


def log1p(x: Term) -> Term:
    """log of 1 + x rounded, whose error is added to the significand."""
    total, rest = two_sum(x.like(1), x)
    k, m, power = _parts(total)
    # 2^-k by its bits; from 2^100 on, where there may be none, the error is nothing beside x
    scale = where(x < 2.0**100, (2 * x.format.bits(1.0) - power).number(), 0)
    result = _log_domain(total, _log(k, (m - 1) + rest * scale))
    return where(x.equals(0), x, result)


def tanh(x: Term) -> Term:
    """x + x³·P(x²) up to 0.625, then 1 - 2/(exp(2|x|) + 1)."""
    a = absolute(x)
    z = x * x
    near = fma(a * z, polynomial(z, TANH[x.format.scalar]), a)
    far = 1 - 2 / (_exp(a * 2, 0, 40) + 1)
    return where(a < 0.625, near, far).flip(x.sign())


def sinh(x: Term) -> Term:
    """x + x³·P(x²) up to 1, then (exp|x| - exp(-|x|))/2."""
    a = absolute(x)
    z = x * x
    near = fma(a * z, polynomial(z, SINH[x.format.scalar]), a)
    half, rest = _exp_pair(a, 0, RANGE[x.format.scalar][1] + 1, 0.5)
    return where(a < 1, near, half - (0.25 / half - rest)).flip(x.sign())


def cosh(x: Term) -> Term:
    """(exp|x| + exp(-|x|))/2."""
    half, rest = _exp_pair(absolute(x), 0, RANGE[x.format.scalar][1] + 1, 0.5)
    return half + (0.25 / half + rest)


def sigmoid(x: Term) -> Term:
    """With e = exp(-|x|) and f = e/(1 + e) <= 1/2: 1 - f for x > 0, else e - e·f."""
    e, rest = _exp_pair(-absolute(x), RANGE[x.format.scalar][0], 0, 1)
    f = e / (e + 1)
    down = 1 - f
    return where(x > 0, down, e - (e * f - rest * down * down))


def erf(x: Term) -> Term:
    """x + x·P(x²) up to 0.875, then 1 - erfc|x|."""
    a = absolute(x)
    z = x * x
    scalar = x.format.scalar
    near = fma(a, polynomial(z, ERF[scalar]), a)
    if x.format is SINGLE:
        b = where(a > 4, 4, a)
        tail = _exp(polynomial(b, LOG_ERFC), 0, 0)
    else:
        b = where(a > 6, 6, a)
        tail = _exp(-(b * b), 0, 0) * _erfcx(b)
    return where(a < 0.875, near, 1 - tail).flip(x.sign())


def _erfcx(x: Term) -> Term:
    """exp(x²)·erfc x, 0.87 <= x <= 6, in double."""
    return polynomial((x - 2.5) / (x + 3), ERFCX)


def _round(x: Term) -> Term:
    """Halves to even. Adding 2^(digits - 1) leaves no room for a fraction."""
    a = absolute(x)
    large = 2.0**x.format.stored
    return where(a < large, ((a + large) - large).flip(x.sign()), x)


def floor(x: Term) -> Term:
    near = _round(x)
    return where(near > x, near - 1, near)


def ceil(x: Term) -> Term:
    near = _round(x)
    return where(near < x, _signed(near + 1, x), near)


def _signed(result: Term, x: Term) -> Term:
    """A result that is 0 or has the sign of x, with the sign of x."""
    return (result.bits() | x.sign()).number()


def trunc(x: Term) -> Term:
    a = absolute(x)
    near = _round(a)
    return where(near > a, near - 1, near).flip(x.sign())


def pow(x: Term, y: Term) -> Term:
    """exp(y·log|x|) with the sign of an odd power; floats in double, doubles with a log in two."""
    if x.format is SINGLE:
        k, m, _ = _parts(absolute(x).cast("fpext", "double"))
        log = _log(k, m - 1, short=True)
        inside = _exp(y.cast("fpext", "double") * log, *RANGE["double"], short=True)
        return _pow_special(x, y, log.cast("fptrunc", "float"), inside.cast("fptrunc", "float"))
    log, low = _precise_log(absolute(x))
    y_head, head = y.head(), log.head()
    first = y_head * head
    second = y_head * ((log - head) + low) + (y - y_head) * log
    exponent = first + second
    rest = (first - exponent) + second
    return _pow_special(x, y, log, _exp(exponent, *RANGE["double"], rest=rest))


def _pow_special(x: Term, y: Term, log: Term, inside: Term) -> Term:
    """All cases of pow (IEEE 754-2019, 9.2.1), given log|x| and |x|^y where both are ordinary."""
    a = absolute(x)
    exponent = y * where(a.equals(0), -math.inf, where(a.equals(math.inf), math.inf, log))
    result = where(exponent > 800, math.inf, where(exponent < -800, 0, inside))
    broken = _round(y).compare("une", y)
    half = y * 0.5
    odd = where(broken, 0, where(_round(half).compare("une", half), x.sign(), 0))
    result = result.flip(odd)
    undefined = (x < 0) & (a < math.inf) & broken | x.compare("uno", y)
    result = where(undefined, math.nan, result)
    one = a.equals(1) & absolute(y).equals(math.inf) | x.equals(1) | y.equals(0)
    return where(one, 1, result)


def _precise_log(x: Term) -> tuple[Term, Term]:
    """log x as a sum of two doubles, to about 2^-64 of it, for finite x > 0.

    As `_log`, with 2s + s³·R(s²) in parts: products of heads, which have 26 bits, are exact.
    """
    k, m = _all_parts(x)
    f = m - 1
    d = f + 2
    d_head = d.head()
    s = (f / d).head()
    s_low = ((f - s * d_head) - s * (f - (d_head - 2))) / d
    square = s * s
    z = square.head()
    z_low = (square - z) + s_low * (s + s + s_low)
    q = (z + z_low) * polynomial(z + z_low, PRECISE_LOG)
    r_sum = q + 2 / 3
    r = r_sum.head()
    r_low = (r_sum - r) + (q - (r_sum - 2 / 3)) + 3.700743415417188e-17  # 2/3 less its double
    cube_sum = s * z
    cube = cube_sum.head()
    cube_low = (cube_sum - cube) + (s * z_low + s_low * (z + z_low))
    low = s_low * 2 + (cube * r_low + cube_low * r_sum)
    total, error = two_sum(k * HALVES["double"][0], s * 2)
    total, another = two_sum(total, cube * r)
    low = low + (error + another + k * HALVES["double"][1])
    result = total + low
    return result, (total - result) + low


# P in erfinv y = y·P(w), w = -log(1 - y²) <= 5, and in y·P(√w - 3) above; for floats, in double.
ERFINV = (
    (
        -8.79065613387602e-09, 2.210224114539984e-07, -1.976385405044172e-06, 3.982853635249359e-06,
        4.45663571138954e-05, -0.0001274836598064303, -0.002334294164416016, 0.011548652885241751,
        0.23201381821308498, 0.8862269204971758,
    ),
    (
        0.00012896210636393837, -0.0003187215945865196, -7.661649404372654e-05,
        0.0014958544488593837, -0.0035869891526988324, 0.005683173446968803, -0.007639409699418301,
        0.00944568397661423, 1.00167508672425, 2.8329767956993797,
    ),
)  # fmt: skip
# Starting points for doubles: erfinv y = y·P(w) up to erf 0.875, and r·P(1/r) with
# r = √-log(1 - y) above.
ERFINV_CENTRE = (
    -0.0024549733917869645,
    0.011594796058466486,
    0.2320076903445764,
    0.8862270491290233,
)
ERFINV_TAIL = (
    -0.406745468817388, 1.8288527263236882, -3.626433320356245, 4.271211242579049,
    -3.529978348408739, 2.3741045860609225, -1.220476388653809, -0.05543898466914179,
    1.0012818650838113,
)  # fmt: skip


def erfinv(y: Term) -> Term:
    """Polynomials in the variables of M. Giles, "Approximating the erfinv function" (GPU Computing
    Gems, 2010); for doubles they are starting points."""
    single = y.format is SINGLE
    if single:
        y = y.cast("fpext", "double")
    a = absolute(y)
    k, m, _ = _parts((1 - a) * (1 + a))
    w = -_log(k, m - 1, short=single)
    if single:
        centre = w < 5
        u = where(centre, w, sqrt(w) - 3)
        p = u.like(0)
        for inner, outer in zip(*ERFINV, strict=True):
            p = fma(p, u, where(centre, u.like(inner), outer))
        inside = p * a
    else:
        inside = where(a < 0.7840750610598597, _erfinv_centre(a, w), _erfinv_tail(a))
    beyond = where(a.equals(1), math.inf, y.like(math.nan))
    result = where(a < 1, inside, beyond).flip(y.sign())
    return result.cast("fptrunc", "float") if single else result


def _improved(x: Term, residual: Term) -> Term:
    """One step of Halley's for erf x = y; the residual is (y - erf x)·exp(x²)."""
    d = residual * (math.sqrt(math.pi) / 2)
    return fma(fma(x, d, 1), d, x)


def _erfinv_centre(a: Term, w: Term) -> Term:
    """Below erf 0.875, where erf x = x + x·P(x²): a - x is exact, only the small term rounded."""
    x = polynomial(w, ERFINV_CENTRE) * a
    z = x * x
    residual = (a - x) - x * polynomial(z, ERF["double"])
    return _improved(x, residual * _exp(z, 0, 0))


def _erfinv_tail(a: Term) -> Term:
    """Above, erfc x = q = 1 - a is solved, so that a small q keeps its digits."""
    q = 1 - a
    k, m, _ = _parts(q)
    r = sqrt(-_log(k, m - 1))
    x = polynomial(1 / r, ERFINV_TAIL) * r
    e, rest = _exp_pair(x * x, 0, 40, 1)
    return _improved(x, (_erfcx(x) - q * e) - q * rest)


FUNCTIONS: dict[str, Callable[..., Term]] = {
    "exp": exp, "expm1": expm1, "log": log, "log1p": log1p, "sqrt": sqrt, "pow": pow,
    "tanh": tanh, "sinh": sinh, "cosh": cosh, "sigmoid": sigmoid, "erf": erf, "erfinv": erfinv,
    "floor": floor, "ceil": ceil, "trunc": trunc, "round": _round,
    "sin": trigonometry.sin, "cos": trigonometry.cos, "tan": trigonometry.tan,
    "arcsin": trigonometry.arcsin, "arccos": trigonometry.arccos, "arctan": trigonometry.arctan,
    "atan2": trigonometry.arctan2,
}  # fmt: skip
"""What `emit` knows, by the names of the gates."""

ULP: dict[str, tuple[float, float]] = {
    "exp": (1.5, 1.4), "expm1": (1.6, 2.0), "log": (1.0, 0.9), "log1p": (1.6, 1.6),
    "sqrt": (0.5, 0.5), "pow": (0.6, 2.0), "tanh": (1.4, 1.4), "sinh": (1.6, 1.6),
    "cosh": (1.3, 1.3), "sigmoid": (1.8, 1.8), "erf": (1.3, 1.2), "erfinv": (0.6, 1.4),
    "floor": (0, 0), "ceil": (0, 0), "trunc": (0, 0), "round": (0, 0), "sin": (0.51, 0.8),
    "cos": (0.51, 0.8), "tan": (0.51, 1.1), "arcsin": (1.3, 1.3), "arccos": (1.3, 1.3),
    "arctan": (1.6, 1.7), "atan2": (1.6, 1.7),
}  # fmt: skip
"""The largest errors of float and double, in spacings of the result, on any kind of machine."""


def emit(name: str, f: Function, *x: Value) -> Value:
    """The function of this name of operands of one type: float or double, a scalar or a vector."""
    if name not in FUNCTIONS:
        raise CompileError(
            f"received the function {name!r}, expected one of {', '.join(FUNCTIONS)}"
        )
    return FUNCTIONS[name](*(Term(f, v) for v in x)).value
