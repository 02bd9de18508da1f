"""The ways out of a silent node for a StatefulSet's identity that upstream knows, as a person takes them.

`identity.py` makes the set; each step waits until the identity's pod on the node is condemned, acts, and took once the
identity is Ready on another node. Which of them are safe is what the drill shows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from labctl.drills import views
from labctl.drills.actions import OUT_OF_SERVICE, Action, Rejoin, Untaint, boot_s, changed_taints
from labctl.drills.faults import OnNode
from labctl.drills.identity import POD
from labctl.drills.pace import stretched_s
from labctl.drills.records import NodeSeen, PodSeen
from labctl.drills.target import Target
from labctl.kube.errors import NotFound
from labctl.kube.resources import NODES, PODS
from labctl.runtime.clock import Clock
from labctl.runtime.loop import wait_for

_PATIENCE_S = 90.0  # beyond the profile's own timers


@dataclass(frozen=True, slots=True)
class _OfIdentity(OnNode, ABC):
    """What they share: the node that is struck, and the workload's namespace."""

    unfolds: ClassVar[bool] = True
    namespace: str

    def heals(self, target: Target) -> tuple[Action, ...]:  # noqa: ARG002 - a Fault's signature
        """See `Fault`."""
        return ()

    def inject(self, target: Target) -> None:
        """See `took`: what is done has to be waited for."""

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """Act once the identity on the node is condemned; it took when the identity is Ready on another."""
        self._await(target, clock, f"{POD} on {self.node} to be condemned", self._condemned)
        self._act(target)
        found = self._await(target, clock, f"{POD} to be Ready elsewhere", self._elsewhere)
        return True, f"{POD} is Ready on {found.node}"

    @abstractmethod
    def _act(self, target: Target) -> None:
        """What the person does about the condemned pod."""

    def _condemned(self, pod: PodSeen | None) -> bool:
        return pod is not None and pod.node == self.node and pod.deleting

    def _elsewhere(self, pod: PodSeen | None) -> bool:
        return pod is not None and pod.ready and not pod.deleting and pod.node != self.node

    def _await(self, target: Target, clock: Clock, what: str, ready: Callable[[PodSeen | None], bool]) -> PodSeen:
        def look() -> PodSeen | None:
            pod = self._pod(target)
            return pod if ready(pod) else None

        profile = target.profile
        timers_s = profile.node_monitor_grace_s + profile.toleration_s + profile.pod_gc_period_s
        deadline_s = timers_s + profile.pod_gc_quarantine_s + stretched_s(_PATIENCE_S, target.slowness)
        return wait_for(look, what=what, deadline_s=deadline_s, clock=clock, every_s=0.2)

    def _pod(self, target: Target) -> PodSeen | None:
        try:
            found = target.client.get(PODS, POD, self.namespace)
        except NotFound:
            return None
        return views.pod("NOW", msgspec.Raw(msgspec.json.encode(found)))


@dataclass(frozen=True, slots=True)
class OutOfService(_OfIdentity):
    """Taint the node `out-of-service`, which says that its machine is off: its condemned pods are removed by force."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"taint {self.node} {OUT_OF_SERVICE}, for its machine is known to be off"

    def heals(self, target: Target) -> tuple[Action, ...]:  # noqa: ARG002 - a Fault's signature
        """See `Fault`."""
        return (Untaint(node=self.node),)

    def _act(self, target: Target) -> None:
        taint = {"key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}
        changed_taints(target, self.node, lambda taints: [*taints, taint])


@dataclass(frozen=True, slots=True)
class DeleteNode(_OfIdentity):
    """Delete the Node of a machine that is off: its pods are orphans, and removed. It joins anew when it boots."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"delete the Node {self.node}, for its machine is known to be off"

    def heals(self, target: Target) -> tuple[Action, ...]:
        """See `Fault`."""
        return (Rejoin(node=self.node, boot_s=boot_s(target)),)

    def _act(self, target: Target) -> None:
        target.client.delete(NODES, self.node)


@dataclass(frozen=True, slots=True)
class ForceDelete(_OfIdentity):
    """Delete the identity's pod with grace 0, though nobody knows whether it still runs."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"delete {POD} by force, though nobody knows whether it still runs on {self.node}"

    def _act(self, target: Target) -> None:
        target.client.delete(PODS, POD, self.namespace, grace_s=0)


@dataclass(frozen=True, slots=True)
class BringHome(_OfIdentity):
    """Once the node is Ready again, delete the identity's pod in order, so that it is scheduled there again."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"move {POD} back to {self.node} once that is Ready, by an orderly deletion"

    def _condemned(self, pod: PodSeen | None) -> bool:
        """There is nothing to wait for but a pod; the node is awaited in `took`."""
        return pod is not None and pod.ready and not pod.deleting

    def _elsewhere(self, pod: PodSeen | None) -> bool:
        return pod is not None and pod.ready and not pod.deleting and pod.node == self.node

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """The identity is Ready on the node."""
        what = f"{self.node} to be Ready and free of taints"
        deadline_s = stretched_s(_PATIENCE_S, target.slowness)
        wait_for(lambda: self._well(target), what=what, deadline_s=deadline_s, clock=clock, every_s=0.2)
        return _OfIdentity.took(self, target, clock)

    def _act(self, target: Target) -> None:
        pod = self._pod(target)
        if pod is not None and pod.node != self.node:
            target.client.delete(PODS, POD, self.namespace)

    def _well(self, target: Target) -> bool:
        try:
            found: NodeSeen = views.node("NOW", msgspec.Raw(msgspec.json.encode(target.client.get(NODES, self.node))))
        except NotFound:
            return False
        return found.ready == "True" and not found.taints
