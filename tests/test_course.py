"""The rows of the course, with their numbers. The pages in docs/ show the same to readers."""

from __future__ import annotations

from pathlib import Path

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

    def test_j3_the_jacobian_of_a_minibatch(self) -> None:
        x = np.random.default_rng(4).normal(size=(100, 4096)).astype(np.float32)
        one, J = cr.jacobian(cr.relu)(x[0]), cr.jacobian(cr.relu)(x)
        assert (one.shape, J.shape) == ((4096, 4096), (409_600, 409_600))
        assert one.structure == J.structure == "diagonal"
        assert J.formula() == "∂y_ij/∂x_kl = δ_ik δ_jl A_ij, with A: 100×4096"
        assert (J.nbytes, J.dense_nbytes) == (409_600, 671_088_640_000)
        assert np.array_equal(J.diagonal(), (x > 0).astype(np.float32))
        with pytest.raises(cr.errors.ShapeError, match="671 GB"):
            J.todense()

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
        by_w, by_x = cr.jacobian(lambda w: w @ v)(w), cr.jacobian(lambda v: w @ v)(v)
        assert np.array_equal(by_w.todense(), np.einsum("ki,j->kij", np.eye(2), v))
        assert np.array_equal(by_x.todense(), w)
        assert by_w.formula("q", "W") == "∂q_k/∂W_ij = δ_ki A_j, with A: 2"
        assert by_x.formula("q", "x") == "∂q_k/∂x_j = A_kj, with A: 2×2"
        squares = cr.jacobian(lambda w: ((w @ v) ** 2).sum())(w)
        assert squares.formula("f", "W") == "∂f/∂W_ij = 2 A_i B_j, with A: 2, B: 2"
        assert np.allclose(W.grad, 2 * np.outer(q, v)) and np.allclose(x.grad, 2 * w.T @ q.numpy())

    def test_j5_jacobian_form_and_shape_convention(self) -> None:
        A = np.random.default_rng(5).normal(size=(2, 3))
        J = cr.jacobian(lambda m: (m * m).sum())(A)
        row, gradient = J.jacobian_form(), J.shape_convention()
        assert (row.shape, gradient.shape) == ((1, 6), (2, 3))
        assert np.array_equal(row.reshape(2, 3), gradient)
        assert np.array_equal(gradient.reshape(1, 6), row)
        assert np.allclose(gradient, 2 * A, rtol=1e-15)
        # the chain rule as a product of matrices
        W = np.random.default_rng(6).normal(size=(2, 3))
        inner = cr.jacobian(lambda w: w * W)(A / W)
        assert np.allclose((J @ inner).jacobian_form(), row.numpy() @ np.diag(W.ravel()))

    def test_j6_an_activation_is_a_diagonal(self) -> None:
        z = np.linspace(-2, 2, 7)
        J = cr.jacobian(cr.sigmoid)(z)
        slope = (s := 1 / (1 + np.exp(-z))) * (1 - s)
        assert J.structure == "diagonal"
        assert J.formula("h", "z") == "∂h_k/∂z_j = δ_kj A_k, with A: 7"
        assert np.allclose(J.todense(), np.diag(slope)) and np.allclose(J @ z, slope * z)
        gate = cr.sigmoid(cr.tensor(z)).node.local(0)
        assert gate.structure == "diagonal" and np.allclose(np.ones(7) @ gate, slope)

    def test_j7_the_upstream_gradient_is_shared(self) -> None:
        r = np.random.default_rng(7)
        u, W, x, b = (r.normal(size=n) for n in (3, (3, 4), 4, 3))
        z = W @ x + b
        delta = u * (1 - np.tanh(z) ** 2)
        by_z = cr.jacobian(lambda z: u @ cr.tanh(z))(z).jacobian_form()[0]
        assert np.allclose(by_z, delta)
        layers = {
            "W": (cr.jacobian(lambda w: w @ x + b)(W), np.outer(delta, x), "δ_ki A_j, with A: 4"),
            "b": (cr.jacobian(lambda b: W @ x + b)(b), delta, "δ_kj"),
            "x": (cr.jacobian(lambda x: W @ x + b)(x), W.T @ delta, "A_kj, with A: 3×4"),
        }
        for name, (J, expected, formula) in layers.items():
            assert J.formula("z", name).split(" = ")[1] == formula
            assert np.allclose(by_z @ J, expected)
        s = cr.jacobian(lambda h: u @ h)(np.tanh(z))
        assert np.allclose(s.shape_convention(), u)

    def test_j8_both_gradients_of_a_layer(self) -> None:
        r = np.random.default_rng(2)
        X, W, U = r.normal(size=(5, 3)), r.normal(size=(3, 2)), r.normal(size=(5, 2))
        _, pull = cr.vjp(lambda X, W: cr.relu(X @ W), X, W)
        dX, dW = pull(U)
        delta = U * (X @ W > 0)
        assert np.allclose(dX, delta @ W.T, rtol=1e-14)
        assert np.allclose(dW, X.T @ delta, rtol=1e-14)


