"""The store in etcd 3.4 and later, over its JSON gateway. One transaction a write; one shared stream for all watches.

With client certificates, etcd's gateway calls etcd with the server's own certificate: that one must be good for
client authentication too (extended key usage).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

import msgspec

from labctl.runtime.clock import Clock
from master.store.calls import Calls
from master.store.connection import Tls
from master.store.fanout import Subscription
from master.store.feed import Feed
from master.store.gateway import DEADLINE_S, EtcdError, Gateway, Lost
from master.store.messages import Compare, DeleteRange, KeyValue, Operation, Put, Range, Status, Txn
from master.store.protocol import Change, Compacted, Entry, KeyExists, Page, Progress, RevisionMismatch, StoreError

__all__ = ["EtcdStore", "Tls"]

_PAGE = 500  # entries asked for at once where the caller wants them all
_LEASE_NOT_FOUND = 5
_NEVER = -1  # no key stands there; 0 would mean to etcd that it must not exist


class EtcdStore:
    """See `Store`. `endpoints` are URLs; calls move on to the next one when one fails. Threads may share it."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        clock: Clock,
        tls: Tls | None = None,
        deadline_s: float = DEADLINE_S,
        attempt_s: float = 3.0,
    ) -> None:
        """`deadline_s` bounds a call to an etcd that is slow, `attempt_s` the first try where there are endpoints."""
        self._clock = clock
        self._gateway = Gateway(endpoints, clock=clock, tls=tls, deadline_s=deadline_s, attempt_s=attempt_s)
        self._calls = Calls(self._gateway)
        self._leases = _Leases(self._calls, clock)
        self._lock = threading.Lock()
        self._feed: Feed | None = None
        self._begin: int | None = None  # where the next feed begins: the oldest list that no watch has followed up yet
        self._private: set[Feed] = set()
        self._closed = False

    def get(self, key: str) -> tuple[Entry | None, int]:
        """See `Store`."""
        found = self._calls.range(Range(key.encode()))
        return (found.kvs[0].entry() if found.kvs else None), found.header.revision

    def list(self, prefix: str, *, revision: int = 0, limit: int = 0, after: str = "") -> Page:
        """See `Store`; an unlimited list is read in pages, all at the revision of the first."""
        end = _end(prefix)
        kvs: list[KeyValue] = []
        start = prefix.encode() or b"\x00"
        if after >= prefix:
            start = after.encode() + b"\x00"
        newest = not revision
        while True:
            ask = min(_PAGE, limit - len(kvs)) if limit else _PAGE
            found = self._calls.range(Range(start, end, ask, revision))
            revision = revision or found.header.revision
            kvs += found.kvs
            remaining = found.count - len(found.kvs)
            if remaining <= 0 or not found.kvs or (limit and len(kvs) >= limit):
                break
            start = kvs[-1].key + b"\x00"
        if newest:
            self._note_list(revision)
        entries = tuple(kv.entry() for kv in kvs)
        return Page(entries, revision, remaining, entries[-1].key if remaining > 0 else "")

    def create(self, key: str, value: bytes, *, ttl_s: int = 0) -> int:
        """See `Store`; `ttl_s` may be exceeded a little, for keys share leases."""
        revision, _ = self._put(key, value, 0, ttl_s)
        if not revision:
            raise KeyExists(f"{key} exists")
        return revision

    def create_all(self, values: Mapping[str, bytes]) -> int:
        """See `Store`."""
        keys = {key.encode(): value for key, value in values.items()}
        puts = tuple(Operation(request_put=Put(key, value)) for key, value in keys.items())
        revision, _ = self._commit(Txn(tuple(Compare(key, 0) for key in keys), puts, ()), f"{len(keys)} keys")
        if not revision:
            raise KeyExists(f"one of {', '.join(values)} exists")
        return revision

    def update(self, key: str, value: bytes, *, expected: int, ttl_s: int = 0) -> int:
        """See `Store`; `ttl_s` may be exceeded a little."""
        return _written(key, expected, *self._put(key, value, expected or _NEVER, ttl_s))

    def delete(self, key: str, *, expected: int) -> int:
        """See `Store`."""
        operation = Operation(request_delete_range=DeleteRange(key.encode()))
        return _written(key, expected, *self._write(key.encode(), operation, expected or _NEVER))

    def watch(self, prefix: str, *, after: int) -> AbstractContextManager[Iterator[Change | Progress]]:
        """See `Store`."""
        with self._lock:
            if self._closed:
                raise StoreError("the store was closed")
            error = self._feed.fanout.error if self._feed else None
            if self._feed is None or error is not None:
                # The watches of a feed that was lost all told Progress up to its last revision: go on from there.
                lost = self._feed if not isinstance(error, Compacted) else None
                begin = lost.fanout.revision if lost else self._begin
                self._feed = self._new_feed(min(after, begin or after))
                self._begin = None
            if (subscription := self._feed.fanout.subscribe(prefix, after)) is not None:
                return subscription
            feed = self._new_feed(after)  # older than the shared window: a stream of its own, until it is closed
            self._private.add(feed)
            own = feed.fanout.subscribe(prefix, after)
        if own is None:
            raise feed.fanout.error or StoreError("etcd cannot be watched")
        return _PrivateWatch(self, feed, own)

    def request_progress(self, prefix: str = "", *, revision: int = 0) -> None:
        """See `Store`."""
        with self._lock:
            feeds = [*self._private, *([self._feed] if self._feed else [])]
        for feed in feeds:
            feed.fanout.request(prefix, revision)

    def revision(self, *, deadline_s: float = 0.0) -> int:
        """See `Store`."""
        return self._calls.revision(deadline_s=deadline_s)

    def faults(self) -> Mapping[str, str]:
        """See `Store`: the members that do not answer, have no leader, or raised an alarm."""
        answers = self._gateway.ask_each("/v3/maintenance/status", b"{}")
        told = {url: answer if isinstance(answer, str) else _fault(answer) for url, answer in answers.items()}
        return {url: why for url, why in told.items() if why}

    def compact(self, revision: int) -> None:
        """See `Store`."""
        self._calls.compact(revision)

    def close(self) -> None:
        """See `Store`."""
        with self._lock:
            self._closed = True
            feeds = [*self._private, *([self._feed] if self._feed else [])]
        for feed in feeds:
            feed.close()
        self._gateway.close()

    def _new_feed(self, after: int) -> Feed:
        return Feed(self._gateway, self._calls, self._clock, after)

    def _note_list(self, revision: int) -> None:
        """Several lists may come before the first watch: the shared feed is to begin at the oldest of them."""
        with self._lock:
            if self._feed is None or isinstance(self._feed.fanout.error, Compacted):
                self._begin = min(self._begin or revision, revision)

    def _release(self, feed: Feed) -> None:
        feed.close()
        with self._lock:
            self._private.discard(feed)

    def _put(self, key: str, value: bytes, expected: int, ttl_s: int) -> tuple[int, Entry | None]:
        """A conditional put, under a lease where it has a time to live; as `_write`."""
        raw = key.encode()
        for _ in range(3):
            lease = self._leases.get(ttl_s) if ttl_s > 0 else 0
            try:
                return self._write(raw, Operation(request_put=Put(raw, value, lease)), expected)
            except EtcdError as error:
                if error.code != _LEASE_NOT_FOUND:
                    raise
                self._leases.forget(ttl_s)
        raise Lost(f"{key}: etcd lost the lease again and again")

    def _write(self, key: bytes, operation: Operation, expected: int) -> tuple[int, Entry | None]:
        """A conditional write of one key: the new revision, or 0 and what stands there instead."""
        request = Txn((Compare(key, expected),), (operation,), (Operation(request_range=Range(key)),))
        return self._commit(request, key.decode())

    def _commit(self, request: Txn, what: str) -> tuple[int, Entry | None]:
        """One transaction: the new revision, or 0 and what its failure found.

        A try without an answer may be made again, for the compares let only one of them through. Where a compare
        then fails, the earlier try itself may be the reason: Lost.
        """
        outcome, lost = self._calls.txn(request)
        if outcome.succeeded:
            return outcome.header.revision, None
        if lost:
            raise Lost(f"{what}: etcd gave no answer in time; the write may have happened")
        return 0, outcome.current()


