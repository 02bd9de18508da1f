"""Object metadata: what the server sets at creation and keeps at updates; names.

Source: apiserver `registry/rest/meta.go`.
"""

from __future__ import annotations

import re
import secrets
import uuid
from typing import Any

from labctl.runtime.clock import Clock, rfc3339
from master.apiserver.problems import FieldError, invalid, required

Document = dict[str, Any]

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: no words
_MAX_BASE = 58  # 63 less the five random letters

_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
LABEL_1035 = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
_LABEL_VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_QUALIFIED = re.compile(r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$")
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    r" '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    " an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
LABEL_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character,"
    " and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is"
    " '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is"
    " '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_KEY_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    " character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    " '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL_NAMED = frozenset({("", "namespaces")})
_LABEL_1035_NAMED = frozenset({("", "services")})
_PATH_NAMED = frozenset(
    {
        ("rbac.authorization.k8s.io", plural)
        for plural in ("roles", "rolebindings", "clusterroles", "clusterrolebindings")
    }
    | {("", "events"), ("events.k8s.io", "events"), ("networking.k8s.io", "ipaddresses")}
)


def generated_name(base: str) -> str:
    """`base` and five random letters, as upstream's `names.SimpleNameGenerator`."""
    return base[:_MAX_BASE] + "".join(secrets.choice(_ALPHABET) for _ in range(5))


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
    metadata["uid"] = str(uuid.uuid4())
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


def name_errors(name: str, field: str, rule: tuple[str, str] = ("", "")) -> list[FieldError]:
    """Whether a name fits its kind (`rule` is group and plural)."""
    if rule in _PATH_NAMED:
        if name in {".", ".."} or "/" in name or "%" in name:
            return [invalid(field, name, "may not be '.', '..', or contain '/' or '%'")]
        return []
    if rule in _LABEL_NAMED:
        form, text, longest = LABEL, LABEL_RULE, 63
    elif rule in _LABEL_1035_NAMED:
        form, text, longest = LABEL_1035, LABEL_1035_RULE, 63
    else:
        form, text, longest = _SUBDOMAIN, _SUBDOMAIN_RULE, 253
    found = [] if form.fullmatch(name) else [invalid(field, name, text)]
    if len(name) > longest:
        found.append(invalid(field, name, f"must be no more than {longest} characters"))
    return found


def errors(metadata: Document, rule: tuple[str, str]) -> list[FieldError]:
    """Every broken rule of an object's metadata."""
    name = str(metadata.get("name") or "")
    if not name:
        return [required("metadata.name", "name or generateName is required")]
    found = name_errors(name, "metadata.name", rule)
    found += label_errors(metadata.get("labels") or {}, "metadata.labels")
    total = 0
    for key, value in (metadata.get("annotations") or {}).items():
        found += _key_errors(key.lower(), "metadata.annotations")
        total += len(key) + len(value)
    if total > 256 * 1024:
        found.append(
            FieldError("FieldValueTooLong", "metadata.annotations", "Too long: may not be more than 262144 bytes")
        )
    for at, owner in enumerate(metadata.get("ownerReferences") or ()):
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                found.append(invalid(f"metadata.ownerReferences[{at}].{key}", "", f"{key} must not be empty"))
    return found


def label_errors(labels: Document, field: str) -> list[FieldError]:
    """Every broken rule of a label map."""
    found: list[FieldError] = []
    for key, value in labels.items():
        found += _key_errors(key, field)
        if len(value) > 63:
            found.append(invalid(field, value, "must be no more than 63 characters"))
        elif not _LABEL_VALUE.fullmatch(value):
            found.append(invalid(field, value, _VALUE_RULE))
    return found


def _key_errors(key: str, field: str) -> list[FieldError]:
    prefix, slash, name = key.rpartition("/")
    if slash and (not prefix or len(prefix) > 253 or not _SUBDOMAIN.fullmatch(prefix)):
        return [invalid(field, key, f"prefix part {_SUBDOMAIN_RULE}")]
    if not name:
        return [invalid(field, key, "name part must be non-empty")]
    if len(name) > 63:
        return [invalid(field, key, "name part must be no more than 63 characters")]
    return [] if _QUALIFIED.fullmatch(name) else [invalid(field, key, _KEY_RULE)]
