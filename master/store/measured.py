"""A store whose calls are timed, for metrics. Watches are not calls; they pass through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar

from labctl.runtime.clock import Clock
from master.store.protocol import Change, Entry, Page, Progress, Store, StoreError

Note = Callable[[str, str, float, bool], None]  # operation, key or prefix, seconds, whether the store failed

T = TypeVar("T")


class MeasuredStore:
    """See `Store`; tells `note` of every call. A compare that fails is no failure of the store."""

    def __init__(self, store: Store, clock: Clock, note: Note) -> None:
        self._store, self._clock, self._note = store, clock, note

    def get(self, key: str) -> tuple[Entry | None, int]:
        """See `Store`."""
        return self._timed("get", key, lambda: self._store.get(key))

    def list(self, prefix: str, *, revision: int = 0, limit: int = 0, after: str = "") -> Page:
        """See `Store`."""
        return self._timed(
            "list", prefix, lambda: self._store.list(prefix, revision=revision, limit=limit, after=after)
        )

    def create(self, key: str, value: bytes, *, ttl_s: int = 0) -> int:
        """See `Store`."""
        return self._timed("create", key, lambda: self._store.create(key, value, ttl_s=ttl_s))

    def create_all(self, values: Mapping[str, bytes]) -> int:
        """See `Store`; noted under the first key."""
        return self._timed("create", next(iter(values)), lambda: self._store.create_all(values))

    def update(self, key: str, value: bytes, *, expected: int, ttl_s: int = 0) -> int:
        """See `Store`."""
        return self._timed("update", key, lambda: self._store.update(key, value, expected=expected, ttl_s=ttl_s))

    def delete(self, key: str, *, expected: int) -> int:
        """See `Store`."""
        return self._timed("delete", key, lambda: self._store.delete(key, expected=expected))

    def watch(self, prefix: str, *, after: int) -> AbstractContextManager[Iterator[Change | Progress]]:
        """See `Store`."""
        return self._store.watch(prefix, after=after)

    def request_progress(self, prefix: str = "", *, revision: int = 0) -> None:
        """See `Store`."""
        self._store.request_progress(prefix, revision=revision)

    def revision(self, *, deadline_s: float = 0.0) -> int:
        """See `Store`."""
        return self._store.revision(deadline_s=deadline_s)

    def faults(self) -> Mapping[str, str]:
        """See `Store`."""
        return self._store.faults()

    def compact(self, revision: int) -> None:
        """See `Store`."""
        self._store.compact(revision)

    def close(self) -> None:
        """See `Store`."""
        self._store.close()

    def _timed(self, operation: str, key: str, call: Callable[[], T]) -> T:
        began_s = self._clock.monotonic_s()
        failed = False
        try:
            return call()
        except StoreError:
            failed = True
            raise
        finally:
            self._note(operation, key, self._clock.monotonic_s() - began_s, failed)
