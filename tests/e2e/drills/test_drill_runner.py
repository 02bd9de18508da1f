"""The runner, on a lab in memory: it refuses, arms, strikes, observes, heals and reports; and it survives mishaps."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from labctl.drills import history, lock, undo
from labctl.drills.actions import DeleteObject, PowerOn
from labctl.drills.aside import Stopped
from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.contract import Bound
from labctl.drills.faults import Lift, Pause, PowerOff
from labctl.drills.findings import Result
from labctl.drills.judge import judge
from labctl.drills.model import Report, Verdict
from labctl.drills.records import FaultBegan, HealBegan, HealEnded, Probed, Said
from labctl.drills.registry import catalog, drill_named
from labctl.drills.runner import heal, run
from labctl.drills.steady import NotSteady
from labctl.kube.fencing import CONDITION
from labctl.kube.resources import CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, NODES
from labctl.runtime.errors import LabError, UsageError
from labctl.runtime.loop import wait_for
from tests.e2e.drills.quickly import CLOCK, QUICK, At, healed, quick
from tests.unit.labctl.drills.drill_fakes import TINY, FakeLab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[FakeLab]:
    made = FakeLab(tmp_path / "drills")
    yield made
    made.close()


def broken(tmp_path: Path, *faults: str) -> FakeLab:
    return FakeLab(tmp_path / "drills", faults=faults)


@dataclass
class Passed:
    """A drill that went well, and all that it left."""

    lab: FakeLab
    report: Report
    folder: Path
    threads: set[str]


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Passed]:
    folder = tmp_path_factory.mktemp("passed")
    made = FakeLab(folder / "drills")
    report = run(DRILL, made, quick(report_dir=folder / "out"))
    yield Passed(made, report, folder / "out", {thread.name for thread in threading.enumerate()})
    made.close()


def test_a_cluster_that_keeps_the_contract_passes(passed: Passed) -> None:
    report = passed.report
    assert report.verdict is Verdict.PASS, report.reasons
    assert report.victims == ("worker1",)  # it runs two of the three replicas
    found = report.measures
    assert found.detected_s is not None
    assert found.serving_again_s is not None
    assert TINY.node_monitor_grace_s <= found.detected_s <= found.serving_again_s < 5
    assert found.requests_failed > 0
    assert passed.lab.power_calls == ["off worker1", "on worker1"]


def test_a_heal_that_is_through_before_the_next_request_is_still_tried(lab: FakeLab) -> None:
    report = run(DRILL, lab, quick(rate_per_s=0.5))  # a request every two seconds; the heal takes a tenth of one
    told = history.load(Path(report.run_dir) / history.NAME)
    healed_s = max(at_s for at_s, _ in told.of(HealEnded))
    assert [probe for _, probe in told.of(Probed) if probe.intended_s >= healed_s]
    assert report.invariants["C"].result is Result.PASS, report.invariants["C"]


def _fresh_again(*_: object) -> tuple[Bound, ...]:
    return (Bound(measure="fresh_again_s", title="No request fails any more", upper_s=60.0, awaited=False),)


def test_a_service_that_is_late_after_the_heal_is_waited_for_and_measured(lab: FakeLab) -> None:
    lab.lost_after_heal = 40  # at 20 a second
    report = run(replace(DRILL, bounds=_fresh_again), lab, QUICK)
    [judged] = report.contract
    assert judged.result == "pass"
    assert judged.measured_s is not None
    assert judged.measured_s > 0
    assert lab.lost_after_heal == 0


def test_a_service_that_never_comes_back_is_said_to_and_ends_the_drill(
    lab: FakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.drills.afterwards._OUTLAST_S", 0.3)
    lab.lost_after_heal = 10**6
    report = run(replace(DRILL, bounds=_fresh_again), lab, QUICK)
    assert report.verdict is Verdict.VIOLATED
    assert "No request fails any more: never (at most 60 s)" in report.reasons
    assert any(line.event == "not back after the heal: answers by 127.0.0.1" for line in report.timeline)


def test_a_drill_may_pause_undo_a_fault_midway_and_hold_on_before_it_heals(lab: FakeLab) -> None:
    cut = PowerOff(node="worker1")
    brief = replace(DRILL, faults=lambda _: (cut, Pause(0.2), Lift(cut)), bounds=lambda *_: (), holds_s=lambda _: 1.5)
    report = run(brief, lab, QUICK)
    assert report.verdict is Verdict.PASS, report.reasons
    assert lab.power_calls == ["off worker1", "on worker1"]  # the heal found it running
    told = history.load(Path(report.run_dir) / history.NAME)
    [(struck_s, _)], [(healed_s, _)] = list(told.of(FaultBegan)), list(told.of(HealBegan))
    [(lifted_s, _)] = [
        (at, said) for at, said in told.of(Said) if said.text.startswith("lifted: worker1 is powered on")
    ]
    assert struck_s + 0.2 <= lifted_s < healed_s
    assert healed_s >= struck_s + 1.5


def test_a_fault_that_cannot_be_undone_midway_ends_the_drill_and_stays_pending(tmp_path: Path) -> None:
    lab = broken(tmp_path, "no-boot")
    cut = PowerOff(node="worker1")
    stuck = replace(DRILL, faults=lambda _: (cut, Lift(cut)), bounds=lambda *_: ())
    report = run(stuck, lab, quick(heal_deadline_s=0.3, converge_deadline_s=0.3))
    assert report.verdict is Verdict.NOT_HEALED
    left = undo.load(lab.drills_dir)
    assert left is not None
    assert [action.text for action in left.heals] == ["power worker1 on"]
    lab.close()


def test_what_comes_only_with_the_heal_is_not_awaited_before(lab: FakeLab) -> None:
    def bounds(*_: object) -> tuple[Bound, ...]:
        return (Bound(measure="writes_again_s", title="Writes again", upper_s=20.0, awaited=False),)

    report = run(replace(DRILL, bounds=bounds), lab, QUICK)
    told = history.load(Path(report.run_dir) / history.NAME)
    [(struck_s, _)], [(healed_s, _)] = list(told.of(FaultBegan)), list(told.of(HealBegan))
    assert healed_s - struck_s < 15.0
    assert [one.result for one in report.contract] == ["pass"], report.contract


def test_a_drill_leaves_the_lab_as_it_was(passed: Passed) -> None:
    assert healed(passed.lab)
    assert passed.lab.api.names(CONFIG_MAPS) == []
    left = {name for name in passed.threads if name.startswith("drill-")}
    assert left <= {
        "drill-nodes",
        "drill-pods",
        "drill-endpointslices",
        "drill-leases",
        "drill-leaders",
        "drill-sampler",
    }


def test_the_report_is_written_where_it_was_asked_for(passed: Passed) -> None:
    written = json.loads((passed.folder / "report.json").read_text())
    assert written["verdict"] == "pass"
    assert set(written["invariants"]) == set("ABCDEF")
    assert all(set(line) == {"event", "t_s"} for line in written["timeline"])
    assert (passed.folder / "report.html").read_text().startswith("<!doctype html>")


def test_the_undo_is_on_disk_before_the_power_goes(passed: Passed) -> None:
    assert passed.lab.armed_before_power_off is True


def test_the_report_can_be_made_again_from_the_record_on_disk(passed: Passed) -> None:
    run_dir = passed.report.run_dir
    again = judge(history.load(Path(run_dir) / history.NAME), DRILL, TINY, run_dir=run_dir)
    assert msgspec.json.encode(again) == msgspec.json.encode(passed.report)


def test_a_node_asked_for_by_name_is_the_one_struck(lab: FakeLab) -> None:
    report = run(DRILL, lab, quick(nodes=("worker2",)))
    assert report.victims == ("worker2",)
    assert lab.power_calls == ["off worker2", "on worker2"]


def test_a_node_that_does_not_exist_is_refused_before_anything_is_done(lab: FakeLab) -> None:
    with pytest.raises(UsageError, match="worker9"):
        run(DRILL, lab, quick(nodes=("worker9",)))
    assert lab.power_calls == []
    assert list(lab.drills_dir.glob("2*")) == []


def test_without_a_steady_state_nothing_is_injected(lab: FakeLab) -> None:
    lab.api.change(NODES, "worker2", lambda node: node["status"]["conditions"][0].update(status="Unknown"))
    with pytest.raises(NotSteady, match="worker2 is not Ready"):
        run(DRILL, lab, quick(steady_deadline_s=0.5))
    assert lab.power_calls == []
    assert healed(lab)


def test_a_deployment_that_is_not_available_is_no_steady_state(lab: FakeLab) -> None:
    lab.api.change(DEPLOYMENTS, "default/web", lambda found: found["status"].update(availableReplicas=2))
    with pytest.raises(NotSteady, match="2 available"):
        run(DRILL, lab, quick(steady_deadline_s=0.5))


def test_a_service_that_does_not_answer_is_no_steady_state(lab: FakeLab) -> None:
    lab.server.shutdown()
    lab.server.server_close()
    with pytest.raises(NotSteady, match="requests failed"):
        run(DRILL, lab, quick(steady_deadline_s=1.0))
    assert lab.power_calls == []
    assert lab.api.names(CONFIG_MAPS) == []


def test_a_fault_that_does_not_take_is_not_injected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.drills.faults._CONFIRM_S", 0.3)
    lab = broken(tmp_path, "deaf-power")
    report = run(DRILL, lab, QUICK)
    assert report.verdict is Verdict.NOT_INJECTED
    assert "still answers" in report.reasons[0]
    assert healed(lab)
    lab.close()


def test_a_heal_that_fails_is_said_and_stays_pending_until_the_next_drill_heals(tmp_path: Path) -> None:
    lab = broken(tmp_path, "no-boot")
    report = run(DRILL, lab, quick(converge_deadline_s=0.3, heal_deadline_s=0.3))
    assert report.verdict is Verdict.NOT_HEALED
    assert "the hypervisor refuses" in report.reasons[0]
    assert undo.load(lab.drills_dir) is not None
    lab.faults.clear()
    ui = At("never", None)
    assert run(DRILL, lab, QUICK, ui).verdict is Verdict.PASS
    assert any("left something behind" in text for text in ui.said)
    lab.close()


def test_what_a_drill_left_can_be_healed_by_itself_and_twice(lab: FakeLab) -> None:
    left = undo.Pending(
        drill=DRILL.name,
        run_dir=str(lab.drills_dir / "gone"),
        runner_pid=1,
        reopen=lab.reopen,
        heal_by_s=0.0,
        heals=(PowerOn(node="worker1"),),
        cleanups=(DeleteObject(plural="configmaps", group="", namespace="default", name="nothing"),),
    )
    lab._set_power("worker1", "off")
    undo.save(lab.drills_dir, left)
    assert heal(lab).ok
    assert healed(lab)
    assert heal(lab).sentences == ()


def test_a_stale_endpoint_is_a_violation(tmp_path: Path) -> None:
    lab = FakeLab(tmp_path / "drills", faults=["stale-endpoint"], slowness=0.3)
    report = run(DRILL, lab, QUICK)
    assert report.verdict is Verdict.VIOLATED
    broken_bounds = {one.measure for one in report.contract if one.result == "fail"}
    assert {"endpoint_removed_s", "serving_again_s"} <= broken_bounds
    assert healed(lab)
    lab.close()


def test_a_node_given_up_too_soon_is_a_violation(tmp_path: Path) -> None:
    lab = FakeLab(
        tmp_path / "drills", faults=["early-detection"], profile=msgspec.structs.replace(TINY, node_monitor_grace_s=1.5)
    )
    report = run(DRILL, lab, QUICK)
    assert report.verdict is Verdict.VIOLATED
    assert "silent_s" in {one.measure for one in report.contract if one.result == "fail"}
    lab.close()


def test_an_orphan_container_after_the_heal_is_found(tmp_path: Path) -> None:
    lab = broken(tmp_path, "orphan")
    report = run(DRILL, lab, quick(converge_deadline_s=1.5))
    assert report.verdict is Verdict.NOT_HEALED
    assert report.invariants["D"].result is Result.FAIL
    assert report.invariants["E"].result is Result.FAIL
    assert "orphan container" in report.invariants["E"].evidence
    lab.close()


def test_a_watch_that_skips_events_is_found(lab: FakeLab) -> None:
    lab.api.lose_events = True
    report = run(DRILL, lab, QUICK)
    assert report.invariants["F"].result is Result.FAIL
    assert "never received" in report.invariants["F"].evidence


@pytest.mark.parametrize("phase", ["steady", "arm"])
def test_ctrl_c_before_the_fault_ends_the_drill_and_touches_nothing(lab: FakeLab, phase: str) -> None:
    ui = At(phase, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped, match="before any fault"):
        run(DRILL, lab, QUICK, ui)
    assert lab.power_calls == []
    assert healed(lab)
    assert lab.api.names(CONFIG_MAPS) == []


@pytest.mark.parametrize("phase", ["fault", "observe"])
def test_ctrl_c_after_the_fault_heals_and_says_so(lab: FakeLab, phase: str) -> None:
    before = signal.getsignal(signal.SIGINT)
    ui = At(phase, lambda: os.kill(os.getpid(), signal.SIGINT) if lab.power_calls or phase == "observe" else None)
    if phase == "fault":
        original = lab.power_off

        def cut(name: str) -> None:
            original(name)
            os.kill(os.getpid(), signal.SIGINT)

        lab.power_off = cut  # type: ignore[method-assign]
    report = run(DRILL, lab, QUICK, ui)
    assert report.verdict is Verdict.UNKNOWN
    assert report.reasons[0] == "interrupted: Ctrl-C"
    assert healed(lab)
    assert any("healed first" in text for text in ui.said)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_machine_that_the_cluster_fences_while_it_is_healed_is_powered_on_again(lab: FakeLab) -> None:
    def fence() -> None:
        def back() -> bool:
            conditions = lab.api.get(NODES, "worker1")["status"]["conditions"]
            return bool(conditions[0]["status"] == "True")

        wait_for(back, what="worker1 to be Ready", deadline_s=10.0, clock=CLOCK)
        lab._set_power("worker1", "off")
        fenced = [{"type": "Ready", "status": "Unknown"}, {"type": CONDITION, "status": "True"}]
        lab.api.change(NODES, "worker1", lambda node: node["status"].update(conditions=fenced))

    report = run(DRILL, lab, QUICK, At("converge", fence))
    assert report.verdict is not Verdict.NOT_HEALED, report.reasons
    assert report.invariants["E"].result is Result.PASS, report.invariants["E"]
    assert lab.power_calls == ["off worker1", "on worker1", "on worker1"]
    assert healed(lab)


def test_our_own_mistake_after_the_fault_still_heals(lab: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistake(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("labctl.drills.session.Session._observe", mistake)
    with pytest.raises(RuntimeError, match="a bug"):
        run(DRILL, lab, QUICK)
    assert healed(lab)


def test_two_drills_never_run_at_once_on_a_lab(lab: FakeLab) -> None:
    seen: list[str] = []

    def second() -> None:
        with pytest.raises(lock.Busy, match="already running") as caught:
            run(DRILL, lab, QUICK)
        seen.append(str(caught.value))

    assert run(DRILL, lab, QUICK, At("observe", second)).verdict is Verdict.PASS
    assert "worker-power-loss" in seen[0]


def test_a_lab_without_a_workload_gets_one_that_is_removed_afterwards(tmp_path: Path) -> None:
    lab = FakeLab(tmp_path / "drills", workload=False)
    with pytest.raises((NotSteady, LabError)):  # nothing here schedules pods: it never gets available
        run(DRILL, lab, quick(steady_deadline_s=0.3))
    assert lab.api.names(NAMESPACES) == []
    assert undo.load(lab.drills_dir) is None
    lab.close()


def test_no_fault_is_injected_where_the_undo_cannot_be_written(lab: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    real = undo.save

    def full(folder: Path, pending: undo.Pending) -> None:
        if pending.heals:
            raise LabError("undo.json: No space left on device")
        real(folder, pending)

    monkeypatch.setattr("labctl.drills.undo.save", full)
    try:
        report: Report | None = run(DRILL, lab, QUICK)
    except LabError:
        report = None
    assert report is None or report.verdict is Verdict.NOT_INJECTED
    assert "off worker1" not in lab.power_calls


def test_no_fault_is_injected_without_a_dead_man(lab: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.drills.deadman.sys.executable", "/bin/false")
    with pytest.raises(LabError, match="did not start"):
        run(DRILL, lab, QUICK)
    assert lab.power_calls == []


def test_a_full_disk_is_no_pass_and_the_lab_is_healed(lab: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def full(file: int, data: bytes) -> int:
        if b'"kind":"heal-began"' in data:
            raise OSError(28, "No space left on device")
        return real(file, data)

    monkeypatch.setattr("labctl.drills.history.os.write", full)
    report = run(DRILL, lab, QUICK)
    assert report.verdict is Verdict.UNKNOWN
    assert "No space left" in report.reasons[0]
    assert healed(lab)


def test_a_drill_that_is_not_there_is_guessed_at() -> None:
    with pytest.raises(UsageError) as caught:
        drill_named("worker-power-lost")
    assert "did you mean 'worker-power-loss'" in caught.value.hint


@pytest.mark.parametrize("name", sorted(catalog()))
def test_every_drill_tells_what_it_shows_and_does(name: str) -> None:
    drill = catalog()[name]
    assert drill.title
    assert len(drill.shows) > 40
    assert len(drill.steps) >= 3
