"""Prometheus' text format: histograms, and lines of numbers under labels. It knows nothing of what is counted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# Upstream's for requests and for etcd: apiserver `endpoints/metrics/metrics.go`, `storage/etcd3/metrics/metrics.go`.
SECONDS = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
)  # fmt: skip
_BOUNDS = (*(f"{bound:g}" for bound in SECONDS), "+Inf")


class Histogram:
    """How long something took, in `SECONDS`' buckets."""

    __slots__ = ("_counts", "_total_s")

    def __init__(self) -> None:
        self._counts = [0] * len(_BOUNDS)
        self._total_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self._total_s += seconds

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """The series, cumulative as the format wants it; `labels` without braces."""
        running = 0
        for bound, count in zip(_BOUNDS, self._counts, strict=True):
            running += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {running}'
        yield f"{name}_sum{{{labels}}} {self._total_s:.6f}"
        yield f"{name}_count{{{labels}}} {running}"


def head(name: str, kind: str, what: str) -> list[str]:
    """A family's first lines; `kind` is counter, gauge or histogram."""
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]


def labels(names: Iterable[str], values: Iterable[object]) -> str:
    """`a="1",b="2"`, escaped."""
    return ",".join(f'{name}="{_escaped(str(value))}"' for name, value in zip(names, values, strict=True))


def family(name: str, kind: str, what: str, names: Iterable[str], values: Mapping[Any, float]) -> list[str]:
    """A whole family: its head and a line for each tuple of label values."""
    names = tuple(names)
    rows = sorted(values.items(), key=lambda row: tuple(map(str, row[0])))
    return head(name, kind, what) + [f"{name}{{{labels(names, row)}}} {_number(value)}" for row, value in rows]


def gauge(name: str, what: str, value: float, kind: str = "gauge") -> list[str]:
    """A family of one number without labels."""
    return [*head(name, kind, what), f"{name} {_number(value)}"]


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.6f}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
