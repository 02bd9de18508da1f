"""Rules of containers of every sort: names, images, ports, environment, mounts, resources, security. Pure.

Source: `pkg/apis/core/validation/validation.go` (validateContainerCommon and what it calls).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from labctl.kube.quantity import parse
from master.apiserver import names
from master.apiserver.problems import duplicate, forbidden_field, invalid, not_found_field, required, unsupported
from master.apiserver.validation.downward import env_source
from master.apiserver.validation.probes import lifecycle, probes
from master.apiserver.validation.values import (
    PROTOCOLS,
    Document,
    Found,
    choice,
    formed,
    is_extended,
    is_native,
    is_overcommitted,
    named,
    optional_choice,
    port,
    quantity,
)

_PULL = ("Always", "IfNotPresent", "Never")
_MESSAGES = ("File", "FallbackToLogsOnError")
_STANDARD = frozenset({"cpu", "memory", "ephemeral-storage"})
_PROPAGATION = ("Bidirectional", "HostToContainer", "None")
_RESTART = ("Always", "Never", "OnFailure")
_RULE_ACTIONS = ("Restart", "RestartAllContainers")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_NOT_EPHEMERAL = (
    "lifecycle", "livenessProbe", "ports", "readinessProbe", "resizePolicy", "restartPolicy", "startupProbe",
)  # fmt: skip
_MAX_ID = 2**31 - 1


@dataclass(slots=True)
class Pod:
    """What the rules of a container need to know of its pod."""

    volumes: dict[str, Document]
    grace_s: Any = None
    restart: str = "Always"
    taken: set[str] = field(default_factory=set)  # names of containers seen


def containers(given: list[Document], path: str, pod: Pod, found: Found) -> None:
    """The pod's own containers."""
    if not given:
        found.append(required(path))
    for at, container in enumerate(given):
        place = f"{path}[{at}]"
        _common(container, place, pod, found)
        _unique(container, place, pod, found)
        lifecycle(container.get("lifecycle"), pod.grace_s, f"{place}.lifecycle", found)
        probes(container, pod.grace_s, place, found)
        _restart(container, place, found)
    _host_ports(given, path, found)


def init_containers(given: list[Document], path: str, pod: Pod, found: Found) -> None:
    """Containers that run before the others, or beside them (`restartPolicy: Always`)."""
    for at, container in enumerate(given):
        place = f"{path}[{at}]"
        _common(container, place, pod, found)
        _restart(container, place, found)
        _unique(container, place, pod, found)
        _host_ports([container], path, found)
        if container.get("restartPolicy") == "Always":
            lifecycle(container.get("lifecycle"), pod.grace_s, f"{place}.lifecycle", found)
            probes(container, pod.grace_s, place, found)
            continue
        for key in ("lifecycle", *_PROBES):
            if key in container:
                told = "may not be set for init containers without restartPolicy=Always"
                found.append(forbidden_field(f"{place}.{key}", told))


def ephemeral_containers(given: list[Document], path: str, pod: Pod, found: Found) -> None:
    """Containers that a person adds to a running pod."""
    others = set(pod.taken)
    for at, container in enumerate(given):
        place = f"{path}[{at}]"
        _common(container, place, pod, found)
        _unique(container, place, pod, found)
        target = container.get("targetContainerName", "")
        if target and target not in others:
            found.append(not_found_field(f"{place}.targetContainerName", target))
        told = "cannot be set for an Ephemeral Container"
        found += [forbidden_field(f"{place}.{key}", told) for key in _NOT_EPHEMERAL if container.get(key)]
        if container.get("resources"):
            found.append(forbidden_field(f"{place}.resources", told))
        for place_at, mount in enumerate(container.get("volumeMounts") or ()):
            for key in ("subPath", "subPathExpr"):
                if mount.get(key):
                    found.append(forbidden_field(f"{place}.volumeMounts[{place_at}].{key}", told))


def _unique(container: Document, place: str, pod: Pod, found: Found) -> None:
    name = container.get("name", "")
    if name in pod.taken:
        found.append(duplicate(f"{place}.name", name))
    elif name:
        pod.taken.add(name)


