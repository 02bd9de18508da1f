"""The picture of a drill, before it is drawn: lanes of spans over time, buckets of requests, marks. Pure.

All times here are seconds from the fault. `svg.py` turns a picture into a drawing of a given width.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labctl.drills.history import History
from labctl.drills.model import Judged, Report
from labctl.drills.records import (
    FaultBegan,
    HealBegan,
    HealEnded,
    Inspected,
    NodeSeen,
    PhaseBegan,
    PodSeen,
    Probed,
    Sampled,
    Scene,
    Wrote,
)
from labctl.drills.timeline import load, slices_over_time, zero_s

_BUCKETS = 140
_SOME = 4  # requests in a bucket on average: fewer make a fence, not a bar chart
_LANES = 40  # of a kind; more would not be read
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
class Count:
    """Requests of one stretch of the drill."""

    sent: int
    failed: int


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that is drawn."""

    from_s: float
    to_s: float
    replicas: int
    phases: tuple[Span, ...]
    faults: tuple[Lane, ...]
    nodes: tuple[Lane, ...]
    pods: tuple[Lane, ...]
    identities: tuple[Lane, ...]  # StatefulSet pods, as counted inside the machines; a span's label is its machine
    endpoints: tuple[Lane, ...]
    ready: tuple[Span, ...]  # state is the number of ready endpoints
    buckets: tuple[Bucket, ...]
    before: Count  # requests that had ended when the fault began
    since: Count  # those that are judged
    writes: tuple[Span, ...]  # of sequenced records: state is ready, unready (refused) or unknown (no answer)
    contract: tuple[Judged, ...]
    heal_s: float | None
    failures_from_s: float | None  # when the first request that failed was meant to be sent
    hidden: int = 0  # lanes left out because there are too many


def picture(history: History, scene: Scene, report: Report) -> Picture:
    """Take the picture of a history."""
    zero = zero_s(history)
    origin = history[0].t_s if zero is None else zero
    probes = [probe for _, probe in history.of(Probed)]
    # The wait for a steady lab may be long and dull: begin with the requests.
    begin_s = min((probe.intended_s for probe in probes), default=history[0].t_s)
    from_s, to_s = max(begin_s - origin, -8.0), max(entry.t_s for entry in history) - origin
    heal = history.first(HealBegan)
    judged = load(history)
    pods = tuple(_pods(history, scene, origin, from_s, to_s))
    endpoints = tuple(_endpoint_lanes(history, scene, origin, from_s, to_s))
    identities = tuple(_identities(history, origin, from_s))
    return Picture(
        from_s=from_s,
        to_s=max(to_s, from_s + 1.0),
        replicas=scene.replicas,
        phases=_clip(_phases(history, origin, to_s), from_s),
        faults=tuple(_faults(history, origin, to_s)),
        nodes=tuple(_node(history, name, origin, from_s, to_s) for name in scene.nodes),
        pods=pods[:_LANES],
        identities=identities[:_LANES],
        endpoints=endpoints[:_LANES],
        ready=_clip(_ready(history, scene, origin, to_s), from_s),
        buckets=buckets(probes, origin, from_s, to_s),
        before=_less(_count(probes), _count(judged)),
        since=_count(judged),
        writes=_clip(_writes(history, origin), from_s),
        contract=report.contract,
        heal_s=None if heal is None else heal[0] - origin,
        failures_from_s=min((probe.intended_s - origin for probe in judged if not probe.ok), default=None),
        hidden=sum(max(0, len(lanes) - _LANES) for lanes in (pods, endpoints, identities)),
    )


def _count(probes: Sequence[Probed]) -> Count:
    return Count(len(probes), sum(not probe.ok for probe in probes))


def _less(all_of_them: Count, part: Count) -> Count:
    return Count(all_of_them.sent - part.sent, all_of_them.failed - part.failed)


