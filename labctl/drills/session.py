"""One drill from beginning to end: phases in order, a heal that always comes, a history of everything.

The session holds no policy: victims, faults and bounds come from the drill, verdicts from `judge`.
"""

from __future__ import annotations

import contextlib
import os
from importlib.metadata import version
from pathlib import Path

from labctl.drills import inspection, steady, undo, workload
from labctl.drills.actions import Action
from labctl.drills.contract import patience
from labctl.drills.faults import Fault, Lift, Pause, heals_of
from labctl.drills.history import NAME, History, Recorder
from labctl.drills.judge import NOT_CONVERGED
from labctl.drills.loads import Loads, Starter
from labctl.drills.measures import measure, zero_s
from labctl.drills.model import Drill, Options
from labctl.drills.observe import Observers
from labctl.drills.records import (
    FaultBegan,
    FaultEnded,
    HealBegan,
    HealEnded,
    Inspected,
    Interrupted,
    PhaseBegan,
    Said,
    Sampled,
    Scene,
    Started,
)
from labctl.drills.sampler import Sampler
from labctl.drills.target import Target
from labctl.drills.ui import Status, Ui
from labctl.drills.undo import Pending
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop
from labctl.vm.provider import Power

_TICK_S = 0.1
_MARGIN_S = 60.0
_OUTLAST_S = 15.0  # prober and writer may be late on a busy host, and the API server may still be starting


