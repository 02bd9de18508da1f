"""metrics.k8s.io: what nodes and pods use now, for `kubectl top`. Nothing is stored: kubelets are asked when we are.

A rate needs two samples of a counter. The earlier one is kept from the last time somebody asked; where that is too long
ago, a second sample is taken after a moment. Times are ours, at the arrival of an answer: a node's clock may step.
Source: metrics-server `pkg/api/{node,pod}.go` (names, units, a node that does not answer is left out).
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec

from labctl.kube.resources import NODES, PODS, Resource
from labctl.runtime.clock import Clock, rfc3339
from labctl.runtime.errors import LabError
from master.apiserver import kubelet, problems
from master.apiserver.cached import Cached
from master.apiserver.context import Context
from master.apiserver.negotiate import Form
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply, list_bytes, object_reply
from master.apiserver.request import Request
from master.apiserver.selection import selection

Document = dict[str, Any]

_ANSWER_S = 5.0
_AT_ONCE = 16
_SHORTEST_S, _LONGEST_S = 1.0, 60.0  # of the window that a rate is taken over


class _Cpu(msgspec.Struct, frozen=True, rename="camel"):
    usage_core_nano_seconds: int | None = None


class _Memory(msgspec.Struct, frozen=True, rename="camel"):
    working_set_bytes: int | None = None


class Figures(msgspec.Struct, frozen=True, rename="camel"):
    """Of a node or a container: a counter of CPU time, and memory in use."""

    name: str = ""
    cpu: _Cpu = _Cpu()
    memory: _Memory = _Memory()


class _PodRef(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""


class _PodFigures(msgspec.Struct, frozen=True, rename="camel"):
    pod_ref: _PodRef = _PodRef()
    containers: tuple[Figures, ...] = ()


class Summary(msgspec.Struct, frozen=True):
    """What is read of a kubelet's /stats/summary."""

    node: Figures = Figures()
    pods: tuple[_PodFigures, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """A summary and when it arrived, on our monotonic clock."""

    at_s: float
    summary: Summary


_decoder = msgspec.json.Decoder(Summary)


def fetch(context: Context, node: Document) -> bytes:
    """One node's summary; OSError or HTTPException where it cannot be had in time."""
    host, port = kubelet.address(node)
    connection = http.client.HTTPSConnection(host, port, timeout=_ANSWER_S, context=kubelet.tls(context.config))
    try:
        connection.request("GET", "/stats/summary")
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise http.client.HTTPException(kubelet.said(body))
    return body


class Meter:
    """Takes samples of nodes and keeps the last ones. Threads may share it."""

    def __init__(self, ask: Callable[[Document], bytes], clock: Clock) -> None:
        self._ask, self._clock = ask, clock
        self._kept: dict[str, Sample] = {}
        self._lock = threading.Lock()

    def measure(self, nodes: Sequence[Document]) -> dict[str, tuple[Sample, Sample]]:
        """Two samples of each node that answers, far enough apart for a rate."""
        names = {node["metadata"]["name"] for node in nodes}
        with self._lock:
            earlier = {name: sample for name, sample in self._kept.items() if name in names}
        later = self._take(nodes)
        if early := [node for node in nodes if not _apart(earlier, later, node["metadata"]["name"])]:
            first = {name: later[name] for node in early if (name := node["metadata"]["name"]) in later}
            if first:
                self._clock.sleep_s(_SHORTEST_S)
                earlier |= first
                later |= self._take([node for node in early if node["metadata"]["name"] in first])
        with self._lock:
            self._kept |= later
        return {name: (earlier[name], sample) for name, sample in later.items() if name in earlier}

    def forget(self, names: Iterable[str]) -> None:
        """Keep samples of these nodes alone: the others are gone."""
        with self._lock:
            self._kept = {name: self._kept[name] for name in names if name in self._kept}

    def _take(self, nodes: Sequence[Document]) -> dict[str, Sample]:
        if not nodes:
            return {}
        with ThreadPoolExecutor(min(_AT_ONCE, len(nodes)), thread_name_prefix="usage") as pool:
            taken = list(pool.map(self._sample, nodes))
        return {node["metadata"]["name"]: sample for node, sample in zip(nodes, taken, strict=True) if sample}

    def _sample(self, node: Document) -> Sample | None:
        try:
            summary = _decoder.decode(self._ask(node))
        except (OSError, http.client.HTTPException, LabError, msgspec.MsgspecError):
            return None
        return Sample(self._clock.monotonic_s(), summary)


def _apart(earlier: Mapping[str, Sample], later: Mapping[str, Sample], name: str) -> bool:
    """Whether there is a rate between a node's samples: neither too short nor too old, nor of another boot."""
    before, now = earlier.get(name), later.get(name)
    return (
        before is not None
        and now is not None
        and _SHORTEST_S <= now.at_s - before.at_s <= _LONGEST_S
        and _rate(before.summary.node, now.summary.node, now.at_s - before.at_s) is not None
    )


def _rate(before: Figures | None, now: Figures, seconds: float) -> int | None:
    """Nanocores in use between two counts; None where one is missing, or the counter began anew."""
    earlier = before.cpu.usage_core_nano_seconds if before is not None else None
    later = now.cpu.usage_core_nano_seconds
    if earlier is None or later is None or later < earlier or seconds <= 0:
        return None
    return int((later - earlier) / seconds)


def _usage(before: Figures | None, now: Figures, seconds: float) -> Document | None:
    rate, memory_bytes = _rate(before, now, seconds), now.memory.working_set_bytes
    if rate is None or memory_bytes is None:
        return None
    return {"cpu": f"{rate}n" if rate else "0", "memory": f"{memory_bytes // 1024}Ki"}


def node_usage(pair: tuple[Sample, Sample]) -> Document | None:
    """`usage` of a NodeMetrics. Pure."""
    before, now = pair
    return _usage(before.summary.node, now.summary.node, now.at_s - before.at_s)


def pod_usage(pair: tuple[Sample, Sample]) -> Iterator[tuple[str, list[Document]]]:
    """Uid and `containers` of each pod's PodMetrics; a pod counts once each of its containers has a rate. Pure."""
    before, now = pair
    known = {(pod.pod_ref.uid, one.name): one for pod in before.summary.pods for one in pod.containers}
    for pod in now.summary.pods:
        found = [
            {"name": one.name, "usage": _usage(known.get((pod.pod_ref.uid, one.name)), one, now.at_s - before.at_s)}
            for one in pod.containers
        ]
        if found and all(entry["usage"] is not None for entry in found):
            yield pod.pod_ref.uid, found


class Usage:
    """Answers requests for nodes and pods of metrics.k8s.io."""

    def __init__(self, context: Context, ask: Callable[[Document], bytes] | None = None) -> None:
        self._context = context
        self._meter = Meter(ask or (lambda node: fetch(context, node)), context.clock)

    def handle(self, request: Request, kind: Kind, form: Form) -> Reply:
        """Get one or list those that a selector names."""
        assert request.target is not None
        target = request.target
        of_nodes = kind.resource.plural == NODES.plural
        stored = self._context.registry.of(NODES if of_nodes else PODS)
        match = selection(request, stored)
        wanted = [
            entry
            for entry in self._context.storage.current(stored).list(stored.scope(target.namespace))[0]
            if (not target.name or entry.document["metadata"]["name"] == target.name)
            and (match is None or match(entry))
        ]
        items = list(self._nodes(kind.resource, wanted) if of_nodes else self._pods(kind.resource, wanted))
        if not target.name:
            return Reply(list_bytes(map(msgspec.json.encode, items), kind, {}, form), 200, form.content_type)
        if not items:
            named = msgspec.structs.replace(kind.resource, plural=kind.resource.kind.lower())
            raise problems.not_found(named, f"{target.namespace}/{target.name}" if target.namespace else target.name)
        return object_reply(msgspec.json.encode(items[0]), kind, form)

    def _nodes(self, resource: Resource, wanted: Sequence[Cached]) -> Iterator[Document]:
        pairs = self._measure([entry.document for entry in wanted])
        for entry in wanted:
            pair = pairs.get(entry.document["metadata"]["name"])
            if pair is not None and (usage := node_usage(pair)) is not None:
                yield {**self._head(resource, entry, pair), "usage": usage}

    def _pods(self, resource: Resource, wanted: Sequence[Cached]) -> Iterator[Document]:
        hosts = {(entry.document.get("spec") or {}).get("nodeName", "") for entry in wanted} - {""}
        nodes = self._context.registry.of(NODES)
        standing = [entry.document for entry in self._context.storage.current(nodes).list(nodes.scope(""))[0]]
        pairs = self._measure([node for node in standing if node["metadata"]["name"] in hosts])
        found = {uid: (pair, containers) for pair in pairs.values() for uid, containers in pod_usage(pair)}
        for entry in wanted:
            pair, containers = found.get(entry.document["metadata"]["uid"], (None, []))
            if pair is not None:
                yield {**self._head(resource, entry, pair), "containers": containers}

    def _measure(self, nodes: Sequence[Document]) -> dict[str, tuple[Sample, Sample]]:
        standing = self._context.registry.of(NODES)
        every = self._context.storage.cache(standing).list(standing.scope(""))[0]
        self._meter.forget(entry.document["metadata"]["name"] for entry in every)
        return self._meter.measure(nodes)

    def _head(self, resource: Resource, entry: Cached, pair: tuple[Sample, Sample]) -> Document:
        now = rfc3339(self._context.clock.now())
        metadata = {
            field: value
            for field in ("name", "namespace", "labels")
            if (value := entry.document["metadata"].get(field))
        }  # fmt: skip
        return {
            "kind": resource.kind,
            "apiVersion": resource.api_version,
            "metadata": {**metadata, "creationTimestamp": now},
            "timestamp": now,
            "window": f"{pair[1].at_s - pair[0].at_s:.3f}s",
        }
