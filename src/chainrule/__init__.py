"""chainrule: neural networks you can see through, at full speed.

Write NumPy-style Python; every gradient is exact, inspectable and explained.

>>> import chainrule as cr
>>> x, y, z = cr.tensor(-2.0), cr.tensor(5.0), cr.tensor(-4.0)
>>> q = x + y
>>> f = q * z
>>> f.backward()
>>> [float(t.grad) for t in (x, y, z, q)]
[-4.0, -4.0, 3.0, -4.0]
"""

import typing as _typing
from math import e, inf, nan, pi

from . import errors, ops
from .autodiff.batching import vmap
from .autodiff.check import check_gradients
from .autodiff.forward import hvp, jvp
from .autodiff.per_example import per_example_grad
from .autodiff.reverse import grad, value_and_grad, vjp
from .core.context import no_grad
from .core.graph import Graph
from .core.types import (
    bool_ as bool,
)  # fmt: skip
from .core.types import (
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from .errors import ChainruleError
from .namespace import __array_namespace_info__
from .ops import *

newaxis = None
__version__ = "0.1.0"
__array_api_version__ = "2024.12"
__all__ = [
    "ChainruleError", "Graph", "Jacobian", "__array_namespace_info__", "bool", "check",
    "check_gradients", "compile", "data", "derive", "diagnose", "e", "errors", "explain", "float32",
    "float64", "grad", "hessian", "hvp",
    "inf", "int8", "int16", "int32", "int64", "jacobian", "jvp", "load", "nan", "newaxis", "nn",
    "no_grad", "optim", "per_example_grad", "pi", "save", "train", "uint8", "uint16", "uint32",
    "uint64", "value_and_grad", "vjp", "vmap",
]  # fmt: skip
__all__ += ops.__all__

_LATER_ROOMS = ("data", "explain", "nn", "optim", "train")
_LATER_NAMES = {
    "Jacobian": ".jacobians.jacobian", "check": ".explain.check", "compile": ".compiler.compile",
    "derive": ".explain.derive", "diagnose": ".explain.diagnose",
    "hessian": ".jacobians.functions", "jacobian": ".jacobians.functions",
    "load": ".files", "save": ".files",
}  # fmt: skip


if _typing.TYPE_CHECKING:
    from . import data, explain, nn, optim, train
    from .compiler.compile import compile
    from .explain.check import check
    from .explain.derive import derive
    from .explain.diagnose import diagnose
    from .files import load, save
    from .jacobians.functions import hessian, jacobian
    from .jacobians.jacobian import Jacobian


def __getattr__(name: str) -> _typing.Any:
    """The rooms above the engine are imported when first used, so that the engine starts fast."""
    if name in (*_LATER_ROOMS, *_LATER_NAMES):
        from importlib import import_module

        if name in _LATER_ROOMS:
            return import_module(f".{name}", __name__)
        return getattr(import_module(_LATER_NAMES[name], __name__), name)
    hints = {
        "complex64": "complex numbers", "complex128": "complex numbers", "float16": "float16",
        "bfloat16": "bfloat16", "fft": "Fourier transforms",
    }  # fmt: skip
    if name in hints:
        verb = "are" if hints[name].endswith("s") else "is"
        raise errors.UnsupportedError(
            f"chainrule has no {name}: {hints[name]} {verb} not supported"
        )
    raise AttributeError(f"module 'chainrule' has no attribute {name!r}")
