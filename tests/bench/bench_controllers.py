"""The controller manager making pods through the API server over a real etcd, all on the same cores.

Deployments are created until so many pods stand; then more, and what each new pod costs the controllers' process is
measured, how long one that is asked for alone takes, and how all of it grows as nodes and standing pods double. Nobody
schedules or runs the pods: they stay Pending, and what is measured is the controllers.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from labctl.kube.client import Client
from labctl.kube.errors import NotFound, Unavailable
from labctl.kube.resources import DEPLOYMENTS, PODS, SERVICE_ACCOUNTS
from labctl.runtime.loop import wait_for
from master.store.etcd import EtcdStore
from tests.bench.bench_scheduler import node, node_name
from tests.bench.figure import Figure
from tests.bench.growth import MIB, Outcome, component, cpu_s, exponents
from tests.e2e.apiserver import CLOCK, ApiServer
from tests.etcd import Etcd

NODES, STANDING = (250, 500, 1_000), (500, 1_000, 2_000)
REPLICAS = 50  # of each Deployment
MORE = 500  # pods made while it is measured
ALONE = 15  # Deployments of one pod, made one by one, for the latency
_DEADLINE_S = 300.0


def measure(options: argparse.Namespace | None = None) -> Iterator[Figure]:
    """Run all of it; about three minutes."""
    del options
    found: dict[tuple[int, int], Outcome] = {}
    fewest = STANDING[0]
    for nodes, standing in (*((nodes, fewest) for nodes in NODES), *((NODES[0], pods) for pods in STANDING[1:])):
        outcome = found[nodes, standing] = run(nodes, standing)
        words = f"{nodes:,} nodes, {standing:,} pods"
        yield Figure(name=f"{words}: pods made", value=outcome.per_s, unit="/s")
        yield Figure(name=f"{words}: CPU a pod", value=outcome.cpu_ms, unit="ms")
        yield Figure(name=f"{words}: memory", value=outcome.memory_mib, unit="MiB")
        yield Figure(name=f"{words}: alone, Deployment created to its pod", value=outcome.latency_ms, unit="ms")
    yield from exponents("nodes", [(nodes, found[nodes, fewest]) for nodes in NODES])
    yield from exponents("pods", [(pods, found[NODES[0], pods]) for pods in STANDING])


def run(nodes: int, standing: int) -> Outcome:
    """Make `MORE` pods where `standing` ones stand already."""
    with tempfile.TemporaryDirectory() as name, _api(Path(name), nodes) as server:
        client = server.client()
        made = Made(client, client.list(PODS, limit=1).metadata.resource_version)
        # Upstream's times: the nodes, which nobody speaks for, are to stay what they are while it is measured.
        networks = {"cluster_cidr": "10.0.0.0/8", "profile": "kubernetes"}
        with component("master.controllers", server, Path(name), **networks) as process:
            wait_for(lambda: _account(client), what="the default account", deadline_s=60, clock=CLOCK, every_s=0.05)
            _deploy(client, made, "standing", standing)
            begin_s, used_s = CLOCK.monotonic_s(), cpu_s(process)
            _deploy(client, made, "more", MORE)
            took_s, used_s = CLOCK.monotonic_s() - begin_s, cpu_s(process) - used_s
            memory = process.memory_info().rss / MIB
            latencies = sorted(_alone(client, made, number) for number in range(ALONE))
        return Outcome(MORE / took_s, used_s / MORE * 1_000, memory, latencies[len(latencies) // 2] * 1_000)


class Made:
    """Follows the pods and counts those that were made."""

    def __init__(self, client: Client, revision: str) -> None:
        self._client, self._revision, self._number = client, revision, 0
        self._moved = threading.Condition()
        threading.Thread(target=self._follow, daemon=True).start()

    @property
    def number(self) -> int:
        """So far."""
        return self._number

    def wait(self, number: int) -> None:
        """Until so many were made."""
        with self._moved:
            done = self._moved.wait_for(lambda: self._number >= number, _DEADLINE_S)
        assert done, f"{self._number} of {number} pods were made"

    def _follow(self) -> None:
        watch = self._client.watch(PODS, resource_version=self._revision)
        with contextlib.suppress(Unavailable), watch as events:  # the API server goes before us
            for event in events:
                if event.type == "ADDED":
                    with self._moved:
                        self._number += 1
                        self._moved.notify_all()


def _deploy(client: Client, made: Made, name: str, pods: int) -> None:
    """So many pods more, in Deployments of `REPLICAS`, all asked for at once; until the last one is there."""
    target = made.number + pods
    for number in range(pods // REPLICAS):
        client.create(DEPLOYMENTS, _deployment(f"{name}-{number}", REPLICAS), "default")
    made.wait(target)


def _alone(client: Client, made: Made, number: int) -> float:
    """Seconds from asking for a Deployment of one pod to seeing that pod."""
    target, begin_s = made.number + 1, CLOCK.monotonic_s()
    client.create(DEPLOYMENTS, _deployment(f"alone-{number}", 1), "default")
    made.wait(target)
    return CLOCK.monotonic_s() - begin_s


def _deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    container = {"name": "c", "image": "x:1", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def _account(client: Client) -> bool:
    """Whether pods can be made at all: admission wants their namespace's default account."""
    try:
        client.get(SERVICE_ACCOUNTS, "default", "default")
    except NotFound:
        return False
    return True


@contextlib.contextmanager
def _api(folder: Path, nodes: int) -> Iterator[ApiServer]:
    """An API server that knows `nodes` nodes, put straight into its etcd."""
    etcd = Etcd(folder / "etcd")
    etcd.start()
    server = ApiServer(folder, etcd.url)
    store = EtcdStore([etcd.url], clock=CLOCK)

    def put(at: int) -> None:
        document = node(node_name(at), at)
        document["spec"]["podCIDR"] = f"10.{at >> 8}.{at & 255}.0/24"
        document["spec"]["podCIDRs"] = [document["spec"]["podCIDR"]]
        document["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        store.create(f"/registry/core/nodes/{document['metadata']['name']}", msgspec.json.encode(document))

    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, range(nodes)))
        yield server.start()
    finally:
        store.close()
        server.kill()
        etcd.kill()
