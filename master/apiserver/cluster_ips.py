"""ClusterIPs: each an IPAddress object that names its Service, as upstream keeps it.

Source: k/k `pkg/registry/core/service/ipallocator`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
from typing import Any

import msgspec

from labctl.kube.resources import SERVICES
from labctl.runtime import chance
from labctl.runtime.clock import Clock, rfc3339
from master.apiserver import bands, problems
from master.apiserver.registry import Kind
from master.apiserver.taken import Taken

Document = dict[str, Any]

_TRIES = 4096


class ClusterIps:
    """Gives out the addresses of one network, but for that of the Service `kubernetes`."""

    def __init__(self, network: str, addresses: Kind, clock: Clock) -> None:
        self._network = ipaddress.ip_network(network)
        self._addresses, self._clock = addresses, clock

    @property
    def first(self) -> str:
        """The address of the Service `kubernetes`."""
        return str(self._network[1])

    def key(self, address: str) -> str:
        """Under which the store has it, once somebody has it."""
        return self._addresses.key("", address)

    def fill(self, document: Document, had: set[str], taken: Taken) -> None:
        """Fill in the address of a Service that had the keys `had`; Invalid where it cannot have the one it wants."""
        spec = document["spec"]
        wanted = spec.get("clusterIP") or ""
        if wanted == "None":
            spec["clusterIPs"] = ["None"]
            return
        if wanted and self.key(wanted) not in had:
            self._claim(document, wanted, taken)
        elif not wanted:
            spec["clusterIP"] = self._free(document, taken)
        spec["clusterIPs"] = [spec["clusterIP"]]

    def _claim(self, document: Document, wanted: str, taken: Taken) -> None:
        name = document["metadata"]["name"]
        try:
            inside = ipaddress.ip_address(wanted) in self._network
        except ValueError:
            inside = False
        if not inside:
            why = f"failed to allocate IP {wanted}: the provided IP ({wanted}) is not in the valid range."
            why += f" The range of valid IPs is {self._network}"
            raise problems.rejected(SERVICES, name, [problems.invalid("spec.clusterIPs", [wanted], why)])
        if not taken.take(self.key(wanted), self._address(wanted, document)):
            why = f"failed to allocate IP {wanted}: provided IP is already allocated"
            raise problems.rejected(SERVICES, name, [problems.invalid("spec.clusterIPs", [wanted], why)])

    def _free(self, document: Document, taken: Taken) -> str:
        size = max(1, self._network.num_addresses - 3)  # neither the network, nor `kubernetes`, nor the last
        start = int.from_bytes(hashlib.sha256(document["metadata"]["uid"].encode()).digest()[:8], "big")
        places = bands.upper_first(size, bands.lower(size, part=16, most=256), start)
        for place in itertools.islice(places, _TRIES):
            address = str(self._network[2 + place])
            if taken.take(self.key(address), self._address(address, document)):
                return address
        name = document["metadata"]["name"]
        raise problems.rejected(
            SERVICES, name, [problems.invalid("spec.clusterIPs", [], "failed to allocate a serviceIP: range is full")]
        )

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
