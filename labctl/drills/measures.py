"""Measuring a drill: seconds on this host's one clock, from the fault on (`timeline.py` says when that is). Pure."""

from __future__ import annotations

from itertools import pairwise

import msgspec

from labctl.drills.history import History
from labctl.drills.records import FaultEnded, HealBegan, HealEnded, LeaseSeen, Logged, NodeSeen, Scene, Wrote
from labctl.drills.timeline import (
    NOT_READY,
    UNREACHABLE,
    condemned,
    ended_s,
    error_window_s,
    handovers,
    load,
    pods_over_time,
    since_zero,
    slices_over_time,
    toleration_s,
    zero_s,
)

SLOW_S = 0.5  # an answer later than this counts as slow


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from the fault unless the name says otherwise; None: it never happened, or cannot be told."""

    detected_s: float | None = None
    endpoint_removed_s: float | None = None
    tainted_s: float | None = None
    evicted_s: float | None = None  # the last of the victims' pods of the workload was marked for deletion
    rescheduled_s: float | None = None
    endpoints_full_s: float | None = None  # as many ready endpoints as replicas, all on live nodes
    serving_again_s: float | None = None
    silent_s: float | None = None  # from the last lease renewal we saw to the detection
    toleration_kept_s: float | None = None  # least (deleted - tainted - tolerationSeconds) of an evicted pod
    fault_took_s: float | None = None  # how long the injection itself took
    fresh_again_s: float | None = None  # from the heal's end until the last failed request had ended; 0 where none did
    writes_again_s: float | None = None  # from the heal's end to the first acknowledged write
    write_gap_s: float | None = None  # the longest time without an acknowledged write
    identity_again_s: float | None = None  # another pod of the StatefulSet's identity acknowledged a record
    led_again_s: float | None = None  # each lease of a leader that changed hands had another holder
    ready_again_s: float | None = None  # from the heal until every victim was Ready again
    requests_sent: int = 0
    requests_failed: int = 0
    requests_slow: int = 0
    error_window_s: float = 0.0


def measure(history: History, scene: Scene) -> Measures:
    """All of it."""
    zero = zero_s(history)
    probes = load(history)
    counts = Measures(
        requests_sent=len(probes),
        requests_failed=sum(not probe.ok for probe in probes),
        requests_slow=sum(probe.ok and probe.latency_s > SLOW_S for probe in probes),
        error_window_s=error_window_s(probes),
    )
    if zero is None:
        return counts
    heal = history.first(HealBegan)
    heal_s = heal[0] if heal else float("inf")
    detected, tainted = _all_at(_detections(history, scene, zero)), _all_at(_taints(history, scene, zero))
    ended = history.first(FaultEnded)
    return msgspec.structs.replace(
        counts,
        detected_s=_since(detected, zero),
        silent_s=_silence(history, scene, zero),
        tainted_s=_since(tainted, zero),
        endpoint_removed_s=_since(_endpoints_gone(history, scene, zero), zero),
        evicted_s=_since(_evicted(history, scene, zero), zero),
        toleration_kept_s=_toleration_kept(history, scene, zero, heal_s),
        rescheduled_s=_since(_rescheduled(history, scene, zero), zero),
        endpoints_full_s=_since(_endpoints_full(history, scene, zero), zero),
        serving_again_s=_since(_serving_again(history, scene, zero), zero),
        fault_took_s=_since(ended[0] if ended else None, zero),
        ready_again_s=_ready_again(history, scene, heal_s),
        fresh_again_s=_fresh_again(history),
        writes_again_s=_writes_again(history),
        write_gap_s=_write_gap(history, zero),
        led_again_s=_since(max(handovers(history).values(), default=None), zero),
        identity_again_s=_since(_identity_again(history, zero), zero),
    )


def _detections(history: History, scene: Scene, zero: float) -> dict[str, float | None]:
    found: dict[str, float | None] = dict.fromkeys(scene.victims)
    for at_s, node in history.of(NodeSeen):
        if at_s >= zero and node.name in found and found[node.name] is None and node.ready != "True":
            found[node.name] = at_s
    return found


def _taints(history: History, scene: Scene, zero: float) -> dict[str, float | None]:
    wanted = {f"{UNREACHABLE}:NoExecute", f"{NOT_READY}:NoExecute"}
    found: dict[str, float | None] = dict.fromkeys(scene.victims)
    for at_s, node in history.of(NodeSeen):
        if at_s >= zero and node.name in found and found[node.name] is None and wanted & set(node.taints):
            found[node.name] = at_s
    return found


def _silence(history: History, scene: Scene, zero: float) -> float | None:
    """The shortest silence after which a victim was given up."""
    silences = []
    for name, detected in _detections(history, scene, zero).items():
        moved = [at_s for at_s, lease in history.of(LeaseSeen) if lease.name == name and at_s <= (detected or 0.0)]
        if detected is not None and moved:
            silences.append(detected - max(moved))
    return round(min(silences), 3) if silences else None


def _endpoints_gone(history: History, scene: Scene, zero: float) -> float | None:
    """When the victims first had no ready endpoint."""
    for at_s, endpoints in since_zero(zero, slices_over_time(history, scene)):
        if not any(endpoint.ready and endpoint.node in scene.victims for endpoint in endpoints):
            return at_s
    return None


def _evicted(history: History, scene: Scene, _zero: float) -> float | None:
    times = [at_s for at_s, _ in condemned(history, scene).values()]
    if not times or None in times:
        return None
    return max(at_s for at_s in times if at_s is not None)


def _toleration_kept(history: History, scene: Scene, zero: float, heal_s: float) -> float | None:
    """Negative where a pod was deleted before its node was tainted and its toleration over."""
    tainted = _taints(history, scene, zero)
    kept = []
    for deleted_s, pod in condemned(history, scene).values():
        if deleted_s is None or deleted_s >= heal_s:
            continue
        seconds = toleration_s(pod)
        if seconds is None:  # tolerates for ever: may not be deleted at all
            kept.append(float("-inf"))
            continue
        tainted_s = tainted[pod.node]
        kept.append(deleted_s - (deleted_s if tainted_s is None else tainted_s) - seconds)
    return round(min(kept), 3) if kept else None


def _rescheduled(history: History, scene: Scene, zero: float) -> float | None:
    """When the workload first had its full number of Ready pods on live nodes."""
    for at_s, pods in since_zero(zero, pods_over_time(history, scene)):
        ready = sum(pod.ready and not pod.deleting and pod.node in scene.survivors for pod in pods.values())
        if ready >= scene.replicas:
            return at_s
    return None


def _endpoints_full(history: History, scene: Scene, zero: float) -> float | None:
    """From when on there were as many ready endpoints as replicas, all on live nodes."""
    healed = history.first(HealBegan)
    live_again_s = healed[0] if healed else float("inf")
    full_s = None
    for at_s, endpoints in since_zero(zero, slices_over_time(history, scene)):
        ready = [endpoint for endpoint in endpoints if endpoint.ready]
        # After the heal a victim is alive again, and an endpoint there is as good as any.
        live = at_s >= live_again_s or all(endpoint.node in scene.survivors for endpoint in ready)
        if len(ready) < scene.replicas or not live:
            full_s = None
        elif full_s is None:
            full_s = at_s
    return full_s


def _serving_again(history: History, scene: Scene, zero: float) -> float | None:
    """Strictly: the endpoints are full, and no request failed later."""
    full_s = _endpoints_full(history, scene, zero)
    if full_s is None:
        return None
    probes = load(history)
    again_s = max([full_s, *(ended_s(probe) for probe in probes if not probe.ok)])
    return again_s if any(probe.ok and probe.intended_s >= again_s for probe in probes) else None


def _ready_again(history: History, scene: Scene, heal_s: float) -> float | None:
    ready: dict[str, float | None] = dict.fromkeys(scene.victims)
    for at_s, node in history.of(NodeSeen):
        if node.name in ready and at_s >= heal_s and node.ready == "True" and ready[node.name] is None:
            ready[node.name] = at_s
    again = _all_at(ready)
    return None if again is None else round(again - heal_s, 3)


def _fresh_again(history: History) -> float | None:
    """None where no request succeeded after the last failed one: it cannot be told then."""
    healed = history.last(HealEnded)
    if healed is None:
        return None
    probes = load(history)
    last_s = max((ended_s(probe) for probe in probes if not probe.ok), default=healed[0])
    told = any(probe.ok and probe.intended_s >= max(last_s, healed[0]) for probe in probes)
    return round(max(0.0, last_s - healed[0]), 3) if told else None


def _writes_again(history: History) -> float | None:
    healed = history.last(HealEnded)
    if healed is None:
        return None
    kept = (at_s for at_s, record in history.of(Wrote) if record.acknowledged and at_s >= healed[0])
    first_s = next(kept, None)
    return None if first_s is None else round(first_s - healed[0], 3)


def _write_gap(history: History, zero: float) -> float | None:
    times = [at_s for at_s, record in history.of(Wrote) if record.acknowledged]
    gaps = [later - earlier for earlier, later in pairwise(times) if later >= zero]
    return round(max(gaps), 3) if gaps else None


def _identity_again(history: History, zero: float) -> float | None:
    """When a pod took a record that was not the one of before the fault."""
    before = ""
    for at_s, record in history.of(Logged):
        if at_s < zero:
            before = record.life or before
        elif record.life and record.life != before:
            return at_s
    return None


def _all_at(times: dict[str, float | None]) -> float | None:
    """When the last of them happened; None while one has not."""
    known = [at_s for at_s in times.values() if at_s is not None]
    return max(known) if known and len(known) == len(times) else None


def _since(at_s: float | None, zero: float) -> float | None:
    return None if at_s is None else round(at_s - zero, 3)
