"""One lab as a whole: bring it up in phases that resume, take it down, reach its nodes and its API."""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import msgspec
import psutil

from labctl.config import LabConfig, Settings
from labctl.kube.client import Client
from labctl.kube.timing import KUBERNETES, PROFILES, Profile
from labctl.runtime.clock import Clock, SystemClock
from labctl.runtime.errors import DeadlineExceeded, LabError, UsageError
from labctl.runtime.loop import wait_for
from labctl.vm import health, members, pki, provision, ssh, sshkey, status, tools
from labctl.vm.etcd import Etcd
from labctl.vm.fence import service
from labctl.vm.keeping import keep_pods
from labctl.vm.layout import lay_out, overloads
from labctl.vm.parallel import each
from labctl.vm.progress import Reporter
from labctl.vm.provider import Power, Site
from labctl.vm.registry import provider_named
from labctl.vm.state import LabState, labs
from labctl.vm.status import LabStatus
from labctl.vm.topology import Machine, Topology

_API_S = 60.0  # on this host's own processor; an emulated machine gets up to five times as long
_NODES_S = 60.0
_SERVES_S = 10.0
_PATIENCE = 5.0
_LOAD_S = 120.0
# containerd does not wait for an unpacked image to reach the disk: after a power cut its files would be empty. A
# system container has no disk of its own, and its host's may have far more to write.
_KEEP = "{ systemd-detect-virt -cq || sync -f /var/lib/containerd; }"
_POWERED = (Power.RUNNING, Power.SUSPENDED)


