"""Which API servers serve: each holds a key in the store that vanishes unless it is renewed in time.

What the Service `kubernetes` leads to follows from these keys, so that a server that died is no endpoint any more, and
nobody has to notice its death. Source: `pkg/controlplane/reconcilers/lease.go`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec

from master.store.protocol import KeyExists, RevisionMismatch, Store

Document = dict[str, Any]

_PREFIX = "/registry/masterleases/"


class ApiLease:
    """This server's own key."""

    def __init__(self, store: Store, address: str, ttl_s: int) -> None:
        self._store, self._key, self._ttl_s = store, f"{_PREFIX}{address}", ttl_s
        self._revision = 0
        document = {"kind": "Endpoints", "apiVersion": "v1", "subsets": [{"addresses": [{"ip": address}]}]}
        self._value = msgspec.json.encode(document)

    def renew(self) -> None:
        """Say that this server serves for the time to come. Raises StoreError."""
        for _ in range(3):  # it may have run out, or a former process of ours was the last to write it
            try:
                if self._revision:
                    found = self._store.update(self._key, self._value, expected=self._revision, ttl_s=self._ttl_s)
                else:
                    found = self._store.create(self._key, self._value, ttl_s=self._ttl_s)
            except RevisionMismatch as error:
                self._revision = error.current.revision if error.current is not None else 0
            except KeyExists:
                entry, _ = self._store.get(self._key)
                self._revision = entry.revision if entry is not None else 0
            else:
                self._revision = found
                return

    def withdraw(self) -> None:
        """Say that this server ends. Raises StoreError."""
        entry, _ = self._store.get(self._key)
        if entry is not None:
            with contextlib.suppress(RevisionMismatch):
                self._store.delete(self._key, expected=entry.revision)


def serving(store: Store) -> tuple[str, ...]:
    """The addresses of all API servers whose key stands. Raises StoreError."""
    return tuple(entry.key.removeprefix(_PREFIX) for entry in store.list(_PREFIX).entries)


def slice_of(addresses: Sequence[str], port: int) -> Document:
    """The fields of EndpointSlice `kubernetes` that follow from who serves. Pure."""
    return {
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }


def endpoints_of(addresses: Sequence[str], port: int) -> Document:
    """The same of Endpoints `kubernetes`. Pure."""
    ports = [{"name": "https", "port": port, "protocol": "TCP"}]
    return {"subsets": [{"addresses": [{"ip": address} for address in addresses], "ports": ports}]}
