"""From configuration to topology: names, addresses, sizes. Pure; what a lab has stays as it is."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network
from typing import Any

from labctl.config import DEFAULT_NAME, FencingConfig, LabConfig, NodeConfig, Nodes, size_mib
from labctl.runtime.errors import UsageError
from labctl.vm.topology import Machine, Role, Taint, Topology, address_of, bridge_of, mac_of

DEFAULT_PROVIDER = "vagrant"
DEFAULT_PROFILE = "fast"
CLUSTER_CIDR = "10.244.0.0/16"  # upstream kubeadm's customary pod network
SERVICE_CIDR = "10.96.0.0/16"
_CPUS: dict[Role, int] = {"master": 2, "worker": 1}
_LAB_NETWORKS = [f"10.77.{third}.0/24" for third in range(256)]


def lay_out(config: LabConfig, existing: Topology | None, taken: Iterable[str]) -> Topology:
    """The topology that `config` asks for.

    What `config` does not say is kept from `existing`, else takes a default; without a stated network the first
    of 10.77.0.0/24 to 10.77.255.0/24 that overlaps none of `taken` (CIDRs in use on this host). UsageError where the
    wish contradicts what the lab already is.
    """
    if existing is not None:
        _check_unchanged(config, existing)
    if existing is not None:
        network = existing.network_cidr
    else:
        network = _wanted_network(config.network, taken) if config.network else _free_network(taken)
    provider = config.provider or (existing.provider if existing else DEFAULT_PROVIDER)
    name = config.name or (existing.lab if existing else DEFAULT_NAME)
    masters = _machines("master", config.masters, existing.masters if existing else None, network, default=1)
    workers = _machines("worker", config.workers, existing.workers if existing else None, network, default=2)
    return Topology(
        lab=name,
        provider=provider,
        profile=config.profile or (existing.profile if existing else DEFAULT_PROFILE),
        box=config.box or (existing.box if existing else ""),
        network_cidr=network,
        host_address=str(IPv4Network(network)[1]),
        bridge=bridge_of(name),
        cluster_cidr=config.cluster_cidr or (existing.cluster_cidr if existing else CLUSTER_CIDR),
        service_cidr=config.service_cidr or (existing.service_cidr if existing else SERVICE_CIDR),
        machines=(*masters, *workers),
        **_fencing(config.fencing, existing),
    )


def overloads(topology: Topology, slowness: float, processors: int) -> bool:
    """Whether several masters would spend their time on the timers of `fast`: emulated, two of them to a processor.

    Heartbeats and leases are writes that every etcd member must store, and `fast` asks for about seven a second:
    emulated and crowded, one costs each member a tenth of a second. `slowness` is the provider's. Pure.
    """
    return len(topology.masters) > 1 and slowness > 1 and len(topology.machines) * 2 > processors


def _fencing(wanted: str | FencingConfig | None, existing: Topology | None) -> dict[str, Any]:
    """A bare mode keeps the command that is there."""
    found = {"fencing": existing.fencing, "fencing_command": existing.fencing_command} if existing else {}
    if isinstance(wanted, FencingConfig):
        return {"fencing": wanted.mode, "fencing_command": wanted.command or ""}
    return found | ({"fencing": wanted} if wanted else {})


def _machines(
    role: Role, wanted: Nodes | None, existing: tuple[Machine, ...] | None, network: str, *, default: int
) -> tuple[Machine, ...]:
    if wanted is None and existing is not None:
        return existing
    if isinstance(wanted, int) and existing is not None:  # a bare count keeps the machines that are there
        more = [_machine(role, number, NodeConfig(), network) for number in range(len(existing) + 1, wanted + 1)]
        return (*existing[:wanted], *more)
    nodes = wanted if isinstance(wanted, tuple) else (NodeConfig(),) * (default if wanted is None else wanted)
    return tuple(_machine(role, number, node, network) for number, node in enumerate(nodes, start=1))


def _machine(role: Role, number: int, node: NodeConfig, network: str) -> Machine:
    address = address_of(network, role, number)
    return Machine(
        name=f"{role}{number}",
        role=role,
        address=address,
        mac=mac_of(address),
        cpus=node.cpus or _CPUS[role],
        memory_mib=size_mib(node.memory),
        disk_gib=-(-size_mib(node.disk) // 1024),
        labels=dict(node.labels),
        taints=tuple(Taint(taint.key, taint.effect, taint.value) for taint in node.taints),
    )


def _wanted_network(network: str, taken: Iterable[str]) -> str:
    for cidr in taken:
        if IPv4Network(network).overlaps(IPv4Network(cidr, strict=False)):
            hint = "choose another `network` in lab.yaml, or none: labctl finds a free one"
            raise UsageError(f"network: {network} overlaps {cidr}, which this host uses already", hint=hint)
    return network


def _free_network(taken: Iterable[str]) -> str:
    used = [IPv4Network(cidr, strict=False) for cidr in taken]
    for candidate in _LAB_NETWORKS:
        if not any(IPv4Network(candidate).overlaps(network) for network in used):
            return candidate
    raise UsageError("every network from 10.77.0.0/24 to 10.77.255.0/24 is in use", hint="set `network` in lab.yaml")


def _check_unchanged(config: LabConfig, existing: Topology) -> None:
    """A lab cannot change its provider, networks, box or number of masters under way, nor lose workers."""
    fixed = {
        "provider": (config.provider, existing.provider),
        "network": (config.network, existing.network_cidr),
        "cluster_cidr": (config.cluster_cidr, existing.cluster_cidr),
        "service_cidr": (config.service_cidr, existing.service_cidr),
        "box": (config.box, existing.box),
        "masters": (_count(config.masters), len(existing.masters)),
    }
    for field, (wanted, has) in fixed.items():
        if wanted is not None and wanted != has:
            raise UsageError(
                f"lab {existing.lab!r} exists with {field} {has or 'built in'}, not {wanted}",
                hint="`labctl destroy` it first, or give the new lab another --name",
            )
    workers = _count(config.workers)
    if workers is not None and workers < len(existing.workers):
        raise UsageError(
            f"lab {existing.lab!r} has {len(existing.workers)} workers; it can grow but not shrink to {workers}",
            hint="drain and `labctl kubectl -- delete node` takes one out of service; `labctl destroy` starts over",
        )


def _count(nodes: Nodes | None) -> int | None:
    return nodes if nodes is None or isinstance(nodes, int) else len(nodes)
