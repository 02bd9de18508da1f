"""Addresses and ports of Services: each given out once, because each is a key that only one writer can create.

A ClusterIP is an IPAddress object that names its Service, as upstream keeps it. A NodePort is a bare key. What a crash
left behind (taken, but no Service has it) is released at start.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from labctl.kube.resources import SERVICES, builtin
from labctl.runtime import chance
from labctl.runtime.clock import Clock, rfc3339
from master.apiserver import problems
from master.apiserver.config import Config
from master.apiserver.quota import Quotas
from master.apiserver.registry import Kind, Registry
from master.apiserver.storage import Storage
from master.store.protocol import KeyExists, RevisionMismatch

Document = dict[str, Any]

_PORTS = "/registry/labctl/nodeports/"
_TRIES = 4096
_SETTLE_S = 2.0


@dataclass(slots=True)
class Taken:
    """What one write took; given back unless kept."""

    keys: list[tuple[str, int]] = field(default_factory=list)

    def keep(self) -> None:
        """The write succeeded."""
        self.keys.clear()


class Update:
    """One update of an object; for Services it takes what each try needs."""

    def __init__(self, allocation: Allocation, kind: Kind, *, dry_run: bool) -> None:
        self._allocation, self._kind, self._dry_run = allocation, kind, dry_run
        self._applies = kind.stored == SERVICES
        self.taken = Taken()
        self._old: Document | None = None

    def fill(self, new: Document, old: Document, subresource: str) -> None:
        """Before a try to store `new` in place of `old`."""
        self._old = old
        if self._applies and not subresource:
            self._allocation.carry(new, old, self.taken, dry_run=self._dry_run)

    def stored(self, raw: bytes) -> None:
        """The last try succeeded: keep what it took, release what only the old state had."""
        self.taken.keep()
        if self._old is not None and not self._dry_run:
            self._allocation.replaced(self._kind, self._old, raw)


class Allocation:
    """Gives out ClusterIPs and NodePorts."""

    def __init__(self, storage: Storage, registry: Registry, config: Config, clock: Clock) -> None:
        self._storage, self._clock = storage, clock
        self._network = ipaddress.ip_network(config.service_cidr)
        self._ports = config.node_ports
        self._addresses = registry.of(builtin("ipaddresses", "networking.k8s.io"))
        self._services = registry.of(SERVICES)
        self._quotas = Quotas(storage, registry)

    @property
    def first_address(self) -> str:
        """The address of the Service `kubernetes`."""
        return str(self._network[1])

    @contextlib.contextmanager
    def for_create(self, kind: Kind, document: Document, *, dry_run: bool) -> Iterator[Taken]:
        """Fill in a new Service's address and ports; gives them back if the block does not `keep` them."""
        taken = Taken()
        if kind.stored != SERVICES:
            yield taken
            return
        try:
            self._fill(document, None, taken, dry_run=dry_run)
            yield taken
        finally:
            self._give_back(taken)

    @contextlib.contextmanager
    def for_update(self, kind: Kind, *, dry_run: bool) -> Iterator[Update]:
        """For an update that may be tried several times: what no stored state holds in the end is given back."""
        update = Update(self, kind, dry_run=dry_run)
        try:
            yield update
        finally:
            self._give_back(update.taken)

    def carry(self, new: Document, old: Document, taken: Taken, *, dry_run: bool) -> None:
        """Carry over what the Service had; take what its new type and ports need."""
        self._give_back(taken)
        spec, before = new["spec"], old.get("spec") or {}
        if "ExternalName" not in {spec.get("type"), before.get("type")}:
            for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                if key in before:
                    spec.setdefault(key, before[key])
        _carry_ports(spec, before)
        self._fill(new, old, taken, dry_run=dry_run)

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
        kept = set(_claims(keep)) if keep else set()
        for what, value in _claims(document):
            if (what, value) not in kept:
                self._remove(self._addresses.key("", value) if what == "ip" else _PORTS + value)

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
        ports = self._storage.store.list(_PORTS).entries
        addresses, _ = self._storage.current(self._addresses).list()
        services, _ = self._storage.current(self._services).list()
        claimed = {claim for service in services for claim in _claims(service.document)}
        held = [("ip", entry.document["metadata"]["name"], entry.key, entry.revision) for entry in addresses]
        held += [("port", entry.key.removeprefix(_PORTS), entry.key, entry.revision) for entry in ports]
        return {(key, revision) for what, value, key, revision in held if (what, value) not in claimed}

    def _fill(self, document: Document, old: Document | None, taken: Taken, *, dry_run: bool) -> None:
        spec = document["spec"]
        had = set(_claims(old)) if old else set()
        if spec.get("type") != "ExternalName":
            _families(spec)
            self._fill_address(document, had, taken, dry_run=dry_run)
        if spec.get("type") in {"NodePort", "LoadBalancer"}:
            self._fill_ports(document, had, taken, dry_run=dry_run)

    def _fill_address(self, document: Document, had: set[tuple[str, str]], taken: Taken, *, dry_run: bool) -> None:
        spec, name = document["spec"], document["metadata"]["name"]
        wanted = spec.get("clusterIP") or ""
        if wanted == "None":
            spec["clusterIPs"] = ["None"]
            return
        if wanted and ("ip", wanted) not in had:
            self._claim_address(document, wanted, taken, dry_run=dry_run)
        elif not wanted:
            spec["clusterIP"] = self._free_address(document, taken, dry_run=dry_run)
        spec["clusterIPs"] = [spec["clusterIP"]]
        assert name

    def _claim_address(self, document: Document, wanted: str, taken: Taken, *, dry_run: bool) -> None:
        name = document["metadata"]["name"]
        try:
            inside = ipaddress.ip_address(wanted) in self._network
        except ValueError:
            inside = False
        if not inside:
            why = f"failed to allocate IP {wanted}: the provided IP ({wanted}) is not in the valid range."
            why += f" The range of valid IPs is {self._network}"
            raise problems.rejected(SERVICES, name, [problems.invalid("spec.clusterIPs", [wanted], why)])
        if not dry_run and not self._take(self._addresses.key("", wanted), self._address(wanted, document), taken):
            why = f"failed to allocate IP {wanted}: provided IP is already allocated"
            raise problems.rejected(SERVICES, name, [problems.invalid("spec.clusterIPs", [wanted], why)])

    def _free_address(self, document: Document, taken: Taken, *, dry_run: bool) -> str:
        size = self._network.num_addresses
        start = int.from_bytes(hashlib.sha256(document["metadata"]["uid"].encode()).digest()[:8], "big")
        for step in range(min(size, _TRIES)):
            place = 2 + (start + step) % max(1, size - 3)  # neither the network, nor `kubernetes`, nor the last
            address = str(self._network[place])
            if dry_run or self._take(self._addresses.key("", address), self._address(address, document), taken):
                return address
        name = document["metadata"]["name"]
        raise problems.rejected(
            SERVICES, name, [problems.invalid("spec.clusterIPs", [], "failed to allocate a serviceIP: range is full")]
        )

    def _fill_ports(self, document: Document, had: set[tuple[str, str]], taken: Taken, *, dry_run: bool) -> None:
        name = document["metadata"]["name"]
        given: dict[int, str] = {}  # one port may serve TCP and UDP of one Service
        for at, port in enumerate(document["spec"].get("ports") or ()):
            wanted = port.get("nodePort") or 0
            if not wanted:
                port["nodePort"] = self._free_port(document, at, taken, dry_run=dry_run)
            elif ("port", str(wanted)) not in had and wanted not in given:
                path = f"spec.ports[{at}].nodePort"
                if wanted not in self._ports:
                    why = "provided port is not in the valid range. The range of valid ports is"
                    why += f" {self._ports[0]}-{self._ports[-1]}"
                    raise problems.rejected(SERVICES, name, [problems.invalid(path, wanted, why)])
                if not dry_run and not self._take(f"{_PORTS}{wanted}", _owner(document), taken):
                    raise problems.rejected(
                        SERVICES, name, [problems.invalid(path, wanted, "provided port is already allocated")]
                    )
            given[port["nodePort"]] = port.get("protocol", "TCP")

    def _free_port(self, document: Document, at: int, taken: Taken, *, dry_run: bool) -> int:
        seed = f"{document['metadata']['uid']}/{at}".encode()
        start = int.from_bytes(hashlib.sha256(seed).digest()[:8], "big")
        for step in range(len(self._ports)):
            port = self._ports[(start + step) % len(self._ports)]
            if dry_run or self._take(f"{_PORTS}{port}", _owner(document), taken):
                return port
        name = document["metadata"]["name"]
        raise problems.rejected(
            SERVICES,
            name,
            [problems.invalid(f"spec.ports[{at}].nodePort", 0, "failed to allocate a nodePort: range is full")],
        )

    def _take(self, key: str, value: bytes, taken: Taken) -> bool:
        try:
            taken.keys.append((key, self._storage.store.create(key, value)))
        except KeyExists:
            return False
        return True

    def _give_back(self, taken: Taken) -> None:
        for key, revision in taken.keys:
            with contextlib.suppress(RevisionMismatch):
                self._storage.store.delete(key, expected=revision)
        taken.keys.clear()

    def _remove(self, key: str) -> None:
        entry, _ = self._storage.store.get(key)
        if entry is not None:
            with contextlib.suppress(RevisionMismatch):
                self._storage.store.delete(key, expected=entry.revision)

    def _address(self, address: str, document: Document) -> bytes:
        """The IPAddress object that holds `address` for a Service."""
        metadata = document["metadata"]
        labels = {
            "ipaddress.kubernetes.io/ip-family": "IPv4",
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        }
        stamp = rfc3339(self._clock.now())
        uid = chance.uid()
        parent = {
            "group": "",
            "resource": "services",
            "namespace": metadata.get("namespace", ""),
            "name": metadata["name"],
        }
        return msgspec.json.encode(
            {
                "kind": "IPAddress",
                "apiVersion": "networking.k8s.io/v1",
                "metadata": {"name": address, "uid": uid, "creationTimestamp": stamp, "labels": labels},
                "spec": {"parentRef": parent},
            }
        )


