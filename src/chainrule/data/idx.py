"""The idx format of MNIST: a magic number, a dtype, the dimensions, then the numbers."""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from ..files import AnyPath, write_files
from .files import MAX_RATIO, file_size, readable

DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8), 0x09: np.dtype(np.int8), 0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"), 0x0D: np.dtype(">f4"), 0x0E: np.dtype(">f8"),
}  # fmt: skip
MAX_AXES = 32
STEP = 1 << 20


def read_idx(path: AnyPath) -> NDArray[Any]:
    """An array of an idx file, plain or gzipped, read-only: uint8, int8, int16, int32 or floats.

    A plain file of bytes (uint8, int8) is memory-mapped; wider numbers, which are big-endian in
    the file, are copied to the machine's order. What the header claims is compared with the size
    of the file before anything is allocated.

    Raises DataError for a file that cannot be read, is no idx file, is cut short or too long.

    Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, 1998.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "numbers.idx.gz")
    ...     write_idx(path, np.arange(6, dtype=np.uint8).reshape(2, 3))
    ...     read_idx(path).tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    size = file_size(path)
    with readable(path), open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            dtype, shape, start = _header(path, file, size)
            claimed = math.prod(shape) * dtype.itemsize
            _check_size(path, dtype, shape, claimed, size - start)
            if claimed == 0:
                return _read_only(np.zeros(shape, dtype.newbyteorder("=")))
            mapped: NDArray[Any] = np.memmap(file, dtype, "r", start, shape)
            return _read_only(mapped.astype(dtype.newbyteorder("="), copy=False))
        try:
            with gzip.open(file) as unpacked:
                return _unpack(path, unpacked, size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path}: a damaged gzip file: {error}; get it again") from error


def write_idx(path: AnyPath, array: ArrayLike) -> None:
    """`array` as an idx file, gzipped if the name ends in .gz, whole or not at all.

    Raises DataError for dtypes that the format does not have, and for no axes or more than 32;
    RunError if the file cannot be written.

    >>> write_idx("/nowhere", np.arange(3))
    Traceback (most recent call last):
    chainrule.errors.DataError: idx files hold uint8, int8, int16, int32, float32 or float64, ...
    """
    values = np.asarray(array)
    codes = {dtype.newbyteorder("="): code for code, dtype in DTYPES.items()}
    code = codes.get(values.dtype.newbyteorder("="))
    if code is None:
        raise DataError(
            f"idx files hold {', '.join(map(str, list(codes)[:-1]))} or float64, got "
            f"{values.dtype}; cast it first"
        )
    if not 1 <= values.ndim <= MAX_AXES or max(values.shape) >= 2**32:
        raise DataError(
            f"idx files hold 1 to {MAX_AXES} axes of less than 2**32, got shape {values.shape}"
        )
    header = struct.pack(f">HBB{values.ndim}I", 0, code, values.ndim, *values.shape)

    content = header + np.ascontiguousarray(values, DTYPES[code]).tobytes()
    packed = os.fspath(path).endswith(".gz")
    write_files({Path(path): gzip.compress(content, mtime=0) if packed else content})


def _header(
    path: AnyPath, file: BinaryIO | gzip.GzipFile, size: int
) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    start = file.read(4)
    if not start:
        raise DataError(f"{path}: the file is empty")
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in DTYPES:
        raise DataError(
            f"{path}: no idx file: it begins with {start.hex(' ')}, expected 00 00, one of "
            f"{', '.join(f'{code:02x}' for code in DTYPES)}, and the number of axes"
        )
    axes = start[3]
    if not 1 <= axes <= MAX_AXES:
        raise DataError(f"{path}: damaged: a header of {axes} axes, expected 1 to {MAX_AXES}")
    lengths = file.read(4 * axes)
    if len(lengths) < 4 * axes:
        raise DataError(f"{path}: damaged: the file of {size:,} bytes ends in its header")
    shape = struct.unpack(f">{axes}I", lengths)
    if math.prod(map(float, filter(None, shape))) > 2.0**60:
        raise DataError(f"{path}: damaged: the header claims shape {shape}; get the file again")
    return DTYPES[start[2]], shape, 4 + 4 * axes


def _unpack(path: AnyPath, file: gzip.GzipFile, size: int) -> NDArray[Any]:
    dtype, shape, _ = _header(path, file, size)
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > MAX_RATIO * size:
        raise DataError(
            f"{path}: damaged: the header claims shape {shape}, {claimed:,} bytes, more than "
            f"{size:,} bytes of gzip can hold; get the file again"
        )
    content = bytearray()
    # One byte more than claimed, which also makes gzip compare its checksum at the end.
    while part := file.read(min(STEP, claimed + 1 - len(content))):
        content += part
    _check_size(path, dtype, shape, claimed, len(content))
    array = np.frombuffer(content, dtype).reshape(shape)
    return _read_only(array.astype(dtype.newbyteorder("="), copy=False))


def _check_size(
    path: AnyPath, dtype: np.dtype[Any], shape: tuple[int, ...], claimed: int, held: int
) -> None:
    if held != claimed:
        more = "more" if held > claimed else f"{held:,}"
        raise DataError(
            f"{path}: damaged: the header claims {dtype.name} of shape {shape}, {claimed:,} "
            f"bytes, but {more} follow; get the file again"
        )


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
