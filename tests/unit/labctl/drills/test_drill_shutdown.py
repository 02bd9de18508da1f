"""An orderly shutdown as a drill sees it: a history that went well passes, and each way to be wrong is caught."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from labctl.drills.expect_shutdown import ended_in_order, not_ready_first
from labctl.drills.faults_shutdown import CRITICAL, ORDINARY, Guests, ShutDown
from labctl.drills.findings import Case, Result
from labctl.drills.history import History
from labctl.drills.measures import measure
from labctl.drills.records import Entry, FaultBegan, HealBegan, NodeSeen, PodSeen, Record
from labctl.vm.provider import Power
from tests.unit.labctl.drills.drill_tales import SCENE, STARTED, ZERO, pod
from tests.unit.labctl.drills.test_drill_faults import Machines, Ticking, target

NAMES = ("web-a", ORDINARY, CRITICAL)


def said(at: float, ready: str = "False", reason: str = "KubeletNotReady") -> tuple[float, Record]:
    return at, NodeSeen(event="MODIFIED", rv="9", name="worker1", ready=ready, reason=reason)


def seen(at: float, name: str, **fields: object) -> tuple[float, PodSeen]:
    return at, msgspec.structs.replace(pod(name, "worker1"), ready=False, **fields)


def ends(name: str, at: float, *, why: str = "TerminationByKubelet") -> list[tuple[float, Record]]:
    return [seen(at - 0.3, name, disruption=why), seen(at, name, disruption=why, phase="Failed")]


def case(*more: tuple[float, Record], without: Sequence[str] = ()) -> Case:
    records: list[tuple[float, Record]] = [
        (-9, STARTED),
        (-8, SCENE),
        (-4, FaultBegan(fault="place an ordinary and a critical pod on worker1", nodes=())),
        (0, FaultBegan(fault="shut worker1 down in order", nodes=("worker1",))),
        (20, HealBegan(by="runner", why="the drill is through")),
    ]
    records += [(-3, pod(name, "worker1", ready=True)) for name in NAMES if name not in without]
    ordered = sorted([*records, *more], key=lambda pair: pair[0])
    history = History([Entry(ZERO + at, "2026-01-31T08:00:00.000000Z", what) for at, what in ordered])
    return Case(history, SCENE, measure(history, SCENE), {})


WELL = [*ends("web-a", 1.5), *ends(ORDINARY, 3.0), *ends(CRITICAL, 6.0)]


def test_a_good_goodbye_passes() -> None:
    good = case(said(0.2), *WELL)
    assert not_ready_first(good)[0] is Result.PASS
    assert ended_in_order(good)[0] is Result.PASS


def test_pods_that_end_before_the_node_says_so_are_caught() -> None:
    result, evidence = not_ready_first(case(said(2.0), *WELL))
    assert result is Result.FAIL
    assert "web-a was touched 0.80 s before" in evidence


def test_a_node_that_was_given_up_by_others_said_nothing_itself() -> None:
    assert not_ready_first(case(said(0.2, "Unknown", "NodeStatusUnknown"), *WELL))[0] is Result.FAIL
    assert not_ready_first(case(*WELL))[0] is Result.FAIL


def test_a_critical_pod_that_ends_before_others_is_caught() -> None:
    result, evidence = ended_in_order(case(said(0.2), *ends("web-a", 1.5), *ends(ORDINARY, 6.5), *ends(CRITICAL, 6.0)))
    assert result is Result.FAIL
    assert f"{CRITICAL} ended 0.50 s before {ORDINARY}" in evidence


def test_a_pod_that_was_cut_off_with_its_machine_is_caught() -> None:
    result, evidence = ended_in_order(case(said(0.2), *ends("web-a", 1.5), *ends(ORDINARY, 3.0)))
    assert result is Result.FAIL
    assert CRITICAL in evidence


def test_a_pod_that_others_ended_is_caught() -> None:
    told = ends("web-a", 1.5, why="DeletionByTaintManager")
    result, evidence = ended_in_order(case(said(0.2), *told, *ends(ORDINARY, 3.0), *ends(CRITICAL, 6.0)))
    assert result is Result.FAIL
    assert "web-a" in evidence


def test_without_evidence_nothing_passes() -> None:
    assert ended_in_order(case(said(0.2), *WELL, without=[CRITICAL]))[0] is Result.UNKNOWN
    assert not_ready_first(case(said(0.2)))[0] is Result.UNKNOWN


def test_a_machine_is_told_to_power_off_by_itself_and_powered_on_to_heal() -> None:
    machines, fault = Machines(), ShutDown(node="worker1")
    fault.inject(target(machines))
    assert machines.ran == [("worker1", "systemctl --no-block poweroff")]
    machines.off.add("worker1")
    for heal in fault.heals(target(machines)):
        heal.apply(target(machines), Ticking())  # type: ignore[arg-type]
    assert machines.power("worker1") is Power.RUNNING


def test_what_was_placed_is_removed() -> None:
    heals = Guests(node="worker1", namespace="default").heals(target(Machines()))
    assert {heal.text for heal in heals} == {f"delete pods/{name} in default" for name in (ORDINARY, CRITICAL)}
