"""vmap of every row, and of its derivatives, is the loop over examples, stacked."""

import numpy as np

import chainrule as cr
from tests.ops.support import (
    ROWS,
    assert_close,
    by_floats,
    direction,
    examples,
    gradients,
    scalar,
)

N = 3


def choices(count):
    """Which inputs are batched: all, and each alone."""
    return [tuple(range(count)), *([k] for k in range(count))] if count > 1 else [(0,)]


def batches(case, shapes, chosen):
    """For every example its inputs, and the arguments for vmap: stacked where chosen."""
    draws = [case.draw(shapes, seed=seed) for seed in range(N)]
    rows = [
        tuple(draws[n][k] if k in chosen else draws[0][k] for k in range(len(shapes)))
        for n in range(N)
    ]
    stacked = tuple(
        np.stack([row[k] for row in rows]) if k in chosen else rows[0][k]
        for k in range(len(shapes))
    )
    return rows, stacked, tuple(0 if k in chosen else None for k in range(len(shapes)))


def compare(function, rows, stacked, axes):
    received = cr.vmap(function, in_axes=axes)(*stacked)
    each = [function(*row) for row in rows]
    if isinstance(each[0], tuple):
        expected = tuple(np.stack([np.asarray(e[k]) for e in each]) for k in range(len(each[0])))
        dtypes, wanted = [r.dtype for r in received], [e.dtype for e in each[0]]
    else:
        expected = np.stack([np.asarray(e) for e in each])
        dtypes, wanted = received.dtype, each[0].dtype
    assert dtypes == wanted
    assert_close(received, expected, 1e-12)


@examples(ROWS)
def test_vmap_is_a_loop(case, shapes):
    for chosen in choices(len(shapes)):
        rows, stacked, axes = batches(case, shapes, chosen)
        compare(lambda *xs: case.function(*map(cr.asarray, xs)), rows, stacked, axes)


@examples(ROWS, smooth=True)
def test_vmap_of_the_gradient_is_a_loop(case, shapes):
    weights = direction(case.reference(*case.draw(shapes)), 3)
    for chosen in choices(len(shapes)):
        rows, stacked, axes = batches(case, shapes, chosen)
        gradient = cr.grad(scalar(case.function, weights), wrt=case.floats)
        compare(gradient, rows, stacked, axes)


@examples(ROWS, smooth=True)
def test_the_gradient_of_vmap_is_the_gradient_of_the_loop(case, shapes):
    chosen = tuple(range(len(shapes)))
    rows, stacked, axes = batches(case, shapes, chosen)
    weights = direction(np.stack([case.reference(*row) for row in rows]), 3)
    batched = cr.vmap(case.function, in_axes=axes)
    _, xs = by_floats(case, stacked)
    whole = gradients(scalar(lambda *ys: batched(*_replace(case, stacked, ys)), weights), len(xs))(
        *xs
    )
    each = [
        cr.grad(scalar(case.function, w), wrt=case.floats)(*row)
        for row, w in zip(rows, weights, strict=True)
    ]
    expected = tuple(np.stack([np.asarray(e[k]) for e in each]) for k in range(len(xs)))
    assert_close(whole, expected, 1e-12)


def _replace(case, inputs, floats):
    full = list(inputs)
    for k, x in zip(case.floats, floats, strict=True):
        full[k] = x
    return full


@examples(ROWS, smooth=True)
def test_dense_jacobians_by_vmap_are_the_rows_pulled_one_by_one(case, shapes):
    function, xs = by_floats(case, case.draw(shapes))
    out = np.asarray(function(*xs))
    _, pull = cr.vjp(function, *xs)
    units = np.eye(out.size).reshape(out.size, *out.shape)
    for k, x in enumerate(xs):
        dense = cr.jacobian(function, wrt=k)(*xs).todense()
        rows = [np.asarray(pull(unit)[k]) for unit in units]
        expected = (
            np.stack(rows).reshape(out.shape + x.shape) if rows else np.zeros(out.shape + x.shape)
        )
        assert_close(dense, expected, 1e-12)
