"""The templates that a StatefulSet or DaemonSet had, as ControllerRevisions, for `kubectl rollout`. Pure.

Source: k/k `pkg/controller/history/controller_history.go`, `pkg/controller/statefulset/stateful_set_control.go`
(getStatefulSetRevisions, truncateHistory), `pkg/controller/daemon/update.go` (constructHistory, cleanupHistory).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from labctl.kube.errors import Document
from labctl.kube.meta import ObjectMeta
from labctl.kube.resources import CONTROLLER_REVISIONS, Resource
from master.controllers.pods import canonical, short_hash
from master.controllers.protocol import Create, Step, World, delete, owner_reference, patch, ref
from master.controllers.views_apps import CONTROLLER_REVISIONS_KIND, ControllerRevision

POD_LABEL = "controller-revision-hash"  # a StatefulSet's pods: the revision's name; a DaemonSet's: its hash


@dataclass(frozen=True, slots=True)
class Wanted:
    """The revision of today's template: `found`, or else the step that makes it so, or a collision of names."""

    found: ControllerRevision | None
    step: Step | None = None
    collided: bool = False


class Histories:
    """Every ControllerRevision: by owner, and those without one by namespace."""

    def __init__(self, world: World) -> None:
        self._every = world.all(CONTROLLER_REVISIONS_KIND)
        self._owned: dict[str, list[ControllerRevision]] = {}
        self.orphans: dict[str, list[ControllerRevision]] = {}
        for revision in self._every.values():
            owner = revision.metadata.controller
            if owner is None:
                self.orphans.setdefault(revision.metadata.namespace, []).append(revision)
            else:
                self._owned.setdefault(owner.uid, []).append(revision)

    def of(self, meta: ObjectMeta) -> list[ControllerRevision]:
        """An owner's revisions, oldest first."""
        found = self._owned.get(meta.uid, [])
        return sorted(found, key=lambda one: (one.revision, one.metadata.creation_timestamp, one.metadata.name))

    def wanted(
        self, resource: Resource, meta: ObjectMeta, template: msgspec.Raw, collisions: int, hash_label: str
    ) -> Wanted:
        """The revision that holds `template`; it always carries the highest number."""
        owned = self.of(meta)
        data = data_of(template)
        number = owned[-1].revision + 1 if owned else 1
        same = [one for one in owned if canonical(msgspec.json.decode(one.data)) == canonical(data)]
        if same and same[-1].revision == owned[-1].revision:
            return Wanted(same[-1])
        about = ref(resource, meta)
        if same:  # back to an old template
            bump = patch(CONTROLLER_REVISIONS, same[-1].metadata, {"revision": number}, exact=True)
            return Wanted(None, Step(about, (bump,)))
        digest = short_hash(canonical(data).decode(), str(collisions or ""), length=10)
        name = f"{meta.name[:223]}-{digest}"
        if f"{meta.namespace}/{name}" in self._every:
            return Wanted(None, collided=True)
        labels = (data["spec"]["template"].get("metadata") or {}).get("labels") or {}
        body = {
            "apiVersion": CONTROLLER_REVISIONS.api_version,
            "kind": CONTROLLER_REVISIONS.kind,
            "metadata": {
                "name": name,
                "namespace": meta.namespace,
                "labels": {**labels, hash_label: digest},
                "annotations": dict(meta.annotations),
                "ownerReferences": [owner_reference(resource, meta)],
            },
            "data": data,
            "revision": number,
        }
        create = Create(resource=CONTROLLER_REVISIONS, namespace=meta.namespace, body=body)
        return Wanted(None, Step(about, (create,), failure_reason="FailedCreate"))


def data_of(template: msgspec.Raw) -> Document:
    """What a revision keeps: a strategic merge patch that puts the whole template back."""
    return {"spec": {"template": {**msgspec.json.decode(template), "$patch": "replace"}}}


def template_of(revision: ControllerRevision) -> Document:
    """The template that a revision keeps."""
    template: Document = dict(msgspec.json.decode(revision.data)["spec"]["template"])
    template.pop("$patch", None)
    return template


def forget(owned: Sequence[ControllerRevision], live: Iterable[str], limit: int) -> Iterator[Step]:
    """Delete the oldest revisions beyond `limit` that no pod and no status names (`live`)."""
    kept = set(live)
    past = [one for one in owned if one.metadata.name not in kept and not one.metadata.deleting]
    for one in past[: max(0, len(past) - limit)]:
        yield Step(ref(CONTROLLER_REVISIONS, one.metadata), (delete(CONTROLLER_REVISIONS, one.metadata),))
