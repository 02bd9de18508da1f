"""Work that may hang, done in threads that nobody must wait for: they do not keep the process alive."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop

T = TypeVar("T")
R = TypeVar("R")


class Stopped(LabError):
    """The drill was asked to end: Ctrl-C."""


class Aside(Generic[T]):
    """`work`, begun at once in a thread of its own."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work, self._over = work, threading.Event()
        self._found: list[T] = []
        self.error: BaseException | None = None
        threading.Thread(target=self._run, name="drill-aside", daemon=True).start()

    def _run(self) -> None:
        try:
            self._found.append(self._work())
        except BaseException as error:
            self.error = error
        finally:
            self._over.set()

    def wait_s(self, seconds: float) -> bool:
        """Whether it is through within `seconds`."""
        return self._over.wait(seconds)

    def result(self) -> T:
        """What it gave, once it is through; raises what it raised."""
        if self.error is not None:
            raise self.error
        return self._found[0]


def all_at_once(do: Callable[[T], R], items: Sequence[T], *, most: int = 8) -> list[R]:
    """What `do` gives for each, in order, at most so many at a time; raises what the first of them raised."""
    left = deque(enumerate(items))
    found: dict[int, R] = {}

    def work() -> None:
        while True:
            try:
                number, item = left.popleft()
            except IndexError:
                return
            found[number] = do(item)

    workers = [Aside(work) for _ in range(min(most, len(items)))]
    for worker in workers:
        worker.wait_s(threading.TIMEOUT_MAX)
    for worker in workers:
        worker.result()
    return [found[number] for number in range(len(items))]


class Heeding:
    """A clock on which nobody sleeps on once the drill is asked to end: whoever does gets Stopped."""

    def __init__(self, clock: Clock, stop: Stop) -> None:
        self._clock, self._stop = clock, stop
        self.monotonic_s, self.now = clock.monotonic_s, clock.now

    def sleep_s(self, seconds: float) -> None:
        """See `Clock`."""
        if self._stop.wait_s(seconds):
            raise Stopped("Ctrl-C")
