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
OF_CLASSES = [
    nn.hinge, nn.squared_hinge, nn.softmax_cross_entropy, nn.negative_log_likelihood,
]  # fmt: skip


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
WEIGHTS = np.array([0.5, 2.0, 1.25])
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
    "squared_hinge": lambda z: nn.squared_hinge(z, LABELS),
    "softmax_cross_entropy every option": lambda z: nn.softmax_cross_entropy(
        z, [0, -1, 2], weights=WEIGHTS, label_smoothing=0.1, ignore_index=-1
    ),
    "negative_log_likelihood": lambda z: nn.negative_log_likelihood(z, LABELS, weights=WEIGHTS),
    "binary_cross_entropy": lambda z: nn.binary_cross_entropy(
        z, Q, weights=WEIGHTS, positive_weight=2.0
    ),
    "kl_divergence": lambda z: nn.kl_divergence(z, Q),
    "mean_absolute_error": lambda z: nn.mean_absolute_error(z, TARGETS),
    "huber": lambda z: nn.huber(z, TARGETS, 1.3, reduction="none"),
}


def test_the_table_is_complete():
    losses = {"accuracy", *(name.split()[0] for name in GRADIENTS)}
    assert losses == {*nn.losses.__all__, *nn.penalties.__all__}
    assert {"accuracy", *(row[0] for row in PYTORCH)} == set(nn.losses.__all__)


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


LABELS6, WEIGHTS4 = np.array([0, 3, 1, -7, 2, 1]), np.array([0.5, 2.0, 0.0, 1.25])
CLASS6 = np.abs(LABELS6) % 4
Q6 = np.random.default_rng(1).dirichlet(np.ones(4), 6)
REAL6 = np.random.default_rng(2).normal(size=(6, 4)) * 2
ZERO_ONE = (Q6 > 0.3).astype(float)


def reduced(values, reduction):
    return values if reduction == "none" else getattr(values, reduction)()


