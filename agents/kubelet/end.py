"""The orderly end of all pods: asked for by one thread, carried out by the pod loop, in the order of shutdown.py."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from agents.kubelet.memory import Memory
from agents.kubelet.runtime import ContainerStatus
from agents.kubelet.shutdown import Guest, Progress, advance
from labctl.kube.timing import Profile

_ENDED = frozenset({"Succeeded", "Failed"})


class End:
    """Nothing until `asked`. What is begun is not remembered over a restart: systemd starts no unit while it stops."""

    def __init__(self) -> None:
        self.asked, self.over = threading.Event(), threading.Event()
        self._progress: Progress | None = None

    def step(
        self,
        memories: Iterable[Memory],
        containers: Mapping[str, tuple[ContainerStatus, ...]],
        now_s: float,
        timing: Profile,
    ) -> float:
        """After a pass: give the pods whose turn it is their end, which the next pass begins; seconds until that."""
        if not self.asked.is_set():
            return float("inf")
        known = {memory.pod.metadata.uid: memory for memory in memories if not memory.removed}
        orders = advance((_guest(one, containers) for one in known.values()), self._progress, now_s, timing)
        self._progress = orders.progress
        fresh = False
        for uid, rejection in orders.ending.items():
            memory = known[uid]
            if memory.rejection is None and memory.pod.status.phase not in _ENDED:
                memory.rejection, fresh = rejection, True
        if fresh:
            return 0.0
        if orders.over:
            self.over.set()
            return float("inf")
        return orders.wait_s


def _guest(memory: Memory, containers: Mapping[str, tuple[ContainerStatus, ...]]) -> Guest:
    pod = memory.pod
    runs = any(entry.phase == "running" for entry in containers.get(pod.metadata.uid, ()))
    starts = any(key.startswith("start:") for key in memory.flights)
    return Guest(
        uid=pod.metadata.uid,
        priority=pod.spec.priority,
        grace_s=float(pod.spec.termination_grace_period_seconds),
        alive=runs or starts,
        told=memory.reported and not pod.terminating,  # one that is being deleted goes when that is confirmed
    )
