"""What a drill's record is worth and what it costs: its times against the machines' stamps, its work on a node.

On system containers, whose clock is this host's: so the difference is the record's error and nothing else. A renewal
of a lease happens between the moment at which the API server received it and the one at which it had answered, both
in its audit log; the record has the moment at which the runner got the event. What lies after the answer is error;
what lies after the receipt bounds it from above, with the server's own work in it.
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
    late: list[float] = []
    behind: list[float] = []
    shares: list[float] = []
    ssh_before_s = _ssh_cpu_s(user, "worker1")
    began_s = CLOCK.monotonic_s()
    for _ in range(runs):  # worker3 is struck, so that worker1 is looked into all the time
        user.labctl("drill", "run", "worker-power-loss", "--node", "worker3", code=None)
    looks = 100 * (_ssh_cpu_s(user, "worker1") - ssh_before_s) / (CLOCK.monotonic_s() - began_s)
    for folder in sorted((user.home / ".labctl" / user.name / "drills").glob("*/")):
        audit = (folder / "flight" / "master1" / "audit.log").read_text()
        for after_answer_s, after_receipt_s in lags_s(histories.load(folder / histories.NAME), renewals(audit)):
            late.append(after_answer_s)
            behind.append(after_receipt_s)
        shares += recorder_shares(json.loads((folder / "flight" / "flight.json").read_text()))
    for reference, lags, bound in (("answer", late, _BOUND_MS), ("receipt", behind, None)):
        lags.sort()
        for name, share in (("median", 0.5), ("p99", 0.99), ("most", 1.0)):
            value = 1000 * lags[int(share * (len(lags) - 1))]
            title = f"timeline: after the API server's {reference} ({len(lags)} leases), {name}"
            yield Figure(name=title, value=value, unit="ms", bound=bound)
    yield Figure(
        name="flight recorder: share of a core on a node, worst", value=100 * max(shares), unit="%", bound=5,
        samples=tuple(100 * share for share in shares),
    )  # fmt: skip
    yield Figure(name="looks into a node over ssh: share of a core", value=looks, unit="%", bound=5)
    yield Figure(name="both together", value=looks + 100 * statistics.median(shares), unit="%", bound=5)


Renewals = dict[str, list[tuple[float, float]]]


def renewals(audit: str) -> Renewals:
    """By node, when the API server received each renewal of its lease, and when it had answered."""
    found: Renewals = {}
    for line in audit.splitlines()[1:]:  # the first may be torn
        event = json.loads(line)
        about = event.get("objectRef") or {}
        if about.get("resource") != "leases" or about.get("namespace") != "kube-node-lease":
            continue
        if event["verb"] in {"update", "patch"} and event["stage"] == "ResponseComplete":
            stamps = (_seconds(event["requestReceivedTimestamp"]), _seconds(event["stageTimestamp"]))
            found.setdefault(about["name"], []).append(stamps)
    return found


def lags_s(history: History, renewed: Renewals) -> Iterator[tuple[float, float]]:
    """For each renewal in the record: how long after the server's answer it came (0: before), and after the receipt.

    A kubelet stamps a lease just before it sends it, so its renewal is the first that the server received after that.
    """
    for entry in history:
        what = entry.what
        if not isinstance(what, LeaseSeen) or what.event == LISTED or not what.renewed:
            continue
        sent_s, seen_s = _seconds(what.renewed), _seconds(entry.wall)
        for received_s, answered_s in renewed.get(what.name, ()):
            if received_s >= sent_s:
                yield max(0.0, seen_s - answered_s), seen_s - received_s
                break


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def recorder_shares(index: dict[str, list[dict[str, float]]]) -> list[float]:
    """Of a core, by machine, where the recorder lived through the drill."""
    return [
        machine["recorder_cpu_s"] / machine["recorder_s"]
        for machine in index["machines"]
        if machine.get("recorder_cpu_s") is not None
    ]


def _ssh_cpu_s(user: LabUser, node: str) -> float:
    """Processor seconds that the node's sshd and all that ran under it has used, from /proc: what has ended counts."""
    script = "p=$(systemctl show -p MainPID --value ssh); cut -d' ' -f14-17 /proc/$p/stat; getconf CLK_TCK"
    *ticks, hertz = user.labctl("ssh", node, "--", script).stdout.split()
    assert len(ticks) == 4, "sshd is not a unit of that node"
    return sum(map(int, ticks)) / int(hertz)