def _fault(status: bytes) -> str:
    """What a member's status says is wrong with it; "" for nothing."""
    try:
        found = msgspec.json.decode(status, type=Status, strict=False)
    except msgspec.MsgspecError as error:
        return f"an answer that makes no sense: {error}"
    return "; ".join(found.errors or ([] if found.leader else ["no leader"]))


def _written(key: str, expected: int, revision: int, current: Entry | None) -> int:
    """The new revision; RevisionMismatch where there is none."""
    if revision:
        return revision
    if current is None:
        raise RevisionMismatch(f"{key} is gone", None)
    raise RevisionMismatch(f"{key} is at revision {current.revision}, not {expected}", current)


class _PrivateWatch:
    """A watch with a stream of its own, ended together."""

    def __init__(self, store: EtcdStore, feed: Feed, subscription: Subscription) -> None:
        self._store, self._feed, self._subscription = store, feed, subscription

    def __enter__(self) -> Iterator[Change | Progress]:
        return self._subscription

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._subscription.close()
        self._store._release(self._feed)


class _Leases:
    """One lease for all keys of a time to live that are created within a while, as upstream shares them for Events."""

    def __init__(self, calls: Calls, clock: Clock) -> None:
        self._calls, self._clock = calls, clock
        self._current: dict[int, tuple[int, float, int]] = {}  # by ttl: lease, shared until, keys still to take
        self._lock = threading.Lock()

    def get(self, ttl_s: int) -> int:
        """A lease that lasts `ttl_s` from now on, and up to a twentieth (at most a minute) longer."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            lease, until_s, left = self._current.get(ttl_s, (0, now_s, 0))
            if now_s >= until_s or left <= 0:
                share_s = max(1, min(60, ttl_s // 20))
                lease, until_s, left = self._calls.grant(ttl_s + share_s), now_s + share_s, 1000
            self._current[ttl_s] = (lease, until_s, left - 1)
            return lease

    def forget(self, ttl_s: int) -> None:
        """etcd no longer knows the lease: take a new one next time."""
        with self._lock:
            self._current.pop(ttl_s, None)


def _end(prefix: str) -> bytes:
    """The first key after all that begin with `prefix`, for etcd's ranges."""
    raw = prefix.encode().rstrip(b"\xff")
    return raw[:-1] + bytes((raw[-1] + 1,)) if raw else b"\x00"
