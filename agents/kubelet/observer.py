"""Watches the container runtime: lists when something changed, sleeps on pidfds otherwise. No polling.

An operation's effect is only believed once a list that began after it has ended; `Listing.number` tells.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agents.kubelet.runtime import ContainerRuntime, ContainerStatus, Sandbox
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Backoff, Stop

RELIST_S = 60.0  # for what happens behind our back, e.g. somebody's `nerdctl rm`
_DEAD_BUT_LISTED_S = 0.05

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything the runtime had when asked for the `number`th time."""

    number: int
    containers: Mapping[str, tuple[ContainerStatus, ...]] = field(default_factory=dict)  # by pod uid
    sandboxes: Mapping[str, Sandbox] = field(default_factory=dict)  # by pod uid


class Observer:
    """Keeps the latest listing; `on_change` rings after each."""

    def __init__(
        self, runtime: ContainerRuntime, *, on_change: Callable[[], None], before: Callable[[], None] = lambda: None
    ) -> None:
        """`before` runs once, in the observer's thread, before its first listing."""
        self._runtime, self._on_change, self._before = runtime, on_change, before
        self._lock = threading.Lock()
        self._begun = 0
        self._latest: Listing | None = None
        self._error = "the container runtime has not answered yet"
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def latest(self) -> Listing | None:
        """The newest listing, None before the first."""
        with self._lock:
            return self._latest

    @property
    def error(self) -> str:
        """Why the runtime could not be asked the last time; "" where it could."""
        with self._lock:
            return self._error

    def ask(self) -> int:
        """Have the runtime listed again; the number from which on listings began after this call."""
        with self._lock:
            number = self._begun + 1
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_w, b"x")
        return number

    def observe(self) -> bool:
        """List once, now; False where the runtime did not answer."""
        with self._lock:
            self._begun += 1
            number = self._begun
        try:
            containers: dict[str, list[ContainerStatus]] = {}
            for entry in self._runtime.containers():
                containers.setdefault(entry.pod.uid, []).append(entry)
            sandboxes = {sandbox.pod.uid: sandbox for sandbox in self._runtime.sandboxes()}
        except (LabError, OSError) as error:
            with self._lock:
                news = self._error != str(error)
                self._error = str(error)
            if news:
                _log.warning("the container runtime does not answer: %s", error)
                self._on_change()
            return False
        listing = Listing(number, {uid: tuple(entries) for uid, entries in containers.items()}, sandboxes)
        with self._lock:
            self._latest, self._error = listing, ""
        self._on_change()
        return True

    def start(self, stop: Stop) -> None:
        """Observe in a thread of our own until `stop`."""
        threading.Thread(target=self._loop, args=(stop,), name="observer", daemon=True).start()

    def _loop(self, stop: Stop) -> None:
        failed, stale = Backoff(0.2, 5.0), Backoff(_DEAD_BUT_LISTED_S, 1.0)
        try:
            self._before()
        except (LabError, OSError) as error:
            _log.warning("before the first listing: %s", error)
        while not stop.is_set():
            try:
                self._drain()
                if not self.observe():
                    stop.wait_s(failed.next_s())
                    continue
                failed.reset()
                if self._runtime.wait_exit(self._pids(), timeout_s=RELIST_S, wake_fd=self._wake_r):
                    # Something died. Where the next list still has it alive, ask less and less often.
                    stop.wait_s(stale.next_s())
                else:
                    stale.reset()
            except Exception:
                _log.exception("observing the runtime failed")
                stop.wait_s(failed.next_s())

    def _pids(self) -> dict[str, int]:
        listing = self.latest
        every = listing.containers.values() if listing is not None else ()
        return {entry.id: entry.pid for entries in every for entry in entries if entry.phase == "running" and entry.pid}

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_r, 4096):
                pass
