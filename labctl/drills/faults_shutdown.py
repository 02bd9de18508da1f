"""An orderly shutdown of a machine, as by its administrator, and pods on it by whose end the order can be seen."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from labctl.drills.faults import inside
from labctl.drills.target import Target
from labctl.drills.undo import Action, DeleteObject, PowerOn
from labctl.drills.workload import IMAGE
from labctl.kube.errors import AlreadyExists, Document, NotFound
from labctl.kube.resources import PODS
from labctl.runtime.clock import Clock
from labctl.runtime.errors import DeadlineExceeded
from labctl.runtime.loop import wait_for
from labctl.vm.provider import Power

ORDINARY, CRITICAL = "labctl-drill-ordinary", "labctl-drill-critical"
_PRIORITY = {ORDINARY: "", CRITICAL: "system-node-critical"}
_GRACE_S = 2  # `sleep` as process 1 hears no SIGTERM: it ends when this is over
_RUNNING_S, _BOOT_S, _DOWN_S = 60.0, 120.0, 60.0


@dataclass(frozen=True, slots=True)
class Guests:
    """An ordinary and a critical pod on a node, which nobody replaces."""

    node: str
    namespace: str

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"place an ordinary and a critical pod on {self.node}"

    @property
    def nodes(self) -> tuple[str, ...]:
        """See `Fault`."""
        return ()

    def heals(self, target: Target) -> tuple[Action, ...]:  # noqa: ARG002 - a Fault's signature
        """See `Fault`."""
        return tuple(
            DeleteObject(plural=PODS.plural, group=PODS.group, namespace=self.namespace, name=name)
            for name in _PRIORITY
        )

    def inject(self, target: Target) -> None:
        """See `Fault`."""
        for name in _PRIORITY:
            with contextlib.suppress(AlreadyExists):
                target.client.create(PODS, self._pod(name), self.namespace)

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """Both run."""
        try:
            wait_for(
                lambda: all(self._runs(target, name) for name in _PRIORITY),
                what=f"{' and '.join(_PRIORITY)} to run on {self.node}",
                deadline_s=_RUNNING_S * max(1.0, target.slowness),
                clock=clock,
            )
        except DeadlineExceeded as error:
            return False, str(error)
        return True, f"{' and '.join(_PRIORITY)} run on {self.node}"

    def _runs(self, target: Target, name: str) -> bool:
        with contextlib.suppress(NotFound):
            return bool((target.client.get(PODS, name, self.namespace).get("status") or {}).get("phase") == "Running")
        return False

    def _pod(self, name: str) -> Document:
        container = {
            "name": "sleep",
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sleep", "86400"],
            "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "16Mi"}},
        }
        spec: Document = {
            "nodeName": self.node,
            "terminationGracePeriodSeconds": _GRACE_S,
            "tolerations": [{"operator": "Exists"}],  # no taint ends them: only the kubelet does
            "containers": [container],
        }
        if _PRIORITY[name]:
            spec["priorityClassName"] = _PRIORITY[name]
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@dataclass(frozen=True, slots=True)
class ShutDown:
    """`systemctl poweroff` on the machine itself."""

    node: str

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"shut {self.node} down in order"

    @property
    def nodes(self) -> tuple[str, ...]:
        """See `Fault`."""
        return (self.node,)

    def heals(self, target: Target) -> tuple[Action, ...]:
        """See `Fault`."""
        return (PowerOn(node=self.node, boot_s=_BOOT_S * max(1.0, target.slowness)),)

    def inject(self, target: Target) -> None:
        """It answers before it goes."""
        inside(target, self.node, "systemctl --no-block poweroff")

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """It is off, by its own doing: the provider says so, and its ssh port is silent."""
        deadline_s = target.profile.shutdown_grace_s + _DOWN_S * max(1.0, target.slowness)
        try:
            wait_for(
                lambda: target.power(self.node) is Power.OFF and not target.answers(self.node, timeout_s=0.5),
                what=f"{self.node} to shut down",
                deadline_s=deadline_s,
                clock=clock,
                every_s=0.25,
            )
        except DeadlineExceeded as error:
            return False, str(error)
        return True, f"{self.node} is off and silent"
