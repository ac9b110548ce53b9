"""NumPy's functions that the standard does not name: values, dtypes and gradients as NumPy's."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import DTypeError, ShapeError, UnsupportedError
from chainrule.ops.numpy_functions import OWN

RNG = np.random.default_rng(0)
V, M, B = RNG.normal(size=7), RNG.normal(size=(4, 6)), RNG.normal(size=(2, 4, 3))
HOLES = np.array([[1.0, np.nan, -np.inf], [np.inf, -0.0, 2.5]])

CASES = {
    "degrees": lambda: (np.degrees, [V], [M]),
    "rad2deg": lambda: (np.rad2deg, [V]),
    "radians": lambda: (np.radians, [V], [M]),
    "deg2rad": lambda: (np.deg2rad, [M]),
    "sinc": lambda: (np.sinc, [np.array([0.0, 0.5, -1.0, 2.0, 1e-9])], [M]),
    "logaddexp2": lambda: (np.logaddexp2, [M, M[::-1]], [V * 500, -V]),
    "fmax": lambda: (np.fmax, [M, M[::-1]], [HOLES, HOLES[::-1]], [M, 0.5]),
    "fmin": lambda: (np.fmin, [M, M[::-1]], [HOLES, HOLES[::-1]], [M, 0.5]),
    "nan_to_num": lambda: (
        np.nan_to_num, [HOLES], [HOLES, True, 1.0, 7.0, -7.0], [M], [np.arange(3)],
    ),
    "clip": lambda: (
        np.clip, [M, -0.5, 0.5], [M, None, 0.5], [M, -0.5, None], [M, M[:1] - 1, M[1:2] + 1],
    ),
    "clip by name": lambda: (lambda x: np.clip(x, a_min=-0.5, a_max=0.5), [M]),
    "pad": lambda: (
        np.pad, [V, 2], [M, (1, 2)], [M, ((1, 0), (0, 3))], [M, 1, "constant"],
        [np.ones((0, 2)), 1],
    ),
    "pad with a value": lambda: (lambda x: np.pad(x, 1, constant_values=2.0), [B]),
    "pad by axis": lambda: (lambda x: np.pad(x, {-1: (1, 2), 0: 1}), [B]),
    "atleast_1d": lambda: (np.atleast_1d, [np.float64(2.0)], [V], [M]),
    "atleast_2d": lambda: (np.atleast_2d, [np.float64(2.0)], [V], [M], [B]),
    "atleast_3d": lambda: (np.atleast_3d, [np.float64(2.0)], [V], [M], [B]),
    "vstack": lambda: (lambda *x: np.vstack(x), [V, V], [M, M], [np.float64(1), np.float64(2)]),
    "hstack": lambda: (lambda *x: np.hstack(x), [V, V[:2]], [M, M], [np.float64(1), V], [B, B]),
    "dstack": lambda: (lambda *x: np.dstack(x), [V, V], [M, M], [B, B]),
    "column_stack": lambda: (lambda *x: np.column_stack(x), [V, V], [M, M[:, 0]]),
    "hstack of rows": lambda: (np.hstack, [M], [V]),
    "append": lambda: (np.append, [V, M], [M, M[:1], 0], [M, M, -1]),
    "array_split": lambda: (
        np.array_split, [V, 3], [M, 4, 1], [M, [1, 3]], [V, 9], [V, np.int64(2)],
    ),
    "split": lambda: (
        np.split, [M, 2], [M, 3, 1], [V, [2, 5]], [V, np.array([1, 9])], [M, np.int8(2)],
    ),
    "vsplit": lambda: (np.vsplit, [M, 2], [B, [1]]),
    "hsplit": lambda: (np.hsplit, [M, 2], [V, [1, 4]], [B, 2]),
    "dsplit": lambda: (np.dsplit, [B, 3], [B, [1]]),
    "rot90": lambda: (np.rot90, *([M, k] for k in range(-3, 5)), [B, 1, (1, 2)], [B, 3, (2, 0)]),
    "rollaxis": lambda: (
        np.rollaxis, *([B, a, s] for a in (-1, 0, 1, 2) for s in (-1, 0, 1, 2, 3)), [M, 1],
    ),
    "kron": lambda: (np.kron, [M, M[:2]], [V, M], [M, V], [B, M], [V, 2.0], [3.0, M]),
    "cross": lambda: (np.cross, [B, B[::-1]], [B[0], B[:, :1, :]]),
    "cross along axes": lambda: (
        lambda x, y: np.cross(x, y, axisa=0, axisb=1, axisc=0),
        [M[:3], M[:, :3][[0, 1, 2, 3, 0, 1]]],
    ),
    "cross along an axis": lambda: (lambda x: np.cross(x, x[::-1] * x, axis=0), [M[:3]]),
    "einsum": lambda: (
        lambda x, y: np.einsum("ij,kj->ik", x, y, optimize=True), [M, M[:2]], [M, M],
    ),
    "einsum by numbers": lambda: (
        lambda x, y: np.einsum(x, [0, 1], y, [2, 1], [2, 0]), [M, M[:2]],
    ),
    "einsum without an output": lambda: (
        lambda x, y: np.einsum(x, [..., 3], y, [3, 7]), [M, M.T], [B, B[0].T],
    ),
    "inner": lambda: (np.inner, [V, V], [M, M[:2]], [M, 2.0], [2.0, V], [B, V[:3]]),
    "vdot": lambda: (np.vdot, [V, V[::-1]], [M, M * 2]),
    "cumprod": lambda: (np.cumprod, [V], [M], [M, 1], [M, 0]),
    "norm": lambda: (np.linalg.norm, [V], [M], [V, 1], [M, None, 1], [M, None, (0, 1)], [M, 3, 0]),
    "sort": lambda: (np.sort, [M], [M, None], [M, 0]),
    "argsort": lambda: (np.argsort, [M], [M, None], [M, 0]),
    "float_power": lambda: (np.float_power, [M * M + 1, 1.5], [np.arange(4), 20], [V * V, V]),
    "fabs": lambda: (np.fabs, [M], [np.arange(-2, 3)]),
    "rint": lambda: (np.rint, [V * 3], [np.arange(-2, 3)]),
    "roll by two numbers": lambda: (lambda x: np.roll(x, (1, 2)), [M], [V]),
    "diff beside numbers": lambda: (lambda x: np.diff(x, prepend=0, append=1.5), [V], [M]),
    "real": lambda: (np.real, [M]),
    "conj": lambda: (np.conj, [M]),
}  # fmt: skip


def parts(x):
    return list(x) if isinstance(x, (list, tuple)) else [x]


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name):
    function, *calls = CASES[name]()
    for args in calls:
        floats = [k for k, a in enumerate(args) if isinstance(a, (np.ndarray, np.float64))
                  and np.asarray(a).dtype.kind == "f"]  # fmt: skip
        given = [cr.tensor(a) if k in floats else cr.asarray(a) if k == 0 else a
                 for k, a in enumerate(args)]  # fmt: skip
        received = function(*given)
        expected = function(*args)
        assert isinstance(received, (list, tuple)) == isinstance(expected, (list, tuple))
        for x, y in zip(parts(received), parts(expected), strict=True):
            assert isinstance(x, cr.Tensor)
            assert (x.shape, x.dtype) == (np.shape(y), np.asarray(y).dtype)
            np.testing.assert_allclose(x, y, rtol=1e-13, atol=1e-15)
        if floats and not any(np.isnan(args[k]).any() or np.isinf(args[k]).any() for k in floats):

            def total(*xs, args=args, floats=floats):
                full = list(args)
                for k, x in zip(floats, xs, strict=True):
                    full[k] = x
                return sum((x * x).sum() + cr.sin(x).sum() for x in parts(function(*full)))

            chosen = [args[k] for k in floats]
            assert cr.check_gradients(total, *chosen), name
            compiled = cr.compile(lambda *xs, total=total: cr.grad(total)(*xs))
            np.testing.assert_allclose(
                compiled(*chosen), cr.grad(total)(*chosen), rtol=1e-10, atol=1e-12
            )


def test_a_stack_of_another_dtype():
    received = np.vstack([cr.tensor(V), V], dtype="f4")
    assert received.dtype == np.float32
    np.testing.assert_array_equal(received, np.vstack([V, V], dtype="f4"))


def test_derivatives_at_the_hole_of_sinc():
    first, second = cr.grad(np.sinc), cr.grad(cr.grad(np.sinc))
    assert float(first(0.0)) == 0
    np.testing.assert_allclose(second(cr.asarray(0.0, dtype="f8")), -(np.pi**2) / 3, rtol=1e-12)


def test_every_function_of_its_own_has_a_case():
    tested = {CASES[name]()[0].__name__ for name in CASES} | set(CASES)
    alone = {"conjugate", "copy", "astype", "broadcast_to", "isclose", "take", "transpose"}
    others = {k for k, f in OWN.items() if f.__module__.endswith("compositions")}
    assert others - alone <= tested


BAD = [
    (lambda x: np.pad(x, 1, "reflect"), UnsupportedError, r"one number .* mode='reflect'"),
    (lambda x: np.pad(x, 1, constant_values=(1, 2)), UnsupportedError, r"one number around it"),
    (lambda x: np.cross(x, x), ShapeError, r"vectors of 3 entries, received \(4, 6\)"),
    (lambda x: np.split(x, 3), ShapeError, r"axis of 4 into 3 equal parts"),
    (lambda x: np.array_split(x, 0), ShapeError, r"axis of 4 into 0 parts"),
    (lambda x: cr.split(x, 2.5), DTypeError, r"a number of parts, or indices .* received 2.5"),
    (lambda x: np.linalg.norm(x, "fro"), UnsupportedError, r"ord=fro takes vectors"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(cr.tensor(M))
