"""Which pods belong to an owner: index, adopt, release, and make new ones from a template. Pure.

Source: k/k `pkg/controller/controller_ref_manager.go`, `pkg/controller/controller_utils.go` (GetPodFromTemplate).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from labctl.kube.client import STRATEGIC_PATCH
from labctl.kube.errors import Document
from labctl.kube.meta import ObjectMeta
from labctl.kube.resources import PODS, Resource
from labctl.kube.selectors import Selector, matches
from master.controllers.pods import Labelled, by_controller, is_active
from master.controllers.protocol import NEVER_S, HasMeta, Step, owner_reference, patch, ref
from master.controllers.views import Pod


class Related:
    """Pods by the uid of their owner, those without one by their labels, and when the pass wants to look again."""

    def __init__(self, pods: Iterable[Pod]) -> None:
        self.owned: Mapping[str, list[Pod]] = by_controller(pods)
        self.orphans = Labelled(self.owned.get("", ()))
        self.wake_after_s = NEVER_S

    def wake(self, seconds: float) -> None:
        """Look again after `seconds` at the latest."""
        self.wake_after_s = min(self.wake_after_s, max(0.05, seconds))


def claim(
    resource: Resource,
    meta: ObjectMeta,
    selector: Selector,
    related: Related,
    member: Callable[[Pod], bool] = lambda _: True,
) -> tuple[list[Pod], list[Step]]:
    """The owner's pods, adopted ones included, and the steps that adopt and release.

    `member` narrows what the selector chooses. A pod that no longer matches is let go, alive. An owner that is on its
    way out adopts nobody and lets nobody go: its pods are the garbage collector's.
    """
    mine: list[Pod] = []
    steps: list[Step] = []
    for pod in related.owned.get(meta.uid, ()):
        if matches(selector, pod.metadata.labels) and member(pod):
            mine.append(pod)
        elif not pod.metadata.deleting and not meta.deleting:
            steps.append(release(meta, PODS, pod))
    if not meta.deleting:
        for pod in related.orphans.chosen(meta.namespace, selector):
            if is_active(pod) and member(pod):
                mine.append(pod)
                steps.append(adopt(resource, meta, PODS, pod))
    return mine, steps


def adopt(resource: Resource, meta: ObjectMeta, kind: Resource, stray: HasMeta) -> Step:
    """Become the owner of `stray`, in exactly the version that was looked at."""
    body = {"metadata": {"ownerReferences": [owner_reference(resource, meta)]}}
    change = patch(kind, stray.metadata, body, exact=True, kind=STRATEGIC_PATCH)
    return Step(ref(kind, stray.metadata), (change,))


def release(meta: ObjectMeta, kind: Resource, one: HasMeta) -> Step:
    """Let go, alive, of what no longer matches."""
    body = {"metadata": {"ownerReferences": [{"$patch": "delete", "uid": meta.uid}]}}
    return Step(ref(kind, one.metadata), (patch(kind, one.metadata, body, kind=STRATEGIC_PATCH),))


def pod_of(template: Document, resource: Resource, meta: ObjectMeta, name: str, **more: Any) -> Document:
    """A new pod of an owner; `more` are spec fields, or labels, annotations and finalizers on top of the template's."""
    given = template.get("metadata") or {}
    kept = {key: given[key] for key in ("labels", "annotations", "finalizers") if given.get(key)}
    for key in ("labels", "annotations"):
        if added := more.pop(key, None):
            kept[key] = {**kept.get(key, {}), **added}
    if added := more.pop("finalizers", None):
        kept["finalizers"] = list(dict.fromkeys((*kept.get("finalizers", ()), *added)))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **kept,
            "name": name,
            **({"generateName": f"{meta.name}-"} if more.pop("generated", True) else {}),
            "namespace": meta.namespace,
            "ownerReferences": [owner_reference(resource, meta)],
        },
        "spec": {**(template.get("spec") or {}), **more},
    }


def adopt_all(
    resource: Resource, meta: ObjectMeta, kind: Resource, strays: Sequence[HasMeta], selector: Selector
) -> Iterator[Step]:
    """Adopt what has no owner, matches, and is not on its way out."""
    if meta.deleting:
        return
    for stray in strays:
        if matches(selector, stray.metadata.labels) and not stray.metadata.deleting:
            yield adopt(resource, meta, kind, stray)
