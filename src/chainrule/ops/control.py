"""Loops, branches and recomputation: gates with a graph inside.

In eager `scan` and `cond` are plain Python over ordinary gates, every step visible. While tracing
each is one node around the graph of its body, and its derivatives are again a `scan` or a `cond`:
of the body's backward or forward pass, over the values that the body's gates had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple
from weakref import ref

import numpy as np
import optree

from ..core.context import CONTEXT, context
from ..core.graph import Graph
from ..core.node import Node
from ..core.primitive import Array, Params, Primitive
from ..core.types import FLOATS, ArrayType, TupleType
from ..errors import DTypeError, ShapeError
from .dispatch import bind, itself, to_tensor
from .logic import where
from .loop import SCAN, Loop
from .shaping import reshape, stack, unstack
from .tensor import ArrayLike, Tensor
from .tracing import Trace, by_reference

__all__ = ["cond", "remat", "scan"]


class Body(NamedTuple):
    """A function as a closed graph.

    Its inputs are those given, then one for each Tensor of `captured`; its outputs are the
    function's results in the order of `structure`, then the new value of each of `assigned`.
    """

    graph: Graph
    captured: list[Tensor]
    assigned: list[Tensor]
    structure: Any


def close(function: Callable[..., Any], types: Sequence[ArrayType],
          assigned: Sequence[Tensor] = ()) -> Body:  # fmt: skip
    """Trace a function on types; `assigned` are variables whose values are returned in any case."""
    outer = CONTEXT.get().trace
    inner = Trace(pure=outer is not None and outer.pure, nested=True)
    with context(trace=inner, recording=True):
        inputs = [inner.input(t) for t in types]
        leaves, structure = flatten(function(*inputs))
        outputs = [inner.lift(to_tensor(leaf)) for leaf in leaves]
        written = list(dict.fromkeys([*assigned, *inner.assigned]))
        outputs += [inner.lift(v) for v in written]
    inner.close()
    captured = list(inner.captured.values())
    graph = Graph.of(
        outputs, [x._node for x in inputs if x._node is not None] + [leaf for _, leaf in captured]
    )
    if inner.compiled:
        del outputs
        constants = by_reference(graph)
        captured += constants
        graph.inputs += [leaf for _, leaf in constants]
    return Body(graph, [x for x, _ in captured], written, structure)


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """The arrays of a container in order, and its structure."""
    return optree.tree_flatten(tree, namespace="chainrule")


unflatten = optree.tree_unflatten


# -- scan --------------------------------------------------------------------------------------


def scan(f: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any = None, *,
         length: int | None = None, reverse: bool = False) -> tuple[Any, Any]:  # fmt: skip
    """carry, y_t = f(carry, x_t) for t = 0, 1, …; returns the last carry and all y_t, stacked.

    `init` and what f returns as carry are containers of arrays of the same structure, shapes and
    dtypes. `xs` are arrays (a container of them), all of one length along axis 0; x_t is the
    container of their entries t. Without xs, x_t is None and `length` says how many steps. With
    `reverse` the steps go from the last entry to the first; y_t stays in its place t.

    Differentiable in both modes to any order, also by what f reads from outside. While tracing, f
    is traced once, and a variable that f assigns is carried along; a derivative through such an
    assignment is refused.

    Raises ShapeError for lengths that differ and a carry that changes its shape, DTypeError for
    one that changes its dtype.

    >>> import chainrule as cr
    >>> cr.scan(lambda total, x: (total + x, total), 0.0, cr.asarray([1.0, 2.0, 3.0]))
    (asarray(6.), asarray([0., 1., 3.]))
    """
    carry, carry_structure = flatten(init)
    carry = [itself(to_tensor(c)) for c in carry]
    arrays, xs_structure = flatten(xs)
    arrays = [to_tensor(x) for x in arrays]
    steps = _length(arrays, length)
    types = [c.type for c in carry]

    def step(*tensors: Any) -> tuple[list[Any], Any]:
        """f on flat lists, its carry checked."""
        state = unflatten(carry_structure, tensors[: len(types)])
        result = f(state, unflatten(xs_structure, tensors[len(types) :]))
        if not isinstance(result, tuple) or len(result) != 2:
            raise ShapeError(
                f"the function of scan returns a pair (carry, y), received {result!r:.80}"
            )
        new, structure = flatten(result[0])
        new = [itself(to_tensor(c)) for c in new]  # of a variable its value in this step
        _check_carry(types, carry_structure, [c.type for c in new], structure)
        leaves, structure = flatten(result[1])
        return new, unflatten(structure, [itself(to_tensor(y)) for y in leaves])

    if CONTEXT.get().trace is not None:
        carry, ys = _traced(step, carry, arrays, steps, reverse)
        return unflatten(carry_structure, carry), ys
    if not steps:  # f does not run: what it would give is found from the types
        inner = [ArrayType(x.shape[1:], x.dtype) for x in arrays]
        body = close(step, types + inner)
        outputs = body.graph.outputs[len(carry) : len(body.graph.outputs) - len(body.assigned)]
        empty = [np.empty((0, *np.shape(y)), y.type.dtype if isinstance(y, Node) else y.dtype)
                 for y in outputs]  # fmt: skip
        last, ys = unflatten(body.structure, [*carry, *map(to_tensor, empty)])
        return unflatten(carry_structure, last), ys
    rows = list(zip(*(unstack(x) for x in arrays), strict=True)) or [()] * steps
    rows_of_y: list[Any] = [None] * steps
    for t in reversed(range(steps)) if reverse else range(steps):
        carry, rows_of_y[t] = step(*carry, *rows[t])
    leaves, structure = zip(*map(flatten, rows_of_y), strict=True)
    if any(s != structure[0] for s in structure):
        raise ShapeError(
            f"y must be alike in every step, received {structure[0]} and "
            f"{next(s for s in structure if s != structure[0])}"
        )
    stacked = [stack(column) for column in zip(*leaves, strict=True)]
    return unflatten(carry_structure, carry), unflatten(structure[0], stacked)


def _length(arrays: Sequence[Tensor], length: int | None) -> int:
    if any(not x.ndim for x in arrays):
        raise ShapeError("scan goes along axis 0 of xs: a 0-d array has none")
    found = {x.shape[0] for x in arrays} | (set() if length is None else {length})
    if len(found) != 1 or min(found) < 0:
        raise ShapeError(
            f"scan needs one length of 0 or more, received {sorted(found)} from xs and length="
            if found
            else "scan needs xs or length=: how many steps?"
        )
    return int(found.pop())


def _check_carry(types: Sequence[ArrayType], structure: Any, new: Sequence[ArrayType],
                 new_structure: Any) -> None:  # fmt: skip
    if structure != new_structure:
        raise ShapeError(
            f"the carry of scan is a container like init: {structure}, after a step {new_structure}"
        )
    for k, (before, after) in enumerate(zip(types, new, strict=True)):
        if before.shape != after.shape:
            raise ShapeError(
                f"the carry of scan keeps its shape: array {k} is {before.shape} at first and "
                f"{after.shape} after a step"
            )
        if before.dtype != after.dtype:
            raise DTypeError(
                f"the carry of scan keeps its dtype: array {k} is {before.dtype} at first and "
                f"{after.dtype} after a step; give init in {after.dtype}, or cast in the function"
            )


def _traced(step: Callable[..., Any], carry: list[Tensor], arrays: list[Tensor], length: int,
            reverse: bool) -> tuple[list[Any], Any]:  # fmt: skip
    """One node for the loop: the last carries, and the stacked results."""
    types = [c.type for c in carry] + [ArrayType(x.shape[1:], x.dtype) for x in arrays]
    body = close(step, types)
    graph, hidden = body.graph, body.assigned
    own, count = len(carry), len(types)
    xs_leaves = graph.inputs[own:count]
    outside = dict(zip(graph.inputs[count:], body.captured, strict=True))
    hoist(graph, outside, hidden)
    # a variable that the body assigns is a carry, too
    leaf_of = {id(x): leaf for leaf, x in outside.items()}
    extra = [leaf_of.get(id(v)) or Node(None, (), None, None, v.type) for v in hidden]
    used = {x for node in graph.nodes for x in node.inputs if isinstance(x, Node)}
    used.update(x for x in graph.outputs if isinstance(x, Node))
    captured = {leaf: x for leaf, x in outside.items() if leaf in used and leaf not in extra}
    scanned = [(n, x) for n, x in zip(xs_leaves, arrays, strict=True) if n in used]
    carries = own + len(hidden)
    results = graph.outputs[own : len(graph.outputs) - len(hidden)]
    new = graph.outputs[:own] + graph.outputs[len(graph.outputs) - len(hidden) :]
    inputs = [*captured, *graph.inputs[:own], *extra, *(n for n, _ in scanned)]
    closed = Graph(inputs, graph.nodes, new + results)
    loop = Loop(closed, len(captured), carries, len(hidden), length, reverse)
    operands = (*captured.values(), *carry, *hidden, *(x for _, x in scanned))
    out = bind(SCAN, operands, {"loop": loop})
    for variable, value in zip(hidden, out[own:carries], strict=True):
        variable.assign(value)
    last = list(out[:own])
    ys = unflatten(body.structure, [*last, *out[carries : carries + len(results)]])[1]
    return last, ys


def hoist(graph: Graph, outside: dict[Node, Tensor], changing: Sequence[Tensor]) -> None:
    """Take gates that depend on captured Tensors alone out of the loop: `graph` and `outside`
    change. Broadcasts stay, outside they would only make an array larger.
    """
    values: dict[Node, Any] = {
        leaf: x for leaf, x in outside.items() if not any(x is v for v in changing)
    }
    outputs = {x for x in graph.outputs if isinstance(x, Node)}
    kept: list[Node] = []
    frontier: dict[Node, Node] = {}
    for node in graph.nodes:
        operands = [values.get(x) if isinstance(x, Node) else x for x in node.inputs]
        fixed = all(x is not None for x in operands)
        if fixed and node.name != "broadcast" and node not in outputs and _single(node):
            values[node] = bind(node.primitive, tuple(operands), node.params or {})  # type: ignore[arg-type]
            continue
        for x in node.inputs:
            if isinstance(x, Node) and x in values and x not in outside and x not in frontier:
                frontier[x] = Node(None, (), None, None, x.type)
        node.inputs = tuple(frontier.get(x, x) if isinstance(x, Node) else x for x in node.inputs)
        kept.append(node)
    graph.nodes[:] = kept
    for node, leaf in frontier.items():
        leaf.handle = ref(values[node])
        outside[leaf] = values[node]


def _single(node: Node) -> bool:
    return not isinstance(node.type, TupleType) and node.name != "item"


# -- cond --------------------------------------------------------------------------------------


def cond(predicate: ArrayLike, true: Callable[..., Any], false: Callable[..., Any],
         *operands: Any) -> Any:  # fmt: skip
    """true(*operands) if predicate else false(*operands).

    `predicate` is one bool (or a number, true where it is not 0), the operands are containers of
    arrays. In eager only the chosen function is called. While tracing both are traced, must return
    like containers with the same shapes and dtypes, and one of them will run; a variable that one
    of them assigns keeps its value in the other. Under `vmap` with a predicate that differs
    between the examples both run, and `where` selects.

    >>> import chainrule as cr
    >>> float(cr.cond(True, cr.exp, cr.log, 0.0))
    1.0
    """
    condition = to_tensor(predicate)
    if condition.size != 1:
        raise ShapeError(
            f"cond takes one predicate, received shape {condition.shape}: cr.where selects entry "
            "by entry"
        )
    if CONTEXT.get().trace is None:
        return now((true if condition.item() else false)(*operands))
    leaves, structure = flatten(operands)
    tensors = [to_tensor(x) for x in leaves]
    types = [x.type for x in tensors]

    def run(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *inputs: function(*unflatten(structure, inputs))

    written: list[Tensor] = []
    for branch in (true, false):
        written = list(dict.fromkeys([*written, *close(run(branch), types).assigned]))
    first, second = (close(run(branch), types, written) for branch in (true, false))
    _check_branches(first, second)
    condition = condition.reshape(()).astype(bool)
    params = {"bodies": (first.graph, second.graph), "operands": len(tensors)}
    out = bind(COND, (condition, *tensors, *first.captured, *second.captured), params)
    count = len(out) - len(written)
    for variable, value in zip(written, out[count:], strict=True):
        variable.assign(value)
    return unflatten(first.structure, out[:count])


def now(tree: Any) -> Any:
    """A result with the present values in place of variables, which may be assigned later."""
    return optree.tree_map(
        lambda x: itself(x) if isinstance(x, Tensor) else x, tree, namespace="chainrule"
    )


def _check_branches(first: Body, second: Body) -> None:
    if first.structure != second.structure:
        raise ShapeError(
            f"both functions of cond return like containers: {first.structure} and "
            f"{second.structure}"
        )
    for k, (one, other) in enumerate(zip(_types(first.graph), _types(second.graph), strict=True)):
        if one != other:
            raise ShapeError(
                f"both functions of cond return the same shapes and dtypes: result {k} is {one} "
                f"and {other}"
            )


def _types(graph: Graph) -> list[ArrayType]:
    return [o.type if isinstance(o, Node) else ArrayType(o.shape, o.dtype) for o in graph.outputs]


class Cond(Primitive):
    """The outputs of one of two graphs. Inputs: predicate, operands, what each captured."""

    name = "cond"
    joint = True

    def forward(self, *arrays: Array, bodies: Any, operands: int) -> tuple[Array, ...]:
        return evaluate(*self._chosen(bool(arrays[0]), arrays, bodies, operands))

    @staticmethod
    def _chosen(first: bool, inputs: Sequence[Any], bodies: Sequence[Graph],
                operands: int) -> tuple[Graph, list[Any]]:  # fmt: skip
        """A branch and what it takes."""
        given, captured = inputs[1 : 1 + operands], inputs[1 + operands :]
        count = len(bodies[0].inputs) - operands
        return bodies[not first], [*given, *(captured[:count] if first else captured[count:])]

    def type(self, *types: ArrayType, **params: Any) -> TupleType:
        return TupleType(tuple(_types(params["bodies"][0])))

    def bodies(self, params: Params) -> Sequence[Graph]:
        return params["bodies"]  # type: ignore[no-any-return]

    def describe(self, params: Params) -> str:
        return "true and false"

    def replay(self, xp: Any, inputs: Sequence[Any], params: Params) -> Any:
        true, false = (self._branch(which, params) for which in (True, False))
        return cond(inputs[0], true, false, *inputs)

    def _branch(self, which: bool, params: Params) -> Callable[..., tuple[Any, ...]]:
        return lambda *inputs: tuple(replay(*self._chosen(which, inputs, **params)))

    def pull_all(self, xp: Any, upstream: Any, out: Any, inputs: Sequence[Any], params: Params,
                 wanted: Sequence[bool]) -> Sequence[Any]:  # fmt: skip
        places = floating(inputs, wanted)

        def branch(which: bool) -> Callable[..., Any]:
            function = self._branch(which, params)
            return lambda ups, *given: linearized(function, given, places).pull(ups)

        return placed(cond(inputs[0], branch(True), branch(False), upstream, *inputs),
                      places, len(inputs))  # fmt: skip

    def push_all(self, xp: Any, tangents: Sequence[Any], out: Any, inputs: Sequence[Any],
                 params: Params) -> Any:  # fmt: skip
        places = floating(inputs, [t is not None for t in tangents])

        def branch(which: bool) -> Callable[..., Any]:
            function = self._branch(which, params)
            return lambda moved, *given: tuple(linearized(function, given, places).push(moved))

        moving = [tangents[i] for i in places]
        return cond(inputs[0], branch(True), branch(False), moving, *inputs)

    def batch(self, xp: Any, n: int, inputs: Sequence[Any], batched: Sequence[bool],
              params: Params) -> Any:  # fmt: skip
        from ..autodiff.batching import replay_batch

        def branch(which: bool) -> Callable[..., Any]:
            flags = self._chosen(which, batched, **params)[1]
            return lambda *given: tuple(
                replay_batch(*self._chosen(which, given, **params), flags, n)
            )

        if not batched[0]:
            return cond(inputs[0], branch(True), branch(False), *inputs)
        pairs = zip(branch(True)(*inputs), branch(False)(*inputs), strict=True)
        return tuple(
            where(reshape(inputs[0], (n,) + (1,) * (one.ndim - 1)), one, other)
            for one, other in pairs
        )


# -- remat -------------------------------------------------------------------------------------


def remat(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which keeps only its inputs: what is inside is computed again in backward.

    For functions with large intermediates: memory of one evaluation, time of one more. The
    function is traced at each call, so it cannot branch on values; arrays in its arguments are
    differentiated, and so is what it reads from outside. Random numbers are the same both times.

    >>> import chainrule as cr
    >>> x = cr.tensor([1.0, 2.0])
    >>> y = cr.remat(lambda x: cr.exp(cr.sin(x)).sum())(x)
    >>> y.backward()
    >>> bool(cr.all(cr.abs(x.grad - cr.cos(x) * cr.exp(cr.sin(x))) < 1e-6))
    True
    """

    @wraps(function)
    def rematerialized(*args: Any, **kwargs: Any) -> Any:
        now = CONTEXT.get()
        if now.trace is None and not now.recording:
            return function(*args, **kwargs)
        everything, structure = flatten((args, kwargs))
        places = [k for k, x in enumerate(everything) if isinstance(x, (Tensor, np.ndarray))]

        def run(*inputs: Any) -> Any:
            full = list(everything)
            for k, x in zip(places, inputs, strict=True):
                full[k] = x
            own, named = unflatten(structure, full)
            return function(*own, **named)

        tensors = [to_tensor(everything[k]) for k in places]
        body = close(run, [x.type for x in tensors])
        out = bind(REMAT, (*tensors, *body.captured), {"body": body.graph})
        count = len(out) - len(body.assigned)
        for variable, value in zip(body.assigned, out[count:], strict=True):
            variable.assign(value)
        return unflatten(body.structure, out[:count])

    return rematerialized


