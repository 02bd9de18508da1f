"""Decide where each Service's traffic goes from this node, and which nodes' pods are reached how. Pure.

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/, k/k `pkg/proxy/topology.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from agents.proxy.views import Conditions, EndpointSlice, Node, Service, ServicePort

_SERVICE = "kubernetes.io/service-name"
_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
_AFFINITY_S = 10_800  # upstream's default


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """Where a packet may be sent."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint and its state; `condemned`: it ends on a node that is held for dead, so nobody will say goodbye."""

    target: Target
    ready: bool
    serving: bool
    terminating: bool
    local: bool
    condemned: bool = False


@dataclass(frozen=True, slots=True)
class Portal:
    """One port of a Service, with the endpoints its traffic may go to from this node."""

    namespace: str
    name: str
    protocol: str  # tcp, udp, sctp
    port: int
    cluster_ip: str
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    affinity_s: int = 0  # 0: none
    internal_local: bool = False
    external_local: bool = False
    everywhere: tuple[Target, ...] = ()  # policy Cluster
    here: tuple[Target, ...] = ()  # policy Local
    local: tuple[Target, ...] = ()  # those of `everywhere` on this node, for the way back to themselves
    alive: tuple[Target, ...] = ()  # whatever may still carry an established connection

    @property
    def key(self) -> str:
        """`namespace/name/protocol/port`, unique in the cluster."""
        return f"{self.namespace}/{self.name}/{self.protocol}/{self.port}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All this node should hold."""

    portals: tuple[Portal, ...]
    routes: Mapping[str, str]  # pod CIDR -> the node that has it, by address


def plan(
    services: Iterable[Service], slices: Iterable[EndpointSlice], nodes: Iterable[Node], *, node_name: str
) -> Plan:
    """Put it together; the order of what is given does not matter."""
    every = {node.metadata.name: node for node in nodes}
    by_service: dict[tuple[str, str], list[EndpointSlice]] = {}
    for entry in slices:
        owner = (entry.metadata.labels or {}).get(_SERVICE)
        if owner and entry.address_type == "IPv4":
            by_service.setdefault((entry.metadata.namespace, owner), []).append(entry)
    portals = []
    for service in services:
        meta, address = service.metadata, service.spec.cluster_ip
        if service.spec.kind == "ExternalName" or not _is_ipv4(address):
            continue
        mine = by_service.get((meta.namespace, meta.name), [])
        for port in service.spec.ports or ():
            if port.protocol in _PROTOCOLS:
                found = _candidates(mine, port, node_name, every)
                portals.append(_portal(service, port, found))
    return Plan(tuple(sorted(portals, key=lambda portal: portal.key)), routes(every.values(), node_name=node_name))


def routes(nodes: Iterable[Node], *, node_name: str) -> dict[str, str]:
    """Every other node's pod CIDR by way of its address."""
    found = {}
    for node in sorted(nodes, key=lambda node: node.metadata.name):
        cidr = node.spec.pod_cidr
        if node.metadata.name != node_name and cidr and "." in cidr and node.internal_ip:
            found[str(IPv4Network(cidr))] = node.internal_ip
    return found


def _candidates(
    slices: Iterable[EndpointSlice], port: ServicePort, node_name: str, nodes: Mapping[str, Node]
) -> list[Candidate]:
    found: dict[Target, Candidate] = {}
    for entry in slices:
        numbers = [
            offered.port
            for offered in entry.ports or ()
            if (offered.name or "") == (port.name or "") and (offered.protocol or "TCP") == port.protocol
        ]
        for endpoint in entry.endpoints or ():
            state = endpoint.conditions or Conditions()
            ready = state.ready is not False
            serving = ready if state.serving is None else state.serving
            terminating = bool(state.terminating)
            where = endpoint.node_name or ""
            lost = where in nodes and nodes[where].unreachable
            for number in numbers:
                if number and endpoint.addresses and _is_ipv4(endpoint.addresses[0]):
                    target = Target(endpoint.addresses[0], number)
                    candidate = Candidate(
                        target, ready, serving, terminating, where == node_name, lost and terminating and not serving
                    )
                    # A pod that moves between slices may be in two for a moment: the better news counts.
                    if target not in found or (candidate.ready and not found[target].ready):
                        found[target] = candidate
    return [found[target] for target in sorted(found)]


def usable(candidates: Iterable[Candidate]) -> tuple[Target, ...]:
    """The ready ones; where there is none, those that serve on while they end."""
    found = tuple(candidates)
    ready = tuple(entry.target for entry in found if entry.ready)
    return ready or tuple(entry.target for entry in found if entry.serving and entry.terminating)


def _portal(service: Service, port: ServicePort, candidates: list[Candidate]) -> Portal:
    spec, meta = service.spec, service.metadata
    external = spec.kind in {"NodePort", "LoadBalancer"}
    local = [entry for entry in candidates if entry.local]
    everywhere = usable(candidates)
    affinity_s = 0
    if spec.session_affinity == "ClientIP":
        client = spec.session_affinity_config.client_ip if spec.session_affinity_config else None
        affinity_s = (client.timeout_seconds if client else None) or _AFFINITY_S
    balancer = service.status.load_balancer if service.status and spec.kind == "LoadBalancer" else None
    given = [entry.ip for entry in (balancer.ingress or () if balancer else ())]
    outside = {address for address in (*(spec.external_ips or ()), *given) if address and _is_ipv4(address)}
    here = {entry.target for entry in local}
    return Portal(
        namespace=meta.namespace,
        name=meta.name,
        protocol=_PROTOCOLS[port.protocol],
        port=port.port,
        cluster_ip=spec.cluster_ip or "",
        node_port=port.node_port if external else 0,
        external_ips=tuple(sorted(outside)),
        affinity_s=affinity_s,
        internal_local=spec.internal_traffic_policy == "Local",
        external_local=(external or bool(spec.external_ips)) and spec.external_traffic_policy == "Local",
        everywhere=everywhere,
        here=usable(local),
        local=tuple(target for target in everywhere if target in here),
        alive=tuple(entry.target for entry in candidates if not entry.condemned),
    )


def _is_ipv4(text: str | None) -> bool:
    try:
        IPv4Address(text or "")
    except AddressValueError:
        return False
    return True
