"""What particular drills expect: right histories pass, and each way to be wrong is caught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest

from labctl.drills import expect, expect_eviction
from labctl.drills.contract import unbroken
from labctl.drills.findings import Case, Result, Said
from labctl.drills.history import History
from labctl.drills.measures import measure
from labctl.drills.records import (
    Container,
    Counted,
    Entry,
    FaultBegan,
    FaultEnded,
    HealBegan,
    HealEnded,
    LeaseSeen,
    NodeSeen,
    Probed,
    Record,
    Sampled,
    StreamLost,
    StreamOpened,
    Wrote,
)
from tests.unit.labctl.drills.drill_tales import (
    SCENE,
    STARTED,
    ZERO,
    Tale,
    container,
    inspected,
    node_tainted,
    pod,
    slices,
)

HEALED_S = 13.0
CUT = SCENE.victims[0]
WORKED = msgspec.structs.replace(SCENE, machines={"worker1": "10.0.0.20", "worker2": "10.0.0.21"})
HOMES = (("web-a", "worker1"), ("web-b", "worker1"), ("web-c", "worker2"))


def told(*more: tuple[float, Record], without: Sequence[type] = ()) -> Case:
    """A drill in which nothing happened to the workload, and what a test adds to it."""
    records: list[tuple[float, Record]] = [
        (-9, STARTED),
        (-8, WORKED),
        (0, FaultBegan(fault="kill -9 the containerd of worker1", nodes=("worker1",))),
        (8, HealEnded(ok=True, evidence="")),
    ]
    records += [(-8, pod(name, node, event="LISTED", ready=True)) for name, node in HOMES]
    records += [(-8, NodeSeen(event="LISTED", rv="9", name=name, ready="True")) for name in SCENE.nodes]
    records += [(at, LeaseSeen(event="MODIFIED", rv="9", name="worker1")) for at in (-0.5, 0.5, 1.5, 2.5)]
    records += [(-1, looked("steady")), (9, looked("healed"))]
    records = [(at, what) for at, what in records if not isinstance(what, tuple(without))]
    return case([*records, *more])


def looked(moment: str, *, ids: str = "", names: str = "abc") -> Record:
    """The workload at home; `ids` goes into the containers' names, `names` are the pods'."""
    homes = {f"web-{letter}": node for letter, (_, node) in zip(names, HOMES, strict=True)}
    machines = [
        Counted(
            node=node, containers=tuple(container(name, id=f"{ids}{name}") for name, at in homes.items() if at == node)
        )
        for node in SCENE.nodes
    ]
    found = inspected(moment, "worker1", "worker1", "worker2")
    pods = tuple(pod(name, node, event="NOW", ready=True) for name, node in homes.items())
    return msgspec.structs.replace(found, machines=tuple(machines), pods=pods)


def case(records: Sequence[tuple[float, Record]]) -> Case:
    ordered = sorted(records, key=lambda pair: pair[0])
    history = History([Entry(ZERO + at, "2026-01-31T08:00:00.000000Z", what) for at, what in ordered])
    return Case(history, WORKED, measure(history, WORKED), {"error_window_s": unbroken(WORKED)})


def tale(bent: Tale) -> Case:
    """The tale of a node that was given up, as one that stayed within this host's reach."""
    history = bent.tell()
    return Case(history, SCENE, measure(history, SCENE), {})


def running(*names: str) -> Record:
    return Sampled(machines=(Counted(node="worker1", containers=tuple(container(name) for name in names)),))


CALM = [expect.no_eviction, expect.nodes_ready, expect.same_pods, expect.same_containers]


@pytest.mark.parametrize("check", CALM)
def test_a_calm_history_passes(check: object) -> None:
    assert check(told())[0] is Result.PASS  # type: ignore[operator]


@pytest.mark.parametrize("check", CALM)
def test_without_evidence_nothing_passes(check: object) -> None:
    assert check(case([(-9, STARTED), (-8, WORKED)]))[0] is Result.UNKNOWN  # type: ignore[operator]


def failed(said: Said, *words: str) -> None:
    result, evidence = said
    assert result is Result.FAIL, evidence
    for word in words:
        assert word in evidence


def test_an_eviction_is_caught_by_its_condition_its_deletion_or_its_end() -> None:
    condemned = msgspec.structs.replace(pod("web-a", "worker1", ready=True), disruption="DeletionByTaintManager")
    for what in (condemned, pod("web-a", "worker1", deleting=True), pod("web-a", "worker1", event="DELETED")):
        failed(expect.no_eviction(told((3.0, what))), "web-a", "3.00 s")


