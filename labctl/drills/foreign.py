"""A cluster that labctl did not make, as the target of drills: by its kubeconfig, and by ssh where there is access.

Machines are the cluster's Nodes and what the inventory names beside them. Power is out of reach but by commands of the
user's own. What a drill needs and this cluster does not give is said before anything is done.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import msgspec

from labctl.config import settings
from labctl.drills import hosts, lives, steady, workload
from labctl.drills.actions import Action, DeleteObject, PlugIn, PowerOn, Rejoin, Resume, Uncordon, Untaint
from labctl.drills.faults import heals_of
from labctl.drills.findings import Case, Checker, Result, Said
from labctl.drills.hosts import Host, Inventory
from labctl.drills.model import Drill, Options
from labctl.drills.records import Inspected, Sampled
from labctl.drills.target import Machine, Reopen
from labctl.kube.client import Client
from labctl.kube.kubeconfig import load as load_kubeconfig
from labctl.kube.resources import NODES
from labctl.kube.timing import PROFILES, Profile
from labctl.runtime.errors import LabError, UsageError
from labctl.runtime.shell import LocalShell, Output
from labctl.vm import login
from labctl.vm.provider import Link, Power

PROVIDER = "foreign"
LOG_IMAGE = "busybox:1.37"  # of the StatefulSet: labs have their own
_CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
_UNITS = {
    "apiserver": "kube-apiserver", "controllers": "kube-controller-manager", "scheduler": "kube-scheduler",
    "proxy": "kube-proxy",
}  # fmt: skip
_COMMAND_S = 60.0
# What a check says of machines is unknown where none can be looked into: then it is no part of the verdict.
_INSIDE = ("B", "D", "restarted", "same containers")


class _Address(msgspec.Struct, frozen=True):
    type: str
    address: str


class _Status(msgspec.Struct, frozen=True):
    addresses: tuple[_Address, ...] = ()


class _Meta(msgspec.Struct, frozen=True):
    name: str
    labels: Mapping[str, str] = {}


class _Node(msgspec.Struct, frozen=True):
    metadata: _Meta
    status: _Status = _Status()


class ForeignTarget:
    """See `Target`."""

    def __init__(self, folder: Path, kubeconfig: Path, inventory: Path | None, profile: str) -> None:
        self._kubeconfig, self._inventory_path = kubeconfig.resolve(), inventory.resolve() if inventory else None
        self.profile: Profile = PROFILES[profile]
        endpoint = load_kubeconfig(self._kubeconfig)
        if not endpoint.token and not endpoint.cert_pem:
            raise UsageError(
                f"{kubeconfig}: its user has neither a certificate nor a token; a login program is not run here",
                hint="make a kubeconfig with a service account's token (`kubectl create token`)",
            )
        self.lab = _name(endpoint.servers[0])
        self.inventory = hosts.load(inventory) if inventory else Inventory(hosts=())
        self.provider, self.slowness, self.virtual_address = PROVIDER, 1.0, ""
        self.shared, self._folder = True, folder

    @property
    def drills_dir(self) -> Path:
        """See `Target`; by the API's address, so that two names of one cluster share a lock."""
        path = self._folder / "clusters" / self.lab / "drills"
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    @property
    def reopen(self) -> Reopen:
        """See `Target`."""
        args = {"folder": str(self._folder), "kubeconfig": str(self._kubeconfig), "profile": self.profile.name}
        if self._inventory_path:
            args["inventory"] = str(self._inventory_path)
        return Reopen(factory=f"{__name__}:reopened", args=args)

    @cached_property
    def client(self) -> Client:
        """See `Target`."""
        return Client.from_kubeconfig(str(self._kubeconfig), user_agent="labctl-drill")

    def machines(self) -> Sequence[Machine]:
        """See `Target`; UsageError where the inventory names a node that is not there."""
        found = [msgspec.json.decode(raw, type=_Node) for raw in self.client.list(NODES).items]
        names = {node.metadata.name for node in found}
        beside = [host for host in self.inventory.hosts if host.role == "master" and host.node not in names]
        strange = [host.node for host in self.inventory.hosts if host.node not in names and host not in beside]
        if strange:
            raise UsageError(
                f"the inventory names {strange[0]!r}, which is no node of this cluster",
                hint=f"its nodes are: {', '.join(sorted(names))}; `node` gives a host its node's name, and "
                "`role: master` is for machines that are none",
            )
        known = [Machine(name=host.node, role="master", address=host.host or host.node) for host in beside]
        known += [_machine(node, self.inventory.host(node.metadata.name)) for node in found]
        return sorted(known, key=lambda machine: (machine.role != "master", machine.name))

    # -- power, by the user's own commands --------------------------------------------------------------------------

    def power(self, name: str) -> Power:
        """Running where it answers, else off: nobody tells us more."""
        return Power.RUNNING if self.answers(name) else Power.OFF

    def power_off(self, name: str) -> None:
        """See `Target`."""
        self._command(name, "power_off")

    def power_on(self, name: str) -> None:
        """See `Target`."""
        self._command(name, "power_on")

    def reset(self, name: str) -> None:
        """See `Target`."""
        self._command(name, "reset")

    def suspend(self, name: str) -> None:
        """See `Target`."""
        self._command(name, "suspend")

    def resume(self, name: str) -> None:
        """See `Target`."""
        self._command(name, "resume")

    def set_link(self, name: str, link: Link) -> None:
        """See `Target`."""
        self._command(name, "plug" if link is Link.UP else "unplug")

    def _command(self, name: str, what: str) -> None:
        host = self.inventory.host(name)
        command: str = getattr(host, what) if host else ""
        if not command:
            raise LabError(f"{name}: no command for {what} in the inventory", hint=f"`{what}: ...` of its host")
        LocalShell().run(["sh", "-c", command], timeout_s=_COMMAND_S)

    # -- inside -----------------------------------------------------------------------------------------------------

    def supply(self, image: str) -> Sequence[str]:  # noqa: ARG002 - the protocol's
        """See `Target`: a cluster that we did not make pulls its images."""
        return ()

    def within_reach(self, names: Sequence[str]) -> Sequence[str]:
        """See `Target`."""
        return [name for name in names if self.inventory.host(name) is not None]

    def unit(self, component: str) -> str:
        """See `Target`; as the inventory says, else as it is customary."""
        name = self.inventory.units.get(component) or _UNITS.get(component, component)
        return name if "." in name else f"{name}.service"

    def answers(self, name: str, *, timeout_s: float = 1.0) -> bool:
        """See `Target`."""
        host = self.inventory.host(name)
        return host is not None and login.answers(self._login(host), timeout_s=timeout_s)

    def run(self, name: str, argv: Sequence[str], *, timeout_s: float = 30.0) -> Output:
        """See `Target`; through sudo where we are not root."""
        host = self.inventory.host(name)
        if host is None:
            raise LabError(f"{name}: no access: it is not in the inventory")
        found = self._login(host)
        sudo = [] if found.user == "root" else ["sudo", "-n"]
        with login.connect(found) as connection:
            return connection.run(shlex.join([*sudo, *argv]), timeout_s=timeout_s, check=False)

    def _login(self, host: Host) -> login.Login:
        shared = self.inventory
        return login.Login(
            name=host.node,
            address=host.host or host.node,
            port=host.port or shared.port,
            user=host.user or shared.user,
            key=host.key or shared.key,
            known_hosts=shared.known_hosts,
            accept_new=shared.host_keys == "accept",
        )

    def lacks(self, action: Action) -> str:
        """Why an undo, and so the fault that it belongs to, is out of reach here; "" where it is not."""
        match action:
            case DeleteObject() | Uncordon() | Untaint() | Rejoin():
                return ""
            case PowerOn(node=node):
                return self._without(node, "power_off", "power_on")
            case Resume(node=node):
                return self._without(node, "suspend", "resume")
            case PlugIn(node=node):
                return self._without(node, "unplug", "plug")
        node = getattr(action, "node", "")
        return f"no ssh access to {node}" if node and self.inventory.host(node) is None else ""

    def _without(self, node: str, *commands: str) -> str:
        host = self.inventory.host(node)
        missing = [command for command in commands if not getattr(host, command, "")]
        return f"the inventory has no {' and no '.join(missing)} command for {node}" if missing else ""


