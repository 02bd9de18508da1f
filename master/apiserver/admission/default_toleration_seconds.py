"""DefaultTolerationSeconds: how long a pod stays on a node that went silent, where it does not say itself."""

from __future__ import annotations

from typing import Any

from master.apiserver.admit import Attributes, World

_KEYS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


class _DefaultTolerationSeconds:
    name = "DefaultTolerationSeconds"
    order = 40
    operations = frozenset({"create", "update"})
    resources = frozenset({"pods"})

    def admit(self, write: Attributes, world: World) -> None:
        assert write.document is not None
        if write.subresource:
            return
        spec = write.document["spec"]
        given = list(spec.get("tolerations") or ())
        missing = [key for key in _KEYS if not any(_tolerates(entry, key) for entry in given)]
        if missing:
            seconds = world.profile.toleration_s
            spec["tolerations"] = given + [
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
                for key in missing
            ]


def _tolerates(toleration: dict[str, Any], key: str) -> bool:
    return toleration.get("key", "") in {"", key} and toleration.get("effect", "") in {"", "NoExecute"}


ADMISSION = _DefaultTolerationSeconds()
