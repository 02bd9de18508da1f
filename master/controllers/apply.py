"""Apply a plan's actions through the API: thin, no policy. What a write left is taken into the informers at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from labctl.kube.client import Client
from labctl.kube.errors import Conflict, Document, NotFound
from labctl.kube.events import Recorder
from labctl.kube.informer import Informer
from labctl.kube.resources import NAMESPACES, Resource
from master.controllers.fence_client import nobody
from master.controllers.protocol import (
    Action,
    ConfirmAbsent,
    ConfirmEmpty,
    ConfirmUnmoved,
    Create,
    Delete,
    Finalize,
    Patch,
    PowerOff,
    Step,
    Tell,
)


class Applier:
    """Performs actions with `client`, tells Events through `recorder`."""

    def __init__(
        self,
        client: Client,
        recorder: Recorder,
        informers: Mapping[Resource, Informer[Any]],
        power_off: Callable[[str], str] = nobody,
    ) -> None:
        self._client, self._recorder, self._informers, self._power_off = client, recorder, informers, power_off

    def perform(self, step: Step, action: Action) -> None:
        """Do one action of `step`; raises ApiError where it cannot be done, LeadershipLost where it must not."""
        match action:
            case Tell():
                self._recorder.event(action.about or step.about, action.type, action.reason, action.message)
            case Create():
                self._absorb(action.resource, self._client.create(action.resource, action.body, action.namespace))
            case Patch():
                self._patch(action)
            case Delete():
                self._delete(action)
            case ConfirmAbsent():
                self._confirm_absent(action)
            case ConfirmUnmoved():
                self._confirm_unmoved(action)
            case PowerOff():
                evidence = self._power_off(action.node)
                self._recorder.event(step.about, "Normal", "Fenced", f"Machine {action.node} is off: {evidence}")
            case ConfirmEmpty():
                self._confirm_empty(action)
            case Finalize():
                self._finalize(action)

    def fail(self, step: Step, error: Exception) -> None:
        """Tell that `step` failed, where it wants that told."""
        if step.failure_reason:
            message = f"{step.failure_prefix}{error}"
            for about in (step.about, *step.failure_also):
                self._recorder.event(about, "Warning", step.failure_reason, message)

    def _absorb(self, resource: Resource, document: Document) -> None:
        informer = self._informers.get(resource)
        if informer is not None and document.get("kind") == resource.kind:
            informer.absorb(document)

    def _patch(self, action: Patch) -> None:
        answer = self._client.patch(
            action.resource,
            action.name,
            action.body,
            action.namespace,
            subresource=action.subresource,
            kind=action.kind,
        )
        self._absorb(action.resource, answer)

    def _delete(self, action: Delete) -> None:
        key = f"{action.namespace}/{action.name}" if action.namespace else action.name
        informer = self._informers.get(action.resource)
        try:
            answer = self._client.delete(
                action.resource,
                action.name,
                action.namespace,
                uid=action.uid,
                resource_version=action.resource_version,
                grace_s=action.grace_s,
                propagation=action.propagation,
            )
        except NotFound:
            answer = {}
        if informer is None:
            return
        if _stands(answer):
            self._absorb(action.resource, answer)
        else:
            informer.absorb_gone(key, action.uid)

    def _confirm_absent(self, action: ConfirmAbsent) -> None:
        try:
            found = self._client.get(action.resource, action.name, action.namespace)
        except NotFound:
            return
        if not action.uid or found["metadata"]["uid"] == action.uid:
            raise Conflict(f"{action.resource.qualified} {action.name!r} is there after all")

    def _confirm_unmoved(self, action: ConfirmUnmoved) -> None:
        try:
            found = self._client.get(action.resource, action.name, action.namespace)["metadata"]["resourceVersion"]
        except NotFound:
            found = ""
        if found != action.resource_version:
            raise Conflict(f"{action.resource.qualified} {action.name!r} has moved after all")

    def _confirm_empty(self, action: ConfirmEmpty) -> None:
        for resource in action.kinds:
            if self._client.list(resource, action.namespace, limit=1, metadata_only=True).items:
                raise Conflict(f"namespace {action.namespace!r} still holds {resource.qualified}")

    def _finalize(self, action: Finalize) -> None:
        found = self._client.get(NAMESPACES, action.namespace)
        finalizers = [name for name in found.get("spec", {}).get("finalizers", ()) if name != "kubernetes"]
        found["spec"] = {**found.get("spec", {}), "finalizers": finalizers}
        self._client.update(NAMESPACES, action.namespace, found, subresource="finalize")


def _stands(answer: Document) -> bool:
    """Whether a delete's answer is an object that waits for its grace period or finalizers, not its obituary."""
    meta = answer.get("metadata") or {}
    if answer.get("kind") == "Status" or not meta.get("deletionTimestamp"):
        return False
    return bool(meta.get("finalizers")) or bool(meta.get("deletionGracePeriodSeconds"))
