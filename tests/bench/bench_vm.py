"""How long a lab of virtual machines takes to come up, come back and fail over.

The bare figures beside ours are plain `vagrant` with the same Vagrantfile, box and machines, in the same run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figure import Figure
from tests.bench.lab_parts import failover, timed
from tests.labs import ROOT, LabUser


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """One lab, and bare machines like its own."""
    with tempfile.TemporaryDirectory(prefix="labctl-bench-") as home:
        yield from _vm(LabUser(Path(home), "b-vm", "vagrant"), options.runs)


def _vm(user: LabUser, runs: int) -> Iterator[Figure]:
    try:
        up_s = timed(user.up)
        yield Figure(name="vm: up", value=up_s, unit="s")
        user.deploy_web()
        yield from failover(user, runs, bound_s=20)
        yield from _snapshot(user)
        user.labctl("halt")
        again_s = timed(user.up)
        yield Figure(name="vm: up after halt", value=again_s, unit="s")
        user.labctl("halt")
        bare_s = timed(lambda: _vagrant(user, "up", "--parallel"))
        yield Figure(name="vm: bare vagrant up after halt", value=bare_s, unit="s")
        yield Figure(name="vm: up after halt, against bare", value=again_s / bare_s, unit="times", bound=1.5)
        _vagrant(user, "destroy", "--force")
        bare_s = timed(lambda: _vagrant(user, "up", "--parallel"))
        yield Figure(name="vm: bare vagrant up", value=bare_s, unit="s")
        yield Figure(name="vm: up, against bare", value=up_s / bare_s, unit="times", bound=2)
    finally:
        user.labctl("destroy", "--if-exists")


def _vagrant(user: LabUser, *args: str) -> None:
    state = user.home / ".labctl" / user.name
    env = {
        **os.environ,
        "LABCTL_TOPOLOGY": str(state / "topology.json"),
        "VAGRANT_DOTFILE_PATH": str(state / "vagrant"),
    }
    done = subprocess.run(
        ["vagrant", *args], cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode != 0:
        raise AssertionError(f"vagrant {' '.join(args)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")


def _snapshot(user: LabUser) -> Iterator[Figure]:
    yield Figure(name="vm: snapshot save", value=timed(lambda: user.labctl("snapshot", "save", "bench")), unit="s")
    restore_s = timed(lambda: user.labctl("snapshot", "restore", "bench"))
    yield Figure(name="vm: snapshot restore to all Ready", value=restore_s, unit="s", bound=10)
    user.labctl("snapshot", "delete", "bench")
