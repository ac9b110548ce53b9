"""Splits, shuffles and batches. Each depends on its arguments only: same seed, same order."""

import math
import operator
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from .dataset import Dataset

Indices = NDArray[np.int64]
Batch = tuple[NDArray[Any], NDArray[Any]]
Augment = Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]
FRACTIONS = (0.6, 0.2, 0.2)


class Split(NamedTuple):
    """The indices of the examples in each part, ascending; every example is in exactly one."""

    train: Indices
    validation: Indices
    test: Indices


def permutation(seed: int, epoch: int, n: int) -> Indices:
    """A shuffled 0, …, n-1: int64 of shape (n,), the same for the same (seed, epoch, n).

    >>> bool((permutation(0, 1, 9) == permutation(0, 1, 9)).all())
    True
    """
    return generator(seed, epoch).permutation(whole("n", n))


def generator(seed: int, epoch: int, *key: int) -> np.random.Generator:
    """The random numbers of (seed, epoch, key): independent for different ones."""
    key = (whole("epoch", epoch), *key)
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(whole("seed", seed), spawn_key=key))
    )


def batches(
    data: Dataset | tuple[ArrayLike, ArrayLike],
    size: int,
    *,
    seed: int,
    epoch: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    start: int = 0,
    ahead: int = 0,
    augment: Augment | None = None,
) -> Iterator[Batch]:
    """One epoch: pairs (inputs, targets) of `size` examples, each example once.

    `data` is a Dataset or a pair of arrays of the same length. dtypes are kept, but for the uint8
    pixels of a Dataset, which become float32 x/255. The order is `permutation(seed, epoch, n)`,
    or that of the data with `shuffle=False`. The last batch is smaller if `size` does not divide
    n, and left out with `drop_last=True`. The first `start` batches are skipped; the others are
    what they are without skipping.

    `augment(inputs, rng)` changes the inputs of each batch, which it may write to; `rng` depends
    on seed, epoch and the number of the batch. `ahead` batches are made in a thread before they
    are asked for; the thread ends with the iterator, and an error in it is raised here.

    Raises DataError at once, not at the first batch.

    >>> x, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> [targets.tolist() for _, targets in batches((x, y), 2, seed=0, shuffle=False)]
    [[0, 1], [2, 3], [4]]
    >>> noisy = lambda x, rng: x + rng.normal(size=x.shape)
    >>> (one, _), *_ = batches((x, y), 2, seed=0, augment=noisy, start=2)
    >>> (_, _, (two, _)) = batches((x, y), 2, seed=0, augment=noisy, ahead=2)
    >>> bool((one == two).all())
    True
    """
    pair = (data.inputs, data.targets) if isinstance(data, Dataset) else data
    x, y = (np.asarray(each) for each in pair)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) == 0:
        raise DataError(
            f"batches wants inputs and targets of the same length, at least 1; got shapes "
            f"{x.shape} and {y.shape}"
        )
    parts = batch_indices(
        len(x), size, seed=seed, epoch=epoch, shuffle=shuffle, drop_last=drop_last, start=start
    )

    def make(number: int, part: Indices) -> Batch:
        inputs, targets = x[part], y[part]
        if isinstance(data, Dataset):
            inputs = pixels(inputs)
        if augment is not None:
            inputs = augment(inputs, generator(seed, epoch, 1, number))
            if np.shape(inputs)[:1] != targets.shape[:1]:
                raise DataError(
                    f"augment returned shape {np.shape(inputs)} for {len(targets)} examples; "
                    "it must keep their number"
                )
        return inputs, targets

    numbered = enumerate(parts, start)
    if whole("ahead", ahead):
        return _made_ahead(make, numbered, ahead)
    return (make(number, part) for number, part in numbered)


def batch_indices(
    n: int,
    size: int,
    *,
    seed: int,
    epoch: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    start: int = 0,
) -> Iterator[Indices]:
    """Which of n examples each batch of `batches` holds: int64 of shape (size,), the last shorter.

    Raises DataError at once.

    >>> [part.tolist() for part in batch_indices(5, 2, seed=0, shuffle=False)]
    [[0, 1], [2, 3], [4]]
    """
    if whole("size", size) < 1:
        raise DataError(f"batches wants a size of at least 1, got {size}")
    if drop_last and size > n:
        raise DataError(
            f"batches of {size} from {n} examples with drop_last=True: there is none; "
            f"use a size of at most {n}"
        )
    count = n // size if drop_last else -(-n // size)
    if whole("start", start) > count:
        raise DataError(f"batches cannot start at {start}: an epoch has {count} of {size} examples")
    order = permutation(seed, epoch, n) if shuffle else np.arange(n)
    return (order[k * size : (k + 1) * size] for k in range(start, count))


def pixels(inputs: Any) -> Any:
    """Inputs of a Dataset as a model takes them: uint8 pixels as float32 x/255, others as they are.

    An array, or a Tensor of compiled code.

    >>> pixels(np.array([0, 51], np.uint8))
    array([0. , 0.2], dtype=float32)
    """
    return inputs.astype(np.float32) / np.float32(255) if inputs.dtype == np.uint8 else inputs


