"""controllers.json: where the API is, and what the cluster's networks are."""

from __future__ import annotations

from ipaddress import IPv4Network

import msgspec

from labctl.kube.component import ComponentConfig
from labctl.kube.fencing import DEFAULT, Mode


class FenceAgent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the fence agent is (labctl/vm/fence/agent.py), and what we show it."""

    url: str
    ca_file: str
    cert_file: str
    key_file: str


class Config(ComponentConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As written by the playbooks."""

    kubeconfig: str
    cluster_cidr: str = "10.244.0.0/16"
    node_cidr_mask: int = 24
    fencing: Mode = DEFAULT  # of a StatefulSet's pods; their own annotation and the node's go before
    fence_agent: FenceAgent | None = None  # None: no machine can be powered off

    def __post_init__(self) -> None:
        """Check the networks."""
        try:
            network = IPv4Network(self.cluster_cidr)
        except ValueError as error:
            raise ValueError(f"cluster_cidr: {error}") from error
        if not network.prefixlen <= self.node_cidr_mask <= 30:
            raise ValueError(f"node_cidr_mask: must lie between {network.prefixlen} and 30")
