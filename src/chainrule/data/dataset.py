"""A data set: inputs, targets and the names that belong to them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError

Task = Literal["classification", "regression", "language"]
CHUNK = 1 << 24
"""Bytes looked at in one go, so that a memory-mapped array is never in memory as a whole."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """n examples: `inputs[i]` belongs to `targets[i]`; checked when made, read-only after.

    `inputs`, of shape (n, ...), are float32, or uint8 pixels, which `batches` hands out as
    float32 x/255 (they may be a memory map), or int64 tokens. `targets` is int64 of shape (n,),
    an index into `classes`; or, where `classes` is empty (regression), float32 of shape (n,) or
    (n, k); or, where the inputs are tokens (language), int64 of the shape of the inputs, the
    token that follows each, and `classes` names the tokens. `features` names the columns of
    inputs of shape (n, d), and may be empty. `image_shape` says how one example's inputs are
    drawn as a picture, if they are one.

    Raises DataError. `arrays` makes a Dataset of anything array-like.

    >>> data = arrays([[0.0, 1.0], [2.0, 3.0]], [1, 0])
    >>> data
    Dataset('arrays', 2 examples, inputs (2,), 2 classes)
    >>> data.take([1]).inputs
    array([[2., 3.]], dtype=float32)
    """

    inputs: NDArray[Any]
    targets: NDArray[Any]
    name: str = "data"
    classes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    image_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        known = (np.float32, np.uint8, np.int64), (np.int64, np.float32)
        if self.inputs.dtype not in known[0] or self.targets.dtype not in known[1]:
            raise DataError(
                f"{self.name}: a Dataset holds float32, uint8 or int64 inputs and int64 or float32 "
                f"targets, got {self.inputs.dtype} and {self.targets.dtype}; "
                "chainrule.data.arrays casts"
            )
        _check_arrays(self.name, self.inputs, self.targets)
        if self.task == "language":
            _check_tokens(self.name, self.inputs, self.targets, self.classes)
        else:
            _check_targets(self.name, self.targets, self.classes)
        example = self.inputs.shape[1:]
        if self.features and example != (len(self.features),):
            raise DataError(
                f"{self.name}: {len(self.features)} feature names for inputs of shape {example} "
                "each; give one name for each column of the inputs, or none"
            )
        if self.image_shape is not None and np.prod(self.image_shape) != np.prod(example):
            raise DataError(
                f"{self.name}: image_shape {self.image_shape} does not hold the "
                f"{np.prod(example)} numbers of one example"
            )
        for array in (self.inputs, self.targets):
            array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        kind = "tokens" if self.task == "language" else "classes"
        about = f"{len(self.classes)} {kind}" if self.classes else "regression"
        shape = self.inputs.shape[1:]
        return f"Dataset({self.name!r}, {len(self)} examples, inputs {shape}, {about})"

    @property
    def task(self) -> Task:
        """`"language"` if inputs are int64, `"classification"` if there are classes, else
        `"regression"`."""
        if self.inputs.dtype == np.int64:
            return "language"
        return "classification" if self.classes else "regression"

    def epoch(self, seed: int, number: int) -> "Dataset":
        """The data as it is in epoch `number`: itself here; `TextPart` shifts its windows."""
        return self

    def fingerprint(self) -> str:
        """sha256 of the dtypes, shapes and contents of inputs and targets, as 64 hex digits.

        The same on every machine, for any memory layout; 1 GB takes about a second.

        >>> arrays([[1], [2]], [0, 1]).fingerprint()[:8]
        '70e62e82'
        """
        state = hashlib.sha256()
        for array in (self.inputs, self.targets):
            little = array.dtype.newbyteorder("<")
            state.update(f"{little.str}{array.shape}".encode())
            for part in chunks(array):
                state.update(np.ascontiguousarray(part, little).data.cast("B"))
        return state.hexdigest()

    def take(self, indices: ArrayLike) -> "Dataset":
        """The examples at `indices` (integers or a mask), in that order, as a Dataset (a copy)."""
        index = np.asarray(indices)
        if index.size == 0:
            raise DataError(f"{self.name}: no example was taken; a Dataset holds at least one")
        if index.ndim != 1 or index.dtype.kind not in "iub":
            raise DataError(
                f"{self.name}: take wants a 1-d array of integers or booleans, "
                f"got {index.dtype} of shape {index.shape}"
            )
        try:
            return replace(self, inputs=self.inputs[index], targets=self.targets[index])
        except IndexError as error:
            raise DataError(f"{self.name}, {len(self)} examples: {error}") from error


def arrays(
    inputs: ArrayLike,
    targets: ArrayLike,
    *,
    classes: Sequence[str] | None = None,
    features: Sequence[str] = (),
    image_shape: tuple[int, ...] | None = None,
    name: str = "arrays",
) -> Dataset:
    """A Dataset of two arrays, copied, cast and checked.

    `inputs`, real numbers of shape (n, ...), become float32. `targets` of an integer or boolean
    dtype are classes 0, 1, … and become int64; of a floating dtype they are a regression's and
    become float32. `classes` are the names of the classes; without them the names are "0" up to
    the largest label.

    Raises DataError for different lengths, no examples, values that are not finite or not
    numbers, and labels out of range.

    >>> arrays([[1], [2], [3]], [0.5, 1.0, 1.5]).task
    'regression'
    """
    x, y = (_array(name, what, v) for what, v in (("inputs", inputs), ("targets", targets)))
    if x.dtype.kind not in "biuf":
        raise DataError(f"{name}: inputs must be real numbers, got {x.dtype}")
    if y.dtype.kind not in "biuf":
        raise DataError(
            f"{name}: targets must be integers (classes) or floats (regression), got {y.dtype}; "
            "for names use np.unique(targets, return_inverse=True)"
        )
    _check_arrays(name, x, y)
    is_regression = y.dtype.kind == "f"
    y = to_float32(y, f"{name}: targets") if is_regression else y.astype(np.int64)
    if classes is None:
        names = () if is_regression else _default_classes(name, y)
    elif is_regression:
        raise DataError(
            f"{name}: classes are named but targets are floats; "
            "give integers, the index of each example's class"
        )
    else:
        names = tuple(str(each) for each in classes)
    x = to_float32(x, f"{name}: inputs")
    return Dataset(x, y, name, names, tuple(features), image_shape)


def _array(name: str, what: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise DataError(f"{name}: {what} are not an array: {error}") from None


def to_float32(values: NDArray[Any], what: str) -> NDArray[np.float32]:
    """A float32 copy of finite numbers; DataError if one is beyond the range of float32."""
    with np.errstate(over="ignore"):
        cast = np.array(values, dtype=np.float32, order="C")
    if not np.isfinite(cast).all():
        raise DataError(
            f"{what} hold {float(np.abs(values).max()):g}, beyond the range of float32; scale them"
        )
    return cast


def _default_classes(name: str, labels: NDArray[Any]) -> tuple[str, ...]:
    # One stray label of 10⁹ must not make 10⁹ names.
    if labels.max() >= max(len(labels), 2):
        raise DataError(
            f"{name}: label {labels.max()} with only {len(labels)} examples; labels count the "
            "classes from 0. Pass classes=, or float targets for a regression"
        )
    return tuple(str(k) for k in range(max(int(labels.max()), 0) + 1))


def _check_arrays(name: str, inputs: NDArray[Any], targets: NDArray[Any]) -> None:
    if inputs.ndim < 2:
        raise DataError(
            f"{name}: inputs need an axis of examples and one of features, got shape "
            f"{inputs.shape}; for one feature use inputs.reshape(-1, 1)"
        )
    if targets.ndim == 0 or len(inputs) != len(targets):
        raise DataError(
            f"{name}: inputs of shape {inputs.shape} and targets of shape {targets.shape} "
            "must have the same length"
        )
    if inputs.size == 0 or targets.size == 0:
        raise DataError(
            f"{name}: inputs of shape {inputs.shape} and targets of shape {targets.shape} "
            "hold no values"
        )
    for what, array in (("inputs", inputs), ("targets", targets)):
        if array.dtype.kind != "f":
            continue
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            at = tuple(int(i) for i in bad[0])
            raise DataError(
                f"{name}: {what}[{', '.join(map(str, at))}] is {array[at]}; "
                "every value must be finite"
            )


def _check_targets(name: str, targets: NDArray[Any], classes: tuple[str, ...]) -> None:
    if not classes:
        if targets.dtype.kind != "f":
            raise DataError(f"{name}: targets are {targets.dtype} and no classes are named")
        return
    if targets.dtype.kind != "i" or targets.ndim != 1:
        raise DataError(
            f"{name}: class labels must be integers of shape (n,), "
            f"got {targets.dtype} of shape {targets.shape}"
        )
    _check_range(f"{name}: targets", targets, classes)


def _check_tokens(
    name: str, inputs: NDArray[Any], targets: NDArray[Any], classes: tuple[str, ...]
) -> None:
    if targets.dtype != np.int64 or inputs.shape != targets.shape or inputs.ndim != 2:
        raise DataError(
            f"{name}: tokens are int64 inputs and int64 targets of one shape (n, length), got "
            f"{inputs.dtype} of shape {inputs.shape} and {targets.dtype} of shape {targets.shape}"
        )
    if not classes:
        raise DataError(f"{name}: inputs are tokens and no classes are named; name each token")
    for what, array in (("inputs", inputs), ("targets", targets)):
        _check_range(f"{name}: {what}", array, classes)


def _check_range(what: str, labels: NDArray[Any], classes: tuple[str, ...]) -> None:
    if labels.min() < 0 or labels.max() >= len(classes):
        at = tuple(int(i) for i in np.argwhere((labels < 0) | (labels >= len(classes)))[0])
        raise DataError(
            f"{what}[{', '.join(map(str, at))}] is {labels[at]}, but labels of {len(classes)} "
            f"classes go from 0 to {len(classes) - 1}: they count the classes from 0"
        )


def chunks(array: NDArray[Any], size: int | None = None) -> Iterator[NDArray[Any]]:
    """`array` as runs of rows of at most `size` bytes (`CHUNK`) each, or of one row."""
    rows = max(1, (size or CHUNK) * len(array) // max(1, array.nbytes))
    return (array[start : start + rows] for start in range(0, len(array), rows))
