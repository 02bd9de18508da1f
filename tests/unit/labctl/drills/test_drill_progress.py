"""What a drill waits for never keeps it from hearing that it is to end; and undoing is shared fairly among machines."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from labctl.drills import undo
from labctl.drills.aside import Aside, Heeding, Stopped, all_at_once
from labctl.drills.history import NAME, Recorder
from labctl.drills.progress import Progress, promise
from labctl.drills.ui import Silent
from labctl.runtime.clock import FakeClock, SystemClock
from labctl.runtime.errors import DeadlineExceeded, LabError
from labctl.runtime.loop import Stop

PATIENCE_S = 30.0


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def progress(tmp_path: Path) -> Iterator[Progress]:
    recorder = Recorder(tmp_path / NAME, SystemClock())
    found = Progress(recorder, SystemClock(), slowness=1.0)
    found.ui = Heard()
    yield found
    recorder.close()


@pytest.fixture
def hung() -> Iterator[threading.Event]:
    """What a hung call waits for."""
    event = threading.Event()
    yield event
    event.set()


def said(progress: Progress) -> list[str]:
    return cast(Heard, progress.ui).said


@pytest.mark.parametrize("how", [BrokenPipeError(), SystemExit(1)])
def test_where_nobody_reads_any_more_the_end_is_asked_for(progress: Progress, how: BaseException) -> None:
    class Unread(Silent):
        def show(self, entries: object) -> None:
            raise how

    progress.ui = Unread()
    progress.enter("steady")
    with pytest.raises(Stopped, match="nobody reads what it says"):
        progress.tick(())
    progress.enter("clean-up")


def test_what_hangs_is_left_to_itself_when_the_end_is_asked_for(progress: Progress, hung: threading.Event) -> None:
    begun = threading.Event()

    def hang() -> None:
        begun.set()
        hung.wait(PATIENCE_S)

    def ask() -> None:
        begun.wait(PATIENCE_S)
        progress.stop.set()

    threading.Thread(target=ask, daemon=True).start()
    with pytest.raises(Stopped):
        progress.attend(hang)
    assert not hung.is_set()
    assert progress.adrift
    assert len(said(progress)) == 1


def test_what_is_nearly_through_counts_and_the_next_wait_ends(progress: Progress) -> None:
    def nearly() -> str:
        progress.stop.set()
        threading.Event().wait(0.3)
        return "done"

    assert progress.attend(nearly) == "done"
    assert not progress.adrift
    with pytest.raises(Stopped):
        progress.tick(())
    progress.tick(())  # once: what follows has a short time of its own


def test_a_duty_goes_on_after_the_request_but_not_beyond_its_time(progress: Progress, hung: threading.Event) -> None:
    progress.stop.set()
    assert progress.attend(lambda: 7, may_stop=False, ending_s=PATIENCE_S) == 7
    with pytest.raises(DeadlineExceeded, match=r"within 0.2 s: delete x"):
        progress.attend(lambda: hung.wait(PATIENCE_S), ("delete x",), may_stop=False, ending_s=0.2)
    assert progress.adrift


def test_an_error_of_what_is_attended_is_raised_where_it_is_awaited(progress: Progress) -> None:
    def fail() -> None:
        raise LabError("no route to host")

    with pytest.raises(LabError, match="no route"):
        progress.attend(fail)


def test_nobody_sleeps_on_a_clock_that_heeds_the_end() -> None:
    stop, clock = Stop(), FakeClock()
    heeding = Heeding(clock, stop)
    assert heeding.monotonic_s() == clock.monotonic_s()
    heeding.sleep_s(0.0)
    stop.set()
    with pytest.raises(Stopped):
        heeding.sleep_s(PATIENCE_S)


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("steady", "stopping before any fault: what was deployed is removed, within 8 s"),
        ("observe", "the lab is healed first, within 120 s (power w1 on), and seen to be well, within 30 s"),
        ("converge", "stopping: what the drill deployed is removed, within 8 s"),
    ],
)
def test_the_promise_names_what_is_still_done_and_by_when(phase: str, words: str) -> None:
    told = promise(phase, ["power w1 on"], 2.0)
    assert words in told
    assert told.endswith("interrupt again to leave at once: a process of its own does the rest")


def test_all_are_asked_a_few_at_a_time_and_the_answers_keep_their_order() -> None:
    assert all_at_once(lambda number: number * 2, list(range(20)), most=3) == [number * 2 for number in range(20)]
    assert all_at_once(len, []) == []

    def odd(number: int) -> int:
        if number == 3:
            raise LabError("three")
        return number

    with pytest.raises(LabError, match="three"):
        all_at_once(odd, [1, 2, 3, 4])


def test_work_aside_does_not_keep_a_process_alive(hung: threading.Event) -> None:
    Aside(lambda: hung.wait(PATIENCE_S))
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "drill-aside")


@dataclass(frozen=True)
class Fails:
    """An undo that works after so many tries."""

    text: str
    times: int
    tried: list[str]

    def __hash__(self) -> int:
        return hash(self.text)

    def apply(self, target: Any, clock: Any) -> str:
        self.tried.append(self.text)
        if self.tried.count(self.text) <= self.times:
            raise LabError("no route to host")
        return f"{self.text}: done"


def test_one_machine_that_is_dead_takes_no_time_from_the_others_undo() -> None:
    tried: list[str] = []
    actions = tuple(Fails(text, times, tried) for text, times in (("first", 2), ("dead", 10**6), ("last", 0)))
    ok, said = undo.apply_all(cast(Any, actions), cast(Any, None), FakeClock(), deadline_s=10.0)
    assert not ok
    assert said == ("last: done", "first: done", "dead: failed: no route to host")
    assert tried[:4] == ["last", "dead", "first", "dead"]
