"""Object metadata: what the server sets at creation and keeps at updates; names.

Source: apiserver `registry/rest/meta.go`.
"""

from __future__ import annotations

from typing import Any

from labctl.runtime import chance
from labctl.runtime.clock import Clock, rfc3339
from master.apiserver import names
from master.apiserver.problems import FieldError, forbidden_field, invalid, required, too_long

Document = dict[str, Any]

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: no words
_MAX_BASE = 58  # 63 less the five random letters

_MAX_ANNOTATIONS_BYTES = 256 * 1024
_RBAC = "rbac.authorization.k8s.io"
# Kinds whose names are not DNS subdomains.
_NAMED: dict[tuple[str, str], names.Check] = {
    ("", "namespaces"): names.label,
    ("", "services"): names.label,
    ("apps", "statefulsets"): names.label,
    ("", "events"): names.path_segment,
    ("events.k8s.io", "events"): names.path_segment,
    ("certificates.k8s.io", "certificatesigningrequests"): names.path_segment,
    ("certificates.k8s.io", "clustertrustbundles"): names.path_segment,
    ("networking.k8s.io", "ipaddresses"): names.path_segment,
    **{
        (_RBAC, plural): names.path_segment
        for plural in ("roles", "rolebindings", "clusterroles", "clusterrolebindings")
    },
}


def generated_name(base: str) -> str:
    """`base` and five random letters, as upstream's `names.SimpleNameGenerator`."""
    return base[:_MAX_BASE] + chance.letters(_ALPHABET, 5)


def begin(metadata: Document, namespace: str, clock: Clock) -> None:
    """Fill what the server owns on a new object's metadata."""
    for key in ("resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"):
        metadata.pop(key, None)
    metadata.pop("generation", None)
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = generated_name(str(metadata["generateName"]))
    if namespace:
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)
    metadata["uid"] = chance.uid()
    metadata["creationTimestamp"] = rfc3339(clock.now())


def carry(metadata: Document, old: Document) -> None:
    """Keep what an update cannot change."""
    for key in (
        "name", "namespace", "uid", "creationTimestamp", "generation", "deletionTimestamp",
        "deletionGracePeriodSeconds", "resourceVersion", "generateName",
    ):  # fmt: skip
        if key in old:
            metadata[key] = old[key]
        else:
            metadata.pop(key, None)
    for key in ("selfLink", "managedFields"):
        metadata.pop(key, None)
    for key in ("labels", "annotations", "ownerReferences", "finalizers"):  # Go leaves out what is empty
        if key in metadata and not metadata[key]:
            del metadata[key]


def name_errors(name: str, field: str, rule: tuple[str, str], *, prefix: bool = False) -> list[FieldError]:
    """Whether a name fits its kind (`rule` is group and plural); a prefix may end in a hyphen."""
    check = _NAMED.get(rule, names.subdomain)
    seen = f"{name[:-2]}a" if prefix and len(name) > 1 and name.endswith("-") else name
    return [invalid(field, name, text) for text in check(seen)]


def errors(metadata: Document, rule: tuple[str, str]) -> list[FieldError]:
    """Every broken rule of a new object's metadata."""
    found: list[FieldError] = []
    if base := metadata.get("generateName"):
        found += name_errors(str(base), "metadata.generateName", rule, prefix=True)
    name = str(metadata.get("name") or "")
    if name:
        found += name_errors(name, "metadata.name", rule)
    else:
        found.append(required("metadata.name", "name or generateName is required"))
    return found + _common(metadata)


def update_errors(metadata: Document, old: Document) -> list[FieldError]:
    """Every broken rule of changed metadata. What cannot change was carried over already."""
    found: list[FieldError] = []
    if old.get("deletionTimestamp"):
        extra = sorted(set(metadata.get("finalizers") or ()) - set(old.get("finalizers") or ()))
        if extra:
            told = "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}"
            listed = ", ".join(f'"{entry}"' for entry in extra)
            found.append(forbidden_field("metadata.finalizers", told.format(listed)))
    return found + _common(metadata)


def _common(metadata: Document) -> list[FieldError]:
    found = label_errors(metadata.get("labels") or {}, "metadata.labels")
    found += annotation_errors(metadata.get("annotations") or {}, "metadata.annotations")
    if owners := metadata.get("ownerReferences"):
        found += _owner_errors(owners)
    finalizers = metadata.get("finalizers") or ()
    for entry in finalizers:
        found += [invalid("metadata.finalizers", entry, text) for text in names.key(entry)]
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        both = "finalizer orphan and foregroundDeletion cannot be both set"
        found.append(invalid("metadata.finalizers", finalizers, both))
    return found


def label_errors(labels: Document, field: str) -> list[FieldError]:
    """Every broken rule of a label map."""
    found: list[FieldError] = []
    for key, value in labels.items():
        found += [invalid(field, key, text) for text in names.key(key)]
        found += [invalid(field, value, text) for text in names.value(value)]
    return found


def annotation_errors(annotations: Document, field: str) -> list[FieldError]:
    """Every broken rule of an annotation map: keys as labels' whatever their case, and a limit on its size."""
    found: list[FieldError] = []
    size = 0
    for key, value in annotations.items():
        found += [invalid(field, key, text) for text in names.key(key.lower())]
        size += len(key) + len(value)
    if size > _MAX_ANNOTATIONS_BYTES:
        found.append(too_long(field, _MAX_ANNOTATIONS_BYTES))
    return found


def _owner_errors(owners: list[Document]) -> list[FieldError]:
    found: list[FieldError] = []
    controller = ""
    for at, owner in enumerate(owners):
        path = f"metadata.ownerReferences[{at}]"
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                found.append(required(f"{path}.{key}", "must not be empty"))
        if owner.get("kind") == "Event" and owner.get("apiVersion") in {"v1", "events.k8s.io/v1"}:
            group, _, version = str(owner["apiVersion"]).rpartition("/")
            found.append(invalid(path, owner, f"{group}/{version}, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            this = f"{owner.get('kind')}/{owner.get('name')}"
            if controller:
                told = 'Only one reference can have Controller set to true. Found "true" in references for'
                found.append(invalid("metadata.ownerReferences", owners, f"{told} {controller} and {this}"))
            controller = controller or this
    return found