def _owner(document: Document) -> bytes:
    metadata = document["metadata"]
    return msgspec.json.encode({"namespace": metadata.get("namespace", ""), "name": metadata["name"]})


def _families(spec: Document) -> None:
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")


def _claims(document: Document) -> list[tuple[str, str]]:
    """What a Service holds: ("ip", address) and ("port", number)."""
    spec = document.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return []
    found = [
        ("ip", address)
        for address in spec.get("clusterIPs") or [spec.get("clusterIP")]
        if address not in (None, "", "None")
    ]
    if spec.get("type") in {"NodePort", "LoadBalancer"}:
        found += [("port", str(port["nodePort"])) for port in spec.get("ports") or () if port.get("nodePort")]
    return found


def _carry_ports(spec: Document, before: Document) -> None:
    """A port that stays keeps its NodePort, where the update does not name one."""
    if spec.get("type") not in {"NodePort", "LoadBalancer"}:
        for port in spec.get("ports") or ():
            if before.get("type") in {"NodePort", "LoadBalancer"}:
                port.pop("nodePort", None)
        return
    known = {(port.get("port"), port.get("protocol")): port.get("nodePort") for port in before.get("ports") or ()}
    for port in spec.get("ports") or ():
        if not port.get("nodePort") and known.get((port.get("port"), port.get("protocol"))):
            port["nodePort"] = known[port.get("port"), port.get("protocol")]
