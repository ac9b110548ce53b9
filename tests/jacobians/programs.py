"""Random programs over all differentiable primitives and what uses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np

from tests.jacobians.writer import LARGEST, NAMES, Program, UnfitError, Writer

STEPS: dict[str, Callable[[Writer], str]] = {}


def step(function: Callable[[Writer], str]) -> Callable[[Writer], str]:
    STEPS[function.__name__] = function
    return function


def program(random: Random, smooth: bool = True, longest: int = 7, scalar: bool = False,
            only: str | None = None) -> Program:  # fmt: skip
    """A program of up to three inputs and outputs (or, to differentiate twice, a `scalar` one)."""
    writer = Writer(random, smooth, ("Power", "Round") if scalar else ())
    for _ in range(1 + random.randrange(3)):
        writer.input()
    names = list(STEPS)
    for _ in range(1 + random.randrange(longest)):
        for _ in range(4):
            try:
                writer.add(STEPS[only or names[random.randrange(len(names))]](writer))
                break
            except UnfitError:
                continue
    made = [name for name, _ in writer.lines] or list(writer.inputs)
    if scalar:
        total = " + ".join(f"cr.sum(cr.sin({v}) * {v})" for v in made[-3:])
        return Program(writer.inputs, (*writer.lines, ("total", total)), ("total",))
    last = [made[-1], *(n for n in writer.values if n != made[-1] and random.randrange(4) == 1)]
    return Program(writer.inputs, tuple(writer.lines), tuple(last[:3]))


def programs_of(seed: int, count: int, **options: Any) -> Iterator[Program]:
    random = Random(seed)
    for _ in range(count):
        yield program(random, **options)


# -- entry by entry ----------------------------------------------------------------------------


def everywhere(x: Any) -> bool:
    return True


def within(low: float, high: float) -> Callable[[Any], bool]:
    return lambda x: bool(((x > low) & (x < high)).all())


def away(x: Any) -> bool:
    """Away from the pole at 0."""
    return bool((np.abs(x) > 1e-2).all())


def plus(x: Any) -> bool:
    return bool((x > 1e-2).all())


UNARY: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys((
        "cr.sin({})", "cr.cos({})", "cr.tanh({})", "cr.sigmoid({})", "cr.erf({})", "cr.atan({})",
        "cr.asinh({})", "cr.square({})", "-{}", "{} * 2", "1 - {}", "{} / 3", "{}**3", "{}**2",
        "cr.softplus({})", "cr.nn.silu({})", "cr.nn.gelu({})", "cr.positive({})", "{} * np.pi",
        "cr.stop_gradient({}) * {}", "cr.astype({}, cr.float64, copy=True)", "rounded({})",
        "cr.zeros_like({})", "Power()({}, {})", "Rotate()({}, {})[0]", "Rotate()({}, {})[1]",
        "cr.remat(lambda a: cr.tanh(a * 2) * a)({})", "cr.scale_gradient({}, {})",
        "cr.remat(lambda a, b: (cr.sin(a) * b, a + b))({}, {})[1]", "{} * True", "{} - {}",
    ), everywhere),
    **dict.fromkeys(
        ("cr.exp({})", "cr.expm1({})", "cr.sinh({})", "cr.cosh({})", "2.0**{}"), within(-4, 4)
    ),
    **dict.fromkeys(("cr.log({})", "cr.sqrt({})", "cr.log2({})", "{}**0.5", "{}**-1.5"), plus),
    **dict.fromkeys(("cr.reciprocal({})", "1 / {}", "{}**-2"), away),
    **dict.fromkeys(
        (
            "cr.asin({})", "cr.acos({})", "cr.erfinv({})", "cr.atanh({})", "cr.log1p({})",
            "cr.tan({})",
        ),
        within(-0.99, 0.99),
    ),
    "cr.acosh({})": within(1.01, 9e9),
}  # fmt: skip
STEEP = {
    "cr.abs({})": (0,), "cr.relu({})": (0,), "cr.sign({})": (0,), "cr.nn.leaky_relu({})": (0,),
    "cr.nn.elu({})": (0,), "cr.clip({}, -1, 1)": (-1, 1), "cr.clip({}, min=0.5)": (0.5,),
    "cr.maximum({}, 0.0)": (0,), "cr.where({} > 1, {}, -0.5)": (1,), "cr.minimum({}, 1)": (1,),
}  # fmt: skip
"""Functions with kinks, and where these are."""
STEPWISE = ("cr.floor({})", "cr.ceil({})", "cr.round({})", "cr.trunc({})", "Round()({})")


@step
def unary(w: Writer) -> str:
    text = w.one_of(UNARY)
    name, _ = w.pick(UNARY[text])
    return str(text.replace("{}", name))


@step
def kinked(w: Writer) -> str:
    name, x = w.pick()
    if w.random.randrange(4) == 0:
        w.far(x * 2, *np.round(x * 2).ravel())
        return str(w.one_of(STEPWISE).replace("{}", name))
    text = w.one_of(STEEP)
    w.far(x, *STEEP[text])
    return str(text.replace("{}", name))


@step
def binary(w: Writer) -> str:
    first, x = w.pick()
    text = w.one_of(("{} + {}", "{} - {}", "{} * {}", "{} * {}", "{} / {}", "cr.logaddexp({}, {})",
                     "cr.hypot({}, {})", "cr.atan2({}, {})", "cr.pow({}, {})", "Power()({}, {})",
                     "cr.where(numbers(*{}.shape) > 0, {}, {})", "cr.remainder({}, {})", "{} // {}",
                     "cr.copysign({}, {})", "{} * {} + {}", "cr.scale_gradient({}, {})",
                    ))  # fmt: skip

    def fits(y: Any) -> bool:
        try:
            shape = np.broadcast_shapes(x.shape, y.shape)
        except ValueError:
            return False
        return int(np.prod(shape)) <= LARGEST and ("Power" not in text or x.shape == y.shape)

    def with_axis(y: Any) -> bool:
        return y.ndim < 4 and fits(y[..., None])

    if w.random.randrange(4) == 0 and "Power" not in text:
        second, y = w.pick(with_axis)
        second, y = f"{second}[..., None]", y[..., None]
    else:
        second, y = w.pick(fits)
    if any(part in text for part in ("/", "atan2", "copysign", "hypot", "remainder")) and (
        not away(y) or ("hypot" in text and not away(x))
    ):
        raise UnfitError
    if "pow" in text and not (plus(x) and within(-3, 3)(y)):
        raise UnfitError
    if "remainder" in text or "//" in text:
        w.far(x / y, *np.round(x / y).ravel())
    if "copysign" in text:
        w.far(x, 0)
    if text.count("{}") == 3:
        return str(text.format(first, first, second))
    return str(text.format(first, second))


@step
def choice(w: Writer) -> str:
    first, x = w.pick()
    second, y = w.pick(lambda y: y.shape in ((), x.shape, x.shape[1:]))
    w.far(x - y, 0)
    return str(w.one_of((
        "cr.maximum({0}, {1})", "cr.minimum({1}, {0})", "cr.where({0} > {1}, {0}, {1} * 2)",
        "cr.clip({0}, min={1})", "cr.where(({0} < {1}) & ~({1} < {0}), {1}, 0.0)",
    )).format(first, second))  # fmt: skip


# -- reductions --------------------------------------------------------------------------------


def axes_of(w: Writer, x: Any) -> Any:
    """None, an axis, or several."""
    if not x.ndim or w.random.randrange(3) == 0:
        return None
    if w.flip() or x.ndim < 2:
        return w.axis(x)
    return tuple(sorted(w.random.sample(range(x.ndim), 2)))


@step
def reduction(w: Writer) -> str:
    kind = w.one_of(("sum", "sum", "mean", "max", "min", "var", "std", "prod", "logsumexp",
                     "linalg.vector_norm"))  # fmt: skip
    name, x = w.pick(lambda x: x.size > 0 or kind == "sum")
    axis = axes_of(w, x)
    if kind in ("max", "min"):
        w.apart(x, axis)
    if kind in ("std", "linalg.vector_norm") and x.size:
        found = np.std(x, axis) if kind == "std" else np.sqrt((x * x).sum(axis))
        if (found < 1e-2).any():
            raise UnfitError
    return f"cr.{kind}({name}, axis={axis}, keepdims={w.flip()})"


@step
def scores(w: Writer) -> str:
    name, x = w.pick(lambda x: x.ndim > 0 and x.size > 0)
    axis = w.axis(x)
    kind = w.one_of(("softmax", "log_softmax", "cumulative_sum", "cumulative_prod", "sort", "diff",
                     "layer_norm", "rms_norm", "backwards", "descending", "order"))  # fmt: skip
    if kind in ("sort", "descending", "order"):
        w.apart(x, axis)
    if kind == "order":
        return f"cr.take_along_axis({name}, cr.argsort({name}, axis={axis}), axis={axis}) * 2"
    if kind == "descending":
        return f"cr.sort({name}, axis={axis}, descending=True)"
    if kind == "backwards":
        return f"backwards({name}, {axis % x.ndim})"
    if kind.endswith("norm"):
        weight = w.operand(x.shape[-1]) if w.flip() else "None"
        return f"cr.nn.{kind}({name}, {weight})"
    more = ", include_initial=True" if "cumulative" in kind and w.flip() else ""
    return f"cr.{kind}({name}, axis={axis}{more})"


# -- moving ------------------------------------------------------------------------------------


def shape_of(w: Writer, size: int) -> tuple[int, ...]:
    """A random factorization."""
    shape: list[int] = []
    while size > 1:
        f = w.one_of([d for d in range(2, size + 1) if size % d == 0])
        shape.append(f)
        size //= f
    if w.random.randrange(3) == 0:
        shape.insert(w.random.randrange(len(shape) + 1), 1)
    return tuple(shape) if size else (0, 2)


@step
def reshape(w: Writer) -> str:
    name, x = w.pick()
    if x.size == 0:
        return f"cr.reshape({name}, {w.one_of(((0,), (2, 0), (0, 1, 3)))})"
    return f"cr.reshape({name}, {shape_of(w, x.size)})"


@step
def arrange(w: Writer) -> str:
    name, x = w.pick(lambda x: x.ndim > 0)
    axis, other, n = w.axis(x), w.axis(x), x.ndim
    order = tuple(w.random.sample(range(n), n))
    k = w.random.randrange(-2, 3)
    options = [
        f"cr.permute_dims({name}, {order})", f"cr.flip({name}, axis={axis})", f"cr.flip({name})",
        f"cr.roll({name}, {k}, axis={axis})", f"cr.roll({name}, {k})", f"{name}.T",
        f"cr.expand_dims({name}, {axis})", f"cr.squeeze({name})",
        f"cr.moveaxis({name}, {axis}, {other})", f"cr.swapaxes({name}, {axis}, {other})",
        f"cr.tile({name}, {w.one_of((2, (2, 1), (1, 2), (3,)))})",
        f"cr.repeat({name}, 2, axis={axis})", f"cr.repeat({name}, 2)",
        f"cr.repeat({name}, np.arange({x.shape[axis]}) % 3, axis={axis})",
        f"cr.broadcast_to({name}, {(w.one_of((1, 2, 3)), *x.shape)})",
        f"cr.broadcast_to({name}[..., None], {(*x.shape, w.one_of((1, 2, 3)))})",
    ]  # fmt: skip
    return str(w.one_of(options))


@step
def square(w: Writer) -> str:
    """Diagonals and triangles."""
    name, _ = w.pick(lambda x: x.ndim > 1)
    k = w.random.randrange(-2, 3)
    options = [
        f"cr.tril({name}, k={k})", f"cr.triu({name}, k={k})", f"cr.diagonal({name}, offset={k})",
        f"cr.trace({name}, offset={k})", f"cr.matrix_transpose({name})",
        f"cr.diagonal({name}, offset={k}, axis1=-1, axis2=0)",
    ]  # fmt: skip
    return str(w.one_of(options))


@step
def embed(w: Writer) -> str:
    name, _ = w.pick(lambda x: x.ndim == 1 and x.size < 6)
    return f"cr.diag({name}, {w.random.randrange(-1, 2)})"


@step
def pad(w: Writer) -> str:
    name, x = w.pick(lambda x: x.ndim > 0)
    widths = tuple((w.random.randrange(-1, 3), w.random.randrange(-1, 3)) for _ in x.shape)
    gaps = tuple(w.one_of((0, 0, 1, 2)) for _ in x.shape)
    return f"cr.pad({name}, {widths}, interior={gaps}, value={w.one_of((0.0, 1.5))})"


@step
def join(w: Writer) -> str:
    name, x = w.pick()
    kind = w.one_of(("stack", "concat", "unstack", "split", "meshgrid"))
    if kind == "stack":
        others = [w.pick(lambda y: y.shape == x.shape)[0] for _ in range(w.one_of((1, 2)))]
        return f"cr.stack([{', '.join([name, *others])}], axis={w.random.randrange(x.ndim + 1)})"
    if kind == "meshgrid":
        first, _ = w.pick(lambda y: y.ndim == 1)
        return f"cr.meshgrid({first}, {w.pick(lambda y: y.ndim == 1)[0]})[{w.random.randrange(2)}]"
    name, x = w.pick(lambda x: x.ndim > 0)
    axis = w.axis(x) % x.ndim
    n = x.shape[axis]
    if kind == "concat":
        rest = [s for a, s in enumerate(x.shape) if a != axis]
        others = [
            w.pick(lambda y: y.ndim == x.ndim
                   and [s for a, s in enumerate(y.shape) if a != axis] == rest)[0]
            for _ in range(w.one_of((1, 2)))
        ]  # fmt: skip
        return f"cr.concat([{', '.join([name, *others])}], axis={axis})"
    if kind == "split":
        return f"cr.split({name}, [{n // 2}], axis={axis})[{w.random.randrange(2)}]"
    parts = [w.random.randrange(n) for _ in range(2)] if n else w.one_of(())
    return f"(lambda p: cr.sin(p[{parts[0]}]) * p[{parts[1]}])(cr.unstack({name}, axis={axis}))"


# -- indexing ----------------------------------------------------------------------------------


def part(w: Writer, n: int) -> str:
    """An index along an axis of n."""
    kind = w.random.randrange(5)
    if kind == 0 and n:
        return str(w.random.randrange(-n, n))
    if kind == 1:
        return ":"
    if kind == 2 and n:
        count = w.random.randrange(5)
        table = [w.random.randrange(-n, n) for _ in range(count)]
        return f"np.array({table}, int)"
    ends = [w.one_of(("", *range(-n - 1, n + 2))) for _ in range(2)]
    return f"{ends[0]}:{ends[1]}:{w.one_of(('', 1, 2, -1, -2, -3))}"


def index(w: Writer, x: Any) -> str:
    count = 1 + w.random.randrange(x.ndim)
    parts = [part(w, n) for n in x.shape[:count]]
    arrays = [p for p in parts if p.startswith("np")]
    if len(arrays) > 1:  # as many entries each
        parts = [
            f"{arrays[0]} % {n}" if p.startswith("np") else p
            for p, n in zip(parts, x.shape, strict=False)
        ]
    if w.random.randrange(4) == 0:
        parts.insert(w.random.randrange(len(parts) + 1), "None")
    if w.random.randrange(4) == 0 and count == x.ndim:
        parts = ["...", part(w, x.shape[-1])]
    return ", ".join(parts)


@step
def select(w: Writer) -> str:
    name, x = w.pick(lambda x: x.ndim > 0)
    return f"{name}[{index(w, x)}]"


@step
def take(w: Writer) -> str:
    name, x = w.pick(lambda x: x.ndim > 0 and x.size > 0)
    axis = w.axis(x)
    n = x.shape[axis]
    kind = w.random.randrange(4)
    if kind == 0:
        table = [w.random.randrange(n) for _ in range(1 + w.random.randrange(4))]
        return f"cr.take({name}, np.array({table}), axis={axis})"
    if kind == 1:
        shape = list(x.shape)
        shape[axis] = 1 + w.random.randrange(3)
        table = [w.random.randrange(n) for _ in range(int(np.prod(shape)))]
        text = f"np.array({table}).reshape({tuple(shape)})"
        return f"cr.take_along_axis({name}, {text}, axis={axis})"
    if kind == 2:
        table = [w.random.randrange(3) for _ in range(x.shape[0])]
        return f"scatter({name}, np.array({table}), {w.one_of((3, 5))})"
    mask = [w.flip() for _ in range(x.shape[0])]
    return f"{name}[np.array({mask})]"


@step
def put(w: Writer) -> str:
    name, x = w.pick(lambda x: x.ndim > 0 and x.size > 0)
    place = index(w, x)
    shape = np.empty(x.shape)[eval(f"np.s_[{place}]", NAMES)].shape
    value = w.operand(*shape) if w.flip() else str(w.one_of((0.0, 2.0)))
    kind = w.one_of(("add", "set", "multiply"))
    if kind != "add" and "np.array" in place:  # a place that is written twice has no meaning
        place = place[: place.index("np.array")] + "1:"
        value = "3.0"
    return f"{name}.at[{place}].{kind}({value})"


# -- products ----------------------------------------------------------------------------------


@step
def einsum(w: Writer) -> str:
    sizes: dict[str, int] = {}
    names, operands = [], []
    for _ in range(w.one_of((1, 2, 2, 2, 3))):
        name, x = w.pick()
        letters = ""
        for n in x.shape:
            known = [c for c, m in sizes.items() if m == n]
            if known and w.random.randrange(3):
                c = w.one_of(known)
            else:
                c = "ijklmnopqrst"[len(sizes)]
            sizes[c] = n
            letters += c
        names.append(name)
        operands.append(letters)
    out = [c for c in sizes if w.flip()]
    w.random.shuffle(out)
    return f'cr.einsum("{",".join(operands)}->{"".join(out)}", {", ".join(names)})'


@step
def product(w: Writer) -> str:
    name, x = w.pick()
    n = x.shape[-1] if x.ndim else 1
    m = w.one_of((1, 2, 3))
    options = [f"cr.outer({name}, {w.pick()[0]})", f"cr.tensordot({name}, {w.pick()[0]}, axes=0)"]
    if x.ndim:
        options += [
            f"{name} @ {w.operand(n, m)}", f"{name} @ {w.operand(n)}",
            f"{w.operand(m, n)} @ {name}.T",
            f"cr.vecdot({name}, {w.operand(n)})", f"cr.dot({name}, {w.operand(n)})",
            f"cr.tensordot({name}, {w.operand(n, m)}, axes=1)",
            f"{name} @ {w.operand(n, m)} + {w.operand(m)}",
        ]  # fmt: skip
    if x.ndim > 1:
        options += [f"{name} @ cr.matrix_transpose({name})", f"{w.operand(x.shape[-2])} @ {name}"]
    return str(w.one_of(options))


# -- windows, layers ---------------------------------------------------------------------------


@step
def window(w: Writer) -> str:
    name, x = w.pick(lambda x: x.ndim > 0 and x.size > 0)
    axis = w.axis(x)
    if w.random.randrange(4) == 0 and x.ndim > 1:
        return f"fold({name}, {w.one_of((1, 2, 3))})"
    size, stride, dilation = w.one_of((1, 2, 3)), w.one_of((1, 1, 2, 3)), w.one_of((1, 1, 2))
    return f"cr.windows({name}, {size}, stride={stride}, dilation={dilation}, axis={axis})"


@step
def layer(w: Writer) -> str:
    name, x = w.pick(lambda x: x.ndim > 1 and x.size > 0)
    c, k, o = x.shape[-1], w.one_of((1, 2, 3)), w.one_of((1, 2))
    padding, stride, dilation = w.one_of((0, 1, '"same"')), w.one_of((1, 1, 2)), w.one_of((1, 1, 2))
    options = [
        f"cr.nn.conv1d({name}, {w.operand(k, c, o)}, stride={stride}, padding={padding}, "
        f"dilation={dilation})",
        f"cr.nn.conv_transpose1d({name}, {w.operand(k, o, c)}, stride={stride})",
        f"cr.nn.avg_pool1d({name}, {k}, stride={stride}, padding={w.one_of((0, 1))})",
        f"cr.nn.max_pool1d({name}, {k}, stride={stride})",
    ]
    if x.ndim == 2:
        labels = [w.random.randrange(c) for _ in range(x.shape[0])]
        options += [
            f"cr.nn.scaled_dot_product_attention({name}, {w.operand(*x.shape)}, {name})",
            f"cr.nn.scaled_dot_product_attention({name}, {name}, {name}, causal=True)",
            f"cr.nn.softmax_cross_entropy({name}, np.array({labels}))",
            f"cr.nn.mean_squared_error({name}, {w.operand(*x.shape)})",
            f"cr.nn.group_norm({name}, 1)",
        ]
    if x.ndim > 2:
        options += [
            f"cr.nn.conv2d({name}, {w.operand(k, w.one_of((1, 2)), c, o)}, stride={stride}, "
            f"padding={padding})",
            f"cr.nn.conv_transpose2d({name}, {w.operand(k, 2, o, c)}, stride={stride})",
            f"cr.nn.avg_pool2d({name}, {k}, stride={stride})",
            f"cr.nn.max_pool2d({name}, {k}, stride={stride})",
            f"cr.nn.global_avg_pool({name})",
        ]
    text = str(w.one_of(options))
    if "max_pool" in text:
        w.apart(x)
    return text


@step
def loop(w: Writer) -> str:
    name, x = w.pick(lambda x: x.ndim > 0 and x.size > 0)
    start = w.operand(*x.shape[1:])
    options = [
        f"cr.scan(lambda s, r: (cr.tanh(s + r), s * r), cr.zeros_like({name}[0]), {name})"
        f"[{w.random.randrange(2)}]",
        f"cr.scan(lambda s, r: (s * r + 1, s), {start}, {name}, reverse=True)"
        f"[{w.random.randrange(2)}]",
        f"cr.cond(cr.sum({name}) > 0.25, lambda a: a * {name}, lambda a: cr.sin(a), {name})",
    ]
    w.far(x.sum(), 0.25)
    return str(w.one_of(options))
