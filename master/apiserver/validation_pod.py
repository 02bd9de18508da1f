"""Rules of Pods and Pod templates. Pure. Source: `pkg/apis/core/validation/validation.go`."""

from __future__ import annotations

from typing import Any

from labctl.kube.quantity import parse
from master.apiserver import names
from master.apiserver.problems import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid,
    not_found_field,
    required,
    unsupported,
)

Document = dict[str, Any]

_RESTART = ("Always", "Never", "OnFailure")
_DNS = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_PULL = ("Always", "IfNotPresent", "Never")


def pod_spec(spec: Document, path: str) -> list[FieldError]:
    """Every broken rule of a pod's spec at `path`."""
    found: list[FieldError] = []
    volumes = _volumes(spec, path, found)
    containers = spec.get("containers") or []
    if not containers:
        found.append(required(f"{path}.containers"))
    names: set[str] = set()
    for field in ("initContainers", "containers"):
        for at, container in enumerate(spec.get(field) or ()):
            _container(container, f"{path}.{field}[{at}]", names, volumes, found)
    if (policy := spec.get("restartPolicy", "Always")) not in _RESTART:
        found.append(unsupported(f"{path}.restartPolicy", policy, _RESTART))
    if (policy := spec.get("dnsPolicy", "ClusterFirst")) not in _DNS:
        found.append(unsupported(f"{path}.dnsPolicy", policy, _DNS))
    if (grace := spec.get("terminationGracePeriodSeconds", 0)) < 0:
        found.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than or equal to 0"))
    for at, toleration in enumerate(spec.get("tolerations") or ()):
        _toleration(toleration, f"{path}.tolerations[{at}]", found)
    return found


def _volumes(spec: Document, path: str, found: list[FieldError]) -> set[str]:
    names: set[str] = set()
    for at, volume in enumerate(spec.get("volumes") or ()):
        name, place = volume.get("name", ""), f"{path}.volumes[{at}]"
        _dns_label(name, f"{place}.name", found)
        if name in names:
            found.append(duplicate(f"{place}.name", name))
        names.add(name)
        sources = [key for key in volume if key != "name"]
        if len(sources) > 1:
            found.append(forbidden_field(f"{place}.{sources[1]}", "may not specify more than 1 volume type"))
    return names


def _dns_label(name: str, path: str, found: list[FieldError]) -> None:
    if not name:
        found.append(required(path))
    else:
        found += [invalid(path, name, text) for text in names.label(name)]


def _container(container: Document, path: str, taken: set[str], volumes: set[str], found: list[FieldError]) -> None:
    name = container.get("name", "")
    _dns_label(name, f"{path}.name", found)
    if name in taken:
        found.append(duplicate(f"{path}.name", name))
    taken.add(name)
    image = container.get("image", "")
    if not image:
        found.append(required(f"{path}.image"))
    elif image != image.strip():
        found.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    if (policy := container.get("imagePullPolicy", "Always")) not in _PULL:
        found.append(unsupported(f"{path}.imagePullPolicy", policy, _PULL))
    for at, port in enumerate(container.get("ports") or ()):
        number = port.get("containerPort", 0)
        if not 1 <= number <= 65535:
            found.append(invalid(f"{path}.ports[{at}].containerPort", number, "must be between 1 and 65535, inclusive"))
    for at, variable in enumerate(container.get("env") or ()):
        if not variable.get("name"):
            found.append(required(f"{path}.env[{at}].name"))
    _mounts(container, path, volumes, found)
    _resources(container.get("resources") or {}, f"{path}.resources", found)
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if isinstance(container.get(probe), dict):
            _probe(container[probe], f"{path}.{probe}", found, single_success=probe != "readinessProbe")


