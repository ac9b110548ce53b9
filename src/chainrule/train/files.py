"""Files that are either written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..errors import RunError


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[IO[Any]]:
    """A binary file that takes the place of `path` when the block ends well, and leaves no trace
    otherwise: what stood at `path` before stays, also when the disk is full.

    Raises RunError with the reason when the file cannot be written.
    """
    target = Path(path)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as file:
            temporary = file.name
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise RunError(
            f"cannot write {target}: {error.strerror or error}; what was there before is untouched"
        ) from error
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """A text file in UTF-8, atomically."""
    with atomic(path) as file:
        file.write(text.encode())


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """A binary file, atomically."""
    with atomic(path) as file:
        file.write(content)
