"""Reverse mode: downstream = upstream × local, gate by gate from the output back.

`Linearized` is a function at a point: the recorded graph between its inputs and outputs, through
which upstream gradients are pulled and tangents are pushed. `backward`, `grad`, `vjp` and (in
forward.py) `jvp` are thin around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from weakref import ref

import numpy as np
import optree

from .. import ops
from ..core import bare
from ..core.context import CONTEXT, context
from ..core.node import Node, topological
from ..core.primitive import ITEM, LINK, Params
from ..core.types import FLOATS, TupleType, float32
from ..errors import DTypeError, GradientError, ShapeError
from ..ops.control import now
from ..ops.dispatch import bind, to_tensor
from ..ops.number import TracedNumber
from ..ops.tensor import ArrayLike, Parameter, Tensor, as_array, constant, leaked, variable_value
from .containers import flatten, select, unflatten

Function = Callable[..., Any]
Handles = Callable[[Node], tuple[list[Any], Any]]
"""The inputs and the output of a node, as rules see them."""
ndarray = np.ndarray


def handle_of(node: Node) -> Tensor:
    """A Tensor on a node: the one that is held, or a new one."""
    handle = node.handle() if node.handle is not None else None
    if handle is not None and handle._node is node:
        return handle  # type: ignore[no-any-return]
    result = object.__new__(Tensor)
    result._value, result._node = node.value, node
    return result


def pull_back(
    order: Sequence[Node],
    table: dict[Node, Any],
    xp: Any,
    visit: Callable[[Node, Any, Any], None],
    active: set[Node] | None = None,
    handles: Handles | None = None,
) -> None:
    """upstream × local through every node of `order`, last first.

    `table` holds the upstream gradients to begin with. visit(node, handle, gradient) is called
    for each node with a Tensor that is still held, when its gradient is complete; after that it is
    forgotten. `active` are the nodes through which gradients flow (None: all). With `handles`,
    rules see the Tensors it gives, so that the gradient depends on them; else bare arrays.
    """
    get, take = table.get, table.pop
    for node in reversed(order):
        u = take(node, None)
        if u is None:
            continue
        if node.handle is not None:
            handle = node.handle()
            if handle is not None:
                visit(node, handle, u)
        primitive = node.primitive
        if primitive is None or (active is not None and node not in active):
            continue
        if not primitive.differentiable:  # recorded in traces only: nothing flows back
            continue
        inputs = node.inputs
        if primitive is ITEM:
            parts = get(inputs[0])
            if parts is None:
                parts = table[inputs[0]] = [None] * len(inputs[0].type.items)
            k = node.params["index"]  # type: ignore[index]
            parts[k] = u if parts[k] is None else parts[k] + u
            continue
        if handles is not None:
            operands, out = handles(node)
        else:
            operands, out = [x.data if x.__class__ is Node else x for x in inputs], node.data
        params: Params = node.params  # type: ignore[assignment]
        joint: Any = None
        if primitive.joint:
            wanted = [x.__class__ is Node and (active is None or x in active) for x in inputs]
            joint = primitive.pull_all(xp, u, out, operands, params, wanted)
        for i, x in enumerate(inputs):
            if x.__class__ is not Node or (active is not None and x not in active):
                continue
            if joint is None:
                g = primitive.local(i, xp, out, operands, params).pull(xp, u)
            else:
                g = joint[i]
            if g is not None:
                before = get(x)
                table[x] = g if before is None else before + g


def handles_of(node: Node) -> tuple[list[Any], Any]:
    """The inputs and the output of a node as Tensors (a tuple of them for several outputs)."""
    operands = [handle_of(x) if x.__class__ is Node else x for x in node.inputs]
    kind: Any = node.type
    if isinstance(kind, TupleType):
        return operands, tuple(_item_of(node, k) for k in range(len(kind.items)))
    return operands, handle_of(node)


def _item_of(node: Node, index: int) -> Tensor:
    """One output of a gate with several, as a Tensor that depends on the gate."""
    data = None if node.data is None else node.data[index]
    item = Node(ITEM, (node,), {"index": index}, data, node.type.items[index], node.where)  # type: ignore[attr-defined]
    trace = CONTEXT.get().trace
    if trace is not None and node in trace.own:
        trace.own.add(item)
    return handle_of(item)


def backward(y: Tensor, gradient: ArrayLike | None = None) -> None:
    """Set `.grad` on variables and held intermediates; add to it on Parameters."""
    node = y._node
    trace = CONTEXT.get().trace
    recorded = trace is not None
    order = [] if node is None else topological([node])
    left = {n for n in order if n.primitive is None}  # the variables not reached yet
    if recorded:
        order, left = _without_constants(order)
    if node is None or (recorded and not left):
        raise GradientError(
            "backward of a constant: it was computed from no variable. Make variables with "
            "cr.tensor or cr.Parameter (and not inside cr.no_grad)"
        )
    if trace is not None:
        trace.start_backward()
    elif y._value is None:
        raise leaked("backward()")
    u = _upstream(y, gradient)
    reached: set[int] = set()

    def visit(n: Node, handle: Any, g: Any) -> None:
        left.discard(n)
        # a variable assigned in between stands in the graph with both its values
        adds = handle.__class__ is Parameter or id(handle) in reached
        reached.add(id(handle))
        before = handle.grad if adds else None
        if before is not None:
            g = (before if recorded else before._value) + g
        if trace is not None:
            trace.set_gradient(handle, to_tensor(g))
        else:
            handle._grad = constant(g if g.__class__ is ndarray else np.asarray(g))

    with np.errstate(all="ignore"):  # infinite partials are met with strong zeros, not warnings
        xp = ops if recorded else bare.xp
        pull_back(
            order,
            {node: u if recorded else u._value},
            xp,
            visit,
            handles=handles_of if recorded else None,
        )
        for n in list(left):  # in the graph, but nothing came back: the gradient is 0
            handle = n.handle() if n.handle is not None else None
            if handle is not None:
                zero = np.zeros(n.shape, n.type.dtype)
                visit(n, handle, to_tensor(zero) if recorded else zero)


def _without_constants(order: list[Node]) -> tuple[list[Node], set[Node]]:
    """Of the nodes of a trace those that gradients reach from the last, and which are leaves.

    What `stop_gradient` gives is a constant in eager; there it is a node, with all that is above.
    The value assigned to a variable is such a node, too, but a leaf.
    """
    ends = [n for n in order if n.primitive is not None and not n.primitive.differentiable]
    order = topological(order[-1:], ends)
    handles = {n: n.handle() for n in ends if n.handle is not None}
    assigned = {n for n, handle in handles.items() if handle is not None and handle.is_variable}
    return order, {n for n in order if n.primitive is None or n in assigned}


def _upstream(y: Tensor, gradient: ArrayLike | None) -> Tensor:
    """The gradient at the output: what the caller gave, or 1 for a scalar."""
    if gradient is None:
        if y.size != 1:
            raise GradientError(
                f"backward of a Tensor of shape {y.shape} needs the gradient at it: "
                "y.backward(gradient) with an array of that shape, or y.sum().backward()"
            )
        return constant(np.ones(y.shape, y.dtype))
    u = gradient if isinstance(gradient, Tensor) else to_tensor(np.array(as_array(gradient)))
    if u.shape != y.shape:
        raise ShapeError(
            f"the upstream gradient must have the shape of the output: {y.shape}, "
            f"received {u.shape}"
        )
    return u if u.dtype == y.dtype else ops.astype(u, y.dtype)


def fresh(x: ArrayLike) -> Tensor:
    """A new Tensor with the value of x to differentiate by, linked to x by an identity node."""
    if isinstance(x, TracedNumber):
        x = x.astype(float32)
    typed = isinstance(x, (Tensor, np.ndarray, np.generic))
    if isinstance(x, bool) or (typed and x.dtype.char not in FLOATS):
        kind = x.dtype if typed else "bool"
        raise DTypeError(
            f"cannot differentiate by {kind} values: pass float32 or float64, or leave the "
            "argument out (wrt= names the ones to differentiate by)"
        )
    traced = CONTEXT.get().trace is not None
    if traced or (isinstance(x, Tensor) and x._node is not None):
        link: Tensor = bind(LINK, (x if isinstance(x, Tensor) else variable_value(x),), {})
        return link
    if isinstance(x, Tensor):
        return linked(x._value)
    return linked(np.asarray(x) if typed else variable_value(x))


def linked(value: Any) -> Tensor:
    """An identity node on an array."""
    result = constant(value)
    result._node = Node(LINK, (value,), {}, value)
    result._node.handle = ref(result)
    return result


class Linearized:
    """f at x: the graph between fresh variables and the outputs, pulled and pushed through."""

    def __init__(self, function: Function, leaves: Sequence[ArrayLike]) -> None:
        outer = CONTEXT.get()
        with context(recording=True, functional=True):
            self.inputs = [fresh(x) for x in leaves]
            self.wanted = [x._node for x in self.inputs if x._node is not None]
            result = function(self.inputs)
        self.outputs, self.structure = flatten(result, what="the result")
        self.outputs = [to_tensor(o) for o in self.outputs]
        roots = [o._node for o in self.outputs if o._node is not None]
        since = min((n.serial for n in self.wanted), default=0)
        self.order = topological(roots, self.wanted, since)
        self.active = active_nodes(self.order, self.wanted)
        wanted = set(self.wanted)
        # whether the derivative depends on anything outside: an older node, or another variable
        self.differentiable = outer.trace is not None or (
            outer.recording
            and (
                any(n.inputs[0].__class__ is Node for n in self.wanted)
                or any(
                    n.serial < since or (n.primitive is None and n not in wanted)
                    for n in self.order
                )
            )
        )

    def namespace(self, vectors: Iterable[Tensor]) -> Any:
        """Record the derivative if it depends on something that is itself recorded."""
        now = CONTEXT.get()
        if now.trace is not None:
            return ops
        dependent = any(v._node is not None for v in vectors)
        return ops if now.recording and (self.differentiable or dependent) else bare.xp

    def pull(self, upstreams: Sequence[Any]) -> list[Tensor]:
        """The gradient by each input, for an upstream gradient (or None) at each output."""
        given = [None if u is None else to_tensor(u) for u in upstreams]
        xp = self.namespace(u for u in given if u is not None)
        table: dict[Node, Any] = {}
        for o, u in zip(self.outputs, given, strict=True):
            if o._node is not None and u is not None:
                v = u if xp is ops else u._value
                table[o._node] = table[o._node] + v if o._node in table else v
        found: dict[Node, Any] = {}
        with np.errstate(all="ignore"):
            pull_back(
                self.order, table, xp, lambda n, _, g: found.__setitem__(n, g), self.active,
                handles_of if self.differentiable else None,
            )  # fmt: skip
        return [
            self._result(found.get(n), x) for n, x in zip(self.wanted, self.inputs, strict=True)
        ]

    def push(self, tangents: Sequence[Tensor]) -> list[Tensor]:
        """How each output moves when each input moves along its tangent."""
        xp = self.namespace(tangents)
        table: dict[Node, Any] = {}
        for n, t in zip(self.wanted, tangents, strict=True):
            table[n] = t if xp is ops else t._value
        with np.errstate(all="ignore"):
            push_forward(self.order, table, xp, handles_of if self.differentiable else None)
        return [
            self._result(table.get(o._node) if o._node is not None else None, o)
            for o in self.outputs
        ]

    @staticmethod
    def _result(value: Any, like: Tensor) -> Tensor:
        if value is None:
            return constant(np.zeros(like.shape, like.dtype))
        return value if isinstance(value, Tensor) else constant(np.asarray(value))


def push_forward(
    order: Sequence[Node], table: dict[Node, Any], xp: Any, handles: Handles | None = None
) -> None:
    """local × tangent through every node of `order`; the tangent of each node goes into `table`."""
    for node in order:
        primitive = node.primitive
        if primitive is None or not primitive.differentiable or node in table:
            continue
        inputs = node.inputs
        if primitive is ITEM:
            parts = table.get(inputs[0])
            tangent = None if parts is None else parts[node.params["index"]]  # type: ignore[index]
            if tangent is not None and node.type.dtype.char in FLOATS:
                table[node] = tangent
            continue
        tangents = [table.get(x) if x.__class__ is Node else None for x in inputs]
        if all(t is None for t in tangents):
            continue
        if handles is not None:
            operands, out = handles(node)
        else:
            operands, out = [x.data if x.__class__ is Node else x for x in inputs], node.data
        params: Params = node.params  # type: ignore[assignment]
        total: Any = None
        if primitive.joint:
            total = primitive.push_all(xp, tangents, out, operands, params)
        else:
            for i, tangent in enumerate(tangents):
                if tangent is not None:
                    t = primitive.local(i, xp, out, operands, params).push(xp, tangent)
                    total = t if total is None else total if t is None else total + t
        if total is not None:
            table[node] = total


def active_nodes(order: Sequence[Node], wanted: Iterable[Node]) -> set[Node]:
    """The nodes of `order` that depend on a wanted one."""
    active = set(wanted)
    for node in order:
        if any(x.__class__ is Node and x in active for x in node.inputs):
            active.add(node)
    return active


# -- the functions users call ------------------------------------------------------------------


def vjp(function: Function, *args: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The value of function(*args), and pull: upstream → upstream × Jacobian for each argument.

    pull returns a tuple, one entry an argument, each a container like the argument.

    >>> import chainrule as cr
    >>> y, pull = cr.vjp(lambda x: x * x, cr.asarray([1.0, 2.0]))
    >>> pull(cr.asarray([1.0, 1.0]))
    (asarray([2., 4.]),)
    """
    leaves, structure = flatten(args, what="the arguments")
    line = Linearized(lambda xs: function(*unflatten(structure, xs)), leaves)

    def pull(upstream: Any) -> Any:
        given, _ = flatten(upstream, what="the upstream gradient")
        if len(given) != len(line.outputs):
            raise ShapeError(
                f"the upstream gradient must be like the result: {len(line.outputs)} arrays, "
                f"received {len(given)}"
            )
        ups = [_upstream(o, u) for o, u in zip(line.outputs, given, strict=True)]
        return unflatten(structure, line.pull(ups))

    return _detached(line), pull


