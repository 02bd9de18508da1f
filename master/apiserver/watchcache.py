"""The watch cache: one resource's objects in memory, fed by one store watch, served to any number of lists and watches.

What it promises: a watch sees every change once, in revision order, without a gap; a list is one consistent state at
one revision; an event is encoded once however many watchers it goes to. It has one thread of its own, the feeder,
which under gevent is a greenlet. Source: Kubernetes API concepts, "Efficient detection of changes"; KEP-2340.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence

import msgspec

from labctl.kube.errors import ApiError, Expired, ServerTimeout, Unavailable
from labctl.runtime.clock import Clock
from labctl.runtime.loop import Backoff, Stop
from master.apiserver.cached import (
    ADDED,
    DELETED,
    MODIFIED,
    Cached,
    CacheEvent,
    Match,
    with_resource_version,
)
from master.apiserver.history import History
from master.apiserver.reach_back import reach_back
from master.apiserver.state import State
from master.apiserver.watcher import Watcher
from master.store.protocol import Change, Compacted, Progress, Store, StoreError

__all__ = [
    "ADDED",
    "DELETED",
    "MODIFIED",
    "CacheEvent",
    "Cached",
    "Match",
    "WatchCache",
    "Watcher",
    "with_resource_version",
]

_log = logging.getLogger(__name__)
_HISTORY_BYTES = 8 << 20
_ASK_AGAIN_S = 0.5


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
        self.lock = threading.Lock()
        self.clock = clock
        self._store, self._prefix, self._render, self._queue = store, prefix, render, queue
        self._state = State()
        self._history = History(history, _HISTORY_BYTES)
        self._watchers: list[Watcher] = []
        self._followers: list[set[str]] = []
        self._revision = 0
        self._ready = self._ended = self._over = False  # _ended: no watches any more; _over: nothing follows the store
        self._moved = threading.Condition(self.lock)
        self._reaching = threading.Lock()
        self._waiting = 0

    def start(self, stop: Stop) -> None:
        """List, then follow the store until `stop`, in a thread of its own."""
        threading.Thread(target=self.run, args=(stop,), name=f"cache {self._prefix}", daemon=True).start()

    @property
    def ready(self) -> bool:
        """Whether the first list has been read."""
        return self._ready

    @property
    def revision(self) -> int:
        """Every change up to here is in."""
        return self._revision

    def get(self, key: str) -> Cached | None:
        """The object as far as the cache knows; call `wait_current` first for a consistent read."""
        return self._state.objects.get(key)

    def __len__(self) -> int:
        """How many objects there are."""
        return len(self._state.objects)

    def list(self, prefix: str = "") -> tuple[tuple[Cached, ...], int]:
        """All objects whose key begins with `prefix`, in key order, and the revision at which that was the state."""
        with self.lock:
            return self._under(prefix), self._revision

    def wait_ready(self, *, deadline_s: float) -> None:
        """Wait for the first list; raises Unavailable."""
        if not self._wait(lambda: self._ready, deadline_s, lambda: None):
            raise Unavailable(f"the cache of {self._prefix} is not filled yet", details={"retryAfterSeconds": 1})

    def wait_until(self, revision: int, *, deadline_s: float) -> None:
        """Wait until all up to `revision` is in; raises ServerTimeout (upstream's "Too large resource version")."""
        if revision <= self._revision:
            return

        def ask() -> None:
            self._store.request_progress(self._prefix, revision=revision)

        if not self._wait(lambda: self._revision >= revision, deadline_s, ask):
            raise _too_large(revision, self._revision)

    def wait_current(self, *, deadline_s: float) -> int:
        """Wait until the cache has all that the store has now (a consistent read); that revision. StoreError too."""
        revision = self._store.revision(deadline_s=deadline_s)
        self.wait_until(revision, deadline_s=deadline_s)
        return revision

    def watch(
        self, prefix: str = "", *, after: int | None = None, initial: bool = False, match: Match | None = None
    ) -> Watcher:
        """Every change under `prefix` above revision `after` (None: above what the cache holds now).

        With `initial`, the state as it stands now comes first (`after` is ignored). An object that begins or ceases
        to match `match` comes as ADDED or DELETED. Raises Expired where `after` is older than the history, and
        ServerTimeout where it is newer than the cache (call `wait_until` first).
        """
        if after is not None and not initial and after < self._history.oldest:
            self._reach_back(after)
        with self.lock:
            if self._ended or not self._ready:
                raise Unavailable(f"the cache of {self._prefix} is not serving")
            begin = self._revision if initial or after is None else after
            if begin > self._revision:
                raise _too_large(begin, self._revision)
            missed = self._history.after(begin) if begin < self._revision else ()
            watcher = Watcher(self, prefix, begin, match=match, limit=self._queue)
            watcher.begin(self._under(prefix) if initial else (), missed)
            self._watchers.append(watcher)
            return watcher

    def follow(self) -> set[str]:
        """The keys of what changed since the caller took them out, at first of everything: for an index kept lazily.

        Taking a key out (`pop`) before reading it with `get` misses nothing.
        """
        with self.lock:
            changed = set(self._state.keys)
            self._followers.append(changed)
            return changed

    def drop(self, watcher: Watcher) -> None:
        """Offer nothing more to `watcher`; it calls this itself when it is closed."""
        with self.lock:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

    def close(self) -> None:
        """End every watch, cleanly, and begin no new one: the API server goes down. Reads go on while it follows."""
        with self.lock:
            self._ended = True
        self._end_watches(Unavailable("the API server is shutting down", details={"retryAfterSeconds": 1}))

    def run(self, stop: Stop) -> None:
        """Follow the store until `stop`: what `start` does in its thread. Watches stay connected through failures."""
        backoff = Backoff(base_s=0.05, cap_s=2.0)
        current = False
        while not stop.is_set():
            try:
                if not current:
                    self._list_again()
                    current = True
                with self._store.watch(self._prefix, after=self._revision) as changes:
                    self._follow(changes, backoff, stop)
            except Compacted:
                current = False
            except StoreError as error:
                _log.warning("lost the store", extra={"kv": {"prefix": self._prefix, "error": error}})
            except Exception:
                _log.exception("the cache of %s failed; listing again", self._prefix)
                current = False
            stop.wait_s(backoff.next_s())
        self._over = True
        self.close()

    def _reach_back(self, after: int) -> None:
        """Learn what happened since `after`, if the store still knows; one caller at a time."""
        with self._reaching:
            oldest = self._history.oldest
            if not self._ready or after >= oldest:
                return
            events = reach_back(self._store, self._prefix, after, oldest, self._made, self.clock)
            with self.lock:
                if events is not None and self._history.oldest == oldest:
                    self._history.prepend(events, after)

    def _follow(self, changes: Iterator[Change | Progress], backoff: Backoff, stop: Stop) -> None:
        """Take bursts of changes; the Progress that follows each says that its last revision is whole."""
        burst: list[Change] = []
        for item in changes:
            if isinstance(item, Change):
                burst.append(item)
                continue
            self._commit(burst, item.revision)
            burst = []
            backoff.reset()
            if stop.is_set():
                return

    def _list_again(self) -> None:
        """The first list, or the difference to what the cache holds, as if the changes between had been seen."""
        page = self._store.list(self._prefix)
        if self._ready and page.revision >= self._revision:
            start = self._revision
            changes = self._state.difference(page.entries, start)
            with self.lock:
                self._history.gap(start, page.revision)
            self._commit(changes, page.revision)
            return
        made = (self._made(entry.key, entry.value, entry.revision) for entry in page.entries)
        loaded = {item.key: item for item in made if item is not None}
        with self.lock:
            went_back, self._ready = self._ready, True
            for changed in self._followers:
                changed.update(self._state.keys, loaded)
            self._state, self._revision = State(loaded), page.revision
            self._history.restart(page.revision)
            self._moved.notify_all()
        if went_back:  # the store was restored from a backup: what clients know is void
            self._end_watches(Expired("the store went back in time: list again"))

    def _commit(self, changes: Sequence[Change], revision: int) -> None:
        """Take changes that are whole up to `revision`, all at once."""
        rendered = [
            (change, None if change.value is None else self._made(change.key, change.value, change.revision))
            for change in changes
        ]
        with self.lock:
            for change, item in rendered:
                if (event := self._state.apply(change, item)) is not None:
                    self._history.append(event)
                    for changed in self._followers:
                        changed.add(event.object.key)
                    self._watchers = [watcher for watcher in self._watchers if watcher.offer(event)]
            self._revision = max(self._revision, revision)
            if self._waiting:
                self._moved.notify_all()

    def _made(self, key: str, value: bytes, revision: int) -> Cached | None:
        """The object; None, and a line in the log, where the stored bytes make no sense."""
        try:
            return Cached(key, revision, self._render(value, revision))
        except (msgspec.MsgspecError, ValueError) as error:
            _log.error("unreadable object left out", extra={"kv": {"key": key, "revision": revision, "error": error}})
            return None

    def _under(self, prefix: str) -> tuple[Cached, ...]:
        return self._state.under("" if prefix == self._prefix else prefix)

    def _wait(self, reached: Callable[[], bool], deadline_s: float, ask: Callable[[], None]) -> bool:
        """Wait until `reached`, asking for news now and then; False at the deadline."""
        end_s = self.clock.monotonic_s() + deadline_s
        while not reached():
            ask()
            with self.lock:
                left_s = end_s - self.clock.monotonic_s()
                if left_s <= 0 or self._over:
                    return reached()
                self._waiting += 1
                try:
                    self._moved.wait_for(reached, min(left_s, _ASK_AGAIN_S))
                finally:
                    self._waiting -= 1
        return True

    def _end_watches(self, error: ApiError) -> None:
        with self.lock:
            watchers, self._watchers = self._watchers, []
            self._moved.notify_all()
        for watcher in watchers:
            watcher.end(error)


def _too_large(revision: int, current: int) -> ServerTimeout:
    """As upstream's storage.NewTooLargeResourceVersionError."""
    return ServerTimeout(
        f"Too large resource version: {revision}, current: {current}",
        details={
            "retryAfterSeconds": 1,
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        },
    )
