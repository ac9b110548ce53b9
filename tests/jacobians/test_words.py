"""What the structure of a Jacobian is called, and that the name is true of its entries."""

import re
from collections import defaultdict
from math import prod

import numpy as np
import pytest

import chainrule as cr
from chainrule.autodiff.reverse import Linearized
from chainrule.core.node import Node
from chainrule.errors import StructureError
from chainrule.jacobians.graph import gate_of
from chainrule.jacobians.jacobian import Gate
from tests.jacobians.writer import Power
from tests.ops.cases import CASES as PRIMITIVES
from tests.ops.support import by_floats

RANDOM = np.random.default_rng(5)


def some(*shape):
    return RANDOM.normal(size=shape)


X, V, W, SQUARE = some(3, 4), some(7), some(4, 5), some(4, 4)
QUERIES, KEYS, VALUES = some(5, 4), some(6, 4), some(6, 3)
IMAGE, KERNEL, PIXELS = some(2, 6, 6, 2), some(3, 3, 2, 3), some(1, 6, 6, 1)
TABLE = np.array([2, 0, 2])


def layer_norm(x, weight=1.0, bias=0.0):
    centred = x - cr.mean(x, axis=-1, keepdims=True)
    return centred / cr.sqrt(cr.var(x, axis=-1, keepdims=True) + 1e-5) * weight + bias


def attention(q, k, v):
    return cr.softmax(q @ k.T, axis=-1) @ v


