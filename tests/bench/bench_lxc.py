"""How long a lab of system containers takes to come up, fail over and go; and what an idle one costs."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figure import Figure
from tests.bench.lab_parts import CLOCK, failover, timed
from tests.labs import LabUser

_UNITS = {"apiserver": 150, "scheduler": 60, "controllers": 60, "kubelet": 60, "proxy": 60}  # MiB resident, at most
_IDLE_S = 60


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """One lab, from nothing to nothing."""
    with tempfile.TemporaryDirectory(prefix="labctl-bench-") as home:
        yield from _lxc(LabUser(Path(home), "b-lxc", "lxc"), options.runs)


def _lxc(user: LabUser, runs: int) -> Iterator[Figure]:
    try:
        yield Figure(name="lxc: up", value=timed(user.up), unit="s", bound=20)
        user.deploy_web()
        yield from failover(user, runs, bound_s=10)
        yield from _footprint(user)
        yield Figure(name="lxc: destroy", value=timed(lambda: user.labctl("destroy")), unit="s", bound=5)
    finally:
        user.labctl("destroy", "--if-exists")


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
