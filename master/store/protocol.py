"""The store: a revisioned map with compare-and-swap and watches, as etcd defines it. Keys are strings, values bytes.

Every write raises one revision counter that spans all keys. Source: etcd's API guarantees (KV, Watch).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from labctl.runtime.errors import LabError

AT_ONCE = 128  # keys of one write; etcd's own limit (--max-txn-ops)


class StoreError(LabError):
    """The store failed or cannot be reached; unless it is `Refused`, the effect of a write is unknown."""

    retryable = True


class Refused(StoreError):
    """The store answered with an error: the call had no effect. `too_large`: because of the value's size."""

    def __init__(self, message: str, *, too_large: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.too_large = too_large


class KeyExists(LabError):
    """`create` found the key taken."""


class RevisionMismatch(LabError):
    """The key is gone, or no longer at the revision the write was conditioned on; `current` is what stands there."""

    def __init__(self, message: str, current: Entry | None) -> None:
        super().__init__(message)
        self.current = current


class Compacted(LabError):
    """The revision asked for is older than the history kept; `oldest` is the oldest known to be there still."""

    def __init__(self, message: str, oldest: int) -> None:
        super().__init__(message)
        self.oldest = oldest


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as it stands at `revision`, its last write."""

    key: str
    value: bytes
    revision: int
    created_revision: int


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list, all of it read at `revision`. `next_after` is "" on the last page."""

    entries: tuple[Entry, ...]
    revision: int
    remaining: int
    next_after: str


@dataclass(frozen=True, slots=True)
class Change:
    """One write seen by a watch. `value` is None for a delete; `previous` None for a create, or if compacted away."""

    key: str
    revision: int
    value: bytes | None
    previous: bytes | None


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything up to `revision` has been delivered."""

    revision: int


class Store(Protocol):
    """See the module. Every call has a deadline of its own and raises StoreError where it passes."""

    def get(self, key: str) -> tuple[Entry | None, int]:
        """The entry (None if absent) and the store's revision when it was read; linearizable."""
        ...

    def list(self, prefix: str, *, revision: int = 0, limit: int = 0, after: str = "") -> Page:
        """Entries under `prefix` in key order, beyond key `after`, at `revision` (0: now); raises Compacted."""
        ...

    def create(self, key: str, value: bytes, *, ttl_s: int = 0) -> int:
        """Write a key that must not exist; the new revision. Raises KeyExists. `ttl_s` > 0: it vanishes by itself."""
        ...

    def create_all(self, values: Mapping[str, bytes]) -> int:
        """Write keys of which none may exist, all of them at one new revision, which is returned.

        Raises KeyExists where one does: then nothing was written. Not more than `AT_ONCE` of them.
        """
        ...

    def update(self, key: str, value: bytes, *, expected: int, ttl_s: int = 0) -> int:
        """Replace a key that must stand at revision `expected`; the new revision. Raises RevisionMismatch.

        The time to live begins anew: with `ttl_s` > 0 the key vanishes after it, with 0 never, whatever it had before.
        """
        ...

    def delete(self, key: str, *, expected: int) -> int:
        """Delete a key that must stand at revision `expected`; the revision of the delete. Raises RevisionMismatch."""
        ...

    def watch(self, prefix: str, *, after: int) -> AbstractContextManager[Iterator[Change | Progress]]:
        """Every change under `prefix` with a revision above `after`, in order, once each, with no gap.

        Changes that share a revision come together. Progress follows each burst of changes, comes every few seconds
        while nothing changes, and on `request_progress`. `after` must not be older than the last compaction: Compacted,
        raised here or by the iterator. Once reconnecting fails for a while the iterator raises StoreError; the caller
        starts again after its last Progress. Closing the store ends the iteration with StoreError.
        """
        ...

    def request_progress(self, prefix: str = "", *, revision: int = 0) -> None:
        """Make every watch whose prefix begins with `prefix` tell its Progress as soon as it has reached `revision`."""
        ...

    def revision(self, *, deadline_s: float = 0.0) -> int:
        """The store's current revision; linearizable. `deadline_s`: 0 for the store's own."""
        ...

    def faults(self) -> Mapping[str, str]:
        """What is wrong with parts of the store, by name, e.g. an etcd member's URL; empty where all is well."""
        ...

    def compact(self, revision: int) -> None:
        """Forget the history below `revision`; one that is in the future, or compacted already, changes nothing."""
        ...

    def close(self) -> None:
        """End the watches and connections."""
        ...
