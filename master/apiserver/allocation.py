"""Addresses and ports of Services: each given out once, because each is a key that only one writer can create.

A ClusterIP is an IPAddress object that names its Service, as upstream keeps it. A NodePort is a bare key. What a crash
left behind (taken, but no Service has it) is released at start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec

from labctl.kube.resources import SERVICES, builtin
from labctl.runtime.clock import Clock
from master.apiserver import node_ports
from master.apiserver.cluster_ips import ClusterIps
from master.apiserver.config import Config
from master.apiserver.node_ports import WITH_PORTS, NodePorts
from master.apiserver.quota import Quotas
from master.apiserver.registry import Kind, Registry
from master.apiserver.storage import Storage
from master.apiserver.taken import Taken
from master.store.protocol import RevisionMismatch

Document = dict[str, Any]

_SETTLE_S = 2.0


class Update:
    """One update of an object; for Services it takes what each try needs."""

    def __init__(self, allocation: Allocation, kind: Kind, taken: Taken) -> None:
        self._allocation, self._kind, self._taken = allocation, kind, taken
        self._applies = kind.stored == SERVICES
        self._old: Document | None = None

    def fill(self, new: Document, old: Document, subresource: str) -> None:
        """Before a try to store `new` in place of `old`."""
        self._old = old
        if self._applies and not subresource:
            self._allocation.carry(new, old, self._taken)

    def stored(self, raw: bytes) -> None:
        """The last try succeeded: keep what it took, release what only the old state had."""
        self._taken.keep()
        if self._old is not None and not self._taken.dry_run:
            self._allocation.replaced(self._kind, self._old, raw)


class Allocation:
    """Gives out ClusterIPs and NodePorts."""

    def __init__(self, storage: Storage, registry: Registry, config: Config, clock: Clock) -> None:
        self._storage, self._clock = storage, clock
        self._addresses = registry.of(builtin("ipaddresses", "networking.k8s.io"))
        self._ips, self._ports = ClusterIps(config.service_cidr, self._addresses, clock), NodePorts(config.node_ports)
        self._services = registry.of(SERVICES)
        self._quotas = Quotas(storage, registry)

    @property
    def first_address(self) -> str:
        """The address of the Service `kubernetes`."""
        return self._ips.first

    @contextlib.contextmanager
    def for_create(self, kind: Kind, document: Document, *, dry_run: bool) -> Iterator[Taken]:
        """Fill in a new Service's address and ports; gives them back if the block does not `keep` them."""
        taken = Taken(self._storage.store, dry_run=dry_run)
        if kind.stored != SERVICES:
            yield taken
            return
        try:
            self._fill(document, None, taken)
            yield taken
        finally:
            taken.give_back()

    @contextlib.contextmanager
    def for_update(self, kind: Kind, *, dry_run: bool) -> Iterator[Update]:
        """For an update that may be tried several times: what no stored state holds in the end is given back."""
        taken = Taken(self._storage.store, dry_run=dry_run)
        try:
            yield Update(self, kind, taken)
        finally:
            taken.give_back()

    def carry(self, new: Document, old: Document, taken: Taken) -> None:
        """Carry over what the Service had; take what its new type and ports need."""
        taken.give_back()
        spec, before = new["spec"], old.get("spec") or {}
        if "ExternalName" not in {spec.get("type"), before.get("type")}:
            for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                if key in before:
                    spec.setdefault(key, before[key])
        node_ports.carry(spec, before)
        self._fill(new, old, taken)

    def deleted(self, kind: Kind, raw: bytes) -> None:
        """A stored object is gone: give back what it had."""
        if kind.stored == SERVICES:
            self.release(msgspec.json.decode(raw))
        if kind.resource.namespaced and self._quotas.in_use:
            gone = msgspec.json.decode(raw)
            self._quotas.release(kind, gone)

    def not_stored(self, kind: Kind, document: Document) -> None:
        """An object that quotas were charged for was not stored after all."""
        if kind.resource.namespaced and self._quotas.in_use:
            self._quotas.release(kind, document)

    def replaced(self, kind: Kind, old: Document, raw: bytes) -> None:
        """A stored object changed: give back what only its old state had."""
        quotas = kind.resource.namespaced and self._quotas.in_use
        if kind.stored != SERVICES and not quotas:
            return
        new = msgspec.json.decode(raw)
        if kind.stored == SERVICES:
            self.release(old, keep=new)
        if quotas:
            self._quotas.release(kind, old, new)

    def release(self, document: Document, *, keep: Document | None = None) -> None:
        """Give back what a deleted (or changed) Service had and `keep` has not."""
        for key in sorted(self._keys(document) - (self._keys(keep) if keep else set())):
            self._remove(key)

    def repair(self) -> None:
        """Release what no Service has, and count anew what quotas' namespaces use.

        Another API server may be about to store the Service it took something for: only what stays without one for a
        while was left behind by a crash.
        """
        self._quotas.recount()
        if found := self._unclaimed():
            self._clock.sleep_s(_SETTLE_S)
            for key, revision in found & self._unclaimed():
                with contextlib.suppress(RevisionMismatch):
                    self._storage.store.delete(key, expected=revision)

    def _unclaimed(self) -> set[tuple[str, int]]:
        """The keys of addresses and ports that no Service has, each with its revision."""
        ports = self._storage.store.list(node_ports.PREFIX).entries
        addresses, _ = self._storage.current(self._addresses).list()
        services, _ = self._storage.current(self._services).list()
        claimed = {key for service in services for key in self._keys(service.document)}
        held = {(entry.key, entry.revision) for found in (addresses, ports) for entry in found}
        return {(key, revision) for key, revision in held if key not in claimed}

    def _fill(self, document: Document, old: Document | None, taken: Taken) -> None:
        spec = document["spec"]
        had = self._keys(old) if old else set[str]()
        if spec.get("type") != "ExternalName":
            _families(spec)
            self._ips.fill(document, had, taken)
        if spec.get("type") in WITH_PORTS:
            self._ports.fill(document, had, taken)

    def _keys(self, document: Document) -> set[str]:
        """Those of what a Service holds."""
        spec = document.get("spec") or {}
        if spec.get("type") == "ExternalName":
            return set()
        addresses = spec.get("clusterIPs") or [spec.get("clusterIP")]
        found = {self._ips.key(address) for address in addresses if address not in (None, "", "None")}
        if spec.get("type") in WITH_PORTS:
            found |= {node_ports.key(port["nodePort"]) for port in spec.get("ports") or () if port.get("nodePort")}
        return found

    def _remove(self, key: str) -> None:
        entry, _ = self._storage.store.get(key)
        if entry is not None:
            with contextlib.suppress(RevisionMismatch):
                self._storage.store.delete(key, expected=entry.revision)


def _families(spec: Document) -> None:
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
