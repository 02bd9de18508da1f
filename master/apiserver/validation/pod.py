"""Rules of Pods and of their templates. Pure. Source: `ValidatePodSpec`, `ValidatePodTemplateSpec`."""

from __future__ import annotations

from typing import Any

from master.apiserver import names
from master.apiserver.metadata import annotation_errors, label_errors
from master.apiserver.problems import duplicate, forbidden_field, invalid, required
from master.apiserver.validation.affinity import affinity, spread, tolerations
from master.apiserver.validation.container import (
    Pod,
    containers,
    ephemeral_containers,
    identity,
    init_containers,
    resource_name,
    resources,
)
from master.apiserver.validation.values import (
    NOT_NEGATIVE,
    Document,
    Found,
    choice,
    formed,
    optional_choice,
    quantity,
)
from master.apiserver.validation.volumes import volumes

_RESTART = ("Always", "OnFailure", "Never")
_DNS = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_NAMED = {
    "serviceAccountName": names.subdomain,
    "nodeName": names.subdomain,
    "hostname": names.label,
    "subdomain": names.label,
    "priorityClassName": names.subdomain,
    "runtimeClassName": names.subdomain,
}
_MAX_SECONDS = 2**31 - 1
_MIRROR = "kubernetes.io/config.mirror"
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def pod(document: Document, found: Found) -> None:
    """A Pod by itself."""
    spec = document.get("spec") or {}
    _annotations(document["metadata"].get("annotations") or {}, spec, "metadata.annotations", found)
    pod_spec(spec, "spec", found)
    grace = spec.get("terminationGracePeriodSeconds")
    if isinstance(grace, int) and grace < 0:
        found.append(invalid("spec.terminationGracePeriodSeconds", grace, NOT_NEGATIVE))
    for field in ("containers", "initContainers"):
        for at, container in enumerate(spec.get(field) or ()):
            trimmed(container, f"spec.{field}[{at}]", found)
    if spec.get("ephemeralContainers"):
        for at, container in enumerate(spec["ephemeralContainers"]):
            trimmed(container, f"spec.ephemeralContainers[{at}]", found)


def created_pod(document: Document, found: Found) -> None:
    """A new Pod."""
    pod(document, found)
    spec = document.get("spec") or {}
    if spec.get("ephemeralContainers"):
        found.append(forbidden_field("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("nodeName") and spec.get("schedulingGates"):
        told = "cannot be set until all schedulingGates have been cleared"
        found.append(forbidden_field("spec.nodeName", told))


def trimmed(container: Document, path: str, found: Found) -> None:
    """An image without blanks around it."""
    image = container.get("image", "")
    if image != image.strip():
        found.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))


def template(given: Any, path: str, found: Found) -> None:
    """The template of a workload's pods."""
    given = given or {}
    metadata, spec = given.get("metadata") or {}, given.get("spec") or {}
    found += label_errors(metadata.get("labels") or {}, f"{path}.labels")
    if annotations := metadata.get("annotations"):
        found += annotation_errors(annotations, f"{path}.annotations")
        _annotations(annotations, spec, f"{path}.annotations", found)
    pod_spec(spec, f"{path}.spec", found)
    if spec.get("ephemeralContainers"):
        told = "ephemeral containers not allowed in pod template"
        found.append(forbidden_field(f"{path}.spec.ephemeralContainers", told))


def _annotations(given: Document, spec: Document, path: str, found: Found) -> None:
    if _MIRROR in given and not spec.get("nodeName"):
        told = "must set spec.nodeName if mirror pod annotation is set"
        found.append(invalid(f"{path}[{_MIRROR}]", given[_MIRROR], told))
    cost = given.get(_DELETION_COST)
    if cost is not None and not cost.lstrip("-").isdigit():
        found.append(invalid(f"{path}[{_DELETION_COST}]", cost, "must be a 32bit integer"))


def pod_spec(spec: Document, path: str, found: Found) -> None:
    """A pod's spec, its own or a template's."""
    known = volumes(spec.get("volumes") or [], f"{path}.volumes", found)
    restart = spec.get("restartPolicy", "")
    about = Pod(known, spec.get("terminationGracePeriodSeconds"), restart)
    containers(spec.get("containers") or [], f"{path}.containers", about, found)
    if given := spec.get("initContainers"):
        init_containers(given, f"{path}.initContainers", about, found)
    if given := spec.get("ephemeralContainers"):
        ephemeral_containers(given, f"{path}.ephemeralContainers", about, found)
    if given := spec.get("resources"):
        resources(given, f"{path}.resources", found)
    if spec.get("hostNetwork"):
        _host_network(spec, path, found)
    choice(restart, f"{path}.restartPolicy", _RESTART, found)
    choice(spec.get("dnsPolicy", ""), f"{path}.dnsPolicy", _DNS, found)
    if given := spec.get("nodeSelector"):
        found += label_errors(given, f"{path}.nodeSelector")
    if given := spec.get("securityContext"):
        _security(given, spec, f"{path}.securityContext", found)
    if given := spec.get("affinity"):
        affinity(given, f"{path}.affinity", found)
    _dns(spec, path, found)
    _gates(spec, path, found)
    if given := spec.get("topologySpreadConstraints"):
        spread(given, f"{path}.topologySpreadConstraints", found)
    for field, check in _NAMED.items():
        if value := spec.get(field):
            formed(value, f"{path}.{field}", check, found)
    _the_rest(spec, path, found)


