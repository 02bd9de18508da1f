"""The API server under load, TLS on, over a real etcd on the same cores; with `--against` any other API server.

Rates with 32 clients, p99 beside each, against raw creates in etcd; 1,000 watches of one resource at 50 writes a
second; 2,000 idle watches; 10,000 pods; memory; start-up.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from labctl.kube.client import Client
from labctl.kube.resources import PODS
from master.store.etcd import EtcdStore
from tests.bench.figure import Figure
from tests.e2e.apiserver import CLOCK, ApiServer
from tests.etcd import Etcd

CLIENTS = 32
SECONDS = 5.0
WATCHERS, IDLE = 1000, 2000
PODS_LISTED, PODS_STORED = 500, 10_000
MIB = 1024 * 1024
# Issue 3's goals, per second.
GOALS = {"get": 2500.0, "create": 800.0, "list": 60.0, "update": 700.0}
P99_MS = 100.0


def measure(options: argparse.Namespace | None = None) -> Iterable[Figure]:
    """Run all of it; about two minutes."""
    against = getattr(options, "against", None)
    if against:
        yield from _load(against, {})
        return
    with tempfile.TemporaryDirectory() as folder:
        yield from _small(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        yield from _large(Path(folder))


def _small(folder: Path) -> Iterator[Figure]:
    """The rates, the watches, and what they cost."""
    etcd = Etcd(folder / "etcd")
    etcd.start()
    server = ApiServer(folder, etcd.url)
    try:
        began_s = CLOCK.monotonic_s()
        server.start()
        yield Figure(name="start to ready", value=CLOCK.monotonic_s() - began_s, unit="s")
        yield Figure(name="idle memory", value=server.resident_bytes / MIB, unit="MiB", bound=150)
        rates: dict[str, float] = {}
        yield from _load(str(server.admin), rates)
        raw = _run(etcd.url, "puts", CLIENTS, SECONDS)["rate"]
        yield Figure(name="raw creates in etcd, 32 clients", value=raw, unit="/s")
        yield Figure(name="creates to raw creates", value=rates["create"] / raw, unit="", bound=0.5, sense="at_least")
        yield Figure(name="memory after the load", value=server.resident_bytes / MIB, unit="MiB")
        yield _idle(server)
    finally:
        server.kill()
        etcd.kill()


def _large(folder: Path) -> Iterator[Figure]:
    """Many pods."""
    etcd = Etcd(folder / "etcd")
    etcd.start()
    _store_pods(etcd.url)
    server = ApiServer(folder, etcd.url)
    try:
        server.start()
        result = _run(str(server.admin), "select", 20, SECONDS)
        assert result["found"] == PODS_STORED / 100, result
        yield Figure(name=f"{PODS_STORED} pods, the first list", value=result["first_ms"], unit="ms")
        name = f"{PODS_STORED} pods, list by field selector, p50"
        yield Figure(name=name, value=result["p50_ms"], unit="ms", bound=200)
        name = f"{PODS_STORED} pods, list by field selector, slowest"
        yield Figure(name=name, value=result["p99_ms"], unit="ms", bound=200)
        name = f"{PODS_STORED} pods of 5 KB, memory"
        yield Figure(name=name, value=server.resident_bytes / MIB, unit="MiB", bound=500)
    finally:
        server.kill()
        etcd.kill()


def _load(kubeconfig: str, rates: dict[str, float]) -> Iterator[Figure]:
    """The same load whoever serves; `rates` takes the rate of each scenario."""
    _fill(kubeconfig)
    for scenario, goal in GOALS.items():
        result = _run(kubeconfig, scenario, CLIENTS, SECONDS)
        rates[scenario] = result["rate"]
        yield Figure(name=f"{scenario}, 32 clients", value=result["rate"], unit="/s", bound=goal, sense="at_least")
        yield Figure(name=f"{scenario}, p50", value=result["p50_ms"], unit="ms")
        yield Figure(name=f"{scenario}, p99", value=result["p99_ms"], unit="ms", bound=P99_MS)
    result = _run(kubeconfig, "watch", WATCHERS, SECONDS)
    yield Figure(name=f"{WATCHERS} watchers, events delivered", value=result["rate"], unit="/s")
    yield Figure(name=f"{WATCHERS} watchers, p99 after the write", value=result["p99_ms"], unit="ms", bound=1000)
    complete = result["complete"]
    yield Figure(name="watchers that saw every event", value=complete, unit="", bound=WATCHERS, sense="at_least")


def _idle(server: ApiServer) -> Figure:
    """What watches cost on which nothing happens."""
    before = server.resident_bytes
    argv = [sys.executable, "-m", "tests.bench.load", str(server.admin), "idle", str(IDLE), "0"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        cost = server.resident_bytes - before
        process.communicate(timeout=60)
    return Figure(name=f"{IDLE} idle watches, memory", value=cost / MIB, unit="MiB", bound=100)


def _run(target: str, scenario: str, clients: int, seconds: float) -> dict[str, float]:
    argv = [sys.executable, "-m", "tests.bench.load", target, scenario, str(clients), str(seconds)]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=60 + 10 * seconds)
    return msgspec.json.decode(done.stdout, type=dict[str, float])


def _fill(kubeconfig: str) -> None:
    """The pods that are listed."""
    client = Client.from_kubeconfig(kubeconfig)
    there = len(client.list(PODS, "default").items)
    for number in range(there, PODS_LISTED):
        spec = {"containers": [{"name": "c", "image": "x:1"}], "nodeSelector": {"none": "such"}}
        client.create(PODS, {"metadata": {"generateName": f"bench-{number}-"}, "spec": spec}, "default")


def _store_pods(url: str) -> None:
    """Pods on a hundred nodes, straight into etcd."""
    store = EtcdStore([url], clock=CLOCK)

    def put(number: int) -> None:
        name, node = f"stored-{number:05}", f"worker{number % 100}"
        environment = [{"name": f"VARIABLE_{at}", "value": f"value-{at}-{name}"} for at in range(80)]
        document = {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": f"a{number % 7}"}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "x:1", "env": environment}]},
            "status": {"phase": "Running", "podIP": "10.244.1.7"},
        }
        store.create(f"/registry/core/pods/default/{name}", msgspec.json.encode(document))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(PODS_STORED)))
    store.close()
