"""The arithmetic of a Deployment's rollout. Pure.

Source: k/k `pkg/controller/deployment/util/deployment_util.go` (ResolveFenceposts, NewRSNewReplicas,
GetReplicaSetProportion).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from master.controllers.views_deployments import Deployment, ReplicaSet

DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"


def scaled(value: int | str, total: int, *, up: bool) -> int:
    """A count, or a percentage of `total`, rounded up or down."""
    if isinstance(value, int):
        return value
    share = total * int(value.removesuffix("%")) / 100
    return math.ceil(share) if up else math.floor(share)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a rollout may stray from `replicas`."""

    replicas: int
    surge: int
    unavailable: int

    @property
    def most(self) -> int:
        """The most pods there may be."""
        return self.replicas + self.surge

    @property
    def least_available(self) -> int:
        """The fewest that must be available."""
        return self.replicas - self.unavailable


def bounds(item: Deployment) -> Bounds:
    """Of a Deployment; where both ends round to zero one may be unavailable, or nothing could move."""
    replicas = item.spec.replicas
    if item.spec.strategy.type == "Recreate" or replicas == 0:
        return Bounds(replicas, 0, 0)
    rolling = item.spec.strategy.rolling_update
    surge = scaled(rolling.max_surge, replicas, up=True)
    unavailable = scaled(rolling.max_unavailable, replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Bounds(replicas, surge, min(unavailable, replicas))


def scale_up_new(limit: Bounds, new: ReplicaSet, everyone: Sequence[ReplicaSet]) -> int:
    """How many replicas the new set may have now."""
    total = sum(item.spec.replicas for item in everyone)
    if total >= limit.most:
        return new.spec.replicas
    return new.spec.replicas + min(limit.most - total, limit.replicas - new.spec.replicas)


def scale_down_old(limit: Bounds, new: ReplicaSet, old: Sequence[ReplicaSet]) -> dict[str, int]:
    """New sizes of the old sets (by uid): unhealthy replicas first, then as many as availability allows."""
    everyone = [*old, new]
    total = sum(item.spec.replicas for item in everyone)
    new_unavailable = new.spec.replicas - _available(new)
    budget = total - limit.least_available - new_unavailable
    sizes = {item.metadata.uid: item.spec.replicas for item in old}
    if budget <= 0:
        return sizes
    for item in old:  # oldest first: replicas that serve nobody cost nothing
        unhealthy = item.spec.replicas - _available(item)
        drop = min(budget, max(0, unhealthy))
        sizes[item.metadata.uid] -= drop
        budget -= drop
    spare = sum(_available(item) for item in everyone) - limit.least_available
    for item in old:
        if spare <= 0:
            break
        drop = min(sizes[item.metadata.uid], spare)
        sizes[item.metadata.uid] -= drop
        spare -= drop
    return sizes


def _available(item: ReplicaSet) -> int:
    """Never more than were asked for: a status that lags behind a scale-down must not be spent twice."""
    return min(item.spec.replicas, item.status.available_replicas)


def proportional(limit: Bounds, sets: Sequence[ReplicaSet]) -> dict[str, int]:
    """New sizes (by uid) when the Deployment itself was scaled in the middle of a rollout: in proportion."""
    total = sum(item.spec.replicas for item in sets)
    allowed = limit.most if limit.replicas > 0 else 0
    to_add = allowed - total
    ordered = sorted(sets, key=lambda item: (-item.spec.replicas, item.metadata.creation_timestamp))
    if to_add > 0:  # the newest first among equals
        ordered = sorted(sets, key=lambda item: item.metadata.creation_timestamp, reverse=True)
        ordered.sort(key=lambda item: -item.spec.replicas)
    sizes: dict[str, int] = {}
    added = 0
    for item in ordered:
        share = _share(item, limit, to_add, added) if item.spec.replicas else 0
        sizes[item.metadata.uid] = item.spec.replicas + share
        added += share
    if ordered:  # what rounding left goes to the biggest
        first = ordered[0].metadata.uid
        sizes[first] = max(0, sizes[first] + to_add - added)
    return sizes


def _share(item: ReplicaSet, limit: Bounds, to_add: int, added: int) -> int:
    size = item.spec.replicas
    before = item.metadata.annotations.get(MAXIMUM, "")
    base = int(before) if before.isdigit() and int(before) > 0 else size
    share = round_half_up(size * limit.most / base) - size
    left = to_add - added
    if not to_add or not left:
        return 0
    return min(share, left) if to_add > 0 else max(share, left)


def round_half_up(value: float) -> int:
    """As Go's math.Round for what is not negative."""
    return math.floor(value + 0.5)
