"""A lab with several masters under writes: who leads, what is acknowledged, how long nothing was."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec

from labctl.config import settings
from labctl.kube import kubeconfig
from labctl.kube.client import Client
from labctl.kube.errors import AlreadyExists, ApiError
from labctl.kube.resources import CONFIG_MAPS
from labctl.runtime.clock import SystemClock
from labctl.vm.lab import Lab
from tests.labs import LabUser, eventually

CLOCK = SystemClock()
_ETCDCTL = (
    "ETCDCTL_API=3 etcdctl --cacert=/etc/labctl/pki/etcd/ca.crt --cert=/etc/labctl/pki/etcd/client.crt "
    "--key=/etc/labctl/pki/etcd/client.key"
)
_PACE_S = 0.05


def lab_of(user: LabUser) -> Lab:
    """The user's lab, for what labctl's commands do not offer: its power switches."""
    return Lab.open(settings(user.env), user.name)


def etcdctl(user: LabUser, master: str, words: str) -> str:
    """What etcdctl says on a master."""
    return user.labctl("ssh", master, "--", f"{_ETCDCTL} {words}").stdout


def etcd_leader(user: LabUser) -> str:
    """The master whose etcd leads, once one does."""

    def find() -> str | None:
        for master in lab_of(user).running("master"):
            (status,) = json.loads(etcdctl(user, master.name, "endpoint status -w json"))
            if status["Status"]["leader"] == status["Status"]["header"]["member_id"]:
                return master.name
        return None

    return eventually(find, "an etcd that leads")


def holder(user: LabUser) -> str:
    """The master that holds the virtual address, once one does."""
    lab = lab_of(user)

    def find() -> str | None:
        for master in lab.running("master"):
            if f" {lab.topology.virtual_address}/" in user.labctl("ssh", master.name, "--", "ip -4 -o address").stdout:
                return master.name
        return None

    return eventually(find, "a master with the virtual address")


def lease_holder(user: LabUser, lease: str) -> str:
    """The master whose scheduler or controller manager leads."""
    identity: str = user.json("get", "lease", "-n", "kube-system", lease)["spec"]["holderIdentity"]
    return identity.partition("_")[0]


def only_address(user: LabUser, **options: float) -> Client:
    """A client that knows the lab's first address alone, as kubectl does."""
    endpoint = kubeconfig.load(user.home / ".labctl" / user.name / "kubeconfig")
    return Client(msgspec.structs.replace(endpoint, servers=endpoint.servers[:1]), **options)  # type: ignore[arg-type]


@dataclass
class Writer:
    """Creates numbered ConfigMaps, one after the other, and remembers which were acknowledged, and when."""

    user: LabUser
    prefix: str
    acknowledged: list[tuple[int, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._client = only_address(self.user, timeout_s=1.0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(_PACE_S):
            number += 1
            try:
                self._client.create(CONFIG_MAPS, {"metadata": {"name": f"{self.prefix}-{number}"}}, "default")
            except AlreadyExists:
                raise
            except ApiError as error:
                self.failures.append(f"{number}: {error}")
            else:
                self.acknowledged.append((number, CLOCK.monotonic_s()))

    def goes_on(self, count: int = 20, deadline_s: float = 60.0) -> None:
        """Wait for so many more acknowledged writes."""
        target = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= target, f"{count} more acknowledged writes", deadline_s)

    def longest_gap_s(self, since_s: float) -> float:
        """The longest time after `since_s` without an acknowledged write."""
        times = [since_s, *(at_s for _, at_s in self.acknowledged if at_s > since_s)]
        return max(later - earlier for earlier, later in pairwise(times))

    def stop(self) -> set[str]:
        """Stop; the names of what was acknowledged and is not there."""
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        items = Client.from_kubeconfig(str(self.user.home / ".labctl" / self.user.name / "kubeconfig"))
        found = {msgspec.json.decode(raw)["metadata"]["name"] for raw in items.list(CONFIG_MAPS, "default").items}
        return {f"{self.prefix}-{number}" for number, _ in self.acknowledged} - found
