"""Parts of bench_store that need a process of their own: `python -m tests.bench.store_parts fanout|memory|reads`.

Each prints its figures as JSON, one a line. Under gevent, as the API server runs: patched before anything is imported.
"""

# ruff: noqa: E402 - gevent must come first
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import resource
import sys
import threading
from typing import Any

import msgspec
import psutil

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Stop
from master.apiserver.watchcache import CacheEvent, WatchCache
from master.store.etcd import EtcdStore
from master.store.memory import MemoryStore
from master.store.protocol import Store
from tests.bench.figure import Figure

CLOCK = SystemClock()
PODS = "/registry/pods/"
WATCHES, EVENTS_PER_S, SECONDS = 1000, 50, 6


def pod(name: str, *, size: int = 5000) -> bytes:
    """A pod of about 5 KB with the shape of a real one."""
    container = {
        "name": "main", "image": "lab.local/web:1", "imagePullPolicy": "IfNotPresent", "args": ["--serve", "8080"],
        "env": [{"name": f"VARIABLE_{number}", "value": f"value-{number}-{name}"} for number in range(20)],
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "volumeMounts": [{"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
    }  # fmt: skip
    conditions = [
        {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    body: dict[str, Any] = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default", "uid": name * 2, "labels": {"app": name}},
        "spec": {"containers": [container] * 2, "nodeName": "worker1", "restartPolicy": "Always"},
        "status": {
            "phase": "Running",
            "conditions": conditions,
            "podIP": "10.244.1.7",
            "startTime": "2026-01-01T00:00:00Z",
        },
    }
    short = max(0, size - len(msgspec.json.encode(body)))
    body["metadata"]["annotations"] = {"padding": "p" * short}
    return msgspec.json.encode(body)


def line(event: CacheEvent) -> bytes:
    """A watch event as clients get it."""
    return b'{"type":"%b","object":%b}\n' % (event.type.encode(), event.object.raw)


def show(name: str, value: float, unit: str, bound: float | None = None) -> None:
    """Print one figure."""
    print(msgspec.json.encode(Figure(name=name, value=value, unit=unit, bound=bound)).decode(), flush=True)


def served(store: Store) -> WatchCache:
    """A cache that follows `store`."""
    cache = WatchCache(store, PODS, clock=CLOCK)
    cache.start(Stop())
    cache.wait_ready(deadline_s=60)
    return cache


def fanout() -> None:
    """1,000 watches, 50 events a second, from the store's write to the encoded line in a watcher's hands."""
    store = MemoryStore(CLOCK, progress_s=5.0)
    cache = served(store)
    delays: list[float] = []
    written_s: dict[int, float] = {}
    done = threading.Event()
    total = EVENTS_PER_S * SECONDS

    def follow() -> None:
        with cache.watch() as watcher:
            seen = 0
            while seen < total:
                for event in watcher.take(30):
                    event.encoded("json", line)
                    delays.append(CLOCK.monotonic_s() - written_s[event.revision])
                    seen += 1
        if len(delays) == total * WATCHES:
            done.set()

    for _ in range(WATCHES):
        threading.Thread(target=follow, daemon=True).start()
    CLOCK.sleep_s(0.5)
    body = pod("p")
    cpu_s = sum(psutil.Process().cpu_times()[:2])
    began_s = CLOCK.monotonic_s()
    for number in range(total):
        written_s[store.revision() + 1] = CLOCK.monotonic_s()
        store.create(f"{PODS}default/{number:06}", body)
        CLOCK.sleep_s(max(0.0, began_s + (number + 1) / EVENTS_PER_S - CLOCK.monotonic_s()))
    assert done.wait(60), f"{len(delays)} of {total * WATCHES} deliveries"
    cpu_s = sum(psutil.Process().cpu_times()[:2]) - cpu_s
    delays.sort()
    what = f"{WATCHES} watches x {EVENTS_PER_S} events/s"
    show(f"{what}: p50 from write to watcher", delays[len(delays) // 2] * 1e3, "ms", 100)
    show(f"{what}: p99 from write to watcher", delays[len(delays) * 99 // 100] * 1e3, "ms")
    show(f"{what}: CPU a delivery", cpu_s / len(delays) * 1e6, "us", 20)


def memory() -> None:
    """10,000 pods of 5 KB in the cache; the store below is emptied of them first."""
    store = MemoryStore(CLOCK)
    before = psutil.Process().memory_info().rss

    class Passing(MemoryStore):
        """Lists pods that are made on the way."""

        def list(self, prefix, **options):  # type: ignore[no-untyped-def]
            from master.store.protocol import Entry, Page  # noqa: PLC0415

            entries = (Entry(f"{PODS}default/{n:06}", pod(f"{n:06}"), n + 2, n + 2) for n in range(10_000))
            return Page(tuple(entries), 10_001, 0, "")

        def watch(self, prefix, *, after):  # type: ignore[no-untyped-def]
            return store.watch(prefix, after=0)

    cache = served(Passing(CLOCK))
    items, _ = cache.list()
    size = sum(len(item.raw) for item in items) / len(items)
    show(f"10,000 pods of {size:.0f} bytes: memory", (psutil.Process().memory_info().rss - before) / 2**20, "MiB", 300)
    began_s = CLOCK.monotonic_s()
    assert sum(item.document["metadata"]["labels"]["app"] == "000001" for item in items) == 1
    show("10,000 pods: selecting by label", (CLOCK.monotonic_s() - began_s) * 1e3, "ms")
    show("10,000 pods: memory after that", (psutil.Process().memory_info().rss - before) / 2**20, "MiB")
    documents = [msgspec.json.decode(item.raw) for item in items]
    show("10,000 pods: memory if all stayed parsed", (psutil.Process().memory_info().rss - before) / 2**20, "MiB")
    del documents
    began_s = CLOCK.monotonic_s()
    for _ in range(20):
        body = b",".join([item.raw for item in cache.list()[0]])
    show(f"10,000 pods: a list's body, {len(body) >> 20} MiB", (CLOCK.monotonic_s() - began_s) * 50, "ms")
    show("peak memory of that process", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, "MiB")


def reads() -> None:
    """Consistent reads with 32 greenlets, while another resource is written; of an etcd, if its URL is given."""
    below = "etcd" if sys.argv[2:] else "memory store"
    store: Store = EtcdStore(sys.argv[2:], clock=CLOCK) if sys.argv[2:] else MemoryStore(CLOCK)
    cache = served(store)
    store.create(f"{PODS}a", pod("a"))
    lags: list[float] = []
    running = threading.Event()

    def read() -> None:
        while not running.is_set():
            began_s = CLOCK.monotonic_s()
            cache.wait_current(deadline_s=5)
            cache.get(f"{PODS}a")
            lags.append(CLOCK.monotonic_s() - began_s)
            CLOCK.sleep_s(0)

    readers = [threading.Thread(target=read) for _ in range(32)]
    for reader in readers:
        reader.start()
    began_s = CLOCK.monotonic_s()
    for number in range(300):
        store.create(f"/registry/leases/{number}", b"{}")
        CLOCK.sleep_s(0.002)
    show(f"consistent reads, {below}, 32 greenlets", len(lags) / (CLOCK.monotonic_s() - began_s), "/s")
    running.set()
    for reader in readers:
        reader.join(10)
    lags.sort()
    show(f"consistent read, {below}, 32 greenlets: p50", lags[len(lags) // 2] * 1e3, "ms")
    show(f"consistent read, {below}, 32 greenlets: p99", lags[len(lags) * 99 // 100] * 1e3, "ms")


if __name__ == "__main__":
    {"fanout": fanout, "memory": memory, "reads": reads}[sys.argv[1]]()
