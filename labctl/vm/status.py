"""What `labctl status` tells: each machine as its provider and the API see it, and what the cluster waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from labctl.kube.client import Client
from labctl.runtime.errors import LabError
from labctl.vm import health, waiting
from labctl.vm.provider import Power
from labctl.vm.topology import Topology


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One machine, as its provider and the API see it."""

    name: str
    role: str
    address: str
    power: str
    ready: str  # the Node's Ready condition: True, False, Unknown; "" where the API does not know the node


class LabStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What `labctl status` tells."""

    name: str
    provider: str
    profile: str
    network: str
    api: str  # "ok", or why it does not answer
    nodes: tuple[NodeStatus, ...]
    waits: tuple[str, ...] = ()  # for what the cluster waits


def look(topology: Topology, power: Mapping[str, Power], connect: Callable[[], Client]) -> LabStatus:
    """Ask the API. One that does not answer, or that there is no way to yet, is told as such, with the rest."""
    conditions: Mapping[str, str] = {}
    waits: tuple[str, ...] = ()
    api = "ok"
    try:
        client = connect()
        conditions = health.ready_conditions(client)
        waits = waiting.look(client)
    except LabError as error:
        api = str(error)
    return LabStatus(
        name=topology.lab,
        provider=topology.provider,
        profile=topology.profile,
        network=topology.network_cidr,
        api=api,
        nodes=tuple(
            NodeStatus(
                name=machine.name,
                role=machine.role,
                address=machine.address,
                power=power.get(machine.name, Power.ABSENT).value,
                ready=conditions.get(machine.name, ""),
            )
            for machine in topology.machines
        ),
        waits=waits,
    )
