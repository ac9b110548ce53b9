"""What layers are given: sizes, numbers for each axis, padding. Checked here, said once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.types import Shape
from ..errors import DataError, DTypeError, ShapeError
from ..ops.number import TracedNumber
from ..ops.tensor import Tensor

Pairs = tuple[tuple[int, int], ...]


def is_whole(value: Any, least: int = 0) -> bool:
    """Whether a value is a whole number from `least` on; True is none."""
    whole = hasattr(value, "__index__") and not isinstance(value, (bool, np.bool_))
    return whole and not getattr(value, "shape", ()) and value >= least


def as_number(name: str, value: Any) -> float:
    """The value as a float, if it is a number; a string is none."""
    try:
        return float("" if isinstance(value, str) else value)
    except (TypeError, ValueError):
        raise DTypeError(f"{name} must be a number, received {value!r:.60}") from None


def check_number(name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> Any:
    """A finite number from `least` to `most`; one that is traced, or an array, as it is."""
    if isinstance(value, (Tensor, TracedNumber, np.ndarray)):
        return value
    number = as_number(name, value)
    if not (math.isfinite(number) and least <= number <= most):
        until = f"from {least:g} to {most:g}" if math.isfinite(most) else f"{least:g} or more and "
        wanted = "finite" if least == -math.inf else until + "finite" * (most == math.inf)
        raise DataError(f"{name} must be {wanted}, received {value!r:.60}")
    return value


def check_sizes(layer: str, **sizes: Any) -> None:
    """Refuse sizes of a layer that are no whole numbers from 1 on."""
    if not all(is_whole(n, 1) for n in sizes.values()):
        raise ShapeError(
            f"{layer} takes positive sizes ({', '.join(sizes)}), received {tuple(sizes.values())}"
        )


def check_rate(name: str, value: Any, closed: bool = False) -> float:
    """A number from 0 to 1; 1 itself only if `closed`."""
    number = as_number(name, value)
    if not (0 <= number < 1 or (closed and number == 1)):
        raise DataError(f"{name} must be from 0 {'to' if closed else 'up to, not'} 1, "
                        f"received {number:g}")  # fmt: skip
    return number


def per_axis(name: str, value: Any, axes: int, least: int = 1) -> Shape:
    """One whole number for each axis, from one number for all or a sequence."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    if len(values) != axes or not all(is_whole(v, least) for v in values):
        many = f" or {axes} of them" if axes > 1 else ""
        raise ShapeError(f"{name} must be a whole number from {least} on{many}, received {value}")
    return tuple(int(v) for v in values)


def pad_widths(padding: Any, sizes: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> Pairs:
    """(before, after) for each axis: of "valid", "same", a number, or a number or pair an axis.

    "same" gives ceil(size / stride) windows; where the padding is odd the end gets one more.
    """
    axes = len(kernel)
    if isinstance(padding, str) and padding == "valid":
        padding = 0
    if isinstance(padding, str) and padding == "same":
        totals = [
            max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
            for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
        ]
        return tuple((t // 2, t - t // 2) for t in totals)
    entries = padding if isinstance(padding, (tuple, list)) else (padding,) * axes
    if axes == 1 and len(entries) == 2:
        entries = (entries,)
    pairs = [e if isinstance(e, (tuple, list)) else (e, e) for e in entries]
    if len(pairs) != axes or not all(
        len(p) == 2 and is_whole(p[0]) and is_whole(p[1]) for p in pairs
    ):
        raise ShapeError(
            f'padding must be "same", "valid", a whole number, or for each of the {axes} axes a '
            f"number or a pair (before, after), received {padding!r:.60}"
        )
    return tuple((int(before), int(after)) for before, after in pairs)
