"""One drill at a time on a cluster that several hosts can reach: a Lease in a namespace of the drills' own is the lock.

Its holder renews it while the drill, or its dead-man, is at work. One whose time is over by its own stamps is taken
over, but only after we have seen it stand still for longer than a holder that lives would let it: stamps of another
host's clock prove nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from labctl.drills.lock import Busy
from labctl.drills.target import Api, Target
from labctl.kube.errors import AlreadyExists, ApiError, Conflict, Document, Forbidden, NotFound
from labctl.kube.lease import Lease
from labctl.kube.resources import LEASES, NAMESPACES
from labctl.runtime.clock import Clock, parse_time, rfc3339_micro
from labctl.runtime.errors import LabError, UsageError
from labctl.runtime.loop import Stop

NAMESPACE, NAME = "labctl-drill-lock", "labctl-drill"
DRILL = "labctl.dev/drill"  # the annotation that names the drill; as a label, that labctl made the namespace
DURATION_S, RENEW_S = 180, 10.0  # longer than a drill's API server is down
_STILL = 2.5  # renewals that a holder has missed before it is taken for dead
_TRIES, _AGAIN_S = 40, 0.5  # an earlier drill's namespace may be going just now
_WHERE = f"{NAMESPACE}/{NAME}"


class Taken(Busy):
    """A drill of another host runs on this cluster."""

    exit_code = 2


def own_identity() -> str:
    """`HOST_PID_CHANCE`, of this process."""
    return f"{socket.gethostname()}_{os.getpid()}_{secrets.token_hex(4)}"


def held(api: Api, clock: Clock) -> str:
    """Who holds the cluster, and until when, a sentence; "" where nobody does, or nobody who lives."""
    try:
        found = _read(api)
    except Forbidden as error:
        return f"no right to look at the Lease {_WHERE}: {error}"
    return _words(found) if found and found.holder and _looks_alive(found, clock) else ""


def claim(api: Api, holder: str, drill: str, clock: Clock, *, renew_s: float = RENEW_S) -> None:
    """Take the Lease for `holder`; Taken where another has it, UsageError where we have no right to one."""
    try:
        for _ in range(_TRIES):
            if _claimed(api, holder, drill, clock, renew_s):
                return
            clock.sleep_s(_AGAIN_S)
    except Forbidden as error:
        raise UsageError(
            f"no right to take the Lease {_WHERE}, the lock of drills on a cluster: {error}",
            hint=f"let this user get, create, patch and delete leases in the namespace {NAMESPACE}, and make it",
        ) from error
    raise LabError(f"the Lease {_WHERE} could not be taken: it changes all the time, or its namespace does not go")


def _claimed(api: Api, holder: str, drill: str, clock: Clock, renew_s: float) -> bool:
    """One try; False where somebody or something was in between."""
    found = _read(api)
    if found is None:
        return _created(api, holder, drill, clock)
    if found.holder and found.holder != holder:
        if _looks_alive(found, clock):
            raise Taken(_words(found), hint=f"wait for its end; where it died for good: delete lease {_WHERE}")
        clock.sleep_s(renew_s * _STILL)
        again = _read(api)
        if again is None:
            return False
        if again.metadata.resource_version != found.metadata.resource_version:
            raise Taken(_words(again), hint="it renews its Lease, though its time is over by our clock: set the clocks")
    transitions = (found.spec.lease_transitions or 0) + 1
    meta = {"resourceVersion": found.metadata.resource_version, "annotations": {DRILL: drill}}
    spec = _spec(holder, clock) | {"leaseTransitions": transitions}
    with contextlib.suppress(Conflict, NotFound):
        api.patch(LEASES, NAME, {"metadata": meta, "spec": spec}, NAMESPACE)
        return True
    return False


def _created(api: Api, holder: str, drill: str, clock: Clock) -> bool:
    meta = {"name": NAME, "namespace": NAMESPACE, "annotations": {DRILL: drill}}
    body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": meta, "spec": _spec(holder, clock)}
    try:
        api.create(LEASES, body, NAMESPACE)
    except NotFound:
        space = {"name": NAMESPACE, "labels": {DRILL: "lock"}}
        with contextlib.suppress(AlreadyExists):
            api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": space})
        return False
    except AlreadyExists:
        return False
    except Forbidden as error:
        if "being terminated" not in str(error):
            raise
        return False
    return True


class Renewals:
    """Renews what `holder` has, in a thread of its own, until `stop`; `on_loss` is told who has it instead."""

    def __init__(self, api: Api, holder: str, clock: Clock, *, renew_s: float = RENEW_S) -> None:
        self._api, self._holder, self._clock, self._renew_s = api, holder, clock, renew_s

    def start(self, stop: Stop, on_loss: Callable[[str], None] = lambda _: None) -> None:
        """Begin."""
        threading.Thread(target=self._run, args=(stop, on_loss), name="drill-lease", daemon=True).start()

    def _run(self, stop: Stop, on_loss: Callable[[str], None]) -> None:
        while not stop.wait_s(self._renew_s):
            try:
                found = _read(self._api)
                if found is not None and found.holder == self._holder:
                    version = {"resourceVersion": found.metadata.resource_version}
                    body = {"metadata": version, "spec": {"renewTime": rfc3339_micro(self._clock.now())}}
                    self._api.patch(LEASES, NAME, body, NAMESPACE)
                    continue
            except (ApiError, msgspec.MsgspecError):
                continue  # the API may be what the drill strikes
            if not stop.is_set():
                on_loss(_words(found) if found else f"the Lease {_WHERE} was deleted")
            return


class Release(msgspec.Struct, frozen=True, tag="release-lease"):
    """Give the Lease back, and remove its namespace where labctl made it and nobody has it by now."""

    holder: str

    def apply(self, target: Target, _clock: Clock) -> str:
        """Do it; what is not ours stays."""
        try:
            found = _read(target.client)
            if found is not None and found.holder != self.holder:
                return f"{self.text}: it is not ours"
            if found is not None:
                version = found.metadata.resource_version
                target.client.delete(LEASES, NAME, NAMESPACE, resource_version=version)
        except (Forbidden, NotFound):  # then it was never taken, or is gone
            return f"{self.text}: nothing to give back"
        with contextlib.suppress(Forbidden, NotFound):
            labels = target.client.get(NAMESPACES, NAMESPACE)["metadata"].get("labels") or {}
            if DRILL in labels and not target.client.list(LEASES, NAMESPACE).items:
                target.client.delete(NAMESPACES, NAMESPACE)
        return f"{self.text}: done"

    @property
    def text(self) -> str:
        """For people."""
        return f"give back the Lease {_WHERE}"


def _read(api: Api) -> Lease | None:
    try:
        return msgspec.convert(api.get(LEASES, NAME, NAMESPACE), Lease)
    except NotFound:
        return None


def _spec(holder: str, clock: Clock) -> Document:
    now = rfc3339_micro(clock.now())
    return {"holderIdentity": holder, "leaseDurationSeconds": DURATION_S, "acquireTime": now, "renewTime": now}


def _until(found: Lease) -> datetime | None:
    """When its time is over, by the stamps in it; None where they say nothing."""
    spec = found.spec
    if not spec.renew_time or not spec.lease_duration_seconds:
        return None
    try:
        return parse_time(spec.renew_time) + timedelta(seconds=spec.lease_duration_seconds)
    except ValueError:
        return None


def _looks_alive(found: Lease, clock: Clock) -> bool:
    until = _until(found)
    return until is not None and until > clock.now()


def _words(found: Lease) -> str:
    host, _, rest = found.holder.partition("_")
    process, drill = rest.partition("_")[0], found.metadata.annotations.get(DRILL, "a drill")
    ends = _until(found)
    until = f", until {ends:%H:%M:%S} UTC at least" if ends else ""
    return f"a drill is already running on this cluster: {drill}, by {host}, process {process}{until}"