class Remat(Primitive):
    """The outputs of a graph, of which nothing else is kept."""

    name = "remat"
    joint = True

    def forward(self, *arrays: Array, body: Graph) -> tuple[Array, ...]:
        return evaluate(body, arrays)

    def type(self, *types: ArrayType, **params: Any) -> TupleType:
        return TupleType(tuple(_types(params["body"])))

    def bodies(self, params: Params) -> Sequence[Graph]:
        return (params["body"],)

    def describe(self, params: Params) -> str:
        return f"{len(params['body'])} gates"

    def pull_all(self, xp: Any, upstream: Any, out: Any, inputs: Sequence[Any], params: Params,
                 wanted: Sequence[bool]) -> Sequence[Any]:  # fmt: skip
        places = floating(inputs, wanted)
        line = linearized(lambda *given: replay(params["body"], given), inputs, places)
        return bare(xp, placed(line.pull(upstream), places, len(inputs)))

    def push_all(self, xp: Any, tangents: Sequence[Any], out: Any, inputs: Sequence[Any],
                 params: Params) -> Any:  # fmt: skip
        places = floating(inputs, [t is not None for t in tangents])
        line = linearized(lambda *given: replay(params["body"], given), inputs, places)
        return tuple(bare(xp, line.push([to_tensor(tangents[i]) for i in places])))

    def batch(self, xp: Any, n: int, inputs: Sequence[Any], batched: Sequence[bool],
              params: Params) -> Any:  # fmt: skip
        from ..autodiff.batching import replay_batch

        def run(*given: Any) -> tuple[Any, ...]:
            return tuple(replay_batch(params["body"], given, batched, n))

        return remat(run)(*inputs)


