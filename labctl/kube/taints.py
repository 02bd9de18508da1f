"""Taints and tolerations: frozen views, and whether one covers the other. Pure; source: core/v1 `toleration.go`."""

from __future__ import annotations

import msgspec


class Toleration(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A pod's toleration; an empty key tolerates every taint, an empty effect every effect."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class Taint(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A node's taint; `time_added` is RFC 3339 text, "" where unset."""

    key: str
    effect: str
    value: str = ""
    time_added: str = ""


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether a toleration covers a taint."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.value == taint.value
