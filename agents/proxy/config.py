"""kube-proxy's settings: `/etc/labctl/proxy.json`, decoded into a frozen struct. The only reader of that file."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Literal

import msgspec

from labctl.kube.timing import PROFILES, Profile
from labctl.runtime.errors import UsageError


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of proxy.json."""

    kubeconfig: str
    node_name: str
    node_ip: str
    cluster_cidr: str  # all pods of all nodes
    service_cidr: str
    profile: Literal["fast", "kubernetes"] = "fast"

    @property
    def timing(self) -> Profile:
        """The profile's numbers."""
        return PROFILES[self.profile]


def load(path: str) -> Config:
    """Read `path`; UsageError (exit code 2) names the file and the field that is wrong."""
    try:
        with open(path, "rb") as file:
            found = msgspec.json.decode(file.read(), type=Config)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint="labctl up writes the nodes' configuration") from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path}: {error}") from error
    for field, kind in (("node_ip", IPv4Address), ("cluster_cidr", IPv4Network), ("service_cidr", IPv4Network)):
        try:
            kind(getattr(found, field))
        except ValueError as error:
            raise UsageError(f"{path}: {error} - at `$.{field}`") from error
    return found
