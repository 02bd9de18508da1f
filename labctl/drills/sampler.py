"""Looking into the machines that answer, every few seconds while the fault lasts: what really runs there."""

from __future__ import annotations

import threading

from labctl.drills.history import Recorder
from labctl.drills.inside import count_all
from labctl.drills.records import Sampled, Scene
from labctl.drills.target import Target
from labctl.runtime.loop import Stop


class Sampler:
    """Records a look into the nodes that are reached, every `period_s`; one that does not answer is noted."""

    def __init__(self, target: Target, scene: Scene, recorder: Recorder, period_s: float) -> None:
        self._target, self._scene, self._recorder, self._period_s = target, scene, recorder, period_s

    def start(self, stop: Stop) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._run, args=(stop,), name="drill-sampler", daemon=True).start()

    def _run(self, stop: Stop) -> None:
        while not stop.wait_s(self._period_s):
            self._recorder.add(Sampled(machines=count_all(self._target, self._scene.answering, timeout_s=10.0)))
