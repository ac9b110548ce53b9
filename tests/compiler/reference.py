"""An executable that runs the forward rules of the gates in NumPy: the oracle of the front end."""

from typing import Any

import numpy as np

from chainrule.ops.custom import Custom, Derived


class Reference:
    """A graph, run gate by gate on the arrays that native code would be given."""

    kernels: tuple[Any, ...] = ()
    llvm = assembly = memory = ""

    def __init__(self, graph, machine):
        self.graph, self.machine = graph.verify(), machine
        self.runs, self.sample, self.before = 0, None, (None, [])
        self.calls_python = any(isinstance(n.primitive, (Custom, Derived)) for n in graph.nodes)

    def run(self, inputs, captured, outputs, assigned, *, version=None):
        graph = self.graph
        given = graph.leaves
        arrays = [*inputs, *captured, *outputs, *assigned]
        now = version, list(map(id, [*captured, *assigned]))
        assert version is None or self.before[0] != version or self.before == now
        self.before = now
        wanted = [*graph.outputs, *(value for _, value in graph.assignments)]
        assert len(arrays) == len(given) + len(wanted)
        reads, writes = arrays[: len(given)], arrays[len(given) :]
        for array, x in zip(arrays, [*given, *wanted], strict=True):
            assert (array.shape, array.dtype) == (
                x.type if hasattr(x, "type") else (x.shape, x.dtype)
            )
            assert array.flags.c_contiguous and array.flags.aligned
        outputs, values = graph.run(
            dict(zip(given, reads, strict=True)),
            lambda node, xs: node.primitive.forward(*xs, **(node.params or {})),
        )
        # all is computed before anything is written, which may be what was read
        for array, value in zip(writes, [np.array(v) for v in outputs + values], strict=True):
            assert array.flags.writeable
            array[...] = value
        self.runs += 1

    def profile(self):
        return f"{self.runs} runs"
