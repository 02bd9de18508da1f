"""One client's watch on a watch cache: a bounded queue of events, and a bell."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Protocol, Self

from labctl.kube.errors import ApiError, TooManyRequests, Unavailable
from labctl.runtime.clock import Clock
from master.apiserver.cached import ADDED, Cached, CacheEvent, Match
from master.store.bell import Bell


class Source(Protocol):
    """What a watcher hangs on: the cache's lock and clock, where it stands, and how to leave it."""

    lock: threading.Lock
    clock: Clock

    @property
    def revision(self) -> int:
        """Every change up to here was offered."""
        ...

    def drop(self, watcher: Watcher) -> None:
        """Offer nothing more to `watcher`."""
        ...


class Watcher:
    """One client's watch. Use as a context manager, or call `close`."""

    def __init__(self, source: Source, prefix: str, after: int, *, match: Match | None, limit: int) -> None:
        self.revision = after  # everything up to here has been taken (or was not asked for): what a bookmark may say
        self._source, self._prefix, self._match, self._limit = source, prefix, match, limit
        self._began = after
        self._initial: Iterable[Cached] = ()
        self._queue: deque[CacheEvent] = deque()  # guarded, like what follows, by the cache's lock
        self._error: ApiError | None = None
        self._bell = Bell()

    def initial_events(self) -> Iterator[CacheEvent]:
        """The state at `initial_revision` as ADDED events, where the watch was opened with `initial`; else nothing."""
        items, self._initial = self._initial, ()
        for item in items:
            if self._match is None or self._match(item):
                yield CacheEvent(ADDED, item, None)

    @property
    def initial_revision(self) -> int:
        """The revision the watch began at."""
        return self._began

    def take(self, timeout_s: float, *, limit: int = 256) -> list[CacheEvent]:
        """The next events in order, as soon as there is one; [] after `timeout_s`: time for a bookmark.

        Raises TooManyRequests once the client fell so far behind that its queue overflowed (what was queued comes
        first), Unavailable when the cache ends, Expired where the store lost the history between.
        """
        end_s = self._source.clock.monotonic_s() + timeout_s
        woken = False
        while True:
            with self._source.lock:
                if woken:
                    self._bell.heard()
                if self._queue:
                    return self._pop(limit)
                if self._error is not None:
                    raise self._error
                left_s = end_s - self._source.clock.monotonic_s()
                if left_s <= 0:
                    self.revision = max(self.revision, self._source.revision)
                    return []
            woken = self._bell.wait(left_s)
            if not woken:
                end_s = 0.0  # by the bell's own measure the time is over, whatever an injected clock says

    def close(self) -> None:
        """Stop receiving; a blocked `take` raises Unavailable."""
        self._source.drop(self)
        self.end(Unavailable("the watch was closed"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, items: Iterable[Cached], missed: Iterable[CacheEvent]) -> None:
        """The state or the history to start with; called once by the cache, under its lock."""
        self._initial = items
        for event in missed:
            self.offer(event)

    def offer(self, event: CacheEvent) -> bool:
        """Queue an event that concerns this watch; False once it is of no use to offer more. Under the cache's lock."""
        if self._error is not None:
            return False
        if not event.object.key.startswith(self._prefix):
            return True
        if self._match is not None:
            try:
                seen = event.matched(self._match)
            except Exception as error:
                return self._fail(Unavailable(f"the selector failed on {event.object.key}: {error!r}"))
            if seen is None:
                return True
            event = seen
        if len(self._queue) >= self._limit:
            return self._fail(
                TooManyRequests(
                    f"the watch fell {self._limit} events behind; watch again from its last resourceVersion",
                    details={"retryAfterSeconds": 1},
                )
            )
        self._queue.append(event)
        self._bell.ring()
        return True

    def end(self, error: ApiError) -> None:
        """Raise `error` once what is queued has been taken. Takes the cache's lock."""
        with self._source.lock:
            self._fail(error)

    def _fail(self, error: ApiError) -> bool:
        self._error = self._error or error
        self._bell.ring()
        return False

    def _pop(self, limit: int) -> list[CacheEvent]:
        if len(self._queue) <= limit:
            taken = list(self._queue)
            self._queue.clear()
        else:
            taken = [self._queue.popleft() for _ in range(limit)]
        self.revision = max(self.revision, taken[-1].revision)
        return taken
