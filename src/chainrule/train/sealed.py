"""The files of a run: sealed arrays (`chainrule.files`), of a size known before they are read."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..files import Arrays, seal
from ..files import unseal as _unseal


def unseal(file: Path, least: int, most: int) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and the description in a file of `least` to `most` bytes.

    RunError if it is missing or a bit of it is wrong. No more memory is taken than the file has.
    """
    check_size(file, least, most)
    return _unseal(file)


def check_size(file: Path, least: int, most: int) -> None:
    """RunError unless a file is there and its size within bounds, so that no claim takes memory."""
    try:
        status = file.stat()
    except FileNotFoundError:
        raise RunError(f"{file.parent} has no {file.name}: it is no complete run") from None
    except OSError as error:
        raise RunError(f"cannot read {file}: {error.strerror or error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise RunError(f"{file} is damaged: it is no file")
    if not least <= status.st_size <= most:
        raise RunError(
            f"{file} is damaged: it has {status.st_size:,} bytes, expected "
            f"{f'{least:,} to ' if least else 'at most '}{most:,}; train again"
        )


__all__ = ["Arrays", "check_size", "seal", "unseal"]