class Session:
    """A drill at work. `stop` ends it early, but never without the heal; `hurry` cuts the wait after the heal short."""

    def __init__(self, drill: Drill, target: Target, options: Options, run_dir: Path, clock: Clock) -> None:
        self._drill, self._target, self._clock = drill, target, clock
        self._options = options.under(drill.demand)
        self.run_dir = run_dir
        self.stop, self.hurry = Stop(), Stop()
        self.recorder = Recorder(run_dir / NAME, clock)
        self._loads, self._watches = Stop(), Stop()  # end the prober and writer; end the watches and samples
        self._pending: Pending | None = None
        self._ui: Ui | None = None
        self._phase, self._shown = "prepare", 0

    # -- the course of things --------------------------------------------------------------------------------------

    def run(self, ui: Ui) -> None:
        """All phases. LabError before the fault: nothing was injected. After it, everything ends in the history."""
        self._ui = ui
        try:
            scene, watchers, load = self._before()
            try:
                self._strike(scene)
                self._observe(scene)
            except steady.Stopped as why:
                if zero_s(self.recorder.history()) is None:
                    self._arm(heals=())
                    raise
                self._say("stopping: the lab is healed first; interrupt again to skip the wait afterwards")
                self.recorder.add(Interrupted(why=str(why)), durable=True)
            except Exception as error:  # even our own mistake must not keep the lab broken
                self.recorder.add(Interrupted(why=f"{type(error).__name__}: {error}"), durable=True)
                self._heal("the runner failed")
                if not isinstance(error, LabError):
                    raise
            self._heal("the drill was interrupted" if self._interrupted else "the drill is through")
            self._converge()
            self._outlast_heal(scene)
            self._collect(watchers, load)
        finally:
            self._loads.set()
            self._watches.set()
            self._clean_up()
            self._drain()
            self.recorder.close()

    def _before(self) -> tuple[Scene, Observers, Loads]:
        target, options = self._target, self._options
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
        self._enter("prepare")
        found, said = steady.find_workload(target, lambda: self._arm(cleanups=workload.own_cleanups()), options.image)
        self.recorder.add(Said(text=said))
        self._enter("steady")
        deadline_s = options.steady_deadline_s * target.slowness
        steady.await_workload(target, found, self._tick, self._clock, deadline_s)
        scene = steady.set_scene(target, self._drill, options, found)
        self.recorder.add(scene, durable=True)
        watchers = Observers(target.client, self.recorder, self._clock)
        watchers.start(self._watches)
        starter = Starter(target, self.recorder, self._clock, self._arm_more, self._tick)
        load = starter.start(scene, self._drill.demand, options, self._loads)
        steady.await_answers(self.recorder.history, options.rate_per_s, options, self._tick, self._clock)
        before = inspection.take(target, "steady")
        self.recorder.add(before)
        if wrong := inspection.blocking(before, found):
            raise steady.NotSteady(f"the lab did not stay steady: {'; '.join(wrong[:3])}")
        Sampler(target, scene, self.recorder, options.sample_s * target.slowness).start(self._watches)
        return scene, watchers, load

    def _strike(self, scene: Scene) -> None:
        self._enter("arm")
        steps = self._drill.faults(scene)
        pauses_s = sum(step.seconds for step in steps if isinstance(step, Pause))
        self._arm(heals=heals_of(steps, self._target), last_s=self._latest_s(scene) + pauses_s)
        self._enter("fault")
        for step in steps:
            self._tick((), pause_s=0.0)
            match step:
                case Pause(seconds=seconds):
                    self._tick((f"{seconds:g} s until the next step",), pause_s=seconds)
                case Lift(fault=fault):
                    self._lift(fault)
                case fault:
                    if not self._inject(fault):
                        return

    def _inject(self, fault: Fault) -> bool:
        self.recorder.add(FaultBegan(fault=fault.text, nodes=fault.nodes), durable=True)
        try:
            fault.inject(self._target)
            ended_s = self._clock.monotonic_s()
            took, evidence = fault.took(self._target, self._clock)
            if getattr(fault, "unfolds", False):  # what it does takes its time, and is done while it is confirmed
                ended_s = self._clock.monotonic_s()
        except LabError as error:
            ended_s, took, evidence = self._clock.monotonic_s(), False, str(error)
        self.recorder.add(FaultEnded(fault=fault.text, took=took, evidence=evidence), t_s=ended_s, durable=True)
        return took

    def _lift(self, fault: Fault) -> None:
        """Undo one fault in the middle of the drill; its undo stays on disk, for it may be applied again."""
        actions = fault.heals(self._target)
        deadline_s = self._options.heal_deadline_s * max(1.0, self._target.slowness)
        ok, said = undo.apply_all(actions, self._target, self._clock, deadline_s=deadline_s)
        self.recorder.add(Said(text=f"lifted: {'; '.join(said)}"))
        if not ok:
            raise LabError(f"could not be lifted: {fault.text}")

    def _observe(self, scene: Scene) -> None:
        """Until everything that has an upper bound has happened and stayed so, or the latest bound is over."""
        history = self.recorder.history()
        ended = history.last(FaultEnded)
        if ended is None or not ended[1].took:
            return
        self._enter("observe")
        zero = zero_s(history) or ended[0]
        latest_s = max(ended[0], zero + self._drill.holds_s(self._target.profile))
        end_s = max(zero + self._latest_s(scene), latest_s + self._options.settle_s)
        while self._clock.monotonic_s() < end_s:
            waiting, calm_s = self._waiting(self.recorder.history(), scene, zero)
            calm_s = min(calm_s, self._clock.monotonic_s() - latest_s)
            if not waiting and calm_s >= self._options.settle_s:
                return
            self._tick(waiting or (f"calm for {self._options.settle_s - calm_s:.0f} s more",), pause_s=0.25)

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

    def _heal(self, why: str) -> None:
        """Apply the undo that is on disk; done once."""
        history = self.recorder.history()
        if self._pending is None or history.first(HealBegan):
            return
        if not self._pending.heals and history.first(FaultBegan) is None:
            return
        self._enter("heal")
        self.recorder.add(HealBegan(by="runner", why=why), durable=True)
        self._drain()
        deadline_s = self._options.heal_deadline_s * max(1.0, self._target.slowness)
        ok, said = undo.apply_all(self._pending.heals, self._target, self._clock, deadline_s=deadline_s)
        self.recorder.add(HealEnded(ok=ok, evidence="; ".join(said) or "there is nothing to undo"), durable=True)
        if ok:
            self._pending = undo.replaced(self._pending, heals=())
            try:
                undo.save(self._target.drills_dir, self._pending)
            except LabError as error:  # a full disk: what is healed may be healed once more
                self._say(f"healed, but not struck off the undo on disk: {error}")

    def _converge(self) -> None:
        """Until spec equals status again, as far as it did before; what is left then is in the history."""
        self._enter("converge")
        history = self.recorder.history()
        before = {text for record in inspection.steady_looks(history) for text in inspection.differences(record)}
        end_s = self._clock.monotonic_s() + self._options.converge_deadline_s * max(1.0, self._target.slowness)
        while True:
            seen = inspection.take(self._target, "healed")
            left = [text for text in inspection.differences(seen) if text not in before]
            left += inspection.unasked(seen)
            if not left or self._clock.monotonic_s() >= end_s or self.hurry.is_set():
                break
            if seen.machines:
                self.recorder.add(Sampled(machines=seen.machines))
            self._power_on_fenced(seen)
            self._tick(tuple(left[:3]), pause_s=self._options.look_s, may_stop=False)
        if left:
            self.recorder.add(Said(text=f"{NOT_CONVERGED}: {'; '.join(left[:5])}"))
        self.recorder.add(seen)

    def _power_on_fenced(self, seen: Inspected) -> None:
        """A drill that ends early may heal a machine just as the cluster is about to fence it, and then it is off."""
        for node in seen.nodes:
            if not node.fenced or node.ready == "True" or self._target.power(node.name) is not Power.OFF:
                continue
            with contextlib.suppress(LabError):  # the next look tries again
                self._target.power_on(node.name)
                self.recorder.add(Said(text=f"{node.name} was fenced while it was healed: powered on again"))

    def _outlast_heal(self, scene: Scene) -> None:
        """Let the load go on until it has tried the healed lab by every way: a quick heal outruns the next request."""
        options = self._options
        ways = steady.load_addresses(self._target, scene)
        rounds_s = len(ways) / options.rate_per_s + options.request_s * patience(self._target.slowness)
        end_s = self._clock.monotonic_s() + rounds_s + _OUTLAST_S * max(1.0, self._target.slowness)
        while (left := steady.untried(self.recorder.history(), ways)) and not self.hurry.is_set():
            if self._clock.monotonic_s() >= end_s:
                return  # the checkers say what is missing
            self._tick(tuple(f"{what} after the heal" for what in left), may_stop=False)

    def _collect(self, watchers: Observers, load: Loads) -> None:
        self._enter("judge")
        self._loads.set()
        load.collect()
        watchers.replay()

    def _clean_up(self) -> None:
        """Remove what the drill deployed; forget the undo once nothing is left of it."""
        if self._pending is None:
            return
        self._enter("clean-up")
        ok, said = undo.apply_all(self._pending.cleanups, self._target, self._clock, deadline_s=20.0)
        if ok and not self._pending.heals:
            undo.clear(self._target.drills_dir)
        elif not ok:
            self._say(f"left behind: {'; '.join(said)}")

    # -- helpers ---------------------------------------------------------------------------------------------------

    @property
    def _interrupted(self) -> bool:
        return self.recorder.history().first(Interrupted) is not None

    @property
    def _cleanups(self) -> tuple[Action, ...]:
        return self._pending.cleanups if self._pending else ()

    def _latest_s(self, scene: Scene) -> float:
        """Seconds after the fault past which nothing is awaited any more."""
        bounds = self._drill.bounds(self._target.profile, scene)
        latest_s = max((bound.upper_s or 0.0 for bound in bounds if bound.awaited), default=0.0)
        return max(latest_s, self._drill.holds_s(self._target.profile)) + self._options.patience_s

    def _arm(
        self,
        *,
        heals: tuple[Action, ...] = (),
        cleanups: tuple[Action, ...] | None = None,
        last_s: float = 0.0,
    ) -> None:
        """Put the undo on disk; LabError where that fails, and then nothing may be done to the lab."""
        options, slowness = self._options, max(1.0, self._target.slowness)
        allowed_s = (
            last_s + (options.steady_deadline_s + options.heal_deadline_s + options.converge_deadline_s) * slowness
        )
        self._pending = Pending(
            drill=self._drill.name,
            run_dir=str(self.run_dir),
            runner_pid=os.getpid(),
            reopen=self._target.reopen,
            heal_by_s=self._clock.monotonic_s() + allowed_s + _MARGIN_S,
            heals=heals,
            cleanups=self._cleanups if cleanups is None else cleanups,
        )
        undo.save(self._target.drills_dir, self._pending)

    def _arm_more(self, cleanups: tuple[Action, ...]) -> None:
        self._arm(cleanups=(*self._cleanups, *cleanups))

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self.recorder.add(PhaseBegan(name=phase))
        self._drain()

    def _tick(self, waiting: tuple[str, ...], *, pause_s: float = _TICK_S, may_stop: bool = True) -> None:
        """Show what is new, pause; Stopped where the drill was asked to end."""
        end_s = self._clock.monotonic_s() + pause_s
        signal = self.stop if may_stop else self.hurry
        while True:
            self._drain()
            if self._ui is not None:
                self._ui.status(Status(self._clock.monotonic_s(), self._phase, waiting))
            if may_stop and self.stop.is_set():
                raise steady.Stopped("Ctrl-C")
            left_s = end_s - self._clock.monotonic_s()
            if left_s <= 0 or signal.is_set():
                return
            signal.wait_s(min(left_s, _TICK_S))

    def _drain(self) -> None:
        entries = self.recorder.history()
        if self._ui is not None and len(entries) > self._shown:
            self._ui.show(entries[self._shown :])
        self._shown = len(entries)

    def _say(self, text: str) -> None:
        if self._ui is not None:
            self._ui.say(text)
