"""What goes wrong: each fault is a value, so that a schedule of them can be drawn, shortened and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labctl.runtime.chance import Generator
from labctl.sim.hub import FROZEN, SimClock
from labctl.sim.parts import Part
from labctl.sim.world import STANDING, World


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` befalls `target` at `at_s` for `for_s`; `count` is how many writes, where that matters."""

    at_s: float
    kind: str
    target: str
    for_s: float = 0.0
    count: int = 0

    def told(self) -> str:
        """In words."""
        return SORTS[self.kind].words.format(target=self.target, for_s=self.for_s, count=self.count)


@dataclass(frozen=True, slots=True)
class Sort:
    """A sort of fault: whom it befalls (part, node or api), how it is told, begun, and ended."""

    befalls: str
    words: str
    begin: Callable[[World, Fault], None]
    end: Callable[[World, Fault], None] = lambda _world, _fault: None
    lasts_s: tuple[float, float] = (0.0, 0.0)
    most: int = 0
    weight: int = 1  # how often it is drawn


def draw(rng: Generator, world: World, quiet_s: float, chosen: tuple[str, ...] = ()) -> tuple[Fault, ...]:
    """A seed's faults; none lasts beyond `quiet_s`."""
    kinds = [kind for kind in SORTS if not chosen or kind in chosen]
    if world.fencing == "self":
        kinds = [kind for kind in kinds if kind != "pause"] or kinds  # beyond what self-fencing promises
    weights = [SORTS[kind].weight for kind in kinds]
    faults = [_one(rng, world, kind, quiet_s) for kind in rng.choices(kinds, weights, k=rng.randint(0, 7))]
    return tuple(sorted(faults, key=lambda fault: fault.at_s))


def _one(rng: Generator, world: World, kind: str, quiet_s: float) -> Fault:
    sort = SORTS[kind]
    targets = {
        "part": sorted(world.parts),
        "node": sorted(world.machines),
        "api": ["the API server"],
        "fence": ["the fence agent"],
        "line": [*sorted(world.machines), *world.clocks, *world.clocks],
        "clock": [*sorted(world.machines), *world.clocks],
    }[sort.befalls]
    at_s = round(rng.uniform(1.0, quiet_s - 2.0), 1)
    for_s = round(min(rng.uniform(*sort.lasts_s), quiet_s - at_s), 1)
    return Fault(at_s, kind, rng.choice(targets), for_s, rng.randint(0, sort.most))


def schedule(world: World, faults: tuple[Fault, ...]) -> None:
    """Have them happen."""
    for fault in faults:
        world.hub.at(fault.at_s, lambda fault=fault: _begin(world, fault))  # type: ignore[misc]


def _begin(world: World, fault: Fault) -> None:
    world.say("FAULT", fault.told())
    world.disturb(fault.for_s)
    SORTS[fault.kind].begin(world, fault)
    if fault.for_s:
        world.hub.after(fault.for_s, lambda: _end(world, fault))


def _end(world: World, fault: Fault) -> None:
    world.say("FAULT", f"is over: {fault.told()}")
    SORTS[fault.kind].end(world, fault)


def _part(world: World, fault: Fault) -> Part:
    return world.parts[fault.target]


def _crash(world: World, fault: Fault) -> None:
    part = _part(world, fault)
    part.back_after_s = 0.5 + fault.for_s / 4
    part.line.crash_in, part.line.crash_after = fault.count // 2, bool(fault.count % 2)
    if fault.count == 0:
        part.line.crash_in = None
        part.crash()


def _disarm(world: World, fault: Fault) -> None:
    _part(world, fault).line.crash_in = None


def _crash_api(world: World, fault: Fault) -> None:
    world.api.store.dies_in = fault.count
    if fault.count == 0:
        world.api.store.dies_in, world.api.up = None, False


def _restart_api(world: World, fault: Fault) -> None:
    del fault
    world.api.store.dies_in = None
    if not world.api.up:
        world.api.start()


def _expire(world: World, fault: Fault) -> None:
    for feed in _part(world, fault).line.feeds:
        feed.expire()


def _repeat(world: World, fault: Fault) -> None:
    for feed in _part(world, fault).line.feeds:
        feed.repeat()


def _hold(world: World, fault: Fault) -> None:
    """Watches of some kinds stand still, those of the others do not: what happened there comes in another order."""
    for number, feed in enumerate(_part(world, fault).line.feeds):
        if fault.count in (0, number % 3 + 1):
            feed.held_until_s = world.hub.now_s + fault.for_s


def _conflict(world: World, fault: Fault) -> None:
    _part(world, fault).line.conflicts = 1 + fault.count


def _lose(world: World, fault: Fault) -> None:
    _part(world, fault).line.lost = 1 + fault.count


def _lines(name: str, value: bool) -> Callable[[World, Fault], None]:
    def change(world: World, fault: Fault) -> None:
        for part in world.on(fault.target):
            setattr(part.line, name, value)

    return change


def _clock(world: World, fault: Fault) -> SimClock:
    return world.machines[fault.target].clock if fault.target in world.machines else world.clocks[fault.target]


