"""The API server's configuration file: JSON, decoded once, never changed."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import msgspec

from labctl.kube.timing import PROFILES, Profile
from labctl.runtime.errors import UsageError


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What /etc/labctl/apiserver.json holds. `etcd_servers: ["memory://"]` keeps everything in this process."""

    bind_address: str = "0.0.0.0"  # noqa: S104 - the API is meant to be reached
    port: int = 6443
    advertise_address: str
    etcd_servers: tuple[str, ...]
    etcd_ca_file: str = ""
    etcd_cert_file: str = ""
    etcd_key_file: str = ""
    tls_cert_file: str
    tls_key_file: str
    client_ca_file: str
    kubelet_client_cert_file: str = ""
    kubelet_client_key_file: str = ""
    service_account_key_file: str = ""
    service_cidr: str = "10.96.0.0/12"
    node_port_range: str = "30000-32767"
    profile: str = "fast"

    @property
    def timing(self) -> Profile:
        """The timing profile by its name."""
        return PROFILES[self.profile]

    @property
    def node_ports(self) -> range:
        """The NodePorts that may be given out."""
        first, _, last = self.node_port_range.partition("-")
        return range(int(first), int(last) + 1)


def load(path: str) -> Config:
    """Read and check `path`; UsageError names the file and the field."""
    try:
        config = msgspec.json.decode(Path(path).read_bytes(), type=Config)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path}: {error}") from error
    _check(path, config)
    return config


def _check(path: str, config: Config) -> None:
    if config.profile not in PROFILES:
        raise UsageError(f"{path}: profile: {config.profile!r} is none of {', '.join(PROFILES)}")
    try:
        ipaddress.ip_network(config.service_cidr)
        ipaddress.ip_address(config.advertise_address)
    except ValueError as error:
        raise UsageError(f"{path}: service_cidr or advertise_address: {error}") from error
    try:
        ports = config.node_ports
    except ValueError:
        ports = range(0)
    if not ports or ports[0] < 1 or ports[-1] > 65535:
        raise UsageError(
            f"{path}: node_port_range: {config.node_port_range!r} is not a range of ports", hint="30000-32767"
        )
    if not config.etcd_servers:
        raise UsageError(f"{path}: etcd_servers: empty", hint='["https://127.0.0.1:2379"]')