def reopened(folder: str, kubeconfig: str, profile: str, inventory: str = "") -> ForeignTarget:
    """The same cluster in another process; see `Reopen`."""
    return ForeignTarget(Path(folder), Path(kubeconfig), Path(inventory) if inventory else None, profile)


def opened(kubeconfig: Path, inventory: Path | None, profile: str) -> ForeignTarget:
    """The cluster of a kubeconfig; what drills keep of it lies beside the labs' state."""
    return ForeignTarget(settings().state_root, kubeconfig, inventory, profile)


def fitted(drill: Drill, target: ForeignTarget, options: Options) -> Drill:
    """The drill as it can run here: impossible, with the reason, or without verdicts that need a look inside."""
    steady.check_reachable(target)
    target.machines()  # an inventory that does not fit the cluster is the user's mistake, whatever the drill
    why = lacking(drill, target, options)
    if why:
        return replace(drill, impossible_on={**drill.impossible_on, PROVIDER: why})
    checkers = {
        letter: (title, _where_seen(checker) if letter in _INSIDE else checker)
        for letter, (title, checker) in drill.checkers.items()
    }
    # Nobody there fences for us: an identity on a silent node stays, as upstream.
    demand = replace(drill.demand, stateful="none" if drill.demand.stateful and options.stateful else "")
    return replace(drill, checkers=checkers, demand=demand)


