"""The scheduler, binding pods through the API server over a real etcd, all on the same cores.

Nodes and pods stand in etcd as API objects before the scheduler starts; from its first binding to its last it is
measured how many pods a second are bound, and what a pod costs its process. `mixed` pods: half of them spread hard or
soft or have (anti-)affinity, required or preferred. Then how cost grows as nodes and running pods double: exponents by
least squares over the logarithms.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from labctl.kube.client import Client
from labctl.kube.resources import PODS
from labctl.runtime.loop import wait_for
from master.store.etcd import EtcdStore
from tests.bench.figure import Figure
from tests.bench.growth import MIB, Outcome, component, cpu_s, exponents
from tests.e2e.apiserver import CLOCK, ApiServer
from tests.etcd import Etcd

KINDS = 10  # of pods, as many Deployments would make
HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
REQUIRED, PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)
ALONE = 15  # pods created one by one, for the latency


def measure(options: argparse.Namespace | None = None) -> Iterator[Figure]:
    """Run all of it; about five minutes."""
    del options
    found: dict[tuple[int, int], Outcome] = {}
    for nodes, pods, goal in ((1_000, 3_000, 300), (5_000, 2_000, 100)):
        for mixed in (False, True):
            outcome = run(nodes, pods, mixed=mixed)
            if not mixed:
                found[nodes, 0] = outcome
            words = f"{nodes:,} nodes, {'mixed' if mixed else 'plain'} pods"
            bound = goal / 2 if mixed else goal
            yield Figure(name=f"{words}: bound", value=outcome.per_s, unit="/s", bound=bound, sense="at_least")
            yield Figure(name=f"{words}: CPU a pod", value=outcome.cpu_ms, unit="ms")
            yield Figure(name=f"{words}: memory", value=outcome.memory_mib, unit="MiB")
            yield Figure(name=f"{words}: alone, created to bound", value=outcome.latency_ms, unit="ms")
    for nodes, running in ((1_250, 0), (2_500, 0), (1_000, 5_000), (1_000, 10_000), (1_000, 20_000)):
        found[nodes, running] = run(nodes, 600, running=running)
    yield from exponents("nodes", [(nodes, found[nodes, 0]) for nodes in (1_250, 2_500, 5_000)])
    yield from exponents("pods", [(pods, found[1_000, pods]) for pods in (5_000, 10_000, 20_000)])


def run(nodes: int, pods: int, *, mixed: bool = False, running: int = 0) -> Outcome:
    """Bind `pods` on `nodes` on which `running` others run already."""
    with tempfile.TemporaryDirectory() as folder, _control_plane(Path(folder), nodes, pods, mixed, running) as server:
        client = server.client()
        revision = client.list(PODS, limit=1).metadata.resource_version
        bound = Bound(client, revision, pods)
        with component("master.scheduler", server, Path(folder), profile="fast") as process:
            bound.begun.wait(120)
            begin_s = cpu_s(process)
            bound.wait()
            used_s = cpu_s(process) - begin_s
            memory = process.memory_info().rss / MIB
            latencies = sorted(_alone(client) for _ in range(ALONE))
        return Outcome(bound.per_s, used_s / pods * 1_000, memory, latencies[len(latencies) // 2] * 1_000)


class Bound:
    """Follows the pods and takes the time of the first and of the last binding."""

    def __init__(self, client: Client, revision: str, number: int) -> None:
        self._client, self._revision, self._number = client, revision, number
        self._times_s: list[float] = []
        self.begun = threading.Event()  # the scheduler has read everything and begins
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until all are bound."""
        self._thread.join(240)
        assert len(self._times_s) == self._number, f"{len(self._times_s)} of {self._number} were bound"

    @property
    def per_s(self) -> float:
        """Bindings a second, from the first to the last."""
        return (self._number - 1) / (self._times_s[-1] - self._times_s[0])

    def _follow(self) -> None:
        seen: set[bytes] = set()
        with self._client.watch(PODS, resource_version=self._revision) as events:
            for event in events:
                if event.type != "MODIFIED" or b'"nodeName":"' not in bytes(event.object):
                    continue
                name = msgspec.json.decode(event.object, type=_Named).metadata.name.encode()
                if name not in seen:
                    seen.add(name)
                    self._times_s.append(CLOCK.monotonic_s())
                    self.begun.set()
                if len(seen) == self._number:
                    return


class _Meta(msgspec.Struct):
    name: str


class _Named(msgspec.Struct):
    metadata: _Meta


