"""Every drill of the catalog on a lab of system containers, under `fast`: each must pass, and leave the lab healed.

A new drill is run here the moment its file exists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from labctl.config import settings
from labctl.drills import inspection, steady, undo, workload
from labctl.drills.actions import Action, Inside, inside
from labctl.drills.faults import heals_of
from labctl.drills.faults_process import Freeze
from labctl.drills.findings import Result
from labctl.drills.identity import POD
from labctl.drills.lab import LabTarget
from labctl.drills.model import Options, Verdict
from labctl.drills.records import Inspected
from labctl.drills.registry import catalog
from labctl.drills.runner import run
from labctl.drills.target import Target
from labctl.runtime.clock import SystemClock
from labctl.vm.lab import Lab
from tests.labs import LabUser

pytestmark = [pytest.mark.lxc, pytest.mark.timeout(600)]

GUARD = "labctl-fence-guard.service"
# What needs several masters runs on the lab that has them: tests/e2e/test_lab_masters.py.
IMPOSSIBLE = [name for name, drill in catalog().items() if "lxc" in drill.impossible_on or drill.masters > 1]
POSSIBLE = [name for name in catalog() if name not in IMPOSSIBLE]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUser]:
    someone = LabUser(tmp_path_factory.mktemp("lab"), "t-drills", "lxc")
    try:
        someone.up("--workers", "3")
        someone.deploy_web()
        yield someone
    finally:
        someone.labctl("destroy", "--if-exists")


def told(user: LabUser, name: str) -> Any:
    done = user.labctl("drill", "run", name, "-o", "json", code=None, timeout_s=400)
    assert done.code in (0, 1), done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", POSSIBLE)
def test_a_drill_passes_and_leaves_the_lab_healed(user: LabUser, name: str) -> None:
    report = told(user, name)
    if report["verdict"] == "unknown" and all(_too_slow(reason) for reason in report["reasons"]):
        # This host was too busy for the fault to be what it should be, and the drill has seen that it was.
        assert name == "worker-quick-reboot", report["reasons"]
    else:
        assert report["verdict"] == "pass", report["reasons"]
    assert not (Path(report["run_dir"]).parent / "undo.json").exists()
    tables = user.labctl("ssh", "worker1", "--", "nft list tables").stdout
    assert "labctl_drill" not in tables


def _too_slow(reason: str) -> bool:
    return "longer than the grace" in reason


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_drill_that_cannot_be_here_says_why(user: LabUser, name: str) -> None:
    refused = user.labctl("drill", "run", name, code=2)
    drill = catalog()[name]
    assert ("needs" if drill.masters > 1 else "cannot run on lxc") in refused.stderr


@dataclass(frozen=True)
class FreezeUnguarded(Freeze):
    """A fence left out: the kubelet stands still, and so does the guard that stops its fenced pods in its place."""

    def inject(self, target: Target) -> None:
        inside(target, self.node, f"systemctl kill --kill-whom=main -s STOP {GUARD}")
        Freeze.inject(self, target)

    def heals(self, target: Target) -> tuple[Action, ...]:
        thaw = Inside(node=self.node, script=f"systemctl kill --kill-whom=main -s CONT {GUARD}", what="thaw the guard")
        return (*Freeze.heals(self, target), thaw)


def test_a_fence_left_out_is_caught_by_the_doubled_identity(user: LabUser) -> None:
    drill = replace(
        catalog()["kubelet-freeze"],
        faults=lambda scene: tuple(FreezeUnguarded(node=name, component="kubelet") for name in scene.victims),
    )
    report = run(drill, LabTarget(Lab.open(settings(user.env), user.name)), Options(settle_s=8.0, sample_s=1.0))
    assert report.verdict is Verdict.VIOLATED, report.reasons
    assert report.invariants["B"].result is Result.FAIL
    assert POD in report.invariants["B"].evidence


def test_every_undo_is_harmless_where_nothing_happened_and_may_come_twice(user: LabUser) -> None:
    """Whoever heals after a crash does not know how far the drill came."""
    target = LabTarget(Lab.open(settings(user.env), user.name))
    found = workload.find(target.client)
    assert found is not None
    before = inspection.take(target, "steady")
    assert inspection.blocking(before, found) == ()
    for name in POSSIBLE:
        drill = catalog()[name]
        scene = steady.set_scene(target, drill, Options(), found)
        heals = heals_of(drill.faults(scene), target)
        for _ in range(2):
            done, said = undo.apply_all(heals, target, SystemClock(), deadline_s=30.0)
            assert done, (name, said)
    after = inspection.take(target, "healed")
    assert inspection.differences(after) == inspection.differences(before)
    assert _running(after) == _running(before)


def _running(seen: Inspected) -> set[tuple[str, str]]:
    return {(machine.node, found.id) for machine in seen.machines for found in machine.containers if found.running}
