"""Kernels, memory and time as people read them: the compiler shows what it made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..core.types import size_of
from .kernels import (
    Accumulated,
    Affine,
    Apply,
    Buffer,
    Call,
    Const,
    Expression,
    Guard,
    Kernel,
    Load,
    Loops,
    Position,
    Product,
    Random,
    Reduce,
    Repeat,
    Store,
    Symbol,
    Where,
    affine,
)

LETTERS = "ijklmnopqrstuvwxyzabcdefgh"
INFIX = {
    "add": "+", "sub": "-", "mul": "·", "div": "/", "equal": "==", "not_equal": "!=", "less": "<",
    "less_equal": "<=", "greater": ">", "greater_equal": ">=", "scale_gradient": "·",
    "logical_and": "and", "logical_or": "or",
}  # fmt: skip
WIDEST = 400
"""Characters of one formula; longer ones are cut."""


def si(value: float, unit: str) -> str:
    """A number with a prefix, such as 1.31 MB."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


class Writer:
    """One kernel in words. Symbols get letters in the order of the loops."""

    def __init__(self, outer: dict[Symbol, str] | None = None) -> None:
        self.names: dict[Symbol, str] = dict(outer or {})

    def symbol(self, s: Symbol) -> str:
        if s not in self.names:
            k = len(self.names)
            self.names[s] = LETTERS[k] if k < len(LETTERS) else f"s{k}"
        return self.names[s]

    def affine(self, p: Affine) -> str:
        parts = [
            self.symbol(s)
            if a == 1
            else f"-{self.symbol(s)}"
            if a == -1
            else f"{a}·{self.symbol(s)}"
            for s, a in p.terms
        ]
        if p.offset or not parts:
            parts.append(str(p.offset))
        return " + ".join(parts).replace("+ -", "- ")

    def guards(self, guards: Sequence[Guard]) -> str:
        return " and ".join(f"0 <= {self.affine(g.position)} < {g.size}" for g in guards)

    def place(self, buffer: Buffer, address: Affine, tables: Any = ()) -> str:
        index = self.affine(address)
        for stride, x, _ in tables:
            index += f" + {stride}·{self.text(x)}"
        return f"{buffer!r}[{index}]"

    def text(self, x: Expression) -> str:
        """An expression as a formula."""
        if isinstance(x, Const):
            return f"{x.value:g}" if x.dtype.kind == "f" else str(x.value)
        if isinstance(x, Accumulated):
            return "Σ"
        if isinstance(x, Load):
            found = self.place(x.buffer, x.address, x.tables)
            return f"({found} if {self.guards(x.guards)} else 0)" if x.guards else found
        if isinstance(x, Where):
            return f"({self.text(x.x)} if {self.guards(x.guards)} else 0)"
        if isinstance(x, Position):
            return self.affine(x.position)
        if isinstance(x, Random):
            return f"random_bits({self.text(x.key[0])}, {self.affine(x.position)})"
        if isinstance(x, Reduce):
            over = ",".join(f"{self.symbol(s)}<{n}" for s, n in x.loops)
            return f"{'Σ' if x.op == 'sum' else x.op}[{over}]({self.text(x.x)})"
        assert isinstance(x, Apply)
        args = [self.text(a) for a in x.args]
        if x.name in INFIX:
            return f"({args[0]} {INFIX[x.name]} {args[1]})"
        if x.name == "cast":
            return f"{x.dtype}({args[0]})"
        return f"{x.name}({', '.join(args)})"

    def store(self, s: Store) -> str:
        formula = self.text(s.x)
        if len(formula) > WIDEST:
            formula = formula[: WIDEST - 1] + "…"
        line = f"{self.place(s.buffer, s.address, s.tables)} {'+=' if s.add else '='} {formula}"
        return f"if {self.guards(s.guards)}: {line}" if s.guards else line

    def product(self, kernel: Product) -> str:
        """The sum of products that a contraction makes."""
        inner = {-1 - k: loop for k, loop in enumerate(kernel.inner)}
        places = []
        for side, view in enumerate((kernel.first, kernel.second)):
            pairs = zip(kernel.loops, kernel.strides, strict=True)
            strides = {s: both[side] for (s, _), both in pairs}
            strides.update((s, loop[1 + side]) for s, loop in inner.items())
            places.append(self.place(view.buffer, view.base.plus(affine(strides))))
        over = ",".join(f"{self.symbol(s)}<{n}" for s, (n, _, _) in inner.items())
        return f"Σ = Σ[{over}] {places[0]} · {places[1]}"

    def lines(self, kernel: Kernel) -> Iterator[str]:
        """The loop nest of a kernel."""
        if isinstance(kernel, Repeat):
            yield f"for {self.symbol(kernel.step)} in {kernel.length} steps" + (
                ", last first:" if kernel.reverse else ":"
            )
            for k in kernel.body:
                yield f"  {headline(k)}"
                yield from (f"    {line}" for line in Writer(self.names).lines(k))
            return
        if isinstance(kernel, Call):
            yield f"in Python: {kernel.node.name}"
            return
        if isinstance(kernel, (Loops, Product)):
            loops = [(s, n) for s, n in kernel.loops if n != 1]
            if loops:
                yield "for " + ", ".join(f"{self.symbol(s)} in {n}" for s, n in loops) + ":"
            indent = "  " if loops else ""
            if isinstance(kernel, Product):
                yield indent + self.product(kernel)
            for store in kernel.stores:
                yield indent + self.store(store)