def _step_clock(world: World, fault: Fault) -> None:
    _clock(world, fault).offset_s += 86_400.0 if fault.count % 2 else -120.0


def _slow(world: World, fault: Fault) -> None:
    world.machines[fault.target].slow_s = 6.0


def _fast(world: World, fault: Fault) -> None:
    world.machines[fault.target].slow_s = 0.0


def _power_off(world: World, fault: Fault) -> None:
    machine = world.machines[fault.target]
    machine.powerless_until_s = max(machine.powerless_until_s, fault.at_s + fault.for_s)
    world.power_off(fault.target)


def _power_on(world: World, fault: Fault) -> None:
    world.power_on(fault.target)


def _pause(world: World, fault: Fault) -> None:
    machine = world.machines[fault.target]
    if machine.on:
        machine.paused = True
        for part in world.on(fault.target):
            part.process.pause(STANDING)


def _resume(world: World, fault: Fault) -> None:
    """Its clock may have stood still too (a suspended virtual machine), or not (a frozen container)."""
    machine = world.machines[fault.target]
    if machine.paused:
        machine.resume(fault.for_s if fault.count % 2 else 0.0)
    for part in world.on(fault.target):
        part.process.resume(STANDING)
    world.thawed()


def _freeze(world: World, fault: Fault) -> None:
    if _part(world, fault).running:
        _part(world, fault).process.pause(FROZEN)


def _thaw(world: World, fault: Fault) -> None:
    _part(world, fault).process.resume(FROZEN)


def _fail_fencing(world: World, fault: Fault) -> None:
    world.fence_agent.fails = 1 + fault.count


def _agent(name: str, value: object) -> Callable[[World, Fault], None]:
    return lambda world, _: setattr(world.fence_agent, name, value)


def _kill(world: World, fault: Fault) -> None:
    runtime = world.machines[fault.target].runtime
    running = [status.id for status in runtime.statuses() if status.phase == "running"]
    if running:
        runtime.kill(running[fault.count % len(running)])


SORTS: dict[str, Sort] = {
    "crash": Sort("part", "{target} is to crash at write {count}/2", _crash, _disarm, (2.0, 8.0), 9),
    "api-crash": Sort("api", "{target} dies at store write {count}", _crash_api, _restart_api, (1.0, 6.0), 6),
    "relist": Sort("part", "{target}'s watches break and must list again", _expire),
    "repeat": Sort("part", "{target} is told the last events once more", _repeat),
    "stale": Sort(
        "part", "{target} hears nothing new for {for_s} s (group {count})", _hold, lasts_s=(0.5, 8.0), most=3
    ),
    "conflict": Sort("part", "{target}'s next writes meet conflicts ({count} and one)", _conflict, most=4),
    "lost-answer": Sort("part", "answers to {target}'s next writes are lost ({count} and one)", _lose, most=2),
    "partition": Sort(
        "line",
        "{target} is cut off from the API for {for_s} s",
        _lines("cut", True),
        _lines("cut", False),
        (1.0, 16.0),
        weight=2,
    ),
    "deaf": Sort(
        "line",
        "{target} reaches the API for {for_s} s, and no answer comes back",
        _lines("deaf", True),
        _lines("deaf", False),
        (1.0, 12.0),
    ),
    "clock": Sort(
        "clock", "the clock of {target} is set, by a day ahead (odd) or two minutes back: {count}", _step_clock, most=1
    ),
    "slow-disk": Sort("node", "the disk of {target} is slow for {for_s} s", _slow, _fast, (3.0, 15.0)),
    "power": Sort("node", "{target} loses its power for {for_s} s", _power_off, _power_on, (2.0, 16.0), weight=2),
    "pause": Sort(
        "node",
        "{target} stands still as a whole for {for_s} s, its clock too where odd: {count}",
        _pause,
        _resume,
        (1.0, 16.0),
        most=1,
        weight=2,
    ),
    "freeze": Sort("part", "{target} is stopped by a signal for {for_s} s", _freeze, _thaw, (1.0, 16.0), weight=2),
    "fence-fails": Sort("fence", "{target} fails at the next requests ({count} and one)", _fail_fencing, most=3),
    "fence-slow": Sort(
        "fence", "{target} is slow for {for_s} s", _agent("slow_s", 8.0), _agent("slow_s", 0.0), (6.0, 20.0)
    ),
    "fence-cut": Sort(
        "fence", "{target} cannot be reached for {for_s} s", _agent("cut", True), _agent("cut", False), (4.0, 20.0)
    ),
    "fence-deaf": Sort(
        "fence", "answers of {target} are lost for {for_s} s", _agent("deaf", True), _agent("deaf", False), (4.0, 20.0)
    ),
    "fence-repeats": Sort(
        "fence",
        "requests reach {target} twice for {for_s} s",
        _agent("repeats", True),
        _agent("repeats", False),
        (6.0, 20.0),
    ),
    "kill": Sort("node", "a container on {target} dies", _kill, most=5),
}
