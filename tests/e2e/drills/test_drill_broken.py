"""Clusters that break a promise on purpose, each caught by the invariant concerned in a drill from beginning to end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.findings import Finding, Result
from labctl.drills.model import Options, Verdict
from labctl.drills.runner import run
from tests.unit.labctl.drills.drill_fakes import FakeLab

QUICK = Options(
    steady_s=0.5, steady_deadline_s=5.0, settle_s=0.5, patience_s=0.5, heal_deadline_s=1.0, converge_deadline_s=3.0,
    sample_s=0.3, look_s=0.2, request_s=0.4, stateful=False,
)  # fmt: skip


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[FakeLab]:
    made = FakeLab(tmp_path / "drills")
    yield made
    made.close()


def broken(lab: FakeLab, letter: str) -> Finding:
    report = run(DRILL, lab, QUICK)
    assert report.verdict in {Verdict.VIOLATED, Verdict.NOT_HEALED}, report.reasons
    found = report.invariants[letter]
    assert found.result is Result.FAIL, found
    return found


def test_a_server_that_forgets_what_it_acknowledged(lab: FakeLab) -> None:
    lab.api.lose_writes = True
    assert "acknowledged writes are lost" in broken(lab, "A").evidence


def test_a_server_that_answers_from_the_past(lab: FakeLab) -> None:
    lab.api.stale_reads = True
    assert "lost" in (told := broken(lab, "A").evidence) or "shows an older list" in told


def test_a_stateful_identity_on_two_machines(lab: FakeLab) -> None:
    lab.own("db-0", "worker2", "worker1")
    assert "default/db-0" in broken(lab, "B").evidence


def test_a_pod_that_was_given_up_and_runs_on_after_the_heal(tmp_path: Path) -> None:
    lab = FakeLab(tmp_path / "drills", faults=["orphan"])
    try:
        assert "running after the heal" in broken(lab, "D").evidence
    finally:
        lab.close()
