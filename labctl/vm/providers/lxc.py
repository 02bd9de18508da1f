"""Provider `lxc`: each machine a system container on this host's kernel. Seconds, not a minute; no memory snapshots."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from labctl.runtime.clock import Clock, SystemClock
from labctl.runtime.errors import DeadlineExceeded, LabError, UsageError
from labctl.runtime.loop import wait_for
from labctl.runtime.shell import LocalShell, Shell
from labctl.vm import box, hostkeys, ssh, tools
from labctl.vm.lxc import disks
from labctl.vm.lxc.cgroups import ControlGroups
from labctl.vm.lxc.config import Node, lab_control_group
from labctl.vm.lxc.containers import Containers
from labctl.vm.lxc.network import Bridge
from labctl.vm.lxc.snapshots import Snapshots
from labctl.vm.parallel import each
from labctl.vm.provider import Link, Power, Problem, Progress, Site

_SSH_S = 60.0
_DESTROY_S = 10.0
_TOOLS = {"lxc-start": "lxc", "lxc-stop": "lxc", "lxc-info": "lxc", "lxc-freeze": "lxc", "ip": "iproute2"}
_LIVE = (Power.RUNNING, Power.SUSPENDED)


class LxcProvider:
    """See `Provider`. Everything of a lab lies in <state_dir>/lxc, on its bridge and in its control group."""

    name = "lxc"

    def __init__(
        self,
        shell: Shell | None = None,
        clock: Clock | None = None,
        rootfs: Callable[[Site, Progress], Path] | None = None,
    ) -> None:
        self._shell = shell or LocalShell()
        self._clock = clock or SystemClock()
        self._rootfs = rootfs or _box_rootfs
        self._groups = ControlGroups(self._clock)
        self._containers = Containers(self._shell, self._groups)

    # -- the host ---------------------------------------------------------------------------------------------------

    def problems(self) -> Sequence[Problem]:
        """See `Provider`."""
        found = []
        if os.geteuid() != 0:
            found.append(Problem("system containers need root", "run labctl with sudo"))
        found += tools.problems(tools.absent(_TOOLS))
        if not self._groups.hierarchies():
            found.append(Problem("no control groups are mounted", "mount -t cgroup2 none /sys/fs/cgroup"))
        if not self._has_overlay():
            found.append(Problem("the kernel has no overlay file system", "modprobe overlay"))
        return found

    def describe(self) -> str:
        """See `Provider`."""
        kind = "cgroup v2" if self._groups.unified() else "cgroup v1"
        return (
            f"system containers on this host's kernel ({kind}): one kernel and one clock for all nodes; "
            "snapshots keep disks, not memory"
        )

    def slowness(self) -> float:
        """See `Provider`."""
        return 1.0

    # -- the lab ----------------------------------------------------------------------------------------------------

    def up(self, site: Site, names: Sequence[str], progress: Progress) -> None:
        """See `Provider`."""
        for problem in self.problems():
            raise LabError(problem.what, hint=problem.mend)
        rootfs = self._rootfs(site, progress)
        self._bridge(site).make()
        nodes = self._nodes(site, names)
        states = self.power(site)
        off = [node for node in nodes if states[node.machine.name] not in _LIVE]
        each(off, lambda node: disks.prepare(node, rootfs, site.ssh_public_key, unified=self._groups.unified()))
        hostkeys.remember(site.state_dir, map(disks.host_key_line, nodes))

        def one(node: Node) -> None:
            if node in off:
                self._containers.start(node)
                progress(node.machine.name, "started")
            elif states[node.machine.name] is Power.SUSPENDED:
                self._containers.thaw(node)
            self._wait_for_ssh(node)
            progress(node.machine.name, "running")

        each(nodes, one)

    def halt(self, site: Site, names: Sequence[str], progress: Progress) -> None:
        """See `Provider`."""

        def one(node: Node) -> None:
            state = self._containers.state(node)
            if state is Power.SUSPENDED:
                self._containers.thaw(node)
            if state in _LIVE:
                self._containers.halt(node)
                progress(node.machine.name, "halted")

        each(self._nodes(site, names), one)

    def destroy(self, site: Site, progress: Progress) -> None:
        """See `Provider`. Kills by control group, so a half-made lab or a lost LXC monitor leaves nothing either."""
        home = _home(site)
        made = [node for node in self._nodes(site, ()) if node.folder.exists()]
        self._groups.remove(lab_control_group(site.topology.lab, home), deadline_s=_DESTROY_S)
        self._bridge(site).remove()
        shutil.rmtree(home, ignore_errors=True)
        if home.exists():
            raise LabError(f"could not remove {home}", hint="see what is mounted or running there, then destroy again")
        for node in made:
            progress(node.machine.name, "destroyed")

    # -- one machine ------------------------------------------------------------------------------------------------

    def power(self, site: Site) -> dict[str, Power]:
        """See `Provider`."""
        nodes = self._nodes(site, ())
        return dict(zip((node.machine.name for node in nodes), each(nodes, self._containers.state), strict=True))

    def power_off(self, site: Site, name: str) -> None:
        """See `Provider`."""
        self._containers.kill(self._made(site, name))

    def power_on(self, site: Site, name: str) -> None:
        """See `Provider`."""
        node = self._made(site, name)
        if self._containers.state(node) is Power.OFF:
            self._bridge(site).make()
            self._containers.start(node)

    def reset(self, site: Site, name: str) -> None:
        """See `Provider`."""
        self.power_off(site, name)
        self.power_on(site, name)

    def suspend(self, site: Site, name: str) -> None:
        """See `Provider`."""
        self._containers.freeze(self._live(site, name))

    def resume(self, site: Site, name: str) -> None:
        """See `Provider`."""
        self._containers.thaw(self._live(site, name))

    def set_link(self, site: Site, name: str, link: Link) -> None:
        """See `Provider`. The node sees its carrier go, as with a cable; a node that starts finds the cable in."""
        self._shell.run(["ip", "link", "set", self._live(site, name).veth, link.value], timeout_s=10)

    # -- snapshots --------------------------------------------------------------------------------------------------

    def snapshot_save(self, site: Site, snapshot: str) -> None:
        """Keep every node's disk as of one instant, all of them frozen meanwhile. Memory is not kept."""
        nodes = [self._made(site, machine.name) for machine in site.topology.machines]
        snapshots = Snapshots(_home(site) / "snapshots")
        target = snapshots.begin(snapshot)
        running = [node for node in nodes if self._containers.state(node) is Power.RUNNING]
        try:
            each(running, self._containers.freeze)
            each(nodes, lambda node: disks.copy(node, target / node.machine.name, self._shell))
        finally:
            each(running, self._containers.thaw)
        snapshots.finish(snapshot, self._clock.now().isoformat())

    def snapshot_restore(self, site: Site, snapshot: str) -> None:
        """Put every node's disk back and start it: the nodes come up as after a power cut at the moment of saving."""
        nodes = self._nodes(site, ())
        source = Snapshots(_home(site) / "snapshots").path(snapshot)
        if not all((source / node.machine.name).exists() for node in nodes):
            raise UsageError(f"there is no snapshot {snapshot!r} of this lab", hint="see `labctl snapshot list`")
        self._bridge(site).make()

        def one(node: Node) -> None:
            self._containers.kill(node)
            disks.restore(node, source / node.machine.name, self._shell)
            self._containers.start(node)
            self._wait_for_ssh(node)

        each(nodes, one)

    def snapshot_list(self, site: Site) -> Sequence[str]:
        """See `Provider`."""
        return Snapshots(_home(site) / "snapshots").names()

    def snapshot_delete(self, site: Site, snapshot: str) -> None:
        """See `Provider`."""
        Snapshots(_home(site) / "snapshots").delete(snapshot)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _bridge(self, site: Site) -> Bridge:
        return Bridge(site.topology, str(site.state_dir.resolve()), self._shell)

    def _nodes(self, site: Site, names: Sequence[str]) -> list[Node]:
        return [self._node(site, name) for name in names or [machine.name for machine in site.topology.machines]]

    def _node(self, site: Site, name: str) -> Node:
        machine = site.topology.machine(name)
        if machine is None:
            raise UsageError(f"lab {site.topology.lab!r} has no machine {name!r}")
        return Node(site.topology, machine, _home(site))

    def _made(self, site: Site, name: str) -> Node:
        node = self._node(site, name)
        if not disks.exists(node):
            raise LabError(f"{name} was never made", hint="`labctl up` makes it")
        return node

    def _live(self, site: Site, name: str) -> Node:
        node = self._made(site, name)
        if self._containers.state(node) not in _LIVE:
            raise LabError(f"{name} is off", hint="power it on first")
        return node

    def _has_overlay(self) -> bool:
        filesystems = Path("/proc/filesystems")
        if "\toverlay\n" not in filesystems.read_text() and shutil.which("modprobe"):
            self._shell.run(["modprobe", "-q", "overlay"], timeout_s=20, check=False)
        return "\toverlay\n" in filesystems.read_text()

    def _wait_for_ssh(self, node: Node) -> None:
        address = node.machine.address
        try:
            wait_for(lambda: ssh.answers(address), what="sshd", deadline_s=_SSH_S, clock=self._clock, every_s=0.03)
        except DeadlineExceeded as error:
            raise LabError(
                f"{node.machine.name} started, but no sshd answered at {address} within {_SSH_S:g} s",
                hint=f"look inside: lxc-attach -P {node.home} -n {node.container}",
            ) from error


def _home(site: Site) -> Path:
    return site.state_dir.resolve() / "lxc"


def _box_rootfs(site: Site, progress: Progress) -> Path:
    """The tree that the box is made of; `box` in lab.yaml may name a directory with one."""
    if site.topology.box:
        return Path(site.topology.box)
    tree = box.rootfs(site.cache_dir, progress)
    box.hold(tree, site.state_dir)
    return tree


PROVIDER = LxcProvider()
