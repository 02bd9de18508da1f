"""One ordered log of changes told to many watches: the part of a store that both implementations share.

It keeps a window of recent changes, so that a watch may begin in the past, and holds back nothing: a publisher never
waits for a watch. It knows no clock and no network.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from labctl.runtime.errors import LabError
from master.store.bell import Bell
from master.store.protocol import Change, Progress, StoreError

_PROGRESS_S = 5.0


class Subscription:
    """One watch: an iterator of Change and Progress for a single consumer, and its own context manager."""

    def __init__(self, fanout: Fanout, prefix: str, after: int) -> None:
        self.prefix = prefix
        self.queue: deque[Change] = deque()  # guarded, like all below, by the fan-out's lock
        self.after = after  # everything up to here is queued or needs no telling
        self.wanted = 0  # tell Progress once the log reaches this
        self.error: LabError | None = None
        self.closed = False
        self._fanout = fanout
        self._bell = Bell()
        self._taken: deque[Change | Progress] = deque()  # the consumer's own

    def ring(self) -> None:
        """Wake the consumer; the caller holds the lock."""
        self._bell.ring()

    def offer(self, changes: Sequence[Change], revision: int, limit: int) -> None:
        """Queue what belongs here; the caller holds the lock. `revision` is where the log stands after `changes`."""
        if self.error is not None:
            return
        fresh = [one for one in changes if one.key.startswith(self.prefix) and one.revision > self.after]
        if len(self.queue) + len(fresh) > limit:
            self.error = StoreError(f"the watch of {self.prefix!r} fell {limit} changes behind")
        else:
            self.queue.extend(fresh)
            self.after = max(self.after, revision)
        if fresh or 0 < self.wanted <= self.after:
            self.ring()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change | Progress:
        idle = False
        while not self._taken:
            with self._fanout.lock:
                if self.closed:
                    raise StopIteration
                if self.queue or idle or 0 < self.wanted <= self.after:
                    self._taken.extend(self.queue)
                    self.queue.clear()
                    self._taken.append(Progress(self.after))
                    if self.wanted <= self.after:
                        self.wanted = 0
                    break
                if self.error is not None:
                    raise self.error
            idle = not self._bell.wait(self._fanout.progress_s)
            if idle:
                self._fanout.on_idle()
            else:
                with self._fanout.lock:
                    self._bell.heard()
        return self._taken.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the watch: the consumer's iteration stops."""
        self._fanout.drop(self)


class Fanout:
    """The log from `start` on, and its watches. `limit` bounds each watch's queue, `window` and `window_bytes` the log.

    `on_idle` is called, without the lock, by each watch that heard nothing for `progress_s`.
    """

    def __init__(
        self,
        start: int,
        *,
        window: int = 2048,
        window_bytes: int = 8 << 20,
        limit: int = 50_000,
        progress_s: float = _PROGRESS_S,
        on_idle: Callable[[], object] = lambda: None,
    ) -> None:
        self.lock = threading.Lock()
        self.start = start  # changes above this are in the window
        self.revision = start  # everything up to here was published
        self.progress_s, self.on_idle = progress_s, on_idle
        self.error: LabError | None = None
        self._window, self._window_bytes, self._limit = window, window_bytes, limit
        self._recent: deque[Change] = deque()
        self._recent_bytes = 0
        self._subscriptions: list[Subscription] = []

    def publish(self, changes: Sequence[Change], revision: int) -> None:
        """Append `changes`, in order; the log then stands at `revision`."""
        with self.lock:
            self.revision = max(self.revision, revision)
            self._recent.extend(changes)
            self._recent_bytes += sum(map(_size, changes))
            while len(self._recent) > self._window or self._recent_bytes > self._window_bytes:
                self._forget_first()
            for subscription in self._subscriptions:
                subscription.offer(changes, self.revision, self._limit)

    def subscribe(self, prefix: str, after: int) -> Subscription | None:
        """A watch of what follows revision `after`; None where the window does not reach so far back, or has ended."""
        with self.lock:
            if after < self.start or self.error is not None:
                return None
            subscription = Subscription(self, prefix, after)
            subscription.offer(self._recent, self.revision, max(self._limit, len(self._recent)))
            self._subscriptions.append(subscription)
            return subscription

    def request(self, prefix: str, revision: int) -> None:
        """Make each watch under `prefix` tell Progress once the log has reached `revision` (0: at once)."""
        with self.lock:
            for subscription in self._subscriptions:
                if subscription.prefix.startswith(prefix):
                    subscription.wanted = max(subscription.wanted, revision, 1)
                    if subscription.wanted <= subscription.after:
                        subscription.ring()

    def forget(self, revision: int) -> None:
        """Drop the window up to `revision`."""
        with self.lock:
            while self._recent and self._recent[0].revision <= revision:
                self._forget_first()
            self.start = max(self.start, revision)

    def drop(self, subscription: Subscription) -> None:
        """Remove one watch."""
        with self.lock:
            subscription.closed = True
            subscription.ring()
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

    def end(self, error: LabError) -> None:
        """Nothing more comes: each watch tells what it has, and its Progress, then raises `error`."""
        with self.lock:
            self.error = error
            for subscription in self._subscriptions:
                subscription.error = subscription.error or error
                subscription.wanted = max(1, min(subscription.wanted, subscription.after))
                subscription.ring()

    def _forget_first(self) -> None:
        first = self._recent.popleft()
        self._recent_bytes -= _size(first)
        self.start = first.revision


def _size(change: Change) -> int:
    """About what a change holds in memory."""
    return len(change.value or b"") + len(change.previous or b"") + 200