WHY = "all outputs depend on all inputs through"
CASES = [
    ("identity", lambda x: x, X, "identity"),
    ("negative", lambda x: -x, X, "c · identity"),
    ("times a number", lambda x: 3 * x, X, "c · identity"),
    ("square of a number", lambda t: t * t, np.float64(2.0), "c · identity"),
    ("no dependence", cr.sign, X, "zero"),
    ("relu", cr.relu, X, "diagonal"),
    ("where", lambda x: cr.where(x > 0, x, 0.1 * x), X, "diagonal"),
    ("clip", lambda x: cr.clip(x, -0.5, 0.5), X, "diagonal"),
    ("lower part", cr.tril, SQUARE, "diagonal"),
    ("linear by x", lambda x: x @ W, X, "identity ⊗ dense 5×4"),
    ("linear by W", lambda w: X @ w, W, "dense 3×4 ⊗ identity"),
    ("matrix times vector", lambda y: W @ y, some(5), f"dense 4×5: {WHY} a factor 4×5"),
    ("two layers", lambda y: W @ (W.T @ y), some(4), f"dense 4×4: {WHY} a factor 4×4"),
    ("attention by K", lambda k: attention(QUERIES, k, VALUES), KEYS,
     f"dense 15×24: {WHY} factors 6×3, 5×6, 5×4, 3×5"),
    ("relu of linear", lambda x: cr.relu(x @ W), X, "diagonal · (identity ⊗ dense 5×4)"),
    ("relu of linear by W", lambda w: cr.relu(X @ w), W, "diagonal · (dense 3×4 ⊗ identity)"),
    ("linear after relu", lambda x: cr.relu(x) @ W, X, "(identity ⊗ dense 5×4) · diagonal"),
    ("x·sum(x)", lambda x: x * x.sum(), V, "diagonal + rank 1"),
    ("x - mean(x)", lambda x: x - x.mean(), V, "diagonal + rank 1"),
    ("rows - their means", lambda x: x - x.mean(axis=1, keepdims=True), X,
     "identity ⊗ (diagonal + rank 1)"),
    ("x/‖x‖", lambda x: x / cr.sqrt((x * x).sum()), V, "diagonal + rank 1"),
    ("softmax", cr.softmax, V, "diagonal + rank 1"),
    ("softmax of a batch", lambda x: cr.softmax(x, axis=-1), some(8, 10),
     "block-diagonal, 8 blocks 10×10: diagonal + rank 1"),
    ("softmax of columns", lambda x: cr.softmax(x, axis=0), X,
     "block-diagonal, 4 blocks 3×3, interleaved: diagonal + rank 1"),
    ("log-softmax", cr.log_softmax, V, "diagonal + rank 1"),
    ("log-softmax of a batch", lambda x: cr.log_softmax(x, axis=-1), X,
     "block-diagonal, 3 blocks 4×4: diagonal + rank 1"),
    ("layer norm of a vector", layer_norm, V, "diagonal + rank 2"),
    ("layer norm", layer_norm, X, "block-diagonal, 3 blocks 4×4: diagonal + rank 2"),
    ("layer norm with weights", lambda x: layer_norm(x, some(4), some(4)), X,
     "block-diagonal, 3 blocks 4×4: diagonal + rank 2"),
    ("nn.layer_norm", lambda x: cr.nn.layer_norm(x, some(4), some(4)), X,
     "block-diagonal, 3 blocks 4×4: diagonal + rank 2"),
    ("layer norm by its weights", lambda w: layer_norm(X, w), some(4),
     "block-diagonal, 4 blocks 3×1, interleaved"),
    ("RMS norm", lambda x: x / cr.sqrt(cr.mean(x * x, axis=-1, keepdims=True) + 1e-5), X,
     "block-diagonal, 3 blocks 4×4: diagonal + rank 1"),
    ("attention row by q", lambda q: attention(q, KEYS, VALUES), QUERIES[0],
     f"dense 3×4: {WHY} a factor 3×4"),
    ("attention row by K", lambda k: attention(QUERIES[0], k, VALUES), KEYS,
     "dense 3×6 ⊗ row 1×4 + rank 1"),
    ("attention row by V", lambda v: attention(QUERIES[0], KEYS, v), VALUES,
     "row 1×6 ⊗ identity"),
    ("attention by q", lambda q: attention(q, KEYS, VALUES), QUERIES,
     "block-diagonal, 5 blocks 3×4"),
    ("attention by V", lambda v: attention(QUERIES, KEYS, v), VALUES, "dense 5×6 ⊗ identity"),
    ("through two numbers", lambda x: cr.tanh(x @ some(7, 2)) @ some(2, 8), V,
     "rank 2"),
    ("cumsum", lambda x: cr.cumulative_sum(x, axis=0), V, "lower triangular (ones)"),
    ("cumsum of rows", lambda x: cr.cumulative_sum(x, axis=1), X,
     "identity ⊗ lower triangular (ones)"),
    ("cumsum of columns", lambda x: 2 * cr.cumulative_sum(x, axis=0), X,
     "c · (lower triangular (ones) ⊗ identity)"),
    ("cumsum from the end", lambda x: cr.flip(cr.cumulative_sum(cr.flip(x), axis=0)), V,
     "upper triangular (ones)"),
    ("cumsum of squares", lambda x: cr.cumulative_sum(x * x, axis=0), V, "lower triangular"),
    ("cumsum of softmax", lambda x: cr.cumulative_sum(cr.softmax(x, axis=-1), axis=0), X,
     "(block-diagonal, 4 blocks 3×3, interleaved: lower triangular) + block lower triangular"),
    ("cumprod", lambda x: cr.cumulative_prod(x, axis=0), V, "lower triangular"),
    ("max pool", lambda x: cr.nn.max_pool2d(x, 3, stride=1), PIXELS, "banded (windows 3×3)"),
    ("max pool of channels", lambda x: cr.nn.max_pool2d(x, 2), IMAGE,
     "block-diagonal, 36 blocks 1×4, interleaved"),
    ("average pool", lambda x: cr.nn.avg_pool2d(x, 3, stride=1), PIXELS,
     "banded/Toeplitz (windows 3×3)"),
    ("convolution", lambda x: cr.nn.conv2d(x, KERNEL), IMAGE[:1],
     "banded/Toeplitz (convolution 3×3)"),
    ("convolution of a batch", lambda x: cr.nn.conv2d(x, KERNEL, stride=2, padding=1), IMAGE,
     "identity ⊗ banded/Toeplitz (convolution 3×3)"),
    ("convolution padded", lambda x: cr.nn.conv2d(x, KERNEL, padding=1), IMAGE[:1],
     "banded/Toeplitz (convolution 3×3)"),
    ("convolution by its weights", lambda w: cr.nn.conv2d(IMAGE, w), KERNEL,
     "dense 32×18 ⊗ identity"),
    ("relu of convolution", lambda x: cr.relu(cr.nn.conv2d(x, KERNEL)), IMAGE[:1],
     "diagonal · banded/Toeplitz (convolution 3×3)"),
    ("windows", lambda x: cr.windows(x, 3), V, "selection (windows)"),
    ("slice", lambda x: x[::-2], V, "selection (slice)"),
    ("part of a column", lambda x: x[1:3, 1], X, "selection (slice)"),
    ("one entry", lambda x: x[2], V, "selection (slice)"),
    ("pad", lambda x: cr.pad(x, 1), X, "embedding"),
    ("pad between", lambda x: cr.pad(x, 1, interior=1), V, "embedding"),
    ("flip", cr.flip, X, "permutation (flip)"),
    ("transpose", lambda x: x.T, X, "permutation (transpose)"),
    ("transpose, squared", lambda x: x.T * x.T, X, "permutation (transpose) · diagonal"),
    ("reshape", lambda x: x.reshape(2, 6), X, "identity (reshaped)"),
    ("reshape, exp", lambda x: cr.exp(x.reshape(2, 6)), X, "diagonal"),
    ("reshape to a vector", lambda x: x.reshape(12), X, "identity (reshaped)"),
    ("roll", lambda x: cr.roll(x, 2), V, "permutation (roll)"),
    ("sort", lambda x: cr.sort(x, axis=1), X, "selection (table)"),
    ("gather", lambda x: cr.take(x, TABLE, axis=0), X, "selection (table)"),
    ("gather, squared", lambda x: cr.take(x, TABLE, axis=0) ** 2, X,
     "selection (table) · diagonal"),
    ("diagonal", cr.diagonal, SQUARE, "selection (diagonal)"),
    ("repeat", lambda x: cr.repeat(x, 2), V, "selection (table)"),
    ("tile", lambda x: cr.tile(x, (2,)), V, "copies"),
    ("broadcast", lambda x: cr.broadcast_to(x, (3, 7)), V, "copies"),
    ("sum over an axis", lambda x: x.sum(axis=0), X, "sums"),
    ("mean", lambda x: x.mean(axis=1), X, "c · sums"),
    ("sum", lambda x: x.sum(), X, "sums"),
    ("x·roll(x)", lambda x: cr.roll(x, 1) * x, V, "banded, periodic (offsets −1, 0)"),
    ("differences", lambda x: x[1:] - x[:-1], V, "banded (offsets 0, 1)"),
    ("central differences", lambda x: cr.pad(x, 1)[2:] - cr.pad(x, 1)[:-2], V,
     "banded (offsets −1, 1)"),
    ("second differences", lambda x: cr.roll(x, 1) - 2 * x + cr.roll(x, -1), V,
     "banded, periodic (offsets −1, 0, 1)"),
    ("differences along rows", lambda x: x[:, 1:] - x[:, :-1], X,
     "identity ⊗ banded (offsets 0, 1)"),
    ("concat", lambda x: cr.concat([x, x * x]), V, "banded (offsets −7, 0)"),
    ("stack", lambda x: cr.stack([x[0] * x[1], x[2], cr.exp(x[0])], axis=1), X,
     "block-diagonal, 4 blocks 3×3, interleaved: banded, periodic (offsets 0, 1)"),
    ("max", lambda x: cr.max(x, axis=1), X, "block-diagonal, 3 blocks 1×4"),
    ("prod", lambda x: cr.prod(x, axis=1), X, "block-diagonal, 3 blocks 1×4"),
    ("variance", lambda x: cr.var(x, axis=1), X, "block-diagonal, 3 blocks 1×4"),
    ("batch norm", lambda x: (x - x.mean(axis=0)) / cr.sqrt(cr.var(x, axis=0) + 1e-5), X,
     "block-diagonal, 4 blocks 3×3, interleaved: diagonal + rank 2"),
    ("scalar", lambda x: (cr.tanh(x @ W) ** 2).sum(), X, "row"),
    ("max of all", lambda x: cr.max(x), X, "row"),
    ("of a number", lambda t: cr.sin(t) * V, np.float64(2.0), "column"),
    ("einsum", lambda x: cr.einsum("ij,jk->ki", x, W), X,
     "identity ⊗ dense 5×4, axes permuted"),
    ("Kronecker product", lambda x: cr.einsum("ab,cd->acbd", x, W).reshape(12, 20), X,
     "identity ⊗ column 20×1, axes permuted"),
    ("outer with a constant", lambda x: x[:, None] * W[0], V, "identity ⊗ column 5×1"),
    ("outer", lambda x: x[:, None] * x[None, :], V,
     "column 7×1 ⊗ identity + identity ⊗ column 7×1"),
    ("gram", lambda x: x.T @ x, X,
     "dense 4×3 ⊗ identity + identity ⊗ dense 4×3, axes permuted"),
    ("matrix squared", lambda x: x @ x, SQUARE,
     "identity ⊗ dense 4×4 + dense 4×4 ⊗ identity"),
]  # fmt: skip
table = pytest.mark.parametrize(
    ("function", "x", "said"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)


@table
def test_the_words(function, x, said):
    J = cr.jacobian(function)(x)
    assert J.structure == said
    assert cr.jacobian(function)(x).structure == said  # and the same again


def holds(said, dense, out_shape, in_shape):
    """Whether the entries are what the words say; None for words that are not looked into."""
    m, n = dense.shape
    nonzero = dense != 0
    if re.search(r" \+ |: | ⊗ | · diagonal", said.replace("diagonal + rank", "")) and (
        not said.startswith(("identity ⊗", "block-diagonal")) and not said.endswith("⊗ identity")
    ):
        return None
    rows, columns = nonzero.sum(1), nonzero.sum(0)
    if said == "zero":
        return not nonzero.any()
    if said.startswith("c · identity") or said == "identity":
        return m == n and np.allclose(dense, dense[0, 0] * np.eye(n))
    if said == "identity (reshaped)":
        return np.array_equal(dense, np.eye(n))
    if said == "diagonal":
        return m == n and not (nonzero & ~np.eye(n, dtype=bool)).any()
    if said.startswith("permutation"):
        return rows.max() <= 1 and columns.max() <= 1 and m == n
    if said.startswith(("selection", "copies")):
        return rows.max(initial=0) <= 1
    if said.startswith(("embedding", "sums", "c · sums")):
        return columns.max(initial=0) <= 1
    if said.startswith("lower triangular"):
        return not np.triu(nonzero, 1).any()
    if said.startswith("upper triangular"):
        return not np.tril(nonzero, -1).any()
    if said.startswith("rank ") and "⊗" not in said:
        return np.linalg.matrix_rank(dense) <= int(said.split()[1])
    if said.startswith("diagonal + rank"):
        # without its diagonal blocks a part beside the diagonal has the rank that is said
        half = n // 2
        return np.linalg.matrix_rank(dense[:half, half:]) <= int(said.split()[-1])
    if said.startswith("identity ⊗") and "permuted" not in said and " + " not in said:
        count = np.gcd(out_shape[0], in_shape[0])
        blocks = dense.reshape(count, m // count, count, n // count)
        same = all(np.array_equal(blocks[k, :, k], blocks[0, :, 0]) for k in range(count))
        return same and not any(blocks[k, :, j].any() for k in range(count) for j in range(k))
    if said.endswith("⊗ identity") and " + " not in said:
        count = np.gcd(out_shape[-1], in_shape[-1])
        blocks = dense.reshape(m // count, count, n // count, count)
        return all(not blocks[:, k, :, j].any() for k in range(count) for j in range(k))
    if said.startswith("block-diagonal") and "interleaved" not in said:
        count = int(said.split()[1])
        blocks = dense.reshape(count, m // count, count, n // count)
        return all(not blocks[k, :, j].any() for k in range(count) for j in range(count) if j != k)
    if said.startswith("banded (offsets"):
        offsets = {int(o.replace("−", "-")) for o in said[16:-1].split(", ")}
        return {int(c - r) for r, c in zip(*np.nonzero(nonzero), strict=True)} <= offsets
    return None


LOOKED_INTO = 0.65
"""At least this part of the table is looked into by `holds`."""


def test_the_words_are_true():
    known = []
    for name, function, x, said in CASES:
        J = cr.jacobian(function)(x)
        dense = np.asarray(J.jacobian_form())
        true = holds(said, dense, J.out_shape, J.in_shape)
        assert true is None or true, f"{name} is not {said}"
        known.append(true is not None)
    assert sum(known) >= LOOKED_INTO * len(CASES)


@pytest.mark.parametrize(
    ("said", "dense"),
    [
        ("diagonal", np.ones((2, 2))),
        ("identity", np.diag([1.0, 2.0])),
        ("lower triangular", np.ones((2, 2))),
        ("permutation (flip)", np.ones((2, 2))),
        ("rank 1", np.eye(2)),
        ("block-diagonal, 2 blocks 1×1", np.ones((2, 2))),
        ("banded (offsets 0, 1)", np.ones((2, 2))),
    ],
)
def test_untrue_words_are_seen(said, dense):
    assert not holds(said, dense, (2,), (2,))
    assert holds(said, dense, (2,), (2,)) is not None


def test_blocks_of_the_course():
    J = cr.jacobian(lambda x: cr.softmax(x, axis=-1))(some(128, 10))
    assert J.structure == "block-diagonal, 128 blocks 10×10: diagonal + rank 1"


def test_a_gate_that_tells_nothing_is_dense_and_says_so():
    J = cr.jacobian(lambda x: Power()(x, x))(V)
    assert J.structure == "dense 7×7: a gate that does not tell its structure"


UNNAMED = {
    "remat": "a part computed again: written out from its backward, row by row",
    "SumAndProduct": "a user's gate: written out from its backward, row by row",
}
"""Primitives whose local Jacobians have no structure but dense, and why."""


def test_at_least_95_percent_of_the_primitives_have_a_named_structure():
    found = defaultdict(set)
    for case in PRIMITIVES:
        for shapes in case.shapes if case.smooth else ():
            function, xs = by_floats(case, case.draw(shapes))
            line = Linearized(lambda ts, function=function: function(*ts), list(xs))
            for node in line.order:
                if node.primitive is None or not node.primitive.differentiable:
                    continue
                if isinstance(node.data, tuple):
                    continue
                for i, x in enumerate(gate_of(node).inputs):
                    if isinstance(x, Node) and x in line.active:
                        J = Gate(node, i)
                        if prod(J.shape) > 1:
                            found[gate_of(node).primitive.name].add(J.structure)
    unnamed = {
        name
        for name, said in found.items()
        if not any(s != "zero" and not s.startswith(("dense", "opaque")) for s in said)
        and said != {"zero"}
    }
    assert unnamed == set(UNNAMED)
    assert len(found) > 60
    assert len(unnamed) <= 0.05 * len(found), sorted(unnamed)


def test_without_a_closed_form_the_reason_is_said():
    J = cr.jacobian(lambda x: cr.sort(x.reshape(12)).reshape(4, 3))(X)
    if J.form is None:
        assert J.structure == f"dense ({J.reason})"
        with pytest.raises(StructureError, match="needs a closed form"):
            J.formula()
