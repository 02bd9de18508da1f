"""One seed: draw a schedule, live it, judge it."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.kube.fencing import DEFAULT, MODES, Mode
from labctl.runtime import chance
from labctl.sim import faults, load
from labctl.sim.faults import Fault
from labctl.sim.invariants import Invariants
from labctl.sim.leaders import Leaders
from labctl.sim.load import Step
from labctl.sim.promises import Promise
from labctl.sim.rollouts import Rollouts
from labctl.sim.settled import unsettled
from labctl.sim.world import NODE_NAMES, Story, Violation, World

QUIET_S = 24.0  # no fault and no user acts after this
SETTLED_BY_S = QUIET_S + 60.0
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a seed does to the cluster."""

    steps: tuple[Step, ...]
    faults: tuple[Fault, ...]
    fencing: Mode = DEFAULT  # the lab's setting


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a seed went; `violation` is None where every invariant held and all was settled in the end."""

    seed: int
    schedule: Schedule
    violation: Violation | None
    story: Story
    simulated_s: float
    steps: int


def draw(seed: int, chosen: tuple[str, ...] = ()) -> Schedule:
    """A seed's schedule."""
    fencing: Mode = chance.generator(f"{seed} fencing").choices(MODES, (5, 4, 1))[0]
    world = World(seed, fencing=fencing)
    steps = load.draw(chance.generator(f"{seed} load"), list(NODE_NAMES), QUIET_S)
    return Schedule(steps, faults.draw(chance.generator(f"{seed} faults"), world, QUIET_S, chosen), fencing)


def run(seed: int, schedule: Schedule, *, listens: bool = False) -> Outcome:
    """Live it."""
    with chance.seeded(f"{seed} parts"):
        world = World(seed, story=Story(listens), fencing=schedule.fencing)
        invariants = Invariants(world)
        Rollouts(world)
        Leaders(world)
        world.thawed = invariants.look
        world.start(schedule.steps)
        faults.schedule(world, schedule.faults)
        try:
            world.run(QUIET_S)
            left = "nobody has looked"
            while world.failure is None and left and world.hub.now_s < SETTLED_BY_S:
                world.run(world.hub.now_s + _LOOK_S)
                left = unsettled(world)
            if left and world.failure is None:
                world.fail(Promise.SETTLES, left)
        finally:
            world.close()
    return Outcome(seed, schedule, world.failure, world.story, world.hub.now_s, world.hub.steps)
