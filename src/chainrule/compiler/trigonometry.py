"""Sine, cosine, tangent and their inverses as formulas; see mathematics.py.

The coefficients are made as said there.
"""

from __future__ import annotations

import math

import numpy as np

from .formula import (
    SINGLE,
    Term,
    absolute,
    any_lane,
    fma,
    polynomial,
    shifted,
    sqrt,
    two_sum,
    where,
)
from .ir import Function, Module, Value

# S in sin r = r + r³·S(r²) and C in cos r = 1 - r²/2 + r⁴·C(r²), |r| <= π/4. For floats they are
# used in double, too.
SIN = {
    "float": (
        2.7183408850265857e-06, -0.0001983933882658189, 0.008333329402698592, -0.16666666641839176,
    ),
    "double": (
        -7.578829803709272e-13, 1.6058369472026517e-10, -2.5052104935803616e-08,
        2.755731921429329e-06, -0.00019841269841255294, 0.008333333333333323, -0.16666666666666666,
    ),
}  # fmt: skip
COS = {
    "float": (2.4439394107083296e-05, -0.0013887377169702077, 0.041666647105757536),
    "double": (
        -1.1361297394437774e-11, 2.087575795813418e-09, -2.7557314633654795e-07,
        2.480158729057395e-05, -0.001388888888887613, 0.041666666666666616,
    ),
}  # fmt: skip
# P in arcsin x = x + x³·P(x²), |x| <= 1/2.
ARCSIN = {
    "float": (0.042157874, 0.024188349, 0.04546746, 0.07495335, 0.1666675),
    "double": (
        0.03251226443284205, -0.020798782855451763, 0.021554440008724574, 0.0037747495745286503,
        0.010760469134070721, 0.011402800437504577, 0.013980292311047108, 0.017351661550793346,
        0.022372211841874018, 0.030381942837668898, 0.0446428571713733, 0.0749999999997504,
        0.1666666666666674,
    ),
}  # fmt: skip
# P in arctan x = x + x³·P(x²), |x| <= 1.
ARCTAN = {
    "float": (
        -0.0018326651, 0.011089645, -0.031504467, 0.058285717, -0.08422611, 0.10958727, -0.14265484,
        0.19998664, -0.33333302,
    ),
    "double": (
        1.3590432369887698e-05, -0.00015582509176379172, 0.0008483231856473946,
        -0.002933335926807813, 0.0072911853867411456, -0.01403532256202158, 0.022129233906354434,
        -0.030022635605555223, 0.036717774507602725, -0.04222957898744066, 0.0472378893247564,
        -0.052539594582655016, 0.05880629301832744, -0.06666421630102319, 0.07692282069515444,
        -0.09090907202821882, 0.11111111018984544, -0.1428571428301326, 0.199999999999599,
        -0.33333333333333126,
    ),
}  # fmt: skip
HALF_PI = {"float": (1.5707963705062866, -4.3711390001862426e-08),
           "double": (1.5707963267948966, 6.123233995736766e-17)}  # fmt: skip
"""π/2 rounded, and what is missing."""

PARTS = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
"""π/2 in three parts; the first two have 33 bits, so products with n < 2^20 are exact."""
MODERATE = 2.0**14
"""Up to here n·PARTS is enough; beyond, the bits of 2/π are needed (`_reduce_large`)."""


def _bits_of_two_over_pi(count: int) -> int:
    """⌊2/π · 2^count⌋, with π by Machin's formula 16 arctan(1/5) - 4 arctan(1/239)."""
    one = 1 << (count + 64)

    def arctan_inverse(n: int) -> int:
        total, term, k = 0, one // n, 1
        while term:
            total += term // k if k % 4 == 1 else -(term // k)
            term //= n * n
            k += 2
        return total

    pi = 16 * arctan_inverse(5) - 4 * arctan_inverse(239)
    return (one << count + 1) // pi


def _reduced(x: Term) -> tuple[Term, Term, Term]:
    """r, its error, and an integer whose lowest two bits are those of n: x = n·π/2 + r + error.

    x is double; |r| <= π/4 (a little more at the ends). The error is below half a unit of r.
    """
    n, quadrant = shifted(x, 2 / math.pi)
    first, second, third = PARTS
    high, low = two_sum(x - n * first, -(n * second))
    low = low - n * third
    r = high + low
    low = (high - r) + low
    f, lanes = x.f, x.value.lanes
    a = absolute(x)
    variables = [f.slot(t.value.type, t.value) for t in (r, low, quadrant)]
    with f.when(any_lane((a > MODERATE) & (a < math.inf))):
        # The function gets memory of its own, so that the variables above can be registers.
        memory = [f.slot(t.value.type) for t in (x, r, low, quadrant)]
        for pointer, term in zip(memory, (x, r, low, quadrant), strict=True):
            f.set(pointer, term.value)
        f.invoke(_reduce_large(f.module), [*memory, Value(str(lanes), "i64")])
        for variable, pointer, term in zip(variables, memory[1:], (r, low, quadrant), strict=True):
            f.set(variable, f.get(pointer, term.value.type))
    r, low, quadrant = (
        Term(f, f.get(v, t.value.type)) for v, t in zip(variables, (r, low, quadrant), strict=True)
    )
    return r, low, quadrant


