"""The one context: whether operations are recorded or traced, and inside which modules.

Dispatch depends on this and on nothing else. It is a ContextVar, so threads and tasks each have
their own, and every change is undone in `finally`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any


class Context:
    """recording: make nodes for dependent results; trace: the Trace being built, or None;
    scope: the path of modules being called; functional: inside grad, vjp and the like."""

    __slots__ = ("functional", "recording", "scope", "trace")

    def __init__(
        self,
        recording: bool = True,
        trace: Any = None,
        scope: tuple[str, ...] = (),
        functional: bool = False,
    ) -> None:
        self.recording, self.trace, self.scope, self.functional = (
            recording, trace, scope, functional,
        )  # fmt: skip


CONTEXT: ContextVar[Context] = ContextVar("chainrule", default=Context())  # noqa: B039 - never mutated


@contextmanager
def context(**changes: Any) -> Iterator[Context]:
    """Run a block in the current context with some fields changed."""
    now = CONTEXT.get()
    fields = {name: changes.get(name, getattr(now, name)) for name in Context.__slots__}
    changed = Context(**fields)
    token = CONTEXT.set(changed)
    try:
        yield changed
    finally:
        CONTEXT.reset(token)


def no_grad() -> AbstractContextManager[Context]:
    """A block in which nothing is recorded: every result is a constant. Also a decorator.

    >>> import chainrule as cr
    >>> x = cr.tensor(2.0)
    >>> with cr.no_grad():
    ...     y = x * x
    >>> y.is_constant
    True
    """
    return context(recording=False)
