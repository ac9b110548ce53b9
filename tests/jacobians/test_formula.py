"""Formulas are read back by a small evaluator, and give the dense Jacobian."""

import re

import numpy as np
import pytest

import chainrule as cr
from chainrule.jacobians.formula import formula, named
from tests.jacobians.test_words import CASES, SQUARE, V, W, X

MINUS = "−"
ATOM = re.compile(r"δ_\S\S|\[[^]]*\]|Σ_\S+|[\w']+_\S+|\S+")


def terms(text):
    """(sign, product) of the terms of a sum; signs in brackets are none of it."""
    depth, last, sign, found = 0, 0, 1, []
    if text.startswith(MINUS):
        sign, text = -1, text[1:]
    for k, c in enumerate(text):
        depth += (c == "[") - (c == "]")
        if not depth and text[k : k + 3] in (" + ", f" {MINUS} "):
            found.append((sign, text[last:k]))
            sign, last = (1 if text[k + 1] == "+" else -1), k + 3
    return [*found, (sign, text[last:])]


def index(text, value, arrays):
    """A sum of letters, numbers, and entries of tables."""
    total = 0
    for sign, part in terms(text.replace("(", "").replace(")", "")):
        table = re.fullmatch(r"([a-z]'*)_(\S+)", part)
        if table:
            total += sign * int(arrays[table[1]][tuple(value[x] for x in table[2])])
            continue
        number, letter = re.fullmatch(r"(\d*)(\w?)", part).groups()
        total += sign * int(number or 1) * (value[letter] if letter else 1)
    return total


def bracket(text, value, arrays):
    """1 where what is said holds."""
    parts = re.split(r" ([=<≤]) ", text)
    numbers = [index(p, value, arrays) for p in parts[::2]]
    said = {"=": np.equal, "<": np.less, "≤": np.less_equal}
    pairs = zip(parts[1::2], numbers, numbers[1:], strict=False)
    return all(said[how](x, y) for how, x, y in pairs)


def product(atoms, value, arrays, ranges):
    """The value of a product; Σ stands in front of what it sums."""
    total = 1.0
    for k, atom in enumerate(atoms):
        if atom.startswith("Σ_"):
            letters = atom[2:]
            rest = atoms[k + 1 :]
            return total * sum(
                product(rest, {**value, **dict(zip(letters, at, strict=True))}, arrays, ranges)
                for at in np.ndindex(*(ranges(letters, rest)))
            )
        if atom.startswith("δ_"):
            total *= value[atom[2]] == value[atom[3]]
        elif atom.startswith("["):
            total *= bracket(atom[1:-1], value, arrays)
        elif "_" in atom:
            name, letters = atom.split("_")
            total *= float(arrays[name][tuple(value[x] for x in letters)])
        elif atom in arrays:
            total *= float(arrays[atom])
        else:
            up, _, down = atom.partition("/")
            total *= float(up) / float(down or 1)
        if not total:
            return 0.0
    return total


def evaluate(text, arrays, out_shape, in_shape):
    """The array of all entries that a formula says."""
    left, _, right = text.partition(" = ")
    letters = "".join(part.partition("_")[2] for part in left.split("/"))
    found = np.zeros(out_shape + in_shape)

    def ranges(summed, atoms):
        """The range of a summed letter: the axis of an array that it runs along, or what fits."""
        sizes = []
        for letter in summed:
            axes = [arrays[a.split("_")[0]].shape[a.split("_")[1].index(letter)]
                    for a in atoms if a[0].isupper() and letter in a]  # fmt: skip
            axes += [arrays[name].shape[at.index(letter)]
                     for a in atoms for name, at in re.findall(r"([a-z]'*)_(\w+)", a)
                     if letter in at and a[0] == "["]  # fmt: skip
            sizes.append(axes[0] if axes else max(out_shape + in_shape))
        return sizes

    for sign, said in terms(right):
        atoms = ATOM.findall(said)
        for at in np.ndindex(*found.shape):
            value = dict(zip(letters, at, strict=True))
            found[at] += sign * product(atoms, value, arrays, ranges)
    return found


LARGEST = 7000
SMALL = [c[:3] for c in CASES if np.size(c[2]) * np.size(c[1](c[2])) <= LARGEST]
"""The table, without what takes long entry by entry."""


@pytest.mark.parametrize(("name", "function", "x"), SMALL, ids=[c[0] for c in SMALL])
def test_every_formula_gives_the_dense_jacobian(name, function, x):
    J = cr.jacobian(function)(x)
    text, arrays = named(J.form)
    expected = np.asarray(J.todense())
    assert np.allclose(evaluate(text, arrays, J.out_shape, J.in_shape), expected, atol=1e-12), text


def test_the_evaluator_sees_a_wrong_formula():
    J = cr.jacobian(lambda x: cr.cumulative_sum(x, axis=0))(V)
    text, arrays = named(J.form)
    assert text == "∂y_k/∂x_j = [j ≤ k]"
    wrong = evaluate(text.replace("≤", "<"), arrays, J.out_shape, J.in_shape)
    assert not np.allclose(wrong, np.asarray(J.todense()))


@pytest.mark.parametrize(
    ("function", "x", "said"),
    [
        (lambda w: w @ V[:5], W, "∂y_k/∂x_ij = δ_ki A_j, with A: 5"),
        (lambda x: W @ x, V[:5], "∂y_k/∂x_j = A_kj, with A: 4×5"),
        (lambda x: x @ W, X, "∂y_ij/∂x_kl = δ_ik A_lj, with A: 4×5"),
        (lambda x: -x, X, f"∂y_ij/∂x_kl = {MINUS}δ_ik δ_jl"),
        (cr.relu, V, "∂y_k/∂x_j = δ_kj A_k, with A: 7"),
        (cr.sign, V, "∂y_k/∂x_j = 0"),
        (lambda x: x[1::2], V, "∂y_k/∂x_j = [j = 2k + 1]"),
        (lambda x: cr.take(x, np.array([3, 3, 0])), V, "∂y_k/∂x_j = [j = t_k], with t: 3"),
        (lambda x: x.mean(), V, "∂y/∂x_j = 1/7"),
        (lambda x: cr.pad(x, 2), V, "∂y_k/∂x_j = [k = j + 2]"),
        (lambda x: cr.windows(x, 3), V, "∂y_ij/∂x_k = [k = i + j]"),
        (lambda x: x.T @ x, X, "∂y_ij/∂x_kl = δ_jl A_ki + δ_il A_kj, with A: 3×4"),
    ],
)
def test_formulas(function, x, said):
    assert cr.jacobian(function)(x).formula() == said


def test_names_are_those_of_the_arrays_that_are_known():
    x = V[:5].copy()
    form = cr.jacobian(lambda w: w @ x)(W).form
    assert formula(form, "q", "W", {id(x): "x"}) == "∂q_k/∂W_ij = δ_ki x_j, with x: 5"
    form = cr.jacobian(lambda x: x @ SQUARE.T)(X).form
    base = SQUARE if SQUARE.base is None else SQUARE.base
    text = formula(form, "y", "x", {id(base): "W"})
    assert text == "∂y_ij/∂x_kl = δ_ik W_jl, with W: 4×4"


def test_names_of_output_and_input_are_not_given_twice():
    assert cr.jacobian(lambda x: W @ x)(V[:5]).formula("A", "B").startswith("∂A_k/∂B_j = C_kj")
