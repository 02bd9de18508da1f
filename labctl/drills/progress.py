"""Where a drill stands, for whoever looks on; and its ear: nothing that it waits for keeps it from hearing the end.

What may hang (a machine that is off, an API that does not answer) runs aside, while this goes on drawing and listening.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from labctl.drills.aside import Aside, Stopped
from labctl.drills.history import Recorder
from labctl.drills.pace import stretched_s
from labctl.drills.records import Interrupted, PhaseBegan
from labctl.drills.ui import Status, Ui
from labctl.runtime.clock import Clock
from labctl.runtime.errors import DeadlineExceeded
from labctl.runtime.loop import Stop

T = TypeVar("T")

# How long a drill that is asked to end still takes for each of its last duties; the first two grow with slowness.
HEAL_S, CONVERGE_S = 60.0, 15.0
COLLECT_S, CLEAN_UP_S, FLIGHT_S = 3.0, 8.0, 3.0

_TICK_S = 0.1
_GRACE_S = 1.5  # what is nearly through is better awaited than left adrift
ASKED = "Ctrl-C"
_BEFORE, _AFTER = ("prepare", "steady", "arm"), ("converge", "judge", "clean-up")


class Progress:
    """The phase, the view, and the request to end; `adrift` once something was left to itself that may still act."""

    def __init__(self, recorder: Recorder, clock: Clock, slowness: float) -> None:
        self._recorder, self._clock, self._slowness = recorder, clock, slowness
        self.stop, self.why = Stop(), ASKED
        self.ui: Ui | None = None
        self.undo: Callable[[], Sequence[str]] = tuple  # what is pending, in words
        self.adrift = False
        self._phase, self._shown = "prepare", 0
        self._told = self._raised = False
        self._heard_s = 0.0

    def enter(self, phase: str) -> None:
        """The next phase begins."""
        self._phase = phase
        self._recorder.add(PhaseBegan(name=phase))
        self.drain()

    def end_for(self, why: str) -> None:
        """Ask for the end, for another reason than the user's; from any thread."""
        if not self.stop.is_set():
            self.why = why
            self.stop.set()

    def tick(self, waiting: tuple[str, ...], *, pause_s: float = _TICK_S, may_stop: bool = True) -> None:
        """Show what is new, pause; Stopped where the drill is asked to end, once."""
        end_s = self._clock.monotonic_s() + pause_s
        while True:
            self._draw(waiting)
            self._hear()
            if may_stop and self.stop.is_set() and not self._raised:
                self._raised = True
                raise Stopped(self.why)
            left_s = end_s - self._clock.monotonic_s()
            if left_s <= 0:
                return
            if self.stop.is_set():
                self._clock.sleep_s(min(left_s, _TICK_S))
            else:
                self.stop.wait_s(min(left_s, _TICK_S))

    def attend(
        self,
        work: Callable[[], T],
        waiting: tuple[str, ...] = (),
        *,
        may_stop: bool = True,
        ending_s: float = float("inf"),
    ) -> T:
        """What `work` gives, done aside. A request to end leaves it to itself: Stopped, where it `may_stop`.

        Where it may not, it still has `ending_s`, then DeadlineExceeded. What is through in a moment counts.
        """
        aside, begin_s = Aside(work), self._clock.monotonic_s()
        try:
            while not aside.wait_s(_TICK_S):
                self.tick(waiting, pause_s=0.0, may_stop=may_stop)
                if self.stop.is_set() and self._clock.monotonic_s() - max(begin_s, self._heard_s) >= ending_s:
                    raise DeadlineExceeded(f"not through within {ending_s:g} s: {', '.join(waiting) or self._phase}")
        except (Stopped, DeadlineExceeded):
            if not aside.wait_s(_GRACE_S):
                self.adrift = True
                raise
            self._raised = self._raised and isinstance(aside.error, Stopped)  # else the next `tick` raises
        return aside.result()

    def ending(self) -> bool:
        """Whether the end was asked for; if so it ends no further wait, for each has its own short time from now on."""
        self._raised = self.stop.is_set()
        return self._raised

    def note_end(self) -> None:
        """The drill was asked to end before it was through; noted once."""
        if self._recorder.history().first(Interrupted) is None:
            self._recorder.add(Interrupted(why=self.why), durable=True)

    def _hear(self) -> None:
        if self.stop.is_set() and not self._told:
            self._told, self._heard_s = True, self._clock.monotonic_s()
            self.say(f"{self.why}: " * (self.why != ASKED) + promise(self._phase, self.undo(), self._slowness))

    def drain(self) -> None:
        """Show what is new in the history."""
        entries = self._recorder.history()
        if fresh := entries[self._shown :]:
            self._tell(lambda ui: ui.show(fresh))
        self._shown = len(entries)

    def _draw(self, waiting: tuple[str, ...]) -> None:
        self.drain()
        status = Status(self._clock.monotonic_s(), self._phase, waiting)
        self._tell(lambda ui: ui.status(status))

    def say(self, text: str) -> None:
        """A sentence outside the history."""
        self._tell(lambda ui: ui.say(text))

    def _tell(self, tell: Callable[[Ui], None]) -> None:
        """Where nobody reads any more (`| head`), the drill ends as if it had been asked to: with the heal."""
        if self.ui is None:
            return
        try:
            tell(self.ui)
        except (BrokenPipeError, SystemExit):  # rich's consoles leave a broken pipe by SystemExit
            self.ui = None
            self.end_for("nobody reads what it says")


def promise(phase: str, undo: Sequence[str], slowness: float) -> str:
    """What a drill that is asked to end in this phase still does, and by when. Pure."""
    again = "interrupt again to leave at once: a process of its own does the rest"
    if phase in _BEFORE:
        return f"stopping before any fault: what was deployed is removed, within {CLEAN_UP_S:g} s; {again}"
    if phase in _AFTER:
        return f"stopping: what the drill deployed is removed, within {CLEAN_UP_S:g} s; {again}"
    todo = "; ".join(undo) or "nothing is to be undone"
    return (
        f"stopping: the lab is healed first, within {stretched_s(HEAL_S, slowness):g} s ({todo}), "
        f"and seen to be well, within {stretched_s(CONVERGE_S, slowness):g} s; {again}"
    )
