"""Where functions have no derivative, or an infinite one: what is promised there."""

import numpy as np
import pytest

import chainrule as cr
from tests.ops.support import assert_same

INF, NAN = np.inf, np.nan


def first_in_both_modes(function, x):
    """The derivative entry by entry: by reverse mode, backward and forward mode."""
    x = np.asarray(x, np.float64)
    variable = cr.tensor(x)
    cr.sum(function(variable)).backward()
    return (
        cr.grad(lambda v: cr.sum(function(v)))(x),
        variable.grad,
        cr.jvp(function, (x,), (np.ones_like(x),))[1],
    )


def second_in_all_nestings(function, x):
    """The second derivative, entry by entry, of an elementwise function."""
    x = np.asarray(x, np.float64)
    ones = np.ones_like(x)

    def total(v):
        return cr.sum(function(v))

    def slope(v):
        return cr.jvp(function, (v,), (ones,))[1]

    return (
        cr.grad(lambda v: cr.sum(cr.grad(total)(v)))(x),
        cr.jvp(cr.grad(total), (x,), (ones,))[1],
        cr.grad(lambda v: cr.sum(slope(v)))(x),
        cr.jvp(slope, (x,), (ones,))[1],
    )


def check_first(function, x, expected):
    for received in first_in_both_modes(function, x):
        np.testing.assert_array_equal(np.asarray(received), expected)


def check_second(function, x, expected):
    for received in second_in_all_nestings(function, x):
        np.testing.assert_array_equal(np.asarray(received), expected)


# -- strong zeros ------------------------------------------------------------------------------

BAD = np.array([INF, -INF, NAN, 2.0, 0.0])


def test_scale_gradient_is_zero_where_either_factor_is():
    for first, second in ((BAD, np.zeros(5)), (np.zeros(5), BAD)):
        assert_same(cr.scale_gradient(first, second), np.zeros(5))
    with np.errstate(invalid="ignore"):
        received = np.asarray(cr.scale_gradient(BAD, np.full(5, 2.0)))
    np.testing.assert_array_equal(received, BAD * 2)


def test_scale_gradient_is_symmetric_in_its_derivatives():
    for x, y in ((0.0, INF), (INF, 0.0), (0.0, NAN), (NAN, 0.0), (0.0, 0.0), (2.0, 0.0)):
        forward = cr.grad(cr.scale_gradient, wrt=(0, 1))(x, y)
        backward = cr.grad(lambda a, b: cr.scale_gradient(b, a), wrt=(0, 1))(x, y)
        np.testing.assert_array_equal(np.asarray(forward), np.asarray(backward))


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_zero_upstream_meets_an_infinite_partial(zero):
    check_first(lambda x: cr.sqrt(x) * zero, 0.0, 0.0)
    with np.errstate(all="ignore"):
        check_first(lambda x: cr.log(x) * zero, 0.0, 0.0)


def test_a_zero_partial_meets_an_infinite_upstream():
    # d/dx (0·x)·∞ is 0 in the product of gradients, though the value is NaN
    _, pull = cr.vjp(lambda x: x * 0.0, np.array([1.0, 2.0]))
    np.testing.assert_array_equal(np.asarray(pull(np.array([INF, NAN]))[0]), [0, 0])
    _, moved = cr.jvp(lambda x: x * 0.0, (np.ones(2),), (np.array([INF, NAN]),))
    np.testing.assert_array_equal(np.asarray(moved), [0, 0])


def masked(x):
    return cr.where(x == 0, 0, x * cr.sqrt(x))


def test_the_branch_not_taken_gives_zero_at_first_and_second_order():
    x = np.array([0.0, 4.0])
    check_first(masked, x, [0.0, 3.0])
    check_second(masked, x, [0.0, 0.375])


def test_masks_at_third_order():
    third = cr.grad(cr.grad(cr.grad(masked)))
    assert float(third(np.float64(0.0))) == 0
    assert float(third(np.float64(4.0))) == pytest.approx(-3 / 64)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: cr.where(x > 0, cr.log(x), 0),
        lambda x: cr.where(x > 0, cr.sqrt(x), 0),
        lambda x: cr.where(x > 0, 1 / x, 0),
        lambda x: cr.where(x > 0, x**-1.5, 0),
        lambda x: cr.where(x > 0, cr.atan2(x, x), 0),
    ],
)
def test_a_mask_shields_from_infinite_and_undefined_derivatives(function):
    with np.errstate(all="ignore"):  # the values of the branch not taken
        check_first(function, 0.0, 0.0)
        check_second(function, 0.0, 0.0)


