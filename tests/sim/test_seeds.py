"""A few hundred seeds keep every promise; a broken build does not."""

from __future__ import annotations

import os

import pytest

from labctl.kube.fencing import Mode
from labctl.sim import batch
from labctl.sim.faults import Fault
from labctl.sim.load import Step
from labctl.sim.mutants import MUTANTS
from labctl.sim.promises import Promise
from labctl.sim.run import Outcome, Schedule, draw, run
from labctl.sim.story import tell
from labctl.sim.world import MASTERS

_SEEDS = 200
_MUTANT_SEEDS = 1_000  # a broken build is caught within so many, and most within a few
CUT_OFF = (Step(1.7, "deployment", "web", 2), Step(13.8, "scale", "web", 4), Step(17.5, "image", "web", 2))


def test_every_promise_is_kept_under_faults() -> None:
    for result in batch.many(range(_SEEDS), jobs=os.cpu_count() or 1):
        if result.violation is not None:
            pytest.fail(tell(batch.smallest(result.seed)))


def test_a_deployment_scaled_and_rolled_while_its_controller_was_away_stays_within_its_surge() -> None:
    """Found once by a seed: both sets grew at a time."""
    away = tuple(Fault(12.5, "partition", master, 5.8) for master in MASTERS)
    assert run(685, Schedule(CUT_OFF, away)).violation is None


@pytest.mark.parametrize("fencing", ["power", "self"])
@pytest.mark.parametrize("kind", ["power", "partition", "freeze"])
def test_a_silent_nodes_identities_move_and_are_never_doubled(fencing: Mode, kind: str) -> None:
    """A machine or its kubelet is gone for long: its pod of the StatefulSet runs elsewhere before it is back."""
    steps = (Step(1.0, "statefulset", "db", 3),)
    target = "kubelet@w1" if kind == "freeze" else "w1"
    outcome = run(3, Schedule(steps, (Fault(6.0, kind, target, 18.0),), fencing), listens=True)
    assert outcome.violation is None
    moved = [line for line in outcome.story.lines if line.what.startswith("Fenced on Pod")]
    assert len(moved) == 1
    name = moved[0].what.split()[3].rstrip(":")
    again = [line for line in outcome.story.lines if line.what.endswith("runs") and f" {name} " in line.what]
    assert again[-1].who != "w1"
    assert again[-1].at_s < 24.0
    if fencing == "power":
        assert any(line.who == "fence agent" for line in outcome.story.lines)


def test_a_pod_that_was_stopped_for_safety_has_not_crashed() -> None:
    """Found once here: each stop by self-fencing doubled the delay before the next start."""
    away = [Fault(5.0, "freeze", f"controllers@{master}", 18.0) for master in MASTERS]  # nobody moves the pod
    silent = [Fault(at_s, "freeze", "kubelet@w1", 3.9) for at_s in (6.0, 11.5, 17.0)]
    outcome = run(3, Schedule((Step(1.0, "statefulset", "db", 3),), (*away, *silent), "self"), listens=True)
    assert outcome.violation is None
    told = [line.what.split()[0] for line in outcome.story.lines if line.who == "kubelet@w1"]
    assert told == ["SelfFenced"] * 3  # and no BackOff
    runs = [line.at_s for line in outcome.story.lines if line.who == "w1" and line.what.endswith("runs")]
    assert len(runs) == 4
    assert all(abs(at_s - thaws_s) < 1.0 for at_s, thaws_s in zip(runs[1:], (9.9, 15.4, 20.9), strict=True))


def test_a_suspended_machine_is_powered_off_before_its_identities_are_released() -> None:
    steps = (Step(1.0, "statefulset", "db", 3),)
    zombie = (Fault(6.0, "pause", "w1", 12.0, 1), Fault(4.0, "fence-fails", "the fence agent", count=2))
    outcome = run(3, Schedule(steps, zombie, "power"), listens=True)
    assert outcome.violation is None
    told = [(line.who, line.what) for line in outcome.story.lines]
    failed = next(at for at, (_, what) in enumerate(told) if what.startswith("FencingFailed on Pod"))
    off = next(at for at, (who, _) in enumerate(told) if who == "fence agent")
    released = next(at for at, (_, what) in enumerate(told) if what.startswith("Fenced on Pod"))
    assert failed < off < released


@pytest.mark.parametrize("kind", ["controllers", "scheduler"])
def test_a_frozen_leader_that_thaws_after_its_lease_writes_nothing_and_the_other_one_goes_on(kind: str) -> None:
    steps = (Step(1.0, "deployment", "web", 3), Step(8.0, "scale", "web", 5))
    first = _leaders(run(5, Schedule(steps, ()), listens=True), kind)
    assert len(first) == 1
    outcome = run(5, Schedule(steps, (Fault(4.0, "freeze", first[0], 9.0),)), listens=True)
    assert outcome.violation is None  # among them: only the leader writes, nothing is bound or created twice
    leaders = _leaders(outcome, kind)
    assert len(set(leaders)) == 2
    assert leaders[0] == first[0]
    assert (first[0], "has lost the lead") in [(line.who, line.what) for line in outcome.story.lines]


def _leaders(outcome: Outcome, kind: str) -> list[str]:
    return [line.who for line in outcome.story.lines if line.what == "leads" and line.who.startswith(kind)]


def test_every_promise_has_a_broken_build_that_breaks_it() -> None:
    assert {mutant.breaks for mutant in MUTANTS.values()} == set(Promise)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_build_is_caught(name: str) -> None:
    first = MUTANTS[name].seed
    for result in batch.many([*range(first, _MUTANT_SEEDS), *range(first)], jobs=1, mutant=name):
        if result.violation is not None and result.violation.invariant == MUTANTS[name].breaks:
            return
    pytest.fail(f"{_MUTANT_SEEDS} seeds did not notice: {MUTANTS[name].words}")


def test_the_story_of_a_broken_build_is_short_and_says_what_happened() -> None:
    outcome = batch.smallest(0, mutant="no-budget")
    assert outcome.violation is not None
    assert len(outcome.schedule.faults) + len(outcome.schedule.steps) < len(draw(0).faults) + len(draw(0).steps)
    told = tell(outcome)
    assert "broken: budgets respected" in told
    assert "creates Deployment web" in told
    assert "evicts every pod of web that it may" in told
    assert run(0, outcome.schedule).violation is None  # by the sound build
