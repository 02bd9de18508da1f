"""Which etcd members have to go and which to come, so that each master is one again. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from labctl.runtime.errors import LabError
from labctl.vm.topology import Machine, Topology

PEER_PORT = 2380


@dataclass(frozen=True, slots=True)
class Member:
    """A member as etcd knows it; `name` is "" until it has started for the first time."""

    id: str  # in hexadecimal, as etcdctl takes it
    name: str
    peer_url: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order: all removals, then all additions, one by one."""

    remove: tuple[Member, ...] = ()
    add: tuple[Machine, ...] = ()
    joining: tuple[Machine, ...] = ()  # those that begin with the data of the others: the added, and earlier added ones


def peer_url(machine: Machine) -> str:
    """Where a master's etcd listens for the others."""
    return f"https://{machine.address}:{PEER_PORT}"


def initial_cluster(masters: Sequence[Machine]) -> str:
    """ETCD_INITIAL_CLUSTER of these masters."""
    return ",".join(f"{master.name}={peer_url(master)}" for master in masters)


def plan(masters: Sequence[Machine], members: Sequence[Member], with_data: Collection[str]) -> Plan:
    """Make a member of each of `masters` that has lost its data; `with_data` names those that have it.

    A member that has started once and comes back with nothing would vote as if it remembered: it is removed, and joins
    as a new one. LabError where those with data are no majority: then nobody may decide, and a backup is what is left.
    """
    lost = [master for master in masters if master.name not in with_data]
    if not lost:
        return Plan()
    if 2 * (len(masters) - len(lost)) <= len(masters):
        raise LabError(
            f"{' and '.join(master.name for master in lost)} lost etcd's data: the others are no majority",
            hint="`labctl restore FILE` brings a backup back; without one, `labctl destroy` and `labctl up` start over",
        )
    known = {member.peer_url: member for member in members}
    remove, add = [], []
    for master in lost:
        member = known.get(peer_url(master))
        if member is not None and member.name:
            remove.append(member)
        if member is None or member.name:
            add.append(master)
    return Plan(tuple(remove), tuple(add), tuple(lost))


def batches(topology: Topology, joining: Collection[str]) -> tuple[tuple[Machine, ...], ...]:
    """In which steps a lab that serves is provisioned: never more than one master that serves at a time.

    First the workers and those masters that serve nobody yet, so that the others keep a majority.
    """
    first = [m for m in topology.machines if m.role == "worker" or m.name in joining]
    others = [(master,) for master in topology.masters if master.name not in joining]
    return ((*first,), *others) if first else tuple(others)