def test_an_eviction_before_the_fault_is_none() -> None:
    assert expect.no_eviction(told((-0.5, pod("web-z", "worker2", deleting=True))))[0] is Result.PASS


def test_a_node_taken_for_dead_is_caught_by_its_condition_or_its_taint() -> None:
    unknown = NodeSeen(event="MODIFIED", rv="9", name="worker2", ready="Unknown", reason="NodeStatusUnknown")
    failed(expect.nodes_ready(told((2.0, unknown))), "worker2", "Unknown")
    tainted = msgspec.structs.replace(node_tainted("9"), ready="True")
    failed(expect.nodes_ready(told((2.0, tainted))), "worker1", "unreachable")


def test_a_node_given_up_after_its_grace_is_no_fault_of_the_clusters() -> None:
    late = LeaseSeen(event="MODIFIED", rv="9", name="worker1")
    seen = told((3.0, pod("web-a", "worker1", deleting=True)), (9.0, late))  # silent from 2.5 to 9.0
    result, evidence = expect.no_eviction(seen)
    assert result is Result.UNKNOWN
    assert "silent for 6.50 s" in evidence


def test_replaced_pods_are_not_the_same() -> None:
    failed(expect.same_pods(told((10, looked("healed", names="abz")))), "1 pods are gone, 1 are new")


def test_a_restart_without_need_is_caught() -> None:
    failed(expect.same_containers(told((10, looked("healed", ids="new-")))), "web-a, web-b, web-c")


def test_a_restart_in_place_needs_a_new_container_of_the_same_pod() -> None:
    assert expect.restarted_in_place(told((10, looked("healed", ids="new-"))))[0] is Result.PASS
    failed(expect.restarted_in_place(told()), "still its old container")
    failed(expect.restarted_in_place(told((10, looked("healed", names="xyc")))), "not running again")


def test_a_given_up_pod_may_run_on_until_the_heal_but_not_long_after() -> None:
    assert expect.ends_after_heal(tale(Tale(more=[(9.0, running("web-a", "web-b"))])))[0] is Result.PASS
    late = [(HEALED_S + 60.0, running("web-a"))]
    failed(expect.ends_after_heal(tale(Tale(more=[*late], end=80.0))), "60.0 s of them after the heal")


def test_a_zombie_that_revives_what_was_given_up_is_caught() -> None:
    assert expect.no_stale_status(tale(_renewed()))[0] is Result.PASS
    failed(expect.no_stale_status(tale(_renewed((13.5, pod("web-a", "worker1", rv="", ready=True))))), "no longer term")
    again = slices("", "MODIFIED", ("web-a", "worker1"), ("web-c", "worker2"))
    failed(expect.no_stale_status(tale(_renewed((13.5, again)))), "web-a was a ready endpoint again")


def test_a_node_that_is_ready_again_without_a_heartbeat_is_caught() -> None:
    failed(expect.no_stale_status(tale(Tale())), "its lease never moved")


def _renewed(*more: tuple[float, Record]) -> Tale:
    return Tale(more=[(14.0, LeaseSeen(event="MODIFIED", rv="", name="worker1")), *more])


def test_only_what_fails_by_the_other_nodes_counts_against_them() -> None:
    good = [asked(number, at, "10.0.0.21") for number, at in enumerate((1.0, 2.0, 3.0))]
    assert expect.others_served(told(*good, asked(9, 1.0, "10.0.0.20", ok=False)))[0] is Result.PASS
    bad = [asked(10, 1.0, "10.0.0.21", ok=False), asked(11, 5.0, "10.0.0.21", ok=False)]
    failed(expect.others_served(told(*good, *bad)), "2 of 5 requests")


def test_where_every_worker_is_struck_nothing_is_asked_of_others() -> None:
    case = told()
    struck = msgspec.structs.replace(case.scene, victims=case.scene.nodes)
    verdict, words = expect.others_served(replace(case, scene=struck))
    assert (verdict, words) == (Result.NOT_APPLICABLE, "the drill leaves no other node alone")


def asked(number: int, at: float, via: str, *, ok: bool = True) -> tuple[float, Record]:
    return at, Probed(number=number, intended_s=ZERO + at, latency_s=0.004, via=via, ok=ok)


def test_a_watch_that_was_told_of_its_gap_is_whole() -> None:
    opened = (-8.0, StreamOpened(stream="pods", rv="1", count=3))
    expired = StreamLost(stream="pods", why="too old resource version: 900 (1000)")
    assert expect.gaps_are_told(told(opened, (2.0, expired)))[0] is Result.PASS
    failed(expect.gaps_are_told(told(opened, (2.0, StreamLost(stream="pods", why="connection reset")))), "reset")


