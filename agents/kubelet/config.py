"""The kubelet's settings: `/etc/labctl/kubelet.json`, decoded into a frozen struct. The only reader of that file."""

from __future__ import annotations

from typing import Literal

import msgspec

from agents.kubelet.views import Taint
from labctl.kube.timing import PROFILES, Profile
from labctl.runtime.errors import UsageError


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See the keys of kubelet.json in the comments; figures of 0 mean "as measured"."""

    kubeconfig: str
    node_name: str
    node_ip: str  # the lab network's address, never a NAT one
    profile: Literal["fast", "kubernetes"] = "fast"
    root_dir: str = "/var/lib/labctl/kubelet"
    port: int = 10250
    tls_cert_file: str = ""
    tls_key_file: str = ""
    client_ca_file: str = ""
    labels: dict[str, str] = {}
    taints: tuple[Taint, ...] = ()
    cpus: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0

    @property
    def timing(self) -> Profile:
        """The profile's numbers."""
        return PROFILES[self.profile]


def load(path: str) -> Config:
    """Read `path`; UsageError (exit code 2) names the file and the field that is wrong."""
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Config)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint="labctl up writes the nodes' configuration") from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path}: {error}") from error
