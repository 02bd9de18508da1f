"""A few hundred seeds keep every promise; a broken build does not."""

from __future__ import annotations

import os

import pytest

from labctl.sim import batch
from labctl.sim.mutants import MUTANTS
from labctl.sim.run import draw, run
from labctl.sim.story import tell

_SEEDS = 200
_MUTANT_SEEDS = 1_000  # a broken build is caught within so many, and most within a few


def test_every_promise_is_kept_under_faults() -> None:
    for result in batch.many(range(_SEEDS), jobs=os.cpu_count() or 1):
        if result.violation is not None:
            pytest.fail(tell(batch.smallest(result.seed)))


def test_a_deployment_scaled_and_rolled_while_its_controller_was_away_stays_within_its_surge() -> None:
    """What this seed found once: both sets grew at a time."""
    assert run(685, draw(685)).violation is None


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_build_is_caught(name: str) -> None:
    for result in batch.many(range(_MUTANT_SEEDS), jobs=1, mutant=name):
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
