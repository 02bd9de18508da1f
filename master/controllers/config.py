"""controllers.json: where the API is, and what the cluster's networks are."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import msgspec

from labctl.kube.timing import PROFILES
from labctl.runtime.errors import UsageError


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As written by the playbooks."""

    kubeconfig: str
    profile: str = "fast"
    cluster_cidr: str = "10.244.0.0/16"
    node_cidr_mask: int = 24


def load(path: str) -> Config:
    """Read and check; UsageError names the file and the field."""
    try:
        config = msgspec.json.decode(Path(path).read_bytes(), type=Config)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path}: {error}") from error
    if config.profile not in PROFILES:
        raise UsageError(f"{path}: profile: {config.profile!r} is not one of {', '.join(sorted(PROFILES))}")
    try:
        network = IPv4Network(config.cluster_cidr)
    except ValueError as error:
        raise UsageError(f"{path}: cluster_cidr: {error}") from error
    if not network.prefixlen <= config.node_cidr_mask <= 30:
        raise UsageError(f"{path}: node_cidr_mask: must lie between {network.prefixlen} and 30")
    return config
