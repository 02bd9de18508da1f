"""TaintNodesByCondition: a new Node takes no pods until the node controller has seen it ready."""

from __future__ import annotations

from master.apiserver.admit import Attributes, World

_NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


class _TaintNodesByCondition:
    name = "TaintNodesByCondition"
    order = 20
    operations = frozenset({"create"})
    resources = frozenset({"nodes"})

    def admit(self, write: Attributes, world: World) -> None:  # noqa: ARG002 - the protocol's
        assert write.document is not None
        spec = write.document.setdefault("spec", {})
        taints = spec.setdefault("taints", [])
        if not any(taint.get("key") == _NOT_READY["key"] and taint.get("effect") == "NoSchedule" for taint in taints):
            taints.append(dict(_NOT_READY))


ADMISSION = _TaintNodesByCondition()