def _detached(line: Linearized) -> Any:
    """The result of the function, depending on what its inputs do and not on the fresh ones."""
    return unflatten(line.structure, [_detach(line, o) for o in line.outputs])


def _detach(line: Linearized, tree: Any) -> Any:
    """Tensors without their dependence on the fresh ones, if they depend on nothing else."""
    if line.differentiable:
        return now(tree)
    return optree.tree_map(
        lambda x: x.detach() if isinstance(x, Tensor) else x, tree, namespace="chainrule"
    )


def value_and_grad(
    function: Function, wrt: Any = 0, *, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that returns the value of a scalar function and its gradient by one argument.

    `wrt` names the argument: its position, its name, or a tuple of them. With `has_aux` the
    function returns (value, anything), and so does the value here.

    >>> import chainrule as cr
    >>> value, gradient = cr.value_and_grad(lambda x: (x * x).sum())(cr.asarray([1.0, 2.0]))
    >>> float(value), gradient
    (5.0, asarray([2., 4.]))
    """

    def value_and_gradient(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        chosen, call = select(function, wrt, args, kwargs)
        leaves, structure = flatten(chosen, what="the argument to differentiate by")
        aux: list[Any] = []

        def run(xs: list[Tensor]) -> Any:
            result = call(unflatten(structure, xs))
            if has_aux:
                if not isinstance(result, tuple) or len(result) != 2:
                    raise GradientError(
                        "with has_aux=True the function returns a pair (value, anything), "
                        f"received {type(result).__name__}"
                    )
                result, extra = result
                aux.append(extra)
            return result

        line = Linearized(run, leaves)
        if len(line.outputs) != 1 or line.outputs[0].size != 1:
            raise GradientError(
                "grad takes a function with one scalar result, received "
                + (", ".join(str(o.type) for o in line.outputs) or "none")
                + "; take its sum, or use cr.vjp or cr.jacobian"
            )
        y = line.outputs[0]
        if y.dtype.char not in FLOATS:
            raise GradientError(f"the gradient of a result of dtype {y.dtype} is not defined")
        gradient = unflatten(structure, line.pull([constant(np.ones(y.shape, y.dtype))]))
        value = _detached(line)
        return ((value, _detach(line, aux[0])) if has_aux else value), gradient

    return value_and_gradient


def grad(function: Function, wrt: Any = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """The gradient of a scalar function by one argument, as a function; composable to any order.

    `wrt` names the argument: its position, its name, or a tuple of them. The gradient is a
    container like the argument. With `has_aux` it returns (gradient, aux).

    >>> import chainrule as cr
    >>> float(cr.grad(cr.grad(lambda x: x**3))(2.0))
    12.0
    """
    both = value_and_grad(function, wrt, has_aux=has_aux)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, result = both(*args, **kwargs)
        return (result, value[1]) if has_aux else result

    return gradient


def linear_transpose(
    function: Function, shapes: Sequence[Any], dtypes: Sequence[Any], vector: Any
) -> list[Any]:
    """The transpose of a linear function of arrays of these shapes, applied to a vector."""
    zeros = [np.zeros(s, d) for s, d in zip(shapes, dtypes, strict=True)]
    line = Linearized(lambda xs: function(*xs), zeros)
    return list(line.pull([to_tensor(vector)]))