def ring(n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """A disc in a ring: points (n, 2) and their class, 1 inside."""
    r = np.random.default_rng(0)
    angle, inner = r.uniform(0, 2 * np.pi, n), np.arange(n) < n // 2
    radius = np.where(inner, 0.5, 1.5) + r.normal(size=n) * 0.1
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return points.astype("f"), inner.astype(int)


class TestNetworks:
    """N5, N6 and N7 stand in tests/nn/test_notes.py and test_losses.py."""

    def test_n3_layers_without_activations_are_one(self) -> None:
        r = np.random.default_rng(8)
        W1, W2 = r.normal(size=(5, 3)), r.normal(size=(2, 5))
        stack = cr.jacobian(lambda x: W2 @ (W1 @ x))
        here, there = stack(np.zeros(3)), stack(r.normal(size=3))
        assert np.array_equal(here.todense(), there.todense())
        assert np.allclose(here.todense(), W2 @ W1)
        assert here.formula() == "∂y_k/∂x_j = A_jk, with A: 3×2" and here.nbytes == 2 * 3 * 8
        bent = cr.jacobian(lambda x: W2 @ cr.relu(W1 @ x))
        assert not np.array_equal(bent(np.ones(3)).todense(), bent(-np.ones(3)).todense())

    def fitted(self, model: cr.nn.Module) -> float:
        x, y = ring()
        optimizer = cr.optim.Adam(model, lr=0.01)
        cr.train.fit(model, (x, y), epochs=60, optimizer=optimizer, progress=False)
        return float(cr.nn.accuracy(model(x), y))

    def test_n1_a_line_does_not_separate_a_ring(self) -> None:
        assert self.fitted(cr.nn.Linear(2, 2, seed=0)) < 0.7

    def test_n1_ten_templates(self) -> None:
        digits = cr.data.digits()
        model = cr.nn.Linear(64, 10, seed=0)
        cr.train.fit(model, digits, epochs=40, progress=False)
        assert cr.nn.accuracy(model(digits.inputs), digits.targets) > 0.9
        # the score of a class is the product of its template with the image, plus its bias
        templates = model.weight.numpy().T.reshape(10, 8, 8)
        image = digits.inputs[3].reshape(8, 8)
        scores = (templates * image).sum((1, 2)) + model.bias.numpy()
        assert np.allclose(scores, model(digits.inputs[3:4])[0], atol=1e-5)

    def test_n2_two_layers_do(self) -> None:
        nn = cr.nn
        model = nn.Sequential(nn.Linear(2, 16), nn.relu, nn.Linear(16, 2), seed=0)
        assert self.fitted(model) == 1.0
        boundary = np.asarray(model(np.array([[0, 0], [2, 2], [-2, 0]], "f"))).argmax(-1)
        assert boundary.tolist() == [1, 0, 0]
        hidden = nn.Sequential(nn.Linear(64, 100), nn.relu, nn.Linear(100, 10), seed=0)
        assert hidden[0].weight.numpy().T.reshape(100, 8, 8).shape == (100, 8, 8)

    @pytest.mark.parametrize(
        ("name", "values", "slopes"),
        [
            ("sigmoid", (0.11920, 0.73106), (0.10499, 0.19661)),
            ("tanh", (-0.96403, 0.76159), (0.07065, 0.41997)),
            ("relu", (0, 1), (0, 1)),
            ("leaky_relu", (-0.02, 1), (0.01, 1)),
            ("elu", (-0.86466, 1), (0.13534, 1)),
            ("gelu", (-0.04550, 0.84134), (-0.08523, 1.08332)),
            ("silu", (-0.23841, 0.73106), (-0.09078, 0.92767)),
            ("softplus", (0.12693, 1.31326), (0.11920, 0.73106)),
        ],
    )
    def test_n4_activations(self, name: str, values: object, slopes: object) -> None:
        f = getattr(cr.nn, name)
        p = np.array([-2.0, 1.0])
        assert np.allclose(f(p), values, atol=1e-5)
        assert np.allclose(cr.vmap(cr.grad(f))(p), slopes, atol=1e-5)

    def test_n10_three_steps_of_each_update(self) -> None:
        expected = {
            "SGD": 0.5120, "Momentum": 0.0620, "Nesterov": -0.1084, "AdaGrad": 0.7805,
            "RMSProp": 0.0, "Adam": 0.7016, "AdamW": 0.6989,
        }  # fmt: skip
        for name, value in expected.items():
            w = cr.Parameter(np.float64(1.0), name="w")
            optimizer = getattr(cr.optim, name)([w], lr=0.1)
            for _ in range(3):
                optimizer.zero_grad()
                (w * w).backward()
                optimizer.step()
            assert float(w) == pytest.approx(value, abs=6e-5), name


@pytest.mark.parametrize("name", ["g1", "g2"])
def test_the_drawn_graphs_are_as_kept(name: str) -> None:
    """docs/pictures holds the pictures of G1 and G2 as the program draws them."""
    if name == "g1":
        x, y, z = cr.tensor(-2.0), cr.tensor(5.0), cr.tensor(-4.0)
        q = x + y
        f = q * z
        picture = f.show()
    else:
        w0, x0, w1, x1, w2 = (cr.tensor(v) for v in (2.0, -1.0, -3.0, -2.0, -3.0))
        out = 1 / (1 + cr.exp(-(w0 * x0 + w1 * x1 + w2)))
        picture = out.show()
    kept = Path(__file__).parent.parent / "docs" / "pictures" / f"{name}.svg"
    assert picture.svg.strip() == kept.read_text().strip()