def _the_rest(spec: Document, path: str, found: Found) -> None:
    seconds = spec.get("activeDeadlineSeconds")
    if isinstance(seconds, int) and not 1 <= seconds <= _MAX_SECONDS:
        told = f"must be between 1 and {_MAX_SECONDS}, inclusive"
        found.append(invalid(f"{path}.activeDeadlineSeconds", seconds, told))
    if given := spec.get("tolerations"):
        tolerations(given, f"{path}.tolerations", found)
    for at, alias in enumerate(spec.get("hostAliases") or ()):
        place = f"{path}.hostAliases[{at}]"
        formed(alias.get("ip", ""), f"{place}.ip", names.address, found)
        for which, host in enumerate(alias.get("hostnames") or ()):
            formed(host, f"{place}.hostnames[{which}]", names.subdomain, found)
    policy = spec.get("preemptionPolicy")
    optional_choice(policy, f"{path}.preemptionPolicy", ("PreemptLowerPriority", "Never"), found)
    for name, amount in (spec.get("overhead") or {}).items():
        place = f"{path}.overhead.limits[{name}]"
        resource_name(name, place, found)
        quantity(name, amount, place, found)


def _host_network(spec: Document, path: str, found: Found) -> None:
    for at, container in enumerate(spec.get("containers") or ()):
        for which, port in enumerate(container.get("ports") or ()):
            unset = path != "spec" and not port.get("hostPort")  # a template's pods get theirs when they are made
            if not unset and port.get("hostPort", 0) != port.get("containerPort"):
                told = "must match `containerPort` when `hostNetwork` is true"
                place = f"{path}.containers[{at}].ports[{which}].hostPort"
                found.append(invalid(place, port.get("hostPort", 0), told))


def _security(given: Document, spec: Document, path: str, found: Found) -> None:
    identity(given, path, ("fsGroup", "runAsUser", "runAsGroup"), found)
    for at, group in enumerate(given.get("supplementalGroups") or ()):
        if not 0 <= group <= _MAX_SECONDS:
            told = f"must be between 0 and {_MAX_SECONDS}, inclusive"
            found.append(invalid(f"{path}.supplementalGroups[{at}]", group, told))
    optional_choice(
        given.get("fsGroupChangePolicy"), f"{path}.fsGroupChangePolicy", ("Always", "OnRootMismatch"), found
    )
    taken: set[str] = set()
    for at, entry in enumerate(given.get("sysctls") or ()):
        name = entry.get("name", "")
        if not name:
            found.append(required(f"{path}.sysctls[{at}].name"))
        elif name in taken:
            found.append(duplicate(f"{path}.sysctls[{at}].name", name))
        taken.add(name)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        place = path.rpartition(".")[0]
        told = "ShareProcessNamespace and HostPID cannot both be enabled"
        found.append(invalid(f"{place}.shareProcessNamespace", True, told))


def _dns(spec: Document, path: str, found: Found) -> None:
    given, place = spec.get("dnsConfig"), f"{path}.dnsConfig"
    if spec.get("dnsPolicy") == "None":
        if given is None:
            found.append(required(place, "must provide `dnsConfig` when `dnsPolicy` is None"))
            return
        if not given.get("nameservers"):
            told = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            found.append(required(f"{place}.nameservers", told))
            return
    if not given:
        return
    servers, searches = given.get("nameservers") or [], given.get("searches") or []
    if len(servers) > 3:
        found.append(invalid(f"{place}.nameservers", servers, "must not have more than 3 nameservers"))
    for at, server in enumerate(servers):
        formed(server, f"{place}.nameservers[{at}]", names.address, found)
    if len(searches) > 32:
        found.append(invalid(f"{place}.searches", searches, "must not have more than 32 search paths"))
    if len(" ".join(searches)) > 2048:
        told = "must not have more than 2048 characters (including spaces) in the search list"
        found.append(invalid(f"{place}.searches", searches, told))
    for at, option in enumerate(given.get("options") or ()):
        if not option.get("name"):
            found.append(required(f"{place}.options[{at}]", "must not be empty"))


def _gates(spec: Document, path: str, found: Found) -> None:
    for at, gate in enumerate(spec.get("readinessGates") or ()):
        formed(gate.get("conditionType", ""), f"{path}.readinessGates[{at}].conditionType", names.key, found)
    taken: set[str] = set()
    for at, gate in enumerate(spec.get("schedulingGates") or ()):
        place, name = f"{path}.schedulingGates[{at}]", gate.get("name", "")
        formed(name, place, names.key, found)
        if name in taken:
            found.append(duplicate(place, name))
        taken.add(name)