class Lab:
    """A lab that exists, or is about to."""

    def __init__(self, settings: Settings, topology: Topology, clock: Clock | None = None) -> None:
        self.settings, self.topology = settings, topology
        self.clock = clock or SystemClock()
        self.state = LabState(settings.state_root, topology.lab)
        self.provider = provider_named(topology.provider)

    @classmethod
    def open(cls, settings: Settings, name: str) -> Lab:
        """The existing lab of that name; UsageError where there is none."""
        return cls(settings, LabState(settings.state_root, name).topology())

    @classmethod
    def wanted(cls, settings: Settings, config: LabConfig, default_name: str) -> Lab:
        """The lab that `config` asks for, built on what exists of it."""
        state = LabState(settings.state_root, config.name or default_name)
        existing = state.topology() if state.exists else None
        topology = lay_out(config.merged(name=state.lab), existing, _networks_in_use(settings.state_root, state.lab))
        lab = cls(settings, topology)
        if existing is None and config.profile is None and lab.overloads_host:
            lab.topology = msgspec.structs.replace(topology, profile=KUBERNETES.name)
        return lab

    # -- what everyone asks -----------------------------------------------------------------------------------------

    @property
    def profile(self) -> Profile:
        """The lab's timers."""
        return PROFILES[self.topology.profile]

    @property
    def overloads_host(self) -> bool:
        """See `layout.overloads`, of this host."""
        return overloads(self.topology, self.provider.slowness(), psutil.cpu_count() or 1)

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig."""
        return self.state.dir / "kubeconfig"

    @cached_property
    def site(self) -> Site:
        """The lab as its provider sees it; makes the lab's SSH key where there is none."""
        return Site(
            topology=self.topology,
            state_dir=self.state.dir,
            ssh_public_key=sshkey.ensure_ssh_key(self.state.dir),
            cache_dir=self.settings.cache_dir,
        )

    @cached_property
    def client(self) -> Client:
        """The API, as the lab's admin."""
        if not self.kubeconfig.exists():
            raise LabError(f"lab {self.topology.lab!r} has no kubeconfig yet", hint="`labctl up` finishes the lab")
        return Client.from_kubeconfig(str(self.kubeconfig), user_agent="labctl")

    def machine(self, name: str) -> Machine:
        """The machine called `name`; UsageError lists those there are."""
        machine = self.topology.machine(name)
        if machine is None:
            known = ", ".join(machine.name for machine in self.topology.machines)
            raise UsageError(f"lab {self.topology.lab!r} has no node {name!r}", hint=f"its nodes are: {known}")
        return machine

    def ssh(self, name: str) -> ssh.Connection:
        """An SSH connection to a node, as root."""
        return ssh.connect(self.site, self.machine(name))

    # -- up, halt, destroy ------------------------------------------------------------------------------------------

    def up(self, reporter: Reporter, *, provision_again: bool = False) -> None:
        """Bring the lab to: all machines running, all nodes Ready. Each phase does only what is missing."""
        with self.state.locked("up"):
            with reporter.phase("host"):
                self._check_host()
            self.state.save_topology(self.topology)
            with reporter.phase("certificates"):
                pki.ensure(self.state.dir, self.topology, self.clock)
            before = self.provider.power(self.site)
            with reporter.phase("machines"):
                self.provider.up(self.site, (), reporter.event)
            service.start(self.state.dir, self.settings.cache_dir)
            names = [machine.name for machine in self.topology.machines]
            made = [name for name in names if before.get(name, Power.ABSENT) is Power.ABSENT]
            fingerprint = self._fingerprint()
            if made or provision_again or self.state.done().get("provision") != fingerprint:
                self.state.mark("provision", "")
                with reporter.phase("provisioning"):
                    self._provision(made, reporter.event)
                self.state.mark("provision", fingerprint)
            self.wait_ready(reporter, fresh=before != self.provider.power(self.site))
            self.state.mark("etcd", "formed")

    def _provision(self, made: Sequence[str], event: Callable[[str, str], None]) -> None:
        """All machines at once; in a lab whose several masters serve, one master after the other."""
        root, masters = self.settings.project_root, self.topology.masters
        existing = [master for master in masters if master.name not in made]
        if len(masters) == 1 or not existing:
            provision.run(self.site, root, event, made=made)
            return
        # An up that was cut short may have left a cluster that was still about to form: its members find each other.
        joining = Etcd(self.site, self.clock).rejoin(event) if self.state.done().get("etcd") else ()
        if not self._serves():
            provision.run(self.site, root, event, made=made)
            return
        for batch in members.batches(self.topology, joining):
            provision.run(self.site, root, event, names=[machine.name for machine in batch], made=made)
            for machine in batch:
                if machine.role == "master":
                    Etcd(self.site, self.clock).wait_healthy(machine, _API_S * self._patience)

    def halt(self, reporter: Reporter) -> None:
        """Shut every machine down in order; disks and addresses stay."""
        with self.state.locked("halt"), reporter.phase("halt"):
            service.stop(self.state.dir)
            keep_pods(self.site, self.provider, self.clock)
            self.provider.halt(self.site, (), reporter.event)

    def destroy(self, reporter: Reporter) -> None:
        """Leave nothing of the lab."""
        with self.state.locked("destroy"):
            with reporter.phase("destroy"):
                service.stop(self.state.dir)
                self.provider.destroy(self.site, reporter.event)
            self.state.forget()

    def wait_ready(self, reporter: Reporter, *, fresh: bool) -> None:
        """Wait until the API serves and every worker is Ready, `fresh`: since its machine was started."""
        patience = self._patience
        with reporter.phase("control plane", until_s=_API_S * patience):
            self.wait_api(_API_S * patience)
        with reporter.phase("nodes Ready", until_s=_NODES_S * patience):
            self.wait_nodes(reporter.event, _NODES_S * patience, fresh=fresh)

    def _serves(self) -> bool:
        """Whether the API answers, or does so soon: its machines may have been started just now."""
        try:
            return bool(
                wait_for(lambda: health.api_ready(self.client), what="the API", deadline_s=_SERVES_S, clock=self.clock)
            )
        except DeadlineExceeded:
            return False

    @property
    def _patience(self) -> float:
        return min(_PATIENCE, max(1.0, self.provider.slowness()))

    def wait_api(self, deadline_s: float) -> None:
        """Wait until the API server says it is ready."""
        with _hint(f"`labctl logs {self.topology.masters[0].name} apiserver` says why; `labctl up` tries again"):
            wait_for(
                lambda: health.api_ready(self.client),
                what="the API server to be ready",
                deadline_s=deadline_s,
                clock=self.clock,
            )

    def wait_nodes(self, event: Callable[[str, str], None], deadline_s: float, *, fresh: bool) -> None:
        """Wait until every worker's Node is Ready; with `fresh`, by a heartbeat of the machine as it runs now."""
        arrivals, told = health.Arrivals(self.client, fresh=fresh), set[str]()

        def all_ready() -> bool:
            for name in sorted(arrivals.look() - told):
                event(name, "Ready")
                told.add(name)
            return told >= {worker.name for worker in self.topology.workers}

        with _hint("`labctl status` shows which is not; `labctl logs NODE kubelet` says why; `labctl up` tries again"):
            wait_for(all_ready, what="all workers to be Ready", deadline_s=deadline_s, clock=self.clock)

    # -- snapshots and images ---------------------------------------------------------------------------------------

    def snapshot_save(self, snapshot: str, reporter: Reporter) -> None:
        """Keep the lab as it is now."""
        with self.state.locked("snapshot save"), reporter.phase(f"save {snapshot}"):
            self.provider.snapshot_save(self.site, snapshot)

    def snapshot_restore(self, snapshot: str, reporter: Reporter) -> None:
        """Bring the lab back to `snapshot`; returns when the API answers and all nodes are Ready."""
        if snapshot not in self.snapshot_list():
            known = ", ".join(self.snapshot_list()) or "none"
            raise UsageError(f"there is no snapshot {snapshot!r}", hint=f"there are: {known}")
        with self.state.locked("snapshot restore"):
            with reporter.phase(f"restore {snapshot}"):
                self.provider.snapshot_restore(self.site, snapshot)
            self.wait_ready(reporter, fresh=True)

    def snapshot_list(self) -> Sequence[str]:
        """The snapshots' names, oldest first."""
        return self.provider.snapshot_list(self.site)

    def snapshot_delete(self, snapshot: str, reporter: Reporter) -> None:
        """Forget `snapshot`."""
        with self.state.locked("snapshot delete"), reporter.phase(f"delete {snapshot}"):
            self.provider.snapshot_delete(self.site, snapshot)

    def load_image(self, archive: bytes, machines: Sequence[Machine], event: Callable[[str, str], None]) -> None:
        """Import a docker archive on each machine, into the namespace that the kubelet uses."""

        def load(machine: Machine) -> None:
            path = f"/root/labctl-image-{hashlib.sha256(archive).hexdigest()[:12]}.tar"
            with self.ssh(machine.name) as connection:
                connection.put(path, archive)
                connection.run(f"nerdctl -n k8s.io load -q -i {path} && rm {path} && {_KEEP}", timeout_s=_LOAD_S)
            event(machine.name, "loaded")

        each(machines, load)

    # -- state ------------------------------------------------------------------------------------------------------

    def status(self) -> LabStatus:
        """What runs and what the API thinks of it; never fails for a lab that is down."""
        return status.look(self.topology, self.provider.power(self.site), lambda: self.client)

    def running(self, role: str = "") -> Sequence[Machine]:
        """The machines that are powered, of one role or all."""
        power = self.provider.power(self.site)
        return [
            machine
            for machine in self.topology.machines
            if power.get(machine.name) in _POWERED and role in ("", machine.role)
        ]

    def _check_host(self) -> None:
        for problem in (*tools.problems(tools.absent(tools.EVERYWHERE)), *self.provider.problems()):
            raise LabError(problem.what, hint=f"{problem.mend}; `labctl doctor` shows everything at once")
        power = self.provider.power(self.site) if self.state.exists else {}
        missing = [m for m in self.topology.machines if power.get(m.name) not in _POWERED]
        needed_mib = sum(machine.memory_mib for machine in missing) if self.provider.name == "vagrant" else 0
        available_mib = psutil.virtual_memory().available // 2**20
        if needed_mib > available_mib:
            raise LabError(
                f"too little memory: {len(missing)} machines need {needed_mib} MiB, {available_mib} MiB are free",
                hint="ask for fewer or smaller machines in lab.yaml, or use --provider lxc",
            )

    def _fingerprint(self) -> str:
        """Of everything that provisioning turns into a node's configuration."""
        digest = hashlib.sha256(provision.fingerprint(self.site, self.settings.project_root).encode())
        digest.update(msgspec.json.encode(self.topology))
        return digest.hexdigest()


@contextlib.contextmanager
def _hint(hint: str) -> Iterator[None]:
    """Say how to go on where a wait reaches its deadline."""
    try:
        yield
    except DeadlineExceeded as error:
        raise DeadlineExceeded(str(error), hint=hint) from error


def _networks_in_use(state_root: Path, lab: str) -> Iterator[str]:
    """Networks of this host's devices, and of the other labs here, running or not."""
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family == socket.AF_INET and address.netmask:
                yield f"{address.address}/{address.netmask}"
    for other in labs(state_root):
        if other != lab:
            with contextlib.suppress(LabError):
                yield LabState(state_root, other).topology().network_cidr
