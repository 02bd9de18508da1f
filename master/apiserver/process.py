"""The process's own figures for /metrics, as Prometheus' client libraries name them. Source: proc(5)."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from master.apiserver.prometheus import gauge

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_START = 19  # of the fields after the name in /proc/PID/stat: when the process began, in ticks since boot


def lines() -> list[str]:
    """CPU, memory, file descriptors, start time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    virtual, resident = map(int, Path("/proc/self/statm").read_text().split()[:2])
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    cpu_s = usage.ru_utime + usage.ru_stime
    found = gauge(
        "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", cpu_s, kind="counter"
    )
    for name, what, value in (
        ("process_resident_memory_bytes", "Resident memory size in bytes.", resident * _PAGE_BYTES),
        ("process_virtual_memory_bytes", "Virtual memory size in bytes.", virtual * _PAGE_BYTES),
        ("process_open_fds", "Number of open file descriptors.", len(os.listdir("/proc/self/fd"))),
        ("process_max_fds", "Maximum number of open file descriptors.", limit),
        ("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", _started_s()),
    ):
        found += gauge(name, what, value)
    return found


def _started_s() -> float:
    booted_s = next(int(line[6:]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    after_name = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
    return booted_s + int(after_name[_START]) / _TICKS_PER_S
