"""Whom a node under pressure gives up, and in which words. Pure: thresholds, ranking, messages.

Hard thresholds with upstream's defaults; one pod at a time, the one that uses most beyond what it asked for. Images are
not deleted to make room: a lab has no registry to pull them from again. Source: k/k `pkg/kubelet/eviction/helpers.go`,
`eviction_manager.go`, `apis/config/v1beta1/defaults_linux.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from agents.kubelet.seen import EVICTED, Rejection
from agents.kubelet.shutdown import CRITICAL_PRIORITY
from agents.kubelet.stats import Machine
from labctl.kube import quantity

MEMORY, DISK, INODES = "memory", "ephemeral-storage", "inodes"
MEMORY_BYTES = 100 * 2**20
NODEFS_SHARE, INODES_SHARE, IMAGEFS_SHARE = 0.10, 0.05, 0.15
GRACE_S = 1.0  # immediateEvictionGracePeriodSeconds
CONDITION = {MEMORY: "MemoryPressure", DISK: "DiskPressure", INODES: "DiskPressure"}


@dataclass(frozen=True, slots=True)
class Crossed:
    """A threshold that is crossed now: what is short, how much there must be, how much there is."""

    resource: str
    threshold: int
    available: int

    @property
    def condition(self) -> str:
        """The node's condition that tells of it."""
        return CONDITION[self.resource]


@dataclass(frozen=True, slots=True)
class Share:
    """What a container uses, and what it asked for, of the resource that is short."""

    name: str
    used: int
    requested: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pod that runs here. `used` None: it cannot be told."""

    uid: str
    priority: int
    used: int | None
    requested: int
    containers: Sequence[Share] = field(default=())


def crossed(machine: Machine, disk_bytes: int = 0) -> tuple[Crossed, ...]:
    """The thresholds that are crossed, memory first as upstream. `disk_bytes`: what the node calls its own of a disk
    that others share; 0 for all of it."""
    whole = min(machine.disk_bytes, disk_bytes or machine.disk_bytes)
    limits = (
        Crossed(MEMORY, MEMORY_BYTES, machine.memory_available_bytes),
        Crossed(DISK, int(whole * NODEFS_SHARE), machine.disk_available_bytes),
        Crossed(INODES, int(machine.inodes * INODES_SHARE), machine.inodes_available),
        Crossed(DISK, int(machine.image_disk_bytes * IMAGEFS_SHARE), machine.image_disk_available_bytes),
    )
    return tuple(limit for limit in limits if limit.available < limit.threshold)


def rank(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Who goes first: beyond its requests (or unknown), then by priority, then by how far beyond."""
    return tuple(
        sorted(candidates, key=lambda one: (not _exceeds(one), one.priority, one.used is not None, -_beyond(one)))
    )


def choose(short: Crossed, candidates: Iterable[Candidate]) -> tuple[str, Rejection] | None:
    """The pod to give up and why; critical pods are never chosen. None: nobody is left."""
    for one in rank(candidates):
        if one.priority < CRITICAL_PRIORITY:
            return one.uid, Rejection(EVICTED, message(short, one), grace_s=GRACE_S, disrupts=True)
    return None


def message(short: Crossed, chosen: Candidate) -> str:
    """In upstream's words."""
    words = f"The node was low on resource: {short.resource}. "
    words += f"Threshold quantity: {_told(short, short.threshold)}, available: {_told(short, short.available)}. "
    for share in chosen.containers:
        if share.used > share.requested:
            used, asked = _told(short, share.used), _told(short, share.requested)
            words += f"Container {share.name} was using {used}, request is {asked}, "
            words += f"has larger consumption of {short.resource}. "
    return words


def _exceeds(one: Candidate) -> bool:
    return one.used is None or one.used > one.requested


def _beyond(one: Candidate) -> int:
    return 0 if one.used is None else one.used - one.requested


def _told(short: Crossed, amount: int) -> str:
    return str(amount) if short.resource == INODES else quantity.written(Decimal(amount), "binary")
