"""Quotas are charged before an object is stored and given back when it is gone, by compare-and-swap on `status.used`.

Upstream's admission charges and its controller recounts. Here the API server does both: it counts when a quota is made
or changed and once at every start, and in between adds and subtracts. Source: `plugin/resourcequota/controller.go`.
"""

from __future__ import annotations

import contextlib
from typing import Any

from labctl.kube import quota
from labctl.kube.errors import ApiError, Forbidden
from labctl.kube.resources import Resource, builtin
from master.apiserver import problems
from master.apiserver.registry import Kind, Registry
from master.apiserver.storage import Storage
from master.apiserver.watchcache import Cached

Document = dict[str, Any]

QUOTAS = builtin("resourcequotas")
# Kinds that are written all the time and that nobody counts: not worth a look.
UNCOUNTED = frozenset({"leases", "events", "endpointslices", "localsubjectaccessreviews", "bindings"})


class Quotas:
    """Charges and gives back; keeps nothing itself."""

    def __init__(self, storage: Storage, registry: Registry) -> None:
        self._storage, self._registry = storage, registry
        self._kind = registry.of(QUOTAS)

    def _of(self, namespace: str) -> list[Cached]:
        if not namespace:
            return []
        found, _ = self._storage.cache(self._kind).list(self._kind.scope(namespace))
        return list(found)

    def charge(self, kind: Kind, name: str, new: Document, old: Document | None, *, dry_run: bool) -> None:
        """Take what `new` uses beyond `old` from every quota that counts it; Forbidden where that is too much."""
        namespace = new["metadata"].get("namespace", "")
        entries = self._of(namespace)
        if not entries:
            return
        group, plural = kind.stored.group, kind.stored.plural
        used = quota.usage(group, plural, new)
        had = quota.usage(group, plural, old) if old is not None else {}
        paid: list[tuple[str, quota.Amounts]] = []
        try:
            for entry in entries:
                found = entry.document
                spec = found.get("spec") or {}
                names = quota.counts(group, plural, spec.get("hard") or ())
                if not names or not quota.matches(spec, group, plural, new):
                    continue
                before = had if old is not None and quota.matches(spec, group, plural, old) else {}
                more = {key: amount for key, amount in quota.minus(used, before).items() if key in names}
                if plural == "pods" and old is None and (told := quota.missing(names, new.get("spec") or {})):
                    raise _refused(kind.resource, name, f"failed quota: {found['metadata']['name']}: {told}")
                if more:
                    self._take(found["metadata"]["name"], namespace, more, (kind.resource, name), dry_run=dry_run)
                    paid.append((found["metadata"]["name"], more))
        except ApiError:
            if not dry_run:
                for which, amounts in paid:
                    self._give(which, namespace, amounts)
            raise

    def _take(
        self, which: str, namespace: str, more: quota.Amounts, about: tuple[Resource, str], *, dry_run: bool
    ) -> None:
        def change(document: Document) -> Document:
            status = document.get("status") or {}
            hard, used = status.get("hard") or {}, status.get("used") or {}
            asked = {name: amount for name, amount in more.items() if name in hard}
            total = quota.plus(used, asked)
            if over := quota.exceeded({name: total[name] for name in asked}, hard):
                told = f"exceeded quota: {which}, requested: {quota.shown(asked, over)}"
                told += f", used: {quota.shown(used, over)}, limited: {quota.shown(hard, over)}"
                raise _refused(*about, told)
            document["status"] = {**status, "used": total}
            return document

        self._storage.change(self._kind, namespace, which, change, dry_run=dry_run)

    def _give(self, which: str, namespace: str, amounts: quota.Amounts) -> None:
        def change(document: Document) -> Document:
            status = document.get("status") or {}
            used = dict(status.get("used") or {})
            for name in amounts.keys() & used.keys():
                used[name] = quota.minus({name: used[name]}, amounts).get(name, "0")
            document["status"] = {**status, "used": used}
            return document

        with contextlib.suppress(ApiError):  # the quota is gone; or a count at the next start mends it
            self._storage.change(self._kind, namespace, which, change)

    @property
    def in_use(self) -> bool:
        """Whether there is any quota at all."""
        return len(self._storage.cache(self._kind)) > 0

    def release(self, kind: Kind, old: Document, new: Document | None = None) -> None:
        """Give back what `old` used and `new` (None: it is gone) does not."""
        namespace = old["metadata"].get("namespace", "")
        entries = self._of(namespace)
        group, plural = kind.stored.group, kind.stored.plural
        if not entries or plural in UNCOUNTED:
            return
        less = quota.minus(quota.usage(group, plural, old), quota.usage(group, plural, new) if new else {})
        for entry in entries:
            spec = entry.document.get("spec") or {}
            names = quota.counts(group, plural, spec.get("hard") or ())
            back = {name: amount for name, amount in less.items() if name in names}
            if back and quota.matches(spec, group, plural, old):
                self._give(entry.document["metadata"]["name"], namespace, back)

    def status(self, document: Document) -> Document:
        """The status of a quota, counted afresh."""
        spec, namespace = document.get("spec") or {}, document["metadata"].get("namespace", "")
        hard = spec.get("hard") or {}
        used = quota.zero(hard)
        for kind in self._registry.all():
            if kind.virtual or kind.conversion or not kind.resource.namespaced:
                continue
            group, plural = kind.resource.group, kind.resource.plural
            names = quota.counts(group, plural, hard)
            if not names:
                continue
            for entry in self._storage.current(kind).list(kind.scope(namespace))[0]:
                if quota.matches(spec, group, plural, entry.document):
                    found = quota.usage(group, plural, entry.document)
                    used = quota.plus(used, {name: amount for name, amount in found.items() if name in names})
        return {"hard": dict(hard), "used": used}

    def recount(self) -> None:
        """Count every quota's use afresh: what a crash left is mended."""
        for entry in self._storage.current(self._kind).list()[0]:
            metadata = entry.document["metadata"]

            def change(document: Document) -> Document:
                document["status"] = self.status(document)
                return document

            with contextlib.suppress(ApiError):
                self._storage.change(self._kind, metadata["namespace"], metadata["name"], change)


def _refused(resource: Resource, name: str, told: str) -> Forbidden:
    return problems.forbidden(resource, name, told)
