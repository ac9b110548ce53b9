"""Files read with a clear error, and written whole or not at all."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import DataError

AnyPath = str | os.PathLike[str]
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


@contextmanager
def whole_file(path: AnyPath) -> Iterator[BinaryIO]:
    """A file to write to that takes its place when the block ends well, and else never was.

    What stood there before stays until then. Folders on the way are made. Raises DataError where
    the system refuses.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise DataError(
            f"cannot write {target}: {error.strerror or error}; what was there before is untouched"
        ) from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)
