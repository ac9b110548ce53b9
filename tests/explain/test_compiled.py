"""Compiled functions explained: the same gates and numbers as eager, and the kernel of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.explain import derive, examine, explore, paths, show, why


@pytest.fixture
def step() -> Any:
    model = nn.Sequential(nn.Linear(6, 5), nn.relu, nn.Linear(5, 3), seed=1)
    optimizer = cr.optim.Adam(model)

    @cr.compile
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.softmax_cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step.model = model
    return step


X = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
Y = np.array([0, 1, 2, 1])


def test_a_training_step_has_the_numbers_of_eager(step: Any) -> None:
    step(X, Y)
    loss = nn.softmax_cross_entropy(step.model(X), Y)
    eager, compiled = examine(loss, {}), step.explain(X, Y)
    assert [g.gate for g in compiled.gates] == [g.gate for g in eager.gates]
    for one, other in zip(compiled.gates, eager.gates, strict=True):
        assert one.word == other.word and one.node.scope == other.node.scope
        assert np.allclose(one.value, other.value, rtol=1e-6)
        assert np.allclose(one.upstream, other.upstream, rtol=1e-6)
    assert {v.name for v in compiled.variables} == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_explaining_changes_nothing(step: Any) -> None:
    step(X, Y)
    before = {k: v.copy() for k, v in step.model.state().items()}
    values = [step.explain(X, Y).value for _ in range(2)]
    assert values[0] == values[1]
    after = step.model.state()
    assert all(np.array_equal(before[k], after[k]) for k in before)
    assert all(p.grad is None for p in step.model.parameters())


def test_every_gate_is_mapped_to_its_kernel(step: Any) -> None:
    explanation = step.explain(X, Y)
    kernels = explanation.kernels
    assert kernels is not None and set(kernels) == {g.node for g in explanation.gates}
    said = {g.gate: kernels[g.node] for g in explanation.gates}
    assert said["relu"].startswith("kernel ") and "contract, add, relu" in said["relu"]
    assert said["broadcast"].startswith("index arithmetic in kernel ")
    count = len(step.kernels)
    for text in kernels.values():
        if "kernel " in text:
            assert int(text.split("kernel ")[1].split(":")[0]) < count


def test_what_became_of_gates_that_need_no_kernel() -> None:
    w = cr.tensor(np.arange(3.0))

    @cr.compile
    def f(x: Any) -> Any:
        same = (w * 1.0).reshape(3)
        return (same * x).sum() * (cr.exp(cr.zeros(())) + 1.0)

    explanation = f.explain(np.ones(3))
    kernels = explanation.kernels
    assert kernels is not None
    said = [kernels[g.node] for g in explanation.gates]
    assert "nothing to compute: its input as it stands" in said
    assert any(s.startswith("kernel ") for s in said)


def test_pictures_and_pages_take_explanations(step: Any) -> None:
    explanation = step.explain(X, Y)
    assert "relu" in show(explanation).svg
    data = explore(explanation).data
    assert all(g["kernel"] for g in data["gates"])


def test_a_result_without_a_gradient_is_refused() -> None:
    f = cr.compile(lambda x: x * 2.0)
    with pytest.raises(cr.errors.GradientError, match="result 0 of this compiled function"):
        f.explain(np.ones(3))


def test_loops_and_a_million_parameters() -> None:
    w = cr.tensor(np.float64(0.5))

    @cr.compile
    def looped(x: Any) -> Any:
        return cr.scan(lambda h, s: (cr.tanh(h * w + s), h), x, cr.ones((4,)))[0]

    explanation = looped.explain(np.array(0.1))
    eager = cr.scan(lambda h, s: (cr.tanh(h * w + s), h), cr.asarray(np.array(0.1)), cr.ones((4,)))[
        0
    ]
    assert np.allclose(explanation.value, eager.numpy())
    assert any("scan" in g.gate for g in explanation.gates)

    model = nn.Sequential(nn.Linear(784, 1000), nn.relu, nn.Linear(1000, 300), nn.relu,
                          nn.Linear(300, 10), seed=0)  # fmt: skip
    assert sum(p.size for p in model.parameters()) > 10**6
    loss = cr.compile(lambda x, y: nn.softmax_cross_entropy(model(x), y))
    x = np.ones((8, 784), np.float32)
    found = explore(loss.explain(x, np.arange(8)))
    assert len(found.page()) < 400_000


def test_paths_reasons_and_derivations_of_a_compiled_function() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.relu, nn.Linear(4, 3), seed=0)
    x, y = np.random.default_rng(0).normal(size=(6, 5)), np.arange(6) % 3

    def loss(x: Any, y: Any) -> Any:
        return nn.softmax_cross_entropy(model(x), y)

    explained, eager = cr.compile(loss).explain(x, y), loss(x, y)
    for _asked in (model[0].weight, "0.weight"):
        found, wanted = paths(explained, _asked, (1, 2)), paths(eager, model[0].weight, (1, 2))
        assert found.entry == wanted.entry == "0.weight[1, 2]" and found.count == wanted.count
        assert found.gradient == pytest.approx(wanted.gradient)
        assert [p.contribution for p in found.paths] == pytest.approx(
            [p.contribution for p in wanted.paths]
        )
        assert why(explained, _asked, (1, 2)).cause == "not zero"
        assert "assigned anew" not in str(why(explained, _asked))
    only = derive(explained, [model[0].weight])
    assert [line.name for line in only.of("gradient")] == ["∂f/∂W1"]
    assert only.legend[0] == "W1 = 0.weight, b1 = 0.bias, W2 = 2.weight, b2 = 2.bias"
    assert only.verify() < 1e-5
    gradient = only.of("gradient")[0]
    assert gradient.latex.startswith(r"\frac{\partial f}{\partial W_{1}} = ")
    assert "<msub><mi>W</mi><mn>1</mn></msub>" in gradient.mathml
    with pytest.raises(cr.errors.GradientError, match="does not depend on"):
        derive(explained, [cr.Parameter(np.ones(3))])


def test_arguments_have_their_names() -> None:
    w = cr.Parameter(np.ones((3, 2)), name="w")

    @cr.compile
    def loss(x: Any, target: Any) -> Any:
        return ((x @ w - target) ** 2).sum()

    a, b = np.ones((4, 3)) * np.arange(3), np.arange(8.0).reshape(4, 2)
    explained = loss.explain(a, target=b)
    assert [g.expression for g in explained.gates][:2] == ["x @ w", "q1 - target"]
    assert "x is" not in str(derive(explained))


def test_paths_that_read_alike_are_told_apart() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.relu, nn.Linear(4, 3), seed=0)
    x, y = np.random.default_rng(0).normal(size=(6, 5)), np.arange(6) % 3
    found = paths(nn.softmax_cross_entropy(model(x), y), model[0].weight)
    texts = [a for a, _ in found.rows()]
    assert len(set(texts)) == len(texts) == 2 and all("(by " in t for t in texts)
