"""Patterns and their colourings: never two entries of a row in one push, and few pushes."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.errors import AxisError
from chainrule.jacobians.coloring import (
    Coloring,
    Pattern,
    color,
    color_columns,
    greedy_colors,
    is_coloring,
    linear_colors,
)


def of(dense):
    return Pattern.of(*np.nonzero(dense), dense.shape)


def dense_of(pattern):
    dense = np.zeros(pattern.shape, bool)
    dense[pattern.rows, pattern.indices] = True
    return dense


@st.composite
def matrices(draw):
    """Random 0/1 matrices, some with full rows and columns, some without any entry."""
    m, n = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dense = random.random((m, n)) < draw(st.sampled_from([0, 0.05, 0.2, 0.5, 1]))
    dense[random.permutation(m)[: draw(st.integers(0, 2))]] = True
    dense[:, random.permutation(n)[: draw(st.integers(0, 2))]] = True
    return dense


def decompressed(dense, coloring):
    """What the passes give for a matrix of numbers, in the layout that `slots` promises."""
    matrix = dense if coloring.mode == "push" else dense.T
    seeds = coloring.colors == np.arange(coloring.count)[:, None]
    colored = seeds @ matrix.T.astype(float)
    return np.concatenate([colored.ravel(), matrix[coloring.peeled].ravel()])


# -- patterns ----------------------------------------------------------------------------------


@given(matrices(), st.integers(0, 2**32 - 1))
def test_a_pattern_is_sorted_and_holds_each_place_once(dense, seed):
    rows, columns = np.nonzero(dense)
    order = np.random.default_rng(seed).permutation(np.r_[: rows.size, : rows.size])
    pattern = Pattern.of(rows[order], columns[order], dense.shape)
    assert pattern.nnz == dense.sum()
    assert np.array_equal(pattern.rows, rows)
    assert np.array_equal(pattern.indices, columns)
    assert np.array_equal(pattern.indptr, np.r_[0, np.cumsum(dense.sum(axis=1))])
    assert pattern.indices.dtype == pattern.indptr.dtype == np.int32
    assert np.array_equal(dense_of(pattern.T), dense.T)
    assert pattern == of(dense) == pattern.T.T
    if not np.array_equal(dense, dense.T):
        assert pattern != pattern.T


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_patterns_without_places(shape):
    pattern = Pattern.of([], [], shape)
    assert (pattern.nnz, pattern.T.shape, pattern.indptr.size) == (0, shape[::-1], shape[0] + 1)
    coloring = color(pattern)
    assert (coloring.passes, coloring.slots(pattern).size) == (0, 0)
    assert np.array_equal(coloring.colors, np.full(shape[1], -1))


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([2], [0], r"rows of a pattern of shape \(2, 3\) are 0 … 1, received 2 … 2"),
        ([0, 1], [3, 0], "columns of a pattern.* are 0 … 2, received 0 … 3"),
        ([0, -1], [0, 0], "received -1 … 0"),
    ],
)
def test_places_out_of_the_matrix(rows, columns, message):
    with pytest.raises(AxisError, match=message):
        Pattern.of(rows, columns, (2, 3))


@given(matrices(), st.data())
def test_emptied_rows(dense, data):
    rows = data.draw(st.lists(st.integers(0, dense.shape[0] - 1), unique=True))
    emptied = dense.copy()
    emptied[rows] = False
    assert of(dense).without(np.array(rows, int)) == of(emptied)


# -- colourings --------------------------------------------------------------------------------


@given(matrices(), st.sampled_from(["push", "pull", None]))
def test_every_entry_is_found_in_its_slot(dense, mode):
    pattern = of(dense)
    coloring = color(pattern, mode)
    assert mode in (None, coloring.mode)
    values = dense * np.arange(1.0, dense.size + 1).reshape(dense.shape)
    found = decompressed(values, coloring)[coloring.slots(pattern)]
    assert np.array_equal(found, values[dense])
    side = dense if coloring.mode == "push" else dense.T
    assert coloring.passes <= side.any(axis=0).sum()
    used = coloring.colors[coloring.colors >= 0]
    assert coloring.count == len(set(used.tolist()))


@given(matrices())
def test_the_better_mode_is_taken(dense):
    pattern = of(dense)
    each = [color(pattern, mode).passes for mode in ("push", "pull")]
    assert color(pattern).passes == min(each)


@given(matrices(), st.integers(0, 2**32 - 1))
def test_greedy_colours_are_exact_in_any_order(dense, seed):
    pattern, n = of(dense), dense.shape[1]
    order = np.random.default_rng(seed).permutation(n).tolist()
    colors = greedy_colors(pattern, order)
    assert is_coloring(pattern, colors, n)
    rows = dense.astype(int)
    neighbours = (rows.T @ rows > 0) & ~np.eye(n, dtype=bool)
    for place, j in enumerate(order):  # the smallest colour that no neighbour has yet
        before = {colors[i] for i in order[:place] if neighbours[i, j]}
        assert colors[j] == next(c for c in range(n) if c not in before)


def test_is_coloring_sees_one_conflict():
    pattern = of(np.array([[1, 1, 0], [0, 1, 1]]))
    assert is_coloring(pattern, np.array([0, 1, 0]), 2)
    assert not is_coloring(pattern, np.array([0, 1, 1]), 2)


def test_largest_first_where_the_natural_order_is_worse():
    """On the path 0 – 1 – 3 – 2 – 4, column 3 comes between colours 1 and 0 and needs a third."""
    dense = np.zeros((4, 5), bool)
    for row, pair in enumerate([(0, 1), (1, 3), (3, 2), (2, 4)]):
        dense[row, pair] = True
    pattern = of(dense)
    assert linear_colors(pattern, 2) is None
    assert greedy_colors(pattern, range(5)).tolist() == [0, 1, 0, 2, 1]
    assert color_columns(pattern).max() == 1


def tridiagonal(n):
    return np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= 1


def blocks(count, size):
    return np.kron(np.eye(count, dtype=bool), np.ones((size, size), bool))


def arrow(n):
    dense = np.eye(n, dtype=bool)
    dense[0] = dense[:, 0] = True
    return dense


def stencil(height, width, *, periodic, species=1):
    """Five points, and the other species at the place."""
    places = np.arange(species * height * width).reshape(species, height, width)
    dense = np.zeros((places.size, places.size), bool)
    for k in range(species):
        dense[places[k], places] = True
    for axis in (1, 2):
        n = places.shape[axis]
        for step in (1, -1):
            inside = np.arange(n) if periodic else np.arange(n)[max(0, -step) : n - max(0, step)]
            here, there = places.take(inside, axis), places.take((inside + step) % n, axis)
            dense[here, there] = True
    return dense


def windows(height, width, size):
    """A convolution without padding."""
    places = np.arange(height * width).reshape(height, width)
    reads = np.lib.stride_tricks.sliding_window_view(places, (size, size)).reshape(-1, size**2)
    dense = np.zeros((len(reads), height * width), bool)
    np.put_along_axis(dense, reads, True, axis=1)
    return dense


CASES = {
    # what: (matrix, mode, colours, peeled)
    "diagonal": (np.eye(7, dtype=bool), "push", 1, 0),
    "tridiagonal": (tridiagonal(50), "push", 3, 0),
    "two bands": (np.eye(40, dtype=bool) | np.eye(40, k=7, dtype=bool), "push", 2, 0),
    "blocks": (blocks(9, 4), "push", 4, 0),
    "dense": (np.ones((6, 9), bool), "pull", 6, 0),
    "a full row": (np.r_[np.ones((1, 30), bool), np.eye(30, dtype=bool)], "pull", 2, 0),
    "a full column": (np.c_[np.ones((30, 1), bool), np.eye(30, dtype=bool)], "push", 2, 0),
    "two diagonals side by side": (np.tile(np.eye(30, dtype=bool), 2), "pull", 1, 0),
    "a full row, two diagonals": (
        np.r_[np.ones((1, 60), bool), np.tile(np.eye(30, dtype=bool), (3, 2))], "push", 2, 1,
    ),
    "arrow": (arrow(40), "push", 2, 1),
    "grid": (stencil(10, 15, periodic=False), "push", 5, 0),
    "torus": (stencil(10, 15, periodic=True), "push", 5, 0),
    "torus of 16": (stencil(16, 16, periodic=True), "push", 8, 0),
    "two species": (stencil(16, 16, periodic=True, species=2), "push", 8, 0),
    "all pairs": (np.array([[i in p for i in range(4)] for p in combinations(range(4), 2)]),
                  "pull", 3, 0),  # columns have the lower bound, 2, but take 4
    "windows": (windows(12, 13, 3), "push", 9, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_named_structures(name):
    dense, mode, count, peeled = CASES[name]
    coloring = color(of(dense))
    assert (coloring.mode, coloring.count, coloring.peeled.size) == (mode, count, peeled)


def test_the_arrow_in_detail():
    dense = arrow(5)
    coloring = color(of(dense))
    assert coloring.peeled.tolist() == [0]
    assert coloring.colors[0] != coloring.colors[1]
    assert len(set(coloring.colors[1:])) == 1
    assert coloring.slots(of(dense)).size == 13


def test_columns_that_only_peeled_rows_have_need_no_colour():
    dense = np.zeros((3, 8), bool)
    dense[0] = True
    dense[1, 0] = dense[2, 1] = True
    coloring = color(of(dense), "push")
    assert coloring.colors.tolist() == [0, 0, *[-1] * 6]
    assert (coloring.count, coloring.passes) == (1, 2)


def test_linear_colours_are_refused_where_they_do_not_fit():
    random = np.random.default_rng(0)
    dense = random.random((40, 40)) < 0.1
    assert linear_colors(of(dense), int(dense.sum(axis=1).max())) is None
    banded = tridiagonal(300)
    assert linear_colors(of(banded), 3) is not None
    banded[130, 250] = True  # a fourth entry, in a row that no proposal is tried on at first
    assert linear_colors(of(banded), 3) is None


def test_many_colours():
    """Beyond what proposals are made for: the place itself is the colour."""
    pattern = of(np.ones((3, 700), bool))
    assert linear_colors(pattern, 700).tolist() == list(range(700))
    assert (color(pattern, "push").count, color(pattern, "push").peeled.size) == (0, 3)


def test_slots_by_hand():
    pattern = of(np.array([[1, 1, 0], [0, 1, 1]]))
    colors = np.array([0, 1, 0])
    none = np.array([], int)
    assert Coloring("push", colors, 2, none).slots(pattern).tolist() == [0, 2, 3, 1]
    assert Coloring("pull", np.array([0, 1]), 2, none).slots(pattern).tolist() == [0, 1, 4, 5]
    peeled = Coloring("push", np.array([-1, 0, 1]), 2, np.array([0]))
    assert peeled.slots(pattern).tolist() == [4, 5, 1, 3]
