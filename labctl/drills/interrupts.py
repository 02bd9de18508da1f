"""SIGINT and SIGTERM while a drill runs: the first is heard, the second ends this process where it stands."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from labctl.drills import undo
from labctl.drills.session import Session
from labctl.runtime.clock import SystemClock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop

_SAME_S = 0.3  # one press may arrive twice: from the terminal, and passed on by a parent
_CURSOR = "\x1b[?25h"  # a live view hides it


@contextlib.contextmanager
def interrupts(session: Session, folder: Path) -> Iterator[None]:
    """Both signals, for the length of the block; whoever listened before is told, too. In the main thread only."""
    stop, clock = session.progress.stop, SystemClock()
    first_s = 0.0

    def caught(number: int, frame: FrameType | None) -> None:
        nonlocal first_s
        if not stop.is_set():
            first_s = clock.monotonic_s()
            stop.set()
            if callable(earlier := before[number]) and earlier is not signal.default_int_handler:
                earlier(number, frame)
        elif clock.monotonic_s() - first_s >= _SAME_S:
            _leave(folder, 128 + number)

    with _handled(caught) as before:
        yield


@contextlib.contextmanager
def told(stop: Stop) -> Iterator[None]:
    """Set `stop` on either signal, for the length of the block."""
    with _handled(lambda *_: stop.set()):
        yield


_Handler = Callable[[int, FrameType | None], object]


@contextlib.contextmanager
def _handled(handler: _Handler) -> Iterator[dict[int, _Handler | int | None]]:
    """With this handler; gives those that were there before. Does nothing outside the main thread."""
    before: dict[int, _Handler | int | None] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            before[number] = signal.getsignal(number)
        for number in before:
            signal.signal(number, handler)
    try:
        yield before
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _leave(folder: Path, code: int) -> None:
    """End without another step; the dead-man sees it, and undoes what is on disk."""
    try:
        left = undo.load(folder)
        todo = "; ".join(action.text for action in (*left.heals, *left.cleanups)) if left else ""
    except LabError as error:
        todo = str(error)
    rest = f"a process of its own undoes the rest ({todo}); `labctl heal` afterwards tells" if todo else "all is undone"
    cursor = _CURSOR if sys.stderr.isatty() else ""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{cursor}\nleft at once: {rest}\n".encode())
    os._exit(code)
