"""Running a drill: one at a time on a lab, with a process that heals if this one dies, and a report at the end.

report = run(drill_named("worker-power-loss"), target, Options(), ui)
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import FrameType

from labctl.drills import history, lock, registry, report, undo
from labctl.drills.deadman import DeadMan
from labctl.drills.flight import FlightRecorder
from labctl.drills.judge import judge
from labctl.drills.model import Drill, Options, Report
from labctl.drills.records import FaultBegan
from labctl.drills.recovery import Recovery, recover
from labctl.drills.session import Session
from labctl.drills.steady import Stopped, check_possible, check_reachable
from labctl.drills.target import Target
from labctl.drills.ui import Silent, Ui
from labctl.runtime.clock import Clock, SystemClock
from labctl.runtime.errors import LabError

_RECOVERY_S = 180.0


def run(
    drill: Drill, target: Target, options: Options | None = None, ui: Ui | None = None, clock: Clock | None = None
) -> Report:
    """Run the drill and write its report; the lab is healed however this ends, by us or by the dead-man.

    Raises LabError where nothing was injected (Busy, NotSteady, Stopped, ...) or the report could not be written.
    SIGINT and SIGTERM end the drill early: heal, report, verdict unknown. A second one skips the wait afterwards.
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
            with _interrupts(session), _flight(session, target, clock):
                return _conduct(session, drill, target, options, ui)
        finally:
            dead_man.dismiss()
    finally:
        os.close(lock_fd)


@contextlib.contextmanager
def _flight(session: Session, target: Target, clock: Clock) -> Iterator[None]:
    """Every machine's own record of the drill, into the run's folder; of one that struck nothing there is none."""
    recorder = FlightRecorder(target, clock)
    recorder.start()
    try:
        yield
    finally:
        if session.recorder.history().first(FaultBegan) is None:
            recorder.stop()
        else:
            recorder.gather(session.run_dir)


def heal(target: Target, clock: Clock | None = None) -> Recovery:
    """Undo whatever a drill left behind on this lab; Busy while one is running."""
    lock_fd = lock.take(target.drills_dir, f"heal, process {os.getpid()}")
    try:
        return _recover(target, clock or SystemClock(), by="heal")
    finally:
        os.close(lock_fd)


def _conduct(session: Session, drill: Drill, target: Target, options: Options, ui: Ui) -> Report:
    try:
        session.run(ui)
    except Stopped:
        if session.recorder.history().first(FaultBegan) is None:
            raise Stopped("stopped before any fault was injected", hint="nothing needs healing") from None
    except Exception as error:
        if session.recorder.history().first(FaultBegan) is not None:
            with contextlib.suppress(LabError):
                _report(session, drill, target, options)
        elif isinstance(error, LabError):
            _mark_refused(session)
        raise
    found = _report(session, drill, target, options)
    if (left := undo.load(target.drills_dir)) is not None:
        todo = "; ".join(action.text for action in (*left.heals, *left.cleanups))
        ui.say(f"not undone: {todo}. `labctl heal --name {target.lab}` tries again, and so does the next drill")
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
    deadline_s = _RECOVERY_S * max(1.0, target.slowness)
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


@contextlib.contextmanager
def _interrupts(session: Session) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into an early, healed end while the drill runs; only possible in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def caught(_number: int, _frame: FrameType | None) -> None:
        (session.hurry if session.stop.is_set() else session.stop).set()

    before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, caught)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
