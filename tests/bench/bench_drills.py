"""What a drill's record is worth and what it costs: its times against the machines' stamps, its work on a node.

On system containers, whose clock is this host's: so the difference is the record's error and nothing else. A lease
carries the moment at which its kubelet sent it; the record has the moment at which the runner received it, so the
difference bounds the error of every event from above: writing, storing, sending and reading are all in it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from labctl.drills import history as histories
from labctl.drills.history import History
from labctl.drills.records import LISTED, LeaseSeen
from tests.bench.figure import Figure
from tests.bench.lab_parts import CLOCK
from tests.labs import LabUser

_BOUND_MS = 50


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """One lab, a few drills."""
    with tempfile.TemporaryDirectory(prefix="labctl-bench-") as home:
        user = LabUser(Path(home), "b-drills", "lxc")
        try:
            user.up("--workers", "3")
            user.deploy_web()
            yield from _drills(user, max(1, min(options.runs, 3)))
        finally:
            user.labctl("destroy", "--if-exists")


def _drills(user: LabUser, runs: int) -> Iterator[Figure]:
    lags: list[float] = []
    shares: list[float] = []
    ssh_before_s = _ssh_cpu_s(user, "worker1")
    began_s = CLOCK.monotonic_s()
    for _ in range(runs):  # worker3 is struck, so that worker1 is looked into all the time
        user.labctl("drill", "run", "worker-power-loss", "--node", "worker3", code=None)
    looks = 100 * (_ssh_cpu_s(user, "worker1") - ssh_before_s) / (CLOCK.monotonic_s() - began_s)
    for folder in sorted((user.home / ".labctl" / user.name / "drills").glob("*/")):
        lags += lags_s(histories.load(folder / histories.NAME))
        shares += recorder_shares(json.loads((folder / "flight" / "flight.json").read_text()))
    lags.sort()
    for name, share in (("median", 0.5), ("p99", 0.99), ("most", 1.0)):
        value = 1000 * lags[min(len(lags) - 1, int(share * len(lags)))]
        yield Figure(name=f"timeline: behind {len(lags)} lease stamps, {name}", value=value, unit="ms", bound=_BOUND_MS)
    yield Figure(
        name="flight recorder: share of a core on a node, worst", value=100 * max(shares), unit="%", bound=5,
        samples=tuple(100 * share for share in shares),
    )  # fmt: skip
    yield Figure(name="looks into a node over ssh: share of a core", value=looks, unit="%", bound=5)
    yield Figure(name="both together", value=looks + 100 * statistics.median(shares), unit="%", bound=5)


def lags_s(history: History) -> list[float]:
    """How long after its node's own stamp each renewal of a lease was recorded."""
    lags = []
    for entry in history:
        what = entry.what
        if isinstance(what, LeaseSeen) and what.event != LISTED and what.renewed:
            stamp, seen = (datetime.fromisoformat(text) for text in (what.renewed, entry.wall))
            lags.append((seen - stamp).total_seconds())
    return lags


def recorder_shares(index: dict[str, list[dict[str, float]]]) -> list[float]:
    """Of a core, by machine, where the recorder lived through the drill."""
    return [
        machine["recorder_cpu_s"] / machine["recorder_s"]
        for machine in index["machines"]
        if machine.get("recorder_cpu_s") is not None
    ]


def _ssh_cpu_s(user: LabUser, node: str) -> float:
    """Processor seconds that everything under the node's sshd has used, by its cgroup's accounting."""
    done = user.labctl("ssh", node, "--", "systemctl show -p CPUUsageNSec --value ssh.service user.slice")
    return sum(int(line) / 1e9 for line in done.stdout.split() if line.isdigit())
