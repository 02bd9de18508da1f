"""Processes by their pidfd: waiting for an end costs nothing, and no signal ever reaches a recycled pid."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterable


def open_process(pid: int, *, cgroup_word: str) -> int:
    """A pidfd of `pid` if it lives in a cgroup whose path has `cgroup_word`; -1 otherwise. The caller closes it."""
    try:
        fd = os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        return -1
    try:
        # Read after the open: the pid cannot be recycled between the two without the fd being that of the dead one.
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
            ours = cgroup_word in file.read()
    except OSError:
        ours = False
    if ours and not is_dead(fd):
        return fd
    os.close(fd)
    return -1


def is_dead(fd: int) -> bool:
    """Whether the process behind a pidfd has ended."""
    return bool(wait_any([fd], timeout_s=0))


def send(fd: int, number: int) -> None:
    """Signal the process behind a pidfd; a dead one is none of our business."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(fd, number)


def wait_any(fds: Iterable[int], *, timeout_s: float) -> list[int]:
    """Block until one of the descriptors is readable (a pidfd: its process ended); those that are."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(max(0.0, timeout_s) * 1000)]


def mentioned_by(program: str, word: str) -> bool:
    """Whether a process runs `program` with `word` among its arguments."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry.name}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
                if words[0] == program.encode() and word.encode() in words:
                    return True
    return False
