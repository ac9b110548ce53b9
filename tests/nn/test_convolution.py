"""Convolutions of any shape against loops in NumPy, and the transposed ones as their adjoints."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.nn.arguments import pad_widths

CONV = {1: (nn.conv1d, nn.conv_transpose1d), 2: (nn.conv2d, nn.conv_transpose2d)}


@st.composite
def settings_of(draw):
    """Sizes and options of a convolution that has outputs."""
    n = draw(st.sampled_from([1, 2]))

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(n))

    kernel, stride, dilation, sizes = each(1, 4), each(1, 3), each(1, 3), each(1, 7)
    padding = draw(
        st.one_of(
            st.sampled_from(["same", "valid"]),
            st.integers(0, 2),
            st.just(each(0, 2)) if n == 2 else st.nothing(),
            st.just(tuple(zip(each(0, 2), each(0, 2), strict=True))),
        )
    )
    groups = draw(st.integers(1, 3))
    inputs, outputs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    lead = draw(st.sampled_from([(), (2,), (0,), (2, 1)]))
    widths = pad_widths(padding, sizes, kernel, stride, dilation)
    padded = [m + b + a for m, (b, a) in zip(sizes, widths, strict=True)]
    assume(all(m > d * (k - 1) for m, d, k in zip(padded, dilation, kernel, strict=True)))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    r = np.random.default_rng(draw(st.integers(0, 99)))
    x = r.normal(size=(*lead, *sizes, inputs))
    return n, x, r.normal(size=(*kernel, inputs // groups, outputs)), widths, options


def by_loops(n, x, w, widths, stride, padding, dilation, groups):
    """Every output position, offset and output channel in turn."""
    lead = x.ndim - n - 1
    x = np.pad(x, [(0, 0)] * lead + list(widths) + [(0, 0)])
    kernel, part, outputs = w.shape[:n], w.shape[n], w.shape[-1]
    sizes = [
        (m - d * (k - 1) - 1) // s + 1
        for m, d, k, s in zip(x.shape[lead:-1], dilation, kernel, stride, strict=True)
    ]
    y = np.zeros((*x.shape[:lead], *sizes, outputs))
    for at in itertools.product(*map(range, sizes)):
        for off in itertools.product(*map(range, kernel)):
            place = tuple(
                s * a + d * o for s, a, d, o in zip(stride, at, dilation, off, strict=True)
            )
            for o in range(outputs):
                g = o // (outputs // groups)
                seen = x[(..., *place, slice(g * part, (g + 1) * part))]
                y[(..., *at, o)] += seen @ w[(*off, slice(None), o)]
    return y


@settings(max_examples=120, deadline=None)
@given(settings_of())
def test_a_convolution_is_its_definition(drawn):
    n, x, w, widths, options = drawn
    y = CONV[n][0](x, w, **options)
    expected = by_loops(n, x, w, widths, **options)
    assert y.shape == expected.shape
    assert np.allclose(y, expected, rtol=1e-12, atol=1e-12)
    if options["padding"] == "same":
        sizes = x.shape[x.ndim - n - 1 : -1]
        outputs = tuple(-(-m // s) for m, s in zip(sizes, options["stride"], strict=True))
        assert y.shape[x.ndim - n - 1 : -1] == outputs


@settings(max_examples=120, deadline=None)
@given(settings_of())
def test_the_transposed_convolution_is_the_adjoint(drawn):
    """⟨u, conv(x)⟩ = ⟨conv_transpose(u), x⟩, with the same weight."""
    n, x, w, widths, options = drawn
    forward, back = CONV[n]
    y = forward(x, w, **options).numpy()
    u = np.random.default_rng(1).normal(size=y.shape)
    # what strides leave over at the end of x is named by the output padding
    lead, kernel = x.ndim - n - 1, w.shape[:n]
    stride, dilation = options["stride"], options["dilation"]
    extra = tuple(
        (m + sum(pair) - d * (k - 1) - 1) % s
        for m, pair, d, k, s in zip(x.shape[lead:-1], widths, dilation, kernel, stride, strict=True)
    )
    v = back(u, w, **{**options, "padding": widths}, output_padding=extra)
    assert v.shape == x.shape
    assert np.isclose((u * y).sum(), (v.numpy() * x).sum(), rtol=1e-10, atol=1e-10)
    assert np.allclose(cr.grad(lambda x: (forward(x, w, **options) * u).sum())(x), v)


def test_second_order():
    r = np.random.default_rng(0)
    x, w = r.normal(size=(2, 5, 4, 2)), r.normal(size=(3, 2, 2, 3))
    for forward in (nn.conv2d, lambda x, w: nn.conv_transpose2d(x, w.swapaxes(2, 3), stride=2)):
        slope = cr.grad(lambda x, w, f=forward: (f(x, w) ** 3).sum(), (0, 1))
        assert cr.check_gradients(slope, x, w, directions=2)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_same_padding_of_a_transposed_convolution_multiplies_the_size(kernel, stride):
    y = nn.conv_transpose1d(np.ones((4, 2)), np.ones((kernel, 3, 2)), None, stride, "same")
    assert y.shape == (4 * stride, 3)
    x = np.random.default_rng(0).normal(size=(4 * stride, 3))
    w = np.random.default_rng(1).normal(size=(kernel, 3, 2))
    seen = nn.conv1d(x, w, None, stride, "same").numpy()
    u = np.random.default_rng(2).normal(size=seen.shape)
    v = nn.conv_transpose1d(u, w, None, stride, "same").numpy()
    assert np.isclose((seen * u).sum(), (x * v).sum())


PADDINGS = [
    ("valid", (1, 2), ((0, 0), (0, 0))), (2, (1, 2), ((2, 2), (2, 2))),
    ((1, 2), (1, 2), ((1, 1), (2, 2))), (((0, 3), 1), (1, 2), ((0, 3), (1, 1))),
    ("same", (1, 2), ((1, 1), (0, 1))), ((2, 0), (1,), ((2, 0),)), (((2, 0),), (1,), ((2, 0),)),
    ([[2, 0]], (1,), ((2, 0),)), (np.int64(1), (1,), ((1, 1),)),
]  # fmt: skip


@pytest.mark.parametrize(("padding", "stride", "widths"), PADDINGS)
def test_padding_in_all_its_forms(padding, stride, widths):
    n = len(stride)
    assert pad_widths(padding, (8,) * n, (3,) * n, stride, (1,) * n) == widths


@settings(max_examples=60, deadline=None)
@given(settings_of())
def test_pooling_is_its_definition(drawn):
    n, x, w, _, options = drawn
    kernel, stride = w.shape[:n], options["stride"]
    assume(all(k <= m for k, m in zip(kernel, x.shape[-n - 1 : -1], strict=True)))
    sizes = [(m - k) // s + 1 for m, k, s in zip(x.shape[-n - 1 : -1], kernel, stride, strict=True)]
    pools = {1: (nn.max_pool1d, nn.avg_pool1d), 2: (nn.max_pool2d, nn.avg_pool2d)}[n]
    for pool, reduce in zip(pools, (np.max, np.mean), strict=True):
        y = pool(x, kernel, stride).numpy()
        assert y.shape == (*x.shape[: -n - 1], *sizes, x.shape[-1])
        for at in itertools.product(*map(range, sizes)):
            part = tuple(
                slice(s * a, s * a + k) for s, a, k in zip(stride, at, kernel, strict=True)
            )
            window = x[(..., *part, slice(None))]
            expected = reduce(window, axis=tuple(range(-n - 1, -1)))
            assert np.allclose(y[(..., *at, slice(None))], expected)


def test_pooling_ties_share_and_padding_never_wins():
    x = cr.tensor(np.full((4, 4, 1), -5.0))
    y = nn.max_pool2d(x, 2, padding=1)
    assert np.array_equal(y[..., 0], np.full((3, 3), -5))
    y.sum().backward()
    assert x.grad[0, 0, 0] == 1
    assert x.grad[1, 1, 0] == 0.25
    assert nn.max_pool1d(np.full((3, 1), -5.0), 3, 2, padding=1)[:, 0].tolist() == [-5, -5]


def test_integer_images_meet_float_weights():
    image = np.arange(75, dtype=np.uint8).reshape(5, 5, 3)
    w = np.ones((3, 3, 3, 2), "f")
    assert np.array_equal(nn.conv2d(image, w), nn.conv2d(image.astype("f"), w))
    assert np.array_equal(
        nn.max_pool2d(image, 2, padding=1), nn.max_pool2d(image + 0.0, 2, None, 1)
    )


def test_fans_are_counted_through_kernel_groups_and_stride():
    seen = {}

    def draw(key, shape, dtype, *, fans):
        seen[shape] = fans
        return np.ones(shape, dtype)

    nn.Conv2d(4, 8, 3, initializer=draw)
    nn.Conv2d(4, 6, (3, 5), groups=2, initializer=draw)
    nn.Conv1d(4, 8, 4, stride=2, initializer=draw)
    nn.ConvTranspose1d(8, 5, 4, stride=2, initializer=draw)
    assert seen == {
        (3, 3, 4, 8): (36, 72), (3, 5, 2, 6): (30, 45), (4, 4, 8): (16, 16), (4, 5, 8): (16, 20),
    }  # fmt: skip


def test_first_values_have_the_variance_of_the_initializer():
    layer = nn.Conv2d(16, 32, 3, seed=1)
    assert layer.weight.numpy().std() == pytest.approx(np.sqrt(2 / (9 * 16)), rel=0.05)
    assert not layer.bias.numpy().any()
    for plain in (nn.init.ones, nn.init.zeros, nn.init.normal):
        assert nn.Conv2d(1, 2, 3, initializer=plain).weight.shape == (3, 3, 1, 2)
