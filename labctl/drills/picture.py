"""The picture of a drill, before it is drawn: lanes of spans over time, buckets of requests, marks. Pure.

All times here are seconds from the fault. `svg.py` turns a picture into a drawing of a given width.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labctl.drills.history import History
from labctl.drills.measures import load, slices_over_time, zero_s
from labctl.drills.model import Judged, Report
from labctl.drills.records import (
    FaultBegan,
    HealBegan,
    HealEnded,
    NodeSeen,
    PhaseBegan,
    PodSeen,
    Probed,
    Scene,
)

_BUCKETS = 140
_STEPS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Span:
    """Something held from one moment to another."""

    from_s: float
    to_s: float
    state: str  # a class of the style sheet: ready, unready, unknown, pending, ending, off, ...
    label: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    """One thing through time."""

    label: str
    spans: tuple[Span, ...]
    detail: str = ""
    beneath: tuple[Span, ...] = ()  # a second, thin row: what was really so


@dataclass(frozen=True, slots=True)
class Bucket:
    """The requests that were meant to be sent in one stretch of time."""

    from_s: float
    to_s: float
    ok: int
    failed: int
    median_s: float | None  # of the answered ones
    worst_s: float | None


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that is drawn."""

    from_s: float
    to_s: float
    replicas: int
    phases: tuple[Span, ...]
    nodes: tuple[Lane, ...]
    pods: tuple[Lane, ...]
    endpoints: tuple[Span, ...]  # state is the number of ready ones
    buckets: tuple[Bucket, ...]
    contract: tuple[Judged, ...]
    heal_s: float | None
    failures_from_s: float | None  # when the first request that failed was meant to be sent


def picture(history: History, scene: Scene, report: Report) -> Picture:
    """Take the picture of a history."""
    zero = zero_s(history)
    origin = history[0].t_s if zero is None else zero
    probes = [probe for _, probe in history.of(Probed)]
    # The wait for a steady lab may be long and dull: begin with the requests.
    begin_s = min((probe.intended_s for probe in probes), default=history[0].t_s)
    from_s, to_s = max(begin_s - origin, -8.0), max(entry.t_s for entry in history) - origin
    heal = history.first(HealBegan)
    return Picture(
        from_s=from_s,
        to_s=max(to_s, from_s + 1.0),
        replicas=scene.replicas,
        phases=_clip(_phases(history, origin, to_s), from_s),
        nodes=tuple(_node(history, name, origin, from_s, to_s) for name in scene.nodes),
        pods=tuple(_pods(history, scene, origin, from_s, to_s)),
        endpoints=_clip(_endpoints(history, scene, origin, to_s), from_s),
        buckets=buckets(probes, origin, from_s, to_s),
        contract=report.contract,
        heal_s=None if heal is None else heal[0] - origin,
        failures_from_s=min((probe.intended_s - origin for probe in load(history) if not probe.ok), default=None),
    )


def bucket_s(duration_s: float, most: int = _BUCKETS) -> float:
    """A round width that gives at most `most` buckets."""
    return next((step for step in _STEPS_S if duration_s / step <= most), _STEPS_S[-1])


def buckets(probes: Sequence[Probed], origin: float, from_s: float, to_s: float) -> tuple[Bucket, ...]:
    """The requests by their intended send time."""
    width = bucket_s(to_s - from_s)
    first = int(from_s // width)
    groups: dict[int, list[Probed]] = {}
    for probe in probes:
        groups.setdefault(int((probe.intended_s - origin) // width), []).append(probe)
    found = []
    for number in range(first, int(to_s // width) + 1):
        group = groups.get(number, [])
        latencies = [probe.latency_s for probe in group if probe.ok]
        found.append(
            Bucket(
                from_s=number * width,
                to_s=(number + 1) * width,
                ok=len(latencies),
                failed=len(group) - len(latencies),
                median_s=statistics.median(latencies) if latencies else None,
                worst_s=max(latencies, default=None),
            )
        )
    return tuple(found)


def _phases(history: History, origin: float, to_s: float) -> list[Span]:
    starts = [(at_s - origin, phase.name) for at_s, phase in history.of(PhaseBegan)]
    ends = [at_s for at_s, _ in starts[1:]] + [to_s]
    return [Span(at_s, end_s, name, name) for (at_s, name), end_s in zip(starts, ends, strict=True)]


def _node(history: History, name: str, origin: float, from_s: float, to_s: float) -> Lane:
    states = []
    for at_s, node in history.of(NodeSeen):
        if node.name == name:
            state = {"True": "ready", "False": "unready"}.get(node.ready, "unknown")
            tainted = any("NoExecute" in taint for taint in node.taints)
            states.append((at_s - origin, "gone" if node.event == "DELETED" else state, "tainted" if tainted else ""))
    struck = [at_s - origin for at_s, fault in history.of(FaultBegan) if name in fault.nodes]
    healed = [at_s - origin for at_s, _ in history.of(HealEnded)]
    beneath = (Span(struck[0], min(healed, default=to_s), "off", "power off"),) if struck else ()
    return Lane(name, _clip(_spans(states, to_s), from_s), beneath=beneath)


def _pods(history: History, scene: Scene, origin: float, from_s: float, to_s: float) -> Iterable[Lane]:
    seen: dict[str, list[tuple[float, PodSeen]]] = {}
    for at_s, pod in history.of(PodSeen):
        if scene.covers(pod):
            seen.setdefault(pod.uid, []).append((at_s - origin, pod))
    for sightings in sorted(seen.values(), key=lambda entries: (entries[0][0], entries[0][1].name)):
        gone_s = next((at_s for at_s, pod in sightings if pod.event == "DELETED"), to_s)
        states = [(at_s, _pod_state(pod), "") for at_s, pod in sightings if pod.event != "DELETED"]
        last = sightings[-1][1]
        where = next((pod.node for _, pod in reversed(sightings) if pod.node), "")
        yield Lane(last.name, _clip(_spans(states, gone_s), from_s), detail=where)


def _pod_state(pod: PodSeen) -> str:
    if pod.deleting:
        return "ending"
    if pod.ready:
        return "ready"
    return "unready" if pod.phase == "Running" else "pending"


def _endpoints(history: History, scene: Scene, origin: float, to_s: float) -> list[Span]:
    states = []
    for at_s, endpoints in slices_over_time(history, scene):
        states.append((at_s - origin, str(sum(endpoint.ready for endpoint in endpoints)), ""))
    return _spans(states, to_s)


def _spans(states: Sequence[tuple[float, str, str]], end_s: float) -> list[Span]:
    """(when, state, label) in order to spans; equal neighbours become one."""
    spans: list[Span] = []
    for at_s, state, label in states:
        if spans and (spans[-1].state, spans[-1].label) == (state, label):
            continue
        if spans:
            spans[-1] = Span(spans[-1].from_s, at_s, spans[-1].state, spans[-1].label)
        spans.append(Span(at_s, end_s, state, label))
    return spans


def _clip(spans: Iterable[Span], from_s: float) -> tuple[Span, ...]:
    """Without what ended before the picture begins."""
    return tuple(
        Span(max(span.from_s, from_s), span.to_s, span.state, span.label) for span in spans if span.to_s > from_s
    )
