"""How sick a zone is, and how fast its nodes may be tainted for eviction. Pure.

Source: k/k `pkg/controller/nodelifecycle` (ComputeZoneState, handleDisruption, ReducedQPSFunc, rate_limited_queue.go).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from labctl.kube.timing import Profile
from master.controllers.protocol import NEVER_S
from master.controllers.views import Node

_EXCLUDED = "node.kubernetes.io/exclude-disruption"

Disruption = Literal["Normal", "PartialDisruption", "FullDisruption"]


def zone_of(node: Node) -> str:
    """Region and zone, by their well-known labels; one zone for the nodes without."""
    labels = node.metadata.labels
    region, zone = labels.get("topology.kubernetes.io/region", ""), labels.get("topology.kubernetes.io/zone", "")
    return f"{region}:{zone}" if region or zone else ""


def disruption(ready: Sequence[bool], profile: Profile) -> Disruption:
    """Full: none is ready. Partial: more than two are not, and they are at least the threshold of all."""
    down = ready.count(False)
    if down and down == len(ready):
        return "FullDisruption"
    if down > 2 and down / len(ready) >= profile.unhealthy_zone_threshold:
        return "PartialDisruption"
    return "Normal"


def rate_per_s(state: Disruption, size: int, profile: Profile) -> float:
    """Evictions a second: the full rate, or in a partly disrupted zone a lower one in large zones and none in small."""
    if state != "PartialDisruption":
        return profile.eviction_rate_per_s  # a zone that is down while others are up was lost: empty it
    return profile.secondary_eviction_rate_per_s if size > profile.large_zone_nodes else 0.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket of one: how much is in it, and when that was."""

    tokens: float = 1.0
    at_s: float = 0.0

    def at(self, now_s: float, rate: float) -> Bucket:
        """The bucket as it is at `now_s`."""
        return Bucket(min(1.0, self.tokens + max(0.0, now_s - self.at_s) * rate), now_s)

    def taken(self) -> Bucket:
        """With one token less."""
        return replace(self, tokens=self.tokens - 1.0)

    def wait_s(self, rate: float) -> float:
        """Until there is a token."""
        if self.tokens >= 1.0:
            return 0.0
        return (1.0 - self.tokens) / rate if rate > 0 else NEVER_S


def counts_for_disruption(node: Node) -> bool:
    """Whether the node's health says something about its zone's."""
    return _EXCLUDED not in node.metadata.labels


def grouped(nodes: Mapping[str, Node]) -> dict[str, list[Node]]:
    """Nodes by zone, each in name order."""
    zones: dict[str, list[Node]] = {}
    for name in sorted(nodes):
        zones.setdefault(zone_of(nodes[name]), []).append(nodes[name])
    return zones
