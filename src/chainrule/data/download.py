"""Files from the net: kept only when whole and right."""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from ..files import write_files

STEP = 1 << 16
TIMEOUT = 30.0


class Source(NamedTuple):
    """A gzipped file on the net, and the sha256 (hex) and size in bytes of what it unpacks to."""

    url: str
    sha256: str
    size: int


def download(source: Source, target: Path, otherwise: str) -> None:
    """`source`, unpacked, at `target`, or DataError and nothing there.

    No more than `source.size` bytes are unpacked, in memory. On a terminal a bar shows the
    progress. `otherwise` says in an error what else the user can do.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    shown = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    content = bytearray()
    with shown:
        task = shown.add_task(f"downloading {target.name}", total=source.size)
        for part in _unpacked(source, otherwise):
            content += part
            shown.update(task, completed=len(content))
    found = hashlib.sha256(content).hexdigest()
    if (len(content), found) != (source.size, source.sha256):
        raise DataError(
            f"{source.url}: damaged or another file: {len(content):,} bytes with sha256 {found}, "
            f"expected {source.size:,} with {source.sha256}; nothing of it is kept. Try again, "
            f"{otherwise}"
        )
    write_files({target: bytes(content)})


def _unpacked(source: Source, otherwise: str) -> Iterator[bytes]:
    """The unpacked content in pieces, at most one byte more than expected."""
    # Imported late: they take longer than the rest of this room.
    import http.client
    import urllib.request

    left = source.size + 1
    try:
        with (
            urllib.request.urlopen(source.url, timeout=TIMEOUT) as response,
            gzip.open(response) as file,
        ):
            while part := file.read(min(STEP, left)):
                left -= len(part)
                yield part
    except (OSError, EOFError, http.client.HTTPException, zlib.error) as error:
        raise DataError(
            f"{source.url}: cannot be downloaded: {error}; try again, {otherwise}"
        ) from error
