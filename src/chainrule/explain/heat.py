"""Large arrays as small pictures: blue where entries are negative, white at 0, red where positive.

An array of more than two axes is laid out as a matrix; one with more entries than fit is averaged
over blocks, so that the picture stays small whatever the array is.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np

NEGATIVE, MIDDLE, POSITIVE = (33, 102, 172), (247, 247, 247), (178, 24, 43)
"""The ends and the middle of a scale that colour-blind people can read (ColorBrewer's RdBu)."""
WIDE, TALL = 24, 12
"""A picture has at most so many columns and rows."""
NONFINITE = (255, 193, 7)

Array = np.ndarray[Any, Any]


def png(pixels: Array) -> bytes:
    """Pixels in uint8, (height, width) for grey or (height, width, 3) for colours, as a PNG file.

    PNG (Portable Network Graphics), W3C Recommendation, 2003: signature, header, data, end.

    >>> png(np.zeros((2, 3), np.uint8))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
    """
    pixels = np.ascontiguousarray(pixels, np.uint8)
    if not pixels.size:  # a file of no pixels is no PNG
        pixels = np.full((1, 1, *pixels.shape[2:]), 255, np.uint8)
    height, width = pixels.shape[:2]
    lines = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each: filter 0, then its pixels
    lines[:, 1:] = pixels.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def data_uri(pixels: Array) -> str:
    """The same as text that stands in the `src` of an image."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def matrix(values: Any, wide: int = WIDE, tall: int = TALL) -> Array:
    """An array as a matrix of at most tall × wide means, in float64.

    The last axis runs to the right; all before it, one after the other, downwards. A vector is one
    row, wrapped if it is long (and filled up with zeros).

    >>> matrix(np.arange(6.0).reshape(2, 3)).shape, matrix(np.zeros((1000, 784))).shape
    ((2, 3), (12, 24))
    """
    values = np.asarray(values, np.float64)
    if not values.size:
        return np.zeros((0, 0))
    rows = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(1, -1)
    if values.ndim <= 1 and rows.size > wide:
        count = -(-rows.size // wide)
        full = np.zeros(count * wide)
        full[: rows.size] = rows[0]
        rows = full.reshape(count, wide)
    return _means(_means(rows, tall, 0), wide, 1)


def _means(rows: Array, most: int, axis: int) -> Array:
    """Means over blocks along an axis, so that at most so many are left."""
    n = rows.shape[axis]
    if n <= most:
        return rows
    edges = np.arange(most) * n // most
    counts = np.diff([*edges, n])
    sums = np.add.reduceat(rows, edges, axis)
    return np.asarray(sums / (counts[:, None] if axis == 0 else counts))


def colours(values: Any, limit: float | None = None) -> Array:
    """The pixels (height, width, 3) of a matrix: ± limit at the ends, by default the largest entry.

    NaN and infinities are yellow.
    """
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    if limit is None:
        limit = float(np.abs(values[finite]).max(initial=0.0))
    share = np.clip(np.where(finite, values, 0) / (limit or 1.0), -1, 1)[..., None]
    ends = np.where(share < 0, np.array(NEGATIVE), np.array(POSITIVE))
    mixed = np.array(MIDDLE) + np.abs(share) * (ends - np.array(MIDDLE))
    mixed[~finite] = NONFINITE
    pixels: Array = np.round(mixed).astype(np.uint8)
    return pixels


def heat(values: Any) -> str:
    """The heat picture of an array as a data URI.

    >>> heat(np.eye(3))[:22]
    'data:image/png;base64,'
    """
    return data_uri(colours(matrix(values)))