def bucket_s(duration_s: float, requests: int) -> float:
    """A round width that gives no more buckets than a page can show, and each of them some of the requests."""
    most = min(_BUCKETS, max(1, requests // _SOME))
    return next((step for step in _STEPS_S if duration_s / step <= most), _STEPS_S[-1])


def buckets(probes: Sequence[Probed], origin: float, from_s: float, to_s: float) -> tuple[Bucket, ...]:
    """The requests by their intended send time."""
    width = bucket_s(to_s - from_s, len(probes))
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
    beneath = tuple(
        Span(lane.spans[0].from_s, lane.spans[0].to_s, "struck", lane.label)
        for lane in _faults(history, origin, to_s, name)
    )
    return Lane(name, _clip(_spans(states, to_s), from_s), beneath=beneath)


def _faults(history: History, origin: float, to_s: float, node: str = "") -> Iterable[Lane]:
    """Each fault from its order to the end of the heal; with `node` only those that strike it."""
    healed_s = min((at_s - origin for at_s, _ in history.of(HealEnded)), default=to_s)
    for at_s, fault in history.of(FaultBegan):
        if not node or node in fault.nodes:
            yield Lane(fault.fault, (Span(at_s - origin, max(healed_s, at_s - origin), "struck", fault.fault),))


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


def _endpoint_lanes(history: History, scene: Scene, origin: float, from_s: float, to_s: float) -> Iterable[Lane]:
    """A lane for each endpoint that the service ever had, in the order of their coming."""
    states: dict[str, list[tuple[float, str, str]]] = {}
    where: dict[str, str] = {}
    for at_s, endpoints in slices_over_time(history, scene):
        there = {one.address: one for one in endpoints}
        for address in states.keys() | there.keys():
            one = there.get(address)
            state = "gone" if one is None else "ready" if one.ready else "ending" if one.terminating else "unready"
            states.setdefault(address, []).append((at_s - origin, state, ""))
            where[address] = one.node if one is not None else where[address]
    for address, seen in sorted(states.items(), key=lambda entry: (entry[1][0][0], entry[0])):
        spans = [span for span in _spans(seen, to_s) if span.state != "gone"]
        yield Lane(address, _clip(spans, from_s), detail=where[address])


def _identities(history: History, origin: float, from_s: float) -> Iterable[Lane]:
    """What ran under each StatefulSet pod's name, from the first to the last look that found it running."""
    owned = {(pod.namespace, pod.name) for _, pod in history.of(PodSeen) if pod.owner.startswith("StatefulSet/")}
    lives: dict[tuple[str, str], dict[tuple[str, str], tuple[float, float]]] = {}
    for entry in history:
        if not isinstance(entry.what, Sampled | Inspected):
            continue
        for machine in entry.what.machines:
            for one in machine.containers:
                if one.running and (one.namespace, one.pod) in owned:
                    spans = lives.setdefault((one.pod, one.name), {})
                    first_s, _ = spans.get((machine.node, one.id), (entry.t_s, 0.0))
                    spans[machine.node, one.id] = (first_s, entry.t_s)
    for (pod, name), found in sorted(lives.items()):
        # Two rows, so that two lives at one time are seen as two.
        rows: tuple[list[Span], list[Span]] = ([], [])
        for (node, _), (first_s, last_s) in sorted(found.items(), key=lambda life: life[1]):
            span = Span(first_s - origin, last_s - origin, "ready", node)
            crowded = bool(rows[0]) and span.from_s <= rows[0][-1].to_s
            rows[crowded].append(Span(span.from_s, span.to_s, "unknown", node) if crowded else span)
        yield Lane(pod, _clip(rows[0], from_s), detail=name, beneath=_clip(rows[1], from_s))


def _writes(history: History, origin: float) -> list[Span]:
    states = {True: "ready", False: "unknown"}
    return [
        Span(
            (at_s if one.began_s is None else one.began_s) - origin,
            at_s - origin,
            "unready" if one.refused else states[one.acknowledged],
            one.key,
        )
        for at_s, one in history.of(Wrote)
    ]


def _ready(history: History, scene: Scene, origin: float, to_s: float) -> list[Span]:
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