def _made_ahead(
    make: Callable[[int, Indices], Batch], numbered: Iterator[tuple[int, Indices]], ahead: int
) -> Generator[Batch, None, None]:
    """make(number, part) of all, `ahead` of them computed in a thread while one is used."""
    with ThreadPoolExecutor(1, "chainrule batches") as pool:
        ready = deque(pool.submit(make, *each) for each in islice(numbered, ahead))
        try:
            for each in numbered:
                batch = ready.popleft().result()
                ready.append(pool.submit(make, *each))
                yield batch
            while ready:
                yield ready.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def split(
    targets: ArrayLike,
    fractions: Sequence[float] = FRACTIONS,
    *,
    seed: int,
    stratify: bool = True,
) -> Split:
    """Disjoint indices for training, validation and test, in these fractions.

    Floating targets (regression) are shuffled and cut, and so are all with `stratify=False`.
    Otherwise each class is dealt out by itself: a part gets its fraction of the class rounded
    down or up, whichever keeps the sizes of the parts closest to their fractions. Each class
    has at least one example in train; so a class of one example is in train only. Parts of very
    small data can be empty.

    Raises DataError if there are no targets, or the fractions are not three numbers ≥ 0 that
    add up to 1 with the first above 0.

    >>> [len(part) for part in split([0, 1] * 50, seed=0)]
    [60, 20, 20]
    """
    shares = check_fractions(fractions)
    y = np.asarray(targets)
    if y.ndim == 0 or len(y) == 0:
        raise DataError(f"split wants the targets of at least one example, got shape {y.shape}")
    order = permutation(seed, 0, len(y))
    if not stratify or y.dtype.kind == "f":
        groups = [order]
    elif y.ndim == 1:
        groups = _by_class(y, order)
    else:
        raise DataError(
            f"split by class wants targets of shape (n,), got {y.shape}; or use stratify=False"
        )
    parts: tuple[list[Indices], ...] = ([], [], [])
    sizes = np.zeros(3, dtype=np.int64)
    for group in groups:
        counts = _deal(len(group), shares, sizes)
        sizes += counts
        cuts = np.cumsum(counts)[:2]
        for part, members in zip(parts, np.split(group, cuts), strict=True):
            part.append(members)
    return Split(*(np.sort(np.concatenate(part)) for part in parts))


def split_dataset(
    data: Dataset, fractions: Sequence[float] = FRACTIONS, *, seed: int, stratify: bool = True
) -> tuple[Dataset, Dataset, Dataset]:
    """`split` applied to a Dataset: (train, validation, test), named "… (train)" and so on.

    Raises DataError if a part would be empty, besides the errors of `split`.

    >>> from chainrule.data import digits
    >>> [len(part) for part in split_dataset(digits(), seed=0)]
    [1078, 360, 359]
    """
    parts = split(data.targets, fractions, seed=seed, stratify=stratify)
    for what, indices in parts._asdict().items():
        if len(indices) == 0:
            raise DataError(
                f"{data.name}: the {what} part of {len(data)} examples by fractions "
                f"{tuple(fractions)} is empty; give more data, other fractions, or use split"
            )
    named = zip(parts._fields, parts, strict=True)
    train, validation, test = (
        replace(data.take(indices), name=f"{data.name} ({what})") for what, indices in named
    )
    return train, validation, test


def _by_class(y: NDArray[Any], order: Indices) -> list[Indices]:
    """`order` sorted apart by class: one shuffled array for each class, classes ascending."""
    shuffled = y[order]
    by_class = order[np.argsort(shuffled, kind="stable")]
    _, counts = np.unique(shuffled, return_counts=True)
    return list(np.split(by_class, np.cumsum(counts)[:-1]))


def _deal(n: int, shares: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of n more examples each part gets, its present sizes given."""
    # The small addition keeps a product such as 100 * 0.29 = 28.999999999999996 whole.
    counts = np.floor(shares * n + 1e-9).astype(np.int64)
    behind = shares * (sizes.sum() + n) - (sizes + counts)
    behind[shares == 0] = -np.inf
    # Stable, and rounded, so that equal needs go to train before validation before test.
    for part in np.argsort(-np.round(behind, 6), kind="stable")[: n - int(counts.sum())]:
        counts[part] += 1
    if counts[0] == 0:
        counts[np.argmax(counts)] -= 1
        counts[0] = 1
    return counts


def check_fractions(fractions: Sequence[float]) -> NDArray[np.float64]:
    try:
        shares = np.array([float(share) for share in fractions], dtype=np.float64)
    except (TypeError, ValueError):
        shares = np.zeros(0)
    good = len(shares) == 3 and bool(np.all(np.isfinite(shares) & (shares >= 0)))
    if not good or shares[0] == 0 or not math.isclose(shares.sum(), 1, abs_tol=1e-6):
        raise DataError(
            "split wants three fractions ≥ 0 for train, validation and test that add up to 1, "
            f"train above 0, such as {FRACTIONS}; got {fractions!r}"
        )
    normal: NDArray[np.float64] = shares / shares.sum()
    return normal


def whole(what: str, value: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if number < 0:
        raise DataError(f"{what} must be a whole number ≥ 0, got {value!r}")
    return number
