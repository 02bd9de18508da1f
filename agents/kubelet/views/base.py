"""What all views share: how fields are named, metadata, and nulls that stand for absent fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

_CAPITALS = {"ip": "IP", "ips": "IPs", "pid": "PID", "ipc": "IPC", "id": "ID", "cidr": "CIDR", "api": "API"}

Quantity = str | int | float
IntOrString = int | str


def field_name(name: str) -> str:
    """`pod_ip` to `podIP`: Kubernetes' own capitals."""
    first, *rest = name.split("_")
    return first + "".join(_CAPITALS.get(part) or part.capitalize() for part in rest)


class View(msgspec.Struct, frozen=True, omit_defaults=True, rename=field_name):
    """Base of every view: frozen, unknown fields ignored, absent fields at their Kubernetes defaults."""


def without_nulls(value: Any) -> Any:
    """A document without its null fields, which Kubernetes reads as absent."""
    if isinstance(value, Mapping):
        return {key: without_nulls(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list):
        return [without_nulls(entry) for entry in value if entry is not None]
    return value
