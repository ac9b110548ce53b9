"""Attention by hand, and what masks do."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

R = np.random.default_rng(0)
Q, K, V = R.normal(size=(2, 4, 3)), R.normal(size=(2, 5, 3)), R.normal(size=(2, 5, 6))


def by_hand(q, k, v, allowed):
    scores = np.where(allowed, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -np.inf)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True) @ v


MASKS = {
    "none": (None, False, np.ones((4, 5), bool)),
    "causal": (None, True, np.tri(4, 5, dtype=bool)),
    "one for all": (np.arange(5) < 3, False, np.arange(5) < 3),
    "an example": (np.arange(10).reshape(2, 1, 5) % 3 < 2, False,
                   np.arange(10).reshape(2, 1, 5) % 3 < 2),
    "both": (np.arange(5) != 1, True, np.tri(4, 5, dtype=bool) & (np.arange(5) != 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_masks(name):
    mask, causal, allowed = MASKS[name]
    y = nn.scaled_dot_product_attention(Q, K, V, mask, causal)
    assert np.allclose(y, by_hand(Q, K, V, allowed), rtol=1e-12)
    assert cr.check_gradients(
        lambda q, k, v: nn.scaled_dot_product_attention(q, k, v, mask, causal), Q, K, V
    )


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e150])
def test_a_query_that_may_look_nowhere_gives_0_and_gradients_of_0(scale):
    mask = np.array([[True] * 5, [False] * 5, [True, False, False, False, False], [False] * 5])
    q, k, v = (cr.tensor(x) for x in (Q * scale, K, V))
    y = nn.scaled_dot_product_attention(q, k, v, mask)
    assert not y.numpy()[:, [1, 3]].any()
    assert np.allclose(y[:, 2], V[:, 0])
    y.sum().backward()
    assert all(np.isfinite(t.grad.numpy()).all() for t in (q, k, v))
    assert not q.grad.numpy()[:, [1, 3]].any()


def test_what_is_masked_does_not_matter():
    """Values that no query may look at, even infinite keys, change nothing."""
    k = K.copy()
    k[:, 4] = 1e300
    mask = np.arange(5) < 4
    y, z = (nn.scaled_dot_product_attention(Q, keys, V, mask) for keys in (K, k))
    assert np.array_equal(y, z)


def test_causal_steps_do_not_see_later_ones():
    layer = nn.MultiHeadAttention(6, 3, dtype="float64")
    x = R.normal(size=(2, 7, 6))
    assert np.allclose(layer(x, causal=True)[:, :4], layer(x[:, :4], causal=True), rtol=1e-12)
    assert not np.allclose(layer(x)[:, :4], layer(x[:, :4]))


def test_a_mask_an_example_holds_for_all_heads():
    layer = nn.MultiHeadAttention(6, 3, dtype="float64")
    x = R.normal(size=(2, 4, 6))
    mask = np.ones((2, 1, 4), bool)
    mask[0, 0, 2:] = False
    y = layer(x, mask=mask)
    assert np.allclose(y[:1], layer(x[:1], x[:1, :2]), rtol=1e-12)
    assert np.allclose(y[1:], layer(x[1:]), rtol=1e-12)


def test_no_batch_axis_is_needed():
    layer = nn.MultiHeadAttention(6, 2, bias=False, dtype="float64")
    x = R.normal(size=(3, 5, 6))
    assert np.allclose(layer(x)[1], layer(x[1]), rtol=1e-12)
    assert [n for n, _ in layer.named_parameters()] == [
        "query.weight", "key.weight", "value.weight", "output.weight",
    ]  # fmt: skip
