"""Formulas of gradients: the course's, word for word; and every formula by its numbers."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.explain.derive import Derivation, derive

CLOSE = 1e-11


def gradients(d: Derivation) -> list[str | None]:
    return [line.matrix for line in d.of("gradient")]


def j4() -> Derivation:
    W, x = cr.tensor(np.array([[0.1, 0.5], [-0.3, 0.8]])), cr.tensor(np.array([0.2, 0.4]))
    q = W @ x
    f = (q * q).sum()
    return derive(f, names={"W": W, "x": x, "q": q, "f": f})


def j7() -> Derivation:
    r = np.random.default_rng(0)
    u, W, x, b = (cr.tensor(r.normal(size=n)) for n in (3, (3, 2), 2, 3))
    z = W @ x + b
    h = cr.tanh(z)
    s = u @ h
    return derive(s, names={"u": u, "W": W, "x": x, "b": b, "z": z, "h": h, "s": s})


def test_j4_in_both_forms() -> None:
    d = j4()
    assert gradients(d) == ["∂f/∂W = 2 q xᵀ", "∂f/∂x = 2 Wᵀ q"]
    assert [x.index for x in d.of("gradient")] == [
        "∂f/∂W_ij = 2 q_i x_j", "∂f/∂x_i = 2 Σ_j W_ji q_j",
    ]  # fmt: skip
    assert [x.matrix for x in d.of("value")] == ["q = W x", "f = Σ q²"]
    by_w, by_x = (x.value for x in d.of("gradient"))
    assert np.allclose(by_w, [[0.088, 0.176], [0.104, 0.208]])
    assert np.allclose(by_x, [-0.112, 0.636])
    assert d.verify() < CLOSE


def test_j7_shares_the_upstream_gradient() -> None:
    d = j7()
    assert [x.matrix for x in d.of("shared")] == ["δ = ∂s/∂z = u ∘ (1 − h²)"]
    assert set(gradients(d)) == {
        "∂s/∂u = h", "∂s/∂W = δ xᵀ", "∂s/∂x = Wᵀ δ", "∂s/∂b = δ",
    }  # fmt: skip
    assert d.verify() < CLOSE


def test_j5_both_conventions_stand_side_by_side() -> None:
    assert "  ∂f/∂W: 1×4 and 2×2" in j4().conventions()
    assert "Jacobian form" in str(j4())


def test_j8_both_gradients_of_a_layer() -> None:
    r = np.random.default_rng(1)
    X, W, U = (
        cr.tensor(r.normal(size=(5, 3))),
        cr.tensor(r.normal(size=(3, 2))),
        r.normal(size=(5, 2)),
    )
    Y = X @ W
    f = (Y * U).sum()
    d = derive(f, names={"X": X, "W": W, "U": U, "Y": Y, "f": f})
    assert gradients(d) == ["∂f/∂X = U Wᵀ", "∂f/∂W = Xᵀ U"]
    assert d.verify() < CLOSE


def test_g2_fine_and_collapsed_have_the_same_numbers() -> None:
    values = (2.0, -1.0, -3.0, -2.0, -3.0)
    fine = derive(lambda w0, x0, w1, x1, w2: 1 / (1 + cr.exp(-(w0 * x0 + w1 * x1 + w2))))(*values)
    one = derive(lambda w0, x0, w1, x1, w2: cr.sigmoid(w0 * x0 + w1 * x1 + w2))(*values)
    assert [x.name for x in one.of("gradient")] == [
        f"∂f/∂{n}" for n in ("w0", "x0", "w1", "x1", "w2")
    ]
    assert one.of("shared")[0].matrix == "δ = ∂f/∂w2 = f·(1 − f)"
    for a, b in zip(fine.of("gradient"), one.of("gradient"), strict=True):
        assert np.allclose(a.value, b.value, rtol=1e-12)
    expected = [-0.20, 0.39, -0.39, -0.59, 0.20]
    assert [round(float(x.value), 2) for x in one.of("gradient")] == expected
    assert fine.verify() < CLOSE and one.verify() < CLOSE


def test_a_network_with_a_batch() -> None:
    r = np.random.default_rng(2)
    X, Y = r.normal(size=(5, 3)), r.normal(size=(5, 2))
    W1, b, W2 = (cr.tensor(r.normal(size=n)) for n in ((3, 4), 4, (4, 2)))
    H = cr.relu(X @ W1 + b)
    S = H @ W2
    L = ((S - Y) ** 2).mean()
    d = derive(L, names={"X": X, "Y": Y, "W1": W1, "b": b, "W2": W2, "H": H, "S": S, "L": L})
    assert gradients(d)[0] == "∂L/∂W1 = Xᵀ δ"
    assert "[H > 0]" in str(d.of("shared")[0].matrix)
    assert d.verify() < CLOSE


@pytest.mark.parametrize("f", [
    lambda x: (cr.exp(x) / cr.exp(x).sum())[0],
    lambda x: nn.softmax_cross_entropy(x.reshape(1, 4), np.array([2])),
    lambda x: ((x - x.mean()) / cr.sqrt(((x - x.mean()) ** 2).mean() + 1e-5)) @ np.arange(4.0),
    lambda x: cr.max(x) + cr.min(x),
    lambda x: cr.cumulative_sum(x)[2],
    lambda x: (x[::2] * x[1::2]).sum(),
    lambda x: cr.flip(x) @ x,
    lambda x: cr.where(x > 0, x * x, -x).sum(),
    lambda x: cr.concat([x, x * 2]).sum(),
    lambda x: (x[:, None] * x[None, :] * np.arange(16.0).reshape(4, 4)).sum(),
    lambda x: x[np.array([0, 0, 3])].sum(),
    lambda x: cr.maximum(x, 0.3).sum() + cr.abs(x).sum(),
    lambda x: (x ** 3 + 2 ** x).sum(), lambda x: cr.logaddexp(x[0], x[1]),
    lambda x: cr.sort(x) @ np.arange(4.0), lambda x: (x * 0.0).sum(), lambda x: x[1],
])  # fmt: skip
def test_every_formula_by_its_numbers(f: Any) -> None:
    x = np.array([0.3, -0.7, 1.2, 0.5])
    d = derive(f)(x)
    assert d.verify() < CLOSE
    expected = cr.grad(lambda v: f(v).sum())(cr.asarray(x)).numpy()
    assert np.allclose(d.of("gradient")[0].value, expected, rtol=1e-10, atol=1e-12)
    for line in d.lines:
        assert line.matrix or line.index or line.reason
        ET.fromstring(f"<p>{line.mathml}</p>")


UNARY = ["exp", "sin", "cos", "tanh", "sigmoid", "relu", "square", "log1p", "expm1", "atan", "erf",
         "softplus", "abs"]  # fmt: skip
STEPS: list[Any] = [
    *(lambda x, y, n=n: getattr(cr, n)(x * x * 0.3 if n == "log1p" else x * 0.3) for n in UNARY),
    lambda x, y: x + y, lambda x, y: x * y, lambda x, y: x - 2.0 * y, lambda x, y: x / (y * y + 1),
    lambda x, y: x @ y, lambda x, y: x.T, lambda x, y: x @ y[0], lambda x, y: x.sum(axis=0) + y,
    lambda x, y: x.sum(axis=1, keepdims=True) * y, lambda x, y: cr.maximum(x, y),
    lambda x, y: cr.flip(x, axis=0), lambda x, y: x[1:] @ y[:, :2],
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 9), st.integers(0, 9)),
                min_size=1, max_size=7))  # fmt: skip
def test_random_programs(steps: Any) -> None:
    r = np.random.default_rng(0)
    x, y = cr.tensor(r.normal(size=(3, 3))), cr.tensor(r.normal(size=(3, 3)))
    pool: list[Any] = [x, y]
    for which, a, b in steps:
        first, second = pool[a % len(pool)], pool[b % len(pool)]
        made = STEPS[which](first, second)
        if made.shape == (3, 3):
            pool.append(made)
        else:
            pool.append(pool[0] * made.sum())
    f = (pool[-1] * y).sum()
    d = derive(f, names={"x": x, "y": y, "f": f})
    assert d.verify() < CLOSE
    f.backward()
    for line, v in zip(d.of("gradient"), (x, y), strict=False):
        if line.name == "∂f/∂x" and v.grad is not None:
            size = np.abs(v.grad.numpy()).max() or 1
            assert np.allclose(line.value, v.grad.numpy(), rtol=1e-9, atol=1e-10 * size)


def test_latex_and_mathml() -> None:
    d = j7()
    text = d.latex()
    assert (
        text.startswith("\\begin{aligned}")
        and r"\frac{\partial s}{\partial W} &= \delta \, x^{\top}" in text
    )
    assert text.count("{") == text.count("}")
    assert ET.fromstring(f"<div>{d.mathml()}</div>").findall("p/math")
    assert d._repr_latex_().startswith("$$") and "<math displ" in d._repr_html_()


def test_functions_and_what_to_derive_by() -> None:
    one = derive(lambda W, x: (W @ x).sum(), wrt=1)(np.ones((2, 3)), np.ones(3))
    assert [x.name for x in one.of("gradient")] == ["∂f/∂x"]
    a, b = cr.tensor(1.0), cr.tensor(2.0)
    f = a * b
    assert gradients(derive(f, wrt=b, names={"a": a, "b": b, "f": f})) == ["∂f/∂b = a"]


def test_bad_input() -> None:
    x = cr.tensor(1.0)
    with pytest.raises(cr.errors.GradientError, match="received int"):
        derive(3)
    with pytest.raises(cr.errors.ShapeError, match="wrt=5 is no argument"):
        derive(lambda x: x, wrt=5)(1.0)
    with pytest.raises(cr.errors.GradientError, match="does not depend"):
        derive(x * 2, wrt=cr.tensor(2.0))
    with pytest.raises(cr.errors.GraphError, match="several outputs"):
        p = cr.remat(lambda x: (x * 2, x + 1))(x)
        derive(p[0] * p[1])


def test_constants_have_names_of_their_own_and_a_legend() -> None:
    r = np.random.default_rng(0)
    x = cr.tensor(r.normal(size=3))
    f: Any = 0.0
    for _ in range(15):
        f = f + (x * r.normal(size=3)).sum()
    found = derive((f + (x * np.full(3, 2.5)).sum() + (x * np.eye(3)[0]).sum()) / 3, names={"x": x})
    assert found.verify() < 1e-12
    text = str(found)
    assert "A1 is a constant: 3, from " in text and "with 1 ones and 2 zeros" in text
    assert "2.5" in text and "/3" in text


def test_numbers_near_one_over_a_whole_number_are_written_so() -> None:
    x = cr.tensor(np.ones(6, np.float32))
    found = derive((x * x).mean() - x[0] / 7, names={"x": x})
    assert "0.1666" not in str(found) and "0.1428" not in str(found) and found.verify() < 1e-6


def test_casts_between_dtypes() -> None:
    w = cr.tensor(np.array([1.0, 2.0, 3.0], np.float32))
    x = np.array([0.5, -1.0, 2.0])
    found = derive((w.astype(np.float64) * x).sum(), names={"w": w, "x": x})
    assert gradients(found) == ["∂f/∂w = x"] and found.verify() < 1e-7
