"""One drill from beginning to end: phases in order, a heal that always comes, a history of everything.

The session holds no policy: victims, faults and bounds come from the drill, verdicts from `judge`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from labctl.drills import inspection, lease, progress, steady, undo, workload
from labctl.drills.afterwards import Afterwards
from labctl.drills.aside import Heeding, Stopped
from labctl.drills.faults import Fault, Lift, Pause, confirm, heals_of
from labctl.drills.history import NAME, History, Recorder
from labctl.drills.loads import Loads, Starter
from labctl.drills.measures import measure
from labctl.drills.model import Drill, Options
from labctl.drills.observe import Observers
from labctl.drills.pace import stretched_s
from labctl.drills.progress import Progress
from labctl.drills.records import FaultBegan, FaultEnded, Interrupted, Said, Scene, Started
from labctl.drills.remedy import Remedy
from labctl.drills.sampler import Sampler
from labctl.drills.target import Target
from labctl.drills.timeline import zero_s
from labctl.drills.ui import Ui
from labctl.runtime.clock import Clock
from labctl.runtime.errors import DeadlineExceeded, LabError
from labctl.runtime.loop import Stop

_LOOK = ("a look into every machine",)


class Session:
    """A drill at work. `progress.stop` ends it early, but never without the heal, or with its undo still on disk."""

    def __init__(self, drill: Drill, target: Target, options: Options, run_dir: Path, clock: Clock) -> None:
        self._drill, self._target, self._clock = drill, target, clock
        self._options = options.under(drill.demand, target.slowness)
        self.run_dir = run_dir
        self.recorder = Recorder(run_dir / NAME, clock)
        self.progress = Progress(self.recorder, clock, target.slowness)
        self._remedy = Remedy(drill.name, target, self._options, self.recorder, self.progress, clock)
        self.progress.undo = lambda: [action.text for action in self._remedy.heals]
        self._loads, self._watches = Stop(), Stop()  # end the prober and writer; end the watches and samples

    # -- the course of things --------------------------------------------------------------------------------------

    def run(self, ui: Ui, beforehand: Callable[[], None] = lambda: None) -> None:
        """All phases. LabError before the fault: nothing was injected. After it, everything ends in the history."""
        self.progress.ui = ui
        try:
            scene, watchers, load = self._before(beforehand)
            try:
                self._strike(scene)
                self._observe(scene)
            except Stopped:
                if zero_s(self.recorder.history()) is None:
                    self._remedy.arm(heals=())
                    raise
                self.progress.note_end()
            except Exception as error:  # even our own mistake must not keep the lab broken
                self.recorder.add(Interrupted(why=f"{type(error).__name__}: {error}"), durable=True)
                self._remedy.heal("the runner failed")
                if not isinstance(error, LabError):
                    raise
            interrupted = self.recorder.history().first(Interrupted) is not None
            self._remedy.heal("the drill was interrupted" if interrupted else "the drill is through")
            Afterwards(self._target, self._options, self.recorder, self.progress, self._clock).wait(scene)
            self._collect(watchers, load)
        finally:
            self._loads.set()
            self._watches.set()
            self._remedy.clean_up()
            self.progress.drain()
            self.recorder.close()

    def _before(self, beforehand: Callable[[], None]) -> tuple[Scene, Observers, Loads]:
        target, options, attend = self._target, self._options, self.progress.attend
        self.recorder.add(
            Started(
                drill=self._drill.name,
                lab=target.lab,
                provider=target.provider,
                profile=target.profile.name,
                version=version("labctl"),
                pid=os.getpid(),
            ),
            durable=True,
        )
        self.progress.enter("prepare")
        attend(self._claim)
        attend(beforehand)
        if lacking := attend(lambda: target.supply(workload.IMAGE)):
            self.recorder.add(Said(text=f"{workload.IMAGE} was loaded on {', '.join(lacking)}"))
        arm_own = lambda: self._remedy.arm_more(workload.own_cleanups())  # noqa: E731
        found, said = attend(lambda: steady.find_workload(target, arm_own, options.image))
        self.recorder.add(Said(text=said))
        self.progress.enter("steady")
        deadline_s = stretched_s(options.steady_deadline_s, target.slowness)
        look = lambda: attend(lambda: inspection.take(target, "steady", machines=False))  # noqa: E731
        steady.await_workload(look, found, self.progress.tick, self._clock, deadline_s)
        scene = attend(lambda: steady.set_scene(target, self._drill, options, found))
        self.recorder.add(scene, durable=True)
        watchers = Observers(target.client, self.recorder, self._clock)
        attend(lambda: watchers.start(self._watches))
        starter = Starter(target, self.recorder, self._clock, self._remedy.arm_more, self.progress)
        load = starter.start(scene, self._drill.demand, options, self._loads)
        steady.await_answers(self.recorder.history, options.rate_per_s, options, self.progress.tick, self._clock)
        before = attend(lambda: inspection.take(target, "steady"), _LOOK)
        self.recorder.add(before)
        if wrong := inspection.blocking(before, found):
            raise steady.NotSteady(f"the lab did not stay steady: {'; '.join(wrong[:3])}")
        Sampler(target, scene, self.recorder, options.sample_s * target.slowness).start(self._watches)
        return scene, watchers, load

    def _claim(self) -> None:
        """Where others may run drills, too: keep them out, until the clean-up gives the Lease back."""
        if not self._target.shared:
            return
        holder, api = lease.own_identity(), self._target.client
        self._remedy.arm_more((lease.Release(holder),))
        lease.claim(api, holder, self._drill.name, Heeding(self._clock, self.progress.stop))
        lease.Renewals(api, holder, self._clock).start(self._watches, self.progress.end_for)

    def _strike(self, scene: Scene) -> None:
        self.progress.enter("arm")
        steps = self._drill.faults(scene)
        pauses_s = sum(step.seconds for step in steps if isinstance(step, Pause))
        self._remedy.arm(heals=heals_of(steps, self._target), last_s=self._latest_s(scene) + pauses_s)
        self.progress.enter("fault")
        for step in steps:
            self.progress.tick((), pause_s=0.0)
            match step:
                case Pause(seconds=seconds):
                    self.progress.tick((f"{seconds:g} s until the next step",), pause_s=seconds)
                case Lift(fault=fault):
                    self._lift(fault)
                case fault:
                    if not self._inject(fault):
                        return

    def _inject(self, fault: Fault) -> bool:
        self.recorder.add(FaultBegan(fault=fault.text, nodes=fault.nodes), durable=True)
        try:
            # Never left to itself: it would strike after the heal.
            self.progress.attend(lambda: fault.inject(self._target), (fault.text,), may_stop=False)
            ended_s = self._clock.monotonic_s()
            heeding = Heeding(self._clock, self.progress.stop)
            seen = (f"to see that it took: {fault.text}",)
            took, evidence = self.progress.attend(lambda: confirm(fault, self._target, heeding), seen)
            if getattr(fault, "unfolds", False):  # what it does takes its time, and is done while it is confirmed
                ended_s = self._clock.monotonic_s()
        except Stopped:
            raise
        except LabError as error:
            ended_s, took, evidence = self._clock.monotonic_s(), False, str(error)
        self.recorder.add(FaultEnded(fault=fault.text, took=took, evidence=evidence), t_s=ended_s, durable=True)
        return took

    def _lift(self, fault: Fault) -> None:
        """Undo one fault in the middle of the drill; its undo stays on disk, for it may be applied again."""
        actions = fault.heals(self._target)
        deadline_s = stretched_s(self._options.heal_deadline_s, self._target.slowness)
        heeding = Heeding(self._clock, self.progress.stop)
        ok, said = self.progress.attend(
            lambda: undo.apply_all(actions, self._target, heeding, deadline_s=deadline_s),
            tuple(action.text for action in actions),
        )
        self.recorder.add(Said(text=f"lifted: {'; '.join(said)}"))
        if not ok:
            raise LabError(f"could not be lifted: {fault.text}")

    def _observe(self, scene: Scene) -> None:
        """Until everything that has an upper bound has happened and stayed so, or the latest bound is over."""
        history = self.recorder.history()
        ended = history.last(FaultEnded)
        if ended is None or not ended[1].took:
            return
        self.progress.enter("observe")
        zero = zero_s(history) or ended[0]
        latest_s = max(ended[0], zero + self._drill.holds_s(self._target.profile))
        end_s = max(zero + self._latest_s(scene), latest_s + self._options.settle_s)
        while self._clock.monotonic_s() < end_s:
            waiting, calm_s = self._waiting(self.recorder.history(), scene, zero)
            calm_s = min(calm_s, self._clock.monotonic_s() - latest_s)
            if not waiting and calm_s >= self._options.settle_s:
                return
            self.progress.tick(waiting or (f"calm for {self._options.settle_s - calm_s:.0f} s more",), pause_s=0.25)

    def _waiting(self, history: History, scene: Scene, zero: float) -> tuple[tuple[str, ...], float]:
        """What has not happened yet, in words; and for how long the last of what has happened has stood."""
        found = measure(history, scene)
        passed_s = self._clock.monotonic_s() - zero
        waiting, latest_s = [], 0.0
        for bound in self._drill.bounds(self._target.profile, scene):
            at_s: float | None = getattr(found, bound.measure)
            if bound.upper_s is None or not bound.awaited:
                continue
            if at_s is None:
                waiting.append(f"{bound.title}, due in {max(0.0, bound.upper_s - passed_s):.0f} s")
            else:
                latest_s = max(latest_s, at_s)
        return tuple(waiting), passed_s - latest_s

    def _collect(self, watchers: Observers, load: Loads) -> None:
        self.progress.enter("judge")
        self._loads.set()
        for work in (load.collect, watchers.replay):
            try:
                self.progress.attend(work, ("all that was recorded",), may_stop=False, ending_s=progress.COLLECT_S)
            except DeadlineExceeded:
                self.progress.note_end()

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _latest_s(self, scene: Scene) -> float:
        """Seconds after the fault past which nothing is awaited any more."""
        bounds = self._drill.bounds(self._target.profile, scene)
        latest_s = max((bound.upper_s or 0.0 for bound in bounds if bound.awaited), default=0.0)
        return max(latest_s, self._drill.holds_s(self._target.profile)) + self._options.patience_s
