"""Rules of PersistentVolume, PersistentVolumeClaim and StorageClass. Pure.

Sources: `ValidatePersistentVolumeClaimSpec`, `ValidatePersistentVolumeSpec`, `pkg/apis/storage/validation`.
"""

from __future__ import annotations

from typing import Any

from labctl.kube.quantity import parse
from master.apiserver import names
from master.apiserver.problems import forbidden_field, invalid, required, unsupported
from master.apiserver.validation.affinity import node_selector
from master.apiserver.validation.diff import difference
from master.apiserver.validation.values import (
    Document,
    Found,
    at,
    choice,
    formed,
    optional_choice,
    selector,
    unchanged,
)
from master.apiserver.validation.volumes import host_path

_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES = ("Block", "Filesystem")
_RECLAIM = ("Delete", "Recycle", "Retain")
_BINDING = ("Immediate", "WaitForFirstConsumer")
_NOT_SOURCES = frozenset({
    "accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy",
    "storageClassName", "volumeAttributesClassName", "volumeMode",
})  # fmt: skip


def claim(document: Document, found: Found) -> None:
    """core/v1 PersistentVolumeClaim."""
    claim_spec(document.get("spec") or {}, "spec", found)


def claim_spec(spec: Document, path: str, found: Found) -> None:
    """A claim's spec, its own or a StatefulSet's template's."""
    if not spec.get("accessModes"):
        found.append(required(f"{path}.accessModes", "at least 1 access mode is required"))
    selector(spec.get("selector"), f"{path}.selector", found)
    _access(spec.get("accessModes") or (), f"{path}.accessModes", found)
    size, field = at(spec, "resources.requests.storage"), f"{path}.resources[storage]"
    if size is None:
        found.append(required(field))
    elif parse(size) <= 0:
        found.append(invalid(field, size, "must be greater than zero"))
    if name := spec.get("storageClassName"):
        formed(name, f"{path}.storageClassName", names.subdomain, found)
    optional_choice(spec.get("volumeMode"), f"{path}.volumeMode", _VOLUME_MODES, found)
    if name := spec.get("volumeAttributesClassName"):
        formed(name, f"{path}.volumeAttributesClassName", names.subdomain, found)


def _access(modes: Any, path: str, found: Found) -> None:
    for mode in modes:
        if mode not in _MODES:
            found.append(unsupported(path, mode, _MODES))
    if "ReadWriteOncePod" in modes and len(set(modes)) > 1:
        found.append(forbidden_field(path, "may not use ReadWriteOncePod with other access modes"))


def claim_changes(new: Document, old: Document, found: Found) -> None:
    """A claim is fixed, but that it is bound to a volume once, and grows while it is bound."""
    spec, was = dict(new.get("spec") or {}), dict(old.get("spec") or {})
    size, before = at(spec, "resources.requests.storage"), at(was, "resources.requests.storage")
    if not was.get("volumeName"):
        spec.pop("volumeName", None)
        was.pop("volumeName", None)
    if was.get("storageClassName") is None and spec.get("storageClassName"):
        spec.pop("storageClassName")
    if at(old, "status.phase") == "Bound":
        for side in (spec, was):
            side.pop("volumeAttributesClassName", None)
            side["resources"] = _without_storage(side.get("resources") or {})
    if spec != was:
        told = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound"
            f" claims\n{difference(was, spec)}"
        )
        found.append(forbidden_field("spec", told))
    held = at(old, "status.capacity.storage")
    if size is not None and before is not None and parse(size) < parse(before) and parse(size) <= parse(held or 0):
        told = "field can not be less than status.capacity"
        found.append(forbidden_field("spec.resources.requests.storage", told))


def _without_storage(resources: Document) -> Document:
    requests = {name: amount for name, amount in (resources.get("requests") or {}).items() if name != "storage"}
    return {**resources, "requests": requests}


def volume(document: Document, found: Found) -> None:
    """core/v1 PersistentVolume."""
    spec = document.get("spec") or {}
    if not spec.get("accessModes"):
        found.append(required("spec.accessModes"))
    _access(spec.get("accessModes") or (), "spec.accessModes", found)
    capacity = spec.get("capacity") or {}
    if not capacity:
        found.append(required("spec.capacity"))
    if set(capacity) != {"storage"}:
        found.append(unsupported("spec.capacity", capacity or None, ("storage",)))
    for name, amount in capacity.items():
        if parse(amount) <= 0:
            found.append(invalid(f"spec.capacity[{name}]", amount, "must be greater than zero"))
    policy = spec.get("persistentVolumeReclaimPolicy")
    optional_choice(policy, "spec.persistentVolumeReclaimPolicy", _RECLAIM, found)
    if affinity := spec.get("nodeAffinity"):
        if affinity.get("required"):
            node_selector(affinity["required"], "spec.nodeAffinity.required", found)
        else:
            found.append(required("spec.nodeAffinity.required", "must specify required node constraints"))
    _volume_source(spec, found)
    if name := spec.get("storageClassName"):
        formed(name, "spec.storageClassName", names.subdomain, found)
    optional_choice(spec.get("volumeMode"), "spec.volumeMode", _VOLUME_MODES, found)


def _volume_source(spec: Document, found: Found) -> None:
    kinds = [key for key in spec if key not in _NOT_SOURCES]
    if not kinds:
        found.append(required("spec", "must specify a volume type"))
    for kind in kinds[1:]:
        found.append(forbidden_field(f"spec.{kind}", "may not specify more than 1 volume type"))
    if "hostPath" in spec:
        host_path(spec["hostPath"] or {}, "spec.hostPath", found)
        if spec["hostPath"].get("path") == "/" and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
            told = "may not be 'recycle' for a hostPath mount of '/'"
            found.append(forbidden_field("spec.persistentVolumeReclaimPolicy", told))
    if "local" in spec:
        if not (spec["local"] or {}).get("path"):
            found.append(required("spec.local.path"))
        if not spec.get("nodeAffinity"):
            found.append(required("spec.nodeAffinity", "Local volume requires node affinity"))


def volume_changes(new: Document, old: Document, found: Found) -> None:
    """A volume keeps what it is made of."""
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    kinds = [key for key in {*spec, *was} if key not in _NOT_SOURCES]
    if any(spec.get(kind) != was.get(kind) for kind in kinds):
        sources = [{key: side[key] for key in side if key not in _NOT_SOURCES} for side in (was, spec)]
        told = f"spec.persistentvolumesource is immutable after creation\n{difference(*sources)}"
        found.append(forbidden_field("spec.persistentvolumesource", told))
    unchanged(new, old, ("spec.volumeMode",), found)


def storage_class(document: Document, found: Found) -> None:
    """storage.k8s.io/v1 StorageClass."""
    provisioner = document.get("provisioner", "")
    if not provisioner:
        found.append(required("provisioner"))
    else:
        formed(provisioner.lower(), "provisioner", names.key, found)
    optional_choice(document.get("reclaimPolicy"), "reclaimPolicy", ("Delete", "Retain"), found)
    choice(document.get("volumeBindingMode"), "volumeBindingMode", _BINDING, found)
    if any(not key for key in document.get("parameters") or ()):
        found.append(invalid("parameters", "", "field can not be empty."))


def storage_class_changes(new: Document, old: Document, found: Found) -> None:
    """A class keeps how it makes volumes."""
    unchanged(new, old, ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"), found)
