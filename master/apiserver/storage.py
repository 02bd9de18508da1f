"""Objects in the store, seen through the watch caches: consistent reads, conditional writes, no lost update."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec

from labctl.kube.errors import ApiError, ServerTimeout
from labctl.runtime.clock import Clock
from labctl.runtime.loop import Stop
from master.apiserver import problems
from master.apiserver.registry import Kind
from master.apiserver.watchcache import Cached, WatchCache, with_resource_version
from master.store.protocol import Entry, KeyExists, RevisionMismatch, Store

Document = dict[str, Any]
Change = Callable[[Document], Document]

_READ_S = 30.0  # as long as one call to a slow etcd may take
_EVENT_TTL_S = 3600
_TRIES = 64  # another writer wins each lost round, so this many losses mean a storm, not bad luck

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def _ttl_s(kind: Kind) -> int:
    """How long an object lives after its last write; 0 for ever."""
    return _EVENT_TTL_S if kind.stored.plural == "events" else 0


class Deleted(Exception):
    """Raised by a change to say: remove the object instead of writing it. Carries the last state."""

    def __init__(self, document: Document) -> None:
        super().__init__()
        self.document = document


def encode(document: Document) -> bytes:
    """A document as it is stored: kind, apiVersion and metadata first, no resourceVersion."""
    metadata = {key: value for key, value in document["metadata"].items() if key != "resourceVersion"}
    head = {"kind": document.get("kind"), "apiVersion": document.get("apiVersion"), "metadata": metadata}
    return _encode(head | {key: value for key, value in document.items() if key not in head})


class Storage:
    """One store and a watch cache for each stored resource, started when it is first asked for."""

    def __init__(self, store: Store, clock: Clock, stop: Stop) -> None:
        self.store, self._clock, self._stop = store, clock, stop
        self._caches: dict[str, WatchCache] = {}
        self._lock = threading.Lock()

    def cache(self, kind: Kind) -> WatchCache:
        """The resource's cache, with its first list read."""
        found = self._caches.get(kind.prefix)
        if found is None:
            with self._lock:
                found = self._caches.get(kind.prefix)
                if found is None:
                    found = WatchCache(self.store, kind.prefix, clock=self._clock)
                    found.start(self._stop)
                    self._caches[kind.prefix] = found
        if not found.ready:
            found.wait_ready(deadline_s=_READ_S)
        return found

    def end_watches(self) -> None:
        """End every watch, and refuse new ones: the server goes down. Reads and writes go on."""
        for cache in tuple(self._caches.values()):
            cache.close()

    def unready(self) -> list[str]:
        """The prefixes of caches whose first list has not been read."""
        return [prefix for prefix, cache in tuple(self._caches.items()) if not cache.ready]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many objects each cache holds, by group and plural."""
        found: dict[tuple[str, str], int] = {}
        for prefix, cache in tuple(self._caches.items()):
            _, _, group, plural, _ = prefix.split("/")
            found["" if group == "core" else group, plural] = len(cache)
        return found

    def current(self, kind: Kind) -> WatchCache:
        """The cache, once it holds everything the store holds now: a consistent read."""
        cache = self.cache(kind)
        cache.wait_current(deadline_s=_READ_S)
        return cache

    def find(self, kind: Kind, namespace: str, name: str) -> Cached | None:
        """The object as it is now, None if there is none."""
        return self.current(kind).get(kind.key(namespace, name))

    def get(self, kind: Kind, namespace: str, name: str) -> Cached:
        """The object as it is now; NotFound."""
        found = self.find(kind, namespace, name)
        if found is None:
            raise problems.not_found(kind.resource, name)
        return found

    def create(self, kind: Kind, namespace: str, document: Document) -> bytes:
        """Store a new object; its JSON as clients see it. AlreadyExists."""
        name = document["metadata"]["name"]
        value = encode(document)
        try:
            revision = self.store.create(kind.key(namespace, name), value, ttl_s=_ttl_s(kind))
        except KeyExists as error:
            raise problems.already_exists(kind.resource, name) from error
        return with_resource_version(value, revision)

    def change(
        self, kind: Kind, namespace: str, name: str, change: Change, *, dry_run: bool = False
    ) -> tuple[bytes, bool]:
        """Apply `change` to the newest state until it is stored; (JSON, whether the object is gone now).

        `change` gets a document of its own, with its resourceVersion, and returns the new one (or raises Deleted).
        It may be called again with a newer state. A change that changes nothing is not written.
        """
        key = kind.key(namespace, name)
        cached = self.cache(kind).get(key)
        trusted = cached is None
        raw, revision = (cached.raw, cached.revision) if cached is not None else self._read(kind, key, name)
        for _ in range(_TRIES):
            try:
                done = self._attempt((key, _ttl_s(kind)), raw, revision, change, dry_run=dry_run)
            except RevisionMismatch as error:
                raw, revision = self._raw(kind, error.current, name)
                trusted = True
                continue
            except ApiError:
                if trusted:
                    raise
                done = None
            if done is not None and (trusted or done[2]):
                return done[0], done[1]
            before = revision  # refused, or nothing to do, by what may be an old state: look again
            raw, revision = self._read(kind, key, name)
            trusted = True
            if revision == before and done is not None:
                return done[0], done[1]
        raise ServerTimeout(f"{kind.resource.qualified} {name!r}: too many writers, try again")

    def _attempt(
        self, where: tuple[str, int], raw: bytes, revision: int, change: Change, *, dry_run: bool
    ) -> tuple[bytes, bool, bool]:
        """One try: (JSON, gone, whether the store confirmed that `raw` was current)."""
        key, ttl_s = where
        try:
            value = encode(change(_decode(raw)))
        except Deleted as deleted:
            if dry_run:
                return _encode(deleted.document), True, False
            gone = self.store.delete(key, expected=revision)
            return with_resource_version(encode(deleted.document), gone), True, True
        rendered = with_resource_version(value, revision)
        if dry_run or rendered == raw:
            return rendered, False, False
        written = self.store.update(key, value, expected=revision, ttl_s=ttl_s)
        return with_resource_version(value, written), False, True

    def _read(self, kind: Kind, key: str, name: str) -> tuple[bytes, int]:
        entry, _ = self.store.get(key)
        return self._raw(kind, entry, name)

    @staticmethod
    def _raw(kind: Kind, entry: Entry | None, name: str) -> tuple[bytes, int]:
        if entry is None:
            raise problems.not_found(kind.resource, name)
        return with_resource_version(entry.value, entry.revision), entry.revision
