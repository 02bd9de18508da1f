"""What the tests of the runner share: a drill in seconds on a lab in memory, and looks at what it left."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from labctl.drills import lock, undo
from labctl.drills.model import Options
from labctl.drills.records import Entry, PhaseBegan
from labctl.drills.ui import Silent
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from tests.unit.labctl.drills.drill_fakes import FakeLab

CLOCK = SystemClock()
QUICK = Options(
    steady_s=0.5, steady_deadline_s=5.0, settle_s=0.5, patience_s=0.5, heal_deadline_s=1.0, converge_deadline_s=5.0,
    sample_s=0.5, look_s=0.2, request_s=0.4, stateful=False,
)  # fmt: skip


class At(Silent):
    """Does something when a phase begins."""

    def __init__(self, phase: str, act: object) -> None:
        self.phase, self.act = phase, act
        self.said: list[str] = []

    def show(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if isinstance(entry.what, PhaseBegan) and entry.what.name == self.phase:
                self.act()  # type: ignore[operator]

    def say(self, text: str) -> None:
        self.said.append(text)


def healed(lab: FakeLab) -> bool:
    return lab.power("worker1").value == "running" and undo.load(lab.drills_dir) is None


def quick(**changes: object) -> Options:
    return replace(QUICK, **changes)  # type: ignore[arg-type]


def wait_unlocked(folder: Path) -> None:
    """Until neither the runner nor its dead-man holds the lab."""

    def free() -> bool:
        try:
            os.close(lock.take(folder, "test"))
        except lock.Busy:
            return False
        return True

    wait_for(free, what="the dead-man to finish", deadline_s=20.0, clock=CLOCK, every_s=0.05)