COND, REMAT = Cond(), Remat()


# -- graphs inside gates -----------------------------------------------------------------------


def evaluate(graph: Graph, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of a closed graph, in NumPy."""

    def apply(node: Node, operands: list[Any]) -> Any:
        return node.primitive.forward(*operands, **(node.params or {}))  # type: ignore[union-attr]

    outputs, _ = graph.run(dict(zip(graph.inputs, arrays, strict=True)), apply)
    return tuple(map(np.asarray, outputs))


def replay(graph: Graph, inputs: Sequence[Any]) -> list[Any]:
    """The outputs of a closed graph, gate by gate in the present context."""
    from .. import ops

    def apply(node: Node, operands: list[Any]) -> Any:
        return node.primitive.replay(ops, operands, node.params or {})  # type: ignore[union-attr]

    return graph.run(dict(zip(graph.inputs, inputs, strict=True)), apply)[0]


def linearized(function: Callable[..., Any], inputs: Sequence[Any], places: Sequence[int]) -> Any:
    """A function at a point, to pull and push through by the inputs in some places."""
    from ..autodiff.reverse import Linearized

    def run(moving: Sequence[Any]) -> tuple[Any, ...]:
        full = list(map(to_tensor, inputs))
        for i, x in zip(places, moving, strict=True):
            full[i] = x
        return tuple(function(*full))

    return Linearized(run, [to_tensor(inputs[i]) for i in places])


def floating(inputs: Sequence[Any], wanted: Sequence[bool]) -> list[int]:
    """The places of those wanted inputs that have a derivative."""
    return [i for i, w in enumerate(wanted) if w and inputs[i].dtype.char in FLOATS]


def placed(found: Sequence[Any], places: Sequence[int], count: int) -> list[Any]:
    """A list with these entries in these places, else None."""
    full: list[Any] = [None] * count
    for i, x in zip(places, found, strict=True):
        full[i] = x
    return full


def bare(xp: Any, tensors: Sequence[Any]) -> list[Any]:
    """What a rule returns: Tensors if it is recorded, else arrays."""
    if xp.apply is bind:
        return list(tensors)
    return [x if x is None else np.asarray(x._value) for x in tensors]
