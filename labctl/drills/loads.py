"""What works on a lab all through a drill: requests to the service, sequenced records to the API and a StatefulSet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labctl.drills import steady
from labctl.drills.actions import Action
from labctl.drills.history import Recorder
from labctl.drills.identity import Identity
from labctl.drills.model import Demand, Options
from labctl.drills.pace import patience, stretched_s
from labctl.drills.probes import Load, Prober
from labctl.drills.progress import Progress
from labctl.drills.records import Scene
from labctl.drills.target import Target
from labctl.drills.writes import Writer
from labctl.runtime.clock import Clock
from labctl.runtime.loop import Stop


@dataclass(frozen=True, slots=True)
class Loads:
    """At work until their `Stop`."""

    prober: Prober
    writer: Writer
    identity: Identity | None

    def collect(self) -> None:
        """Once they were stopped: record what is kept of all that was acknowledged."""
        self.prober.join()
        self.writer.read_back()
        if self.identity is not None:
            self.identity.read_back()


class Starter:
    """Starts them; `arm` puts on disk what removes them, before they make anything."""

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        clock: Clock,
        arm: Callable[[tuple[Action, ...]], None],
        progress: Progress,
    ) -> None:
        self._target, self._recorder, self._clock, self._arm, self._progress = target, recorder, clock, arm, progress

    def start(self, scene: Scene, demand: Demand, options: Options, stop: Stop) -> Loads:
        """All that the drill demands; NotSteady where the StatefulSet takes no records."""
        attend = self._progress.attend
        target, period_s = self._target, 1.0 / options.writes_per_s
        timeout_s = options.request_s * patience(target.slowness)
        load = Load(
            addresses=steady.load_addresses(target, scene),
            port=scene.node_port,
            path=demand.path,
            rate_per_s=options.rate_per_s,
            timeout_s=timeout_s,
        )
        prober = Prober(load, self._recorder, self._clock)
        prober.start(stop)
        writer = Writer(target.client, scene.namespace, self._recorder, self._clock, period_s=period_s)
        self._arm((writer.cleanup,))
        attend(lambda: writer.start(stop))
        if not scene.identity:
            return Loads(prober, writer, None)
        image = options.log_image
        identity = Identity(target, scene, self._recorder, self._clock, period_s=period_s, image=image)
        self._arm(identity.cleanups)
        attend(identity.deploy)
        identity.start(stop, timeout_s)
        deadline_s = stretched_s(options.steady_deadline_s, target.slowness)
        steady.await_identity(
            lambda: attend(identity.node), scene, self._recorder.history, self._progress.tick, self._clock, deadline_s
        )
        return Loads(prober, writer, identity)
