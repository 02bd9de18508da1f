"""A Deployment's replica sets: whose template is whose, their revisions, and the body of a new one. Pure.

Source: k/k `pkg/controller/deployment/util/deployment_util.go` (EqualIgnoreHash, SetNewReplicaSetAnnotations),
`sync.go` (getNewReplicaSet).
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from labctl.kube.errors import Document
from labctl.kube.resources import DEPLOYMENTS, REPLICA_SETS
from master.controllers.pods import canonical, short_hash
from master.controllers.protocol import owner_reference
from master.controllers.rollout import DESIRED, MAXIMUM, Bounds
from master.controllers.views_deployments import Deployment, ReplicaSet

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
_HISTORY_CHARS = 2_000  # older revisions fall out, as upstream's maxRevHistoryLengthInChars
_NOT_COPIED = {REVISION, HISTORY, DESIRED, MAXIMUM, "kubectl.kubernetes.io/last-applied-configuration"}
_NOT_COPIED |= {"deprecated.deployment.rollback.to"}


def template_key(template: msgspec.Raw) -> bytes:
    """Equal for templates that are the same but for their hash label."""
    return _key(bytes(template))


@lru_cache(maxsize=4_096)
def _key(template: bytes) -> bytes:
    return canonical(_without_hash(msgspec.json.decode(template)))


def _without_hash(template: Document) -> Document:
    """The template as its Deployment has it; empty and null metadata fields count as absent."""
    meta = dict(template.get("metadata") or {})
    labels = {key: value for key, value in (meta.pop("labels", None) or {}).items() if key != HASH_LABEL}
    kept = {key: value for key, value in meta.items() if value}
    return {**template, "metadata": {**kept, **({"labels": labels} if labels else {})}}


def revision_of(one: ReplicaSet) -> int:
    """The set's revision; 0 where it has none."""
    text = one.metadata.annotations.get(REVISION, "")
    return int(text) if text.isdigit() else 0


def with_revision(history: str, revision: int) -> str:
    """The list of a set's former revisions with one more, the oldest left out where it grows too long."""
    past = [*(history.split(",") if history else ()), str(revision)]
    while len(past) > 1 and len(",".join(past)) > _HISTORY_CHARS:
        past.pop(0)
    return ",".join(past)


def annotations_of(item: Deployment) -> dict[str, str]:
    """Those of a Deployment that its newest set carries too."""
    return {key: value for key, value in item.metadata.annotations.items() if key not in _NOT_COPIED}


def sizes_of(limit: Bounds) -> dict[str, str]:
    """What a set notes of its Deployment's size, to share out a later change of it."""
    return {DESIRED: str(limit.replicas), MAXIMUM: str(limit.most)}


def new_set(item: Deployment, replicas: int, revision: int, limit: Bounds) -> Document:
    """The set of today's template; its name follows from the template and the count of collisions."""
    template: Document = msgspec.json.decode(item.spec.template)
    collisions = str(item.status.collision_count or "")
    digest = short_hash(template_key(item.spec.template).decode(), collisions, length=10)
    meta = dict(template.get("metadata") or {})
    meta["labels"] = {**(meta.get("labels") or {}), HASH_LABEL: digest}
    selector = {key: value for key, value in msgspec.to_builtins(item.spec.selector).items() if value}
    selector["matchLabels"] = {**selector.get("matchLabels", {}), HASH_LABEL: digest}
    return {
        "apiVersion": REPLICA_SETS.api_version,
        "kind": REPLICA_SETS.kind,
        "metadata": {
            "name": f"{item.metadata.name}-{digest}",
            "namespace": item.metadata.namespace,
            "labels": meta["labels"],
            "annotations": annotations_of(item) | sizes_of(limit) | {REVISION: str(revision)},
            "ownerReferences": [owner_reference(DEPLOYMENTS, item.metadata)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": item.spec.min_ready_seconds,
            "selector": selector,
            "template": {**template, "metadata": meta},
        },
    }
