"""How long work tells people what it does. The command line draws it; tests and scripts may be silent."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Protocol


class Reporter(Protocol):
    """Shows phases and what happens within them, with elapsed time."""

    def phase(self, title: str, *, until_s: float = 0.0) -> AbstractContextManager[None]:
        """A step of the work; `until_s` is its deadline where it waits for something."""
        ...

    def event(self, node: str, text: str) -> None:
        """Something happened on `node`, or "" for the whole lab."""
        ...


class Silent:
    """Tells nobody."""

    def phase(self, title: str, *, until_s: float = 0.0) -> AbstractContextManager[None]:  # noqa: ARG002
        """See `Reporter`."""
        return contextlib.nullcontext()

    def event(self, node: str, text: str) -> None:
        """See `Reporter`."""
