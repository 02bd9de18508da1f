"""After the heal: wait until spec equals status again and the service answers by every way; then all can be judged."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from labctl.drills import inspection, progress, steady
from labctl.drills.aside import Stopped
from labctl.drills.history import History, Recorder
from labctl.drills.judge import NOT_CONVERGED
from labctl.drills.model import Options
from labctl.drills.pace import patience, stretched_s
from labctl.drills.progress import Progress
from labctl.drills.records import HealEnded, Inspected, Probed, Said, Sampled, Scene, Wrote
from labctl.drills.target import Target
from labctl.drills.timeline import ended_s, fenced_from
from labctl.runtime.clock import Clock
from labctl.runtime.errors import DeadlineExceeded, LabError
from labctl.vm.provider import Power

_LOOK = ("a look into every machine",)
_NEVER = float("-inf")
_OUTLAST_S = 15.0  # prober and writer may be late on a busy host, and the API server may still be starting


class Afterwards:
    """The waits, each with its deadline; what is not as it was by then is in the history."""

    def __init__(self, target: Target, options: Options, recorder: Recorder, progress: Progress, clock: Clock) -> None:
        self._target, self._options, self._clock = target, options, clock
        self._recorder, self._progress = recorder, progress

    def wait(self, scene: Scene) -> None:
        """First for spec and status, then for the service; where the first fails, no answer makes the lab well."""
        if self._converge():
            self._outlast_heal(scene)

    def _converge(self) -> bool:
        """Whether spec equals status again, as far as it did before; what is left at the deadline is in the history."""
        self._progress.enter("converge")
        slowness = self._target.slowness
        allowed_s = stretched_s(self._options.converge_deadline_s, slowness)
        if self._progress.ending():
            self._progress.note_end()
            allowed_s = min(allowed_s, stretched_s(progress.CONVERGE_S, slowness))
        before = {
            text for one in inspection.steady_looks(self._recorder.history()) for text in inspection.differences(one)
        }
        end_s = self._clock.monotonic_s() + allowed_s
        seen, left = None, list[str]()
        try:
            while True:
                left_s = max(0.0, end_s - self._clock.monotonic_s())  # a look at what hangs has no end of its own
                seen = self._progress.attend(lambda: inspection.take(self._target, "healed"), _LOOK, ending_s=left_s)
                left = [text for text in inspection.differences(seen) if text not in before]
                left += inspection.unasked(seen)
                if not left or self._clock.monotonic_s() >= end_s:
                    break
                if seen.machines:
                    self._recorder.add(Sampled(machines=seen.machines))
                self._power_on_fenced(seen)
                self._progress.tick(tuple(left[:3]), pause_s=self._options.look_s)
        except (Stopped, DeadlineExceeded):
            self._progress.note_end()
        if left:
            self._recorder.add(Said(text=f"{NOT_CONVERGED}: {'; '.join(left[:5])}"))
        if seen is not None:
            self._recorder.add(seen)
        return not left

    def _power_on_fenced(self, seen: Inspected) -> None:
        """A drill that ends early may heal a machine just as the cluster is about to fence it, and then it is off."""
        for node in seen.nodes:
            if not node.fenced or node.ready == "True" or self._target.power(node.name) is not Power.OFF:
                continue
            with contextlib.suppress(LabError):  # the next look tries again
                self._target.power_on(node.name)
                self._recorder.add(Said(text=f"{node.name} was fenced while it was healed: powered on again"))

    def _outlast_heal(self, scene: Scene) -> None:
        """Let the load go on until it succeeds by every way again: a quick heal outruns requests that are under way."""
        if self._progress.ending():
            return
        options, slowness = self._options, self._target.slowness
        try:
            ways = self._progress.attend(lambda: steady.load_addresses(self._target, scene))
            quiet_s = options.steady_s + options.request_s * patience(slowness)
            end_s = self._clock.monotonic_s() + len(ways) / options.rate_per_s + quiet_s
            end_s += stretched_s(_OUTLAST_S, slowness)
            while left := not_back(self._recorder.history(), ways, now_s := self._clock.monotonic_s(), quiet_s):
                if now_s >= end_s:
                    self._recorder.add(Said(text=f"not back after the heal: {', '.join(left)}"))
                    return
                self._progress.tick(tuple(f"{what} after the heal" for what in left))
        except Stopped:
            self._progress.note_end()


def not_back(history: History, ways: Sequence[str], now_s: float, quiet_s: float) -> tuple[str, ...]:
    """What has not come back since the heal: answers by these addresses, writes where any was kept before. Pure.

    An address is back once it answered a request that was sent after the heal and after the last failure there was
    known, and once that failure is `quiet_s` ago. An answer alone proves little: where some endpoints are stale, every
    other request may succeed, and those that will fail are still under way. A fenced node's is not waited for.
    """
    healed = history.last(HealEnded)
    if healed is None:
        return ()
    probes = [probe for _, probe in history.of(Probed)]
    failed_s = dict.fromkeys((probe.via for probe in probes), _NEVER)
    for probe in probes:
        if not probe.ok:
            failed_s[probe.via] = max(failed_s[probe.via], ended_s(probe))
    back = {
        probe.via
        for probe in probes
        if probe.ok
        and probe.intended_s >= max(healed[0], failed_s[probe.via])
        and failed_s[probe.via] + quiet_s <= now_s
    }
    left = [f"answers by {way}" for way in dict.fromkeys(ways) if way not in back | fenced_from(history).keys()]
    kept = [at_s for at_s, record in history.of(Wrote) if record.acknowledged]
    return (*left, "a write") if kept and max(kept) < healed[0] else tuple(left)
