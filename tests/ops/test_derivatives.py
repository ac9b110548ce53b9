"""Derivatives of every row: first and second, in both modes, traced, of any memory layout."""

import numpy as np

import chainrule as cr
from chainrule.core.types import ArrayType
from chainrule.ops.tracing import trace
from tests.ops.support import (
    ROWS,
    assert_close,
    by_floats,
    difference,
    direction,
    directions,
    dot,
    examples,
    gradients,
    scalar,
)
from tests.ops.test_values import apart


def columns(function, xs, shape):
    """Every partial derivative by central differences: an array out + in for each input."""
    result = []
    for k, x in enumerate(xs):
        entries = np.zeros((*shape, x.size))
        for n in range(x.size):
            step = [np.zeros_like(y) for y in xs]
            step[k].reshape(-1)[n] = 1
            entries[..., n] = difference(function, xs, step)
        result.append(entries.reshape(shape + x.shape))
    return result


def setup(case, shapes):
    """The function of the float inputs, these, and weights like the output."""
    inputs = case.draw(shapes)
    function, xs = by_floats(case, inputs)
    return function, xs, direction(case.reference(*inputs), 3)


@examples(ROWS, smooth=True)
def test_both_modes_agree_with_central_differences(case, shapes):
    function, xs, upstream = setup(case, shapes)
    jacobians = columns(function, xs, upstream.shape)
    _, pull = cr.vjp(function, *xs)
    for received, x, jacobian in zip(pull(upstream), xs, jacobians, strict=True):
        assert_close(received, np.tensordot(upstream, jacobian, upstream.ndim), 1e-8)
        assert received.dtype == x.dtype
    for k, (x, jacobian) in enumerate(zip(xs, jacobians, strict=True)):
        tangents = [direction(x, 5) if j == k else np.zeros_like(y) for j, y in enumerate(xs)]
        _, moved = cr.jvp(function, xs, tuple(tangents))
        assert_close(moved, np.tensordot(jacobian, tangents[k], x.ndim), 1e-8)


@examples(ROWS, smooth=True)
def test_pull_and_push_are_transposes(case, shapes):
    function, xs, upstream = setup(case, shapes)
    tangents = directions(xs)
    _, pull = cr.vjp(function, *xs)
    _, moved = cr.jvp(function, xs, tangents)
    left, right = dot(upstream, moved), dot(pull(upstream), tangents)
    scale = 1 + np.abs(upstream * np.asarray(moved)).sum()
    assert abs(left - right) <= 1e-12 * scale


@examples(ROWS, smooth=True)
def test_second_derivatives_agree_in_every_nesting(case, shapes):
    function, xs, weights = setup(case, shapes)
    tangents = directions(xs)
    gradient = gradients(scalar(function, weights), len(xs))
    _, forward_over_reverse = cr.jvp(gradient, xs, tangents)
    assert_close(forward_over_reverse, difference(gradient, xs, tangents), 1e-6)

    def along(*ys):
        return sum((g * t).sum() for g, t in zip(gradient(*ys), tangents, strict=True))

    assert_close(gradients(along, len(xs))(*xs), forward_over_reverse, 1e-11)

    def moved(*ys):
        return (cr.jvp(function, ys, tangents)[1] * weights).sum()

    assert_close(gradients(moved, len(xs))(*xs), forward_over_reverse, 1e-11)
    _, forward_over_forward = cr.jvp(
        lambda *ys: cr.jvp(scalar(function, weights), ys, tangents)[1], xs, tangents
    )
    assert_close(forward_over_forward, np.asarray(dot(forward_over_reverse, tangents)), 1e-11)


@examples(ROWS, smooth=True)
def test_backward_gives_what_grad_gives(case, shapes):
    function, xs, weights = setup(case, shapes)
    variables = [cr.tensor(x) for x in xs]
    scalar(function, weights)(*variables).backward()
    expected = gradients(scalar(function, weights), len(xs))(*xs)
    for variable, gradient in zip(variables, expected, strict=True):
        if variable.grad is None:  # it was only compared, so it is not in the graph
            assert not np.asarray(gradient).any()
        else:
            assert_close(variable.grad, gradient, 1e-14)


@examples(ROWS, smooth=True)
def test_the_traced_gradient_evaluates_to_the_eager_one(case, shapes):
    function, xs, weights = setup(case, shapes)
    gradient = gradients(scalar(function, weights), len(xs))
    graph, _ = trace(gradient, [ArrayType(x.shape, x.dtype) for x in xs])
    received = tuple(graph.verify().evaluate(*xs))
    assert_close(received, tuple(map(np.asarray, gradient(*xs))), 1e-13)
    assert [r.dtype for r in received] == [x.dtype for x in xs]


@examples(ROWS, smooth=True)
def test_the_traced_push_evaluates_to_the_eager_one(case, shapes):
    function, xs, _ = setup(case, shapes)
    tangents = directions(xs)

    def push(*ys):
        return cr.jvp(function, ys, tangents)[1]

    graph, _ = trace(push, [ArrayType(x.shape, x.dtype) for x in xs])
    (received,) = graph.verify().evaluate(*xs)
    assert_close(received, np.asarray(push(*xs)), 1e-13)


@examples(ROWS, smooth=True)
def test_gradients_of_float32_are_float32_and_close(case, shapes):
    wide = by_floats(case, case.draw(shapes))
    narrow = by_floats(case, case.draw(shapes, np.float32))
    weights = direction(case.reference(*case.draw(shapes)), 3)
    expected = gradients(scalar(wide[0], weights), len(wide[1]))(*wide[1])
    received = gradients(scalar(narrow[0], weights.astype(np.float32)), len(wide[1]))(*narrow[1])
    assert [r.dtype for r in received] == [np.float32] * len(received)
    assert_close(received, tuple(map(np.asarray, expected)), 3e-5)


@examples(ROWS, smooth=True)
def test_the_layout_in_memory_does_not_matter_to_gradients(case, shapes):
    function, xs, weights = setup(case, shapes)
    gradient = gradients(scalar(function, weights), len(xs))
    expected = tuple(map(np.asarray, gradient(*xs)))
    assert_close(gradient(*map(apart, xs)), expected, 1e-13)
    _, pull = cr.vjp(function, *xs)
    assert_close(pull(apart(weights)), expected, 1e-13)
