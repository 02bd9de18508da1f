"""Control groups of this host: which kind it has, and removing a lab's, processes and all."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from labctl.runtime.clock import Clock
from labctl.runtime.loop import wait_for


class ControlGroups:
    """The mounted hierarchies: one with cgroup v2, one a controller with v1, both where the host is hybrid."""

    def __init__(self, clock: Clock, mounts: Path = Path("/proc/self/mounts")) -> None:
        self._clock, self._mounts = clock, mounts

    def hierarchies(self) -> list[Path]:
        """Where they are mounted."""
        lines = (line.split() for line in self._mounts.read_text().splitlines())
        return [Path(fields[1]) for fields in lines if fields[2] in ("cgroup", "cgroup2")]

    def unified(self) -> bool:
        """Whether this host has cgroup v2 alone."""
        lines = (line.split() for line in self._mounts.read_text().splitlines())
        return "cgroup" not in {fields[2] for fields in lines}

    def exist(self, name: str) -> bool:
        """Whether any hierarchy has the group `name`."""
        return any((root / name).exists() for root in self.hierarchies())

    def remove(self, name: str, *, deadline_s: float) -> None:
        """Kill whatever runs in the group `name` and below, and remove it; DeadlineExceeded where something clings."""
        wait_for(
            lambda: self._sweep(name), what=f"control group {name} to empty", deadline_s=deadline_s, clock=self._clock,
            every_s=0.02,
        )  # fmt: skip

    def _sweep(self, name: str) -> bool:
        trees = [root / name for root in self.hierarchies() if (root / name).exists()]
        for tree in trees:
            _thaw(tree)
            for process in _processes(tree):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        for tree in trees:
            for folder, _, _ in os.walk(tree, topdown=False):
                with contextlib.suppress(OSError):  # busy until its last process is gone: the next sweep
                    os.rmdir(folder)
        return not any(tree.exists() for tree in trees)


def _processes(tree: Path) -> Iterator[int]:
    for folder, _, _ in os.walk(tree):
        with contextlib.suppress(OSError):
            yield from map(int, (Path(folder) / "cgroup.procs").read_text().split())


def _thaw(tree: Path) -> None:
    """A frozen process takes no signal, not even SIGKILL under v1."""
    for folder, _, _ in os.walk(tree):
        for file, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            if (Path(folder) / file).exists():
                with contextlib.suppress(OSError):
                    (Path(folder) / file).write_text(value)
