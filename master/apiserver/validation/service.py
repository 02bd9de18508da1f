"""Rules of Service, Endpoints and EndpointSlice. Pure. Sources: `validateService`, `validateEndpointSubsets`,
`pkg/apis/discovery/validation/validation.go`.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from master.apiserver import names
from master.apiserver.metadata import label_errors
from master.apiserver.problems import duplicate, forbidden_field, invalid, required, too_many, unsupported
from master.apiserver.validation.values import (
    PROTOCOLS,
    Document,
    Found,
    choice,
    formed,
    optional_choice,
    port,
    port_or_name,
    unchanged,
)

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_AFFINITIES = ("ClientIP", "None")
_POLICIES = ("Cluster", "Local")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")


def service(document: Document, found: Found) -> None:
    """core/v1 Service. Addresses and node ports are checked where they are given out."""
    spec = document.get("spec") or {}
    kind, ports = spec.get("type", ""), spec.get("ports") or []
    headless = spec.get("clusterIP") == "None"
    if not ports and not headless and kind != "ExternalName":
        found.append(required("spec.ports"))
    if headless and kind in {"LoadBalancer", "NodePort"}:
        found.append(invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    if kind == "ExternalName":
        _external_name(spec, found)
    _ports(ports, kind, found)
    if wanted := spec.get("selector"):
        found += label_errors(wanted, "spec.selector")
    _affinity(spec, found)
    if kind != "ExternalName":
        _addresses(spec, found)
    for at, address in enumerate(spec.get("externalIPs") or ()):
        before = len(found)
        formed(address, f"spec.externalIPs[{at}]", names.address, found)
        if len(found) == before:
            endpoint_address(address, f"spec.externalIPs[{at}]", found)
    choice(kind, "spec.type", _TYPES, found)
    _traffic(spec, kind, found)


def _external_name(spec: Document, found: Found) -> None:
    for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(key):
            found.append(forbidden_field(f"spec.{key}", "may not be set for ExternalName services"))
    if target := spec.get("externalName", "").removesuffix("."):
        formed(target, "spec.externalName", names.subdomain, found)
    else:
        found.append(required("spec.externalName"))


def _ports(ports: list[Document], kind: str, found: Found) -> None:
    taken: set[str] = set()
    numbers: set[tuple[Any, Any]] = set()
    nodes: set[tuple[Any, Any]] = set()
    for at, entry in enumerate(ports):
        path = f"spec.ports[{at}]"
        _port(entry, path, taken, found, several=len(ports) > 1)
        node = entry.get("nodePort")
        if node and kind == "ClusterIP":
            found.append(forbidden_field(f"{path}.nodePort", "may not be used when `type` is 'ClusterIP'"))
        claim = (entry.get("protocol"), node)
        if node and claim in nodes:
            found.append(duplicate(f"{path}.nodePort", node))
        nodes.add(claim)
        pair = (entry.get("protocol"), entry.get("port"))
        if pair in numbers:
            shown = {
                "Name": "",
                "Protocol": pair[0],
                "AppProtocol": None,
                "Port": pair[1],
                "TargetPort": 0,
                "NodePort": 0,
            }
            found.append(duplicate(path, shown))
        numbers.add(pair)


def _port(entry: Document, path: str, taken: set[str], found: Found, *, several: bool) -> None:
    name = entry.get("name", "")
    if name:
        formed(name, f"{path}.name", names.label, found)
        if name in taken:
            found.append(duplicate(f"{path}.name", name))
        taken.add(name)
    elif several:
        found.append(required(f"{path}.name"))
    port(entry.get("port", 0), f"{path}.port", found)
    choice(entry.get("protocol"), f"{path}.protocol", PROTOCOLS, found)
    port_or_name(entry.get("targetPort"), f"{path}.targetPort", found)
    if application := entry.get("appProtocol"):
        formed(application, f"{path}.appProtocol", names.key, found)


def _affinity(spec: Document, found: Found) -> None:
    affinity, config = spec.get("sessionAffinity"), spec.get("sessionAffinityConfig")
    choice(affinity, "spec.sessionAffinity", _AFFINITIES, found)
    path = "spec.sessionAffinityConfig"
    if affinity == "None" and config is not None:
        found.append(forbidden_field(path, "must not be set when session affinity is None"))
    if affinity == "ClientIP":
        seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds", 0)
        if not 1 <= seconds <= 86400:
            told = "must be between 1 and 86400, inclusive"
            found.append(invalid(f"{path}.clientIP.timeoutSeconds", seconds, told))


def _addresses(spec: Document, found: Found) -> None:
    first, addresses = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    if first and addresses and addresses[0] != first:
        found.append(invalid("spec.clusterIPs", addresses, "first value must match `clusterIP`"))
    for at, address in enumerate(addresses):
        if address == "None":
            if len(addresses) > 1:
                told = "'None' must be the first and only value"
                found.append(invalid("spec.clusterIPs", addresses, told))
            continue
        formed(address, f"spec.clusterIPs[{at}]", names.address, found)
    if len(addresses) > 2:
        found.append(invalid("spec.clusterIPs", addresses, "may only hold up to 2 values"))
    families = spec.get("ipFamilies") or []
    for at, family in enumerate(families):
        if family not in _FAMILIES:
            found.append(unsupported(f"spec.ipFamilies[{at}]", family, _FAMILIES))
        if family in families[:at]:
            found.append(duplicate(f"spec.ipFamilies[{at}]", family))
    optional_choice(spec.get("ipFamilyPolicy"), "spec.ipFamilyPolicy", _FAMILY_POLICIES, found)


def _traffic(spec: Document, kind: str, found: Found) -> None:
    balanced = kind == "LoadBalancer"
    told = "may only be used when `type` is 'LoadBalancer'"
    if ranges := spec.get("loadBalancerSourceRanges"):
        if not balanced:
            found.append(forbidden_field("spec.LoadBalancerSourceRanges", told))
        for at, block in enumerate(ranges):
            formed(block.strip(), f"spec.LoadBalancerSourceRanges[{at}]", names.network, found)
    if "allocateLoadBalancerNodePorts" in spec and not balanced:
        found.append(forbidden_field("spec.allocateLoadBalancerNodePorts", told))
    if "loadBalancerClass" in spec and not balanced:
        found.append(forbidden_field("spec.loadBalancerClass", told))
    outside, path = spec.get("externalTrafficPolicy", ""), "spec.externalTrafficPolicy"
    if kind in {"NodePort", "LoadBalancer"} or spec.get("externalIPs"):
        choice(outside, path, _POLICIES, found)
    elif outside:
        found.append(invalid(path, outside, "may only be set for externally-accessible services"))
    if spec.get("healthCheckNodePort") and not (balanced and outside == "Local"):
        told = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        found.append(invalid("spec.healthCheckNodePort", spec["healthCheckNodePort"], told))
    if kind in {"ClusterIP", "NodePort", "LoadBalancer"}:
        choice(spec.get("internalTrafficPolicy"), "spec.internalTrafficPolicy", _POLICIES, found)
    optional_choice(spec.get("trafficDistribution"), "spec.trafficDistribution", _DISTRIBUTIONS, found)


def service_changes(new: Document, old: Document, found: Found) -> None:
    """A Service keeps its first address while it has one."""
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    if "ExternalName" in {spec.get("type"), was.get("type")}:
        return
    after, before = spec.get("clusterIPs") or [spec.get("clusterIP")], was.get("clusterIPs") or [was.get("clusterIP")]
    if before[0] and after[0] not in (None, "", before[0]):
        found.append(invalid("spec.clusterIPs[0]", after, "may not change once set"))


def endpoint_address(text: str, field: str, found: Found) -> None:
    """An address that other machines can reach; loopback may, unlike upstream: a lab on one host lives there."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return
    for wrong, told in (
        (address.is_unspecified, f"may not be unspecified ({text})"),
        (address.is_link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (
            address in _LOCAL_MULTICAST[address.version],
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    ):
        if wrong:
            found.append(invalid(field, text, told))


_LOCAL_MULTICAST = {4: ipaddress.ip_network("224.0.0.0/24"), 6: ipaddress.ip_network("ff02::/16")}


def endpoints(document: Document, found: Found) -> None:
    """core/v1 Endpoints."""
    for at, subset in enumerate(document.get("subsets") or ()):
        path = f"subsets[{at}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            found.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
        for key in ("addresses", "notReadyAddresses"):
            for which, entry in enumerate(subset.get(key) or ()):
                _endpoint(entry.get("ip", ""), f"{path}.{key}[{which}].ip", found)
                if host := entry.get("hostname"):
                    formed(host, f"{path}.{key}[{which}].hostname", names.label, found)
        ports = subset.get("ports") or ()
        for which, entry in enumerate(ports):
            place, name = f"{path}.ports[{which}]", entry.get("name", "")
            if name:
                formed(name, f"{place}.name", names.label, found)
            elif len(ports) > 1:
                found.append(required(f"{place}.name"))
            port(entry.get("port", 0), f"{place}.port", found)
            choice(entry.get("protocol"), f"{place}.protocol", PROTOCOLS, found)


def _endpoint(address: str, field: str, found: Found) -> None:
    before = len(found)
    formed(address, field, names.address, found)
    if len(found) == before:
        endpoint_address(address, field, found)


def endpoint_slice(document: Document, found: Found) -> None:
    """discovery.k8s.io/v1 EndpointSlice."""
    kind = document.get("addressType", "")
    choice(kind, "addressType", _ADDRESS_TYPES, found)
    _slice_ports(document.get("ports") or (), found)
    given = document.get("endpoints") or []
    if len(given) > 1000:
        found.append(too_many("endpoints", len(given), 1000))
        return
    for at, entry in enumerate(given):
        path, addresses = f"endpoints[{at}]", entry.get("addresses") or []
        if not addresses:
            found.append(required(f"{path}.addresses", "must contain at least 1 address"))
        elif len(addresses) > 100:
            found.append(too_many(f"{path}.addresses", len(addresses), 100))
        for which, address in enumerate(addresses):
            _slice_address(address, kind, f"{path}.addresses", which, found)
        if node := entry.get("nodeName"):
            formed(node, f"{path}.nodeName", names.subdomain, found)
        if host := entry.get("hostname"):
            formed(host, f"{path}.hostname", names.label, found)


def _slice_address(address: str, kind: str, path: str, at: int, found: Found) -> None:
    if kind == "FQDN":
        formed(address.removesuffix("."), f"{path}[{at}]", names.subdomain, found)
    elif kind in {"IPv4", "IPv6"}:
        before = len(found)
        formed(address, f"{path}[{at}]", names.address, found)
        if len(found) > before:
            return
        if (":" in address) != (kind == "IPv6"):
            found.append(invalid(path, address, f"must be an {kind} address"))
        endpoint_address(address, f"{path}[{at}]", found)


def _slice_ports(ports: Any, found: Found) -> None:
    if len(ports) > 20_000:
        found.append(too_many("ports", len(ports), 20_000))
        return
    taken: set[str] = set()
    for at, entry in enumerate(ports):
        name = entry.get("name") or ""
        if name:
            formed(name, f"ports[{at}].name", names.label, found)
        if name in taken:
            found.append(duplicate(f"ports[{at}].name", name))
        taken.add(name)
        choice(entry.get("protocol"), f"ports[{at}].protocol", PROTOCOLS, found)


def endpoint_slice_changes(new: Document, old: Document, found: Found) -> None:
    """A slice keeps its sort of addresses."""
    unchanged(new, old, ("addressType",), found)
