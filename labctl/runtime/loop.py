"""Stopping, waiting and retrying: every wait has a deadline, every retry a bounded backoff with jitter."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import TypeVar

from labctl.runtime import chance
from labctl.runtime.clock import Clock
from labctl.runtime.errors import DeadlineExceeded

T = TypeVar("T")


def seeded(seed: int) -> chance.Generator:
    """A source of choices that can be made again: the same seed, the same choices."""
    return chance.generator(str(seed))


class Stop:
    """A request to end, shared by a process's threads; set by SIGTERM and SIGINT once installed."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def install(self) -> Stop:
        """Set this on SIGTERM and SIGINT; call from the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.set())
        return self

    def set(self) -> None:
        """Ask everyone to end."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether to end."""
        return self._event.is_set()

    def wait_s(self, seconds: float) -> bool:
        """Wait up to `seconds`; True as soon as the end was asked for."""
        return self._event.wait(max(0.0, seconds))


class Wake:
    """A bell that many may ring and one waits on; rings while nobody waits are kept as one."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        """Wake the waiter, now or at its next wait."""
        self._event.set()

    @property
    def rung(self) -> bool:
        """Whether a ring waits to be taken."""
        return self._event.is_set()

    def wait_s(self, seconds: float) -> bool:
        """Wait up to `seconds` for a ring and take it; True if there was one."""
        rung = self._event.wait(max(0.0, seconds))
        self._event.clear()
        return rung


class Backoff:
    """Exponential delays with full jitter on the upper half: `base_s`, doubling, at most `cap_s`."""

    def __init__(self, base_s: float = 0.1, cap_s: float = 5.0, rng: chance.Generator | None = None) -> None:
        assert 0 < base_s <= cap_s
        self._base_s, self._cap_s, self._tries = base_s, cap_s, 0
        self._rng = rng

    def next_s(self) -> float:
        """The delay before the next try."""
        full_s = min(self._cap_s, self._base_s * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return full_s * (0.5 + (self._rng or chance.source()).random() / 2)

    def reset(self) -> None:
        """Start again from `base_s`."""
        self._tries = 0


def jittered_s(period_s: float, fraction: float, rng: chance.Generator | None = None) -> float:
    """`period_s` plus up to `fraction` of it, as upstream's wait.JitterUntil."""
    return period_s * (1 + fraction * (rng or chance.source()).random())


def wait_for(probe: Callable[[], T | None], *, what: str, deadline_s: float, clock: Clock, every_s: float = 0.2) -> T:
    """Call `probe` until it returns something truthy; raise DeadlineExceeded naming `what` after `deadline_s`."""
    end_s = clock.monotonic_s() + deadline_s
    while True:
        if found := probe():
            return found
        if clock.monotonic_s() >= end_s:
            raise DeadlineExceeded(f"waited {deadline_s:g} s for {what}")
        clock.sleep_s(every_s)
