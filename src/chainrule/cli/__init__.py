"""The command line: `chainrule train`, `predict`, `evaluate`, `sample`, `runs`, `explain`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; a user's mistake ends in one line, never in a traceback."""
    from .app import run

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a sign gets its number
            stream.reconfigure(errors="backslashreplace")
    status = run()
    try:
        if sys.stdout is not None:  # closed by `>&-`
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or 141
    sys.exit(status)