def _reduce_large(module: Module) -> str:
    """The name of a function (x, r, error, quadrant, count): the reduction of large x in an array.

    Each x of size m·2^e, an integer m of 53 bits: of 2/π only 192 bits matter, those from the
    weight 2^(1 - e) on; larger ones give multiples of 4 (M. Payne and R. Hanek, "Radian reduction
    for trigonometric functions", SIGNUM Newsletter 18, 1983). Entries up to MODERATE stay as
    they are, and those not finite.
    """
    key = "reduce_large"
    if key in module.shared:
        return module.shared[key]
    module.shared[key] = key
    f = module.function(
        key, [("ptr", "x"), ("ptr", "r"), ("ptr", "low"), ("ptr", "quadrant"), ("i64", "count")],
        attributes="noinline cold",
    )  # fmt: skip
    source, r_out, low_out, quadrant_out, count = f.parameters
    # Bit j of the table, from the most significant bit of its first word on, has weight
    # 2^(63 - j); x of exponent e needs those from weight 2^(1 - e) on: j = 62 + e.
    words = 20
    bits = _bits_of_two_over_pi(64 * (words - 1))
    table = module.table(
        np.array([(bits >> 64 * (words - 1 - j)) & (2**64 - 1) for j in range(words)], np.uint64)
    )
    with f.loop(0, count) as i:
        x = Term(f, f.load(f.at(source, i, "double"), "double"))
        a = absolute(x)
        with f.when(((a > MODERATE) & (a < math.inf)).value):
            _reduce_one(f, x, table, [f.at(p, i, "double") for p in (r_out, low_out)],
                        f.at(quadrant_out, i, "i64"))  # fmt: skip
    return key


def _reduce_one(f: Function, x: Term, table: Value, out: list[Value], out_quadrant: Value) -> None:
    """The reduction of one large double."""
    a = absolute(x).bits()
    significand = (a & ((1 << 52) - 1)) | (1 << 52)
    start = (a >> 52) - (1075 - 62)  # 62 + e
    word, shift = start >> 6, start & 63
    loaded = [Term(f, f.load(f.at(table, f.add(word.value, k), "i64"), "i64")) for k in range(4)]

    def wide(t: Term) -> Term:
        return t.cast("zext", "i128")

    window = [
        Term(f, f.intrinsic("llvm.fshl", loaded[k].value, loaded[k + 1].value, shift.value))
        for k in range(3)
    ]
    # significand · window modulo 2^192, less its lowest word
    m = wide(significand)
    low = wide(window[2]) * m
    middle = wide(window[1]) * m + (low >> 64)
    product = middle + (wide(window[0] * significand) << 64)
    # product · 2^-126 = n + fraction, |fraction| <= 1/2
    n = (product + (1 << 125)) >> 126
    fraction = product - (n << 126)
    negative = fraction.compare("slt", 0)
    size = where(negative, 0 - fraction, fraction)
    zeros = Term(f, f.call("llvm.ctlz.i128", [size.value, Value("true", "i1")], "i128"))
    size = size << zeros
    lead = (size >> 75).cast("trunc", "i64").cast("sitofp", "double")
    rest = ((size >> 22) & ((1 << 53) - 1)).cast("trunc", "i64").cast("sitofp", "double")
    # the first stands for lead·2^(75 - zeros - 126), the second for rest·2^(22 - zeros - 126)
    unit = (((1023 - 51) - zeros.cast("trunc", "i64")) << 52).number()
    lead, rest = lead * unit, rest * (unit * 2.0**-53)
    # times π/2, in products of half significands
    whole, missing = HALF_PI["double"]
    pi_head = math.ldexp(math.floor(math.ldexp(whole, 25)), -25)
    head = lead.head()
    product_head = head * pi_head
    tail = head * (whole - pi_head) + (lead - head) * pi_head
    tail = tail + ((lead - head) * (whole - pi_head) + lead * missing + rest * whole)
    r = product_head + tail
    error = (product_head - r) + tail
    sign = x.sign() ^ where(negative, error.like(-0.0).bits(), error.like(0.0).bits())
    quadrant = n.cast("trunc", "i64")
    f.store(r.flip(sign).value, out[0])
    f.store(error.flip(sign).value, out[1])
    f.store(where(x < 0, 0 - quadrant, quadrant).value, out_quadrant)


def _sine(r: Term, error: Term | None) -> tuple[Term, Term]:
    """sin(r + error) as r and what to add; without an error for a result in float."""
    z = r * r
    if error is None:
        return r, r * z * polynomial(z, SIN["float"])
    return r, fma(r * z, polynomial(z, SIN["double"]), error * fma(z, -0.5, 1))


