"""The diagnosis of wrong backwards: by the corpus, and what else it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.explain.check import check
from tests.explain.backwards.causes import CAUSES
from tests.explain.backwards.mutations import cases
from tests.explain.backwards.right import (
    RIGHT,
    Absolute,
    Linear,
    Log,
    MatMul,
    Multiply,
    Relu,
    Softmax,
    Square,
)  # fmt: skip
from tests.explain.backwards.wrong import WRONG, LinearBiasMean, MatMulRaises, SoftmaxDiagonalOnly

ALL = [*WRONG, *cases()]


def test_the_corpus_is_forty_with_known_causes() -> None:
    assert len(ALL) == 40 and {cause for *_, cause in ALL} <= set(CAUSES)


@pytest.mark.parametrize("gate,inputs,cause", ALL, ids=[g.__name__ for g, *_ in ALL])
def test_wrong_backwards_are_called_wrong(gate: Any, inputs: Any, cause: str) -> None:
    """None of the forty may pass; the cause is checked over all of them below."""
    report = check(gate, *inputs)
    assert not report.ok
    assert all(c.name in CAUSES and c.text and c.advice for c in report.causes)


def test_at_least_36_of_40_are_named() -> None:
    found = {g.__name__: [c.name for c in check(g, *inputs).causes] for g, inputs, _ in ALL}
    missed = {g.__name__: (cause, found[g.__name__]) for g, _, cause in ALL
              if cause not in found[g.__name__]}  # fmt: skip
    assert len(ALL) - len(missed) >= 36, missed


@pytest.mark.parametrize("gate,inputs", RIGHT)
def test_right_backwards_are_called_right(gate: Any, inputs: Any) -> None:
    report = check(gate, *inputs)
    assert report.ok, str(report)
    assert bool(report) and "is right" in str(report)


@pytest.mark.parametrize("gate", [Linear, MatMul, Multiply, Relu, Softmax, Square, Log, Absolute])
def test_inputs_are_chosen(gate: Any) -> None:
    assert check(gate).ok and check(gate()).ok


def test_chosen_inputs_find_mistakes() -> None:
    assert [c.name for c in check(LinearBiasMean).causes] == ["factor"]
    assert [c.name for c in check(MatMulRaises).causes] == ["raises"]


def test_nothing_given_is_changed() -> None:
    class Damages(cr.Gate):
        def forward(self, x: Any) -> Any:
            x *= 2
            return x

        def backward(self, upstream: Any) -> Any:
            return 2 * upstream

    x = np.ones(3)
    report = check(Damages, x)
    assert (x == 1).all()
    assert [c.name for c in report.causes] == ["in-place damage"] and report.causes[0].input == "x"


def test_a_wrong_backward_can_raise() -> None:
    with pytest.raises(cr.errors.CheckError, match="gradient of b: factor"):
        check(LinearBiasMean, raise_error=True)
    assert check(Square, raise_error=True)


def test_hints() -> None:
    report = check(SoftmaxDiagonalOnly)
    assert "only the diagonal of the Jacobian" in report.causes[0].advice

    class Bent(Square):
        def backward(self, upstream: Any) -> Any:
            return 2 * self.x * upstream * np.abs(upstream)

    assert "no product with upstream" in check(Bent).causes[0].advice

    class Fourth(cr.Gate):
        def forward(self, x: Any) -> Any:
            self.x = x
            return x**4

        def backward(self, upstream: Any) -> Any:
            return 4 * self.x**2 * upstream

    assert check(Fourth).causes[0].advice == "A factor x is missing: multiply by it."


def test_kinks_are_noted() -> None:
    report = check(Relu, np.array([0.0, 1.0]))
    assert report.ok and "kink" in report.notes[0]


def test_several_outputs_and_whole_numbers() -> None:
    class Both(cr.Gate):
        def forward(self, x: Any, k: Any) -> Any:
            self.k = k
            return x * k, x + 1

        def backward(self, first: Any, second: Any) -> Any:
            return [first * self.k + second, None]

    assert check(Both, np.ones(3), np.array([1, 2, 3])).ok

    class Forgets(Both):
        def backward(self, first: Any, second: Any) -> Any:
            return [first * self.k, None]

    assert not check(Forgets, np.ones(3), np.array([1, 2, 3])).ok


def test_large_inputs_are_sampled() -> None:
    x = np.random.default_rng(0).normal(size=(50, 40))
    assert check(Softmax, x).ok and check(Relu, x).ok

    class Late(Relu):
        def backward(self, upstream: Any) -> Any:
            return upstream * (self.x > 0) * 3

    assert [c.name for c in check(Late, x).causes] == ["factor"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_empty_scalar_and_one(dtype: Any) -> None:
    for shape in ((0,), (0, 3), (), (1,), (1, 1)):
        assert check(Square, np.full(shape, 2, dtype)).ok
    assert "nothing" in check(Square, np.zeros(0, dtype)).notes[0]


def test_bad_input() -> None:
    with pytest.raises(
        cr.errors.GateError, match="forward and backward, or a function, received 3"
    ):
        check(3)
    with pytest.raises(cr.errors.GateError, match="forward of MatMul raises ValueError"):
        check(MatMul, np.ones((2, 3)), np.ones((2, 3)))

    class Strange(cr.Gate):
        def forward(self, a: Any, b: Any, c: Any, d: Any) -> Any:
            return a

        def backward(self, upstream: Any) -> Any:
            return upstream

    with pytest.raises(cr.errors.GateError, match="takes none of the inputs that were tried"):
        check(Strange)
