"""Give every node its own pod network out of the cluster's. Pure: no clock, no network, no log.

Source: k/k `pkg/controller/nodeipam/ipam/range_allocator.go`. A network is free again once its Node is gone.
"""

from __future__ import annotations

from ipaddress import IPv4Network

from labctl.kube.resources import NODES
from master.controllers.protocol import Controller, Plan, Step, Tell, World, patch, ref
from master.controllers.views import NODES_KIND


def plan(world: World, memory: None) -> Plan:
    """Assign the first free network to each node without one, in the order they came."""
    nodes = world.all(NODES_KIND).values()
    taken = {cidr for node in nodes for cidr in (node.spec.pod_cidr, *node.spec.pod_cidrs) if cidr}
    networks = IPv4Network(world.settings.cluster_cidr).subnets(new_prefix=world.settings.node_cidr_mask)
    free = (str(network) for network in networks if str(network) not in taken)
    steps: list[Step] = []
    waiting = [node for node in nodes if not node.spec.pod_cidr and not node.metadata.deleting]
    for node in sorted(waiting, key=lambda node: (node.metadata.creation_timestamp, node.metadata.name)):
        about = ref(NODES, node.metadata)
        cidr = next(free, None)
        if cidr is None:
            message = f"no pod network left in {world.settings.cluster_cidr} for node {node.metadata.name}"
            steps.append(Step(about, (Tell(reason="CIDRNotAvailable", message=message, type="Warning"),)))
            continue
        change = patch(NODES, node.metadata, {"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}, exact=True)
        steps.append(Step(about, (change,), failure_reason="CIDRAssignmentFailed"))
    return Plan(tuple(steps), memory=memory)


CONTROLLER = Controller(name="node_ipam", reads=(NODES_KIND,), plan=plan)
