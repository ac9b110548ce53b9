"""Every gate is walked, has its paths added up and its gradients explained."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.explain import derive, examine, explore, paths, rails, show, walk, why
from tests.ops.cases import CASES


def result(outputs: Any) -> Any:
    """One number of whatever an operation gives; None if it has no gradient."""
    parts = outputs if isinstance(outputs, (tuple, list)) else [outputs]
    found = [(p * 1.7).sum() for p in parts if isinstance(p, cr.Tensor) and p.node is not None]
    return sum(found[1:], start=found[0]) if found else None


def results(case: Any, dtype: Any) -> Iterator[tuple[list[Any], Any]]:
    """Operands of a case and one number computed from them, for all its shapes."""
    for shapes in case.shapes:
        given = [
            cr.tensor(a) if np.asarray(a).dtype.kind == "f" else a for a in case.draw(shapes, dtype)
        ]
        f = result(case.function(*given))
        if f is not None and f.node is not None:
            yield given, f


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_every_gate(case: Any, dtype: Any) -> None:
    for given, f in results(case, dtype):
        steps = walk(f, {})
        assert json.dumps(steps.json()) and str(steps).count("backward: ") == len(steps) // 2
        for x in given:
            if not isinstance(x, cr.Tensor) or not x.size:
                continue
            for index in (None, (0,) * x.ndim):
                found = paths(f, x, index, names={"x": x})
                total = sum(p.contribution for p in found.paths) + found.rest
                size = sum(abs(p.contribution) for p in found.paths) + abs(found.gradient)
                assert abs(total - found.gradient) <= 20 * np.finfo(dtype).eps * size
                assert json.dumps(found.json(steps=True)) and found.text()
                answer = why(f, x, index, names={"x": x})
                if answer.gradient is not None:
                    assert answer.gradient == found.gradient
                    assert (answer.gradient == 0) <= bool(answer.ends)
                assert json.dumps(answer.json()) and str(answer)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_every_gate_is_derived(case: Any, dtype: Any) -> None:
    for _, f in results(case, dtype):
        try:
            found = derive(f, names={})
        except cr.errors.GraphError as error:
            assert "several outputs" in str(error)
            continue
        assert found.verify() < max(1e-11, 1e3 * np.finfo(dtype).eps)  # 12 digits are written
        assert str(found) and found.latex().count("{") == found.latex().count("}")
        ET.fromstring(f"<div>{found.mathml()}</div>")
        for line in found.lines:
            assert line.matrix or line.index or line.reason


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_every_gate_is_drawn(case: Any) -> None:
    for _, f in results(case, np.float64):
        explained = examine(f, {})
        ET.fromstring(show(explained, flat=True).svg)
        assert rails(explained, flat=True).count("\n") >= len(explained.gates)
        page = explore(explained).page()
        assert "NaN" not in json.dumps(explore(explained).data) and page.count("</html>") == 1


def test_the_local_of_a_broadcast_is_no_number() -> None:
    x, v = cr.tensor(np.array(2.0)), cr.tensor(np.array([1.0, 2.0, 3.0]))
    gate = examine((x * v).sum(), {"x": x, "v": v}).gates[0]
    assert gate.expression == "broadcast(x)" and gate.inputs[0].downstream == 6
    assert gate.inputs[0].local == "y[i] = x[]"  # a column of ones, not their sum
