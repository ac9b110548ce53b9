"""What lasts is variables by name: taken as copies for a checkpoint, and put back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import DataError, DTypeError, ShapeError
from ..ops.tensor import Tensor


def snapshot(variables: Mapping[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """Copies of the values, by name."""
    return {name: np.array(v.numpy()) for name, v in variables.items()}


def restore(
    variables: Mapping[str, Tensor], state: Any, owner: str,
    check: Callable[[str, Any], None] | None = None,
) -> None:  # fmt: skip
    """Assign what `snapshot` gave; nothing changes unless names, kinds and shapes all fit."""
    if not isinstance(state, Mapping):
        raise DTypeError(
            f"a state of {owner} is a dict of arrays by name, received {type(state).__name__}"
        )
    if state.keys() != variables.keys():
        missing = sorted(variables.keys() - state.keys())
        unknown = sorted(state.keys() - variables.keys())
        raise DataError(f"this is no state of this {owner}: missing {missing}, unknown {unknown}")
    values = {name: np.asarray(value) for name, value in state.items()}
    for name, value in values.items():
        if value.dtype.kind not in "fiu":
            raise DTypeError(f"the state {name} must hold numbers, received {value.dtype}")
        if value.shape != variables[name].shape:
            raise ShapeError(
                f"the state {name} must have shape {variables[name].shape}, received {value.shape}"
            )
        if check is not None:
            check(name, value)
    for name, value in values.items():
        variables[name].assign(value)
