"""Regular files read, with a clear error where that cannot be."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError
from ..files import AnyPath

MAX_RATIO = 1032
"""No deflate stream unpacks to more than 1032 times its size, so no header may claim more."""


def file_size(path: AnyPath) -> int:
    """The bytes of a regular file; DataError if there is none: a folder, a device, nothing."""
    with readable(path):
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise DataError(f"{os.fspath(path)}: is a folder; give the path of a file")
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{os.fspath(path)}: is a device or a pipe, not a file")
        return found.st_size


def read_bytes(path: AnyPath) -> bytes:
    """The content of a regular file; DataError if it cannot be read."""
    file_size(path)
    with readable(path):
        return Path(path).read_bytes()


@contextmanager
def readable(path: AnyPath) -> Iterator[None]:
    """What the system refuses about `path` as a DataError."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{os.fspath(path)}: cannot be read: {reason}") from error
