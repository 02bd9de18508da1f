"""A Lease as those read it who want to hold it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Who holds it, and for how long since when; None where the object does not say."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class LeaseMeta(msgspec.Struct, frozen=True, rename="camel"):
    """What a conditional write needs, and the words beside it."""

    resource_version: str
    annotations: Mapping[str, str] = {}


class Lease(msgspec.Struct, frozen=True):
    """The object."""

    metadata: LeaseMeta
    spec: LeaseSpec = LeaseSpec()

    @property
    def holder(self) -> str:
        """Its holder's identity; "" where nobody holds it."""
        return self.spec.holder_identity or ""
