"""The rows of the course, with their numbers. The pages in docs/ show the same to readers."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr


class TestGates:
    def test_g1(self) -> None:
        x, y, z = cr.tensor(-2.0), cr.tensor(5.0), cr.tensor(-4.0)
        q = x + y
        f = q * z
        f.backward()
        assert (float(q), float(f)) == (3, -12)
        assert [float(t.grad) for t in (f, z, q, x, y)] == [1, 3, -4, -4, -4]

    def test_g2_every_wire_of_the_drawn_graph(self) -> None:
        w0, x0, w1, x1, w2 = (cr.tensor(np.float64(v)) for v in (2.0, -1.0, -3.0, -2.0, -3.0))
        a, b = w0 * x0, w1 * x1
        c = a + b
        d = c + w2
        e = -d
        g = cr.exp(e)
        h = 1 + g
        out = 1 / h
        out.backward()
        values = [float(t) for t in (a, b, c, d, e, g, h, out)]
        assert np.round(values, 2).tolist() == [-2, 6, 4, 1, -1, 0.37, 1.37, 0.73]
        wires = [float(t.grad) for t in (out, h, g, e, d, c, a, b)]
        assert np.round(wires, 2).tolist() == [1, -0.53, -0.53, -0.2, 0.2, 0.2, 0.2, 0.2]
        grads = [float(t.grad) for t in (w0, x0, w1, x1, w2)]
        assert np.round(grads, 2).tolist() == [-0.2, 0.39, -0.39, -0.59, 0.2]
        one = cr.sigmoid(w0 * x0 + w1 * x1 + w2)
        one.backward()
        assert float(one) == pytest.approx(float(out), rel=1e-15)
        assert [float(t.grad) for t in (w0, x0, w1, x1, w2)] == pytest.approx(grads, rel=1e-14)

    def test_g4_fan_out_adds(self) -> None:
        x = cr.tensor(3.0)
        (x * x + 5 * x).backward()
        assert float(x.grad) == 11

    def test_g5_a_wrong_backward_is_named(self) -> None:
        class Half(cr.Gate):
            def forward(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
                self.x, self.y = x, y
                return x * y

            def backward(self, upstream: np.ndarray) -> list[np.ndarray]:
                return [upstream * self.x, upstream * self.y]  # the wrong way round

        with pytest.raises(cr.errors.CheckError, match=r"argument 0"):
            cr.check_gradients(Half(), 2.0, 3.0, every_entry=True)

    def test_g6_walked_both_ways(self) -> None:
        x, y, z = cr.tensor(-2.0), cr.tensor(5.0), cr.tensor(-4.0)
        graph = ((x + y) * z).graph
        assert [n.name for n in graph.nodes] == ["add", "mul"]
        assert [float(n.value) for n in graph.nodes] == [3, -12]
        assert [float(graph.evaluate()[0])] == [-12]
        assert all("test_course.py" in n.line for n in graph.nodes)


class TestJacobians:
    def test_j1_shapes(self) -> None:
        r = np.random.default_rng(0)
        A = r.normal(size=(4, 3))
        J = cr.jacobian(lambda x: A @ x)(r.normal(size=3))
        assert (J.shape, J.out_shape, J.in_shape) == ((4, 3), (4,), (3,))
        assert np.array_equal(np.asarray(J), A)
        J = cr.jacobian(lambda m: (m**3).sum())(A)
        assert (J.shape, J.todense().shape) == ((1, 12), (4, 3))
        assert np.allclose(J.todense(), 3 * A**2, rtol=1e-15)
        J = cr.jacobian(lambda m: m @ r.normal(size=3))(A)
        assert (J.shape, J.todense().shape) == ((4, 12), (4, 4, 3))

    def test_j2_predicts_a_small_change(self) -> None:
        r = np.random.default_rng(1)
        A, x, step = r.normal(size=(4, 3)), r.normal(size=3), r.normal(size=3)

        def f(x: object) -> cr.Tensor:
            return cr.tanh(A @ x)

        J = cr.jacobian(f)(x)
        errors = [
            np.abs(np.asarray(f(x + h * step) - f(x) - J @ (h * step))).max()
            for h in (1e-3, 1e-4, 1e-5)
        ]
        assert errors[0] / errors[1] == pytest.approx(100, rel=0.05)
        assert errors[1] / errors[2] == pytest.approx(100, rel=0.05)

    def test_j4_numbers_and_formulas(self) -> None:
        W = cr.tensor(np.array([[0.1, 0.5], [-0.3, 0.8]]))
        x = cr.tensor(np.array([0.2, 0.4]))
        q = W @ x
        f = (q * q).sum()
        f.backward()
        assert np.allclose(q, [0.22, 0.26], rtol=1e-14)
        assert float(f) == pytest.approx(0.116, rel=1e-14)
        assert np.allclose(W.grad, [[0.088, 0.176], [0.104, 0.208]], rtol=1e-14)
        assert np.allclose(x.grad, [-0.112, 0.636], rtol=1e-14)
        w, v = W.numpy(), x.numpy()
        by_w = cr.jacobian(lambda w: w @ v)(w).todense()
        assert np.array_equal(by_w, np.einsum("ki,j->kij", np.eye(2), v))
        assert np.array_equal(cr.jacobian(lambda v: w @ v)(v).todense(), w)
        assert np.allclose(W.grad, 2 * np.outer(q, v)) and np.allclose(x.grad, 2 * w.T @ q.numpy())

    def test_j8_both_gradients_of_a_layer(self) -> None:
        r = np.random.default_rng(2)
        X, W, U = r.normal(size=(5, 3)), r.normal(size=(3, 2)), r.normal(size=(5, 2))
        _, pull = cr.vjp(lambda X, W: cr.relu(X @ W), X, W)
        dX, dW = pull(U)
        delta = U * (X @ W > 0)
        assert np.allclose(dX, delta @ W.T, rtol=1e-14)
        assert np.allclose(dW, X.T @ delta, rtol=1e-14)
