from __future__ import annotations

import hashlib

import pytest

from labctl.runtime.errors import LabError, UsageError
from labctl.vm.etcd import checked
from labctl.vm.members import Member, Plan, batches, initial_cluster, peer_url, plan
from labctl.vm.topology import Machine, Role, Topology, bridge_of, mac_of


def machine(name: str, role: Role, address: str) -> Machine:
    return Machine(name=name, role=role, address=address, mac=mac_of(address), cpus=1, memory_mib=512, disk_gib=4)


MASTERS = tuple(machine(f"master{n}", "master", f"10.9.0.{9 + n}") for n in (1, 2, 3))
M1, M2, M3 = MASTERS
WORKER = machine("worker1", "worker", "10.9.0.20")
TOPOLOGY = Topology(
    lab="demo",
    provider="lxc",
    profile="fast",
    box="",
    network_cidr="10.9.0.0/24",
    host_address="10.9.0.1",
    bridge=bridge_of("demo"),
    cluster_cidr="10.244.0.0/16",
    service_cidr="10.96.0.0/16",
    machines=(*MASTERS, WORKER),
)


def member(machine: Machine, *, started: bool = True) -> Member:
    return Member(f"a{machine.name[-1]}", machine.name if started else "", peer_url(machine))


ALL = tuple(member(master) for master in MASTERS)


def test_where_all_have_their_data_nothing_is_done() -> None:
    assert plan(MASTERS, ALL, {"master1", "master2", "master3"}) == Plan()


def test_a_member_that_lost_its_data_is_removed_and_joins_as_a_new_one() -> None:
    assert plan(MASTERS, ALL, {"master1", "master3"}) == Plan((member(M2),), (M2,), (M2,))


def test_what_was_removed_before_a_crash_is_only_added() -> None:
    assert plan(MASTERS, (member(M1), member(M3)), {"master1", "master3"}) == Plan((), (M2,), (M2,))


def test_what_was_added_before_a_crash_only_has_to_join() -> None:
    members = (member(M1), member(M2, started=False), member(M3))
    assert plan(MASTERS, members, {"master1", "master3"}) == Plan((), (), (M2,))


def test_a_minority_does_not_decide_who_is_a_member() -> None:
    with pytest.raises(LabError, match="master2 and master3 lost etcd's data") as caught:
        plan(MASTERS, ALL, {"master1"})
    assert "restore" in caught.value.hint


def test_each_member_finds_all_others_by_name() -> None:
    assert initial_cluster(MASTERS[:2]) == "master1=https://10.9.0.10:2380,master2=https://10.9.0.11:2380"


def test_masters_that_serve_are_provisioned_one_at_a_time() -> None:
    assert batches(TOPOLOGY, ()) == ((WORKER,), (M1,), (M2,), (M3,))


def test_a_master_that_joins_comes_before_those_that_serve() -> None:
    assert batches(TOPOLOGY, {"master3"}) == ((M3, WORKER), (M1,), (M2,))


def test_a_snapshot_ends_with_the_digest_of_the_rest() -> None:
    whole = b"data" + hashlib.sha256(b"data").digest()
    assert checked(whole, "f") == whole
    for broken in (whole[:-1], b"x" + whole[1:], b""):
        with pytest.raises(UsageError, match="f is no whole snapshot"):
            checked(broken, "f")
