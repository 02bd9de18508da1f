"""What people do to a cluster through its API, as a drill's steps: pods deleted, nodes drained, budgets set.

Each is given the workload's namespace and selector; evidence is what the API shows afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from labctl.drills import views
from labctl.drills.actions import Action, DeleteObject, Uncordon
from labctl.drills.faults import OnCluster, OnNode
from labctl.drills.pace import stretched_s
from labctl.drills.records import PodSeen, Scene
from labctl.drills.target import Target
from labctl.kube.errors import AlreadyExists, NotFound, TooManyRequests
from labctl.kube.resources import NODES, PODS, builtin
from labctl.runtime.clock import Clock
from labctl.runtime.loop import wait_for

BUDGETS = builtin("poddisruptionbudgets", "policy")
_GONE_S = 60.0
_AGAIN_S = 0.5  # between two tries of an eviction that a budget forbids; kubectl waits 5 s


@dataclass(frozen=True, slots=True)
class DeletePods(OnCluster):
    """Delete some of the workload's pods on these nodes, so that its endpoints move; their controller makes others."""

    on: tuple[str, ...]
    namespace: str
    selector: Mapping[str, str] = field(hash=False)
    number: int = 1

    @property
    def text(self) -> str:
        """See `Fault`."""
        pods = "a pod" if self.number == 1 else f"{self.number} pods"
        return f"delete {pods} of the workload on {' or '.join(self.on)}"

    def inject(self, target: Target) -> None:
        """See `Fault`."""
        for pod in self._mine(target)[: self.number]:
            with contextlib.suppress(NotFound):
                target.client.delete(PODS, pod.name, pod.namespace)

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """Nothing of the workload is on its way out any more, and as many pods are Ready as before."""
        wait_for(
            lambda: not any(pod.deleting for pod in _pods(target, self.namespace, self.selector)),
            what="the deleted pods to be gone",
            deadline_s=stretched_s(_GONE_S, target.slowness),
            clock=clock,
        )
        return True, "the deleted pods are gone"

    def _mine(self, target: Target) -> list[PodSeen]:
        return [pod for pod in _pods(target, self.namespace, self.selector) if pod.node in self.on and not pod.deleting]


@dataclass(frozen=True, slots=True)
class Budget(OnCluster):
    """A PodDisruptionBudget over the workload, of the drill's own."""

    name: str
    namespace: str
    selector: Mapping[str, str] = field(hash=False)
    min_available: int = 1

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"set the budget {self.name}: at least {self.min_available} pods of the workload"

    def heals(self, target: Target) -> tuple[Action, ...]:  # noqa: ARG002 - a Fault's signature
        """See `Fault`."""
        return (DeleteObject(plural=BUDGETS.plural, group=BUDGETS.group, namespace=self.namespace, name=self.name),)

    def inject(self, target: Target) -> None:
        """See `Fault`."""
        spec = {"minAvailable": self.min_available, "selector": {"matchLabels": dict(self.selector)}}
        meta = {"name": self.name, "namespace": self.namespace}
        body = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": spec}
        with contextlib.suppress(AlreadyExists):
            target.client.create(BUDGETS, body, self.namespace)

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """Its controller has counted the pods."""

        def counted() -> bool:
            status = target.client.get(BUDGETS, self.name, self.namespace).get("status") or {}
            return bool(status.get("expectedPods")) and status.get("observedGeneration", 0) >= 1

        wait_for(counted, what=f"budget {self.name} to be counted", deadline_s=_GONE_S, clock=clock)
        return True, f"budget {self.name} is in force"


@dataclass(frozen=True, slots=True)
class Drain(OnNode):
    """Cordon a node and evict the workload's pods from it, as kubectl does, for at most `patience_s`.

    `blocked`: a budget is expected to forbid it; then it took when the patience ran out and the budget was named.
    """

    unfolds: ClassVar[bool] = True
    namespace: str
    selector: Mapping[str, str] = field(hash=False)
    patience_s: float = 60.0
    blocked: bool = False

    @property
    def text(self) -> str:
        """See `Fault`."""
        end = f", for at most {self.patience_s:g} s, under a budget that cannot be kept" if self.blocked else ""
        return f"drain {self.node}{end}"

    def heals(self, target: Target) -> tuple[Action, ...]:  # noqa: ARG002 - a Fault's signature
        """See `Fault`."""
        return (Uncordon(node=self.node),)

    def inject(self, target: Target) -> None:
        """Cordon; the evictions follow in `took`, since they take their time."""
        target.client.patch(NODES, self.node, {"spec": {"unschedulable": True}})

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """Evict until none is left; or, `blocked`, until the patience is over."""
        end_s = clock.monotonic_s() + stretched_s(self.patience_s, target.slowness)
        refusals: dict[str, str] = {}
        evicted: set[str] = set()
        while True:
            left = [pod for pod in _pods(target, self.namespace, self.selector) if pod.node == self.node]
            for pod in (one for one in left if not one.deleting):
                try:
                    _evict(target, pod)
                    evicted.add(pod.name)
                    refusals.pop(pod.name, None)
                except NotFound:
                    continue
                except TooManyRequests as error:
                    refusals[pod.name] = _told(error)
                    break  # one budget covers them all: asking for the next would get the same answer
            if not left:
                return not self.blocked, f"{self.node} is drained: {len(evicted)} pods evicted"
            if clock.monotonic_s() >= end_s:
                return self._given_up(len(left), refusals)
            clock.sleep_s(_AGAIN_S)

    def _given_up(self, left: int, refusals: Mapping[str, str]) -> tuple[bool, str]:
        why = next(iter(refusals.values()), "they do not end")
        return self.blocked and bool(refusals), f"gave up on {left} pods of {self.node}: {why}"


def of_workload(scene: Scene) -> tuple[str, Mapping[str, str]]:
    """Namespace and selector of the workload under test."""
    return scene.namespace, scene.selector


def _pods(target: Target, namespace: str, selector: Mapping[str, str]) -> list[PodSeen]:
    found = (views.pod("NOW", raw) for raw in target.client.list(PODS, namespace).items)
    return sorted((pod for pod in found if selector.items() <= pod.labels.items()), key=lambda pod: pod.name)


def _told(error: TooManyRequests) -> str:
    """The refusal, with what it says of the budget that is in the way."""
    causes = error.details.get("causes") or ()
    return " ".join([error.message, *(str(cause.get("message", "")) for cause in causes)])


def _evict(target: Target, pod: PodSeen) -> None:
    meta = {"name": pod.name, "namespace": pod.namespace}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
    target.client.post(PODS, pod.name, "eviction", body, pod.namespace)
