"""Rules of Ingress, IngressClass and NetworkPolicy. Pure. Source: `pkg/apis/networking/validation/validation.go`."""

from __future__ import annotations

import ipaddress
from typing import Any

from master.apiserver import names
from master.apiserver.problems import forbidden_field, invalid, required, too_long, unsupported
from master.apiserver.validation.values import (
    Document,
    Found,
    formed,
    named,
    port,
    prefixed_path,
    selector,
    unchanged,
)

_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_NOT_IN_PATHS = ("//", "/./", "/../", "%2f", "%2F")
_NOT_AT_END = ("/..", "/.")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_CLASS = "kubernetes.io/ingress.class"


def created_ingress(document: Document, found: Found) -> None:
    """A new Ingress: its class by annotation and by field agree."""
    ingress(document, found)
    told = (document["metadata"].get("annotations") or {}).get(_CLASS)
    field = (document.get("spec") or {}).get("ingressClassName")
    if told is not None and field is not None and told != field:
        why = "must match `ingressClassName` when both are specified"
        found.append(invalid(f"annotations.{_CLASS}", told, why))


def ingress(document: Document, found: Found) -> None:
    """networking.k8s.io/v1 Ingress."""
    spec = document.get("spec") or {}
    rules, default = spec.get("rules") or [], spec.get("defaultBackend")
    if not rules and default is None:
        told = "either `defaultBackend` or `rules` must be specified"
        found.append(invalid("spec", spec.get("rules"), told))
    if default is not None:
        _backend(default, "spec.defaultBackend", found)
    for at, rule in enumerate(rules):
        _rule(rule, f"spec.rules[{at}]", found)
    for at, entry in enumerate(spec.get("tls") or ()):
        for which, host in enumerate(entry.get("hosts") or ()):
            _host(host, f"spec.tls[{at}].hosts[{which}]", found)
        if name := entry.get("secretName"):
            formed(name, f"spec.tls[{at}].secretName", names.subdomain, found)
    if name := spec.get("ingressClassName"):
        formed(name, "spec.ingressClassName", names.subdomain, found)


def _host(host: str, field: str, found: Found) -> None:
    formed(host, field, names.wildcard if "*" in host else names.subdomain, found)


def _rule(rule: Document, path: str, found: Found) -> None:
    if host := rule.get("host"):
        if not names.address(host):
            found.append(invalid(f"{path}.host", host, "must be a DNS name, not an IP address"))
        _host(host, f"{path}.host", found)
    http = rule.get("http")
    if http is None:
        return
    if not http.get("paths"):
        found.append(required(f"{path}.http.paths"))
    for at, entry in enumerate(http.get("paths") or ()):
        _path(entry, f"{path}.http.paths[{at}]", found)


def _path(entry: Document, path: str, found: Found) -> None:
    kind, text = entry.get("pathType"), entry.get("path", "")
    if kind is None:
        found.append(required(f"{path}.pathType", "pathType must be specified"))
        return
    if kind not in _PATH_TYPES:
        found.append(unsupported(f"{path}.pathType", kind, _PATH_TYPES))
    elif (text or kind != "ImplementationSpecific") and not text.startswith("/"):
        found.append(invalid(f"{path}.path", text, "must be an absolute path"))
    if kind in {"Exact", "Prefix"}:
        for part in _NOT_IN_PATHS:
            if part in text:
                found.append(invalid(f"{path}.path", text, f"must not contain '{part}'"))
        for part in _NOT_AT_END:
            if text.endswith(part):
                found.append(invalid(f"{path}.path", text, f"cannot end with '{part}'"))
    _backend(entry.get("backend") or {}, f"{path}.backend", found)


