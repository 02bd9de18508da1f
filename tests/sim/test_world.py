"""The simulation itself: it runs the same way twice, and what it runs is alive."""

from __future__ import annotations

from labctl.sim import run as sim
from labctl.sim.load import Step
from labctl.sim.run import Schedule


def test_the_same_seed_tells_the_same_story() -> None:
    once, again = (sim.run(7, sim.draw(7), listens=True) for _ in range(2))
    assert once.story.lines == again.story.lines
    assert once.steps == again.steps > 100


def test_another_seed_tells_another_story() -> None:
    assert sim.run(1, sim.draw(1), listens=True).story.lines != sim.run(2, sim.draw(2), listens=True).story.lines


def test_without_faults_a_deployment_comes_up_and_all_is_settled() -> None:
    outcome = sim.run(1, Schedule((Step(0.5, "deployment", "web", 3),), ()), listens=True)
    assert outcome.violation is None
    started = [line for line in outcome.story.lines if line.what.endswith("runs")]
    assert len(started) == 3
    assert {line.who for line in started} == {"w1", "w2", "w3"}
