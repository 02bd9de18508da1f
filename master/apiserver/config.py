"""The API server's configuration file: JSON, decoded once, never changed."""

from __future__ import annotations

import ipaddress

from labctl.kube.component import ComponentConfig


class Config(ComponentConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What /etc/labctl/apiserver.json holds. `etcd_servers: ["memory://"]` keeps everything in this process."""

    bind_address: str = "0.0.0.0"  # noqa: S104 - the API is meant to be reached
    port: int = 6443
    advertise_address: str
    etcd_servers: tuple[str, ...]
    etcd_ca_file: str = ""
    etcd_cert_file: str = ""
    etcd_key_file: str = ""
    etcd_attempt_s: float = 3.0  # before another member is asked: one without a leader says nothing for up to 7 s
    tls_cert_file: str
    tls_key_file: str
    client_ca_file: str
    kubelet_client_cert_file: str = ""
    kubelet_client_key_file: str = ""
    service_account_key_file: str = ""
    disable_admission_plugins: tuple[str, ...] = ()
    audit_log_file: str = ""  # "" for none
    service_cidr: str = "10.96.0.0/12"
    node_port_range: str = "30000-32767"

    @property
    def node_ports(self) -> range:
        """The NodePorts that may be given out."""
        first, _, last = self.node_port_range.partition("-")
        return range(int(first), int(last) + 1)

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        for field, parse in (("service_cidr", ipaddress.ip_network), ("advertise_address", ipaddress.ip_address)):
            try:
                parse(getattr(self, field))
            except ValueError as error:
                raise ValueError(f"{field}: {error}") from error
        try:
            ports = self.node_ports
        except ValueError:
            ports = range(0)
        if not ports or ports[0] < 1 or ports[-1] > 65535:
            raise ValueError(f"node_port_range: {self.node_port_range!r} is no range of ports, as 30000-32767 is")
        if self.etcd_attempt_s <= 0:
            raise ValueError(f"etcd_attempt_s: {self.etcd_attempt_s} is not above 0")
        if not self.etcd_servers:
            raise ValueError('etcd_servers: empty; ["https://127.0.0.1:2379"] for example')
