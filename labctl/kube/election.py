"""Leader election by Lease, on our own monotonic clock: no two lead at once, and a leader that cannot renew stops.

As client-go `tools/leaderelection`: a candidate takes the Lease once it has watched it stand still for the holder's
`leaseDurationSeconds`; the leader stops writing once it could not renew for `renew_deadline_s`, which is shorter.
Stamps in the Lease are for people: no clock but ours is compared with ours.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from labctl.kube.client import Client
from labctl.kube.errors import AlreadyExists, ApiError, Conflict, Document, NotFound
from labctl.kube.lease import Lease
from labctl.kube.resources import LEASES
from labctl.kube.timing import Profile
from labctl.runtime.clock import Clock, rfc3339_micro
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop

_log = logging.getLogger(__name__)


class LeadershipLost(LabError):
    """We do not lead (any more): whatever was planned must not be written."""


class Election:
    """One candidate for the Lease `kube-system/name`. `client` must not be guarded by this election itself."""

    def __init__(self, client: Client, name: str, identity: str, *, profile: Profile, clock: Clock) -> None:
        assert profile.leader_retry_s < profile.leader_renew_deadline_s < profile.leader_lease_s
        self._client, self._name, self._clock, self._profile = client, name, clock, profile
        self.identity = identity
        self._lock = threading.Lock()
        self._leading = False
        self._renewed_s = 0.0  # when the last renewal that succeeded was sent
        self._steady_since_s = 0.0
        self._version = ""  # of our last write
        self._observed = ("", 0.0)  # another's version, and when we first saw it
        # Upstream renews every retry period; a quarter of the lease is as safe and costs half.
        self._period_s = max(profile.leader_retry_s, profile.leader_lease_s / 4)

    def run(self, stop: Stop, on_lead: Callable[[], None], on_loss: Callable[[], None]) -> None:
        """Wait for the lead, call `on_lead`, hold it until `stop` (then release) or loss (then `on_loss`); return.

        A leader that cannot renew in time may not write (`guard`) but keeps trying: where the Lease then still is as
        it left it, nobody else has led, and it goes on. It is lost once another holds it.
        """
        if not self._acquire(stop):
            return
        _log.info("leading", extra={"kv": {"lease": self._name, "identity": self.identity}})
        on_lead()
        wait_s = self._period_s
        while not stop.wait_s(wait_s):
            try:
                lost, wait_s = not self._try(), self._period_s
            except ApiError as error:
                _log.warning("cannot renew %s: %s", self._name, error)
                lost, wait_s = False, self._profile.leader_retry_s
            if lost:
                with self._lock:
                    self._leading = False
                _log.error("lost the lead", extra={"kv": {"lease": self._name}})
                on_loss()
                return
        self._release()

    def held(self) -> bool:
        """Whether we lead for certain, judged by when our last successful renewal was sent."""
        with self._lock:
            age_s = self._clock.monotonic_s() - self._renewed_s
            return self._leading and age_s < self._profile.leader_renew_deadline_s

    def guard(self) -> None:
        """Raise LeadershipLost unless we lead; call it before every write of the work."""
        if not self.held():
            raise LeadershipLost(f"not leading {self._name}", hint="another instance leads; this one starts again")

    def steady_since_s(self) -> float:
        """Since when (monotonic) every renewal has come through in time; now, where one is overdue.

        Whoever judges other machines by their silence may count only this time: while our own renewals did not come
        through, theirs may have been lost the same way.
        """
        now_s = self._clock.monotonic_s()
        with self._lock:
            return now_s if now_s - self._renewed_s > self._patience_s else self._steady_since_s

    @property
    def _patience_s(self) -> float:
        return 2 * self._period_s

    def _acquire(self, stop: Stop) -> bool:
        while not stop.is_set():
            try:
                if self._try():
                    return True
            except ApiError as error:
                _log.warning("cannot acquire %s: %s", self._name, error)
            stop.wait_s(self._profile.leader_retry_s)
        return False

    def _try(self) -> bool:
        """Take or renew the Lease; False where another holds it. Raises ApiError where nothing is known."""
        sent_s = self._clock.monotonic_s()
        if self._leading and self._renew(sent_s):
            return True
        try:
            found = msgspec.convert(self._client.get(LEASES, self._name, "kube-system"), Lease)
        except NotFound:
            return self._create(sent_s)
        ours = found.spec.holder_identity == self.identity
        if not ours and found.spec.holder_identity and not self._stale(found):
            return False
        try:
            written = self._client.patch(LEASES, self._name, self._change(found), "kube-system")
        except Conflict:
            return self._leading and ours  # somebody wrote meanwhile: the next try will see who
        self._note(sent_s, written)
        return True

    def _renew(self, sent_s: float) -> bool:
        """The usual case in one request: nobody wrote the Lease since we did."""
        change = {"metadata": {"resourceVersion": self._version}, "spec": {"renewTime": self._now()}}
        try:
            written = self._client.patch(LEASES, self._name, change, "kube-system")
        except (Conflict, NotFound):
            return False
        self._note(sent_s, written)
        return True

    def _create(self, sent_s: float) -> bool:
        meta = {"name": self._name, "namespace": "kube-system"}
        kind = {"apiVersion": LEASES.api_version, "kind": LEASES.kind}
        try:
            written = self._client.create(
                LEASES, {**kind, "metadata": meta, "spec": self._spec(0, acquired=True)}, "kube-system"
            )
        except (AlreadyExists, Conflict):
            return False
        self._note(sent_s, written)
        return True

    def _stale(self, found: Lease) -> bool:
        """Whether we have seen this very version for as long as its holder asked for."""
        now_s = self._clock.monotonic_s()
        version, since_s = self._observed
        duration_s = float(found.spec.lease_duration_seconds or self._profile.leader_lease_s)
        if version != found.metadata.resource_version:
            self._observed = (found.metadata.resource_version, now_s)
            return False
        return now_s - since_s > duration_s

    def _note(self, sent_s: float, written: Document) -> None:
        self._version = written["metadata"]["resourceVersion"]
        with self._lock:
            if not self._leading or sent_s - self._renewed_s > self._patience_s:
                self._steady_since_s = self._clock.monotonic_s()
            self._leading, self._renewed_s = True, sent_s

    def _now(self) -> str:
        return rfc3339_micro(self._clock.now())

    def _spec(self, transitions: int, *, acquired: bool) -> dict[str, Any]:
        now = self._now()
        spec: dict[str, Any] = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self._profile.leader_lease_s),
            "renewTime": now,
            "leaseTransitions": transitions,
        }
        return spec | ({"acquireTime": now} if acquired else {})

    def _change(self, found: Lease) -> dict[str, Any]:
        ours = found.spec.holder_identity == self.identity
        transitions = (found.spec.lease_transitions or 0) + (0 if ours else 1)
        version = {"resourceVersion": found.metadata.resource_version}
        return {"metadata": version, "spec": self._spec(transitions, acquired=not ours)}

    def _release(self) -> None:
        """Let the next one in at once; best effort."""
        with self._lock:
            was, self._leading = self._leading, False
        if not was:
            return
        try:
            found = msgspec.convert(self._client.get(LEASES, self._name, "kube-system"), Lease)
            if found.spec.holder_identity == self.identity:
                spec = {"holderIdentity": "", "leaseDurationSeconds": 1}
                change = {"metadata": {"resourceVersion": found.metadata.resource_version}, "spec": spec}
                self._client.patch(LEASES, self._name, change, "kube-system")
        except ApiError as error:
            _log.info("the lease %s was not released: %s", self._name, error)


class Identity:
    """A name for this process that its successor on the machine may reuse at once, since only one can hold it.

    The kernel frees the claim when the process dies, however it dies, so a restarted leader need not wait out its own
    Lease. Where the name is taken already, the process gets one of its own and waits its turn like any other.
    """

    def __init__(self, component: str, host: str, unique: str) -> None:
        self._claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._claim.bind(f"\0labctl/leader/{component}/{host}")
            self.name = host
        except OSError:
            self.name = f"{host}_{unique}"
