"""Which pods end when, on a machine that shuts down in order: ordinary ones first, then critical ones. Pure.

Each wave has its share of the whole grace; the next begins as soon as the one before is over. A pod's own termination
grace is kept where it fits. Source: k/k `pkg/kubelet/nodeshutdown/nodeshutdown_manager.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agents.kubelet.seen import Rejection
from labctl.kube.timing import Profile

CRITICAL_PRIORITY = 2_000_000_000  # system-cluster-critical and above
FLUSH_S = 2.0  # for the last words to the API, once everything is dead
REFUSED = Rejection("NodeShutdown", "Pod was rejected: Pod was rejected as the node is shutting down.")
_REASON, _MESSAGE = "Terminated", "Pod was terminated in response to imminent node shutdown."
_LEAST_S = 1.0


@dataclass(frozen=True, slots=True)
class Guest:
    """A pod that was taken and has not ended by itself."""

    uid: str
    priority: int
    grace_s: float  # its own terminationGracePeriodSeconds
    alive: bool  # a container runs, or is about to
    told: bool  # the API has its latest status


@dataclass(frozen=True, slots=True)
class Progress:
    """The wave that is on, and since when."""

    wave: int
    since_s: float


@dataclass(frozen=True, slots=True)
class Orders:
    """What ends, and how; `over`: nothing is left to wait for."""

    progress: Progress
    ending: Mapping[str, Rejection]  # by uid
    over: bool
    wait_s: float


def advance(guests: Iterable[Guest], progress: Progress | None, now_s: float, timing: Profile) -> Orders:
    """One look at the pods: go on to the next wave where this one is over. None: nothing has begun yet."""
    here = tuple(guests)
    shares_s = (timing.shutdown_grace_s - timing.shutdown_critical_s, timing.shutdown_critical_s)
    at = progress or Progress(0, now_s)
    while at.wave < len(shares_s):
        left_s = at.since_s + shares_s[at.wave] - now_s
        if left_s > 0 and any(guest.alive and _wave(guest) <= at.wave for guest in here):
            return Orders(at, _ending(here, at, shares_s[at.wave], timing), over=False, wait_s=left_s)
        at = Progress(at.wave + 1, now_s)
    left_s = at.since_s + FLUSH_S - now_s
    last = Progress(len(shares_s) - 1, at.since_s)
    over = left_s <= 0 or all(guest.told and not guest.alive for guest in here)
    return Orders(at, _ending(here, last, _LEAST_S, timing), over=over, wait_s=max(0.0, left_s))


def _wave(guest: Guest) -> int:
    return int(guest.priority >= CRITICAL_PRIORITY)


def _ending(guests: Iterable[Guest], at: Progress, share_s: float, timing: Profile) -> dict[str, Rejection]:
    most_s = max(_LEAST_S, share_s - timing.shutdown_lead_s)
    return {
        guest.uid: Rejection(
            _REASON,
            _MESSAGE,
            grace_s=min(guest.grace_s, most_s),
            begins_s=at.since_s + timing.shutdown_lead_s,
            disrupts=True,
        )
        for guest in guests
        if _wave(guest) <= at.wave
    }
