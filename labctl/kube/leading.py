"""A process that works only while it leads: wait for the Lease, work, end when it is lost."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from labctl.kube.client import Client
from labctl.kube.election import Election, Identity
from labctl.kube.events import Recorder
from labctl.kube.meta import Reference
from labctl.kube.timing import Profile
from labctl.runtime.clock import Clock
from labctl.runtime.loop import Stop

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Component:
    """A process that elects a leader: its Lease's name, and what its Events are signed with."""

    lease: str
    signs_as: str


@dataclass(frozen=True, slots=True)
class Lead:
    """What the work gets: a client that writes only while we lead, and the election itself."""

    client: Client
    election: Election
    recorder: Recorder


def lead(
    component: Component, kubeconfig: str, profile: Profile, clock: Clock, work: Callable[[Lead, Stop], None]
) -> int:
    """Run `work` while leading; exit code 0 after SIGTERM, 1 where the lead was lost (systemd starts us again).

    `work` starts threads and returns; its Stop is set when it has to end.
    """
    stop = Stop().install()
    identity = Identity(component.lease, socket.gethostname(), str(os.getpid()))
    own = Client.from_kubeconfig(
        kubeconfig, user_agent=component.signs_as, timeout_s=profile.leader_renew_deadline_s / 2, pool=1
    )
    election = Election(own, component.lease, identity.name, profile=profile, clock=clock)
    client = Client.from_kubeconfig(kubeconfig, user_agent=component.signs_as, guard=election.guard)
    recorder = Recorder(client, component.signs_as, clock=clock)
    lost = threading.Event()

    def on_lead() -> None:
        recorder.start(stop)
        about = Reference(
            api_version="coordination.k8s.io/v1", kind="Lease", name=component.lease, namespace="kube-system"
        )
        recorder.normal(about, "LeaderElection", f"{identity.name} became leader")
        work(Lead(client, election, recorder), stop)

    def on_loss() -> None:
        lost.set()
        stop.set()

    election.run(stop, on_lead, on_loss)
    return 1 if lost.is_set() else 0
