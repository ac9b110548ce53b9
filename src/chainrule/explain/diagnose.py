"""What is wrong with a training: read from one batch, its gradients, and one update.

The forward pass is recorded and the backward pass walked gate by gate, so everything is found from
what happened: which entries a gate let through, how large gradients are from layer to layer, which
parameters none reaches. Nothing of the model changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.context import context
from ..core.node import Node, topological
from ..errors import GradientError
from ..nn import Module
from ..ops.dispatch import to_tensor
from ..ops.tensor import Parameter, Tensor
from .forms import only_moves
from .gates import gradients
from .mistakes import in_loss, left_out
from .names import Naming
from .nonfinite import finite, first_nonfinite
from .numbers import number, place
from .slopes import Closing, closings
from .why import Why, asked, reason, why

if TYPE_CHECKING:
    from rich.table import Table

DEAD, SATURATED = 0.5, 0.5
"""Shares of units that are dead, of entries that are saturated, from which on it is a warning."""
FALL = 1e-4
"""Gradients that are smaller by this factor at the first layer than at the last vanish."""
SHRINK = 1e-3
"""Activations that are smaller by this factor at the last layer than at the first shrink."""
HIGH, LOW = 0.5, 1e-7
"""Updates of more than this share of the weights are too large, of less too small."""
LARGE_INPUT, LARGE_TARGET = 15.0, 50.0
"""Root mean squares of inputs, and of targets beside predictions, that are far off."""

SEVERITY = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that was found: its name, how bad it is, where, the number, and what to try."""

    name: str
    severity: str
    where: str
    text: str
    advice: str

    def __str__(self) -> str:
        where = f" at {self.where}" if self.where else ""
        return f"{self.severity}: {self.name}{where}. {self.text}\n    {self.advice}"


