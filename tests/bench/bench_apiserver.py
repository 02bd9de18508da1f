"""The API server under load, TLS on, over a real etcd on the same cores; with `--against` any other API server.

Rates with 32 clients, p99 beside each; 1,000 watches of one resource at 50 writes a second; memory; start-up.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from labctl.kube.client import Client
from labctl.kube.resources import PODS
from tests.bench.figure import Figure
from tests.e2e.apiserver import CLOCK, ApiServer
from tests.etcd import Etcd

CLIENTS = 32
SECONDS = 5.0
WATCHERS = 1000
PODS_LISTED = 500
MIB = 1024 * 1024
# Issue 3's goals, per second.
GOALS = {"get": 2500.0, "create": 800.0, "list": 60.0, "update": 700.0}
P99_MS = 100.0


def measure(options: argparse.Namespace | None = None) -> Iterable[Figure]:
    """Run all of it; about a minute."""
    against = getattr(options, "against", None)
    if against:
        yield from _load(against)
        return
    with tempfile.TemporaryDirectory() as folder:
        etcd = Etcd(Path(folder) / "etcd")
        etcd.start()
        server = ApiServer(Path(folder), etcd.url)
        try:
            began_s = CLOCK.monotonic_s()
            server.start()
            yield Figure(name="start to ready", value=CLOCK.monotonic_s() - began_s, unit="s")
            idle = server.resident_bytes
            yield Figure(name="idle memory", value=idle / MIB, unit="MiB", bound=150)
            yield from _load(str(server.admin))
            yield Figure(name="memory after the load", value=server.resident_bytes / MIB, unit="MiB")
        finally:
            server.kill()
            etcd.kill()


def _load(kubeconfig: str) -> Iterator[Figure]:
    _fill(kubeconfig)
    for scenario, goal in GOALS.items():
        result = _run(kubeconfig, scenario, CLIENTS, SECONDS)
        yield Figure(name=f"{scenario}, 32 clients", value=result["rate"], unit="/s", bound=goal, sense="at_least")
        yield Figure(name=f"{scenario}, p50", value=result["p50_ms"], unit="ms")
        yield Figure(name=f"{scenario}, p99", value=result["p99_ms"], unit="ms", bound=P99_MS)
    result = _run(kubeconfig, "watch", WATCHERS, SECONDS)
    yield Figure(name=f"{WATCHERS} watchers, events delivered", value=result["rate"], unit="/s")
    yield Figure(name=f"{WATCHERS} watchers, p99 after the write", value=result["p99_ms"], unit="ms", bound=1000)
    complete = result["complete"]
    yield Figure(name="watchers that saw every event", value=complete, unit="", bound=WATCHERS, sense="at_least")


def _run(kubeconfig: str, scenario: str, clients: int, seconds: float) -> dict[str, float]:
    argv = [sys.executable, "-m", "tests.bench.load", kubeconfig, scenario, str(clients), str(seconds)]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=60 + 10 * seconds)
    return msgspec.json.decode(done.stdout, type=dict[str, float])


def _fill(kubeconfig: str) -> None:
    """The pods that are listed."""
    client = Client.from_kubeconfig(kubeconfig)
    there = len(client.list(PODS, "default").items)
    for number in range(there, PODS_LISTED):
        spec = {"containers": [{"name": "c", "image": "x:1"}], "nodeSelector": {"none": "such"}}
        client.create(PODS, {"metadata": {"generateName": f"bench-{number}-"}, "spec": spec}, "default")
