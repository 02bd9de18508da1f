"""What a component of the control plane costs, and with which power of a cluster's size that grows."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from tests.bench.figure import Figure
from tests.e2e.apiserver import ApiServer

MIB = 1024 * 1024
_WORDS = {"cpu_ms": "CPU a pod", "memory_mib": "memory", "latency_ms": "latency"}


@dataclass(frozen=True)
class Outcome:
    """Of one run; CPU and memory are those of the component's process."""

    per_s: float  # pods
    cpu_ms: float  # a pod
    memory_mib: float
    latency_ms: float  # of one pod alone; the median


@contextmanager
def component(module: str, server: ApiServer, folder: Path, **config: object) -> Iterator[psutil.Process]:
    """`python -m MODULE` against the API server, until the block ends; its log is MODULE.log in `folder`."""
    file = folder / f"{module}.json"
    file.write_bytes(msgspec.json.encode({"kubeconfig": str(server.admin), **config}))
    with (folder / f"{module}.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", module, "--config", str(file)], stdout=log, stderr=log)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait(10)


def cpu_s(process: psutil.Process) -> float:
    """What a process has used so far, in user and system mode."""
    times = process.cpu_times()
    return float(times.user + times.system)


def exponents(what: str, points: Sequence[tuple[int, Outcome]]) -> Iterator[Figure]:
    """The power of `what` with which each cost grows: least squares over the logarithms."""
    for name, words in _WORDS.items():
        values = [getattr(outcome, name) for _, outcome in points]
        logs = [(math.log(number), math.log(value)) for (number, _), value in zip(points, values, strict=True)]
        mean_x, mean_y = (sum(column) / len(logs) for column in zip(*logs, strict=True))
        slope = sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)
        yield Figure(name=f"{words}, exponent of {what}", value=slope, unit="", samples=tuple(values))
