"""Carry decisions out: bind, or make room and say on the pod why it waits. Thin; some threads, a bounded queue.

Source: k/k `pkg/scheduler/schedule_one.go` (handleSchedulingFailure), `framework/preemption/executor.go`.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from labctl.kube.client import STRATEGIC_PATCH, Client
from labctl.kube.election import LeadershipLost
from labctl.kube.errors import ApiError, Conflict, Document, NotFound
from labctl.kube.events import Recorder
from labctl.kube.meta import Reference
from labctl.kube.resources import PODS
from labctl.runtime.clock import Clock, rfc3339
from labctl.runtime.loop import Stop
from master.scheduler.cycle import Decision, Placed, Unschedulable
from master.scheduler.preemption import PREEMPTED
from master.scheduler.snapshot import PodInfo

_log = logging.getLogger(__name__)
_THREADS = 12  # so that API server and etcd have several at once: beside 4 that saves them a fifth of their work
_QUEUE = 1_000

Failed = Callable[[PodInfo, bool], None]  # whether it may have taken effect all the same


class Binder:
    """Writes decisions; `on_failed` hears of bindings and preemptions that did not come about."""

    def __init__(self, client: Client, recorder: Recorder, clock: Clock, on_failed: Failed) -> None:
        self._client, self._recorder, self._clock, self._on_failed = client, recorder, clock, on_failed
        self._queue: queue.Queue[Decision] = queue.Queue(_QUEUE)
        self.submit: Callable[[Decision], None] = self._queue.put  # waits while a thousand others are waiting

    def start(self, stop: Stop) -> Binder:
        """Write in threads of its own until `stop`."""
        for number in range(_THREADS):
            threading.Thread(target=self._run, args=(stop,), name=f"binder-{number}", daemon=True).start()
        return self

    def put(self, decision: Decision) -> None:
        """Take a decision, to carry it out in one of our threads (or where `submit` says: in a simulation)."""
        self.submit(decision)

    def carry_out(self, decision: Decision) -> None:
        """Write one decision now."""
        if isinstance(decision, Placed):
            self._bind(decision)
        else:
            if decision.victims:
                self._make_room(decision)
            self._explain(decision)

    def _run(self, stop: Stop) -> None:
        while not stop.is_set():
            try:
                decision = self._queue.get(timeout=1.0)
            except queue.Empty:
                continue
            self.try_to(decision)

    def try_to(self, decision: Decision) -> None:
        """Write one decision, and tell `on_failed` where that must be done again."""
        try:
            self.carry_out(decision)
        except Exception as error:
            lost = isinstance(error, LeadershipLost)  # for now, or for good: then `stop` follows
            known = lost or isinstance(error, ApiError)
            _log.warning("a decision was not carried out: %s", error, exc_info=not known)
            if isinstance(decision, Placed) or decision.victims:
                self._on_failed(decision.pod, not lost)

    def _bind(self, decision: Placed) -> None:
        meta = decision.pod.meta
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": decision.node},
        }
        try:
            self._client.post(PODS, meta.name, "binding", body, meta.namespace)
        except ApiError as error:
            _log.warning("%s was not bound to %s: %s", meta.key, decision.node, error)
            if not isinstance(error, (Conflict, NotFound)):
                self._recorder.warning(_about(decision.pod), "FailedScheduling", f"binding rejected: {error}")
            self._on_failed(decision.pod, error.retryable and not isinstance(error, Conflict))
            return
        self._recorder.normal(_about(decision.pod), "Scheduled", f"Successfully assigned {meta.key} to {decision.node}")

    def _make_room(self, decision: Unschedulable) -> None:
        """Ask the victims to go, and take the node from pods of a lower priority that it was promised to."""
        words = "preempting to accommodate a higher priority pod"
        for victim in decision.victims:
            if victim.meta.deleting:
                continue
            entry = {"type": "DisruptionTarget", "status": "True", "reason": PREEMPTED}
            entry["message"] = f"{decision.pod.pod.spec.scheduler_name}: {words}"
            entry["lastTransitionTime"] = rfc3339(self._clock.now())
            try:
                self._patch(victim, {"conditions": [entry]})
                self._client.delete(PODS, victim.meta.name, victim.meta.namespace, uid=victim.meta.uid)
            except (NotFound, Conflict):
                continue  # it is gone, or another of its name is there
            message = f"Preempted by pod {decision.pod.meta.uid} on node {decision.nominated}"
            self._recorder.normal(_about(victim), "Preempted", message)
        for other in decision.displaced:
            try:
                self._patch(other, {"nominatedNodeName": None})
            except ApiError as error:
                _log.info("%s: its nominated node was not taken back: %s", other.meta.key, error)

    def _explain(self, decision: Unschedulable) -> None:
        pod, meta = decision.pod.pod, decision.pod.meta
        self._recorder.warning(_about(decision.pod), "FailedScheduling", decision.message)
        status: Document = {}
        old = next((entry for entry in pod.status.conditions if entry.type == "PodScheduled"), None)
        if old is None or (old.status, old.reason, old.message) != ("False", "Unschedulable", decision.message):
            entry = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": decision.message}
            if old is None or old.status != "False":
                entry["lastTransitionTime"] = rfc3339(self._clock.now())
            status["conditions"] = [entry]
        if decision.nominated != pod.status.nominated_node_name:
            status["nominatedNodeName"] = decision.nominated or None
        if not status:
            return
        try:
            self._patch(decision.pod, status)
        except ApiError as error:
            _log.info("%s: its status was not written: %s", meta.key, error)

    def _patch(self, info: PodInfo, status: Document) -> None:
        meta = info.meta
        body = {"metadata": {"uid": meta.uid}, "status": status}
        self._client.patch(PODS, meta.name, body, meta.namespace, subresource="status", kind=STRATEGIC_PATCH)


def _about(info: PodInfo) -> Reference:
    meta = info.meta
    return Reference(api_version="v1", kind="Pod", name=meta.name, namespace=meta.namespace, uid=meta.uid)
