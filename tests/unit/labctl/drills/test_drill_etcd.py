"""A full etcd in a drill: the alarm is really in force, and writes are refused in time and in so many words."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from labctl.drills.catalog.etcd_trouble import DRILL
from labctl.drills.expect_etcd import refused_cleanly
from labctl.drills.faults import Together
from labctl.drills.faults_etcd import _ENV, NoSpace, TightQuota
from labctl.drills.findings import Case, Result
from labctl.drills.measures import measure
from labctl.drills.records import FaultEnded, Record, Said, Wrote
from labctl.runtime.shell import Output
from tests.unit.labctl.drills.drill_tales import SCENE, ZERO, Tale

FULL = "Error: etcdserver: mvcc: database space exceeded"


@dataclass
class Etcd:
    """A master whose etcd answers a `put` with these words (none: it takes it), and tells of this alarm."""

    words: str = ""
    alarm: str = "memberID:1 alarm:NOSPACE"
    environment: str = ""
    ran: list[str] = field(default_factory=list)

    def unit(self, component: str) -> str:
        return f"{component}.service"

    def run(self, name: str, argv: Sequence[str], *, timeout_s: float = 30.0) -> Output:
        self.ran.append(argv[-1])
        if "show --property EnvironmentFiles" in argv[-1]:
            return Output(0, self.environment, "")
        if "alarm list" in argv[-1]:
            return Output(0, f"5\n{self.alarm}", "")
        failed = " put " in argv[-1] and self.words
        return Output(1 if failed else 0, self.words if failed else "", "")


def took(etcd: Any) -> tuple[bool, str]:
    return NoSpace(node="master1").took(etcd, None)  # type: ignore[arg-type]


def test_an_etcd_is_full_when_it_raised_its_alarm_and_refuses_a_write_for_want_of_room() -> None:
    assert took(Etcd(FULL)) == (True, f"after 5 MiB more: the etcd of master1: master1: exit code 1: {FULL}")
    assert took(Etcd("Error: context deadline exceeded"))[0] is False
    assert took(Etcd(FULL, alarm=""))[0] is False
    assert took(Etcd()) == (False, "the etcd of master1 still takes what is written, after 5 MiB more")


def test_a_tight_quota_took_when_the_service_manager_will_start_etcd_so() -> None:
    seen = f"EnvironmentFiles={_ENV} (ignore_errors=no)\nLABCTL_DRILL_QUOTA=1\nETCD_QUOTA_BACKEND_BYTES=6291456"
    for environment, expected in ((seen, True), ("EnvironmentFiles=/etc/labctl/etcd.env", False)):
        etcd: Any = Etcd(environment=environment)
        assert TightQuota(node="master1").took(etcd, None)[0] is expected  # type: ignore[arg-type]


SHELL_ETCDCTL = """\
etcdctl() {
  echo "$*" >> "$TOLD"
  case "$*" in
    *" status "*) echo '[{"Status":{"header":{"member_id":7,"revision":42},"dbSize":1000,"dbSizeInUse":900}}]';;
    *" del "*) cat "$FILLED";;
    *" put "*) n=$(cat "$FILLED"); [ "$n" -lt 3 ] || return 1; echo $((n + 1)) > "$FILLED";;
  esac
}
systemctl() { echo "systemctl $*" >> "$TOLD"; }
"""


class Shell(Etcd):
    """Runs the scripts for real, with an etcdctl and a systemctl that only take notes; a quota of three values."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        (folder / "filled").write_text("0\n")

    def run(self, name: str, argv: Sequence[str], *, timeout_s: float = 30.0) -> Output:
        script = SHELL_ETCDCTL + argv[-1].replace("/run/", f"{self.folder}/run/")
        (self.folder / "run").mkdir(exist_ok=True)
        env = {"PATH": os.environ["PATH"], "TOLD": f"{self.folder}/told", "FILLED": f"{self.folder}/filled"}
        done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=False)
        return Output(done.returncode, done.stdout, done.stderr)

    def undo(self, fault: Any) -> list[str]:
        """What the undo tells etcdctl and systemctl; it must succeed."""
        (self.folder / "told").unlink(missing_ok=True)
        [action] = fault.heals(self)
        assert action.script
        assert self.run("master1", ["sh", "-c", action.script]).code == 0
        return [line.partition("command-timeout=10s ")[2] or line for line in self.told()]

    def told(self) -> list[str]:
        return (self.folder / "told").read_text().splitlines()


def test_the_quota_is_a_little_more_than_etcd_holds_and_is_forgotten_again(tmp_path: Path) -> None:
    shell: Any = Shell(tmp_path)
    tight = TightQuota(node="master1")
    tight.inject(shell)
    drop_in = tmp_path / "run/systemd/system/etcd.service.d/zz-labctl-drill.conf"
    assert drop_in.read_text() == f"[Service]\nEnvironmentFile={tmp_path}{_ENV}\n"
    quota = f"LABCTL_DRILL_QUOTA=1\nETCD_QUOTA_BACKEND_BYTES={1000 + (4 << 20)}\n"
    assert (tmp_path / _ENV.removeprefix("/")).read_text() == quota
    assert "systemctl daemon-reload" in shell.undo(tight)
    assert not drop_in.parent.exists()
    assert not (tmp_path / _ENV.removeprefix("/")).exists()
    assert "systemctl daemon-reload" not in shell.undo(tight)


def test_etcd_is_filled_until_it_refuses_and_made_room_in_as_people_do(tmp_path: Path) -> None:
    shell: Any = Shell(tmp_path)
    full = NoSpace(node="master1")
    full.inject(shell)
    assert sum(" put " in line for line in shell.told()) == 4  # the last one is refused
    assert not list((tmp_path / "run").iterdir())
    steps = ["del --prefix labctl-drill-fill/", "endpoint status -w json", "compaction --physical 42", "defrag"]
    assert shell.undo(full) == [*steps, "alarm disarm", "alarm list"]
    (tmp_path / "filled").write_text("0\n")
    assert shell.undo(full) == [steps[0], "alarm disarm", "alarm list"]


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
    kinds = [type(step) for step in DRILL.faults(quick)]
    assert kinds.index(TightQuota) < kinds.index(Together) < kinds.index(NoSpace)  # in force from the kill on
    assert not any(isinstance(step, NoSpace) for step in DRILL.faults(slow))
    assert judged()[0] is Result.NOT_APPLICABLE


def test_a_refusal_that_takes_too_long_is_not_clean() -> None:
    late = (12.0, Wrote(key="x1", acknowledged=False, error=FULL, began_s=ZERO + FROM, after=""))
    assert judged(WINDOW[0], (13.0, Said(text="lifted")), late)[0] is Result.FAIL
    assert judged(WINDOW[0], wrote("x1", 3.5))[0] is Result.UNKNOWN
