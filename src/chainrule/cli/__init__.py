"""The command line: `chainrule train`, `chainrule predict`, `chainrule explain`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; a user's mistake ends in one line, never in a traceback."""
    from .app import run

    sys.exit(run())
