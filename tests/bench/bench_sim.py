"""The simulation: seeds an hour on this machine's cores."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

from labctl.runtime.clock import SystemClock
from labctl.sim import batch
from tests.bench.figure import Figure

_SEEDS, _ROUNDS = 60, 3


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Rounds of other seeds each, two at a time as the bound is meant."""
    del options
    clock, jobs = SystemClock(), min(2, os.cpu_count() or 1)
    rates: list[float] = []
    lived_s = 0.0
    for number in range(_ROUNDS):
        began_s = clock.monotonic_s()
        results = list(batch.many(range(number * _SEEDS, (number + 1) * _SEEDS), jobs=jobs))
        rates.append(3600.0 * len(results) / (clock.monotonic_s() - began_s))
        lived_s += sum(result.simulated_s for result in results)
    rate = sorted(rates)[len(rates) // 2]
    yield Figure(
        name="seeds an hour on two cores",
        value=rate,
        unit="seeds/h",
        bound=10_000,
        sense="at_least",
        samples=tuple(rates),
    )
    yield Figure(name="simulated time of a seed", value=lived_s / (_SEEDS * _ROUNDS), unit="s")
