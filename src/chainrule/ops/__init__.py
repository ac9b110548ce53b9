"""The primitives and the functions users call; also the namespace that recorded rules run on."""

from . import (
    arithmetic,
    contraction,
    control,
    creation,
    custom,
    indexing,
    linalg,
    logic,
    numpy_functions,
    operators,
    random,
    reducing,
    shaping,
    special,
    transcendental,
)  # fmt: skip
from .arithmetic import *
from .contraction import *
from .control import *
from .creation import *
from .custom import *
from .dispatch import astype, broadcast_to, elementwise, stop_gradient
from .dispatch import bind as apply
from .indexing import *
from .logic import *
from .logic import select_gradient
from .reducing import *
from .shaping import *
from .special import *
from .tensor import Parameter, Tensor, tensor
from .transcendental import *

__all__ = [
    "Parameter", "Tensor", "astype", "broadcast_to", "linalg", "random", "stop_gradient", "tensor",
]  # fmt: skip
__all__ += arithmetic.__all__
__all__ += contraction.__all__
__all__ += control.__all__
__all__ += creation.__all__
__all__ += custom.__all__
__all__ += indexing.__all__
__all__ += logic.__all__
__all__ += reducing.__all__
__all__ += shaping.__all__
__all__ += special.__all__
__all__ += transcendental.__all__