def _common(container: Document, path: str, pod: Pod, found: Found) -> None:
    named(container.get("name", ""), f"{path}.name", names.label, found)
    if not container.get("image"):
        found.append(required(f"{path}.image"))
    choice(container.get("terminationMessagePolicy", "File"), f"{path}.terminationMessagePolicy", _MESSAGES, found)
    _ports(container.get("ports") or (), f"{path}.ports", found)
    for at, variable in enumerate(container.get("env") or ()):
        place = f"{path}.env[{at}]"
        named(variable.get("name", ""), f"{place}.name", names.env_name, found)
        if "valueFrom" in variable:
            env_source(variable, f"{place}.valueFrom", found)
    _env_from(container.get("envFrom") or (), f"{path}.envFrom", found)
    _mounts(container, path, pod.volumes, found)
    choice(container.get("imagePullPolicy", "Always"), f"{path}.imagePullPolicy", _PULL, found)
    if given := container.get("resources"):
        resources(given, f"{path}.resources", found)
    if policies := container.get("resizePolicy"):
        _resize_policy(policies, f"{path}.resizePolicy", pod.restart, found)
    if security := container.get("securityContext"):
        _security(security, f"{path}.securityContext", found)


def _ports(given: Any, path: str, found: Found) -> None:
    taken: set[str] = set()
    for at, entry in enumerate(given):
        place, name = f"{path}[{at}]", entry.get("name", "")
        if name:
            before = len(found)
            formed(name, f"{place}.name", names.port_name, found)
            if len(found) == before and name in taken:
                found.append(duplicate(f"{place}.name", name))
            taken.add(name)
        if not entry.get("containerPort"):
            found.append(required(f"{place}.containerPort"))
        else:
            port(entry["containerPort"], f"{place}.containerPort", found)
        if entry.get("hostPort"):
            port(entry["hostPort"], f"{place}.hostPort", found)
        choice(entry.get("protocol", "TCP"), f"{place}.protocol", PROTOCOLS, found)


def _host_ports(given: list[Document], path: str, found: Found) -> None:
    """No two containers that run at once want the same port of the node."""
    taken: set[str] = set()
    for at, container in enumerate(given):
        for place, entry in enumerate(container.get("ports") or ()):
            if entry.get("hostPort"):
                claim = f"{entry.get('protocol', 'TCP')}/{entry.get('hostIP', '')}/{entry['hostPort']}"
                if claim in taken:
                    found.append(duplicate(f"{path}[{at}].ports[{place}].hostPort", claim))
                taken.add(claim)


def _env_from(given: Any, path: str, found: Found) -> None:
    for at, entry in enumerate(given):
        if prefix := entry.get("prefix"):
            formed(prefix, f"{path}[{at}].prefix", names.env_name, found)
        sources = [key for key in ("configMapRef", "secretRef") if key in entry]
        for key in sources:
            named((entry[key] or {}).get("name", ""), f"{path}[{at}].{key}.name", names.subdomain, found)
        if not sources:
            found.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(sources) > 1:
            found.append(invalid(path, "", "may not have more than one field specified at a time"))


def _mounts(container: Document, path: str, volumes: dict[str, Document], found: Found) -> None:
    taken: set[str] = set()
    for at, mount in enumerate(container.get("volumeMounts") or ()):
        place, name, where = f"{path}.volumeMounts[{at}]", mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            found.append(required(f"{place}.name"))
        if name not in volumes:
            found.append(not_found_field(f"{place}.name", name))
        if not where:
            found.append(required(f"{place}.mountPath"))
        if where in taken:
            found.append(invalid(f"{place}.mountPath", where, "must be unique"))
        taken.add(where)
        inside = f"{path}.volumeMounts"  # upstream leaves the index out below
        for key in ("subPath", "subPathExpr"):
            if text := mount.get(key):
                relative(text, f"{inside}.{key}", found)
        if mount.get("subPath") and mount.get("subPathExpr"):
            told = "subPathExpr and subPath are mutually exclusive"
            found.append(invalid(f"{place}.subPathExpr", mount["subPathExpr"], told))
        mode = mount.get("mountPropagation")
        optional_choice(mode, f"{inside}.mountPropagation", _PROPAGATION, found)
        if mode == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
            told = "Bidirectional mount propagation is available only to privileged containers"
            found.append(forbidden_field(f"{inside}.mountPropagation", told))


