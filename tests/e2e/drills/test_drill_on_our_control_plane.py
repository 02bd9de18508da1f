"""The drill against our own API server, scheduler and controllers: it passes on them, and it catches what is broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from labctl.drills.actions import Action
from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.faults import PowerOff
from labctl.drills.findings import Result
from labctl.drills.model import Options, Verdict
from labctl.drills.records import Entry, PhaseBegan
from labctl.drills.runner import run
from labctl.drills.target import Target
from labctl.drills.ui import Silent
from tests.e2e.controlplane.plane import Plane
from tests.e2e.drills.builds import BROKEN
from tests.e2e.drills.world import World


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    with Plane(tmp_path) as running:
        yield running


@pytest.fixture
def world(plane: Plane, tmp_path: Path) -> Iterator[World]:
    made = World(plane, tmp_path / "drills")
    yield made
    made.close()


class Kill(Silent):
    """kill -9 of a component once the fault is in."""

    def __init__(self, plane: Plane, component: str) -> None:
        self._plane, self._component = plane, component

    def show(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if isinstance(entry.what, PhaseBegan) and entry.what.name == "observe":
                self._plane.kill(self._component)


def test_our_control_plane_keeps_the_contract(world: World) -> None:
    report = run(DRILL, world, Options(stateful=False))
    assert report.verdict is Verdict.PASS, report.reasons
    found = report.measures
    assert found.detected_s is not None
    assert found.detected_s <= 5.0
    assert found.serving_again_s is not None
    assert found.serving_again_s <= 10.0
    assert report.invariants["F"].result is Result.PASS


def test_a_control_plane_without_controllers_violates_it(world: World, plane: Plane) -> None:
    report = run(
        DRILL, world, Options(stateful=False, patience_s=0.5, converge_deadline_s=2.0), Kill(plane, "controllers")
    )
    assert report.exit_code == 1
    late = {one.measure for one in report.contract if one.result == "fail"}
    assert {"detected_s", "endpoint_removed_s", "tainted_s", "evicted_s", "rescheduled_s", "serving_again_s"} <= late


def test_a_control_plane_without_a_scheduler_never_serves_in_full_again(world: World, plane: Plane) -> None:
    report = run(
        DRILL, world, Options(stateful=False, patience_s=0.5, converge_deadline_s=2.0), Kill(plane, "scheduler")
    )
    assert report.exit_code == 1
    late = {one.measure for one in report.contract if one.result == "fail"}
    assert {"rescheduled_s", "serving_again_s"} <= late
    assert not {"detected_s", "tainted_s", "evicted_s"} & late


@dataclass(frozen=True)
class ForGood(PowerOff):
    """A fault whose undo was forgotten."""

    def heals(self, target: Target) -> tuple[Action, ...]:
        return ()


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[World]:
    with Plane(tmp_path, broken=BROKEN) as running:
        made = World(running, tmp_path / "drills")
        yield made
        made.close()


def test_broken_builds_of_each_component_are_caught_each_by_what_it_breaks(broken: World) -> None:
    """One drill for four of them and a heal that was forgotten: each leaves traces that no other one leaves."""
    drill = replace(DRILL, faults=lambda scene: tuple(ForGood(node=name) for name in scene.victims))
    report = run(drill, broken, Options(stateful=False, patience_s=0.5, converge_deadline_s=2.0))
    found = report.invariants
    assert report.verdict is Verdict.NOT_HEALED, report.reasons
    assert {letter: one.result for letter, one in found.items() if letter in "ACEF"} == dict.fromkeys(
        "ACEF", Result.FAIL
    )
    assert "acknowledged writes are lost" in found["A"].evidence
    assert "the contract allows" in found["C"].evidence  # a stale endpoint
    assert f"node {report.victims[0]} is not Ready" in found["E"].evidence  # a missing heal
    assert "leaders: never received" in found["F"].evidence
    failed = {one.measure for one in report.contract if one.result == "fail"}
    assert {"toleration_kept_s", "endpoint_removed_s"} <= failed  # an eviction too early, a stale endpoint
    assert "silent_s" not in failed  # the grace was kept: nothing fails that was not broken
