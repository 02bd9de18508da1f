"""Drills of several masters: who leads is found at the fault, others lead afterwards, and nothing is done twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from labctl.drills.build import drill_of
from labctl.drills.catalog.leader_freeze import DRILL as LEADER_FREEZE
from labctl.drills.catalog.master_loss import DRILL as MASTER_LOSS
from labctl.drills.catalog.one_way_drop import faults as one_way_drop
from labctl.drills.catalog.partition_worker_master import faults as partition
from labctl.drills.expect_leaders import nothing_twice, standby_leads
from labctl.drills.faults import confirm, heals_of
from labctl.drills.faults_masters import AwaitLeader, FreezeLeader, PowerOffLeader
from labctl.drills.faults_network import rules
from labctl.drills.findings import Case, Result
from labctl.drills.history import History
from labctl.drills.language import parse
from labctl.drills.measures import measure
from labctl.drills.records import LeaseSeen, PodSeen, Record, stream_of
from labctl.drills.steady import check_possible, why_impossible
from labctl.drills.target import Machine, Target
from labctl.kube.resources import Resource
from labctl.kube.timing import FAST
from labctl.runtime.errors import LabError, UsageError
from labctl.runtime.shell import Output
from labctl.vm.provider import Power
from tests.unit.labctl.drills.drill_tales import SCENE, Tale, pod
from tests.unit.labctl.drills.test_drill_faults_api import Ticking

MASTERS = ("master1", "master2", "master3")


@dataclass
class Trio:
    """Three masters: who holds every lease, whose processes stand still, whose etcd leads, who is off."""

    holder: str = "master2"
    still: set[str] = field(default_factory=set)
    etcd: str = "master3"
    off: set[str] = field(default_factory=set)
    deaf: bool = False  # what is done to it has no effect
    takes_over: str = ""  # who holds the leases once the holder stands still
    provider, lab, slowness, profile = "lxc", "lab", 1.0, FAST
    masters: Sequence[str] = MASTERS

    @property
    def client(self) -> Trio:
        return self

    def machines(self) -> Sequence[Machine]:
        return [Machine(name=name, role="master", address="10.0.0.1") for name in self.masters]

    def get(self, resource: Resource, name: str, namespace: str = "") -> Any:
        assert (resource.plural, namespace) == ("leases", "kube-system")
        if self.holder in self.still and self.takes_over:
            self.holder = self.takes_over
        return {"spec": {"holderIdentity": f"{self.holder}_7f" if self.holder else None}}

    def unit(self, component: str) -> str:
        return f"labctl-{component}.service"

    def run(self, name: str, argv: Sequence[str], *, timeout_s: float = 30.0) -> Output:
        script = argv[-1]
        if "etcdctl" in script:
            leader = MASTERS.index(self.etcd) + 1 if self.etcd else 0
            status = {"leader": leader, "header": {"member_id": MASTERS.index(name) + 1}}
            return Output(0, json.dumps([{"Status": status}]), "")
        if "-s STOP" in script and not self.deaf:
            self.still.add(name)
        if "echo yes" in script:
            return Output(0, "yes" if name in self.still else "", "")
        return Output(0, "Tsl" if name in self.still else "Ssl", "")

    def power(self, name: str) -> Power:
        return Power.OFF if name in self.off else Power.RUNNING

    def power_off(self, name: str) -> None:
        if not self.deaf:
            self.off.add(name)

    def answers(self, name: str, *, timeout_s: float = 1.0) -> bool:
        return name not in self.off


def target(trio: Trio) -> Target:
    return trio  # type: ignore[return-value]


def clock() -> Any:
    return Ticking()


# -- faults -----------------------------------------------------------------------------------------------------------


def test_the_one_that_leads_is_frozen_whoever_it_is() -> None:
    trio = Trio()
    fault = FreezeLeader(on=MASTERS, component="scheduler")
    fault.inject(target(trio))
    assert trio.still == {"master2"}
    assert fault.took(target(trio), clock()) == (True, "the scheduler of master2, which led, is stopped (state T)")


def test_a_leader_that_cannot_be_frozen_or_found_is_no_fault() -> None:
    deaf = Trio(deaf=True)
    fault = FreezeLeader(on=MASTERS, component="controllers")
    fault.inject(target(deaf))
    assert fault.took(target(deaf), clock())[0] is False
    for holder in ("", "elsewhere"):
        with pytest.raises(LabError, match=holder or "nobody"):
            fault.inject(target(Trio(holder=holder)))
    with pytest.raises(LabError, match="no etcd leads by a Lease"):
        FreezeLeader(on=MASTERS, component="etcd").inject(target(Trio()))


def test_the_undo_of_a_leader_covers_every_master_for_it_was_written_before() -> None:
    for fault in (FreezeLeader(on=MASTERS, component="scheduler"), PowerOffLeader(on=MASTERS)):
        assert {getattr(action, "node", "") for action in heals_of((fault,), target(Trio()))} == set(MASTERS)


def test_another_leader_is_awaited_and_one_that_stands_still_does_not_count() -> None:
    wait = AwaitLeader(on=MASTERS, component="scheduler")
    assert wait.took(target(Trio(still={"master2"}, takes_over="master1")), clock()) == (
        True,
        "the scheduler of master1 leads",
    )
    assert confirm(wait, target(Trio(still={"master2"})), clock())[0] is False
    assert wait.heals(target(Trio())) == ()


def test_the_master_whose_etcd_leads_loses_its_power() -> None:
    trio, fault = Trio(), PowerOffLeader(on=MASTERS)
    fault.inject(target(trio))
    assert trio.off == {"master3"}
    assert fault.took(target(trio), clock())[0] is True
    deaf = Trio(deaf=True)
    fault.inject(target(deaf))
    assert fault.took(target(deaf), clock()) == (False, "0 of 3 masters are off: none")
    with pytest.raises(LabError, match="no master's etcd leads"):
        fault.inject(target(Trio(etcd="")))


@pytest.mark.parametrize("drill", [LEADER_FREEZE, MASTER_LOSS], ids=lambda drill: drill.name)
def test_a_lab_of_one_master_is_told_why_it_cannot_be(drill: Any) -> None:
    with pytest.raises(UsageError, match=r"there is one .*labctl up --masters 3"):
        check_possible(drill, target(Trio(masters=("master1",))))
    assert why_impossible(drill, target(Trio())) == ""


# -- a cut from the masters is one from the address that they share, too ----------------------------------------------

SHARED = msgspec.structs.replace(
    SCENE, masters=("master1",), machines={"master1": "10.0.0.10", "worker1": "10.0.0.20"}, virtual_address="10.0.0.2"
)


@pytest.mark.parametrize("faults", [partition, one_way_drop])
def test_a_worker_is_cut_from_the_virtual_address_too(faults: Any) -> None:
    [cut] = faults(SHARED)
    assert "{ 10.0.0.10, 10.0.0.2 }" in rules(cut)


def test_a_drill_file_cuts_from_the_virtual_address_too() -> None:
    drill = drill_of(parse("name: d\nsteps: [{do: cut, node: $victim, peers: [$masters]}]\n", "d.yaml"))
    [cut] = drill.faults(SHARED)
    assert "{ 10.0.0.10, 10.0.0.2 }" in rules(cut)  # type: ignore[arg-type]


# -- what is expected -------------------------------------------------------------------------------------------------


def lease(name: str, holder: str) -> LeaseSeen:
    return LeaseSeen(event="MODIFIED", rv="", name=name, namespace="kube-system", holder=holder)


KEPT = [
    (-5.0, lease("kube-scheduler", "m1_a")), (-5.0, lease("kube-controller-manager", "m2_a")),
    (-0.5, lease("kube-scheduler", "m1_a")), (4.4, lease("kube-scheduler", "m2_b")),
    (4.9, lease("kube-controller-manager", "m3_b")), (9.0, lease("kube-scheduler", "m2_b")),
]  # fmt: skip


def case(more: Sequence[tuple[float, Record]]) -> Case:
    tale = Tale(more=list(more))
    history: History = tale.tell()
    return Case(history, SCENE, measure(history, SCENE), {})


def test_others_that_lead_in_time_are_measured_and_pass() -> None:
    seen = case(KEPT)
    assert seen.measures.led_again_s == 4.9
    result, words = standby_leads(seen)
    assert result is Result.PASS
    assert "kube-scheduler after 4.40 s" in words
    assert stream_of(KEPT[0][1]) == "leaders"


def test_a_thawed_leader_that_leads_again_is_found() -> None:
    result, words = standby_leads(case([*KEPT, (7.0, lease("kube-scheduler", "m1_a"))]))
    assert result is Result.FAIL
    assert "m1_a held kube-scheduler again 2.60 s after" in words
    assert standby_leads(case([*KEPT, (7.0, lease("kube-scheduler", "m1_c"))]))[0] is Result.PASS  # it was restarted


def test_a_lease_that_nobody_takes_over_is_found_and_one_never_seen_is_unknown() -> None:
    result, words = standby_leads(case(KEPT[:4]))
    assert result is Result.FAIL
    assert "kube-controller-manager" in words
    assert standby_leads(case([one for one in KEPT if one[1].name == "kube-scheduler"]))[0] is Result.UNKNOWN
    assert case([]).measures.led_again_s is None


def test_one_pod_too_many_was_created_twice() -> None:
    assert nothing_twice(case([]))[0] is Result.PASS
    twice = pod("web-f", "worker2", event="ADDED", rv="")
    result, words = nothing_twice(case([(7.5, twice)]))
    assert result is Result.FAIL
    assert "4 pods for 3 replicas" in words


def test_a_pod_on_two_nodes_was_bound_twice() -> None:
    moved: PodSeen = pod("web-d", "worker1", rv="", ready=True)
    result, words = nothing_twice(case([(8.0, moved)]))
    assert result is Result.FAIL
    assert "bound to two nodes: uid-web-d" in words
