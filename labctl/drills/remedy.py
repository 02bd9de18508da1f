"""What undoes a drill, in its runner's hands: on disk before anything is done, applied once, then forgotten."""

from __future__ import annotations

import os
from pathlib import Path

from labctl.drills import progress, undo
from labctl.drills.actions import Action
from labctl.drills.history import Recorder
from labctl.drills.model import Options
from labctl.drills.pace import stretched_s
from labctl.drills.progress import Progress
from labctl.drills.records import FaultBegan, HealBegan, HealEnded
from labctl.drills.target import Target
from labctl.drills.undo import Pending
from labctl.runtime.clock import Clock
from labctl.runtime.errors import DeadlineExceeded, LabError

_CLEAN_UP_S = 20.0
_MARGIN_S = 60.0


class Remedy:
    """The undo of one drill. The dead-man holds the same file, and applies it where the runner does not."""

    def __init__(
        self, drill: str, target: Target, options: Options, recorder: Recorder, progress: Progress, clock: Clock
    ) -> None:
        self._drill, self._target, self._options, self._clock = drill, target, options, clock
        self._recorder, self._progress = recorder, progress
        self._pending: Pending | None = None

    @property
    def heals(self) -> tuple[Action, ...]:
        """What still undoes the faults."""
        return self._pending.heals if self._pending else ()

    def arm(
        self, *, heals: tuple[Action, ...] = (), cleanups: tuple[Action, ...] | None = None, last_s: float = 0.0
    ) -> None:
        """Put the undo on disk; LabError where that fails, and then nothing may be done to the lab.

        `last_s`: for how long the faults may last. Without `cleanups` those of before stay.
        """
        options = self._options
        deadlines_s = options.steady_deadline_s + options.heal_deadline_s + options.converge_deadline_s
        allowed_s = last_s + stretched_s(deadlines_s, self._target.slowness)
        self._pending = Pending(
            drill=self._drill,
            run_dir=str(self._run_dir),
            runner_pid=os.getpid(),
            reopen=self._target.reopen,
            heal_by_s=self._clock.monotonic_s() + allowed_s + _MARGIN_S,
            heals=heals,
            cleanups=self._cleanups if cleanups is None else cleanups,
        )
        undo.save(self._target.drills_dir, self._pending)

    def arm_more(self, cleanups: tuple[Action, ...]) -> None:
        """Something else is about to be deployed."""
        self.arm(cleanups=(*self._cleanups, *cleanups))

    def heal(self, why: str) -> None:
        """Undo the faults; once."""
        history = self._recorder.history()
        if self._pending is None or history.first(HealBegan):
            return
        if not self._pending.heals and history.first(FaultBegan) is None:
            return
        self._progress.enter("heal")
        self._recorder.add(HealBegan(by="runner", why=why), durable=True)
        self._progress.drain()
        usual_s = stretched_s(self._options.heal_deadline_s, self._target.slowness)
        ending_s = min(usual_s, stretched_s(progress.HEAL_S, self._target.slowness))
        ok, said = self._apply(self._pending.heals, usual_s, ending_s)
        self._recorder.add(HealEnded(ok=ok, evidence="; ".join(said) or "there is nothing to undo"), durable=True)
        if ok:
            self._pending = undo.replaced(self._pending, heals=())
            try:
                undo.save(self._target.drills_dir, self._pending)
            except LabError as error:  # a full disk: what is healed may be healed once more
                self._progress.say(f"healed, but not struck off the undo on disk: {error}")

    def clean_up(self) -> None:
        """Remove what the drill deployed; forget the undo once nothing is left of it."""
        if self._pending is None:
            return
        self._progress.enter("clean-up")
        ok, said = self._apply(self._pending.cleanups, _CLEAN_UP_S, progress.CLEAN_UP_S)
        if ok and not self._pending.heals and not self._progress.adrift:
            undo.clear(self._target.drills_dir)
        elif not ok:
            self._progress.say(f"left behind: {'; '.join(said)}")

    def _apply(self, actions: tuple[Action, ...], deadline_s: float, ending_s: float) -> tuple[bool, tuple[str, ...]]:
        """Where the end is asked for and they are not through in time, they stay on disk for others."""
        waiting = tuple(action.text for action in reversed(actions))
        apply = lambda: undo.apply_all(actions, self._target, self._clock, deadline_s=deadline_s)  # noqa: E731
        try:
            return self._progress.attend(apply, waiting, may_stop=False, ending_s=ending_s)
        except DeadlineExceeded as error:
            return False, (str(error),)

    @property
    def _run_dir(self) -> Path:
        return self._recorder.path.parent

    @property
    def _cleanups(self) -> tuple[Action, ...]:
        return self._pending.cleanups if self._pending else ()
