"""Many drills in a row on one lab, in an order that a seed gives; one that fails does not keep the next from running.

`suite.json` in the report folder is written anew after each drill, so that a suite that dies tells how far it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from labctl.drills import steady
from labctl.drills.aside import Stopped
from labctl.drills.interrupts import told
from labctl.drills.model import Drill, Options, Report, Verdict
from labctl.drills.runner import run
from labctl.drills.target import Target
from labctl.drills.ui import Silent, Ui
from labctl.runtime.clock import Clock, SystemClock
from labctl.runtime.errors import LabError, UsageError
from labctl.runtime.loop import Stop, seeded

JSON_NAME = "suite.json"
SKIPPED, REFUSED, CRASHED = "skipped", "refused", "crashed"
_FINE = (Verdict.PASS.value, SKIPPED)


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """One drill of the suite. `outcome`: a verdict, or skipped (it cannot run here), refused (it did not begin),
    crashed (our own mistake)."""

    drill: str
    title: str
    outcome: str
    seconds: float
    reasons: tuple[str, ...] = ()
    folder: str = ""  # of its report, within the suite's

    @property
    def fine(self) -> bool:
        """Whether it passed, or could not run here at all."""
        return self.outcome in _FINE


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """What `suite.json` holds: everything that ran so far, and what was still to come."""

    lab: str
    provider: str
    profile: str
    seed: int
    started_at: str
    ran: tuple[Ran, ...] = ()
    left: tuple[str, ...] = ()  # names, in order; not empty where the suite was interrupted
    trouble: str = ""  # the report folder could not be written

    @property
    def exit_code(self) -> int:
        """0 where every drill that can run here passed, and one did; 130 interrupted; else 1."""
        if self.left:
            return 130
        passed = any(one.outcome == Verdict.PASS for one in self.ran)
        return 0 if passed and not self.trouble and all(one.fine for one in self.ran) else 1


def ordered(drills: Sequence[Drill], seed: int) -> tuple[Drill, ...]:
    """The order that `seed` gives, whatever order they came in. Pure."""
    found = sorted(drills, key=lambda drill: drill.name)
    seeded(seed).shuffle(found)
    return tuple(found)


def run_suite(
    drills: Sequence[Drill],
    target: Target,
    options: Options,
    *,
    seed: int,
    watch: Callable[[], AbstractContextManager[Ui]] | None = None,
    begin: Callable[[int, int, Drill], None] = lambda *_: None,
    clock: Clock | None = None,
) -> tuple[Suite, tuple[Report, ...]]:
    """Run them all; how each fared, and the reports there are. `begin` is told number, count and
    drill before each, `watch` opens its view.

    Ctrl-C ends the drill that runs (healed, as ever) and the suite. `options.report_dir` holds a folder for each drill.
    """
    if not drills:
        raise UsageError("a suite of no drills", hint="name some, or say --all")
    clock = clock or SystemClock()
    course = ordered(drills, seed)
    suite = Suite(
        lab=target.lab,
        provider=target.provider,
        profile=target.profile.name,
        seed=seed,
        started_at=f"{clock.now():%Y-%m-%dT%H:%M:%SZ}",
        left=tuple(drill.name for drill in course),
    )
    reports: list[Report] = []
    stop = Stop()
    with told(stop):
        for number, drill in enumerate(course, start=1):
            begin(number, len(course), drill)
            ran, report, stopped = _one(drill, target, _placed(options, number, drill), watch or _silent, clock)
            reports += [report] if report else []
            suite = msgspec.structs.replace(suite, ran=(*suite.ran, ran), left=suite.left[1:])
            suite = _kept(suite, options.report_dir)
            if stopped or stop.is_set():
                break
    return suite, tuple(reports)


@contextmanager
def _silent() -> Iterator[Ui]:
    yield Silent()


def _placed(options: Options, number: int, drill: Drill) -> Options:
    return (
        replace(options, report_dir=options.report_dir / f"{number:02}-{drill.name}") if options.report_dir else options
    )


def _one(
    drill: Drill, target: Target, options: Options, watch: Callable[[], AbstractContextManager[Ui]], clock: Clock
) -> tuple[Ran, Report | None, bool]:
    """Run one; how it fared, its report, whether the user wants to stop."""
    start_s, report, stopped = clock.monotonic_s(), None, False
    reasons: tuple[str, ...] = ()
    why = steady.why_impossible(drill, target)
    if why:
        outcome, reasons = SKIPPED, (why,)
    else:
        try:
            with watch() as ui:
                report = run(drill, target, options, ui, clock)
            outcome, reasons = report.verdict.value, report.reasons
            stopped = "interrupted: Ctrl-C" in reasons
        except (Stopped, KeyboardInterrupt) as error:
            outcome, reasons, stopped = REFUSED, (str(error) or "Ctrl-C",), True
        except LabError as error:
            outcome, reasons = REFUSED, (_words(error),)
        except Exception as error:  # our own mistake in one drill must not hide what the others find
            outcome, reasons = CRASHED, (f"{type(error).__name__}: {error}",)
    ran = Ran(
        drill=drill.name,
        title=drill.title,
        outcome=outcome,
        seconds=round(clock.monotonic_s() - start_s, 1),
        reasons=reasons,
        folder=options.report_dir.name if options.report_dir and report else "",
    )
    return ran, report, stopped


def _words(error: LabError) -> str:
    return f"{error} ({error.hint})" if error.hint else str(error)


def _kept(suite: Suite, folder: Path | None) -> Suite:
    """Write what there is; a folder that cannot be written does not end the suite, but it is no success."""
    if folder is None:
        return suite
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{JSON_NAME}"
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(suite), indent=2) + b"\n")
        draft.replace(folder / JSON_NAME)
    except OSError as error:
        return msgspec.structs.replace(suite, trouble=f"{folder / JSON_NAME}: {error.strerror}")
    return suite
