"""One resource's objects as they stand: by key, in the order of keys, and what a change of the store does to them.

Whoever shares it between threads holds a lock; a single look-up needs none.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence

from master.apiserver.cached import ADDED, DELETED, MODIFIED, Cached, CacheEvent, restamped
from master.store.protocol import Change, Entry

_LAST = "\U0010ffff"


class State:
    """See the module."""

    def __init__(self, objects: Mapping[str, Cached] | None = None) -> None:
        self.objects = dict(objects or {})
        self.keys = sorted(self.objects)

    def under(self, prefix: str) -> tuple[Cached, ...]:
        """The objects whose key begins with `prefix`, in key order."""
        keys = self.keys
        if prefix:
            keys = keys[bisect_left(keys, prefix) : bisect_left(keys, prefix + _LAST)]
        return tuple(map(self.objects.__getitem__, keys))

    def apply(self, change: Change, item: Cached | None) -> CacheEvent | None:
        """Change the state; what that means to watchers."""
        before = self.objects.get(change.key)
        if before is not None and before.revision >= change.revision:
            return None  # seen already
        if item is not None:
            self.objects[change.key] = item
            if before is None:
                insort(self.keys, change.key)
                return CacheEvent(ADDED, item, None)
            return CacheEvent(MODIFIED, item, before)
        if before is None or change.value is not None:
            return None
        del self.objects[change.key]
        del self.keys[bisect_left(self.keys, change.key)]
        return CacheEvent(DELETED, restamped(before, change.revision), before)

    def difference(self, entries: Sequence[Entry], revision: int) -> Sequence[Change]:
        """What must have happened since `revision`. Deletes come first, under the earliest revision they can have."""
        standing = {entry.key: entry for entry in entries}
        gone = [
            Change(key, revision + 1, None, None)
            for key, item in self.objects.items()
            if key not in standing or standing[key].created_revision > item.revision  # gone, maybe made anew since
        ]
        fresh = [Change(entry.key, entry.revision, entry.value, None) for entry in entries if entry.revision > revision]
        return gone + sorted(fresh, key=lambda change: change.revision)