def traffic(kernel: Kernel) -> int:
    """Bytes of the buffers it reads and writes, each counted once."""
    return sum(b.nbytes for b in kernel.reads()) + sum(b.nbytes for b in kernel.writes())


def headline(kernel: Kernel) -> str:
    """Name, cost, gates and plan of a kernel."""
    gates = ", ".join(dict.fromkeys(n.name for n in kernel.nodes))
    where = next((n.line for n in kernel.nodes if n.line), "")
    parts = [f"{kernel.name}: {gates}", si(kernel.flops, "flop"), si(traffic(kernel), "B")]
    if kernel.code not in ("", kernel.name):
        parts.append(f"the code of {kernel.code}")
    if isinstance(kernel, Product):
        parts.append(kernel.summary)
    elif kernel.serial:
        parts.append("one thread")
    return "; ".join(parts) + (f"  # {where.rpartition('/')[2]}" if where else "")


class Kernels:
    """The kernels of a program in order; printed as loop nests with their costs."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self._kernels = list(kernels)

    def __len__(self) -> int:
        return len(self._kernels)

    def __iter__(self) -> Iterator[Kernel]:
        return iter(self._kernels)

    def __getitem__(self, index: Any) -> Any:
        return self._kernels[index]

    def __repr__(self) -> str:
        lines = []
        for k in self._kernels:
            lines.append(headline(k))
            lines += [f"  {line}" for line in Writer().lines(k)]
        return "\n".join(lines)


class Memory:
    """Where intermediate values lie: `arena` bytes for all, `total` what they would take apart,
    `live` the most that is needed at once."""

    def __init__(self, buffers: Sequence[Buffer], spans: dict[Buffer, tuple[int, int]],
                 arena: int) -> None:  # fmt: skip
        self.buffers = sorted(buffers, key=lambda b: (spans[b], b.start))
        self.spans, self.arena = spans, arena
        self.total = sum(b.nbytes for b in buffers)
        last = max((end for _, end in spans.values()), default=-1)
        self.live = max(
            (sum(b.nbytes for b in buffers if spans[b][0] <= t <= spans[b][1])
             for t in range(last + 1)), default=0,
        )  # fmt: skip

    def __repr__(self) -> str:
        lines = [
            f"arena {si(self.arena, 'B')}; needed at once {si(self.live, 'B')}; without reuse "
            f"{si(self.total, 'B')}"
        ]
        for b in self.buffers:
            first, last = self.spans[b]
            lines.append(
                f"  {b.start:>10} … {b.start + b.nbytes:<10} {b!r}: {b.dtype}, "
                f"{si(b.nbytes, 'B')}, phases {first} to {last}"
            )
        return "\n".join(lines)


class Profile:
    """Seconds by kernel, the best of several runs: `kernels`, and `gates` with their share."""

    def __init__(self, kernels: Sequence[Kernel], seconds: Sequence[float], whole: float,
                 peak: float, threads: int) -> None:  # fmt: skip
        self.seconds, self.whole, self.peak, self.threads = list(seconds), whole, peak, threads
        self._kernels = list(kernels)
        self.kernels = {k.name: s for k, s in zip(kernels, seconds, strict=True)}
        gates: dict[str, float] = {}
        for k, s in zip(kernels, seconds, strict=True):
            costs = [max(1, _entries(n)) for n in k.nodes]
            for n, cost in zip(k.nodes, costs, strict=True):
                gates[n.name] = gates.get(n.name, 0.0) + s * cost / sum(costs)
        self.gates = dict(sorted(gates.items(), key=lambda item: -item[1]))

    def __repr__(self) -> str:
        flops = sum(k.flops for k in self._kernels)
        share = flops / self.whole / (self.peak * self.threads) if self.whole else 0.0
        lines = [
            f"{self.whole * 1e6:.1f} µs on {self.threads} threads; {si(flops, 'flop')}, "
            f"{share:.0%} of the peak of {si(self.peak * self.threads, 'flop/s')}",
            f"{'kernel':10} {'µs':>9} {'share':>6} {'Gflop/s':>8} {'GB/s':>7}  gates",
        ]
        order = sorted(range(len(self.seconds)), key=lambda k: -self.seconds[k])
        total = sum(self.seconds) or 1.0
        for n in order:
            k, s = self._kernels[n], max(self.seconds[n], 1e-9)
            gates = ", ".join(dict.fromkeys(m.name for m in k.nodes))
            lines.append(
                f"{k.name:10} {s * 1e6:9.1f} {s / total:6.1%} {k.flops / s / 1e9:8.1f} "
                f"{traffic(k) / s / 1e9:7.1f}  {gates}"
            )
        lines.append(
            "by gate: " + ", ".join(f"{g} {s / total:.1%}" for g, s in list(self.gates.items())[:8])
        )
        return "\n".join(lines)


def _entries(node: Any) -> int:
    shape = getattr(node.type, "shape", None)
    flops = 0
    if shape is not None and node.primitive is not None:
        types = [x.type if hasattr(x, "primitive") else x for x in node.inputs]
        flops = node.primitive.flops(node.type, types, node.params or {})
    return max(flops, size_of(shape or ()))