def _mounts(container: Document, path: str, volumes: set[str], found: list[FieldError]) -> None:
    paths: set[str] = set()
    for at, mount in enumerate(container.get("volumeMounts") or ()):
        if mount.get("name") not in volumes:
            found.append(not_found_field(f"{path}.volumeMounts[{at}].name", mount.get("name", "")))
        if not mount.get("mountPath"):
            found.append(required(f"{path}.volumeMounts[{at}].mountPath"))
        elif mount["mountPath"] in paths:
            found.append(invalid(f"{path}.volumeMounts[{at}].mountPath", mount["mountPath"], "must be unique"))
        paths.add(mount.get("mountPath", ""))


def _resources(resources: Document, path: str, found: list[FieldError]) -> None:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for field, values in (("limits", limits), ("requests", requests)):
        for name, value in values.items():
            if parse(value) < 0:
                found.append(invalid(f"{path}.{field}.{name}", value, "must be greater than or equal to 0"))
    for name, value in requests.items():
        if name in limits and parse(value) > parse(limits[name]):
            found.append(
                invalid(f"{path}.requests", value, f"must be less than or equal to {name} limit of {limits[name]}")
            )


def _probe(probe: Document, path: str, found: list[FieldError], *, single_success: bool) -> None:
    handlers = [key for key in ("exec", "httpGet", "tcpSocket", "grpc") if key in probe]
    if not handlers:
        found.append(required(path, "must specify a handler type"))
    elif len(handlers) > 1:
        found.append(forbidden_field(f"{path}.{handlers[1]}", "may not specify more than 1 handler type"))
    if single_success and probe.get("successThreshold", 1) != 1:
        found.append(invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))
    for field in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if probe.get(field, 0) < 0:
            found.append(invalid(f"{path}.{field}", probe[field], "must be greater than or equal to 0"))


def _toleration(toleration: Document, path: str, found: list[FieldError]) -> None:
    operator = toleration.get("operator", "Equal")
    if operator not in {"Equal", "Exists", "Lt", "Gt"}:
        found.append(unsupported(f"{path}.operator", operator, ("Equal", "Exists")))
    if operator == "Exists" and toleration.get("value"):
        found.append(
            invalid(f"{path}.operator", toleration["value"], "value must be empty when `operator` is 'Exists'")
        )
    if not toleration.get("key") and operator != "Exists":
        found.append(
            invalid(
                f"{path}.operator",
                operator,
                'operator must be Exists when `key` is empty, which means "match all values and all keys"',
            )
        )
    if toleration.get("effect", "") not in {"", "NoSchedule", "PreferNoSchedule", "NoExecute"}:
        found.append(
            unsupported(f"{path}.effect", toleration["effect"], ("NoExecute", "NoSchedule", "PreferNoSchedule"))
        )


_POD_CHANGEABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative),"
    "`spec.tolerations` (only additions to existing tolerations)"
)


def immutable_pod(new: Document, old: Document) -> list[FieldError]:
    """A pod's spec, the few fields aside that may change while it runs."""
    after, before = _frozen_part(new.get("spec") or {}), _frozen_part(old.get("spec") or {})
    found: list[FieldError] = []
    given = (new.get("spec") or {}).get("tolerations") or []
    if any(not _kept(toleration, given) for toleration in (old.get("spec") or {}).get("tolerations") or ()):
        found.append(
            forbidden_field("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
        )
    if after != before:
        found.append(forbidden_field("spec", f"pod updates may not change fields other than {_POD_CHANGEABLE}"))
    return found


def _frozen_part(spec: Document) -> Document:
    frozen = {key: value for key, value in spec.items() if key not in {"tolerations", "activeDeadlineSeconds"}}
    for field in ("containers", "initContainers"):
        if field in spec:
            frozen[field] = [{key: value for key, value in entry.items() if key != "image"} for entry in spec[field]]
    return frozen


def _kept(toleration: Document, given: list[Document]) -> bool:
    def identity(entry: Document) -> Document:
        return {key: value for key, value in entry.items() if key != "tolerationSeconds"}

    return any(identity(entry) == identity(toleration) for entry in given)
