"""Control groups, v1 and v2, by path below the root (`/kubepods/pod<uid>/<id>`): usage, OOM kills, ends, removal."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_KILL_ROUNDS = 10
_UNLIMITED = 2**60  # cgroup v1 has a number for "no limit": the largest that fits, in whole pages


@dataclass(frozen=True, slots=True)
class Usage:
    """What a cgroup has used: CPU since its start, memory and processes now."""

    cpu_ns: int = 0
    memory_bytes: int = 0
    working_set_bytes: int = 0  # memory less the inactive file cache, as upstream counts it
    rss_bytes: int = 0
    processes: int = 0


class Cgroups:
    """The hierarchy below `root`; v2 where the unified one is mounted there."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self.unified = (root / "cgroup.controllers").exists()

    def usage(self, path: str) -> Usage | None:
        """Figures of a cgroup, None where there is none."""
        memory = self._dir("memory", path)
        if not memory.is_dir():
            return None
        stat = _pairs(memory / "memory.stat")
        if self.unified:
            used = _number(memory / "memory.current")
            cpu_ns = _pairs(memory / "cpu.stat").get("usage_usec", 0) * 1000
            inactive, rss = stat.get("inactive_file", 0), stat.get("anon", 0)
        else:
            used = _number(memory / "memory.usage_in_bytes")
            cpu_ns = _number(self._dir("cpuacct", path) / "cpuacct.usage")
            inactive, rss = stat.get("total_inactive_file", 0), stat.get("total_rss", 0)
        return Usage(cpu_ns, used, max(0, used - inactive), rss, _number(self._dir("pids", path) / "pids.current"))

    def memory_limit(self, path: str) -> int:
        """The most memory that a cgroup may have, in bytes; 0 where none is set."""
        name = "memory.max" if self.unified else "memory.limit_in_bytes"
        limit = _number(self._dir("memory", path) / name)
        return limit if limit < _UNLIMITED else 0

    def oom_kills(self, path: str) -> int:
        """How many processes of a cgroup the kernel killed for want of memory."""
        name = "memory.events" if self.unified else "memory.oom_control"
        return _pairs(self._dir("memory", path) / name).get("oom_kill", 0)

    def processes(self, path: str) -> list[int]:
        """The pids in a cgroup itself, without its children."""
        try:
            words = (self._dir("memory", path) / "cgroup.procs").read_text(encoding="ascii").split()
        except OSError:
            return []
        return [int(word) for word in words]

    def members(self, path: str) -> list[int]:
        """The pids in a cgroup and in all below it."""
        found: list[int] = []
        for folder, _, _ in os.walk(self._dir("memory", path)):
            with contextlib.suppress(OSError, ValueError):
                found += map(int, Path(folder, "cgroup.procs").read_text(encoding="ascii").split())
        return found

    def terminate(self, path: str) -> None:
        """SIGTERM to the first process of each container below: those that are number 1 of their pid namespace."""
        for pid in self.members(path):
            if _is_first(pid):
                _send(pid, signal.SIGTERM)

    def kill(self, path: str) -> int:
        """SIGKILL to all below, those that are forked meanwhile included; how many there were to begin with."""
        there = self.members(path)
        if not there:
            return 0
        with contextlib.suppress(OSError):  # cgroup v2 from Linux 5.14 on: all at once
            (self._dir("", path) / "cgroup.kill").write_text("1", encoding="ascii")
            return len(there)
        left = there
        for _ in range(_KILL_ROUNDS):
            for pid in left:
                _send(pid, signal.SIGKILL)
            left = [pid for pid in self.members(path) if pid not in left]
            if not left:
                break
        return len(there)

    def remove(self, path: str) -> bool:
        """Remove a cgroup and those below from every hierarchy; False where some are left, as they have processes."""
        left = False
        for folder in self._everywhere(path):
            for below, _, _ in os.walk(folder, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(below)
            left |= folder.exists()
        return not left

    def _everywhere(self, path: str) -> Iterator[Path]:
        if self.unified:
            yield self._dir("", path)
            return
        for controller in self._root.iterdir():
            if controller.is_dir() and not controller.is_symlink():
                yield controller / path.lstrip("/")

    def _dir(self, controller: str, path: str) -> Path:
        return (self._root if self.unified else self._root / controller) / path.lstrip("/")


def _is_first(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            spaces = next(line for line in file if line.startswith("NSpid:")).split()[1:]
    except (OSError, StopIteration):
        return False
    return len(spaces) > 1 and spaces[-1] == "1"


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _number(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _pairs(path: Path) -> dict[str, int]:
    """A file of `name value` lines."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in map(str.split, lines) if len(words) == 2 and words[1].isdigit()}
