"""Wakes the one consumer of a watch: any number of strokes until it listens again are one."""

from __future__ import annotations

import threading


class Bell:
    """`ring` and `heard` are called under the lock that guards what there is to take; `wait` without it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # locked: nothing new. A plain lock wakes cheaply, under gevent as well
        self._lock.acquire()
        self._rung = False

    def ring(self) -> None:
        """There is something to take."""
        if not self._rung:
            self._rung = True
            self._lock.release()

    def wait(self, timeout_s: float) -> bool:
        """Whether it rang in time; then `heard` must follow."""
        return self._lock.acquire(timeout=timeout_s)

    def heard(self) -> None:
        """The consumer is about to look: what comes from now on rings anew."""
        self._rung = False
