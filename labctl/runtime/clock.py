"""Time as an injected dependency. The only place, with `loop`, that may ask the operating system for it."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds for durations, UTC for the stamps that objects carry."""

    def monotonic_s(self) -> float:
        """Seconds that never go back; comparable only within this process."""
        ...

    def now(self) -> datetime:
        """Aware UTC wall-clock time; it may jump."""
        ...

    def sleep_s(self, seconds: float) -> None:
        """Block for `seconds`."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic_s(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    def now(self) -> datetime:
        """See `Clock`."""
        return datetime.now(UTC)

    def sleep_s(self, seconds: float) -> None:
        """See `Clock`."""
        time.sleep(seconds)


def boottime_s() -> float:
    """Seconds since this machine started, those it slept included; the same for all its processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class FakeClock:
    """A clock that moves only when told to, or when somebody sleeps on it. For tests and the simulation."""

    def __init__(self, monotonic_s: float = 1_000.0, now: datetime | None = None) -> None:
        self._lock = threading.Lock()
        self._monotonic_s = monotonic_s
        self._origin_s = monotonic_s
        self._start = now or datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic_s(self) -> float:
        """See `Clock`."""
        with self._lock:
            return self._monotonic_s

    def now(self) -> datetime:
        """See `Clock`; moves with the monotonic clock."""
        return datetime.fromtimestamp(self._start.timestamp() + self.monotonic_s() - self._origin_s, UTC)

    def sleep_s(self, seconds: float) -> None:
        """Return at once, `seconds` later."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        assert seconds >= 0
        with self._lock:
            self._monotonic_s += seconds


def rfc3339(moment: datetime) -> str:
    """`metav1.Time`: UTC with whole seconds, e.g. `2026-01-31T08:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(moment: datetime) -> str:
    """`metav1.MicroTime`: UTC with six decimals, e.g. `2026-01-31T08:00:00.000000Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """Parse either form above; raises ValueError on anything else."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
