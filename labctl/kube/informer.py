"""A local, always current copy of one resource: list, then watch, for ever.

Level-triggered: readers take a frozen snapshot of everything and are woken by any change; no event is handed out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

import msgspec

from labctl.kube.client import Client
from labctl.kube.errors import ApiError, Expired
from labctl.kube.resources import Resource
from labctl.runtime.loop import Backoff, Stop

T = TypeVar("T")

_log = logging.getLogger(__name__)


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Headed(msgspec.Struct, frozen=True):
    metadata: _Meta


class Informer(Generic[T]):
    """Keeps every object of `resource` as a `view` (a msgspec type, or dict), by `namespace/name` or `name`."""

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
    ) -> None:
        self._client, self._resource, self._on_change = client, resource, on_change
        self._namespace, self._label_selector, self._field_selector = namespace, label_selector, field_selector
        self._decoder = msgspec.json.Decoder(view)
        self._items: dict[str, T] = {}
        self._lock = threading.Lock()
        self._synced = threading.Event()
        self._revision = ""

    def start(self, stop: Stop) -> Informer[T]:
        """Follow the API in a thread of its own until `stop`."""
        threading.Thread(target=self._run, args=(stop,), name=f"informer-{self._resource.plural}", daemon=True).start()
        return self

    def snapshot(self) -> Mapping[str, T]:
        """Everything known now, by key; never changes afterwards."""
        with self._lock:
            return MappingProxyType(dict(self._items))

    def get(self, key: str) -> T | None:
        """One object as known now."""
        with self._lock:
            return self._items.get(key)

    @property
    def synced(self) -> bool:
        """Whether the first list has arrived."""
        return self._synced.is_set()

    def wait_synced(self, stop: Stop, deadline_s: float = 60.0) -> bool:
        """Wait for the first list; False if `stop` came first or the deadline passed."""
        waited_s = 0.0
        while not stop.is_set() and waited_s < deadline_s:
            if self._synced.wait(0.1):
                return True
            waited_s += 0.1
        return self._synced.is_set()

    def _run(self, stop: Stop) -> None:
        backoff = Backoff(base_s=0.1, cap_s=2.0)
        while not stop.is_set():
            try:
                if not self._revision:
                    self._list()
                self._watch(stop, backoff)
            except Expired:
                self._revision = ""  # our revision is compacted away: list again, now
            except ApiError as error:
                _log.warning("%s: %s", self._resource.qualified, error)
                stop.wait_s(backoff.next_s())
            except msgspec.MsgspecError as error:
                _log.error("%s: an object cannot be read: %s", self._resource.qualified, error)
                self._revision = ""
                stop.wait_s(backoff.next_s())

    def _list(self) -> None:
        page = self._client.list(
            self._resource,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )
        items = {_key(raw): self._decoder.decode(raw) for raw in page.items}
        with self._lock:
            self._items = items
        self._revision = page.metadata.resource_version
        self._synced.set()
        self._on_change()

    def _watch(self, stop: Stop, backoff: Backoff) -> None:
        with self._client.watch(
            self._resource,
            self._namespace,
            resource_version=self._revision,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        ) as events:
            for event in events:
                if stop.is_set():
                    return
                backoff.reset()
                meta = msgspec.json.decode(event.object, type=_Headed).metadata
                self._revision = meta.resource_version
                if event.type != "BOOKMARK":
                    self._take(event.type, _key_of(meta), event.object)

    def _take(self, kind: str, key: str, raw: msgspec.Raw) -> None:
        value = None if kind == "DELETED" else self._decoder.decode(raw)
        with self._lock:
            if value is None:
                self._items.pop(key, None)
            else:
                self._items[key] = value
        self._on_change()


def _key(raw: msgspec.Raw) -> str:
    return _key_of(msgspec.json.decode(raw, type=_Headed).metadata)


def _key_of(meta: _Meta) -> str:
    return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name
