"""NamespaceLifecycle: nothing is created in a namespace that is missing or ending; the system's own are kept."""

from __future__ import annotations

from labctl.kube.errors import Forbidden
from labctl.kube.resources import NAMESPACES
from master.apiserver import problems
from master.apiserver.admit import Attributes, World

_IMMORTAL = frozenset({"default", "kube-system", "kube-public"})
# Reviews create nothing, so they need no namespace.
_NOT_STORED = frozenset({"localsubjectaccessreviews"})


class _NamespaceLifecycle:
    name = "NamespaceLifecycle"
    order = 10
    operations = frozenset({"create", "delete"})
    resources: frozenset[str] = frozenset()

    def admit(self, write: Attributes, world: World) -> None:
        resource = write.kind.resource
        if write.operation == "delete":
            if resource.plural == "namespaces" and write.name in _IMMORTAL:
                raise problems.forbidden(NAMESPACES, write.name, "this namespace may not be deleted")
            return
        if not resource.namespaced or not write.namespace or resource.plural in _NOT_STORED:
            return
        kind = world.registry.of(NAMESPACES)
        found = world.storage.cache(kind).get(kind.key("", write.namespace))
        if found is None:  # it may be younger than the cache
            found = world.storage.get(kind, "", write.namespace)
        if found.document["metadata"].get("deletionTimestamp"):
            raise _terminating(write)


def _terminating(write: Attributes) -> Forbidden:
    why = f"unable to create new content in namespace {write.namespace} because it is being terminated"
    error = problems.forbidden(write.kind.resource, write.name, why)
    message = f"namespace {write.namespace} is being terminated"
    error.details["causes"] = [{"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}]
    return error


ADMISSION = _NamespaceLifecycle()
