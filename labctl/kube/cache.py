"""What an informer knows: objects by key, their revisions, and who wants to hear which of them changed. Thread-safe."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

T = TypeVar("T")

_TOMBSTONES = 4_096


class Changes:
    """The keys that changed since last asked; of one reader."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: set[str] = set()

    def add(self, key: str) -> None:
        """Note a change; for the informer."""
        with self._lock:
            self._keys.add(key)

    def take(self) -> set[str]:
        """The keys that changed, came or went since the last call."""
        with self._lock:
            taken, self._keys = self._keys, set()
            return taken


class Cache(Generic[T]):
    """Objects by key with their revisions; never takes a step back. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: dict[str, T] = {}
        self._heads: dict[str, tuple[str, int]] = {}  # key -> uid, revision
        self._buried: dict[str, None] = {}  # uids that our own deletes removed before the watch said so
        self._reached = 0
        self._readers: list[Changes] = []
        self._frozen: Mapping[str, T] | None = None

    def snapshot(self) -> Mapping[str, T]:
        """A copy, made once for all who ask between two changes."""
        with self._lock:
            if self._frozen is None:
                self._frozen = MappingProxyType(dict(self._items))
            return self._frozen

    def get(self, key: str) -> T | None:
        """One object."""
        with self._lock:
            return self._items.get(key)

    def subscribe(self) -> Changes:
        """See `Informer.changes`."""
        changes = Changes()
        with self._lock:
            for key in self._items:
                changes.add(key)
            self._readers.append(changes)
        return changes

    def replace(self, items: Mapping[str, tuple[str, int, T]], revision: int) -> None:
        """Take over a list read at `revision`; what we absorbed from later writes stays."""
        with self._lock:
            for key in list(self._items):
                if key not in items and self._heads[key][1] <= revision:
                    self._put(key, None, "", 0)
            for key, (uid, at, value) in items.items():
                if uid not in self._buried and self._heads.get(key, ("", -1))[1] < at:
                    self._put(key, value, uid, at)
            listed = {uid for uid, _, _ in items.values()}
            self._buried = {uid: None for uid in self._buried if uid in listed}
            self._reached = revision

    def take(self, key: str, uid: str, revision: int, value: T | None) -> None:
        """One event of the watch; None for a delete."""
        with self._lock:
            self._reached = max(self._reached, revision)
            if value is None:
                self._buried.pop(uid, None)
            known = self._heads.get(key, ("", -1))
            if known[1] <= revision and not (value is not None and uid in self._buried):
                self._put(key, value, uid, revision)

    def reached(self, revision: int) -> None:
        """A bookmark: everything up to `revision` has been delivered."""
        with self._lock:
            self._reached = max(self._reached, revision)

    def absorb(self, key: str, uid: str, revision: int, value: T) -> None:
        """An object as our own write left it, unless the watch is past it already."""
        with self._lock:
            if revision > max(self._reached, self._heads.get(key, ("", -1))[1]) and uid not in self._buried:
                self._put(key, value, uid, revision)

    def bury(self, key: str, uid: str) -> None:
        """Our own delete removed `uid` at once."""
        with self._lock:
            if self._heads.get(key, ("", 0))[0] == uid:
                self._put(key, None, "", 0)
                self._buried[uid] = None
                while len(self._buried) > _TOMBSTONES:
                    del self._buried[next(iter(self._buried))]

    def _put(self, key: str, value: T | None, uid: str, revision: int) -> None:
        if value is None:
            if self._items.pop(key, None) is None:
                return
            del self._heads[key]
        else:
            self._items[key] = value
            self._heads[key] = (uid, revision)
        self._frozen = None
        for reader in self._readers:
            reader.add(key)
