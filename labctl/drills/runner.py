"""Running a drill: one at a time on a lab, with a process that heals if this one dies, and a report at the end.

report = run(drill_named("worker-power-loss"), target, Options(), ui)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from labctl.drills import history, lock, progress, registry, report, undo
from labctl.drills.actions import Action
from labctl.drills.aside import Stopped
from labctl.drills.deadman import DeadMan
from labctl.drills.flight import FlightRecorder
from labctl.drills.interrupts import interrupts
from labctl.drills.judge import judge
from labctl.drills.model import Drill, Options, Report
from labctl.drills.pace import stretched_s
from labctl.drills.records import FaultBegan
from labctl.drills.recovery import Recovery, recover
from labctl.drills.session import Session
from labctl.drills.steady import check_possible, check_reachable
from labctl.drills.target import Target
from labctl.drills.ui import Silent, Ui
from labctl.runtime.clock import Clock, SystemClock
from labctl.runtime.errors import DeadlineExceeded, LabError

_RECOVERY_S = 180.0


def run(
    drill: Drill, target: Target, options: Options | None = None, ui: Ui | None = None, clock: Clock | None = None
) -> Report:
    """Run the drill and write its report; the lab is healed however this ends, by us or by the dead-man.

    Raises LabError where nothing was injected (Busy, NotSteady, Stopped, ...) or the report could not be written.
    SIGINT and SIGTERM end the drill early, in bounded time: heal, report, verdict unknown; what is not undone by then
    is left to the dead-man. A second one ends this process at once, and leaves everything to the dead-man.
    """
    options, ui, clock = options or Options(), ui or Silent(), clock or SystemClock()
    check_possible(drill, target)
    folder = target.drills_dir
    lock_fd = lock.take(folder, f"{drill.name}, process {os.getpid()}")
    try:
        _leftovers(target, ui, clock)
        check_reachable(target)
        session = Session(drill, target, options, _new_folder(folder, drill, clock.now()), clock)
        dead_man = DeadMan(folder, lock_fd)
        dead_man.arm()
        try:
            with interrupts(session, folder):
                return _recorded(session, drill, FlightRecorder(target, clock), target, options, ui)
        finally:
            if _left_over(session, folder):
                dead_man.take_over()
            else:
                dead_man.dismiss()
    finally:
        os.close(lock_fd)


def _left_over(session: Session, folder: Path) -> tuple[Action, ...]:
    """What a drill that was asked to end had no time for."""
    left = undo.load(folder) if session.progress.stop.is_set() else None
    return (*left.heals, *left.cleanups) if left else ()


def _recorded(
    session: Session, drill: Drill, recorder: FlightRecorder, target: Target, options: Options, ui: Ui
) -> Report:
    """With every machine's own record of the drill in the run's folder; of one that struck nothing there is none."""
    try:
        return _conduct(session, drill, target, options, ui, recorder.start)
    finally:
        struck = session.recorder.history().first(FaultBegan) is not None
        with contextlib.suppress(DeadlineExceeded):
            session.progress.attend(
                lambda: recorder.gather(session.run_dir) if struck else recorder.stop(),
                ("every machine's own record",),
                may_stop=False,
                ending_s=progress.FLIGHT_S,
            )


def heal(target: Target, clock: Clock | None = None) -> Recovery:
    """Undo whatever a drill left behind on this lab; Busy while one is running."""
    lock_fd = lock.take(target.drills_dir, f"heal, process {os.getpid()}")
    try:
        return _recover(target, clock or SystemClock(), by="heal")
    finally:
        os.close(lock_fd)


def _conduct(
    session: Session, drill: Drill, target: Target, options: Options, ui: Ui, beforehand: Callable[[], None]
) -> Report:
    folder = target.drills_dir
    try:
        session.run(ui, beforehand)
    except Stopped:
        if session.recorder.history().first(FaultBegan) is None:
            rest = "; ".join(action.text for action in _left_over(session, folder))
            hint = f"a process of its own goes on with: {rest}" if rest else "nothing needs healing"
            why = "" if session.progress.why == progress.ASKED else f": {session.progress.why}"
            raise Stopped(f"stopped before any fault was injected{why}", hint=hint) from None
    except Exception as error:
        if session.recorder.history().first(FaultBegan) is not None:
            with contextlib.suppress(LabError):
                _report(session, drill, target, options)
        elif isinstance(error, LabError):
            _mark_refused(session)
        raise
    found = session.progress.attend(lambda: _report(session, drill, target, options), may_stop=False)
    if (left := undo.load(folder)) is not None:
        todo = "; ".join(action.text for action in (*left.heals, *left.cleanups))
        again = f"`labctl heal --name {target.lab}` tries again, and so does the next drill"
        now = "a process of its own goes on with it; then " if _left_over(session, folder) else ""
        ui.say(f"not undone: {todo}. {now[:1].upper()}{now[1:]}{again}")
    return found


def _report(session: Session, drill: Drill, target: Target, options: Options) -> Report:
    told = session.recorder.history()
    found = judge(told, drill, target.profile, trouble=session.recorder.trouble, run_dir=str(session.run_dir))
    report.write(session.run_dir, found, told)
    if options.report_dir is not None and options.report_dir != session.run_dir:
        report.write(options.report_dir, found, told)
    return found


def _mark_refused(session: Session) -> None:
    """Keep nothing of a drill that was refused: its folder would only look like a run."""
    for name in (history.NAME, registry.FILE_NAME):
        (session.run_dir / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        session.run_dir.rmdir()


def _leftovers(target: Target, ui: Ui, clock: Clock) -> None:
    """Heal what an earlier drill left, e.g. after the host itself went down."""
    pending = undo.load(target.drills_dir)
    if pending is None:
        return
    ui.say(f"an earlier drill ({pending.drill}) left something behind: healing it first")
    done = _recover(target, clock)
    if not done.ok:
        raise LabError(
            f"what an earlier drill left cannot be undone: {'; '.join(done.sentences)}",
            hint=f"bring the lab up (`labctl up`), then `labctl heal --name {target.lab}`",
        )


def _recover(target: Target, clock: Clock, *, by: str = "next runner") -> Recovery:
    deadline_s = stretched_s(_RECOVERY_S, target.slowness)
    return recover(target.drills_dir, clock, by=by, why="the drill was cut off", deadline_s=deadline_s, target=target)


def _new_folder(folder: Path, drill: Drill, now: datetime) -> Path:
    """A folder for this run, e.g. `20260131T080000Z-worker-power-loss`."""
    stem = f"{now:%Y%m%dT%H%M%SZ}-{drill.name}"
    for number in range(1, 1_000):
        path = folder / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir(mode=0o700)
            if drill.text:
                (path / registry.FILE_NAME).write_text(drill.text, encoding="utf-8")
        except FileExistsError:
            continue
        except OSError as error:
            raise LabError(f"{path}: {error.strerror}") from error
        return path
    raise LabError(f"{folder}: too many runs of {drill.name} in one second")
