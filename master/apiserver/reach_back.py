"""What happened before a watch cache began: etcd knows, as long as it was not compacted away.

So a watch goes on where it was after the API server was started again, where upstream's answers 410 and every client
lists anew: on a slow machine that is a stampede.
"""

from __future__ import annotations

from collections.abc import Callable

from labctl.runtime.clock import Clock
from master.apiserver.cached import ADDED, DELETED, MODIFIED, Cached, CacheEvent, restamped
from master.store.protocol import Change, Compacted, Store, StoreError

_REACH = 10_000  # revisions, of all resources
_EVENTS = 2_000
_DEADLINE_S = 3.0

Make = Callable[[str, bytes, int], Cached | None]


def reach_back(store: Store, prefix: str, after: int, until: int, make: Make, clock: Clock) -> list[CacheEvent] | None:
    """Every event under `prefix` above revision `after`, up to `until`; None where that is too far or not known."""
    if until - after > _REACH:
        return None
    end_s = clock.monotonic_s() + _DEADLINE_S
    events: list[CacheEvent] = []
    try:
        with store.watch(prefix, after=after) as changes:
            store.request_progress(prefix, revision=until)
            for change in changes:
                if not isinstance(change, Change):
                    if change.revision >= until:
                        return events
                elif change.revision <= until and (event := _event(change, make)) is not None:
                    events.append(event)
                if clock.monotonic_s() >= end_s or len(events) > _EVENTS:
                    return None
    except (Compacted, StoreError):
        return None
    return None


def _event(change: Change, make: Make) -> CacheEvent | None:
    previous = None if change.previous is None else make(change.key, change.previous, change.revision)
    if change.value is None:
        return None if previous is None else CacheEvent(DELETED, restamped(previous, change.revision), previous)
    item = make(change.key, change.value, change.revision)
    if item is None:
        return None
    return CacheEvent(ADDED if previous is None else MODIFIED, item, previous)
