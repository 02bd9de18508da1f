"""The store in memory, with etcd's semantics: for tests and for the simulation. History lasts until it is compacted."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice, takewhile

from labctl.runtime.clock import Clock
from master.store.fanout import Fanout
from master.store.protocol import (
    Change,
    Compacted,
    Entry,
    KeyExists,
    Page,
    Progress,
    RevisionMismatch,
    StoreError,
)

_UNBOUNDED = 1 << 60


class MemoryStore:
    """See `Store`. Time to live runs on `clock` and is looked at whenever the store is used."""

    def __init__(self, clock: Clock, *, progress_s: float = 1.0) -> None:
        """`progress_s`: how often an idle watch tells its Progress; 0 makes its iterator never block."""
        self._clock = clock
        self._lock = threading.RLock()
        self._versions: dict[str, list[tuple[int, Entry | None]]] = {}  # by key: (revision, state), oldest first
        self._expiry_s: dict[str, tuple[float, int]] = {}  # by key: when, and the revision it holds for
        self._revision = 1
        self._compacted = 0
        self._closed = False
        self._keys: list[str] = []  # those of `_versions`, sorted
        self._fanout = Fanout(
            0,
            window=_UNBOUNDED,
            window_bytes=_UNBOUNDED,
            limit=_UNBOUNDED,
            progress_s=progress_s,
            on_idle=self._expire,
        )
        self._fanout.publish((), 1)

    def take_over(self, other: MemoryStore) -> None:
        """Begin with what `other` holds now, at its revision; for a store that is still empty."""
        with self._lock, other._lock:
            assert not self._versions, "only an empty store begins anew"
            standing = {key: versions[-1] for key, versions in other._versions.items() if versions[-1][1] is not None}
            self._versions = {key: [last] for key, last in standing.items()}
            self._keys, self._revision, self._compacted = sorted(standing), other._revision, other._revision
            self._fanout.publish((), self._revision)
            self._fanout.forget(self._revision)

    def get(self, key: str) -> tuple[Entry | None, int]:
        """See `Store`."""
        with self._lock:
            self._open()
            return self._current(key), self._revision

    def list(self, prefix: str, *, revision: int = 0, limit: int = 0, after: str = "") -> Page:
        """See `Store`."""
        with self._lock:
            self._open()
            at = revision or self._revision
            if at < self._compacted:
                raise Compacted(f"revision {at} was compacted away; {self._compacted} is kept", self._compacted)
            if at > self._revision:
                raise StoreError(f"revision {at} is in the future, the store is at {self._revision}")
            first = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after))
            under = takewhile(lambda key: key.startswith(prefix), islice(self._keys, first, None))
            found = [entry for key in under if (entry := self._at(key, at)) is not None]
            page = found[:limit] if limit else found
            more = len(found) > len(page)
            return Page(tuple(page), at, len(found) - len(page), page[-1].key if more else "")

    def create(self, key: str, value: bytes, *, ttl_s: int = 0) -> int:
        """See `Store`."""
        with self._lock:
            self._open()
            if self._current(key) is not None:
                raise KeyExists(f"{key} exists")
            self._write(key, value)
            if ttl_s > 0:
                self._expiry_s[key] = (self._clock.monotonic_s() + ttl_s, self._revision)
            return self._revision

    def create_all(self, values: Mapping[str, bytes]) -> int:
        """See `Store`."""
        with self._lock:
            self._open()
            if taken := [key for key in values if self._current(key) is not None]:
                raise KeyExists(f"{', '.join(taken)} exists")
            self._revision += 1
            self._fanout.publish([self._record(key, value) for key, value in values.items()], self._revision)
            return self._revision

    def update(self, key: str, value: bytes, *, expected: int, ttl_s: int = 0) -> int:
        """See `Store`."""
        with self._lock:
            self._open()
            self._require(key, expected)
            self._write(key, value)
            if ttl_s > 0:
                self._expiry_s[key] = (self._clock.monotonic_s() + ttl_s, self._revision)
            return self._revision

    def delete(self, key: str, *, expected: int) -> int:
        """See `Store`."""
        with self._lock:
            self._open()
            self._require(key, expected)
            self._write(key, None)
            return self._revision

    def watch(self, prefix: str, *, after: int) -> AbstractContextManager[Iterator[Change | Progress]]:
        """See `Store`."""
        with self._lock:
            self._open()
            subscription = self._fanout.subscribe(prefix, after)
            if subscription is None:
                raise Compacted(f"the changes after revision {after} were compacted away", self._compacted)
            return subscription

    def request_progress(self, prefix: str = "", *, revision: int = 0) -> None:
        """See `Store`."""
        self._fanout.request(prefix, revision)

    def revision(self, *, deadline_s: float = 0.0) -> int:
        """See `Store`; it has no need of a deadline."""
        del deadline_s
        with self._lock:
            self._open()
            return self._revision

    def faults(self) -> Mapping[str, str]:
        """See `Store`."""
        return {}

    def compact(self, revision: int) -> None:
        """See `Store`."""
        with self._lock:
            self._open()
            if not self._compacted < revision <= self._revision:
                return
            self._compacted = revision
            self._fanout.forget(revision)
            for key, versions in list(self._versions.items()):
                first = max(0, bisect_right(versions, revision, key=lambda version: version[0]) - 1)
                del versions[:first]
                if versions[0][1] is None and versions[0][0] <= revision:
                    del versions[0]
                if not versions:
                    del self._versions[key]
                    self._keys.remove(key)

    def close(self) -> None:
        """See `Store`."""
        with self._lock:
            self._closed = True
            self._fanout.end(StoreError("the store was closed"))

    def _open(self) -> None:
        """Refuse when closed; let what is due expire."""
        if self._closed:
            raise StoreError("the store was closed")
        self._expire()

    def _expire(self) -> None:
        with self._lock:
            now_s = self._clock.monotonic_s() if self._expiry_s else 0.0
            for key in [key for key, (due_s, _) in self._expiry_s.items() if due_s <= now_s]:
                _, revision = self._expiry_s.pop(key)
                entry = self._current(key)
                if entry is not None and entry.revision == revision:
                    self._write(key, None)

    def _at(self, key: str, revision: int) -> Entry | None:
        versions = self._versions.get(key, ())
        index = bisect_right(versions, revision, key=lambda version: version[0])
        return versions[index - 1][1] if index else None

    def _current(self, key: str) -> Entry | None:
        return self._versions[key][-1][1] if key in self._versions else None

    def _require(self, key: str, expected: int) -> None:
        entry = self._current(key)
        if entry is None:
            raise RevisionMismatch(f"{key} is gone", None)
        if entry.revision != expected:
            raise RevisionMismatch(f"{key} is at revision {entry.revision}, not {expected}", entry)

    def _write(self, key: str, value: bytes | None) -> None:
        self._revision += 1
        self._fanout.publish((self._record(key, value),), self._revision)

    def _record(self, key: str, value: bytes | None) -> Change:
        """A write at the current revision."""
        before = self._current(key)
        created = before.created_revision if before else self._revision
        entry = None if value is None else Entry(key, value, self._revision, created)
        if key not in self._versions:
            insort(self._keys, key)
            self._versions[key] = []
        self._versions[key].append((self._revision, entry))
        return Change(key, self._revision, value, before.value if before else None)