def relative(text: str, field: str, found: Found) -> None:
    """A path that stays below where it starts."""
    if text.startswith("/"):
        found.append(invalid(field, text, "must be a relative path"))
    if ".." in text.split("/"):
        found.append(invalid(field, text, "must not contain '..'"))


def resource_name(name: str, field: str, found: Found) -> None:
    """A resource that a container can ask for."""
    before = len(found)
    formed(name, field, names.key, found)
    if len(found) > before:
        return
    if "/" not in name:
        if name not in _STANDARD and not name.startswith("hugepages-"):
            found.append(invalid(field, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        found.append(invalid(field, name, "doesn't follow extended resource name standard"))


def resources(given: Document, path: str, found: Found) -> None:
    """Requests and limits of a container."""
    limits, requests = given.get("limits") or {}, given.get("requests") or {}
    for key, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            place = f"{path}.{key}[{name}]"
            if name not in _STANDARD:
                resource_name(name, place, found)
            quantity(name, amount, place, found)
    for name, amount in requests.items():
        if name not in limits:
            if not is_overcommitted(name):
                found.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
        elif amount == limits[name]:
            continue
        elif not is_overcommitted(name) and parse(amount) != parse(limits[name]):
            found.append(invalid(f"{path}.requests", amount, f"must be equal to {name} limit of {limits[name]}"))
        elif parse(amount) > parse(limits[name]):
            told = f"must be less than or equal to {name} limit of {limits[name]}"
            found.append(invalid(f"{path}.requests", amount, told))
    names_given = {*limits, *requests}
    if any(name.startswith("hugepages-") for name in names_given) and not names_given & {"cpu", "memory"}:
        found.append(forbidden_field(path, "HugePages require cpu or memory"))


def _resize_policy(policies: Any, path: str, restart: str, found: Found) -> None:
    taken: set[str] = set()
    for at, entry in enumerate(policies):
        name, policy = entry.get("resourceName", ""), entry.get("restartPolicy", "")
        if name in taken:
            found.append(duplicate(f"{path}[{at}]", name))
        taken.add(name)
        choice(name, path, ("cpu", "memory"), found)
        choice(policy, path, ("NotRequired", "RestartContainer"), found)
        if restart == "Never" and policy != "NotRequired":
            found.append(invalid(path, policy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'"))


def _restart(container: Document, path: str, found: Found) -> None:
    """A container's own restart policy and its rules."""
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or ()
    optional_choice(policy, f"{path}.restartPolicy", _RESTART, found)
    if policy is None and rules:
        found.append(required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used"))
    for at, rule in enumerate(rules):
        place = f"{path}.restartPolicyRules[{at}]"
        if rule.get("action") not in _RULE_ACTIONS:
            found.append(unsupported(f"{place}.action", rule.get("action", ""), _RULE_ACTIONS))
        if codes := rule.get("exitCodes"):
            if codes.get("operator") not in {"In", "NotIn"}:
                found.append(unsupported(f"{place}.exitCodes.operator", codes.get("operator", ""), ("In", "NotIn")))
        else:
            found.append(required(f"{place}.exitCodes", "must be specified"))


def identity(security: Document, path: str, keys: tuple[str, ...], found: Found) -> None:
    """User and group numbers."""
    for key in keys:
        number = security.get(key)
        if isinstance(number, int) and not 0 <= number <= _MAX_ID:
            found.append(invalid(f"{path}.{key}", number, f"must be between 0 and {_MAX_ID}, inclusive"))


def _security(security: Document, path: str, found: Found) -> None:
    identity(security, path, ("runAsUser", "runAsGroup"), found)
    optional_choice(security.get("procMount"), f"{path}.procMount", ("Default", "Unmasked"), found)
    if security.get("allowPrivilegeEscalation") is False:
        if security.get("privileged"):
            told = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            found.append(invalid(path, security, told))
        if "CAP_SYS_ADMIN" in ((security.get("capabilities") or {}).get("add") or ()):
            told = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            found.append(invalid(path, security, told))