@dataclass(frozen=True)
class Layer:
    """One layer (where an array of weights is used), in forward order.

    Root mean squares of its output (over all steps of a loop: the first one starts at 0), of the
    gradient that reaches it, of its weights and of their gradient; the shares of units behind it
    that are dead, of entries that are saturated; the size of one update beside that of the weights.
    NaN where there is none.
    """

    name: str
    shape: tuple[int, ...]
    activation: float
    upstream: float
    weight: float
    gradient: float
    dead: float = np.nan
    saturated: float = np.nan
    update: float = np.nan


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The findings, worst first, and the layers they were read from. True if nothing is wrong."""

    loss: float
    findings: tuple[Finding, ...]
    layers: tuple[Layer, ...]

    def __bool__(self) -> bool:
        return not any(f.severity != "note" for f in self.findings)

    @property
    def serious(self) -> tuple[Finding, ...]:
        """Errors and warnings."""
        return tuple(f for f in self.findings if f.severity != "note")

    def rows(self) -> list[tuple[str, ...]]:
        """The layers as texts, under `HEADER`."""

        def write(x: float, percent: bool = False) -> str:
            if np.isnan(x):
                return ""
            return f"{100 * x:.0f} %" if percent else number(x, 3)

        return [
            (
                layer.name,
                "×".join(map(str, layer.shape)),
                write(layer.activation),
                write(layer.upstream),
                write(layer.weight),
                write(layer.gradient),
                write(layer.update),
                write(layer.dead, True),
                write(layer.saturated, True),
            )
            for layer in self.layers
        ]

    def __str__(self) -> str:
        rows = [HEADER, *self.rows()]
        widths = [max(len(r[k]) for r in rows) for k in range(len(HEADER))]
        lines = [f"loss {number(self.loss)}", ""]
        for row in rows if self.layers else []:
            cells = [
                c.ljust(w) if k < 1 else c.rjust(w)
                for k, (c, w) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        lines += [""] * bool(self.layers)
        lines += [str(f) for f in self.findings] or ["nothing is wrong that can be seen from here"]
        return "\n".join(lines)

    __repr__ = __str__

    def table(self) -> Table:
        """The layers as a table of rich."""
        from rich.table import Table

        result = Table(box=None, header_style="bold")
        for k, name in enumerate(HEADER):
            result.add_column(name, justify="left" if k < 1 else "right")
        for row in self.rows():
            result.add_row(*row)
        return result

    def json(self) -> dict[str, Any]:
        """All of it as plain data; numbers that are not there are None."""

        def plain(x: Any) -> Any:
            return None if isinstance(x, float) and not np.isfinite(x) else x

        return {
            "loss": plain(self.loss),
            "findings": [asdict(f) for f in self.findings],
            "layers": [{k: plain(v) for k, v in asdict(x).items()} for x in self.layers],
        }


HEADER = (
    "layer",
    "output",
    "activation",
    "gradient",
    "weights",
    "their gradient",
    "update/weights",
    "dead",
    "saturated",
)


def diagnose(
    model: Callable[..., Any],
    loss: Callable[..., Any],
    batch: Sequence[Any],
    *,
    optimizer: Any = None,
) -> Diagnosis:
    """Look for what is wrong with a training, on one batch (inputs, targets).

    `loss(predictions, targets)` gives the loss, as in `train.fit`; a batch without targets is
    (inputs,), for loss(predictions). With an optimizer one update is tried, and taken back. Found
    are: NaN and infinities with the gate that made them, parameters that get no gradient and why,
    dead and saturated units, identical units, gradients that vanish or explode over the layers,
    activations that shrink or grow, inputs and targets far from the usual scale, rates that are too
    high or too low, predictions and targets broadcast against each other, softmax applied twice,
    and parameters that the optimizer does not know. Compared are root mean squares, layer by layer.

    Raises GradientError if the loss depends on no Parameter.

    >>> import chainrule as cr
    >>> model = cr.nn.Sequential(cr.nn.Linear(3, 4), cr.nn.relu, cr.nn.Linear(4, 2), seed=0)
    >>> model[0].bias.assign(np.full(4, -50.0, np.float32))
    >>> x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    >>> found = diagnose(model, cr.nn.softmax_cross_entropy, (x, np.arange(8) % 2))
    >>> [f.name for f in found.serious]
    ['dead units', 'no gradient', 'no gradient', 'no gradient', 'no gradient']
    """
    found: Diagnosis = _looked_at(model, loss, batch, optimizer, _Diagnosing.result)
    return found


def layers(
    model: Callable[..., Any], loss: Callable[..., Any], batch: Sequence[Any]
) -> tuple[Layer, ...]:
    """The layers that `diagnose` reads, without looking for what is wrong."""
    found: tuple[Layer, ...] = _looked_at(model, loss, batch, None, _Diagnosing.layers)
    return found


def _looked_at(
    model: Any, loss: Any, batch: Any, optimizer: Any, look: Callable[[_Diagnosing], Any]
) -> Any:
    """What is seen of one step on a batch; afterwards the model is as it was."""
    inputs, *targets = (batch,) if not isinstance(batch, (tuple, list)) else tuple(batch)
    kept = None
    if isinstance(model, Module):
        kept = {k: np.array(v) for k, v in model.state().items()}
    options = {"training": True} if isinstance(model, Module) else {}
    try:
        with np.errstate(all="ignore"), context(recording=True, trace=None):
            predicted = model(inputs, **options)
            value = loss(predicted, *targets)
            return look(_Diagnosing(model, inputs, targets, predicted, value, optimizer))
    finally:
        if kept is not None and isinstance(model, Module):
            now = model.state()
            if not all(np.array_equal(now[k], v, equal_nan=v.dtype.kind == "f")
                       for k, v in kept.items()):  # fmt: skip
                model.load_state(kept)


class _Diagnosing:
    def __init__(
        self, model: Any, inputs: Any, targets: Any, predicted: Any, value: Any, optimizer: Any
    ) -> None:
        if not isinstance(value, Tensor) or value.node is None:
            raise GradientError(
                "the loss depends on no Parameter: is it computed by chainrule, and outside of "
                f"cr.no_grad? received {value!r:.60}"
            )
        self.model, self.inputs, self.targets, self.value = model, inputs, targets, value
        self.predicted = predicted[0] if isinstance(predicted, (tuple, list)) else predicted
        self.optimizer = optimizer
        self.total = value if value.size == 1 else value.mean()
        assert self.total.node is not None
        self.order = topological([self.total.node])
        self.upstream = gradients(self.order, self.total.node)
        named = model.named_parameters() if isinstance(model, Module) else []
        self.parameters: list[tuple[str, Parameter]] = named or [
            (h.name or f"parameter {k}", h)
            for k, n in enumerate(self.order)
            if n.handle is not None and isinstance(h := n.handle(), Parameter)
        ]
        self.of = {id(p): name for name, p in self.parameters}
        self.naming = Naming(self.order, self.total.node, {})
        self.findings: list[Finding] = []

    def layers(self) -> tuple[Layer, ...]:
        """The layers in forward order."""
        self.uses = list(self._weights())
        self.closings = self._closings()
        self.updates = self._updates()
        return self._layers()

    def result(self) -> Diagnosis:
        layers = self.layers()
        finite = self._finite()
        self._parameters()
        self._mistakes()
        if finite:
            self._units()
            self._identical()
            self._flow(layers)
            self._scales()
            self._rates(layers)
        order = {name: k for k, name in enumerate(SEVERITY)}
        self.findings.sort(key=lambda f: order[f.severity])
        return Diagnosis(float(self.total), tuple(self.findings), layers)

    def add(self, name: str, severity: str, where: str, text: str, advice: str) -> None:
        self.findings.append(Finding(name, severity, where, text, advice))

    # -- layers -------------------------------------------------------------------------------

    def _weights(self) -> Iterator[tuple[Node, Parameter, Node]]:
        """Every product with a weight: the gate, the Parameter, its leaf."""
        behind: dict[Node, tuple[Parameter, Node]] = {}
        for node in self.order:
            if node.primitive is None:
                handle = node.handle() if node.handle is not None else None
                if isinstance(handle, Parameter) and handle.ndim > 1:
                    behind[node] = (handle, node)
                continue
            found = [behind[x] for x in node.inputs if isinstance(x, Node) and x in behind]
            if found and (node.name == "cast" or only_moves(node)):
                behind[node] = found[0]
            elif found:
                yield (node, *found[0])

    def _closings(self) -> list[Closing]:
        """The hidden gates that can close: before the last product with weights."""
        last = max((node.serial for node, _, _ in self.uses), default=0)
        return [c for n in self.order if n.serial < last and (c := closings(n)) is not None]

    def _layers(self) -> tuple[Layer, ...]:
        firsts: dict[int, tuple[Node, Parameter, Node]] = {}
        nodes: dict[int, list[Node]] = {}
        for use in self.uses:
            firsts.setdefault(id(use[1]), use)
            nodes.setdefault(id(use[1]), []).append(use[0])
        ordered = list(firsts.values())
        layers = []
        for k, (node, parameter, leaf) in enumerate(ordered):
            end = ordered[k + 1][0].serial if k + 1 < len(ordered) else np.inf
            behind = [c for c in self.closings if node.serial < c.node.serial < end]
            both = [
                [c.dead for c in behind if not np.isnan(c.dead)],
                [c.saturated for c in behind if not np.isnan(c.saturated)],
            ]
            dead, saturated = (max(x, default=np.nan) for x in both)
            layers.append(
                Layer(
                    self.of.get(id(parameter), parameter.name or "weight"),
                    node.shape,
                    _mean([n.value for n in nodes[id(parameter)]]),
                    _mean([self.upstream[n] for n in nodes[id(parameter)]]),
                    _rms(parameter.numpy()),
                    _rms(self.upstream[leaf]),
                    dead,
                    saturated,
                    self.updates.get(id(parameter), np.nan),
                )
            )
        return tuple(layers)

    # -- findings -----------------------------------------------------------------------------

    def _finite(self) -> bool:
        """Whether loss and gradients are finite; else the gate that made the first NaN."""
        found = first_nonfinite(self.total)
        if found is not None:
            self.add(
                "not finite",
                "error",
                found.module or place(found.line),
                str(found),
                "Keep its input away from there: softmax_cross_entropy instead of log of "
                "softmax, log(x + 1e-6), a smaller rate, clipped gradients.",
            )
            return False
        for node in reversed(self.order):
            u = self.upstream[node]
            if not finite(u):
                users = [n for n in self.order if finite(self.upstream[n]) and _uses(n, node)]
                gate = users[-1] if users else node
                self.add(
                    "not finite",
                    "error",
                    ".".join(gate.scope) or place(gate.line),
                    f"the gradient that {gate.name} sends back is not finite (the loss is)",
                    "Its slope is infinite there, as that of sqrt at 0: add a small number inside.",
                )
                return False
        return True

    def _parameters(self) -> None:
        """Those that no gradient reaches, with the reason."""
        reached = {id(n.handle()): n for n in self.order if n.primitive is None and n.handle}
        for name, p in self.parameters:
            node = reached.get(id(p))
            if node is not None and (not p.size or np.any(self.upstream[node])):
                continue
            answer = self._why(p, node)
            ends = "; ".join(f"{e.gate}: {e.text}" for e in answer.ends[:2])
            text = (
                "it is not used, or only through constants"
                if node is None
                else (f"its gradient is 0: {ends}" if ends else "its gradient is 0")
            )
            self.add(
                "no gradient",
                "warning",
                name,
                text,
                "Use it in forward, and do not cut the way with stop_gradient, detach or "
                "casts to integers."
                if node is None
                else "See the dead units or zero weights on its way to the loss.",
            )

    def _mistakes(self) -> None:
        leaves = [n for n in self.order if n.primitive is None and n.handle]
        moving = {id(n.handle()) for n in leaves if np.any(self.upstream[n])}
        found = [*in_loss(self.order, self.predicted, self.targets)]
        for x in [*found, *left_out(self.parameters, moving, self.optimizer)]:
            self.add(x.name, x.severity, x.where, x.text, x.advice)

    def _why(self, p: Parameter, node: Node | None) -> Why:
        """Why a parameter gets no gradient."""
        if node is None:
            return why(self.total, p, names={})
        gradient = self.upstream[node]
        at = asked(self.order, self.naming, node, gradient) if p.size else ()
        if not p.size:
            return Why(p.name, "", 0.0, "zero", "it has no entries")
        return reason(self.order, self.naming, node, gradient, at)

    def _units(self) -> None:
        for c in self.closings:
            where = ".".join(c.node.scope) or place(c.node.line)
            gate = f"{c.node.name} of shape {c.node.shape}"
            if c.dead >= DEAD:
                severity = "error" if c.dead > 0.9 else "warning"
                self.add(
                    "dead units",
                    severity,
                    where,
                    f"{100 * c.dead:.0f} % of the units of {gate} are closed for every "
                    "example: nothing flows back through them",
                    "A smaller rate, biases at 0, initial weights for relu (He), or leaky_relu.",
                )
            if c.saturated >= SATURATED:
                self.add(
                    "saturated units",
                    "warning",
                    where,
                    f"{100 * c.saturated:.0f} % of the entries of {gate} lie where its slope "
                    "is below 1 %",
                    "Smaller initial weights (Xavier), scaled inputs, or normalisation.",
                )

    def _identical(self) -> None:
        """Layers whose units all have the same weights and get the same gradient."""
        seen: set[int] = set()
        for node, p, leaf in self.uses:
            w, g = p.numpy(), self.upstream[leaf]
            if id(p) in seen or w.shape[-1] < 2 or node is self.uses[-1][0]:
                continue
            seen.add(id(p))
            if _equal_columns(w) and _equal_columns(g):
                self.add(
                    "identical units",
                    "error",
                    self.of.get(id(p), p.name),
                    f"all {w.shape[-1]} units have the same weights and get the same gradient, "
                    "so they stay the same for ever",
                    "Draw initial weights at random; zeros are for biases.",
                )

    def _flow(self, layers: Sequence[Layer]) -> None:
        """Gradients and activations over the layers, and over repeated uses of one weight."""
        self._compare([x.upstream for x in layers], [x.name for x in layers])
        sizes = [x.activation for x in layers[:-1]]
        if len(sizes) > 2 and sizes[0] > 0:
            ratio = sizes[-1] / sizes[0]
            if ratio < SHRINK or ratio > 1 / SHRINK:
                name = "activations shrink" if ratio < 1 else "activations grow"
                self.add(
                    name,
                    "warning",
                    f"{layers[0].name} to {layers[-2].name}",
                    f"from {number(sizes[0], 3)} to {number(sizes[-1], 3)} (root mean square)",
                    "Initial weights for the activation (He for relu, Xavier for tanh), or "
                    "normalisation between the layers.",
                )
        repeated: dict[int, list[Node]] = {}
        for node, p, _ in self.uses:
            repeated.setdefault(id(p), []).append(node)
        for key, nodes in repeated.items():
            if len(nodes) > 4:
                name = self.of.get(key, "weight")
                flow = [_rms(self.upstream[n]) for n in nodes]
                self._compare(flow, [f"{name}, step {k + 1}" for k in range(len(nodes))])

    def _compare(self, flow: Sequence[float], names: Sequence[str]) -> None:
        """Gradients from the last to the first."""
        alive = [(g, n) for g, n in zip(flow, names, strict=True) if g > 0]
        if len(alive) < 3:
            return
        ratio = alive[0][0] / alive[-1][0]
        text = ", ".join(f"{number(g, 3)} at {name}" for g, name in (alive[-1], alive[0]))
        if ratio < FALL:
            self.add(
                "vanishing gradients",
                "warning",
                alive[0][1],
                text,
                "relu instead of sigmoid or tanh, larger initial weights, residual "
                "connections, normalisation; in loops an LSTM or GRU.",
            )
        if ratio > 1 / FALL:
            self.add(
                "exploding gradients",
                "error" if ratio > 1e8 else "warning",
                alive[0][1],
                text,
                "Smaller initial weights, clipped gradients (--clip 1), normalisation; in "
                "loops an orthogonal transition or an LSTM.",
            )

    def _scales(self) -> None:
        x = self.inputs.numpy() if isinstance(self.inputs, Tensor) else np.asarray(self.inputs)
        if x.dtype.kind == "f" and x.size and _rms(x) > LARGE_INPUT:
            self.add(
                "inputs not scaled",
                "warning",
                "the inputs",
                f"their root mean square is {number(_rms(x), 3)}",
                "Take the mean away and divide by the deviation (of the training part).",
            )
        if not self.targets or not isinstance(self.predicted, Tensor):
            return
        t = np.asarray(to_tensor(self.targets[0]).numpy())
        if (
            t.dtype.kind == "f"
            and t.size
            and _rms(t) > LARGE_TARGET * max(1.0, _rms(self.predicted.numpy()))
        ):
            self.add(
                "targets not scaled",
                "warning",
                "the targets",
                f"their root mean square is {number(_rms(t), 3)}, that of the predictions "
                f"{number(_rms(self.predicted.numpy()), 3)}",
                "Take their mean away and divide by their deviation, and undo it after predicting.",
            )

    def _rates(self, layers: Sequence[Layer]) -> None:
        found = [(x.update, x.name) for x in layers if not np.isnan(x.update)]
        if not found:
            return
        most, name = max(found)
        if most > HIGH:
            times = f"{100 * most:.0f} % of" if most < 10 else f"{number(most, 2)} times"
            self.add(
                "rate too high",
                "warning",
                name,
                f"one update changes its weights by {times} their size",
                "A rate ten times smaller; about 0.1 % is usual.",
            )
        elif most < LOW and any(x.gradient > 0 for x in layers):
            self.add(
                "rate too low",
                "warning",
                name,
                f"one update changes no weights by more than {number(most, 2)} of their size",
                "A larger rate; about 0.1 % is usual.",
            )

    def _updates(self) -> dict[int, float]:
        """For each weight the size of one update beside its own; all is put back."""
        if self.optimizer is None:
            return {}
        leaves = {id(n.handle()): n for n in self.order if n.primitive is None and n.handle}
        parameters = list(self.optimizer.parameters)
        before = [(p, p.numpy().copy(), p.grad) for p in parameters]
        state = {k: np.array(v) for k, v in self.optimizer.state().items()}
        try:
            for p in parameters:
                leaf = leaves.get(id(p))
                p.grad = None if leaf is None else np.array(self.upstream[leaf])
            self.optimizer.step()
            return {
                id(p): _rms(p.numpy() - old) / _rms(old)
                for p, old, _ in before
                if p.ndim > 1 and _rms(old) > 0
            }
        finally:
            for p, old, grad in before:
                p.assign(old)
                p.grad = grad
            self.optimizer.load_state(state)


def _uses(node: Node, x: Node) -> bool:
    return any(operand is x for operand in node.inputs)


def _rms(x: Any) -> float:
    """The root mean square of all entries."""
    values = np.asarray(x[0] if isinstance(x, tuple) else x, np.float64)
    return float(np.sqrt((values * values).mean())) if values.size else 0.0


def _mean(arrays: Sequence[Any]) -> float:
    """The root mean square of all entries of arrays of one size."""
    return float(np.sqrt(np.mean([_rms(x) ** 2 for x in arrays])))


def _equal_columns(x: Any) -> bool:
    values = np.asarray(x)
    spread = np.abs(values - values[..., :1]).max(initial=0)
    return bool(spread <= 1e-6 * np.abs(values).max(initial=0))
