"""One master of three loses its power, again and again: how long until writes are acknowledged, as kubectl sees it.

Every second time it is the one that holds the virtual address, every other time the one whose etcd leads.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from labctl.vm.etcd import Etcd
from tests.bench.figure import Figure
from tests.bench.lab_parts import CLOCK, timed
from tests.labs import LabUser
from tests.masters import Writer, etcd_leader, holder, lab_of

_RUNS = 20  # what a 99th percentile means at the least
_WATCHED_S = 12.0
_BACK_S = 120.0


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """One lab of three masters and one worker, from nothing to nothing."""
    with tempfile.TemporaryDirectory(prefix="labctl-bench-") as home:
        user = LabUser(Path(home), "b-ha", "lxc")
        try:
            up_s = timed(lambda: user.up("--masters", "3", "--workers", "2"))
            yield Figure(name="lxc, 3 masters, 2 workers: up", value=up_s, unit="s", bound=30)
            yield from _losses(user, max(options.runs, _RUNS))
        finally:
            user.labctl("destroy", "--if-exists")


def _losses(user: LabUser, runs: int) -> Iterator[Figure]:
    samples, lost = [], 0
    for number in range(runs):
        gap_s, missing = _loss(user, number)
        samples.append(gap_s)
        lost += missing
    ordered = tuple(sorted(samples))
    for name, value, bound in (
        ("p50", statistics.median(ordered), None),
        ("p99", ordered[-1], 5.0),  # of so few runs the longest is the 99th percentile
    ):
        yield Figure(
            name=f"one master of three lost to writes again, {name} of {runs}",
            value=value,
            unit="s",
            bound=bound,
            samples=tuple(samples),
        )
    yield Figure(name="acknowledged writes lost", value=float(lost), unit="", bound=0)


def _loss(user: LabUser, number: int) -> tuple[float, int]:
    """One loss: the longest time without an acknowledged write, and how many acknowledged ones are gone."""
    lab = lab_of(user)
    victim = lab.machine(holder(user) if number % 2 else etcd_leader(user))
    writer = Writer(user, f"bench-{number}")
    writer.goes_on()
    cut_s = CLOCK.monotonic_s()
    lab.provider.power_off(lab.site, victim.name)
    CLOCK.sleep_s(_WATCHED_S)
    writer.goes_on()
    gap_s = writer.longest_gap_s(cut_s)
    missing = len(writer.stop())
    lab.provider.power_on(lab.site, victim.name)
    Etcd(lab.site).wait_healthy(victim, _BACK_S)
    return gap_s, missing
