"""What the tables of bad input share: their arrays, their rows, and what is asked of an error."""

import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import (
    AxisError,
    ChainruleError,
    DataError,
    DTypeError,
    GateError,
    GradientError,
    MutationError,
    RunError,
    ShapeError,
    TraceError,
    UnsupportedError,
)

BUILTIN = {
    AxisError: (ValueError, IndexError),
    DataError: (ValueError,),
    DTypeError: (TypeError,),
    GateError: (ValueError,),
    GradientError: (ValueError,),
    MutationError: (TypeError,),
    RunError: (ValueError,),
    ShapeError: (ValueError,),
    TraceError: (TypeError,),
    UnsupportedError: (TypeError, AttributeError),
}


def ones(*shape, dtype=np.float32):
    return cr.tensor(np.ones(shape, dtype))


def whole(*shape):
    return cr.ones(shape, dtype=cr.int64)


X, Y, V, S = ones(2, 3), ones(4, 5), ones(3), ones()
I3 = cr.asarray([0, 1, 2])
BOTH = ("(2, 3)", "(4, 5)")
OUT = "out of range"


def rows(*table):
    return [pytest.param(*row, id=f"{k}-{row[2][0]}"[:40]) for k, row in enumerate(table)]


def check(call, error, words):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ChainruleError) as caught:
            call()
    assert type(caught.value) is error, repr(caught.value)
    for builtin in BUILTIN[error]:
        assert isinstance(caught.value, builtin)
    message = str(caught.value)
    for word in words:
        assert word in message, message
    assert len(message) < 400 and not message.endswith(" ")
