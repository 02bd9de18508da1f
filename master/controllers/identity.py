"""A StatefulSet's identities: ordinals, names, the pods and claims that belong to one. Pure.

Source: k/k `pkg/controller/statefulset/stateful_set_utils.go`, `stateful_pod_control.go`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from labctl.kube.errors import Document
from labctl.kube.resources import PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS
from master.controllers.claiming import pod_of
from master.controllers.pods import is_available, is_ready
from master.controllers.protocol import Create, Patch, Tell, World, patch
from master.controllers.revisions import POD_LABEL
from master.controllers.views import Pod
from master.controllers.views_apps import CLAIMS_KIND, Claim, StatefulSet

NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"
_NAME = re.compile(r"(.*)-(0|[1-9][0-9]{0,8})")


def ordinal_of(item: StatefulSet, pod: Pod) -> int | None:
    """The pod's ordinal, where its name is one of the set's."""
    found = _NAME.fullmatch(pod.metadata.name)
    return int(found[2]) if found and found[1] == item.metadata.name else None


def labels_of(name: str, ordinal: int) -> dict[str, str]:
    """What marks an identity."""
    return {NAME_LABEL: name, INDEX_LABEL: str(ordinal)}


def pod_body(item: StatefulSet, template: Document, revision: str, ordinal: int) -> Document:
    """The pod of an identity: its name is its hostname, its claims are volumes of the templates' names."""
    name = f"{item.metadata.name}-{ordinal}"
    claims = {_claim_name(claim): f"{_claim_name(claim)}-{name}" for claim in item.spec.volume_claim_templates}
    volumes = [
        {"name": volume, "persistentVolumeClaim": {"claimName": claim, "readOnly": False}}
        for volume, claim in claims.items()
    ]
    kept = [volume for volume in (template.get("spec") or {}).get("volumes") or () if volume["name"] not in claims]
    more = {"volumes": [*volumes, *kept]} if volumes or kept else {}
    if item.spec.service_name:
        more["subdomain"] = item.spec.service_name  # type: ignore[assignment]
    labels = {**labels_of(name, ordinal), POD_LABEL: revision}
    return pod_of(template, STATEFUL_SETS, item.metadata, name, labels=labels, hostname=name, **more)


def identity_patch(item: StatefulSet, pod: Pod, ordinal: int) -> Patch | None:
    """What puts an identity's labels back where somebody took them off."""
    wanted = labels_of(f"{item.metadata.name}-{ordinal}", ordinal)
    if wanted.items() <= pod.metadata.labels.items():
        return None
    return patch(PODS, pod.metadata, {"metadata": {"labels": wanted}})


def is_up(pod: Pod) -> bool:
    """Running and ready; a pod on its way out may still be."""
    return pod.status.phase == "Running" and is_ready(pod)


def is_serving(item: StatefulSet, pod: Pod, world: World) -> bool:
    """Running, ready for long enough, and staying."""
    enough = is_available(pod, item.spec.min_ready_seconds, world.now)
    return is_up(pod) and enough and not pod.metadata.deleting


class Claims:
    """The claims of a set's identities."""

    def __init__(self, item: StatefulSet, world: World) -> None:
        self._item, self._known = item, world.all(CLAIMS_KIND)

    def missing(self, ordinal: int) -> Iterator[Create | Tell]:
        """Create the claims that an identity lacks, each with an Event."""
        item = self._item
        pod = f"{item.metadata.name}-{ordinal}"
        for template in item.spec.volume_claim_templates:
            name = f"{_claim_name(template)}-{pod}"
            if f"{item.metadata.namespace}/{name}" in self._known:
                continue
            yield Create(
                resource=PERSISTENT_VOLUME_CLAIMS,
                namespace=item.metadata.namespace,
                body=self._body(template, name),
            )
            told = f"create Claim {name} Pod {pod} in StatefulSet {item.metadata.name} success"
            yield Tell(reason="SuccessfulCreate", message=told)

    def stale(self, ordinal: int) -> bool:
        """Whether a claim is on its way out: with its former pod, or by hand. Its name is not free yet."""
        return any(claim.metadata.deleting or _owner(claim, "Pod") for claim in self._of(ordinal))

    def retention(self, ordinal: int, condemned: Pod | None = None) -> Iterator[Patch]:
        """Give each claim the owner that its set's retention policy asks for, and no other of ours."""
        item, policy = self._item, self._item.spec.persistent_volume_claim_retention_policy
        for claim in self._of(ordinal):
            wanted: dict[str, Document] = {}
            if condemned is not None and policy.when_scaled == "Delete":
                wanted["Pod"] = _reference("v1", "Pod", condemned.metadata.name, condemned.metadata.uid)
            elif policy.when_deleted == "Delete":
                meta = item.metadata
                wanted["StatefulSet"] = _reference(STATEFUL_SETS.api_version, "StatefulSet", meta.name, meta.uid)
            present = {kind: owner for kind in ("Pod", "StatefulSet") if (owner := _owner(claim, kind))}
            if present != {kind: one["uid"] for kind, one in wanted.items()}:
                kept = [
                    _reference(owner.api_version, owner.kind, owner.name, owner.uid)
                    for owner in claim.metadata.owner_references
                    if owner.kind not in present
                ]
                body: Document = {"metadata": {"ownerReferences": [*kept, *wanted.values()]}}
                yield patch(PERSISTENT_VOLUME_CLAIMS, claim.metadata, body, exact=True)

    def _of(self, ordinal: int) -> Iterator[Claim]:
        item = self._item
        for template in item.spec.volume_claim_templates:
            key = f"{item.metadata.namespace}/{_claim_name(template)}-{item.metadata.name}-{ordinal}"
            if key in self._known:
                yield self._known[key]

    def _body(self, template: Mapping[str, Document], name: str) -> Document:
        item = self._item
        given = template.get("metadata") or {}
        labels = {**(given.get("labels") or {}), **item.spec.selector.match_labels}
        meta: Document = {"name": name, "namespace": item.metadata.namespace, "labels": labels}
        if given.get("annotations"):
            meta["annotations"] = given["annotations"]
        if item.spec.persistent_volume_claim_retention_policy.when_deleted == "Delete":
            owner = item.metadata
            meta["ownerReferences"] = [_reference(STATEFUL_SETS.api_version, "StatefulSet", owner.name, owner.uid)]
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": template.get("spec")}


def _claim_name(template: Mapping[str, Document]) -> str:
    return str((template.get("metadata") or {}).get("name", ""))


def _owner(claim: Claim, kind: str) -> str:
    """The uid of the claim's owner of a kind."""
    return next((owner.uid for owner in claim.metadata.owner_references if owner.kind == kind), "")


def _reference(api_version: str, kind: str, name: str, uid: str) -> Document:
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid}