def lacking(drill: Drill, target: ForeignTarget, options: Options) -> str:
    """What this cluster does not give that the drill needs, in words; "" where it has everything."""
    if why := steady.why_impossible(drill, target):
        return why
    try:
        found = workload.find(target.client)
        if found is None and options.image is None:
            return f"no Deployment is labelled {workload.LABEL}, and no --image is named for one of our own"
        scene = steady.set_scene(target, drill, options, found or workload.OWN)
        actions = heals_of(drill.faults(scene), target)
    except (UsageError, IndexError, KeyError) as error:
        return str(error) if isinstance(error, UsageError) else "it needs machines that are not known here"
    return "; ".join(dict.fromkeys(filter(None, (target.lacks(action) for action in actions))))


def _where_seen(checker: Checker) -> Checker:
    """The same, but not applicable where no machine was looked into at all."""

    def check(case: Case) -> Said:
        result, words = checker(case)
        sampled = any(look.machines for _, look in case.history.of(Sampled))
        inspected = any(look.machines for _, look in case.history.of(Inspected))
        if result is Result.UNKNOWN and not sampled and not inspected:
            return Result.NOT_APPLICABLE, f"no machine can be looked into: there is no ssh access{_by_records(case)}"
        return result, words

    return check


def _by_records(case: Case) -> str:
    sent = lives.taken(case.history)
    pods = len({record.life for _, record in sent})
    return f"; {pods} pods took {len(sent)} records of the identity, one after the other" if sent else ""


def _machine(node: _Node, host: Host | None) -> Machine:
    addresses = {found.type: found.address for found in node.status.addresses}
    labelled = any(label in node.metadata.labels for label in _CONTROL_PLANE)
    master = labelled or (host is not None and host.role == "master")
    address = addresses.get("InternalIP") or addresses.get("ExternalIP") or (host.host if host else "")
    return Machine(
        name=node.metadata.name, role="master" if master else "worker", address=address or node.metadata.name
    )


def _name(server: str) -> str:
    """A cluster's folder, from its API's address: `https://192.0.2.1:6443` becomes `192.0.2.1-6443`."""
    return re.sub(r"[^a-z0-9.]+", "-", server.partition("://")[2].lower()).strip("-")
