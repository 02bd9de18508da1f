"""What the runner tells whoever looks on. `live.py` has the implementations for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from labctl.drills.records import Entry


@dataclass(frozen=True, slots=True)
class Status:
    """Where the drill stands, a few times a second."""

    now_s: float  # the history's clock
    phase: str
    waiting: tuple[str, ...] = ()  # what for, with the time left


class Ui(Protocol):
    """Called from the runner's thread only; must not block."""

    def show(self, entries: Sequence[Entry]) -> None:
        """New records, in order."""
        ...

    def status(self, status: Status) -> None:
        """Where things stand now."""
        ...

    def say(self, text: str) -> None:
        """A sentence for the reader, outside the history."""
        ...


class Silent:
    """Tells nobody."""

    def show(self, entries: Sequence[Entry]) -> None:
        """See `Ui`."""

    def status(self, status: Status) -> None:
        """See `Ui`."""

    def say(self, text: str) -> None:
        """See `Ui`."""
