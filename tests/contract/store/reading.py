"""Helpers to read watches in tests, always with an end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from labctl.runtime.clock import SystemClock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import wait_for
from master.store.protocol import Change, Progress, Store

CLOCK = SystemClock()


class Reader:
    """Reads one watch in a thread of its own; keeps what came and the error that ended it."""

    def __init__(self, store: Store, prefix: str, *, after: int) -> None:
        self.changes: list[Change] = []
        self.progress: list[int] = []
        self.error: LabError | None = None
        self.ended = False
        self._store, self._prefix, self._after = store, prefix, after
        self._open = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._close: Callable[[], object] = lambda: None

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._open.wait(15)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the watch did not end when it was closed"

    def until(self, done: Callable[[Reader], object], *, deadline_s: float = 15.0) -> None:
        """Wait until `done` holds for what was read."""
        wait_for(lambda: bool(done(self)) or None, what="the watch", deadline_s=deadline_s, clock=CLOCK, every_s=0.01)

    def until_revision(self, revision: int, *, deadline_s: float = 15.0) -> None:
        """Wait until everything up to `revision` was told."""
        self._store.request_progress(self._prefix, revision=revision)
        self.until(lambda reader: reader.progress and reader.progress[-1] >= revision, deadline_s=deadline_s)

    def _read(self) -> None:
        try:
            watch = self._store.watch(self._prefix, after=self._after)
            self._close = lambda: watch.__exit__(None, None, None)
            with watch as items:
                self._open.set()
                for item in items:
                    if isinstance(item, Progress):
                        self.progress.append(item.revision)
                    else:
                        self.changes.append(item)
        except LabError as error:
            self.error = error
        finally:
            self.ended = True
            self._open.set()