# loss, target, options, the same in PyTorch: (functions, scores (6, 4), target, weights (4,),
# reduction). Its margin loss divides by the number of classes.
PYTORCH = [
    ("hinge", CLASS6, {"margin": 0.5},
     lambda f, z, t, w, r: 4 * f.multi_margin_loss(z, t, margin=0.5, reduction=r)),
    ("squared_hinge", CLASS6, {"margin": 0.5},
     lambda f, z, t, w, r: 4 * f.multi_margin_loss(z, t, p=2, margin=0.5, reduction=r)),
    ("binary_hinge", 2 * ZERO_ONE - 1, {},
     lambda f, z, t, w, r: reduced((1 - t * z).clamp(min=0), r)),
    ("softmax_cross_entropy", CLASS6, {},
     lambda f, z, t, w, r: f.cross_entropy(z, t, reduction=r)),
    ("softmax_cross_entropy", LABELS6, {"ignore_index": -7},
     lambda f, z, t, w, r: f.cross_entropy(z, t, ignore_index=-7, reduction=r)),
    ("softmax_cross_entropy", CLASS6, {"ignore_index": 1},
     lambda f, z, t, w, r: f.cross_entropy(z, t, ignore_index=1, reduction=r)),
    ("softmax_cross_entropy", CLASS6, {"weights": WEIGHTS4},
     lambda f, z, t, w, r: f.cross_entropy(z, t, weight=w, reduction=r)),
    ("softmax_cross_entropy", CLASS6, {"label_smoothing": 0.2},
     lambda f, z, t, w, r: f.cross_entropy(z, t, label_smoothing=0.2, reduction=r)),
    ("softmax_cross_entropy", LABELS6,
     {"ignore_index": -7, "weights": WEIGHTS4, "label_smoothing": 0.2},
     lambda f, z, t, w, r: f.cross_entropy(z, t, w, None, -7, None, r, 0.2)),
    ("softmax_cross_entropy", Q6, {}, lambda f, z, t, w, r: f.cross_entropy(z, t, reduction=r)),
    ("softmax_cross_entropy", Q6, {"weights": WEIGHTS4, "label_smoothing": 0.2},
     lambda f, z, t, w, r: f.cross_entropy(z, t, w, reduction=r, label_smoothing=0.2)),
    ("negative_log_likelihood", CLASS6, {}, lambda f, z, t, w, r: f.nll_loss(z, t, reduction=r)),
    ("negative_log_likelihood", LABELS6, {"ignore_index": -7, "weights": WEIGHTS4},
     lambda f, z, t, w, r: f.nll_loss(z, t, w, ignore_index=-7, reduction=r)),
    ("binary_cross_entropy", ZERO_ONE, {},
     lambda f, z, t, w, r: f.binary_cross_entropy_with_logits(z, t, reduction=r)),
    ("binary_cross_entropy", Q6, {"weights": WEIGHTS4, "positive_weight": WEIGHTS4 + 1},
     lambda f, z, t, w, r: f.binary_cross_entropy_with_logits(z, t, w, None, None, r, w + 1)),
    ("kl_divergence", Q6, {},
     lambda f, z, t, w, r: f.kl_div(z, t, reduction="batchmean") if r == "mean"
     else reduced(f.kl_div(z, t, reduction="none").sum(-1), r)),
    ("mean_squared_error", REAL6, {},
     lambda f, z, t, w, r: reduced(f.mse_loss(z, t, reduction="none").mean(-1), r)),
    ("summed_squared_error", REAL6, {},
     lambda f, z, t, w, r: reduced(f.mse_loss(z, t, reduction="none").sum(-1), r)),
    ("mean_absolute_error", REAL6, {},
     lambda f, z, t, w, r: reduced(f.l1_loss(z, t, reduction="none").mean(-1), r)),
    ("huber", REAL6, {"delta": 0.7},
     lambda f, z, t, w, r: reduced(f.huber_loss(z, t, "none", 0.7).mean(-1), r)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize(
    ("name", "target", "options", "theirs"), PYTORCH,
    ids=["_".join([row[0], *row[2]]) for row in PYTORCH],
)  # fmt: skip
def test_against_pytorch(name, target, options, theirs, reduction, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is an optional peer")
    z = (np.random.default_rng(0).normal(size=(6, 4)) * 3).astype(dtype)
    target = target if target.dtype.kind == "i" else target.astype(dtype)
    upstream = np.linspace(0.5, 1.5, 6, dtype=dtype)  # tells examples apart

    def backward(value):
        total = value
        if value.ndim:
            u = upstream if value.ndim == 1 else upstream[:, None]
            total = (value * (torch.tensor(u) if isinstance(value, torch.Tensor) else u)).sum()
        total.backward()

    ours = cr.tensor(z)
    value = getattr(nn, name)(ours, target, **options, reduction=reduction)
    backward(value)
    x = torch.tensor(z, requires_grad=True)
    weights = torch.tensor(WEIGHTS4.astype(dtype))
    expected = theirs(torch.nn.functional, x, torch.tensor(target), weights, reduction)
    backward(expected)
    tolerance = 3e-6 if dtype == "float32" else 1e-13
    assert value.shape == expected.shape
    assert value.dtype == ours.grad.dtype == dtype
    np.testing.assert_allclose(value.detach(), expected.detach(), tolerance, tolerance)
    np.testing.assert_allclose(ours.grad, x.grad, tolerance, tolerance)


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 2], (0, 1, 2), np.uint8([0, 1, 2]), cr.asarray([0, 1, 2]), np.int32([0, 1, 2])],
)
@pytest.mark.parametrize("loss", OF_CLASSES)
def test_labels_of_every_kind(loss, labels):
    assert float(loss(SCORES, labels)) == float(loss(SCORES, LABELS))


@pytest.mark.parametrize("loss", OF_CLASSES)
def test_more_axes_and_one_example(loss):
    each = loss(SCORES, LABELS, reduction="none").numpy()
    many = loss(np.stack([SCORES, SCORES]), np.stack([LABELS, LABELS]), reduction="none")
    assert np.array_equal(many, [each, each])
    assert float(loss(SCORES[0], 0)) == pytest.approx(each[0], rel=1e-15)


