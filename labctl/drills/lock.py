"""One drill at a time on a lab: a file lock, held by the runner and its dead-man together.

The kernel frees it when the last of the two is gone, so a killed runner's lab stays locked until it is healed.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from labctl.runtime.errors import LabError


class Busy(LabError):
    """Another drill runs on this lab, or its dead-man is still healing."""


def take(folder: Path, holder: str) -> int:
    """Lock the lab's drills; the file descriptor that holds it (close it to let go). Busy where taken."""
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = os.pread(file, 200, 0).decode(errors="replace").strip()
        os.close(file)
        raise Busy(f"a drill is already running on this lab: {other}", hint="wait for its end, or stop it") from None
    name(file, holder)
    return file


def name(file: int, holder: str) -> None:
    """Say who holds the lock."""
    os.ftruncate(file, 0)
    os.pwrite(file, f"{holder}\n".encode(), 0)
