"""The diagnosis of wrong backwards: by the corpus, and what else it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.explain.check import check
from chainrule.explain.numbers import number
from tests.explain.backwards import held_out
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
    Tanh,
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
              if {cause} != set(found[g.__name__])}  # fmt: skip
    assert len(ALL) - len(missed) >= 36, missed


def test_those_written_later_are_named() -> None:
    """What was seen of them made the diagnosis better; before, 21 of these 25 were named."""
    found = {g.__name__: {c.name for c in check(g, *inputs).causes}
             for g, inputs, _ in held_out.WRONG}  # fmt: skip
    missed = {g.__name__: found[g.__name__] for g, _, cause in held_out.WRONG
              if {cause} != found[g.__name__]}  # fmt: skip
    assert all(found.values()) and not missed, missed


@pytest.mark.parametrize("gate,inputs", [*RIGHT, *held_out.RIGHT])
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


# -- where forward is hard to measure ------------------------------------------------------------


def times(gate: Any, c: float) -> Any:
    """A gate whose backward is c times what it should be."""

    class Times(gate):  # type: ignore[misc]
        def backward(self, *upstream: Any) -> Any:
            found = super().backward(*upstream)
            if isinstance(found, list):
                return [g if g is None else c * g for g in found]
            return c * found

    return Times


@pytest.mark.parametrize("gate,inputs", [*RIGHT, *held_out.RIGHT])
def test_every_right_gate_is_wrong_when_spoilt(gate: Any, inputs: Any) -> None:
    if np.size(inputs[0]):
        assert {c.name for c in check(times(gate, -1.5), *inputs).causes} == {"factor"}


@pytest.mark.parametrize("x", [1e-12, 1e-6, 1e-3, 1.0, 1e6, 1e12])
def test_slopes_of_any_size(x: float) -> None:
    for gate in (Log, held_out.Sqrt, held_out.ReciprocalSquare, held_out.Small):
        assert check(gate, np.array([x])).ok
        assert [c.name for c in check(times(gate, 1.01), np.array([x])).causes] == ["factor"]


@pytest.mark.parametrize("distance", [1e-2, 3e-3, 1e-3, 1e-5, 1e-7, 0.0])
def test_kinks_near_and_far(distance: float) -> None:
    x = np.array([distance, -distance, 1.0])
    for gate in (Relu, Absolute):
        assert check(gate, x).ok, str(check(gate, x))
        assert [c.name for c in check(times(gate, 2), x).causes] == ["factor"]


def test_only_kinks() -> None:
    assert check(Relu, np.zeros(2)).ok
    report = check(times(Relu, -1), np.array([0.0]))
    assert report.ok  # -0 is 0

    class AtZero(Relu):
        def backward(self, upstream: Any) -> Any:
            return upstream * (self.x >= 0) * 3

    text = str(check(AtZero, np.zeros(2)))
    assert "a kink, 3 came; from 0 to 1 is right (upstream 1 at out[0], else 0)" in text


def test_edges_and_jumps_are_not_compared() -> None:
    report = check(held_out.Sqrt, np.array([0.0, 4.0]))
    assert report.ok and "at x[0]: no derivative" in report.notes[0]
    assert not check(times(held_out.Sqrt, 2), np.array([0.0, 4.0])).ok

    class Step(cr.Gate):
        def forward(self, x: Any) -> Any:
            return np.sign(x)

        def backward(self, upstream: Any) -> Any:
            return 0 * upstream

    assert check(Step, np.array([0.0, 4.0])).ok and check(Step).ok
    with pytest.raises(cr.errors.GateError, match="nothing could be compared"):
        check(Step, np.array([0.0]))


@pytest.mark.parametrize("x", [np.nan, np.inf, -1.0])
def test_forward_has_to_be_finite(x: float) -> None:
    with pytest.raises(cr.errors.GateError, match=r"not finite in 1 of 2 entries"):
        check(Log, np.array([x, 1.0]))


def test_one_wrong_entry_of_many_is_found() -> None:
    class One(Linear):
        def backward(self, upstream: Any) -> Any:
            gx, gw, gb = super().backward(upstream)
            gw[17, 3] *= 2
            return [gx, gw, gb]

    random = np.random.default_rng(3)
    inputs = [random.normal(size=s) for s in ((30, 90), (90, 20), (20,))]
    report = check(One, *inputs)
    assert [(c.name, c.input) for c in report.causes] == [("wrong local", "W")]
    assert "only at index 17 of axis 0. At W[17, 3]" in report.causes[0].text
    assert check(Linear, *inputs).ok


def test_rough_forwards_are_noted() -> None:
    class Noisy(Square):
        def __init__(self, size: float) -> None:
            self.size = size

        def forward(self, x: Any) -> Any:
            return super().forward(x) + self.size * np.sin(1e12 * x)

    x = np.array([0.3, 0.7])
    assert any("too rough" in note for note in check(Noisy(4e-5), x).notes)
    quiet = check(Noisy(1e-7), x)
    assert quiet.ok and not quiet.notes
    assert [c.name for c in check(times(Noisy, 2)(1e-7), x).causes] == ["factor"]


# -- what is taken -------------------------------------------------------------------------------


def test_functions_and_gates_in_operations() -> None:
    assert check(cr.tanh).ok and check(cr.matmul).ok and check(held_out.Cubed).ok
    assert check(lambda x, y: cr.softmax(x) * y, np.ones((2, 3)), np.ones((2, 3))).ok
    report = check(lambda x: x * cr.stop_gradient(x), np.array([1.0, 2.0]))
    assert [c.name for c in report.causes] == ["factor"]


def test_numbers_lists_and_tensors() -> None:
    assert check(Multiply, 3, -4).ok and not check(times(Multiply, 2), 3, -4)
    assert not check(times(Square, 2), [1, 2, 3])
    assert not check(times(Multiply, 2), cr.tensor([1.0, 2.0]), cr.tensor([3.0, 4.0]))
    report = check(held_out.NllLoss, np.ones((2, 3)), [0, 2])
    assert report.ok and "labels has whole numbers" in report.notes[0]
    for bad in ("a", np.array([1j]), [[1], [2, 3]], None):
        with pytest.raises(cr.errors.GateError, match="arrays of real numbers, received"):
            check(Square, bad)
    with pytest.raises(cr.errors.GateError, match="only floats have a derivative"):
        check(Square, np.array([1, 2]))


def test_random_forwards() -> None:
    class Drops(cr.Gate):
        def forward(self, x: Any) -> Any:
            self.mask = self.draw(x.shape) < 0.5
            return x * self.mask

        def draw(self, shape: Any) -> Any:
            return np.random.random(shape)  # noqa: NPY002

        def backward(self, upstream: Any) -> Any:
            return upstream * self.mask

    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert check(Drops, np.ones(20)).ok and not check(times(Drops, 2), np.ones(20))
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002

    class Fresh(Drops):
        def draw(self, shape: Any) -> Any:
            return np.random.default_rng().random(shape)

    with pytest.raises(cr.errors.GateError, match="other numbers each time"):
        check(Fresh, np.ones(20))


def test_what_gates_keep_is_not_changed() -> None:
    class Counts(Square):
        def __init__(self) -> None:
            self.calls: list[int] = []

        def forward(self, x: Any) -> Any:
            self.calls.append(1)
            return super().forward(x)

    gate = Counts()
    assert check(gate, np.ones(2)).ok and gate.calls == []


def test_constructors_with_arguments() -> None:
    class Powered(cr.Gate):
        def __init__(self, n: int) -> None:
            self.n = n

        def forward(self, x: Any) -> Any:
            self.x = x
            return x**self.n

        def backward(self, upstream: Any) -> Any:
            return upstream * self.n * self.x ** (self.n - 1)

    assert check(Powered(3)).ok
    with pytest.raises(cr.errors.GateError, match=r"check\(Powered\(…\), x\)"):
        check(Powered)


def test_other_shapes_that_forward_takes_are_noted() -> None:
    report = check(Multiply)
    assert report.ok and report.notes[0].endswith("there it is wrong: not summed (y)")


def test_what_is_no_gradient() -> None:
    def returning(value: Any) -> Any:
        class Returns(Square):
            def backward(self, upstream: Any) -> Any:
                return value

        return check(Returns, np.ones(2)).causes[0]

    assert returning("abc").name == returning([[[1], [2, 3]]]).name == "shape"
    assert returning(np.array([1j, 1])).name == "shape"
    assert returning([]).name == returning([1, 2]).name == "count"
    assert "is `return` missing?" in returning(None).advice
    assert returning(np.array([np.nan, 1])).text.startswith("NaN or infinity came at 1 of 2")


def test_advice_names_what_to_change() -> None:
    advice = {g.__name__: check(g, *inputs).causes[0].advice for g, inputs, _ in ALL}
    assert advice["SigmoidOfInput"] == "It is right with out in the place of self.x."
    assert advice["TanhWithoutSquare"] == "A factor (1 + out) is missing: multiply by it."
    assert (
        "there are 4 along axis 0 of x; a mean stands where a sum belongs"
        in (advice["LinearBiasMean"])
    )
    assert "only the diagonal" in advice["LayerNormOnlyStd"]
    assert advice["AddBias_drop_sum"].endswith(".sum(0).")
    late = {g.__name__: str(check(g, *inputs)) for g, inputs, _ in held_out.WRONG}
    assert "wrong exactly where x < 0" in late["EluForgetsNegative"]
    assert ".sum(1, keepdims=True)" in late["ScaleRowsNotSummed"]
    assert "with upstream 0 it is not 0" in late["AddsConstant"].lower()
    assert "Keep in forward what backward reads" in late["NotKept"]
    assert "only at index 37 of axis 0" in late["RowMaxOneRow"]
    assert "x itself" in late["SquareReturnsInput"]


@given(
    c=st.floats(-8, 8).filter(lambda c: abs(c) > 0.01 and abs(c - 1) > 0.01 and abs(c + 1) > 0.01),
    rows=st.integers(1, 4), columns=st.integers(1, 4), seed=st.integers(0, 100),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_any_factor_is_found(c: float, rows: int, columns: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(rows, columns))
    for gate in (Square, Tanh, held_out.Elu):
        causes = check(times(gate, c), x).causes
        assert [cause.name for cause in causes] == ["factor"]
        assert f"Multiply it by {number(1 / c)}" in causes[0].advice


class Turned(cr.Gate):
    """Right for vectors, where there is nothing to turn."""

    def forward(self, x: Any) -> Any:
        return x.T

    def backward(self, upstream: Any) -> Any:
        return upstream


class Late(cr.Gate):
    """Right where no number lies between 0 and 1."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return np.maximum(x, 0)

    def backward(self, upstream: Any) -> Any:
        return upstream * (self.x >= 1)


@pytest.mark.parametrize("gate", [Turned, Late])
def test_what_is_right_at_some_shapes_only_is_wrong(gate: Any) -> None:
    assert not check(gate())
