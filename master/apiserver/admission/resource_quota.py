"""ResourceQuota: nothing is stored that a quota of its namespace does not allow; a quota itself begins with a count."""

from __future__ import annotations

from master.apiserver.admit import Attributes, World
from master.apiserver.quota import QUOTAS, UNCOUNTED, Quotas

# What a change of an object may use more of; status and the rest never do.
_GROWING = frozenset({"services", "persistentvolumeclaims", "pods"})


class _ResourceQuota:
    name = "ResourceQuota"
    order = 1000
    operations = frozenset({"create", "update"})
    resources: frozenset[str] = frozenset()
    last = True  # a quota is charged only for what is valid

    def admit(self, write: Attributes, world: World) -> None:
        assert write.document is not None
        resource, document = write.kind.resource, write.document
        if not resource.namespaced or resource.plural in UNCOUNTED or write.kind.virtual:
            return
        if write.operation == "create" and write.subresource:
            return  # a token, say, is no object
        quotas = Quotas(world.storage, world.registry)
        if write.kind.stored == QUOTAS and not write.subresource:
            old = write.old or {}
            if (document.get("spec") or {}) != (old.get("spec") or {}) or not document.get("status"):
                document["status"] = quotas.status(document)
        if write.operation == "update" and (resource.plural not in _GROWING or write.subresource not in {"", "resize"}):
            return
        quotas.charge(write.kind, write.name, document, write.old, dry_run=write.dry_run)


ADMISSION = _ResourceQuota()