def test_containers_of_others_are_nobodys_business() -> None:
    other = Container(id="x", namespace="kube-system", pod="x", uid="uid-x", name="x", running=True)
    seen = looked("healed")
    assert isinstance(seen, type(inspected("healed", "worker1", "worker1", "worker2")))
    more = msgspec.structs.replace(seen, machines=(*seen.machines, Counted(node="worker3", containers=(other,))))
    assert expect.same_containers(told((10, more)))[0] is Result.PASS


def test_fewer_pods_than_the_budget_asks_for_are_caught() -> None:
    one = (1.0, pod("web-a", "worker1", ready=True, deleting=True))
    assert expect_eviction.budget_kept(told(one))[0] is Result.PASS  # two of three are left
    failed(expect_eviction.budget_kept(told(one, (1.5, pod("web-b", "worker1")))), "only 1 pods", "1.50 s")


def test_a_refusal_must_name_the_budget() -> None:
    fault = "drain worker2, for at most 5 s, under a budget that cannot be kept"

    def refused(evidence: str) -> Case:
        return told((5.0, FaultEnded(fault=fault, took=True, evidence=evidence)))

    assert (
        expect_eviction.budget_named(refused(f"The disruption budget {expect_eviction.IMPOSSIBLE} needs 3"))[0]
        is Result.PASS
    )
    failed(expect_eviction.budget_named(refused("Cannot evict pod")), "does not name")
    assert expect_eviction.budget_named(told())[0] is Result.UNKNOWN


def test_nodes_evicted_faster_than_the_rate_are_caught() -> None:
    scene = msgspec.structs.replace(WORKED, victims=("worker1", "worker2"))
    taints = node_tainted("9").taints

    def evicted(second_s: float) -> Case:
        other = NodeSeen(event="MODIFIED", rv="9", name="worker2", ready="Unknown", taints=taints)
        seen = told((4.0, node_tainted("9")), (second_s, other))
        return Case(seen.history, scene, seen.measures, {})

    assert expect_eviction.evicted_one_by_one(evicted(5.05))[0] is Result.PASS
    failed(expect_eviction.evicted_one_by_one(evicted(4.3)), "0.30 s apart")
    assert expect_eviction.evicted_one_by_one(told())[0] is Result.UNKNOWN


def test_times_after_the_heal_count_from_its_end() -> None:
    wrote = [(at, Wrote(key=f"n{at}", acknowledged=ok)) for at, ok in ((-1.0, True), (3.0, False), (9.5, True))]
    found = told(*wrote, asked(1, 8.6, "10.0.0.20", ok=False), asked(2, 9.6, "10.0.0.20")).measures
    assert found.writes_again_s == pytest.approx(1.5)
    assert found.write_gap_s == pytest.approx(10.5)
    assert found.fresh_again_s == pytest.approx(0.604)


def test_requests_that_never_succeed_again_leave_the_time_open() -> None:
    assert told(asked(1, 8.6, "10.0.0.20", ok=False)).measures.fresh_again_s is None
    assert told().measures.writes_again_s is None


def test_an_eviction_with_every_node_dark_is_caught() -> None:
    def dark(*more: tuple[float, Record], taints: tuple[str, ...] = ()) -> Case:
        gone = [
            (at, NodeSeen(event="MODIFIED", rv="9", name=name, ready="Unknown", taints=taints))
            for at, name in ((4.0, "worker1"), (4.5, "worker2"))
        ]
        return told(*gone, (7.9, HealBegan(by="runner", why="")), *more)

    condemned = pod("web-a", "worker1", deleting=True)
    assert expect_eviction.evictions_frozen(dark())[0] is Result.PASS
    assert (
        expect_eviction.evictions_frozen(dark((5.0, condemned), (6.5, condemned)))[0] is Result.PASS
    )  # it was under way
    failed(expect_eviction.evictions_frozen(dark((6.5, condemned))), "web-a was given up 2.00 s after")
    failed(expect_eviction.evictions_frozen(dark(taints=node_tainted("9").taints)), "still tainted", "worker1, worker2")
    assert expect_eviction.evictions_frozen(told())[0] is Result.UNKNOWN


def test_a_node_that_lost_every_pod_after_its_grace_was_not_restarted_and_nobody_is_to_blame() -> None:
    late = LeaseSeen(event="MODIFIED", rv="9", name="worker1")
    result, evidence = expect.restarted_in_place(told((9.0, late), (10, looked("healed", names="xyz"))))
    assert result is Result.UNKNOWN
    assert "longer than the grace" in evidence
