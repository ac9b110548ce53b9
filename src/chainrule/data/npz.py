"""NumPy's .npz archives, read without trusting what they claim and without pickle."""

import math
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..files import AnyPath
from .dataset import Dataset, arrays
from .files import MAX_RATIO, file_size, readable
from .table import listed

KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npz(path: AnyPath) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name, read-only, as `numpy.savez` wrote them.

    Sizes in the headers are compared with the size of the file before anything is allocated, and
    contents with their checksums. Arrays of Python objects are refused: to read them would run
    code of the file.

    Raises DataError for a file that cannot be read, is no .npz, is damaged, or holds objects.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "data.npz")
    ...     np.savez(path, x=[[1.0], [2.0]], y=[0, 1])
    ...     sorted(read_npz(path))
    ['x', 'y']
    """
    size = file_size(path)
    with readable(path), open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return {
                    info.filename.removesuffix(".npy"): _member(archive, info, size)
                    for info in archive.infolist()
                }
        except DataError as error:
            raise DataError(f"{path}: {error}") from error.__cause__
        # What zipfile raises of a damaged file, besides the first.
        except (
            zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError,
            ValueError, LookupError, struct.error,
        ) as error:  # fmt: skip
            raise DataError(f"{path}: no .npz file, or damaged: {error}") from error


def npz_dataset(
    path: AnyPath,
    inputs: str = "x",
    targets: str = "y",
    classes: Sequence[str] | None = None,
) -> Dataset:
    """Two arrays of an .npz file as a Dataset: `arrays`, but uint8 inputs stay pixels.

    Inputs of uint8 with shape (n, h, w) or (n, h, w, c) are pictures of that shape.

    Raises DataError, as `read_npz` and `arrays`, and for a name that is not there.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "data.npz")
    ...     np.savez(path, x=np.zeros((5, 8, 8), np.uint8), y=[0, 1, 2, 0, 1])
    ...     data = npz_dataset(path)
    >>> data.inputs.shape, data.image_shape, data.classes
    ((5, 8, 8, 1), (8, 8), ('0', '1', '2'))
    """
    found = read_npz(path)
    absent = [name for name in (inputs, targets) if name not in found]
    if absent:
        raise DataError(f"{path}: no array {listed(absent)}; there are: {listed(found)}")
    x, y = found[inputs], found[targets]
    name = str(path)
    if x.dtype != np.uint8:
        return arrays(x, y, classes=classes, name=name)
    # Names and checks of the classes are those of `arrays`, for one number an example.
    labels = arrays(np.zeros((len(y), 1)) if y.ndim else x, y, classes=classes, name=name)
    picture = x.shape[1:] if x.ndim in (3, 4) else None
    x = x[..., None] if x.ndim == 3 else x
    return Dataset(x, labels.targets, name, labels.classes, image_shape=picture)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> NDArray[Any]:
    name = repr(info.filename)
    if not info.filename.endswith(".npy"):
        raise DataError(f"{name} in it is no array (.npy); an .npz file holds nothing else")
    if info.compress_type not in KINDS:
        raise DataError(f"{name} is packed by method {info.compress_type}; use numpy.savez")
    if info.compress_size > size or info.file_size > MAX_RATIO * info.compress_size:
        raise DataError(
            f"damaged: {name} claims {info.file_size:,} bytes, packed into {info.compress_size:,}, "
            f"in a file of {size:,}"
        )
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in HEADERS:
            raise DataError(f"{name} has format {version}, known are {listed(map(str, HEADERS))}")
        shape, by_columns, dtype = HEADERS[version](file)
        if dtype.hasobject:
            raise DataError(
                f"{name} holds Python objects, and reading those would run code of the file; "
                "save it again as an array of numbers"
            )
        claimed = math.prod(shape) * dtype.itemsize
        if not 0 <= claimed <= info.file_size or min(shape, default=0) < 0:
            raise DataError(
                f"damaged: {name} claims {dtype} of shape {shape}, {claimed:,} bytes, but has "
                f"{info.file_size:,}"
            )
        content = file.read()
    if len(content) != claimed:
        raise DataError(
            f"damaged: {name} claims {dtype} of shape {shape}, {claimed:,} bytes, but "
            f"{len(content):,} follow"
        )
    order: Any = "F" if by_columns else "C"
    return np.ndarray(shape, dtype, content, order=order)


HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
