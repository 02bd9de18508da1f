"""Rules of what containers and volumes take from elsewhere: fields of the pod, resources, keys of maps. Pure."""

from __future__ import annotations

import re
from typing import Any

from master.apiserver import names
from master.apiserver.problems import invalid, required, unsupported
from master.apiserver.validation.values import Document, Found, formed

_ENV_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
    "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
_FILE_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_KNOWN_FIELDS = frozenset({*_ENV_FIELDS, *_FILE_FIELDS, "spec.restartPolicy", "spec.schedulerName", "status.phase"})
_RESOURCES = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory",
    "requests.cpu", "requests.ephemeral-storage", "requests.memory",
)  # fmt: skip
_SUBSCRIPT = re.compile(r"(?P<path>.+)\['(?P<key>[^']*)'\]")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def env_source(variable: Document, path: str, found: Found) -> None:
    """`valueFrom` of an environment variable: exactly one source, and no `value` beside it."""
    source = variable["valueFrom"] or {}
    given = [key for key in _SOURCES if key in source]
    for key in given:
        ref, place = source[key] or {}, f"{path}.{key}"
        if key == "fieldRef":
            field_ref(ref, place, _ENV_FIELDS, found)
        elif key == "resourceFieldRef":
            resource_ref(ref, place, found)
        elif key in {"configMapKeyRef", "secretKeyRef"}:
            formed(ref.get("name", ""), f"{place}.name", names.subdomain, found)
            if ref.get("key"):
                formed(ref["key"], f"{place}.key", names.config_key, found)
            else:
                found.append(required(f"{place}.key"))
    if not given:
        told = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        found.append(invalid(path, "", told))
    elif variable.get("value"):
        found.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(given) > 1:
        found.append(invalid(path, "", "may not have more than one field specified at a time"))


def file_ref(item: Document, path: str, found: Found) -> None:
    """One file of a downward API volume."""
    if not item.get("path"):
        found.append(required(f"{path}.path"))
    if "fieldRef" in item:
        field_ref(item["fieldRef"] or {}, f"{path}.fieldRef", _FILE_FIELDS, found)
        if "resourceFieldRef" in item:
            told = "fieldRef and resourceFieldRef can not be specified simultaneously"
            found.append(invalid(path, "resource", told))
    elif "resourceFieldRef" in item:
        ref = item["resourceFieldRef"] or {}
        if not ref.get("containerName"):
            found.append(required(f"{path}.resourceFieldRef.containerName"))
        else:
            resource_ref(ref, f"{path}.resourceFieldRef", found)
    else:
        found.append(required(path, "one of fieldRef and resourceFieldRef is required"))


def field_ref(ref: Document, path: str, allowed: tuple[str, ...], found: Found) -> None:
    """A field of the pod, or one key of its labels or annotations."""
    name = ref.get("fieldPath", "")
    if not name:
        found.append(required(f"{path}.fieldPath"))
        return
    if match := _SUBSCRIPT.fullmatch(name):
        if match["path"] not in {"metadata.annotations", "metadata.labels"}:
            told = f"error converting fieldPath: field label does not support subscript: {name}"
            found.append(invalid(f"{path}.fieldPath", name, told))
            return
        key = match["key"].lower() if match["path"] == "metadata.annotations" else match["key"]
        formed(key, path, names.key, found)
    elif name not in _KNOWN_FIELDS:
        told = f"error converting fieldPath: field label not supported: {name}"
        found.append(invalid(f"{path}.fieldPath", name, told))
    elif name not in allowed:
        found.append(unsupported(f"{path}.fieldPath", name, allowed))


def resource_ref(ref: Any, path: str, found: Found) -> None:
    """A container's request or limit."""
    name = ref.get("resource", "")
    if not name:
        found.append(required(f"{path}.resource"))
    elif name not in _RESOURCES and not name.startswith(("requests.hugepages-", "limits.hugepages-")):
        found.append(unsupported(f"{path}.resource", name, _RESOURCES))
