"""The kubelet's settings: `/etc/labctl/kubelet.json`, decoded into a frozen struct. The only reader of that file."""

from __future__ import annotations

import msgspec

from agents.kubelet.views import Taint
from labctl.kube.component import ComponentConfig
from labctl.kube.fencing import DEFAULT, Mode


class Config(ComponentConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See the keys of kubelet.json in the comments; figures of 0 mean "as measured"."""

    kubeconfig: str
    node_name: str
    node_ip: str  # the lab network's address, never a NAT one
    root_dir: str = "/var/lib/labctl/kubelet"
    port: int = 10250
    tls_cert_file: str = ""
    tls_key_file: str = ""
    client_ca_file: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    cpus: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    fencing: Mode = DEFAULT  # of a StatefulSet's pods; their own annotation and the node's go before
