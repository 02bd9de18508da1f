"""What the benchmarks of the two kinds of lab measure alike: fail-overs and times as a user sees them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator

from labctl.runtime.clock import SystemClock
from tests.bench.figure import Figure
from tests.labs import LabUser, eventually, is_ready

CLOCK = SystemClock()


def failover(user: LabUser, runs: int, *, bound_s: float) -> Iterator[Figure]:
    """Cut a worker's power `runs` times: the medians of what the drills measured.

    Each run begins with newly made pods, on both workers: a drill leaves all of them on the one that lived.
    """
    serving: list[float] = []
    detected: list[float] = []
    for number in range(runs):
        user.kubectl("rollout", "restart", "deployment/web")
        user.kubectl("rollout", "status", "deployment/web", "--timeout=240s")
        eventually(lambda: len([pod for pod in user.pods() if is_ready(pod)]) == 3, "three ready pods", 180)
        folder = user.home / f"drill-{user.name}-{number}"
        user.labctl("drill", "run", "worker-power-loss", "--report-dir", str(folder), code=None)
        measures = json.loads(next(folder.rglob("report.json")).read_text())["measures"]
        serving.append(measures["serving_again_s"])
        detected.append(measures["detected_s"])
    label = user.provider if user.provider == "lxc" else "vm"
    for name, samples, bound in (("serving again", serving, bound_s), ("detected", detected, 5.0)):
        yield Figure(
            name=f"{label}: power cut to {name}, median of {runs}",
            value=statistics.median(samples),
            unit="s",
            bound=bound,
            samples=tuple(samples),
        )


def timed(work: Callable[[], object]) -> float:
    """How long `work` took, in seconds."""
    start_s = CLOCK.monotonic_s()
    work()
    return CLOCK.monotonic_s() - start_s
