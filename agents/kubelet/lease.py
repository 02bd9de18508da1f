"""The node's heartbeat: a Lease in kube-node-lease, renewed in a thread of its own that nothing else can hold up.

It has its own connections and a short deadline of its own, so that neither a slow API request of another part nor a
slow container runtime makes the node look dead. Source: k8s.io/component-helpers `apimachinery/lease/controller.go`.
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime
from typing import Any, Protocol

from labctl.kube.client import Client
from labctl.kube.errors import AlreadyExists, ApiError, NotFound
from labctl.kube.fencing import PROMISE
from labctl.kube.resources import LEASES, NODES
from labctl.kube.timing import Profile
from labctl.runtime.clock import Clock, rfc3339_micro
from labctl.runtime.loop import Backoff, Stop, jittered_s

NAMESPACE = "kube-node-lease"
_log = logging.getLogger(__name__)

Document = dict[str, Any]


class Renewals(Protocol):
    """Whoever counts on the renewals: see agents/kubelet/self_fencing.py."""

    def now_s(self) -> float:
        """Read before a renewal is sent."""
        ...

    def promise(self) -> str:
        """What the renewal says of the pods that stop without it; may be empty."""
        ...

    def renewed(self, sent_s: float) -> None:
        """The renewal that was sent then has succeeded."""
        ...


def deadline_s(timing: Profile) -> float:
    """How long a renewal may take at first: several must fit into the lease's duration."""
    return max(0.5, timing.lease_duration_s / 4)


def spec(node: str, timing: Profile, now: datetime) -> Document:
    """What every renewal writes."""
    return {
        "holderIdentity": node,
        "leaseDurationSeconds": int(timing.lease_duration_s),
        "renewTime": rfc3339_micro(now),
    }


class Heartbeat:
    """Renews one node's Lease. `client` should be its own, with `deadline_s` as its timeout."""

    def __init__(
        self, client: Client, node: str, timing: Profile, clock: Clock, renewals: Renewals | None = None
    ) -> None:
        self._client, self._node, self._timing, self._clock = client, node, timing, clock
        self._renewals = renewals
        self._promised: str | None = None  # as the Lease has it; None: we don't know
        self._retry = Backoff(timing.lease_renew_s / 10, timing.lease_renew_s / 2)
        self._deadline_s = deadline_s(timing)

    def start(self, stop: Stop) -> None:
        """Renew until `stop`."""
        threading.Thread(target=self._run, args=(stop,), name="lease", daemon=True).start()

    def beat(self) -> float:
        """Renew once; seconds until the next time: soon after a failure."""
        try:
            self._renew()
        except ApiError as error:
            _log.warning("the lease was not renewed: %s", error)
            # Given up too soon, again and again, renewals would keep a slow server busy with work for nothing.
            self._deadline_s = min(2 * self._deadline_s, self._timing.lease_duration_s)
            return self._retry.next_s()
        self._retry.reset()
        self._deadline_s = deadline_s(self._timing)
        return jittered_s(self._timing.lease_renew_s, self._timing.lease_jitter)

    def _run(self, stop: Stop) -> None:
        while not stop.is_set():
            begun_s = self._clock.monotonic_s()
            try:
                wait_s = self.beat()
            except Exception:
                _log.exception("the heartbeat stumbled")
                wait_s = self._retry.next_s()
            stop.wait_s(wait_s - (self._clock.monotonic_s() - begun_s))

    def _renew(self) -> None:
        """Nobody but us writes this Lease: the renewal needs no condition."""
        renewals = self._renewals
        sent_s = renewals.now_s() if renewals else 0.0
        promise = renewals.promise() if renewals else ""
        body: Document = {"spec": spec(self._node, self._timing, self._clock.now())}
        if renewals and promise != self._promised:
            body["metadata"] = {"annotations": {PROMISE: promise or None}}
            self._promised = None
        try:
            self._client.patch(LEASES, self._node, body, NAMESPACE, timeout_s=self._deadline_s)
            self._promised = promise
        except NotFound:
            self._create()
            self._promised = None  # the next renewal brings it
        if renewals:
            renewals.renewed(sent_s)

    def _create(self) -> None:
        """Owned by the Node, so that it goes when that goes."""
        node = self._client.get(NODES, self._node)
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": node["metadata"]["uid"]}
        lease = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._node, "namespace": NAMESPACE, "ownerReferences": [owner]},
            "spec": spec(self._node, self._timing, self._clock.now()),
        }
        try:
            self._client.create(LEASES, lease, NAMESPACE)
        except AlreadyExists:
            self._client.patch(LEASES, self._node, {"spec": lease["spec"]}, NAMESPACE)
