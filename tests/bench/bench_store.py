"""The store and the watch cache: latency and throughput against a real etcd, fan-out to 1,000 watches, memory.

The cache is measured in processes of their own: with threads replaced by gevent's greenlets, as the API server runs
it, and for the memory of 10,000 pods.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec

from labctl.runtime.clock import SystemClock
from master.store.etcd import EtcdStore
from tests.bench.figure import Figure
from tests.certs import make_pki
from tests.etcd import Etcd

CLOCK = SystemClock()
VALUE = b"x" * 1024
ROUNDS = 1500


def measure(options: argparse.Namespace | None = None) -> Iterable[Figure]:
    """Run all of it; some twenty seconds."""
    del options
    with tempfile.TemporaryDirectory() as folder:
        pki = make_pki(Path(folder))
        for name, server in (
            ("plain", Etcd(Path(folder) / "plain")),
            ("TLS", Etcd(Path(folder) / "tls", tls=pki.client, server=pki.server)),
        ):
            server.start()
            try:
                yield from _etcd(name, server)
                if not server.tls:
                    yield from _part("reads", server.url)
            finally:
                server.kill()
    for part in ("reads", "fanout", "memory"):
        yield from _part(part)


def _etcd(name: str, server: Etcd) -> Iterator[Figure]:
    """One connection, then 32 threads."""
    store = EtcdStore([server.url], clock=CLOCK, tls=server.tls)
    keys = [f"/registry/bench/{number:06}" for number in range(3 * ROUNDS)]
    creates = _times(partial(store.create, key, VALUE) for key in keys[:ROUNDS])
    gets = _times(partial(store.get, key) for key in keys[:ROUNDS])
    revisions = _times(store.revision for _ in range(ROUNDS))
    yield _ms(f"{name}: create, one connection, p50", creates, 0.5, bound=1.0)
    yield _ms(f"{name}: create, one connection, p99", creates, 0.99)
    yield _rate(f"{name}: creates, one connection", ROUNDS, sum(creates), bound=800)
    yield _ms(f"{name}: get, p50", gets, 0.5)
    yield _ms(f"{name}: current revision, p50", revisions, 0.5)
    listed = _times((lambda: store.list("/registry/bench/")) for _ in range(5))
    yield _ms(f"{name}: list of {ROUNDS} x 1 KiB, p50", listed, 0.5)
    with ThreadPoolExecutor(32) as pool:
        for what, call in (
            ("creates", lambda key: store.create(key, VALUE)),
            ("gets", store.get),
            ("current revisions", lambda _: store.revision()),
        ):
            began_s = CLOCK.monotonic_s()
            list(pool.map(call, keys[ROUNDS:]))
            yield _rate(f"{name}: {what}, 32 threads", 2 * ROUNDS, CLOCK.monotonic_s() - began_s)
    store.close()


def _part(*arguments: str) -> Iterator[Figure]:
    """What that process prints, one figure a line."""
    argv = [sys.executable, "-m", "tests.bench.store_parts", *arguments]
    done = subprocess.run(argv, capture_output=True, timeout=120, check=True)
    for line in done.stdout.splitlines():
        yield msgspec.json.decode(line, type=Figure)


def _times(calls: Iterable[Callable[[], object]]) -> list[float]:
    times: list[float] = []
    for call in calls:
        began_s = CLOCK.monotonic_s()
        call()
        times.append(CLOCK.monotonic_s() - began_s)
    return times


def _ms(name: str, times_s: list[float], quantile: float, *, bound: float | None = None) -> Figure:
    cuts = statistics.quantiles(times_s, n=100, method="inclusive")
    return Figure(name=name, value=cuts[round(quantile * 100) - 1] * 1e3, unit="ms", bound=bound)


def _rate(name: str, count: int, seconds: float, *, bound: float | None = None) -> Figure:
    return Figure(name=name, value=count / seconds, unit="/s", bound=bound, sense="at_least")
