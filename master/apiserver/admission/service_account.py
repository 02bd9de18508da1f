"""ServiceAccount: a pod without one runs as `default` of its namespace. Tokens are mounted by a later issue."""

from __future__ import annotations

from master.apiserver.admit import Attributes, World


class _ServiceAccount:
    name = "ServiceAccount"
    order = 50
    operations = frozenset({"create"})
    resources = frozenset({"pods"})

    def admit(self, write: Attributes, world: World) -> None:  # noqa: ARG002 - the protocol's
        assert write.document is not None
        if write.subresource:
            return
        spec = write.document["spec"]
        if not spec.get("serviceAccountName"):
            spec["serviceAccountName"] = spec["serviceAccount"] = "default"


ADMISSION = _ServiceAccount()
