"""A full etcd in a drill: the alarm is really in force, and writes are refused in time and in so many words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from labctl.drills.catalog.etcd_trouble import DRILL
from labctl.drills.expect_etcd import refused_cleanly
from labctl.drills.faults_etcd import NoSpace
from labctl.drills.findings import Case, Result
from labctl.drills.measures import measure
from labctl.drills.records import FaultEnded, Record, Said, Wrote
from labctl.runtime.shell import Output
from tests.unit.labctl.drills.drill_tales import SCENE, ZERO, Tale

FULL = "Error: etcdserver: mvcc: database space exceeded"


@dataclass
class Etcd:
    """A master whose etcd answers a `put` with these words; none: it takes it."""

    words: str = ""
    ran: list[str] = field(default_factory=list)

    def run(self, name: str, argv: Sequence[str], *, timeout_s: float = 30.0) -> Output:
        self.ran.append(argv[-1])
        failed = " put " in argv[-1] and self.words
        return Output(1 if failed else 0, self.words if failed else "", "")


def took(etcd: Any) -> tuple[bool, str]:
    return NoSpace(node="master1").took(etcd, None)  # type: ignore[arg-type]


def test_an_alarm_took_when_etcd_refuses_a_write_for_want_of_room() -> None:
    assert took(Etcd(FULL)) == (True, f"the etcd of master1: master1: exit code 1: {FULL}")
    assert took(Etcd("Error: context deadline exceeded"))[0] is False


def test_an_alarm_that_is_not_in_force_leaves_no_key_behind() -> None:
    etcd = Etcd()
    assert took(etcd) == (False, "the etcd of master1 still takes what is written")
    assert " del " in etcd.ran[-1]


def wrote(key: str, began: float, *, error: str = FULL) -> tuple[float, Record]:
    return began + 0.1, Wrote(key=key, acknowledged=not error, error=error, began_s=ZERO + began, after="")


FROM, TO = 3.0, 5.5
WINDOW: tuple[tuple[float, Record], ...] = (
    (FROM, FaultEnded(fault="raise the alarm NOSPACE", took=True, evidence="")),
    (TO, Said(text="lifted: disarmed")),
)


def judged(*more: tuple[float, Record]) -> tuple[Result, str]:
    history = Tale(more=list(more)).tell()
    return refused_cleanly(Case(history, SCENE, measure(history, SCENE), {}))


def test_writes_that_are_refused_with_the_reason_pass_and_the_first_after_the_alarm_may_be_kept() -> None:
    result, words = judged(*WINDOW, wrote("x1", 3.5), wrote("x2", 4.5), wrote("x3", 5.3, error=""))
    assert result is Result.PASS, words
    assert "2 writes were refused" in words


@pytest.mark.parametrize(
    ("more", "result"),
    [
        ((wrote("x1", 3.5, error=""), wrote("x2", 4.5)), Result.FAIL),  # acknowledged, and nothing was there to keep it
        ((wrote("x1", 2.5), wrote("x2", 6.0)), Result.UNKNOWN),  # before and after
        ((wrote("x1", 3.5, error="timed out"),), Result.UNKNOWN),
    ],
)
def test_what_is_acknowledged_without_room_is_found_and_without_evidence_nothing_is_said(
    more: tuple[tuple[float, Record], ...], result: Result
) -> None:
    assert judged(*WINDOW, *more)[0] is result


def test_machines_that_are_too_slow_for_it_are_spared_and_that_is_said() -> None:
    slow, quick = (msgspec.structs.replace(SCENE, masters=("master1",), slowness=factor) for factor in (3.0, 1.0))
    assert sum(isinstance(step, NoSpace) for step in DRILL.faults(quick)) == 1
    assert not any(isinstance(step, NoSpace) for step in DRILL.faults(slow))
    assert judged()[0] is Result.NOT_APPLICABLE


def test_a_refusal_that_takes_too_long_is_not_clean() -> None:
    late = (12.0, Wrote(key="x1", acknowledged=False, error=FULL, began_s=ZERO + FROM, after=""))
    assert judged(WINDOW[0], (13.0, Said(text="lifted")), late)[0] is Result.FAIL
    assert judged(WINDOW[0], wrote("x1", 3.5))[0] is Result.UNKNOWN
