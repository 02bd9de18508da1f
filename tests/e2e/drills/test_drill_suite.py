"""Dry runs and suites, on a lab in memory: what is planned, in which order things run, and what a failure ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from labctl.drills import history, undo
from labctl.drills.actions import PowerOn
from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.judge import judge
from labctl.drills.model import Drill, Options, Verdict
from labctl.drills.plan import propose
from labctl.drills.records import Entry, PhaseBegan
from labctl.drills.registry import drill_from, drill_of_run
from labctl.drills.runner import run
from labctl.drills.steady import NotSteady
from labctl.drills.suite import CRASHED, REFUSED, SKIPPED, ordered, run_suite
from labctl.drills.ui import Silent, Ui
from labctl.kube.errors import Unavailable
from labctl.kube.resources import CONFIG_MAPS, NODES
from labctl.runtime.errors import LabError, UsageError
from tests.e2e.drills.quickly import QUICK, healed
from tests.unit.labctl.drills.drill_fakes import TINY, FakeLab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[FakeLab]:
    made = FakeLab(tmp_path / "drills")
    yield made
    made.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a file system of its own of so many KiB."""
    mounted: list[Path] = []

    def mount(kib: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)], check=True)
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


# -- dry runs ---------------------------------------------------------------------------------------------------------


def test_a_dry_run_tells_everything_and_touches_nothing(lab: FakeLab) -> None:
    before = sorted(lab.drills_dir.iterdir())
    plan = propose(DRILL, lab, QUICK)
    assert plan.exit_code == 0
    assert plan.blocked == ()
    assert plan.victims == ("worker1",)  # it runs two of the three replicas
    assert [(strike.fault, strike.undo) for strike in plan.faults] == [
        ("cut the power of worker1", ("power worker1 on",))
    ]
    assert {bound.measure for bound in plan.bounds} >= {"detected_s", "serving_again_s"}
    assert set(plan.checks) == set("ABCDEF")
    assert "worker2" in plan.load
    assert lab.power_calls == []
    assert lab.api.names(CONFIG_MAPS) == []
    assert sorted(lab.drills_dir.iterdir()) == before


def test_a_dry_run_of_a_lab_that_is_not_steady_says_why_it_would_be_refused(lab: FakeLab) -> None:
    lab.api.change(NODES, "worker2", lambda node: node["status"]["conditions"][0].update(status="Unknown"))
    left = undo.Pending(
        drill="other", run_dir="/gone", runner_pid=1, reopen=lab.reopen, heal_by_s=0.0,
        heals=(PowerOn(node="worker2"),),
    )  # fmt: skip
    undo.save(lab.drills_dir, left)
    plan = propose(DRILL, lab, QUICK)
    assert plan.exit_code == 1
    assert plan.blocked[0] == "an earlier drill (other) is not undone: power worker2 on"
    assert "worker2 is not Ready" in plan.blocked[1]


def test_a_dry_run_without_a_workload_says_that_one_would_be_made(tmp_path: Path) -> None:
    lab = FakeLab(tmp_path / "drills", workload=False)
    plan = propose(DRILL, lab, QUICK)
    assert "would be made" in plan.workload
    assert "delete namespaces/labctl-drill" in plan.cleanups
    assert plan.blocked == ()
    lab.close()


def test_a_dry_run_refuses_a_node_that_does_not_exist(lab: FakeLab) -> None:
    with pytest.raises(UsageError, match="worker9"):
        propose(DRILL, lab, replace(QUICK, nodes=("worker9",)))


@pytest.mark.parametrize("act", [run, propose])
def test_a_lab_that_is_down_is_said_to_be_down(
    lab: FakeLab, monkeypatch: pytest.MonkeyPatch, act: Callable[[Drill, FakeLab, Options], object]
) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise Unavailable("GET /api/v1/nodes: the API server does not answer")

    monkeypatch.setattr(lab.api, "list", nobody)
    with pytest.raises(NotSteady, match="is down") as caught:
        act(DRILL, lab, QUICK)
    assert "labctl up" in caught.value.hint
    assert lab.power_calls == []


# -- suites -----------------------------------------------------------------------------------------------------------


def named(name: str, **changes: object) -> Drill:
    return replace(DRILL, name=name, **changes)  # type: ignore[arg-type]


def test_the_seed_decides_the_order_whatever_order_the_drills_are_named_in() -> None:
    drills = [named(f"d{number}") for number in range(8)]
    assert ordered(drills, 7) == ordered(drills[::-1], 7)
    assert len({tuple(drill.name for drill in ordered(drills, seed)) for seed in range(5)}) > 1
    assert {drill.name for drill in ordered(drills, 7)} == {drill.name for drill in drills}


