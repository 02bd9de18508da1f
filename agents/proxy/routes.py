"""Keeps this node's routes to other nodes' pods (host-gw). Ours bear a protocol number; no other is ever touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from labctl.runtime.shell import Shell

PROTOCOL = 77  # in no /etc/iproute2/rt_protos that we know of
_DEADLINE_S = 30.0


class KernelRoute(msgspec.Struct, frozen=True):
    """A route as `ip -json route` tells it; some fields may be absent."""

    dst: str
    gateway: str = ""
    dev: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One invocation of `ip route`."""

    verb: str
    words: tuple[str, ...]


def changes(wanted: Mapping[str, str], present: tuple[KernelRoute, ...]) -> list[Change]:
    """What turns our present routes into the wanted ones: a value is a gateway, or `dev NAME`."""
    have = {route.dst: route.gateway or f"dev {route.dev}" for route in present}
    found = []
    for cidr, way in sorted(wanted.items()):
        if have.get(cidr) != way:
            found.append(Change("replace", (cidr, *(way.split() if way.startswith("dev ") else ("via", way)))))
    return found + [Change("del", (cidr,)) for cidr in sorted(have.keys() - wanted.keys())]


class Routes:
    """The routes of one network namespace."""

    def __init__(self, shell: Shell, *, node_ip: str, service_cidr: str) -> None:
        self._shell, self._node_ip, self._service_cidr = shell, node_ip, service_cidr
        self._applied: dict[str, str] | None = None

    def apply(self, to_pods: Mapping[str, str], *, look: bool) -> bool:
        """Make it so; with `look`, or after a failure, what is there is read first. True if a route was changed."""
        if self._applied == dict(to_pods) and not look:
            return False
        self._applied = None
        words = ["ip", "-json", "-4", "route", "show", "proto", str(PROTOCOL)]
        listed = self._shell.run(words, timeout_s=_DEADLINE_S).stdout
        present = tuple(msgspec.json.decode(listed.strip() or "[]", type=list[KernelRoute]))
        needed = changes({**to_pods, **self._to_services(present)}, present)
        for change in needed:
            argv = ["ip", "-4", "route", change.verb, *change.words, "proto", str(PROTOCOL)]
            self._shell.run(argv, timeout_s=_DEADLINE_S, check=change.verb != "del")
        self._applied = dict(to_pods)
        return bool(needed)

    def _to_services(self, present: tuple[KernelRoute, ...]) -> dict[str, str]:
        """A node without a default route needs some route to ClusterIPs, or its own packets never reach the rules."""
        known = next((route.dev for route in present if route.dst == self._service_cidr), "")
        if known:
            return {self._service_cidr: f"dev {known}"}
        words = ["ip", "-json", "-4", "address", "show", "to", self._node_ip]
        listed = msgspec.json.decode(self._shell.run(words, timeout_s=_DEADLINE_S).stdout.strip() or "[]")
        names = [entry["ifname"] for entry in listed if entry.get("ifname")]
        return {self._service_cidr: f"dev {names[0]}"} if names else {}
