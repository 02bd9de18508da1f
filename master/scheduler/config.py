"""scheduler.json: where the API is."""

from __future__ import annotations

from pathlib import Path

import msgspec

from labctl.kube.timing import PROFILES
from labctl.runtime.errors import UsageError


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As written by the playbooks."""

    kubeconfig: str
    profile: str = "fast"


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
    return config
