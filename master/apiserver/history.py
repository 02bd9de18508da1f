"""The bounded past of a watch cache: which revisions a watch may begin at, and what it then missed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from labctl.kube.errors import Expired
from master.apiserver.cached import CacheEvent

_ENCODED = 256  # events whose encodings are kept: those that watchers may be about to send


class History:
    """Events in revision order, at most `limit` of them and about `limit_bytes` of JSON (but always a few)."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._limit, self._limit_bytes = limit, limit_bytes
        self._events: deque[CacheEvent] = deque()
        self._bytes = 0
        self._oldest = 0  # what happened above this revision is known
        self._gaps: list[tuple[int, int]] = []  # (from, to): between them only the difference is known

    def restart(self, revision: int) -> None:
        """Nothing is known of the time before `revision`."""
        self._events.clear()
        self._gaps.clear()
        self._bytes, self._oldest = 0, revision

    def append(self, event: CacheEvent) -> None:
        """One more event, not older than the last."""
        self._events.append(event)
        self._bytes += len(event.object.raw)
        if len(self._events) > _ENCODED:
            self._events[-_ENCODED - 1].forget_encodings()
        while len(self._events) > self._limit or (self._bytes > self._limit_bytes and len(self._events) > _ENCODED):
            first = self._events.popleft()
            self._bytes -= len(first.object.raw)
            self._oldest = first.revision
        if self._gaps and self._gaps[0][1] <= self._oldest:
            del self._gaps[0]

    @property
    def oldest(self) -> int:
        """What happened above this revision is known."""
        return self._oldest

    def prepend(self, events: Sequence[CacheEvent], after: int) -> None:
        """What happened between revision `after` and `oldest`; left out where it does not fit."""
        size = sum(len(event.object.raw) for event in events)
        if len(self._events) + len(events) <= self._limit and self._bytes + size <= self._limit_bytes:
            self._events.extendleft(reversed(events))
            self._bytes += size
            self._oldest = after

    def gap(self, start: int, end: int) -> None:
        """The next events tell the difference between the two revisions, not what happened at each in between."""
        self._gaps.append((start, end))

    def after(self, revision: int) -> Iterable[CacheEvent]:
        """What followed `revision`, oldest first; Expired where that is not known any more."""
        if revision < self._oldest or any(start < revision < end for start, end in self._gaps):
            raise Expired(f"too old resource version: {revision} ({self._oldest})")
        missed: list[CacheEvent] = []
        for event in reversed(self._events):
            if event.revision <= revision:
                break
            missed.append(event)
        return reversed(missed)
