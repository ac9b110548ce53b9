"""The table is complete: every primitive has a row, and every row uses its primitive."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.primitive import Primitive
from chainrule.core.types import ArrayType
from chainrule.ops.tracing import trace
from tests.ops.cases import CASES, EXCLUDED
from tests.ops.compositions import COMPOSITIONS


def descendants(kind):
    for child in kind.__subclasses__():
        if child.__module__.startswith("chainrule."):
            yield child
            yield from descendants(child)


PRIMITIVES = [kind for kind in descendants(Primitive) if kind.name]


def test_every_primitive_has_a_row_and_every_row_a_primitive():
    assert {kind.name for kind in PRIMITIVES} == {case.primitive for case in CASES}


def test_no_two_primitives_share_a_name():
    assert len({kind.name for kind in PRIMITIVES}) == len(PRIMITIVES)


def test_a_class_without_a_name_is_a_kind_or_excluded_with_a_reason():
    nameless = {kind for kind in descendants(Primitive) if not kind.name}
    kinds = {kind for kind in nameless if any(child.name for child in descendants(kind))}
    assert {kind.__name__ for kind in nameless - kinds} == set(EXCLUDED)


def test_no_two_rows_share_a_name():
    names = [case.name for case in CASES + COMPOSITIONS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_row_uses_its_primitive(case):
    used = set()
    for shapes in case.shapes:  # a shape may need no gate at all, as a sum over no axis
        types = [ArrayType(x.shape, x.dtype) for x in case.draw(shapes)]
        used |= {node.primitive.name for node in trace(case.function, types)[0].nodes}
    assert case.primitive in used, f"{case.name} uses only {used}"


def test_every_public_function_stands_in_a_row_or_in_the_list_of_others():
    """A function that is added to the namespace must be tried somewhere."""
    elsewhere = {
        "creation": {
            "arange", "asarray", "empty", "empty_like", "eye", "finfo", "from_dlpack", "full",
            "full_like", "iinfo", "linspace", "ones", "ones_like", "tensor", "zeros", "zeros_like",
        },
        "values and dtypes": {
            "broadcast_arrays", "can_cast", "isdtype", "nextafter", "nonzero", "result_type",
            "searchsorted", "unique_all", "unique_counts", "unique_inverse", "unique_values",
        },
        "what rules are written in": {"apply", "elementwise"},
        "derivatives": {
            "check", "check_gradients", "derive", "diagnose", "grad", "hessian", "hvp", "jacobian",
            "jvp", "no_grad", "per_example_grad", "value_and_grad", "vjp", "vmap",
        },
        "files": {"load", "save"},
        "native code": {"compile"},
    }  # fmt: skip
    named = {case.label.split()[0] for case in COMPOSITIONS}
    used = set()
    for case in CASES + COMPOSITIONS:
        used |= mentioned(case.function)
    public = {
        name
        for name in cr.__all__
        if not name.startswith("_") and type(getattr(cr, name)).__name__ == "function"
    }
    missing = public - named - used - set().union(*elsewhere.values())
    assert not missing, f"no row and no place elsewhere: {sorted(missing)}"


def mentioned(function):
    """The functions that a row's function is, or names in its code and closure."""
    names = {getattr(function, "__name__", "")}
    code = getattr(function, "__code__", None)
    if code is not None:
        names |= set(code.co_names)
    for part in (*(getattr(function, "__closure__", None) or ()),):
        names.add(getattr(part.cell_contents, "__name__", ""))
    defaults = getattr(function, "__defaults__", None) or ()
    return names | {getattr(d, "__name__", str(d)) for d in defaults}


def test_rows_draw_the_same_inputs_every_time():
    case = CASES[0]
    for first, second in zip(case.draw(((3,), (3,))), case.draw(((3,), (3,))), strict=True):
        np.testing.assert_array_equal(first, second)