def _alone(client: Client) -> float:
    """Seconds from asking for one pod to seeing it bound."""
    spec = {"containers": [{"name": "c", "image": "x:1", "resources": {"requests": {"cpu": "100m"}}}]}
    body = {"metadata": {"generateName": "alone-"}, "spec": {**spec, "automountServiceAccountToken": False}}
    began_s = CLOCK.monotonic_s()
    name = client.create(PODS, body, "default")["metadata"]["name"]

    def is_bound() -> bool:
        return bool(client.get(PODS, name, "default")["spec"].get("nodeName"))

    wait_for(is_bound, what=f"{name} to be bound", deadline_s=30, clock=CLOCK, every_s=0.002)
    return CLOCK.monotonic_s() - began_s


@contextmanager
def _control_plane(folder: Path, nodes: int, pods: int, mixed: bool, running: int) -> Iterator[ApiServer]:
    etcd = Etcd(folder / "etcd")
    etcd.start()
    server = ApiServer(folder, etcd.url)
    try:
        _store(etcd.url, nodes, pods, mixed, running)
        yield server.start()
    finally:
        server.kill()
        etcd.kill()


def _store(url: str, nodes: int, pods: int, mixed: bool, running: int) -> None:
    """Put everything straight into etcd, as the API server would have left it."""
    store = EtcdStore([url], clock=CLOCK)

    def put(item: tuple[str, dict[str, Any]]) -> None:
        store.create(item[0], msgspec.json.encode(item[1]))

    items = [(f"/registry/core/nodes/{name}", node(name, at)) for at, name in enumerate(map(node_name, range(nodes)))]
    for at in range(running + pods):
        pod = _pod(at, mixed, node_name(at % nodes) if at < running else "")
        items.append((f"/registry/core/pods/default/{pod['metadata']['name']}", pod))
    for kind in range(KINDS):
        app = f"app-{kind}"
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": app}}}
        replicas = {"kind": "ReplicaSet", "apiVersion": "apps/v1", "metadata": _meta(app), "spec": spec, "status": {}}
        items.append((f"/registry/apps/replicasets/default/{app}", replicas))
    account = {"metadata": _meta("default"), "kind": "ServiceAccount", "apiVersion": "v1"}
    items.append(("/registry/core/serviceaccounts/default/default", account))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, items))
    store.close()


def node_name(at: int) -> str:
    """Of the node of that number."""
    return f"node-{at:05}"


def _meta(name: str, **more: Any) -> dict[str, Any]:
    born = {"uid": f"uid-{name}", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"name": name, "namespace": "default", **born, **more}


def node(name: str, at: int) -> dict[str, Any]:
    """A node as its kubelet would have registered it."""
    labels = {HOST: name, ZONE: f"zone-{at % 3}"}
    room = {"cpu": "32", "memory": "64Gi", "pods": "110"}
    images = [{"names": ["x:1"], "sizeBytes": 50 * MIB}] if at % 2 else []
    status = {"allocatable": room, "capacity": room, "images": images}
    meta = {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels}
    return {"kind": "Node", "apiVersion": "v1", "metadata": meta, "spec": {}, "status": status}


def _pod(at: int, mixed: bool, node: str) -> dict[str, Any]:
    app = f"app-{at % KINDS}"
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app, "uid": app, "controller": True}
    container = {"name": "c", "image": "x:1", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}
    spec = {"containers": [container], "schedulerName": "default-scheduler", "priority": 0}
    if mixed:
        spec |= _wishes(at % KINDS, app)
    if node:
        spec["nodeName"] = node
    meta = _meta(f"pod-{at:06}", labels={"app": app}, ownerReferences=[owner])
    phase = "Running" if node else "Pending"
    return {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": spec, "status": {"phase": phase}}


def _wishes(kind: int, app: str) -> dict[str, Any]:
    """What the pods of one kind want of others: five of ten want something."""

    def rule(key: str) -> dict[str, Any]:
        return {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}

    def spread(key: str, skew: int, unsatisfiable: str) -> dict[str, Any]:
        return {"topologySpreadConstraints": [{**rule(key), "maxSkew": skew, "whenUnsatisfiable": unsatisfiable}]}

    wish = {"weight": 100, "podAffinityTerm": rule(HOST)}
    every: Sequence[dict[str, Any]] = (
        spread(ZONE, 5, "DoNotSchedule"),
        spread(HOST, 1, "ScheduleAnyway"),
        {"affinity": {"podAntiAffinity": {REQUIRED: [rule(HOST)]}}},
        {"affinity": {"podAntiAffinity": {PREFERRED: [wish]}}},
        {"affinity": {"podAffinity": {REQUIRED: [rule(ZONE)]}}},
    )
    return every[kind] if kind < len(every) else {}
