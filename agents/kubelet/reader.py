"""Reads what containers refer to: config maps, secrets, services. While the API is away the last answer stands in.

So a container that dies meanwhile is started again as it was, as with upstream's caches. A few hundred are kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

import msgspec

from agents.kubelet.service_env import Service
from labctl.kube.client import Client
from labctl.kube.errors import Unavailable
from labctl.kube.resources import SERVICES, Resource

T = TypeVar("T")
_KEPT = 512


class Reader:
    """Safe to share between threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kept: OrderedDict[tuple[str, str, str], object] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, resource: Resource, view: type[T], namespace: str, name: str) -> T | None:
        """One object; None where there is none. Raises ApiError where it was never read and cannot be now."""
        find = partial(self._client.find, resource, view, name, namespace)
        return self._last_or(find, (resource.plural, namespace, name))

    def services(self, namespace: str) -> tuple[Service, ...]:
        """Every service of a namespace."""

        def ask() -> tuple[Service, ...]:
            listed = self._client.list(SERVICES, namespace).items
            return tuple(msgspec.json.decode(raw, type=Service) for raw in listed)

        return self._last_or(ask, (SERVICES.plural, namespace, ""))

    def _last_or(self, ask: Callable[[], T], key: tuple[str, str, str]) -> T:
        try:
            answer = ask()
        except Unavailable:
            with self._lock:
                if key in self._kept:
                    return cast(T, self._kept[key])
            raise
        with self._lock:
            self._kept[key] = answer
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return answer