@pytest.mark.parametrize("loss", OF_CLASSES)
def test_labels_without_values_yet(loss):
    """While tracing, and under vmap, labels are not checked."""
    types = [ArrayType((3, 3), np.dtype("float64")), ArrayType((3,), np.dtype("int64"))]
    graph, _ = trace(lambda z, y: loss(z, y), types)
    graph.verify()
    assert float(graph.evaluate(SCORES, LABELS)[0]) == pytest.approx(float(loss(SCORES, LABELS)))
    each = cr.vmap(loss)(SCORES, LABELS)
    assert np.allclose(each, loss(SCORES, LABELS, reduction="none"))


# loss of scores (n, 3), and labels of n examples
EMPTY = {
    "hinge": lambda z, y, r: nn.hinge(z, y, reduction=r),
    "squared_hinge": lambda z, y, r: nn.squared_hinge(z, y, reduction=r),
    "binary_hinge": lambda z, y, r: nn.binary_hinge(z, z - 1, reduction=r),
    "softmax_cross_entropy": lambda z, y, r: nn.softmax_cross_entropy(z, y, reduction=r),
    "softmax_cross_entropy soft": lambda z, y, r: nn.softmax_cross_entropy(z, z, reduction=r),
    "softmax_cross_entropy weights": lambda z, y, r: nn.softmax_cross_entropy(
        z, y, weights=WEIGHTS, reduction=r
    ),
    "negative_log_likelihood": lambda z, y, r: nn.negative_log_likelihood(z, y, reduction=r),
    "binary_cross_entropy": lambda z, y, r: nn.binary_cross_entropy(z, z, reduction=r),
    "kl_divergence": lambda z, y, r: nn.kl_divergence(z, z, reduction=r),
    "mean_squared_error": lambda z, y, r: nn.mean_squared_error(z, z, reduction=r),
    "summed_squared_error": lambda z, y, r: nn.summed_squared_error(z, z, reduction=r),
    "mean_absolute_error": lambda z, y, r: nn.mean_absolute_error(z, z, reduction=r),
    "huber": lambda z, y, r: nn.huber(z, z, reduction=r),
    "accuracy": lambda z, y, r: nn.accuracy(z, y),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_batch(name):
    """Its mean is refused, its sum is 0, and there is nothing in it."""
    assert {row.split()[0] for row in EMPTY} == set(nn.losses.__all__)
    z, y = cr.tensor(np.zeros((0, 3))), np.zeros(0, int)
    with pytest.raises(DataError, match=r"the mean over no examples is not defined"):
        EMPTY[name](z, y, "mean")
    if name != "accuracy":
        assert float(EMPTY[name](z, y, "sum")) == 0
        assert EMPTY[name](z, y, "none").shape in [(0,), (0, 3)]
        EMPTY[name](z, y, "sum").backward()
        assert z.grad.shape == (0, 3)


def test_ignored_examples_do_not_count():
    z = cr.tensor(np.stack([SCORES, SCORES + 1, np.full((3, 3), np.nan)]))  # (batch, time, C)
    y = np.array([[0, 1, 255], [2, 255, 0], [255, 255, 255]], np.uint8)
    kept = y != 255
    value = nn.softmax_cross_entropy(z, y, ignore_index=255)
    value.backward()
    rows = cr.tensor(z.numpy()[kept])
    expected = nn.softmax_cross_entropy(rows, y[kept])
    expected.backward()
    assert float(value) == pytest.approx(float(expected), rel=1e-15)
    assert np.allclose(z.grad.numpy()[kept], rows.grad, rtol=1e-14)
    assert not z.grad.numpy()[~kept].any()  # exactly 0, also where the logits are NaN
    each = nn.softmax_cross_entropy(z, y, ignore_index=255, reduction="none")
    assert each.shape == (3, 3)
    assert not each.numpy()[~kept].any()
    log_p = cr.log_softmax(z.detach())
    assert float(nn.negative_log_likelihood(log_p, y, ignore_index=255)) == float(value)


def test_when_nothing_counts():
    for call in (
        lambda r: nn.softmax_cross_entropy(SCORES, [7, 7, 7], ignore_index=7, reduction=r),
        lambda r: nn.negative_log_likelihood(SCORES, [0, 0, 0], weights=[0, 1, 1], reduction=r),
    ):
        assert float(call("sum")) == 0
        with pytest.raises(DataError, match=r"received labels of shape \(3,\) of which none count"):
            call("mean")
    types = [ArrayType((3, 3), np.dtype("float64")), ArrayType((3,), np.dtype("int64"))]
    graph, _ = trace(lambda z, y: nn.softmax_cross_entropy(z, y, ignore_index=7), types)
    with np.errstate(invalid="ignore"):
        assert np.isnan(graph.evaluate(SCORES, np.array([7, 7, 7]))[0])
    found = float(graph.evaluate(SCORES, np.array([0, 7, 7]))[0])
    assert found == pytest.approx(float(nn.softmax_cross_entropy(SCORES[:1], [0])))


HUGE = np.array([-1e300, -1000.0, 0.0, 1000.0, 1e300])


@pytest.mark.parametrize("t", [0, 1, 0.25])
def test_binary_cross_entropy_of_huge_logits(t):
    z = cr.tensor(HUGE)
    loss = nn.binary_cross_entropy(z, np.full(5, t), reduction="none")
    expected = t * np.maximum(-HUGE, 0) + (1 - t) * np.maximum(HUGE, 0)
    expected[2] = np.log(2)
    assert np.allclose(loss, expected, rtol=1e-15)
    loss.sum().backward()
    assert np.allclose(z.grad, [-t, -t, 0.5 - t, 1 - t, 1 - t], rtol=1e-15, atol=0)


def test_small_binary_losses_keep_their_digits():
    """log(1 + e^-20) is far below the rounding of 20 in float32."""
    z = np.float32([20.0, -20.0])
    loss = nn.binary_cross_entropy(z, [1, 0], reduction="none")
    assert np.allclose(loss, np.log1p(np.exp(-20.0)), rtol=1e-6, atol=0)


def test_binary_targets_of_every_kind():
    z = np.array([[0.5], [-2.0], [3.0]])
    expected = float(nn.binary_cross_entropy(z[:, 0], [1.0, 0.0, 1.0]))
    for t in ([1, 0, 1], np.array([True, False, True]), np.uint8([1, 0, 1]), cr.asarray([1, 0, 1])):
        assert float(nn.binary_cross_entropy(z, t)) == expected
    # two classes by a sigmoid are the softmax of (0, z)
    two = nn.softmax_cross_entropy(np.concatenate([0 * z, z], axis=1), [1, 0, 1])
    assert expected == pytest.approx(float(two), rel=1e-14)


def test_kl_divergence_by_hand():
    p, q = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]), np.array([[0.25, 0.75, 0], [0.5, 0.5, 0]])
    with np.errstate(divide="ignore"):
        log_q = np.log(q)
    each = nn.kl_divergence(log_q, p, reduction="none")
    assert np.allclose(each, [np.log(2) / 2 + np.log(2 / 3) / 2, np.log(2)], rtol=1e-15)
    z = cr.tensor(log_q)
    nn.kl_divergence(z, p, reduction="sum").backward()
    assert np.array_equal(z.grad, -p)
    assert float(nn.kl_divergence(np.log(q[0, :2]), q[0, :2])) == 0  # one distribution, no batch
    assert float(nn.kl_divergence([-np.inf, 0.0], [0.5, 0.5])) == np.inf
    assert cr.check_gradients(lambda a: nn.kl_divergence(SCORES, nn.softmax(a)), TARGETS)


