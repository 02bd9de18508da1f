"""Self-fencing, decided: which fenced pods must stop now. Pure; labctl/kube/fencing.py says what it is for.

The kubelet and its guard (a small process beside it) decide alike, from the same files, and act without the container
runtime. Either of them alone keeps the promise.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl.kube.fencing import Bounds

PATROL_S = 0.05  # how often stragglers of stopped pods are looked for
_LEAST_S = 0.001


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look shows. Times are of CLOCK_BOOTTIME, which also counts while the machine sleeps."""

    now_s: float
    confirmed_s: float | None  # when the last successful renewal was sent; None: none since the machine started
    pods: frozenset[str] = frozenset()  # uids of the fenced pods
    sealed: frozenset[str] = frozenset()  # of those that were stopped and that the API has not yet been asked about


@dataclass(frozen=True, slots=True)
class Orders:
    """Which pods to end, gently or at once, and when to look again at the latest."""

    terminate: frozenset[str] = frozenset()
    kill: frozenset[str] = frozenset()
    wake_after_s: float = PATROL_S


def decide(seen: Seen, bounds: Bounds) -> Orders:
    """SIGTERM from `term_after`, SIGKILL from `kill_after` on and for as long as nothing is confirmed.

    Sealed pods are killed whatever the Lease says: a start that was under way when its pod was stopped may come late.
    """
    if not seen.pods and not seen.sealed:  # as while a machine boots, which has better use for its processor
        return Orders(wake_after_s=bounds.term_after_s / 4)
    age_s = silence_s(seen)
    if age_s >= bounds.kill_after_s:
        return Orders(kill=seen.pods | seen.sealed, wake_after_s=PATROL_S)
    wake_s = PATROL_S if seen.sealed else bounds.term_after_s / 4
    if age_s >= bounds.term_after_s:
        return Orders(seen.pods - seen.sealed, seen.sealed, min(wake_s, max(_LEAST_S, bounds.kill_after_s - age_s)))
    return Orders(kill=seen.sealed, wake_after_s=min(wake_s, max(_LEAST_S, bounds.term_after_s - age_s)))


def silence_s(seen: Seen) -> float:
    """Seconds since the last confirmed sign of life; a stamp that cannot be is none."""
    if seen.confirmed_s is None or seen.confirmed_s > seen.now_s:
        return float("inf")
    return seen.now_s - seen.confirmed_s


def may_pet(seen: Seen, bounds: Bounds, *, alive: bool) -> bool:
    """Whether the watchdog may be put off by `bounds.watchdog_s` once more.

    Not where that could let a fenced pod live past `dead_by`: then the machine resets, unless the pods die first.
    """
    return not alive or silence_s(seen) + bounds.watchdog_s <= bounds.dead_by_s
