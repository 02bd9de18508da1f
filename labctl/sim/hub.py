"""Simulated time and simulated processes: the real code runs in greenlets, one at a time, and a wait costs nothing.

A process is what a crash ends and a pause stops. Everything that happens is an entry of one queue, in order of time
and then of arrival, so that the same seed runs the same way.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import greenlet

from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop, Wake

FROZEN = "frozen"  # a process by SIGSTOP, which ends with it
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
Call = Callable[[], None]


class SimulationError(LabError):
    """The simulation itself is at fault."""


class Hub:
    """The clock, the queue, and who runs."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.steps = 0
        self._queue: list[tuple[float, int, Call]] = []
        self._serial = 0
        self.on_error: Callable[[Process, Exception], None] = _raise

    def at(self, at_s: float, call: Call) -> None:
        """Call at a time; what is due already comes after what was asked for before."""
        self._serial += 1
        heapq.heappush(self._queue, (max(at_s, self.now_s), self._serial, call))

    def after(self, seconds: float, call: Call) -> None:
        """Call later."""
        self.at(self.now_s + seconds, call)

    def run(self, until_s: float, done: Callable[[], bool] = lambda: False) -> None:
        """Let time pass up to `until_s`, or until `done` after some step."""
        while self._queue and self._queue[0][0] <= until_s:
            self.now_s, _, call = heapq.heappop(self._queue)
            self.steps += 1
            call()
            if done():
                return
        self.now_s = max(self.now_s, until_s)

    def sleep(self, seconds: float) -> None:
        """Let the running process wait."""
        self.current().sleep(seconds)

    def current(self) -> Process:
        """The process that runs now."""
        running = greenlet.getcurrent()
        if not isinstance(running, _Strand):
            raise SimulationError("nobody runs who could wait")
        return running.process


def _raise(_: Process, error: Exception) -> None:
    raise error


def _root() -> greenlet.greenlet:
    """Whoever runs the hub: strands go back there when they wait, also those that another strand spawned."""
    found = greenlet.getcurrent()
    while isinstance(found, _Strand):
        assert found.parent is not None
        found = found.parent
    return found


class _Strand(greenlet.greenlet):  # type: ignore[misc,unused-ignore]
    """One thread of a process."""

    def __init__(self, process: Process, work: Call) -> None:
        super().__init__(self._work, _root())
        self.process, self._call = process, work

    def _work(self) -> None:
        try:
            self._call()
        except greenlet.GreenletExit:
            pass
        except Exception as error:
            self.process.hub.on_error(self.process, error)
        finally:
            self.process.strands.pop(self, None)


class Process:
    """A process of the simulated cluster; `name` is what a story calls it. May be used again once killed."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub, self.name = hub, name
        self.strands: dict[_Strand, None] = {}
        self.rate = 1.0  # of the machine's clock, by which it waits
        self._stands: set[str] = set()  # why it stands still
        self._held: list[Call] = []
        self._bells: list[tuple[Wake, Call]] = []

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return bool(self._stands)

    def spawn(self, work: Call) -> None:
        """Run `work` in a thread of this process, from the next step on."""
        strand = _Strand(self, work)
        self.strands[strand] = None
        self.hub.after(0.0, lambda: self._enter(strand))

    def sleep(self, seconds: float) -> None:
        """Let the calling thread wait."""
        strand = greenlet.getcurrent()
        self.hub.after(max(0.0, seconds) / self.rate, lambda: self._enter(strand))
        self._leave()

    def wait(self, wake: Wake, seconds: float) -> None:
        """Let the calling thread wait for a ring, no longer than `seconds`."""
        if wake.rung:
            wake.wait_s(0.0)
            return
        strand, waits = greenlet.getcurrent(), [True]

        def go_on() -> None:
            if waits:
                waits.clear()
                self._enter(strand)

        bell = (wake, go_on)
        self._bells.append(bell)
        self.hub.after(max(0.0, seconds) / self.rate, go_on)
        self._leave()
        if bell in self._bells:
            self._bells.remove(bell)
        wake.wait_s(0.0)

    def ask(self, begin: Callable[[Callable[[Any], None]], None]) -> Any:
        """Let the calling thread wait for what `begin` is to answer; an exception is raised."""
        strand, answers = greenlet.getcurrent(), []

        def answer(value: Any) -> None:
            answers.append(value)
            self._enter(strand)

        begin(answer)
        self._leave()
        if isinstance(answers[0], BaseException):
            raise answers[0]
        return answers[0]

    def poke(self) -> None:
        """Let go on whoever was rung for."""
        for bell in [bell for bell in self._bells if bell[0].rung]:
            self._bells.remove(bell)
            self.hub.after(0.0, bell[1])

    def kill(self) -> None:
        """End every thread where it is; from outside the process only. Whoever is frozen dies too."""
        self._stands.discard(FROZEN)
        self._bells.clear()
        self._held.clear()
        for strand in list(self.strands):
            self.strands.pop(strand, None)
            strand.throw()

    def pause(self, why: str = "") -> None:
        """Stand still, for one reason or for several."""
        self._stands.add(why)

    def resume(self, why: str = "") -> None:
        """Go on with whatever has become due, unless there is another reason to stand still."""
        self._stands.discard(why)
        if self._stands:
            return
        held, self._held = self._held, []
        for call in held:
            self.hub.after(0.0, call)

    def _enter(self, strand: Any) -> None:
        if strand.dead or strand not in self.strands:
            return
        if self._stands:
            self._held.append(lambda: self._enter(strand))
            return
        strand.switch()
        self.poke()

    @staticmethod
    def _leave() -> None:
        parent = greenlet.getcurrent().parent
        assert parent is not None
        parent.switch()


class SimClock:
    """A machine's clock: it runs at `rate`, stood still for `lost_s`; the wall clock may be off by `offset_s`."""

    def __init__(self, hub: Hub, rate: float = 1.0) -> None:
        self._hub, self.rate, self.lost_s, self.offset_s = hub, rate, 0.0, 0.0

    def monotonic_s(self) -> float:
        """See `Clock`."""
        return 1_000.0 + (self._hub.now_s - self.lost_s) * self.rate

    def now(self) -> datetime:
        """See `Clock`."""
        return EPOCH + timedelta(seconds=(self._hub.now_s - self.lost_s) * self.rate + self.offset_s)

    def sleep_s(self, seconds: float) -> None:
        """See `Clock`."""
        self._hub.sleep(seconds)


class SimStop(Stop):
    """A Stop whose waits pass in simulated time."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process

    def wait_s(self, seconds: float) -> bool:
        """See `Stop`."""
        self._process.sleep(seconds)
        return self.is_set()