def _backend(backend: Document, path: str, found: Found) -> None:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        found.append(invalid(path, "", "cannot set both resource and service backends"))
    elif resource is not None:
        for key in ("kind", "name"):
            if not resource.get(key):
                found.append(required(f"{path}.resource.{key}"))
    elif service is None:
        found.append(invalid(path, "", "resource or service backend is required"))
    else:
        named(service.get("name", ""), f"{path}.service.name", names.label, found)
        target = service.get("port") or {}
        name, number = target.get("name"), target.get("number")
        if name and number:
            found.append(invalid(path, "", "cannot set both port name & port number"))
        elif name:
            formed(name, f"{path}.service.port.name", names.port_name, found)
        elif number:
            port(number, f"{path}.service.port.number", found)
        else:
            found.append(required(path, "port name or number is required"))


def ingress_class(document: Document, found: Found) -> None:
    """networking.k8s.io/v1 IngressClass."""
    spec = document.get("spec") or {}
    controller = spec.get("controller", "")
    if len(controller) > 250:
        found.append(too_long("spec.controller", 250))
    prefixed_path(controller, "spec.controller", found)


def ingress_class_changes(new: Document, old: Document, found: Found) -> None:
    """A class keeps its controller."""
    unchanged(new, old, ("spec.controller",), found)


def network_policy(document: Document, found: Found) -> None:
    """networking.k8s.io/v1 NetworkPolicy."""
    spec = document.get("spec") or {}
    selector(spec.get("podSelector"), "spec.podSelector", found)
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for at, rule in enumerate(spec.get(direction) or ()):
            path = f"spec.{direction}[{at}]"
            for which, entry in enumerate(rule.get("ports") or ()):
                _policy_port(entry, f"{path}.ports[{which}]", found)
            for which, entry in enumerate(rule.get(peers) or ()):
                _peer(entry, f"{path}.{peers}[{which}]", found)
    kinds = spec.get("policyTypes") or []
    if len(kinds) > 2:
        found.append(invalid("spec.policyTypes", kinds, "may not specify more than two policyTypes"))
        return
    for at, kind in enumerate(kinds):
        if kind not in {"Ingress", "Egress"}:
            found.append(unsupported(f"spec.policyTypes[{at}]", kind, ("Ingress", "Egress")))


def _policy_port(entry: Document, path: str, found: Found) -> None:
    protocol, number, end = entry.get("protocol"), entry.get("port"), entry.get("endPort")
    if protocol is not None and protocol not in _PROTOCOLS:
        found.append(unsupported(f"{path}.protocol", protocol, _PROTOCOLS))
    if isinstance(number, int):
        port(number, f"{path}.port", found)
        if end is not None:
            if end < number:
                found.append(invalid(f"{path}.endPort", end, "must be greater than or equal to `port`"))
            port(end, f"{path}.endPort", found)
        return
    if end is not None:
        why = "is non-numeric" if number is not None else "is not specified"
        found.append(invalid(f"{path}.endPort", end, f"may not be specified when `port` {why}"))
    if number is not None:
        formed(number, f"{path}.port", names.port_name, found)


def _peer(entry: Document, path: str, found: Found) -> None:
    for key in ("podSelector", "namespaceSelector"):
        selector(entry.get(key), f"{path}.{key}", found)
    block = entry.get("ipBlock")
    given = [key for key in ("podSelector", "namespaceSelector", "ipBlock") if entry.get(key) is not None]
    if block is not None:
        _block(block, f"{path}.ipBlock", found)
    if not given:
        found.append(required(path, "must specify a peer"))
    elif len(given) > 1 and block is not None:
        found.append(forbidden_field(path, "may not specify both ipBlock and another peer"))


def _block(block: Document, path: str, found: Found) -> None:
    outer = block.get("cidr", "")
    if not outer:
        found.append(required(f"{path}.cidr"))
        return
    before = len(found)
    formed(outer, f"{path}.cidr", names.network, found)
    if len(found) > before:
        return
    network: Any = ipaddress.ip_network(outer, strict=False)
    for at, text in enumerate(block.get("except") or ()):
        field = f"{path}.except[{at}]"
        before = len(found)
        formed(text, field, names.network, found)
        if len(found) == before:
            inner: Any = ipaddress.ip_network(text, strict=False)
            if inner.version != network.version or inner == network or not inner.subnet_of(network):
                found.append(invalid(field, text, "must be a strict subset of `cidr`"))