def test_a_suite_goes_on_after_each_kind_of_failure(lab: FakeLab, tmp_path: Path) -> None:
    def mistake(_: object) -> tuple[()]:
        raise RuntimeError("a bug")

    def nobody(*_: object) -> tuple[str, ...]:
        raise UsageError("this drill needs nine workers")

    drills = [
        named("bad", faults=mistake),
        named("elsewhere", impossible_on={"fake": "no such fault here"}),
        named("good"),
        named("picky", choose=nobody),
    ]
    folder = tmp_path / "out"
    suite, reports = run_suite(drills, lab, replace(QUICK, report_dir=folder), seed=3)
    found = {one.drill: one for one in suite.ran}
    assert {name: one.outcome for name, one in found.items()} == {
        "bad": CRASHED, "elsewhere": SKIPPED, "good": Verdict.PASS.value, "picky": REFUSED,
    }  # fmt: skip
    assert found["elsewhere"].reasons == ("no such fault here",)
    assert "nine workers" in found["picky"].reasons[0]
    assert (suite.exit_code, suite.left) == (1, ())
    assert [report.drill for report in reports] == ["good"]
    assert (folder / found["good"].folder / "report.html").exists()
    written = json.loads((folder / "suite.json").read_text())
    assert [one["drill"] for one in written["ran"]] == [drill.name for drill in ordered(drills, 3)]
    assert healed(lab)


def test_a_suite_where_all_that_can_run_pass_is_a_success(lab: FakeLab) -> None:
    suite, _ = run_suite([named("good"), named("no", impossible_on={"fake": "why"})], lab, QUICK, seed=1)
    assert suite.exit_code == 0


def test_a_suite_in_which_nothing_can_run_is_no_success(lab: FakeLab) -> None:
    suite, _ = run_suite([named("no", impossible_on={"fake": "why"})], lab, QUICK, seed=1)
    assert suite.exit_code == 1


def test_ctrl_c_heals_the_drill_that_runs_and_ends_the_suite(lab: FakeLab) -> None:
    class Interrupt(Silent):
        def show(self, entries: Sequence[Entry]) -> None:
            if any(isinstance(entry.what, PhaseBegan) and entry.what.name == "observe" for entry in entries):
                os.kill(os.getpid(), signal.SIGINT)

    @contextmanager
    def watch() -> Iterator[Ui]:
        yield Interrupt()

    suite, reports = run_suite([named("a"), named("b")], lab, QUICK, seed=1, watch=watch)
    assert len(suite.ran) == len(suite.left) == 1
    assert suite.exit_code == 130
    assert reports[0].verdict is Verdict.UNKNOWN
    assert healed(lab)


def test_a_full_disk_under_the_report_is_said_after_the_heal(lab: FakeLab, small_disk: Callable[[int], Path]) -> None:
    with pytest.raises(LabError, match="No space left") as caught:
        run(DRILL, lab, replace(QUICK, report_dir=small_disk(8) / "out"))
    assert "the verdict was: pass" in caught.value.hint
    assert lab.power_calls == ["off worker1", "on worker1"]
    assert healed(lab)


def test_a_disk_that_fills_up_during_the_fault_is_no_pass_and_the_lab_is_healed(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(512)

    class OnDisk(FakeLab):
        @property
        def drills_dir(self) -> Path:
            return disk

    class Fill(Silent):
        def show(self, entries: Sequence[Entry]) -> None:
            if any(isinstance(entry.what, PhaseBegan) and entry.what.name == "observe" for entry in entries):
                with open(disk / "junk", "wb", buffering=0) as junk, contextlib.suppress(OSError):
                    while True:
                        junk.write(bytes(1024))

    lab = OnDisk(tmp_path / "drills")
    with pytest.raises(LabError, match="No space left") as caught:
        run(DRILL, lab, QUICK, Fill())
    assert "the verdict was: unknown" in caught.value.hint
    assert lab.power_calls == ["off worker1", "on worker1"]
    lab.close()


# -- drills from files ------------------------------------------------------------------------------------------------

FILE = """
name: mine
victims: {names: [worker2]}
contract: silent-node
load: {rate_per_s: 30, path: /healthz, writes_per_s: 10}
steps:
  - do: one-of
    steps:
      - {do: power-off, node: $victim}
"""


def test_a_drill_from_a_file_runs_as_one_in_python(lab: FakeLab, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE)
    drill = drill_from(path)
    assert propose(drill, lab, QUICK).load.startswith("30 requests a second for /healthz to worker1")
    report = run(drill, lab, QUICK)
    assert report.verdict is Verdict.PASS, report.reasons
    assert (report.drill, report.victims) == ("mine", ("worker2",))
    assert lab.power_calls == ["off worker2", "on worker2"]
    kept = Path(report.run_dir)
    again = judge(history.load(kept / history.NAME), drill_of_run(kept, "mine"), TINY, run_dir=str(kept))
    assert msgspec.json.encode(again) == msgspec.json.encode(report)


def test_a_drill_from_a_file_judges_by_its_own_bounds(lab: FakeLab, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE + "expect: {detected_s: {at_least: 30, at_most: 60}}\n")
    report = run(drill_from(path), lab, QUICK)
    assert report.verdict is Verdict.VIOLATED
    assert {one.measure for one in report.contract if one.result == "fail"} == {"detected_s"}
    assert healed(lab)
