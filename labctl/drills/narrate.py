"""Telling a drill's history as lines for people: what changed, to what, when. Pure folding, one record at a time.

The same narrator feeds the live view, while records arrive, and the timeline of the report, from the whole history.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from labctl.drills import records
from labctl.drills.records import Entry, Scene
from labctl.drills.timeline import NOT_READY, UNREACHABLE

_QUIET_S = 1.5  # a burst of failures is over when none followed for this long
_SILENCE = (UNREACHABLE, NOT_READY)


@dataclass(frozen=True, slots=True)
class Moment:
    """Something worth a line: when (the history's clock), what, and what it is about."""

    at_s: float
    text: str
    kind: str  # phase, fault, heal, node, pod, endpoint, request, note
    subject: str = ""


@dataclass(slots=True)
class Narrator:
    """Feed it entries in order; it yields the moments they make."""

    scene: Scene | None = None
    struck: bool = False
    _nodes: dict[str, records.NodeSeen] = field(default_factory=dict)
    _pods: dict[str, records.PodSeen] = field(default_factory=dict)
    _endpoints: dict[str, dict[str, records.EndpointSeen]] = field(default_factory=dict)
    _detected: set[str] = field(default_factory=set)
    _failed: int = 0  # requests, in the current burst
    _first_s: float = 0.0
    _last_s: float = 0.0

    def feed(self, entry: Entry) -> Iterator[Moment]:
        """The moments that this entry makes, mostly none or one."""
        match entry.what:
            case records.NodeSeen() as node:
                yield from self._node(entry.t_s, node)
            case records.PodSeen() as pod:
                yield from self._pod(entry.t_s, pod)
            case records.SliceSeen() as found:
                yield from self._slice(entry.t_s, found)
            case records.Probed() as probe:
                yield from self._probe(probe)
            case other:
                yield from self._act(entry.t_s, other)

    def close(self) -> Iterator[Moment]:
        """What is left to say when the history ends."""
        yield from self._burst_over()

    def _act(self, at_s: float, what: records.Record) -> Iterator[Moment]:
        match what:
            case records.Scene():
                self.scene = what
            case records.PhaseBegan(name=name):
                yield Moment(at_s, f"phase: {name}", "phase", name)
            case records.Said(text=text):
                yield Moment(at_s, text, "note")
            case records.FaultBegan(fault=fault, nodes=nodes):
                self.struck = True
                yield Moment(at_s, f"fault: {fault}", "fault", ",".join(nodes))
            case records.FaultEnded(took=took, evidence=evidence):
                yield Moment(at_s, f"{'confirmed' if took else 'not injected'}: {evidence}", "fault")
            case records.HealBegan(by=by, why=why):
                yield Moment(at_s, f"heal by the {by}: {why}", "heal", by)
            case records.HealEnded(ok=ok, evidence=evidence):
                yield Moment(at_s, f"{'healed' if ok else 'heal failed'}: {evidence}", "heal")
            case records.Interrupted(why=why):
                yield Moment(at_s, f"interrupted: {why}", "note")
            case records.StreamLost(stream=stream, why=why):
                yield Moment(at_s, f"watch of {stream} lost: {why}", "note", stream)

    def _node(self, at_s: float, node: records.NodeSeen) -> Iterator[Moment]:
        before = self._nodes.get(node.name)
        self._nodes[node.name] = node
        if node.event == "DELETED":
            yield Moment(at_s, f"node {node.name} deleted", "node", node.name)
            return
        if node.event == records.LISTED or before is None:
            return
        if node.ready != before.ready:
            first = node.ready != "True" and self.struck and self._victim(node.name) and node.name not in self._detected
            if first:
                self._detected.add(node.name)
            state = "Ready" if node.ready == "True" else "NotReady" if node.ready == "False" else "Unknown"
            yield Moment(at_s, f"node {node.name} {state}{' (detected)' if first else ''}", "node", node.name)
        for taint in node.taints:
            if taint not in before.taints and taint.startswith(_SILENCE):
                yield Moment(at_s, f"node {node.name} tainted {taint}", "node", node.name)
        if node.fenced and not before.fenced:
            yield Moment(at_s, f"node {node.name} fenced: its machine was powered off", "node", node.name)
        if any(taint.startswith(_SILENCE) for taint in before.taints) and not any(
            taint.startswith(_SILENCE) for taint in node.taints
        ):
            yield Moment(at_s, f"node {node.name} no longer tainted", "node", node.name)

    def _victim(self, name: str) -> bool:
        return self.scene is not None and name in self.scene.victims

    def _pod(self, at_s: float, pod: records.PodSeen) -> Iterator[Moment]:
        if self.scene is None or not self.scene.covers(pod):
            return
        before = self._pods.get(pod.uid)
        if pod.event == "DELETED":
            self._pods.pop(pod.uid, None)
            if before is not None:
                yield Moment(at_s, f"pod {pod.name} gone", "pod", pod.name)
            return
        self._pods[pod.uid] = pod
        if pod.event == records.LISTED:
            return
        if before is None:
            yield Moment(at_s, f"pod {pod.name} created{f' on {pod.node}' if pod.node else ''}", "pod", pod.name)
        elif pod.node and not before.node:
            yield Moment(at_s, f"pod {pod.name} bound to {pod.node}", "pod", pod.name)
        if pod.disruption and not (before and before.disruption):
            yield Moment(at_s, f"pod {pod.name} condemned ({pod.disruption})", "pod", pod.name)
        if pod.deleting and not (before and before.deleting):
            yield Moment(at_s, f"pod {pod.name} on {pod.node} terminating", "pod", pod.name)
        was_ready = before is not None and before.ready
        if pod.ready and not was_ready:
            yield Moment(at_s, f"pod {pod.name} Ready on {pod.node}", "pod", pod.name)
        elif was_ready and not pod.ready and not pod.deleting:
            yield Moment(at_s, f"pod {pod.name} not ready", "pod", pod.name)

    def _slice(self, at_s: float, found: records.SliceSeen) -> Iterator[Moment]:
        if self.scene is None or not self.scene.covers_slice(found):
            return
        before = self._endpoints.get(found.name, {})
        ready = {} if found.event == "DELETED" else {one.address: one for one in found.endpoints if one.ready}
        self._endpoints[found.name] = ready
        if found.event == records.LISTED:
            return
        for address, one in before.items():
            if address not in ready:
                yield Moment(at_s, f"endpoint {address} on {one.node} removed", "endpoint", address)
        for address, one in ready.items():
            if address not in before:
                yield Moment(at_s, f"endpoint {address} on {one.node} added", "endpoint", address)

    def _probe(self, probe: records.Probed) -> Iterator[Moment]:
        if not probe.ok:
            if not self._failed:
                self._first_s = probe.intended_s
                yield Moment(self._first_s, f"requests fail ({probe.error} via {probe.via})", "request")
            self._failed += 1
            self._last_s = max(self._last_s, probe.intended_s + probe.latency_s)
        elif self._failed and probe.intended_s > self._last_s + _QUIET_S:
            yield from self._burst_over()

    def _burst_over(self) -> Iterator[Moment]:
        if self._failed:
            seconds = self._last_s - self._first_s
            count = "the only failed request" if self._failed == 1 else f"the last of {self._failed} failed requests"
            yield Moment(self._last_s, f"{count}, {seconds:.2f} s after the first was sent", "request")
            self._failed, self._last_s = 0, 0.0


def tell(entries: list[Entry] | tuple[Entry, ...]) -> list[Moment]:
    """Every moment of a history, in the order of time."""
    narrator = Narrator()
    moments = [moment for entry in entries for moment in narrator.feed(entry)]
    return sorted([*moments, *narrator.close()], key=lambda moment: moment.at_s)
