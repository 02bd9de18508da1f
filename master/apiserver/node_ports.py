"""NodePorts: each a key of its own, on which the Service is written that has it.

Source: k/k `pkg/registry/core/service/portallocator`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from labctl.kube.resources import SERVICES
from master.apiserver import bands, problems
from master.apiserver.taken import Taken

Document = dict[str, Any]

PREFIX = "/registry/labctl/nodeports/"
WITH_PORTS = frozenset({"NodePort", "LoadBalancer"})  # the types of Services that have them


def key(port: int) -> str:
    """Under which the store has it, once somebody has it."""
    return f"{PREFIX}{port}"


class NodePorts:
    """Gives out the ports of a range."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports

    def fill(self, document: Document, had: set[str], taken: Taken) -> None:
        """Fill in the ports of a Service that had the keys `had`; Invalid where it cannot have those it wants."""
        name = document["metadata"]["name"]
        given: set[int] = set()  # one port may serve TCP and UDP of one Service
        for at, port in enumerate(document["spec"].get("ports") or ()):
            wanted = port.get("nodePort") or 0
            if not wanted:
                port["nodePort"] = self._free(document, at, taken)
            elif key(wanted) not in had and wanted not in given:
                path = f"spec.ports[{at}].nodePort"
                if wanted not in self._ports:
                    why = "provided port is not in the valid range. The range of valid ports is"
                    why += f" {self._ports[0]}-{self._ports[-1]}"
                    raise problems.rejected(SERVICES, name, [problems.invalid(path, wanted, why)])
                if not taken.take(key(wanted), _owner(document)):
                    raise problems.rejected(
                        SERVICES, name, [problems.invalid(path, wanted, "provided port is already allocated")]
                    )
            given.add(port["nodePort"])

    def _free(self, document: Document, at: int, taken: Taken) -> int:
        seed = f"{document['metadata']['uid']}/{at}".encode()
        start = int.from_bytes(hashlib.sha256(seed).digest()[:8], "big")
        size = len(self._ports)
        for place in bands.upper_first(size, bands.lower(size, part=32, most=128), start):
            port = self._ports[place]
            if taken.take(key(port), _owner(document)):
                return port
        name = document["metadata"]["name"]
        raise problems.rejected(
            SERVICES,
            name,
            [problems.invalid(f"spec.ports[{at}].nodePort", 0, "failed to allocate a nodePort: range is full")],
        )


def carry(spec: Document, before: Document) -> None:
    """A port that stays keeps its NodePort, where the update does not name one."""
    if spec.get("type") not in WITH_PORTS:
        for port in spec.get("ports") or ():
            if before.get("type") in WITH_PORTS:
                port.pop("nodePort", None)
        return
    known = {(port.get("port"), port.get("protocol")): port.get("nodePort") for port in before.get("ports") or ()}
    for port in spec.get("ports") or ():
        if not port.get("nodePort") and known.get((port.get("port"), port.get("protocol"))):
            port["nodePort"] = known[port.get("port"), port.get("protocol")]


def _owner(document: Document) -> bytes:
    metadata = document["metadata"]
    return msgspec.json.encode({"namespace": metadata.get("namespace", ""), "name": metadata["name"]})
