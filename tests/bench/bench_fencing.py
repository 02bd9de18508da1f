"""How long a fenced StatefulSet pod is away: from its worker's power cut until it is Ready elsewhere, on lxc."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from labctl.kube.client import Client
from labctl.kube.errors import ApiError
from labctl.kube.resources import PODS
from labctl.runtime.clock import SystemClock
from tests.bench.figure import Figure
from tests.fenced import POD, FencedSet
from tests.labs import LabUser, is_ready

_RUNS = 20
_EVERY_S = 0.1
_DEADLINE_S = 120.0


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """One lab, its two workers cut in turn. `--runs` raises the number of cuts above 20, never lowers it."""
    with tempfile.TemporaryDirectory(prefix="labctl-bench-") as home:
        user = LabUser(Path(home), "b-fence", "lxc")
        try:
            user.up()
            db = FencedSet(user)
            db.deploy()
            yield from _cuts(db, max(_RUNS, options.runs))
        finally:
            user.labctl("destroy", "--if-exists")


def _cuts(db: FencedSet, runs: int) -> Iterator[Figure]:
    samples = [_cut(db) for _ in range(runs)]
    name = f"fenced StatefulSet pod: power cut to Ready elsewhere, {{}} of {runs}"
    ordered = tuple(sorted(samples))
    yield Figure(name=name.format("p50"), value=statistics.median(ordered), unit="s", samples=tuple(samples))
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    yield Figure(name=name.format("p99"), value=p99, unit="s", bound=12)
    yield Figure(name="identities doubled", value=len(db.doubled()), unit="", bound=0)


def _cut(db: FencedSet) -> float:
    """The API is asked every tenth of a second; a sample is at most that and a request too long."""
    clock = SystemClock()
    before = db.pod()
    node = before["spec"]["nodeName"]
    client = db.lab.client
    begun_s = clock.monotonic_s()
    db.lab.provider.power_off(db.lab.site, node)
    while clock.monotonic_s() - begun_s < _DEADLINE_S:
        if _ready_elsewhere(client, before["metadata"]["uid"]):
            break
        clock.sleep_s(_EVERY_S)
    took_s = clock.monotonic_s() - begun_s
    db.bring_back(node)
    return took_s


def _ready_elsewhere(client: Client, uid: str) -> bool:
    try:
        pod = client.get(PODS, POD, "default")
    except ApiError:
        return False
    return pod["metadata"]["uid"] != uid and is_ready(pod)
