"""A container's environment and its expansions `$(NAME)`. Pure.

Source: k/k `third_party/forked/golang/expansion`, `pkg/kubelet/kubelet_pods.go` (makeEnvironmentVariables).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING

from agents.kubelet.views import (
    ConfigMap,
    Container,
    EnvVar,
    FieldRef,
    KeySelector,
    Pod,
    Quantity,
    ResourceFieldRef,
    Secret,
)
from labctl.kube import quantity
from labctl.runtime.errors import LabError

_REFERENCE = re.compile(r"\$\$|\$\(([^()]*)\)")
_SUBSCRIPT = re.compile(r"^(metadata\.(?:labels|annotations))\['(.+)'\]$")


class ConfigError(LabError):
    """What the container's specification names cannot be had; reason CreateContainerConfigError."""

    retryable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What env may refer to besides the pod's own document. A name that maps to None does not exist."""

    config_maps: Mapping[str, ConfigMap | None] = field(default_factory=dict)
    secrets: Mapping[str, Secret | None] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)  # the variables of services, see service_env
    pod_ip: str = ""
    host_ip: str = ""
    node_cpu_milli: int = 0  # stand in for limits that are not set
    node_memory_bytes: int = 0


def references(container: Container) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the config maps and secrets that its env needs."""
    maps, secrets = set(), set()
    for source in container.env_from:
        maps |= {source.config_map_ref.name} if source.config_map_ref else set()
        secrets |= {source.secret_ref.name} if source.secret_ref else set()
    for variable in container.env:
        if variable.value_from and variable.value_from.config_map_key_ref:
            maps.add(variable.value_from.config_map_key_ref.name)
        if variable.value_from and variable.value_from.secret_key_ref:
            secrets.add(variable.value_from.secret_key_ref.name)
    return frozenset(maps), frozenset(secrets)


def environment(pod: Pod, container: Container, around: Surroundings) -> dict[str, str]:
    """The variables: services, envFrom, then env, whose values may use those before them. Raises ConfigError."""
    found: dict[str, str] = dict(around.services)
    for source in container.env_from:
        if (named := source.config_map_ref) is not None:
            found.update(_all_of_map(around, named.name, named.optional, source.prefix))
        if (named := source.secret_ref) is not None:
            found.update(_all_of_secret(around, named.name, named.optional, source.prefix))
    for variable in container.env:
        value = _value(pod, container, variable, around)
        if value is not None:
            found[variable.name] = expand(value, found) if variable.value_from is None else value
    return found


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by its value; an unknown name stays as written, `$$` is a dollar sign."""

    def replace(match: re.Match[str]) -> str:
        return "$" if match.group(0) == "$$" else values.get(match.group(1), match.group(0))

    return _REFERENCE.sub(replace, text)


def pod_field(pod: Pod, ref: FieldRef, around: Surroundings) -> str:
    """A field of the pod as text; raises ConfigError for one that is not offered."""
    meta, path = pod.metadata, ref.field_path
    if subscript := _SUBSCRIPT.match(path):
        entries = meta.labels if subscript.group(1).endswith("labels") else meta.annotations
        return entries.get(subscript.group(2), "")
    plain = {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "spec.nodeName": pod.spec.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.hostIP": around.host_ip,
        "status.hostIPs": around.host_ip,
        "status.podIP": around.pod_ip,
        "status.podIPs": around.pod_ip,
    }
    if path in plain:
        return plain[path]
    if path in {"metadata.labels", "metadata.annotations"}:
        entries = meta.labels if path.endswith("labels") else meta.annotations
        return "\n".join(f'{key}="{_escaped(value)}"' for key, value in sorted(entries.items()))
    raise ConfigError(f"unsupported fieldPath: {path}")


def resource_field(pod: Pod, own: Container, ref: ResourceFieldRef, around: Surroundings) -> str:
    """A request or limit in units of its divisor, rounded up; an unset limit is the node's allocatable."""
    every = (*pod.spec.containers, *pod.spec.init_containers)
    container = next((entry for entry in every if entry.name == ref.container_name), own)
    kind, _, name = ref.resource.partition(".")
    amounts = container.resources.limits if kind == "limits" else container.resources.requests
    node: dict[str, Quantity] = {"cpu": f"{around.node_cpu_milli}m", "memory": around.node_memory_bytes}
    default = node.get(name, "0") if kind == "limits" else "0"
    divisor = quantity.parse(ref.divisor) or quantity.parse("1")
    return str(int((quantity.parse(amounts.get(name, default)) / divisor).to_integral_value(ROUND_CEILING)))


def _value(pod: Pod, container: Container, variable: EnvVar, around: Surroundings) -> str | None:
    source = variable.value_from
    if source is None:
        return variable.value
    if source.field_ref is not None:
        return pod_field(pod, source.field_ref, around)
    if source.resource_field_ref is not None:
        return resource_field(pod, container, source.resource_field_ref, around)
    if source.config_map_key_ref is not None:
        return _key_of_map(around, source.config_map_key_ref)
    if source.secret_key_ref is not None:
        return _key_of_secret(around, source.secret_key_ref)
    return ""


def _key_of_map(around: Surroundings, ref: KeySelector) -> str | None:
    found = around.config_maps.get(ref.name)
    if found is None:
        return _absent(f'configmap "{ref.name}" not found', optional=ref.optional)
    if ref.key not in found.data:
        return _absent(f"couldn't find key {ref.key} in ConfigMap {ref.name}", optional=ref.optional)
    return found.data[ref.key]


def _key_of_secret(around: Surroundings, ref: KeySelector) -> str | None:
    found = around.secrets.get(ref.name)
    if found is None:
        return _absent(f'secret "{ref.name}" not found', optional=ref.optional)
    if ref.key not in found.data:
        return _absent(f"couldn't find key {ref.key} in Secret {ref.name}", optional=ref.optional)
    return _decoded(found.data[ref.key], ref.name)


def _all_of_map(around: Surroundings, name: str, optional: bool, prefix: str) -> Iterator[tuple[str, str]]:
    found = around.config_maps.get(name)
    if found is None:
        _absent(f'configmap "{name}" not found', optional=optional)
    else:
        yield from ((prefix + key, value) for key, value in sorted(found.data.items()))


def _all_of_secret(around: Surroundings, name: str, optional: bool, prefix: str) -> Iterator[tuple[str, str]]:
    found = around.secrets.get(name)
    if found is None:
        _absent(f'secret "{name}" not found', optional=optional)
    else:
        yield from ((prefix + key, _decoded(value, name)) for key, value in sorted(found.data.items()))


def _absent(message: str, *, optional: bool) -> str | None:
    if not optional:
        raise ConfigError(message)
    return None


def _decoded(text: str, name: str) -> str:
    try:
        return base64.b64decode(text).decode(errors="surrogateescape")
    except binascii.Error as error:
        raise ConfigError(f'secret "{name}" is not base64: {error}') from error


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