def test_robust_errors_by_hand():
    p, t = np.array([[0.5, -3.0], [1.0, 1e300]]), np.array([[0.0, 0.0], [1.0, 0.0]])
    each = nn.mean_absolute_error(p, t, reduction="none")
    assert np.allclose(each, [1.75, 5e299], rtol=1e-15)
    x = cr.tensor(p)
    loss = nn.huber(x, t, reduction="none")
    assert np.allclose(loss, [(0.125 + 2.5) / 2, 5e299], rtol=1e-15)
    (2 * loss).sum().backward()
    assert x.grad.tolist() == [[0.5, -1], [0, 1]]
    assert float(nn.huber(p[:, :1], t[:, 0], delta=10.0)) == 0.0625


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
@pytest.mark.parametrize("loss", [*OF_CLASSES, nn.accuracy])
def test_bad_labels(loss, call, error, message):
    with pytest.raises(error, match=message):
        call(loss)


OTHERS = [
    (lambda: nn.hinge(SCORES, LABELS, None), DTypeError, r"margin must be a number"),
    (lambda: nn.huber(SCORES, SCORES, "1"), DTypeError, r"delta must be a number"),
    (lambda: nn.softmax_cross_entropy(SCORES, LABELS, label_smoothing="0.1"), DTypeError,
     r"label_smoothing must be a number"),
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
    (lambda: nn.softmax_cross_entropy(SCORES, LABELS, label_smoothing=1.5), DataError,
     r"label_smoothing must be from 0 to 1, received 1.5"),
    (lambda: nn.softmax_cross_entropy(SCORES, LABELS, weights=[1, 2]), ShapeError,
     r"weights hold one number for each class, of shape \(3,\), received \(2,\)"),
    (lambda: nn.softmax_cross_entropy(SCORES, LABELS, weights=[1, -2, 1]), DataError,
     r"weights must be finite and 0 or more, received \[ 1. -2.  1.\]"),
    (lambda: nn.softmax_cross_entropy(SCORES, LABELS, weights=WEIGHTS * np.nan), DataError,
     r"weights must be finite"),
    (lambda: nn.softmax_cross_entropy(SCORES, [0, 1, 9], ignore_index=-1), DataError,
     r"label 9 in row 2 is out of range"),
    (lambda: nn.softmax_cross_entropy(SCORES, LABELS, ignore_index=0.5), DTypeError,
     r"ignore_index must be a whole number, received 0.5"),
    (lambda: nn.softmax_cross_entropy(SCORES, Q, ignore_index=0), DTypeError,
     r"ignore_index=0 goes with class numbers, received labels in float64"),
    (lambda: nn.binary_cross_entropy([0.5, 1.0], [1, 2]), DataError,
     r"target 2 in row 1 is not from 0 to 1"),
    (lambda: nn.binary_cross_entropy([0.5, 1.0], [np.nan, 1]), DataError, r"target nan in row 0"),
    (lambda: nn.binary_cross_entropy([0.5, 1.0], [1, 1], weights=[1, 2, 3]), ShapeError,
     r"\(3,\) and \(2,\) do not broadcast"),
    (lambda: nn.binary_cross_entropy([0.5, 1.0], [1, 1], positive_weight=[[1.0], [2]]), ShapeError,
     r"positive_weight \(2, 1\) must broadcast to \(2,\)"),
    (lambda: nn.kl_divergence(SCORES, SCORES), DataError, r"the p in row 0 is no probability"),
    (lambda: nn.kl_divergence(SCORES, Q[0]), ShapeError, r"log_q \(3, 3\) and p \(3,\)"),
    (lambda: nn.kl_divergence(np.float64(0), np.float64(1)), ShapeError, r"\(…, C\)"),
    (lambda: nn.kl_divergence(SCORES, LABELS), DTypeError, r"p must be floats, received int64"),
    (lambda: nn.huber(SCORES, TARGETS, 0.0), DataError, r"delta must be above 0 .* received 0.0"),
    (lambda: nn.huber(SCORES, TARGETS, np.inf), DataError, r"delta must be above 0 and finite"),
    (lambda: nn.mean_absolute_error(np.ones((3, 1)), np.ones((1, 3))), ShapeError, r"one shape"),
    (lambda: nn.l2_penalty([]), DataError, r"at least one parameter"),
    (lambda: nn.l1_penalty(nn.Sequential(nn.relu)), DataError, r"of a Module: one with 2 axes"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), OTHERS)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("other", [np.nan, np.inf, -np.inf])
def test_only_the_label_counts(other):
    """-log p_y, whatever stands at the other classes."""
    logs = cr.Parameter([[-0.5, other]])
    loss = nn.negative_log_likelihood(logs, [0])
    loss.backward()
    assert loss.item() == 0.5 and logs.grad.tolist() == [[-1.0, 0.0]]


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_no_example_and_no_class(reduction):
    found = nn.softmax_cross_entropy(np.ones((0, 0)), np.zeros(0, int), reduction=reduction)
    assert found.size == (reduction == "sum") and not found.numpy().any()