def test_what_strong_zeros_cost_is_as_documented():
    check_first(lambda x: cr.sqrt(x) ** 2, 0.0, 0.0)  # not 1: the page about kinks says why


def test_contractions_and_sums_follow_ieee():
    value, pull = cr.vjp(lambda x: cr.matmul(x, np.array([INF, 1.0])), np.ones(2))
    assert float(value) == INF
    with np.errstate(invalid="ignore"):
        assert np.isnan(np.asarray(pull(0.0)[0])[0])


def test_powers_at_zero():
    for power in (0.0, 1.0, 2.0, 3.0):
        expected = {1.0: 1.0}.get(power, 0.0)
        check_first(lambda x, p=power: cr.pow(x, np.float64(p)), 0.0, expected)
    # by the exponent: 0^y is flat for y > 0
    check_first(lambda y: cr.pow(np.float64(0.0), y), [1.0, 2.0], [0.0, 0.0])


# -- kinks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "best"), [(cr.maximum, np.fmax), (cr.minimum, np.fmin)])
def test_ties_share_and_nan_takes_the_gradient_of_a_pair(function, best):
    x = np.array([1.0, 2.0, 3.0, NAN, 1.0, NAN, INF])
    y = np.array([2.0, 1.0, 3.0, 1.0, NAN, NAN, INF])
    value = np.asarray(function(x, y))
    np.testing.assert_array_equal(np.isnan(value), np.isnan(x) | np.isnan(y))
    gradients = cr.grad(lambda a, b: function(a, b).sum(), wrt=(0, 1))(x, y)
    chosen = (best(x, y) == x).astype(float)
    chosen[2:] = [0.5, 1, 0, 0.5, 0.5]
    np.testing.assert_array_equal(np.asarray(gradients[0]), chosen)
    np.testing.assert_array_equal(np.asarray(gradients[1]), 1 - chosen)
    for k, expected in enumerate((chosen, 1 - chosen)):
        tangents = [np.zeros(7), np.zeros(7)]
        tangents[k] = np.ones(7)
        np.testing.assert_array_equal(
            np.asarray(cr.jvp(function, (x, y), tuple(tangents))[1]), expected
        )


@pytest.mark.parametrize(("function", "sign"), [(cr.max, 1), (cr.min, -1)])
def test_ties_share_and_nan_takes_the_gradient_along_axes(function, sign):
    def gradient(values):
        return np.asarray(cr.grad(lambda x: function(x, axis=-1).sum())(sign * np.array(values)))

    np.testing.assert_array_equal(gradient([1.0, 3, 3, 2]), [0, 0.5, 0.5, 0])
    np.testing.assert_array_equal(gradient([[2.0, 2], [1, 5]]), [[0.5, 0.5], [0, 1]])
    np.testing.assert_array_equal(gradient([1.0, NAN, 3, NAN]), [0, 0.5, 0, 0.5])
    np.testing.assert_array_equal(gradient([-INF, -INF]), [0.5, 0.5])
    tangent = np.array([1.0, 10, 100, 1000])
    _, moved = cr.jvp(function, (sign * np.array([1.0, 3, 3, 2]),), (tangent,))
    assert float(moved) == 55


def test_relu():
    x = np.array([-1.0, -0.0, 0.0, 1e-300, 2.0, NAN, INF])
    assert_same(cr.relu(x), np.array([0.0, 0.0, 0.0, 1e-300, 2.0, NAN, INF]))
    check_first(cr.relu, x, [0, 0, 0, 1, 1, 1, 1])
    check_second(cr.relu, x[:5], np.zeros(5))
    assert_same(cr.relu(np.array([-2, 3])), np.array([0, 3]))
    # a 0 upstream of ∞·0 and NaN: the mask selects, it does not multiply
    _, pull = cr.vjp(cr.relu, np.array([-1.0, -1.0]))
    np.testing.assert_array_equal(np.asarray(pull(np.array([INF, NAN]))[0]), [0, 0])


