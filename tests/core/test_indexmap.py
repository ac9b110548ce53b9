"""Index maps: every linear gate does what its map says, and its dual what the transpose says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.core import indexmap
from chainrule.core.primitive import LinearGate
from chainrule.ops.dispatch import BROADCAST, SUM
from chainrule.ops.indexing import GATHER, SCATTER_ADD
from chainrule.ops.reducing import CUMSUM
from chainrule.ops.shaping import (
    DIAGONAL,
    EMBED_DIAGONAL,
    FLIP,
    FOLD,
    PAD,
    PERMUTE,
    RESHAPE,
    SLICE,
    WINDOWS,
)

SIZES = st.integers(0, 4)


def shapes(low=0, high=3, sizes=SIZES):
    return st.lists(sizes, min_size=low, max_size=high).map(tuple)


@st.composite
def permutes(draw):
    shape = draw(shapes(0, 4))
    return PERMUTE, indexmap.permute_map(shape, tuple(draw(st.permutations(range(len(shape))))))


@st.composite
def broadcasts(draw):
    """Aligned at the right or at chosen axes; stretched from 1 or new."""
    out = draw(shapes(0, 4))
    axes = tuple(sorted(draw(st.sets(st.sampled_from(range(len(out))))))) if out else ()
    aligned = draw(st.booleans())
    if aligned:
        axes = tuple(range(len(out) - len(axes), len(out)))
    shape = tuple(out[a] if draw(st.booleans()) else 1 for a in axes)
    return BROADCAST, indexmap.broadcast_map(shape, out, None if aligned else axes)


@st.composite
def reshapes(draw):
    """Two groupings of the same prime factors, with ones strewn in."""
    factors = draw(st.lists(st.sampled_from((2, 3, 2, 5, 1)), max_size=4))
    if draw(st.booleans()) and draw(st.booleans()):
        factors.append(0)

    def grouping():
        order, result = draw(st.permutations(factors)), []
        for n in order:
            if result and draw(st.booleans()):
                result[-1] *= n
            else:
                result.append(n)
        return tuple(result)

    return RESHAPE, indexmap.reshape_map(grouping(), grouping())


@st.composite
def slices(draw):
    shape, starts, sizes, steps = draw(shapes()), [], [], []
    for n in shape:
        step = draw(st.sampled_from((1, 1, 2, 3, -1, -2)))
        start = draw(st.integers(0, n - 1)) if n else 0
        room = 0 if not n else len(range(start, n if step > 0 else -1, step))
        starts.append(start)
        sizes.append(draw(st.integers(0, room)))
        steps.append(step)
    return SLICE, indexmap.slice_map(shape, tuple(starts), tuple(sizes), tuple(steps))


@st.composite
def flips(draw):
    shape = draw(shapes(1, 3, st.integers(1, 4)))
    axes = tuple(sorted(draw(st.sets(st.sampled_from(range(len(shape)))))))
    return FLIP, indexmap.flip_map(shape, axes)


@st.composite
def diagonals(draw):
    shape = draw(shapes(2, 4))
    first, second, *_ = draw(st.permutations(range(len(shape))))
    return DIAGONAL, indexmap.diagonal_map(shape, first, second, draw(st.integers(-5, 5)))


@st.composite
def sliding(draw):
    shape = draw(shapes(1, 3, st.integers(1, 7)))
    axes = tuple(draw(st.permutations(range(len(shape)))))[: draw(st.integers(1, len(shape)))]
    sizes, strides, dilations = [], [], []
    for axis in axes:
        dilation = draw(st.integers(1, 3))
        sizes.append(draw(st.integers(1, (shape[axis] - 1) // dilation + 1)))
        strides.append(draw(st.integers(1, 3)))
        dilations.append(dilation)
    return WINDOWS, indexmap.windows_map(
        shape, axes, tuple(sizes), tuple(strides), tuple(dilations)
    )


@st.composite
def running(draw):
    shape = draw(shapes(1, 3))
    axis = draw(st.integers(0, len(shape) - 1))
    return CUMSUM, indexmap.cumsum_map(shape, axis, draw(st.booleans()))


@st.composite
def gathers(draw):
    shape = draw(shapes(1, 3, st.integers(1, 3)))
    axis = draw(st.integers(0, len(shape) - 1))
    count = draw(st.integers(1, len(shape) - axis))
    index_shape = draw(shapes(0, 2, st.integers(0, 3)))
    size = int(np.prod(index_shape))
    tables = [
        np.array(draw(st.lists(st.integers(0, shape[axis + k] - 1), min_size=size, max_size=size)))
        .astype(np.int64)
        .reshape(index_shape)
        for k in range(count)
    ]
    return GATHER, indexmap.gather_map(shape, axis, count, index_shape), *tables


@st.composite
def alongs(draw):
    shape = draw(shapes(1, 3, st.integers(1, 3)))
    axis = draw(st.integers(0, len(shape) - 1))
    length = draw(st.integers(0, 3))
    index_shape = (*shape[:axis], length, *shape[axis + 1 :])
    size = int(np.prod(index_shape))
    entries = draw(st.lists(st.integers(0, shape[axis] - 1), min_size=size, max_size=size))
    table = np.array(entries).astype(np.int64).reshape(index_shape)
    return GATHER, indexmap.along_map(shape, axis, index_shape), table


BUILDERS = {
    "along_map": alongs(),
    "permute_map": permutes(),
    "broadcast_map": broadcasts(),
    "reshape_map": reshapes(),
    "slice_map": slices(),
    "flip_map": flips(),
    "diagonal_map": diagonals(),
    "windows_map": sliding(),
    "cumsum_map": running(),
    "gather_map": gathers(),
}
DUALS = {
    PERMUTE: PERMUTE,
    BROADCAST: SUM,
    RESHAPE: RESHAPE,
    SLICE: PAD,
    FLIP: FLIP,
    DIAGONAL: EMBED_DIAGONAL,
    WINDOWS: FOLD,
    CUMSUM: CUMSUM,
    GATHER: SCATTER_ADD,
}
every = pytest.mark.parametrize("name", BUILDERS)


def numbers(shape, start=1):
    """Different whole numbers, so that sums of them tell where they came from."""
    return (np.arange(int(np.prod(shape))) ** 2 + start).astype(float).reshape(shape)


def dense(map, tables):
    """The matrix of a map, output by input, from its definition."""
    matrix = np.zeros((int(np.prod(map.out_shape)), int(np.prod(map.in_shape))))
    source, target = map.positions(tables)
    np.add.at(matrix, (target, source), 1)
    return matrix


def test_every_builder_is_tried_here():
    assert {name for name in vars(indexmap) if name.endswith("_map")} == set(BUILDERS)


def test_every_linear_gate_is_tried_here():
    kinds = {type(gate) for pair in DUALS.items() for gate in pair}
    assert {k for k in subclasses(LinearGate) if "name" in vars(k)} == kinds


def subclasses(kind):
    return {kind}.union(*(subclasses(k) for k in kind.__subclasses__())) - {LinearGate}


@pytest.mark.parametrize("builder", ["along_map", "gather_map"])
@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(1, 3), reads=st.booleans())
def test_tables_may_differ_between_examples(builder, data, n, reads):
    gate, map, *tables = data.draw(BUILDERS[builder])
    own = tuple(data.draw(st.booleans()) for _ in tables)
    reads = reads or not any(own)
    limits = [map.in_view[k] for k, p in enumerate(map.reads) if p.table is not None]
    full = [
        np.stack([(t + k) % limit for k in range(n)]) if o else t
        for t, o, limit in zip(tables, own, limits, strict=True)
    ]

    def example(k):
        return [t[k] if o else t for t, o in zip(full, own, strict=True)]

    wide = map.batched(n, own, reads)
    x = np.stack([numbers(map.in_shape, k) for k in range(n)]) if reads else numbers(map.in_shape)
    received = gate.forward(x, *full, map=wide)
    for k in range(n):
        expected = map.evaluate(x[k] if reads else x, *example(k))
        np.testing.assert_array_equal(received[k], expected)
    np.testing.assert_array_equal(received, wide.evaluate(x, *full))
    scatter = map.T.batched(n, own, reads)
    u = np.stack([numbers(map.out_shape, k) for k in range(n)]) if reads else numbers(map.out_shape)
    back = gate.dual.forward(u, *full, map=scatter)
    for k in range(n):
        expected = map.T.evaluate(u[k] if reads else u, *example(k))
        np.testing.assert_array_equal(back[k], expected)


def test_duals_are_each_others():
    for gate, dual in DUALS.items():
        assert gate.dual is dual
        assert dual.dual is gate


@every
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_gate_does_what_its_map_says(name, data):
    gate, map, *tables = data.draw(BUILDERS[name])
    x = numbers(map.in_shape)
    received = gate.forward(x, *tables, map=map)
    assert received.shape == map.out_shape
    np.testing.assert_array_equal(received, map.evaluate(x, *tables))
    np.testing.assert_array_equal(received.reshape(-1), dense(map, tables) @ x.reshape(-1))


@every
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_dual_on_the_transposed_map_is_the_transposed_matrix(name, data):
    gate, map, *tables = data.draw(BUILDERS[name])
    assert map.T.T is map
    assert (map.T.in_shape, map.T.out_shape) == (map.out_shape, map.in_shape)
    np.testing.assert_array_equal(dense(map.T, tables), dense(map, tables).T)
    u = numbers(map.out_shape)
    received = gate.dual.forward(u, *tables, map=map.T)
    assert received.shape == map.in_shape
    np.testing.assert_array_equal(received.reshape(-1), dense(map, tables).T @ u.reshape(-1))


@every
@settings(max_examples=40, deadline=None)
@given(data=st.data(), n=st.integers(0, 3))
def test_a_batched_map_is_the_map_of_every_example(name, data, n):
    gate, map, *tables = data.draw(BUILDERS[name])
    wide = map.batched(n)
    assert map.batched(n) is wide
    assert wide.T.T is wide
    x = np.stack([numbers(map.in_shape, k) for k in range(n)] or [np.zeros((0,))])
    x = x.reshape((n, *map.in_shape))
    received = gate.forward(x, *tables, map=wide)
    assert received.shape == (n, *map.out_shape)
    for k in range(n):
        np.testing.assert_array_equal(received[k], map.evaluate(x[k], *tables))
    u = np.stack([numbers(map.out_shape, k) for k in range(n)] or [np.zeros((0,))])
    u = u.reshape((n, *map.out_shape))
    back = gate.dual.forward(u, *tables, map=wide.T)
    assert back.shape == (n, *map.in_shape)
    for k in range(n):
        np.testing.assert_array_equal(back[k], map.T.evaluate(u[k], *tables))
    np.testing.assert_array_equal(dense(wide.T, tables), dense(wide, tables).T)


@every
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_layout_of_the_input_does_not_matter(name, data):
    gate, map, *tables = data.draw(BUILDERS[name])
    x, u = numbers(map.in_shape), numbers(map.out_shape)
    expected = gate.forward(x, *tables, map=map)
    back = gate.dual.forward(u, *tables, map=map.T)
    np.testing.assert_array_equal(gate.forward(_scattered(x), *tables, map=map), expected)
    np.testing.assert_array_equal(gate.dual.forward(_scattered(u), *tables, map=map.T), back)


def _scattered(x):
    """The same entries in Fortran order, each axis reversed in memory."""
    flipped = tuple(slice(None, None, -1) for _ in x.shape)
    return np.asfortranarray(x[flipped])[flipped] if x.ndim else x


def test_additions_are_counted():
    assert indexmap.broadcast_map((3,), (4, 3)).T.additions == 9
    assert indexmap.broadcast_map((3,), (4, 3)).additions == 0
    assert indexmap.permute_map((2, 3), (1, 0)).additions == 0
    assert indexmap.windows_map((6,), (0,), (3,), (1,), (1,)).T.additions == 6


def test_the_same_arguments_give_the_same_map():
    assert indexmap.permute_map((2, 3), (1, 0)) is indexmap.permute_map((2, 3), (1, 0))
    assert indexmap.flip_map((3,), (0,)).T is indexmap.flip_map((3,), (0,))


def test_the_transpose_of_a_running_sum_names_the_other_direction():
    forwards = indexmap.cumsum_map((4,), 0)
    assert str(forwards) == "y[i] = Σj x[i-j]"
    assert str(forwards.T) == "y[i] = Σj x[i+j]"


@pytest.mark.parametrize(
    ("map", "text"),
    [
        (indexmap.permute_map((2, 3), (1, 0)), "y[i,j] = x[j,i]"),
        (indexmap.broadcast_map((3, 1), (2, 3, 4)), "y[i,j,k] = x[j,0]"),
        (indexmap.broadcast_map((3,), (2, 3)).T, "y[j] = Σi x[i,j]"),
        (indexmap.slice_map((9,), (7,), (3,), (-2,)), "y[i] = x[-2·i+7]"),
        (indexmap.windows_map((9,), (0,), (3,), (2,), (4,)), "y[i,j] = x[2·i+4·j]"),
        (indexmap.gather_map((5, 2), 0, 1, (3,)), "y[i,j] = x[t0[i],j]"),
        (indexmap.reshape_map((6,), (2, 3)), "(6,) → (2, 3)"),
        (indexmap.diagonal_map((3, 3), 0, 1, 1), "y[i] = x[i,i+1]"),
    ],
)  # fmt: skip
def test_a_map_prints_as_its_formula(map, text):
    assert str(map) == text


def test_positions_outside_an_axis_are_left_out():
    over = indexmap.IndexMap(
        (4,), (indexmap.Position(((0, 1),), -1),), (indexmap.symbol(0),), (3,), (4,), (3,), (4,)
    )
    np.testing.assert_array_equal(over.evaluate(np.array([1.0, 2, 3])), [0, 1, 2, 3])


def test_strides_are_those_of_numpys_views():
    map = indexmap.windows_map((7, 5), (0,), (3,), (2,), (1,))
    x = np.zeros((7, 5))
    assert map.strides(x.strides) == (2 * 40, 8, 40)
    assert map.view(x).strides == (80, 8, 40)
