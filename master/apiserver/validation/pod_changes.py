"""What may change of a Pod while it lives: by its main endpoint, /resize, /ephemeralcontainers and /status. Pure.

Source: `ValidatePodUpdate`, `ValidatePodResize`, `ValidatePodEphemeralContainersUpdate`, `ValidatePodStatusUpdate`.
"""

from __future__ import annotations

from typing import Any

from master.apiserver import names
from master.apiserver.problems import forbidden_field, invalid
from master.apiserver.qos import qos_class
from master.apiserver.validation.diff import difference
from master.apiserver.validation.pod import trimmed
from master.apiserver.validation.values import IMMUTABLE, Document, Found, formed

_CHANGEABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_MIRROR = "kubernetes.io/config.mirror"
_LISTS = ("containers", "initContainers")
_MAX_SECONDS = 2**31 - 1
_RESIZED = frozenset({"cpu", "memory"})


def pod_update(new: Document, old: Document, found: Found) -> None:
    """The main endpoint: images, a shorter deadline, more tolerations, fewer scheduling gates."""
    _mirror(new, old, found)
    after, before = new.get("spec") or {}, old.get("spec") or {}
    if after == before:
        return
    for field in _LISTS:
        if len(after.get(field) or ()) != len(before.get(field) or ()):
            found.append(forbidden_field(f"spec.{field}", "pod updates may not add or remove containers"))
            return
        for at, container in enumerate(after.get(field) or ()):
            trimmed(container, f"spec.{field}[{at}]", found)
    if not _deadline(after.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"), found):
        return
    _tolerations(after.get("tolerations") or [], before.get("tolerations") or [], found)
    had = {gate.get("name") for gate in before.get("schedulingGates") or ()}
    for at, gate in enumerate(after.get("schedulingGates") or ()):
        if gate.get("name") not in had:
            told = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            found.append(forbidden_field(f"spec.schedulingGates[{at}].name", told))
    frozen, was = _frozen(after, before), _frozen(before, before)
    if was.get("schedulingGates"):
        _gated(frozen, was, found)
    for spec in (frozen, was):
        spec.pop("schedulingGates", None)
    if frozen != was:
        told = f"pod updates may not change fields other than {_CHANGEABLE}\n{difference(was, frozen)}"
        found.append(forbidden_field("spec", told))


def _mirror(new: Document, old: Document, found: Found) -> None:
    after = (new["metadata"].get("annotations") or {}).get(_MIRROR)
    before = (old["metadata"].get("annotations") or {}).get(_MIRROR)
    if after != before:
        what = "add" if before is None else "remove or update"
        found.append(forbidden_field(f"metadata.annotations[{_MIRROR}]", f"may not {what} mirror pod annotation"))


def _deadline(after: Any, before: Any, found: Found) -> bool:
    """Whether the rest is worth a look."""
    field = "spec.activeDeadlineSeconds"
    if after is None:
        if before is not None:
            found.append(invalid(field, None, "must not update from a positive integer to nil value"))
        return True
    if not 0 <= after <= _MAX_SECONDS:
        found.append(invalid(field, after, f"must be between 0 and {_MAX_SECONDS}, inclusive"))
        return False
    if before is not None and before < after:
        found.append(invalid(field, after, "must be less than or equal to previous value"))
        return False
    return True


def _tolerations(after: list[Document], before: list[Document], found: Found) -> None:
    def identity(entry: Document) -> Document:
        return {key: value for key, value in entry.items() if key != "tolerationSeconds"}

    kept = [identity(entry) for entry in after]
    if any(identity(entry) not in kept for entry in before):
        told = "existing toleration can not be modified except its tolerationSeconds"
        found.append(forbidden_field("spec.tolerations", told))


def _frozen(spec: Document, before: Document) -> Document:
    """The spec without what may change."""
    frozen = {key: value for key, value in spec.items() if key not in {"tolerations", "activeDeadlineSeconds"}}
    for field in _LISTS:
        if field in spec:
            frozen[field] = [{key: value for key, value in entry.items() if key != "image"} for entry in spec[field]]
    if before.get("terminationGracePeriodSeconds", 0) < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        frozen["terminationGracePeriodSeconds"] = before["terminationGracePeriodSeconds"]
    return frozen


def _gated(after: Document, before: Document, found: Found) -> None:
    """A pod that waits at a scheduling gate may be narrowed to fewer nodes."""
    had, has = before.pop("nodeSelector", None) or {}, after.pop("nodeSelector", None) or {}
    if any(has.get(key) != value for key, value in had.items()):
        told = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        found.append(invalid("spec.nodeSelector", has, told))
    for spec in (before, after):
        around = dict(spec.pop("affinity", None) or {})
        around.pop("nodeAffinity", None)
        if around:
            spec["affinity"] = around


def ephemeral_update(new: Document, old: Document, found: Found) -> None:
    """/ephemeralcontainers: containers are only ever added."""
    if _MIRROR in (old["metadata"].get("annotations") or {}):
        found[:] = [forbidden_field("", "static pods do not support ephemeral containers")]
        return
    path = "spec.ephemeralContainers"
    given = {entry.get("name"): entry for entry in (new.get("spec") or {}).get("ephemeralContainers") or ()}
    for entry in (old.get("spec") or {}).get("ephemeralContainers") or ():
        name = entry.get("name", "")
        if name not in given:
            found.append(forbidden_field(path, f'existing ephemeral containers "{name}" may not be removed\n'))
        elif given[name] != entry:
            told = f'existing ephemeral containers "{name}" may not be changed\n{difference(entry, given[name])}'
            found.append(forbidden_field(path, told))


def resize_update(new: Document, old: Document, found: Found) -> None:
    """/resize: the CPU and memory of containers."""
    if _MIRROR in (old["metadata"].get("annotations") or {}):
        found[:] = [forbidden_field("", "static pods cannot be resized")]
        return
    after, before = new.get("spec") or {}, old.get("spec") or {}
    quality = (old.get("status") or {}).get("qosClass") or qos_class(before)
    if quality != qos_class(after):
        told = "Pod QOS Class may not change as a result of resizing"
        found.append(invalid("spec", (new.get("status") or {}).get("qosClass", ""), told))
    for field in _LISTS:
        names_of = [[entry.get("name") for entry in spec.get(field) or ()] for spec in (after, before)]
        if names_of[0] != names_of[1]:
            found.append(
                forbidden_field("spec", "containers may not be added, removed, renamed or reordered on resize")
            )
            return
        for at, (entry, had) in enumerate(zip(after.get(field) or (), before.get(field) or (), strict=True)):
            _removed(entry, had, f"spec.{field}[{at}].resources", found)
    if not found and _without_sizes(after) != _without_sizes(before):
        found.append(forbidden_field("spec", "only cpu and memory resources are mutable"))


def _removed(entry: Document, had: Document, path: str, found: Found) -> None:
    for key in ("requests", "limits"):
        kept = (entry.get("resources") or {}).get(key) or {}
        if any(name not in kept for name in (had.get("resources") or {}).get(key) or {}):
            found.append(forbidden_field(f"{path}.{key}", f"resource {key} cannot be removed"))


def _without_sizes(spec: Document) -> Document:
    bare = dict(spec)
    for field in _LISTS:
        if field in spec:
            bare[field] = [entry | {"resources": _unsized(entry.get("resources") or {})} for entry in spec[field]]
    return bare


def _unsized(given: Document) -> Document:
    rest = {
        key: {name: amount for name, amount in (given.get(key) or {}).items() if name not in _RESIZED}
        for key in ("requests", "limits")
    }
    return {key: value for key, value in rest.items() if value} | (
        {"claims": given["claims"]} if "claims" in given else {}
    )


def status_update(new: Document, old: Document, found: Found) -> None:
    """/status: the class of service stays, a bound pod is not nominated."""
    _mirror(new, old, found)
    after, before = new.get("status") or {}, old.get("status") or {}
    had = before.get("qosClass")
    if had and after.get("qosClass") != had:
        found.append(invalid("status.qosClass", after.get("qosClass", ""), IMMUTABLE))
    nominated = after.get("nominatedNodeName", "")
    if nominated and nominated != before.get("nominatedNodeName"):
        formed(nominated, "status.nominatedNodeName", names.subdomain, found)
        if (old.get("spec") or {}).get("nodeName"):
            told = "may not be set on pods that are already bound to a node"
            found.append(forbidden_field("status.nominatedNodeName", told))
