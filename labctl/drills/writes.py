"""Sequenced records written and read through the API during a drill: the ground truth of invariant A.

Each write adds one numbered key to a ConfigMap, on the condition that nothing else has changed it: a compare-and-swap.
So every record names the one it follows, the order of the writes is no guess, and reads along the way can be held
against it (`linear.py`). What was acknowledged must be there at the end; what failed without an answer may be or not.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from labctl.drills.actions import DeleteObject
from labctl.drills.history import Recorder
from labctl.drills.records import ReadBack, ReadOnce, Wrote
from labctl.drills.target import Api
from labctl.kube.errors import AlreadyExists, ApiError, Conflict, Document
from labctl.kube.resources import CONFIG_MAPS
from labctl.runtime.clock import Clock
from labctl.runtime.errors import DeadlineExceeded
from labctl.runtime.loop import Stop, wait_for

NAME = "labctl-drill-writes"


@dataclass(frozen=True, slots=True)
class _State:
    """The records as of one revision."""

    revision: str
    keys: tuple[str, ...]

    @property
    def last(self) -> str:
        return max(self.keys, default="")


class Writer:
    """Adds a key every `period_s` until `stop`, and reads the records as often from another thread."""

    def __init__(self, api: Api, namespace: str, recorder: Recorder, clock: Clock, *, period_s: float = 0.5) -> None:
        self._api, self._namespace, self._recorder, self._clock = api, namespace, recorder, clock
        self._period_s = period_s
        self._threads: list[threading.Thread] = []
        self._known = _State("", ())

    @property
    def cleanup(self) -> DeleteObject:
        """Removes the records' object."""
        return DeleteObject(plural="configmaps", group="", namespace=self._namespace, name=NAME)

    def start(self, stop: Stop) -> None:
        """Create the object afresh and begin, in threads of its own."""
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": {}}
        try:
            made = self._api.create(CONFIG_MAPS, body, self._namespace)
        except AlreadyExists:  # left by a drill that died
            self._api.delete(CONFIG_MAPS, NAME, self._namespace)
            made = self._api.create(CONFIG_MAPS, body, self._namespace)
        self._known = _state(made)
        for name, run in (("drill-writer", self._write), ("drill-reader", self._read)):
            self._threads.append(threading.Thread(target=run, args=(stop,), name=name, daemon=True))
            self._threads[-1].start()

    def _write(self, stop: Stop) -> None:
        number, sure = 0, True
        while not stop.wait_s(self._period_s):
            if not sure:  # where that fails, too, the write that follows is conditional on what was known before
                found = self._look()
                self._known = found or self._known
            sure = self._append(f"n{number:06}")
            number += 1

    def _append(self, key: str) -> bool:
        """Try to add one record; whether it is known what the records are now."""
        began_s, after = self._clock.monotonic_s(), self._known.last
        error, refused = "", False
        body = {"metadata": {"resourceVersion": self._known.revision}, "data": {key: ""}}
        try:
            self._known = _state(self._api.patch(CONFIG_MAPS, NAME, body, self._namespace))
        except ApiError as failure:
            error, refused = str(failure), isinstance(failure, Conflict)
        self._recorder.add(
            Wrote(key=key, acknowledged=not error, error=error, began_s=began_s, after=after, refused=refused)
        )
        return not error

    def _read(self, stop: Stop) -> None:
        stop.wait_s(self._period_s / 2)
        while not stop.wait_s(self._period_s):
            self._look()

    def _look(self) -> _State | None:
        """Read the records and record what was found; None where nobody answered."""
        began_s = self._clock.monotonic_s()
        try:
            found = _state(self._api.get(CONFIG_MAPS, NAME, self._namespace))
        except ApiError as error:
            self._recorder.add(ReadOnce(began_s=began_s, error=str(error)))
            return None
        self._recorder.add(ReadOnce(began_s=began_s, last=found.last, count=len(found.keys)))
        return found

    def read_back(self, deadline_s: float = 10.0) -> None:
        """After `stop`: record which keys are there."""
        for thread in self._threads:
            thread.join(deadline_s)
        errors: list[str] = []
        began_s = 0.0

        def read() -> _State | None:
            nonlocal began_s
            began_s = self._clock.monotonic_s()
            try:
                return _state(self._api.get(CONFIG_MAPS, NAME, self._namespace))
            except ApiError as error:
                errors.append(str(error))
                return None

        try:
            found = wait_for(read, what="the sequenced records", deadline_s=deadline_s, clock=self._clock)
            self._recorder.add(ReadBack(keys=found.keys, began_s=began_s))
        except DeadlineExceeded:
            self._recorder.add(ReadBack(error=errors[-1]))


def _state(found: Document) -> _State:
    return _State(found["metadata"]["resourceVersion"], tuple(sorted(found.get("data") or ())))