def test_clip_passes_on_its_closed_interval():
    x = np.array([-2.0, -1.0, 0.0, 1.0, 1.5])
    check_first(lambda v: cr.clip(v, -1.0, 1.0), x, [0, 1, 1, 1, 0])
    check_first(lambda v: v.clip(min=-1.0), x, [0, 1, 1, 1, 1])
    bounds = cr.grad(lambda a, b: cr.clip(x, a, b).sum(), wrt=(0, 1))(-1.0, 1.0)
    np.testing.assert_array_equal(np.asarray(bounds), [1, 1])
    assert np.isnan(float(cr.clip(np.float64(NAN), 0.0, 1.0)))


def test_clip_at_bounds_that_are_nan_is_nan_as_in_numpy():
    x = np.array([-2.0, 0.5, 2.0])
    cases = [
        (NAN, 1.0), (0.0, NAN), (NAN, NAN), (None, NAN), (NAN, None),
        (np.array([NAN, 0.0, NAN]), np.array([1.0, NAN, 1.0])), (np.array([0, 1, 0]), 1),
    ]  # fmt: skip
    for low, high in cases:
        assert_same(cr.clip(x, low, high), np.clip(x, low, high))
        if low is not None and high is not None:
            assert_same(cr.compile(cr.clip)(x, low, high), np.clip(x, low, high))


def test_abs_and_sign_at_zero():
    x = np.array([-2.0, -0.0, 0.0, 3.0])
    check_first(cr.abs, x, [-1, 0, 0, 1])
    check_first(cr.sign, x, [0, 0, 0, 0])
    check_second(cr.abs, x, np.zeros(4))


@pytest.mark.parametrize("function", [cr.floor, cr.ceil, cr.round, cr.trunc])
def test_steps_have_derivative_zero_everywhere(function):
    check_first(function, [-1.5, -1.0, 0.0, 0.5, 2.0], np.zeros(5))


def test_sort_is_stable_and_puts_nan_last():
    x = np.array([2.0, 1.0, 2.0, NAN, 1.0])
    assert_same(cr.sort(x), np.array([1.0, 1.0, 2.0, 2.0, NAN]))
    np.testing.assert_array_equal(np.asarray(cr.argsort(x)), [1, 4, 0, 2, 3])
    gradient = cr.grad(lambda v: (cr.sort(v) * np.arange(5.0)).sum())(x)
    np.testing.assert_array_equal(np.asarray(gradient), [2, 0, 3, 4, 1])  # ties keep their order
    moved = cr.jvp(cr.sort, (x,), (np.arange(5.0),))[1]
    np.testing.assert_array_equal(np.asarray(moved), [1, 4, 0, 2, 3])


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_sorting_many_entries_is_stable(dtype):
    x = np.random.default_rng(0).integers(0, 5, 1000).astype(dtype)  # short arrays always are
    expected = sorted(range(1000), key=lambda k: x[k])
    assert cr.argsort(x).tolist() == expected


def test_sorting_down_keeps_the_order_of_ties():
    x = np.array([1.0, 2.0, 1.0, 2.0])
    np.testing.assert_array_equal(np.asarray(cr.argsort(x, descending=True)), [1, 3, 0, 2])


def test_argmax_and_argmin_take_the_first():
    x = np.array([[1.0, 3.0, 3.0], [0.0, 0.0, -0.0], [1.0, NAN, 5.0]])
    np.testing.assert_array_equal(np.asarray(cr.argmax(x, axis=1)), [1, 0, 1])
    np.testing.assert_array_equal(np.asarray(cr.argmin(x, axis=1)), [0, 0, 1])
    assert cr.argmax(x[:2], axis=0).dtype == np.int64


# -- values at the edges -----------------------------------------------------------------------


