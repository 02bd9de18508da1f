"""Undoing what a drill left behind, from its pending undo on disk. Idempotent; used by the dead-man and by `heal`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from labctl.drills import history, report, undo
from labctl.drills.history import Recorder
from labctl.drills.judge import judge
from labctl.drills.lease import Release, Renewals
from labctl.drills.records import FaultEnded, HealBegan, HealEnded, Interrupted
from labctl.drills.registry import drill_of_run
from labctl.drills.target import Target, open_target
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop

_CLEANUP_S = 30.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was undone: whether all of it, a sentence each."""

    ok: bool
    sentences: tuple[str, ...]


def recover(
    folder: Path, clock: Clock, *, by: str, why: str, deadline_s: float, target: Target | None = None
) -> Recovery:
    """Heal and clean up what is pending in `folder`, note it in that drill's history, and write its report.

    Nothing pending is fine. What could not be undone stays pending. LabError where the lab cannot be reached at all.
    """
    pending = undo.load(folder)
    if pending is None:
        return Recovery(True, ())
    lab = target or open_target(pending.reopen)
    recorder = _reopened(Path(pending.run_dir), clock)
    if recorder is not None:
        recorder.add(Interrupted(why=why))
        recorder.add(HealBegan(by=by, why=why), durable=True)
    renewing = Stop()
    for action in pending.cleanups:
        if isinstance(action, Release):
            Renewals(lab.client, action.holder, clock).start(renewing)
    healed, said = undo.apply_all(pending.heals, lab, clock, deadline_s=deadline_s)
    renewing.set()
    if recorder is not None:
        recorder.add(HealEnded(ok=healed, evidence="; ".join(said) or "there was nothing to undo"), durable=True)
    cleaned, more = undo.apply_all(pending.cleanups, lab, clock, deadline_s=_CLEANUP_S)
    if recorder is not None:
        recorder.close()
        with contextlib.suppress(LabError):  # the history may have ended before there was anything to judge
            _report(Path(pending.run_dir), pending.drill, lab)
    if healed and cleaned:
        undo.clear(folder)
    return Recovery(healed and cleaned, said + more)


def _reopened(run_dir: Path, clock: Clock) -> Recorder | None:
    """The interrupted drill's record; None where it is gone, for the heal goes first."""
    try:
        return Recorder(run_dir / history.NAME, clock)
    except LabError:
        return None


def _report(run_dir: Path, drill: str, lab: Target) -> None:
    told = history.load(run_dir / history.NAME)
    if told.first(FaultEnded) is None and told.first(HealBegan) is None:
        return
    found = judge(told, drill_of_run(run_dir, drill), lab.profile, run_dir=str(run_dir))
    report.write(run_dir, found, told)
