"""Files that are either written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ..errors import RunError

AnyPath = str | os.PathLike[str]


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Files that belong together: none takes its place before all are on the disk.

    What stood there before stays if one cannot be written, also when the disk is full, and no
    temporary file is left. Folders on the way are made.

    Raises RunError with the reason.
    """
    ready: dict[Path, Path] = {}
    target = Path()
    try:
        for target, content in contents.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
            ready[target] = temporary
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for target, temporary in list(ready.items()):
            os.replace(temporary, target)
            del ready[target]
    except OSError as error:
        raise RunError(
            f"cannot write {target}: {error.strerror or error}; what was there before is untouched"
        ) from error
    finally:
        for temporary in ready.values():
            with suppress(OSError):
                os.unlink(temporary)


def write_text(path: AnyPath, text: str) -> None:
    """A text file in UTF-8, whole or not at all."""
    write_files({Path(path): text.encode()})