def _cosine(r: Term, error: Term | None) -> tuple[Term, Term]:
    """cos(r + error) as a rounded 1 - r²/2 and what to add."""
    z = r * r
    if error is None:
        return fma(z, -0.5, 1), z * z * polynomial(z, COS["float"])
    half = z * 0.5
    start = 1 - half
    return start, ((1 - start) - half) + (z * z * polynomial(z, COS["double"]) - r * error)


def _circular(x: Term, start: int) -> Term:
    """sin(x + start·π/2)."""
    if x.format is SINGLE:
        r, _, quadrant = _reduced(x.cast("fpext", "double"))
        error = None
    else:
        r, error, quadrant = _reduced(x)
    sine, cosine = _sine(r, error), _cosine(r, error)
    quadrant = quadrant + start
    odd = (quadrant & 1).compare("ne", 0)
    first, second = (where(odd, c, s) for s, c in zip(sine, cosine, strict=True))
    result = (first + second).flip((quadrant & 2) << 62)
    return result.cast("fptrunc", "float") if x.format is SINGLE else result


def sin(x: Term) -> Term:
    result = _circular(x, 0)
    return where(x.equals(0), x, result)


def cos(x: Term) -> Term:
    return _circular(x, 1)


def tan(x: Term) -> Term:
    """sin/cos or -cos/sin, by the quadrant; for doubles with the error of the quotient."""
    single = x.format is SINGLE
    r, error, quadrant = _reduced(x.cast("fpext", "double") if single else x)
    sine, cosine = _sine(r, None if single else error), _cosine(r, None if single else error)
    odd = (quadrant & 1).compare("ne", 0)
    top, top_low = (where(odd, c, s) for s, c in zip(sine, cosine, strict=True))
    bottom, bottom_low = (where(odd, -s, c) for s, c in zip(sine, cosine, strict=True))
    if single:
        result = ((top + top_low) / (bottom + bottom_low)).cast("fptrunc", "float")
    else:
        a, b = top + top_low, bottom + bottom_low
        a_low, b_low = (top - a) + top_low, (bottom - b) + bottom_low
        q = a / b
        q_head, b_head = q.head(), b.head()
        remainder = ((a - q_head * b_head) - q_head * (b - b_head)) - (q - q_head) * b
        result = q + (remainder + (a_low - q * b_low)) / b
    return where(x.equals(0), x, result)


def arcsin(x: Term) -> Term:
    """x + x³·P(x²) up to 1/2, then π/2 - 2 arcsin √((1 - |x|)/2)."""
    a = absolute(x)
    near = a < 0.5
    base, tail = _arcsin(a, near)
    whole, missing = HALF_PI[x.format.scalar]
    most = whole - 2 * base
    error = (whole - most) - 2 * base
    far = most - (2 * tail - (missing + error))
    return where(near, base + tail, far).flip(x.sign())


def _arcsin(a: Term, near: Term) -> tuple[Term, Term]:
    """arcsin a, or arcsin √((1 - a)/2) where a is not near 0, as two terms."""
    z = where(near, a * a, (1 - a) * 0.5)
    base = where(near, a, sqrt(z))
    return base, base * z * polynomial(z, ARCSIN[a.format.scalar])


def arccos(x: Term) -> Term:
    """π/2 - arcsin x up to 1/2; then 2 arcsin √((1 - |x|)/2), or π less that for x < 0."""
    a = absolute(x)
    near = a < 0.5
    base, tail = _arcsin(a, near)
    whole, missing = HALF_PI[x.format.scalar]
    signed, signed_tail = base.flip(x.sign()), tail.flip(x.sign())
    middle = whole - (signed - (missing - signed_tail))
    double = 2 * (base + tail)
    far = where(x < 0, 2 * ((whole - base) - (tail - missing)), double)
    return where(near, middle, far)


def arctan(x: Term) -> Term:
    """x + x³·P(x²) up to 1, then ±π/2 - arctan(1/x)."""
    a = absolute(x)
    far = a > 1
    t = where(far, 1 / a, a)
    return _arctan(t, far).flip(x.sign())


def _arctan(t: Term, complement: Term) -> Term:
    """arctan t, or π/2 less that, for 0 <= t <= 1."""
    z = t * t
    whole, missing = HALF_PI[t.format.scalar]
    tail = t * z * polynomial(z, ARCTAN[t.format.scalar])
    return where(complement, whole - (t - (missing - tail)), t + tail)


def arctan2(y: Term, x: Term) -> Term:
    """The angle of the point (x, y): arctan of the smaller over the larger, by the octant."""
    a, b = absolute(y), absolute(x)
    steep = a > b
    small, large = where(steep, b, a), where(steep, a, b)
    t = small / large
    t = where(small.equals(large), 1, t)  # ∞/∞
    t = where(large.equals(0), 0, t)
    whole, missing = HALF_PI[x.format.scalar]
    angle = _arctan(t, steep)
    left = x.sign().compare("ne", 0)
    angle = where(left, 2 * whole - (angle - 2 * missing), angle)
    return where(x.compare("uno", y), math.nan, angle.flip(y.sign()))
