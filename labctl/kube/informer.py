"""A local, always current copy of one resource: list, then watch, for ever.

Level-triggered: readers take a frozen snapshot of everything and are woken by any change. Who must not look at every
object each time asks a `Changes` for the keys that moved. The answers to our own writes can be taken in at once
(`absorb`), so that a reader never plans from a state older than what it wrote itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from labctl.kube.cache import Cache, Changes
from labctl.kube.client import Client, WatchEvent
from labctl.kube.errors import ApiError, Document, Expired, Unavailable
from labctl.kube.resources import Resource
from labctl.runtime.clock import Clock, SystemClock
from labctl.runtime.loop import Backoff, Stop

T = TypeVar("T")

_log = logging.getLogger(__name__)

_PAGE = 500
_BRIEF_S = 1.0  # a watch that ends sooner than this, empty, is not opened again at once


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class _Headed(msgspec.Struct, frozen=True):
    metadata: _Meta


_HEAD = msgspec.json.Decoder(_Headed)


class Informer(Generic[T]):
    """Keeps every object of `resource` as a `view` (a msgspec type, or dict), by `namespace/name` or `name`.

    An object that does not fit the view is left out, logged once, and named in `unreadable`.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        view: type[T],
        *,
        on_change: Callable[[], None] = lambda: None,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._client, self._resource, self._on_change = client, resource, on_change
        self._labels, self._fields = label_selector, field_selector
        self._namespace, self._metadata_only = namespace, metadata_only
        self._clock = clock or SystemClock()
        self._decoder = msgspec.json.Decoder(view)
        self._cache = Cache[T]()
        self._synced = threading.Event()
        self._revision = ""  # where the next watch starts; "" to list
        self.unreadable: dict[str, str] = {}  # key -> why

    def start(self, stop: Stop) -> Informer[T]:
        """Follow the API in a thread of its own until `stop`."""
        threading.Thread(target=self._run, args=(stop,), name=f"informer-{self._resource.plural}", daemon=True).start()
        return self

    def snapshot(self) -> Mapping[str, T]:
        """Everything known now, by key; never changes afterwards."""
        return self._cache.snapshot()

    def get(self, key: str) -> T | None:
        """One object as known now."""
        return self._cache.get(key)

    def changes(self) -> Changes:
        """A new reader's record of changed keys; it starts with all that is known now."""
        return self._cache.subscribe()

    def absorb(self, document: Document) -> None:
        """Take in the API's answer to our own write, unless the watch has brought as much or more already."""
        raw = msgspec.json.encode(document)
        meta = _HEAD.decode(raw).metadata
        if meta.resource_version.isdigit() and (value := self._decoded(meta.key, raw)) is not None:
            self._cache.absorb(meta.key, meta.uid, int(meta.resource_version), value)
            self._on_change()

    def absorb_gone(self, key: str, uid: str) -> None:
        """Take in that our own delete removed the object at once."""
        self._cache.bury(key, uid)
        self._on_change()

    @property
    def resource(self) -> Resource:
        """What it keeps."""
        return self._resource

    @property
    def revision(self) -> str:
        """Up to where the watch has told; "" before the first list."""
        return self._revision

    @property
    def synced(self) -> bool:
        """Whether the first list has arrived."""
        return self._synced.is_set()

    def wait_synced(self, stop: Stop, deadline_s: float = 60.0) -> bool:
        """Wait for the first list; False if `stop` came first or the deadline passed."""
        end_s = self._clock.monotonic_s() + deadline_s
        while not stop.is_set() and self._clock.monotonic_s() < end_s:
            if self._synced.wait(0.1):
                return True
        return self._synced.is_set()

    def _run(self, stop: Stop) -> None:
        backoff = Backoff(base_s=0.1, cap_s=2.0)
        while not stop.is_set():
            tried_s = self._clock.monotonic_s()
            try:
                if not self._revision:
                    self.relist()
                self._watch(stop, backoff)
            except Expired:
                self._revision = ""  # our revision is compacted away: list again, now
                stop.wait_s(0.01)
            except Unavailable as error:  # the revision stays good: go on from it once the server is back
                _log.warning("%s: %s", self._resource.qualified, error)
                # A try that nobody answered was a wait in itself: after a partition the next one should come soon.
                stop.wait_s(backoff.next_s() - (self._clock.monotonic_s() - tried_s))
            except Exception as error:  # an informer that dies in silence would freeze its readers' world
                known = isinstance(error, (ApiError, msgspec.MsgspecError))
                _log.warning("%s: %s", self._resource.qualified, error, exc_info=not known)
                self._revision = ""
                stop.wait_s(backoff.next_s())

    def relist(self) -> None:
        """Replace everything by a list read now; raises ApiError. Called by our own thread, or a simulation."""
        items: dict[str, tuple[str, int, T]] = {}
        token = ""
        while True:
            page = self._client.list(
                self._resource,
                self._namespace,
                label_selector=self._labels,
                field_selector=self._fields,
                limit=_PAGE,
                continue_token=token,
                metadata_only=self._metadata_only,
            )
            for raw in page.items:
                meta = _HEAD.decode(raw).metadata
                if (value := self._decoded(meta.key, bytes(raw))) is not None:
                    items[meta.key] = (meta.uid, _number(meta.resource_version), value)
            token = page.metadata.next_token
            if not token:
                break
        self._cache.replace(items, _number(page.metadata.resource_version))
        self._revision = page.metadata.resource_version
        self._synced.set()
        self._on_change()

    def _watch(self, stop: Stop, backoff: Backoff) -> None:
        opened_s, any_event = self._clock.monotonic_s(), False
        with self._client.watch(
            self._resource,
            self._namespace,
            resource_version=self._revision,
            label_selector=self._labels,
            field_selector=self._fields,
            metadata_only=self._metadata_only,
        ) as events:
            for event in events:
                if stop.is_set():
                    return
                if not any_event:
                    backoff.reset()
                    any_event = True
                self.take(event)
        if not any_event and self._clock.monotonic_s() - opened_s < _BRIEF_S:
            stop.wait_s(backoff.next_s())

    def take(self, event: WatchEvent) -> None:
        """Take in one event of the watch; called as `relist` is."""
        meta = _HEAD.decode(event.object).metadata
        revision = _number(meta.resource_version)
        if event.type == "BOOKMARK":
            self._cache.reached(revision)
        else:
            raw = bytes(event.object)
            value = None if event.type == "DELETED" else self._decoded(meta.key, raw)
            self._cache.take(meta.key, meta.uid, revision, value)
        self._revision = meta.resource_version  # only now: a failure above must see this event again
        if event.type != "BOOKMARK":
            self._on_change()

    def _decoded(self, key: str, raw: bytes) -> T | None:
        try:
            try:
                value = self._decoder.decode(raw)
            except msgspec.ValidationError:  # a null stands for an absent field, as in Go
                value = self._decoder.decode(msgspec.json.encode(_without_nulls(msgspec.json.decode(raw))))
        except msgspec.MsgspecError as error:
            if self.unreadable.get(key) != str(error):
                _log.error("%s %s cannot be read: %s", self._resource.qualified, key, error)
            self.unreadable[key] = str(error)
            return None
        self.unreadable.pop(key, None)
        return value


def _number(resource_version: str) -> int:
    return int(resource_version) if resource_version.isdigit() else 0


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list):
        return [_without_nulls(entry) for entry in value]
    return value
