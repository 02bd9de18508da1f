"""kube-proxy's settings: `/etc/labctl/proxy.json`, decoded into a frozen struct. The only reader of that file."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from labctl.kube.component import ComponentConfig


class Config(ComponentConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of proxy.json."""

    kubeconfig: str
    node_name: str
    node_ip: str
    cluster_cidr: str  # all pods of all nodes
    service_cidr: str

    def __post_init__(self) -> None:
        """Check the addresses."""
        for field, kind in (("node_ip", IPv4Address), ("cluster_cidr", IPv4Network), ("service_cidr", IPv4Network)):
            try:
                kind(getattr(self, field))
            except ValueError as error:
                raise ValueError(f"{field}: {error}") from error
