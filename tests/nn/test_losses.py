"""Losses and penalties: numbers by hand, gradients, what is refused and how."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.types import ArrayType
from chainrule.errors import DataError, DTypeError, ShapeError, UnsupportedError
from chainrule.ops.tracing import trace

# three images (cat, car, frog), scores of three classes: the worked example of the SVM loss
SCORES = np.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
LABELS = np.array([0, 1, 2])


def test_hinge_by_hand():
    # cat: max(0, 5.1-3.2+1) + max(0, -1.7-3.2+1) = 2.9; car: 0; frog: 6.3 + 6.6 = 12.9
    each = nn.hinge(SCORES, LABELS, reduction="none")
    assert np.allclose(each, [2.9, 0, 12.9], rtol=0, atol=1e-14)
    assert float(nn.hinge(SCORES, LABELS)) == pytest.approx(15.8 / 3, rel=1e-15)
    assert float(nn.hinge(SCORES, LABELS, reduction="sum")) == pytest.approx(15.8, rel=1e-15)
    # cat with margin 2: 3.9 + max(0, -4.9 + 2)
    assert float(nn.hinge(SCORES[:1], [0], margin=2.0)) == pytest.approx(3.9, rel=1e-15)


def test_hinge_gradient_by_hand():
    s = cr.tensor(SCORES)
    nn.hinge(s, LABELS, reduction="sum").backward()
    assert s.grad.tolist() == [[-1, 1, 0], [0, 0, 0], [1, 1, -2]]


def test_cross_entropy_by_hand():
    p = np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True)
    expected = -np.log(p[range(3), LABELS])
    assert np.allclose(nn.softmax_cross_entropy(SCORES, LABELS, reduction="none"), expected)
    z = cr.tensor(SCORES)
    nn.softmax_cross_entropy(z, LABELS).backward()
    assert np.allclose(z.grad, (p - np.eye(3)) / 3, atol=1e-16)
    soft = cr.tensor(SCORES)
    q = np.array([[0.2, 0.3, 0.5], [1, 0, 0], [0.25, 0.25, 0.5]])
    loss = nn.softmax_cross_entropy(soft, q)
    loss.backward()
    assert float(loss) == pytest.approx(-(q * np.log(p)).sum() / 3)
    assert np.allclose(soft.grad, (p - q) / 3, atol=1e-16)
    hard = nn.softmax_cross_entropy(SCORES, np.eye(3), reduction="none")
    assert np.allclose(hard, expected, rtol=1e-14)


def test_cross_entropy_is_stable():
    z = cr.tensor(np.array([[1e300, 0.0], [-1e300, 0.0], [-np.inf, 0.0], [1e4, 1e4]]))
    loss = nn.softmax_cross_entropy(z, [0, 1, 1, 0], reduction="none")
    assert np.allclose(loss, [0, 0, 0, np.log(2)])
    loss.sum().backward()
    assert np.allclose(z.grad, [[0, 0], [0, 0], [0, 0], [-0.5, 0.5]])
    soft = nn.softmax_cross_entropy(np.array([[-np.inf, 0.0]]), np.array([[0.0, 1.0]]))
    assert float(soft) == 0
    assert float(nn.softmax_cross_entropy(np.array([[0.0, 1000.0]]), [0])) == 1000


def test_binary_hinge_by_hand():
    s, y = np.array([0.5, -2.0, 3.0]), np.array([1, 1, -1])
    assert nn.binary_hinge(s, y, reduction="none").tolist() == [0.5, 3, 4]
    assert float(nn.binary_hinge(s[:, None], y)) == 2.5
    assert nn.binary_hinge(s.astype("f"), y).dtype == np.float32


def test_squared_errors_by_hand():
    p, t = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 0.0], [3.0, 2.0]])
    assert float(nn.mean_squared_error(p, t)) == 9 / 4
    assert nn.mean_squared_error(p, t, reduction="none").tolist() == [2.5, 2]
    assert float(nn.mean_squared_error(p, t, reduction="sum")) == 4.5
    assert float(nn.summed_squared_error(p, t)) == 9
    assert nn.summed_squared_error(p, t, reduction="none").tolist() == [5, 4]
    assert float(nn.summed_squared_error(p, t, reduction="mean")) == 4.5
    assert float(nn.mean_squared_error(p[:, :1], t[:, 0])) == 0.5
    assert nn.mean_squared_error(p.astype("f"), t.astype(int)).dtype == np.float32
    assert float(nn.mean_squared_error(np.float64(3), np.float64(1))) == 4


def test_penalties_by_hand():
    w1, w2 = cr.Parameter([[1.0, -2.0], [0.0, 3.0]]), cr.Parameter([-4.0])
    assert float(nn.l2_penalty(w1)) == 14
    assert float(nn.l1_penalty(w1)) == 6
    assert float(nn.l2_penalty([w1, w2])) == 30
    assert float(nn.l1_penalty((w1, w2))) == 10
    model = nn.Sequential(nn.Linear(2, 2), nn.relu, nn.Linear(2, 1))
    model[0].weight.assign([[1, 2], [3, 4]])
    model[2].weight.assign([[-5], [6]])
    model[0].bias.assign([100, 100])
    assert float(nn.l2_penalty(model)) == 91
    assert float(nn.l1_penalty(model)) == 21


def test_total_loss_of_the_notes():
    """N7: the mean hinge loss + λ·R(W1) + λ·R(W2)."""
    rng = np.random.default_rng(0)
    w1, w2 = cr.tensor(rng.normal(size=(4, 5))), cr.tensor(rng.normal(size=(5, 3)))
    x, y, strength = rng.normal(size=(6, 4)), rng.integers(0, 3, 6), 0.1
    loss = (
        nn.hinge(nn.relu(x @ w1) @ w2, y)
        + strength * nn.l2_penalty(w1)
        + strength * (nn.l2_penalty(w2))
    )
    loss.backward()
    h = np.maximum(0, x @ w1.numpy())
    s = h @ w2.numpy()
    margins = np.maximum(0, s - s[range(6), y][:, None] + 1)
    margins[range(6), y] = 0
    total = margins.sum() / 6 + 0.1 * (w1.numpy() ** 2).sum() + 0.1 * (w2.numpy() ** 2).sum()
    assert float(loss) == pytest.approx(total, rel=1e-14)
    ds = (margins > 0) / 6.0
    ds[range(6), y] = -ds.sum(1)
    assert np.allclose(w2.grad, h.T @ ds + 0.2 * w2.numpy(), rtol=1e-13)
    dh = ds @ w2.numpy().T * (h > 0)
    assert np.allclose(w1.grad, x.T @ dh + 0.2 * w1.numpy(), rtol=1e-13)


Q = np.array([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0], [0.1, 0.1, 0.8]])
SIGNS = np.array([[1.0, -1, 1], [-1, -1, 1], [1, 1, -1]])
TARGETS = np.array([[0.3, 1, -2], [1, 1.4, 0], [5, 3, 1.1]])
GRADIENTS = {
    "hinge": lambda z: nn.hinge(z, LABELS),
    "hinge sum": lambda z: nn.hinge(z, LABELS, 0.7, reduction="sum"),
    "softmax_cross_entropy": lambda z: nn.softmax_cross_entropy(z, LABELS),
    "softmax_cross_entropy soft": lambda z: nn.softmax_cross_entropy(z, Q),
    "binary_hinge": lambda z: nn.binary_hinge(z, SIGNS),
    "mean_squared_error": lambda z: nn.mean_squared_error(z, TARGETS),
    "mean_squared_error none": lambda z: nn.mean_squared_error(z, TARGETS, reduction="none"),
    "summed_squared_error": lambda z: nn.summed_squared_error(z, TARGETS),
    "l1_penalty": nn.l1_penalty,
    "l2_penalty": nn.l2_penalty,
}


def test_the_table_is_complete():
    losses = {"accuracy", *(name.split()[0] for name in GRADIENTS)}
    assert losses == set(nn.losses.__all__)


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name):
    loss = GRADIENTS[name]
    assert cr.check_gradients(loss, SCORES, every_entry=True)
    assert cr.check_gradients(cr.grad(lambda z: (loss(z) ** 2).sum()), SCORES)


def test_gradient_by_the_targets():
    assert cr.check_gradients(nn.mean_squared_error, SCORES, TARGETS, every_entry=True)

    def by_logits_of_q(z, a):
        return nn.softmax_cross_entropy(z, nn.softmax(a))

    assert cr.check_gradients(by_logits_of_q, SCORES, TARGETS, every_entry=True)


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 2], (0, 1, 2), np.uint8([0, 1, 2]), cr.asarray([0, 1, 2]), np.int32([0, 1, 2])],
)
@pytest.mark.parametrize("loss", [nn.hinge, nn.softmax_cross_entropy])
def test_labels_of_every_kind(loss, labels):
    assert float(loss(SCORES, labels)) == float(loss(SCORES, LABELS))


@pytest.mark.parametrize("loss", [nn.hinge, nn.softmax_cross_entropy])
def test_more_axes_and_one_example(loss):
    each = loss(SCORES, LABELS, reduction="none").numpy()
    many = loss(np.stack([SCORES, SCORES]), np.stack([LABELS, LABELS]), reduction="none")
    assert np.array_equal(many, [each, each])
    assert float(loss(SCORES[0], 0)) == pytest.approx(each[0], rel=1e-15)


@pytest.mark.parametrize("loss", [nn.hinge, nn.softmax_cross_entropy])
def test_labels_without_values_yet(loss):
    """While tracing, and under vmap, labels are not checked."""
    types = [ArrayType((3, 3), np.dtype("float64")), ArrayType((3,), np.dtype("int64"))]
    graph, _ = trace(lambda z, y: loss(z, y), types)
    graph.verify()
    assert float(graph.evaluate(SCORES, LABELS)[0]) == pytest.approx(float(loss(SCORES, LABELS)))
    each = cr.vmap(loss)(SCORES, LABELS)
    assert np.allclose(each, loss(SCORES, LABELS, reduction="none"))


def test_accuracy():
    assert nn.accuracy(SCORES, LABELS) == pytest.approx(1 / 3)
    assert nn.accuracy(cr.tensor(SCORES), [1, 1, 1]) == 1
    assert isinstance(nn.accuracy(SCORES, LABELS), float)


BAD = [
    (lambda f: f(SCORES, [0, 3, 1]), DataError,
     r"label 3 in row 1 is out of range: there are 3 classes, 0 to 2"),
    (lambda f: f(SCORES, [0, 1, -1]), DataError, r"label -1 in row 2 is out of range"),
    (lambda f: f(SCORES[None], [[0, 1, 9]]), DataError, r"label 9 in entry \(0, 2\)"),
    (lambda f: f(SCORES, np.array([0.0, 1.0, 2.0])), DTypeError,
     r"labels must be integers .* received float64; write labels.astype\(int\)"),
    (lambda f: f(SCORES, np.array([True, False, True])), DTypeError, r"integers .* received bool"),
    (lambda f: f(SCORES, [0, 1]), ShapeError, r"scores \(3, 3\) and labels \(2,\) do not fit"),
    (lambda f: f(SCORES, np.eye(3, dtype=int)), ShapeError, r"\(3, 3\) and labels \(3, 3\)"),
    (lambda f: f(np.float64(1), 0), ShapeError, r"scores \(\) and labels \(\)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD)
@pytest.mark.parametrize("loss", [nn.hinge, nn.softmax_cross_entropy, nn.accuracy])
def test_bad_labels(loss, call, error, message):
    with pytest.raises(error, match=message):
        call(loss)


OTHERS = [
    (lambda: nn.hinge(np.ones((2, 2), int), [0, 1]), DTypeError, r"scores must be floats.*int64"),
    (lambda: nn.hinge(SCORES, LABELS, reduction="avg"), UnsupportedError, r'received .avg'),
    (lambda: nn.softmax_cross_entropy(SCORES, Q[:2]), ShapeError,
     r"logits \(3, 3\) and probabilities \(2, 3\) must have one shape"),
    (lambda: nn.softmax_cross_entropy(SCORES, Q * 2), DataError, r"label in row 0 is no probab"),
    (lambda: nn.softmax_cross_entropy(SCORES, Q - [[0], [0.5], [0]]), DataError, r"in row 1"),
    (lambda: nn.softmax_cross_entropy(SCORES, Q * np.nan), DataError, r"in row 0"),
    (lambda: nn.binary_hinge([0.5, 1.0], [1, 0]), DataError,
     r"sign 0 in row 1 is neither 1 nor -1.*2\*labels - 1"),
    (lambda: nn.binary_hinge([0.5, 1.0], [1, 1, 1]), ShapeError,
     r"predictions \(2,\) and signs \(3,\) must have one shape"),
    (lambda: nn.mean_squared_error(np.ones((3, 1)), np.ones((1, 3))), ShapeError,
     r"predictions \(3, 1\) and targets \(1, 3\) must have one shape"),
    (lambda: nn.mean_squared_error(np.ones(3), np.ones((3, 1))), ShapeError, r"one shape"),
    (lambda: nn.summed_squared_error([1, 2], [1, 2]), DTypeError, r"predictions must be floats"),
    (lambda: nn.l2_penalty([]), DataError, r"at least one parameter"),
    (lambda: nn.l1_penalty(nn.Sequential(nn.relu)), DataError, r"of a Module: one with 2 axes"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), OTHERS)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
