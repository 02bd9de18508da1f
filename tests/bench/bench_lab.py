"""How long a lab takes to come up, come back, fail over and go; and what an idle one costs. Real machines.

The bare figures beside ours are plain `vagrant` with the same Vagrantfile, box and machines, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from labctl.runtime.clock import SystemClock
from tests.bench.figure import Figure
from tests.labs import ROOT, LabUser, eventually, is_ready

CLOCK = SystemClock()
_UNITS = {"apiserver": 150, "scheduler": 60, "controllers": 60, "kubelet": 60, "proxy": 60}  # MiB resident, at most
_IDLE_S = 60


def measure(options: argparse.Namespace) -> Iterable[Figure]:
    """Both providers, one after the other."""
    with tempfile.TemporaryDirectory(prefix="labctl-bench-") as home:
        yield from _lxc(LabUser(Path(home), "b-lxc", "lxc"), options.runs)
        yield from _vm(LabUser(Path(home), "b-vm", "vagrant"), options.runs)


def _lxc(user: LabUser, runs: int) -> Iterator[Figure]:
    try:
        yield Figure(name="lxc: up", value=_timed(user.up), unit="s", bound=20)
        user.deploy_web()
        yield from _failover(user, runs, bound_s=10)
        yield from _footprint(user)
        yield Figure(name="lxc: destroy", value=_timed(lambda: user.labctl("destroy")), unit="s", bound=5)
    finally:
        user.labctl("destroy", "--if-exists")


def _vm(user: LabUser, runs: int) -> Iterator[Figure]:
    try:
        up_s = _timed(user.up)
        user.deploy_web()
        yield from _failover(user, runs, bound_s=20)
        yield from _snapshot(user)
        user.labctl("halt")
        again_s = _timed(user.up)
        user.labctl("halt")
        bare_again_s = _timed(lambda: _vagrant(user, "up", "--parallel"))
        _vagrant(user, "destroy", "--force", "--parallel")
        bare_up_s = _timed(lambda: _vagrant(user, "up", "--parallel"))
    finally:
        user.labctl("destroy", "--if-exists")
    yield Figure(name="vm: up", value=up_s, unit="s")
    yield Figure(name="vm: bare vagrant up", value=bare_up_s, unit="s")
    yield Figure(name="vm: up, against bare", value=up_s / bare_up_s, unit="times", bound=2)
    yield Figure(name="vm: up after halt", value=again_s, unit="s")
    yield Figure(name="vm: bare vagrant up after halt", value=bare_again_s, unit="s")
    yield Figure(name="vm: up after halt, against bare", value=again_s / bare_again_s, unit="times", bound=1.5)


def _vagrant(user: LabUser, *args: str) -> None:
    state = user.home / ".labctl" / user.name
    env = {
        **os.environ,
        "LABCTL_TOPOLOGY": str(state / "topology.json"),
        "VAGRANT_DOTFILE_PATH": str(state / "vagrant"),
    }
    subprocess.run(["vagrant", *args], cwd=ROOT, env=env, check=True, capture_output=True, timeout=900)


def _failover(user: LabUser, runs: int, *, bound_s: float) -> Iterator[Figure]:
    serving: list[float] = []
    detected: list[float] = []
    for number in range(runs):
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


def _snapshot(user: LabUser) -> Iterator[Figure]:
    yield Figure(name="vm: snapshot save", value=_timed(lambda: user.labctl("snapshot", "save", "bench")), unit="s")
    restore_s = _timed(lambda: user.labctl("snapshot", "restore", "bench"))
    yield Figure(name="vm: snapshot restore to all Ready", value=restore_s, unit="s", bound=10)
    user.labctl("snapshot", "delete", "bench")


def _footprint(user: LabUser) -> Iterator[Figure]:
    """Resident memory of each component, and the CPU that an idle worker's agents take, by their own accounting."""
    for component, bound in _UNITS.items():
        node = "worker1" if component in ("kubelet", "proxy") else "master1"
        yield Figure(
            name=f"idle {component}: resident", value=_resident_mib(user, node, component), unit="MiB", bound=bound
        )
    before_s = _cpu_s(user, "worker1")
    CLOCK.sleep_s(_IDLE_S)
    percent = 100 * (_cpu_s(user, "worker1") - before_s) / _IDLE_S
    yield Figure(name="idle worker's agents: share of a core", value=percent, unit="%", bound=3)


def _resident_mib(user: LabUser, node: str, component: str) -> float:
    """The sum over the unit's processes (the API server has a master and a worker process), from /proc."""
    script = (
        f"g=$(systemctl show -p ControlGroup --value labctl-{component}); cd /sys/fs/cgroup; "
        "for p in $(cat .$g/cgroup.procs systemd$g/cgroup.procs 2>/dev/null); do "
        "grep -q python /proc/$p/cmdline && awk '/^VmRSS/{print $2}' /proc/$p/status; done"
    )
    return sum(int(line) for line in user.labctl("ssh", node, "--", script).stdout.split()) / 1024


def _cpu_s(user: LabUser, node: str) -> float:
    """Seconds of CPU that the kubelet's and the proxy's own processes have used."""
    script = (
        "for u in labctl-kubelet labctl-proxy; do "
        "p=$(systemctl show -p MainPID --value $u); cut -d' ' -f14,15 /proc/$p/stat; done; getconf CLK_TCK"
    )
    *ticks, hertz = user.labctl("ssh", node, "--", script).stdout.split()
    return sum(map(int, ticks)) / int(hertz)


def _timed(work: Callable[[], object]) -> float:
    start_s = CLOCK.monotonic_s()
    work()
    return CLOCK.monotonic_s() - start_s
