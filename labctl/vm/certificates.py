"""Which certificates a lab has, whose names are on them and what they are for. Pure; `pki.py` issues them.

Names and uses are upstream's: https://kubernetes.io/docs/setup/best-practices/certificates/
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

from labctl.vm import fence
from labctl.vm.topology import Machine, Topology


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate that should exist."""

    path: str  # below pki/, without .crt and .key
    common_name: str
    organization: str = ""
    names: tuple[str, ...] = ()  # DNS names and addresses
    server: bool = False
    client: bool = True

    @property
    def authority(self) -> str:
        """Which authority signs it: the etcd one below etcd/, else the lab's."""
        return "etcd/ca" if self.path.startswith("etcd/") else "ca"


def leaves(topology: Topology) -> tuple[Leaf, ...]:
    """Every certificate of a lab. Pure."""
    masters = topology.masters
    api_names = (
        *("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"),
        *("localhost", "127.0.0.1", str(IPv4Network(topology.service_cidr)[1])),
        *(name for master in masters for name in (master.name, master.address)),
        *([topology.virtual_address] if topology.virtual_address else []),
    )
    return (
        Leaf("apiserver", "kube-apiserver", names=api_names, server=True, client=False),
        Leaf("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "kubeadm:cluster-admins"),
        Leaf("admin", "kubernetes-admin", "system:masters"),
        Leaf("scheduler", "system:kube-scheduler"),
        Leaf("controllers", "system:kube-controller-manager"),
        Leaf("proxy", "system:kube-proxy"),
        Leaf("fence-agent", "labctl:fence-agent", names=(topology.host_address,), server=True, client=False),
        Leaf("fence-client", fence.CLIENT),
        Leaf("etcd/client", "kube-apiserver-etcd-client"),
        *(leaf for machine in topology.machines for leaf in node_leaves(machine)),
    )


def node_leaves(machine: Machine) -> tuple[Leaf, ...]:
    """Those of one machine alone. Pure."""
    name, here = machine.name, (machine.name, machine.address)
    if machine.role == "master":  # etcd's gateway dials etcd itself, with the server certificate
        local = (*here, "localhost", "127.0.0.1")
        return (
            Leaf(f"etcd/server-{name}", name, names=local, server=True),
            Leaf(f"etcd/peer-{name}", name, names=local, server=True),
        )
    return (
        Leaf(f"node-{name}", f"system:node:{name}", "system:nodes"),
        Leaf(f"kubelet-{name}", f"system:node:{name}", "system:nodes", names=here, server=True, client=False),
    )
