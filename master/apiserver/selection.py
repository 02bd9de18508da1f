"""Label and field selectors of a request as one predicate over cached objects."""

from __future__ import annotations

from typing import Any

import msgspec

from labctl.kube.errors import BadRequest
from labctl.kube.selector_text import parse_fields, parse_labels
from labctl.kube.selectors import FieldTerm, Selector, matches, matches_fields
from master.apiserver.registry import Kind
from master.apiserver.request import Request
from master.apiserver.watchcache import Cached, Match

Document = dict[str, Any]

_COMMON = frozenset({"metadata.name", "metadata.namespace"})
# Source: `pkg/apis/*/v1/conversion.go` (AddFieldLabelConversionsFor…).
_FIELDS: dict[tuple[str, str], frozenset[str]] = {
    ("", "pods"): frozenset({
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
        "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
    }),
    ("", "nodes"): frozenset({"spec.unschedulable"}),
    ("", "namespaces"): frozenset({"status.phase"}),
    ("", "secrets"): frozenset({"type"}),
    ("", "services"): frozenset({"spec.clusterIP", "spec.type"}),
    ("", "replicationcontrollers"): frozenset({"status.replicas"}),
    ("", "events"): frozenset({
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
        "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
        "reportingComponent", "source", "type",
    }),
    ("apps", "replicasets"): frozenset({"status.replicas"}),
    ("batch", "jobs"): frozenset({"status.successful"}),
    ("certificates.k8s.io", "certificatesigningrequests"): frozenset({"spec.signerName"}),
    ("certificates.k8s.io", "clustertrustbundles"): frozenset({"spec.signerName"}),
    ("certificates.k8s.io", "podcertificaterequests"): frozenset({
        "spec.signerName", "spec.podName", "spec.nodeName",
    }),
    ("resource.k8s.io", "resourceslices"): frozenset({"spec.nodeName", "spec.driver", "spec.pool.name"}),
}  # fmt: skip
_NOT_TEXT = frozenset(
    {"spec.unschedulable", "spec.hostNetwork", "status.replicas", "status.successful", "status.podIPs"}
)
_EVENT_ALIASES = {
    "regarding": "involvedObject",
    "reportingController": "reportingComponent",
    "source": "source.component",
}


def selection(request: Request, kind: Kind) -> Match | None:
    """The predicate a list or watch asks for; None for everything. BadRequest where it cannot be understood."""
    labels = _labels(request.query.get("labelSelector", ""))
    fields = _fields(request.query.get("fieldSelector", ""), kind)
    if request.target is not None and request.target.name:  # a watch of one object by its path
        fields = (*fields, FieldTerm("metadata.name", request.target.name))
    if not labels and not fields:
        return None

    needles = _needles(labels, fields)

    def match(entry: Cached) -> bool:
        raw = entry.raw
        for needle in needles:
            if needle not in raw:
                return False
        document = entry.document
        if labels and not matches(labels, document["metadata"].get("labels") or {}):
            return False
        return not fields or matches_fields(fields, document)

    return match


def _needles(labels: Selector, fields: tuple[FieldTerm, ...]) -> tuple[bytes, ...]:
    """Bytes that the JSON of every match holds: looking for them takes a thirtieth of the time of parsing it."""
    wanted = [term.value for term in fields if term.value and not term.negated and term.path not in _NOT_TEXT]
    wanted += [term.values[0] for term in labels if term.operator == "In" and len(term.values) == 1]
    return tuple(msgspec.json.encode(value) for value in wanted if value)


def _labels(text: str) -> Selector:
    try:
        return parse_labels(text)
    except ValueError as error:
        raise BadRequest(str(error), details={}) from error


def _fields(text: str, kind: Kind) -> tuple[FieldTerm, ...]:
    try:
        terms = parse_fields(text)
    except ValueError as error:
        raise BadRequest(str(error), details={}) from error
    allowed = _COMMON | _FIELDS.get((kind.stored.group, kind.stored.plural), frozenset())
    found = []
    for term in terms:
        path = term.path
        if kind.stored.plural == "events":
            head, dot, tail = path.partition(".")
            path = _EVENT_ALIASES.get(head, head) + dot + tail if head in {"regarding", "reportingController"} else path
        if path not in allowed:
            raise BadRequest(
                f'Unable to find "{kind.resource.group}/{kind.resource.version}, Resource={kind.resource.plural}" that'
                f' match label selector "", field selector "{text}": field label not supported: {term.path}',
                details={},
            )
        found.append(_resolved(path, term))
    return tuple(found)


def _resolved(path: str, term: FieldTerm) -> FieldTerm:
    value = term.value
    if path in {"spec.unschedulable", "spec.hostNetwork"} and value == "false":
        value = ""  # absent is false
    if path == "source":
        path = "source.component"
    return FieldTerm(path, value, term.negated)