def test_softmax_and_logsumexp_do_not_overflow():
    x = np.array([1000.0, 1000.0, -1000.0])
    np.testing.assert_allclose(np.asarray(cr.softmax(x)), [0.5, 0.5, 0])
    assert float(cr.logsumexp(x)) == pytest.approx(1000 + np.log(2))
    assert float(cr.logsumexp(np.array([-INF, -INF]))) == -INF
    assert float(cr.logsumexp(np.array([INF, 1.0]))) == INF
    check_first(lambda v: cr.softplus(v), [-1000.0, 0.0, 1000.0], [0, 0.5, 1])
    logs = [-np.log(2), -np.log(2), -2000 - np.log(2)]
    np.testing.assert_allclose(np.asarray(cr.log_softmax(x)), logs)


@pytest.mark.parametrize(
    ("function", "reference"),
    [(cr.asinh, np.arcsinh), (cr.acosh, np.arccosh), (cr.atanh, np.arctanh)],
)
def test_inverse_hyperbolic_functions_over_their_range(function, reference):
    with np.errstate(all="ignore"):
        tiny, large = np.logspace(-300, -1, 60), np.logspace(0, 300, 61)
        x = np.concatenate([-large, -tiny, [-0.0, 0.0], tiny, large, [INF, -INF, NAN]])
        np.testing.assert_allclose(np.asarray(function(x)), reference(x), rtol=4e-16)


def test_hypot_and_logaddexp_at_the_edges():
    big = np.array([1e300, INF, INF, 0.0, NAN])
    np.testing.assert_allclose(
        np.asarray(cr.hypot(big, np.array([1e300, 1.0, NAN, 0.0, 1.0]))),
        [np.sqrt(2) * 1e300, INF, INF, 0, NAN],
    )
    x, y = np.array([INF, -INF, -INF, INF, 1e308]), np.array([INF, -INF, 2.0, -INF, 1e308])
    np.testing.assert_array_equal(np.asarray(cr.logaddexp(x, y)), np.logaddexp(x, y))
    check_first(lambda v: cr.logaddexp(v, v), [0.0, 5.0], [1.0, 1.0])


def test_signbit_and_copysign_see_the_sign_of_zero_without_warnings():
    x = np.array([0.0, -0.0, 2.0, -2.0, INF, -INF, 5e-324, -5e-324])
    assert_same(cr.signbit(x), np.signbit(x))
    assert_same(cr.copysign(3.0, x), np.copysign(3.0, x))


def test_numpy_warns_here_as_it_does_there():
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        cr.log(np.array([0.0]))
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        cr.divide(np.array([1.0]), np.array([0.0]))


def test_sums_and_products_of_nothing():
    empty = np.zeros((0, 3))
    np.testing.assert_array_equal(np.asarray(cr.sum(empty, axis=0)), np.zeros(3))
    np.testing.assert_array_equal(np.asarray(cr.prod(empty, axis=0)), np.ones(3))
    assert np.isnan(np.asarray(cr.mean(empty, axis=0))).all()
    assert bool(cr.all(empty)) is True
    assert bool(cr.any(empty)) is False
    for function in (cr.max, cr.min, cr.argmax, cr.argmin):
        with pytest.raises(cr.errors.ShapeError, match="of no entries"):
            function(empty, axis=0)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "bool"])
def test_small_integers_add_up_in_64_bits_unless_told(dtype):
    x = np.ones(300, dtype)
    assert_same(cr.sum(x), np.sum(x))
    assert_same(cr.cumulative_sum(x), np.cumsum(x))
    if dtype != "bool":
        assert_same(cr.sum(x, dtype=dtype), np.sum(x, dtype=dtype))
        assert_same(cr.cumulative_sum(x, dtype=dtype), np.cumsum(x, dtype=dtype))
        assert_same(cr.prod(x, dtype=dtype), np.prod(x, dtype=dtype))


@pytest.mark.parametrize(
    "shapes", [((1, 1), (1, 2)), ((2, 1), (1, 1)), ((1, 3), (3, 1)), ((1, 1), (1, 1))]
)
def test_zero_times_infinity_is_nan(shapes):
    """Products follow IEEE, also where BLAS would skip a 0."""
    x, y = np.zeros(shapes[0]), np.full(shapes[1], np.inf)
    with np.errstate(invalid="ignore"):
        assert np.isnan(cr.matmul(x, y).numpy()).all()
        assert np.isnan(cr.matmul(y.T, x.T).numpy()).all()
