"""Sequenced records written through the API during a drill: the ground truth of invariant A.

Each write adds one numbered key to a ConfigMap. What was acknowledged must be there at the end; what failed
without an answer may or may not be.
"""

from __future__ import annotations

import threading

from labctl.drills.history import Recorder
from labctl.drills.records import ReadBack, Wrote
from labctl.drills.target import Api
from labctl.drills.undo import DeleteObject
from labctl.kube.errors import AlreadyExists, ApiError
from labctl.kube.resources import CONFIG_MAPS
from labctl.runtime.clock import Clock
from labctl.runtime.errors import DeadlineExceeded
from labctl.runtime.loop import Stop, wait_for

NAME = "labctl-drill-writes"


class Writer:
    """Adds a key every `period_s` until `stop`."""

    def __init__(self, api: Api, namespace: str, recorder: Recorder, clock: Clock, *, period_s: float = 0.5) -> None:
        self._api, self._namespace, self._recorder, self._clock = api, namespace, recorder, clock
        self._period_s = period_s
        self._thread: threading.Thread | None = None

    @property
    def cleanup(self) -> DeleteObject:
        """Removes the records' object."""
        return DeleteObject(plural="configmaps", group="", namespace=self._namespace, name=NAME)

    def start(self, stop: Stop) -> None:
        """Create the object afresh and begin, in a thread of its own."""
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": {}}
        try:
            self._api.create(CONFIG_MAPS, body, self._namespace)
        except AlreadyExists:  # left by a drill that died
            self._api.delete(CONFIG_MAPS, NAME, self._namespace)
            self._api.create(CONFIG_MAPS, body, self._namespace)
        self._thread = threading.Thread(target=self._run, args=(stop,), name="drill-writer", daemon=True)
        self._thread.start()

    def _run(self, stop: Stop) -> None:
        number = 0
        while not stop.wait_s(self._period_s):
            key = f"n{number:06}"
            number += 1
            try:
                self._api.patch(CONFIG_MAPS, NAME, {"data": {key: ""}}, self._namespace)
            except ApiError as error:
                self._recorder.add(Wrote(key=key, acknowledged=False, error=str(error)))
            else:
                self._recorder.add(Wrote(key=key, acknowledged=True))

    def read_back(self, deadline_s: float = 10.0) -> None:
        """After `stop`: record which keys are there."""
        if self._thread is not None:
            self._thread.join(deadline_s)
        errors: list[str] = []

        def read() -> list[str] | None:
            try:
                found = self._api.get(CONFIG_MAPS, NAME, self._namespace)
            except ApiError as error:
                errors.append(str(error))
                return None
            return [*(found.get("data") or {}), ""]

        try:
            keys = wait_for(read, what="the sequenced records", deadline_s=deadline_s, clock=self._clock)
            self._recorder.add(ReadBack(keys=tuple(key for key in keys if key)))
        except DeadlineExceeded:
            self._recorder.add(ReadBack(error=errors[-1]))
