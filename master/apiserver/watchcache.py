"""The watch cache: one resource's objects in memory, fed by one store watch, served to any number of lists and watches.

What it promises: a watch sees every change once, in revision order, without a gap; a list is one consistent state at
one revision; an event is encoded once however many watchers it goes to. It has threads of its own (one, the feeder)
and works the same under gevent, where that thread is a greenlet. Source: Kubernetes API concepts, "Efficient
detection of changes"; KEP-2340 (consistent reads from cache).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from labctl.runtime.clock import Clock
from labctl.runtime.loop import Stop
from master.store.protocol import Store

Document = dict[str, Any]

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"


def with_resource_version(value: bytes, revision: int) -> bytes:
    """The object's JSON with `metadata.resourceVersion` set to `revision`; fast where metadata follows kind and apiVersion."""
    raise NotImplementedError


class Cached:
    """One object as it stood at `revision`. `raw` is its JSON as clients see it, `metadata.resourceVersion` filled in."""

    __slots__ = ("key", "raw", "revision")

    key: str
    revision: int
    raw: bytes

    @property
    def document(self) -> Document:
        """`raw`, parsed when first asked for and kept while recently used. Shared: never change it."""
        raise NotImplementedError


Match = Callable[[Cached], bool]  # a label or field selector at work


class CacheEvent:
    """One change. For DELETED `object` is the last state, stamped with the revision of the delete, as upstream sends it."""

    __slots__ = ("object", "previous", "revision", "type")

    type: str  # ADDED, MODIFIED or DELETED
    object: Cached
    previous: Cached | None  # the state before; None for ADDED
    revision: int

    def encoded(self, kind: str, build: Callable[[CacheEvent], bytes]) -> bytes:
        """`build(self)`, made once per `kind` ("json", "table", ...) and shared by all watchers."""
        raise NotImplementedError


class Watcher:
    """One client's watch. Use as a context manager, or call `close`."""

    revision: int  # everything up to here has been taken (or was not asked for): what a bookmark may say

    def initial_events(self) -> Iterator[CacheEvent]:
        """The state at `initial_revision` as ADDED events, where the watch was opened with `initial`; else nothing."""
        raise NotImplementedError

    @property
    def initial_revision(self) -> int:
        """The revision the watch began at."""
        raise NotImplementedError

    def take(self, timeout_s: float, *, limit: int = 256) -> list[CacheEvent]:
        """The next events in order, as soon as there is one; [] after `timeout_s`: time for a bookmark.

        Raises TooManyRequests once the client fell so far behind that its queue overflowed (what was queued comes
        first), Unavailable when the cache ends, Expired where the store lost the history between.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Stop receiving; a blocked `take` raises Unavailable."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class WatchCache:
    """See the module. Keys under `prefix` only; `prefix` ends with "/"."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        *,
        clock: Clock,
        render: Callable[[bytes, int], bytes] = with_resource_version,
        history: int = 4096,
        queue: int = 4096,
    ) -> None:
        """`render` makes `Cached.raw` from (stored value, revision); `history` and `queue` are bounds in events."""
        raise NotImplementedError

    def start(self, stop: Stop) -> None:
        """List, then follow the store until `stop`, in a thread of its own."""
        raise NotImplementedError

    @property
    def ready(self) -> bool:
        """Whether the first list has been read."""
        raise NotImplementedError

    @property
    def revision(self) -> int:
        """Every change up to here is in."""
        raise NotImplementedError

    def get(self, key: str) -> Cached | None:
        """The object as far as the cache knows; call `wait_current` first for a consistent read."""
        raise NotImplementedError

    def list(self, prefix: str = "") -> tuple[tuple[Cached, ...], int]:
        """All objects whose key begins with `prefix`, in key order, and the revision at which that was the state."""
        raise NotImplementedError

    def wait_ready(self, *, deadline_s: float) -> None:
        """Wait for the first list; raises Unavailable."""
        raise NotImplementedError

    def wait_until(self, revision: int, *, deadline_s: float) -> None:
        """Wait until everything up to `revision` is in; raises ServerTimeout ("Too large resource version", upstream's)."""
        raise NotImplementedError

    def wait_current(self, *, deadline_s: float) -> int:
        """Wait until the cache has everything the store has now (a consistent read); that revision. Raises StoreError too."""
        raise NotImplementedError

    def watch(
        self, prefix: str = "", *, after: int | None = None, initial: bool = False, match: Match | None = None
    ) -> Watcher:
        """Every change under `prefix` above revision `after` (None: above what the cache holds now).

        With `initial`, the state as it stands now comes first (`after` is ignored). An object that begins or ceases
        to match `match` comes as ADDED or DELETED. Raises Expired where `after` is older than the history, and
        ServerTimeout where it is newer than the cache (call `wait_until` first).
        """
        raise NotImplementedError
