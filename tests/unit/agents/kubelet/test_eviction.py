"""A node that runs short: who is given up, in which order and words, what becomes of the pod, and who is kept out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from agents.kubelet.admit import pressed
from agents.kubelet.cgroups import Cgroups
from agents.kubelet.eviction import DISK, INODES, MEMORY, Candidate, Crossed, Share, choose, crossed, message, rank
from agents.kubelet.evictor import Evictor, NodeConsumption
from agents.kubelet.runtime import ContainerStatus, PodRef
from agents.kubelet.shutdown import CRITICAL_PRIORITY
from agents.kubelet.stats import machine
from agents.kubelet.views import Pod
from labctl.kube.meta import ObjectMeta
from labctl.kube.resources import PODS
from labctl.kube.timing import FAST
from tests.unit.agents.kubelet.test_node_status import GIB, MACHINE
from tests.unit.agents.kubelet.test_pod_plan import view
from tests.unit.agents.kubelet.world import World, container, pod

MIB = 2**20
BEARS = "node.kubernetes.io/memory-pressure"
LOW = Crossed(MEMORY, 100 * MIB, 52 * 1024)


def uses(uid: str, used: int | None, *, asked: int = 0, priority: int = 0) -> Candidate:
    return Candidate(uid, priority, used, asked)


def order(*candidates: Candidate) -> str:
    return "".join(one.uid for one in rank(candidates))


def test_who_stays_within_its_requests_goes_last_whatever_its_priority() -> None:
    assert order(uses("a", 500, asked=600, priority=-5), uses("b", 20, asked=10, priority=1000)) == "ba"


def test_among_those_beyond_their_requests_priority_decides_then_how_far_beyond() -> None:
    found = order(uses("a", 90, priority=7), uses("b", 50), uses("c", 80), uses("d", 900, asked=890))
    assert found == "cbda"


def test_what_cannot_be_told_counts_as_beyond() -> None:
    assert order(uses("a", 999), uses("b", None), uses("c", 1, asked=2)) == "bac"


def test_a_critical_pod_is_never_chosen() -> None:
    vital = uses("v", 10**9, priority=CRITICAL_PRIORITY)
    found = choose(LOW, [vital, uses("a", 1, asked=2)])
    assert found is not None
    assert found[0] == "a"
    assert choose(LOW, [vital]) is None


def test_the_words_are_upstreams() -> None:
    one = Candidate("a", 0, 30 * MIB, 0, (Share("app", 30 * MIB, 0), Share("side", MIB, 2 * MIB)))
    assert message(LOW, one) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 52Ki. "
        "Container app was using 30Mi, request is 0, has larger consumption of memory. "
    )
    assert "inodes. Threshold quantity: 50, available: 3. " in message(Crossed(INODES, 50, 3), uses("a", 9))


def test_thresholds_are_upstreams_and_memory_comes_first() -> None:
    assert crossed(MACHINE) == ()
    short = dataclasses.replace(
        MACHINE, memory_available_bytes=99 * MIB, disk_available_bytes=4 * GIB, inodes_available=49,
        image_disk_bytes=100 * GIB, image_disk_available_bytes=14 * GIB,
    )  # fmt: skip
    assert [(one.resource, one.condition) for one in crossed(short)] == [
        (MEMORY, "MemoryPressure"), (DISK, "DiskPressure"), (INODES, "DiskPressure"), (DISK, "DiskPressure"),
    ]  # fmt: skip


def test_of_a_disk_that_others_share_a_node_wants_its_own_part_alone() -> None:
    shared = dataclasses.replace(MACHINE, disk_available_bytes=2 * GIB)
    assert crossed(shared) != ()
    assert crossed(shared, disk_bytes=6 * GIB) == ()


class Told:
    """Says what each pod uses."""

    def __init__(self, **used: int) -> None:
        self.used = used

    def candidate(self, pod: Pod, running: Iterable[ContainerStatus], resource: str) -> Candidate:
        assert resource == MEMORY
        shares = tuple(Share(entry.name, self.used[pod.metadata.name], 0) for entry in running)
        return Candidate(pod.metadata.uid, pod.spec.priority, self.used[pod.metadata.name], 0, shares)


def pressing(world: World, *, short: bool = True) -> None:
    """Another look at the machine."""
    world.facts = dataclasses.replace(world.facts, short=(LOW,) if short else (), looks=world.facts.looks + 1)


def short_of_memory(tmp_path: Path, *names: str, **used: int) -> World:
    world = World(tmp_path, *(pod(name) for name in names))
    world.evictor = Evictor(Told(**used), world.recorder)
    world.restart()
    world.settle()
    return world


def test_one_pod_is_given_up_for_each_look_and_says_why(tmp_path: Path) -> None:
    world = short_of_memory(tmp_path, "small", "big", small=MIB, big=30 * MIB)
    pressing(world)
    world.settle()
    assert world.running() == ["small/app:0"]
    told = world.status("big")
    assert (told["phase"], told["reason"]) == ("Failed", "Evicted")
    assert told["message"].startswith("The node was low on resource: memory.")
    assert told["containerStatuses"][0]["state"]["terminated"]
    assert world.condition("DisruptionTarget", "big")["reason"] == "TerminationByKubelet"
    assert ("Evicted", told["message"]) in world.recorder.told
    pressing(world)
    world.settle()
    assert world.running() == []


def test_an_evicted_pod_keeps_nothing_on_the_node_and_stays_evicted(tmp_path: Path) -> None:
    world = short_of_memory(tmp_path, "big", big=30 * MIB)
    pressing(world)
    world.settle()
    assert world.volumes.kept == set()
    assert list(world.runtime.containers()) == []
    before = world.status("big")
    world.restart()
    pressing(world, short=False)
    world.run(FAST.restart_backoff_cap_s)
    assert world.running() == []
    assert world.status("big") == before


def test_the_next_pod_goes_only_when_the_last_ones_room_is_free(tmp_path: Path) -> None:
    world = short_of_memory(tmp_path, "a", "b", a=3 * MIB, b=2 * MIB)
    world.executor.held = []  # nothing that is begun ends
    pressing(world)
    world.settle()
    pressing(world)
    world.settle()
    assert [reason for reason, _ in world.recorder.told].count("Evicted") == 1
    world.clock.advance(31)
    pressing(world)
    world.settle()
    assert [reason for reason, _ in world.recorder.told].count("Evicted") == 2


def test_a_pressure_that_is_gone_costs_nobody_anything(tmp_path: Path) -> None:
    world = short_of_memory(tmp_path, "a", a=MIB)
    pressing(world, short=False)
    world.settle()
    assert world.running() == ["a/app:0"]


@pytest.mark.parametrize(
    ("pressures", "spec", "taken"),
    [
        (set(), {}, True),
        ({"MemoryPressure"}, {}, False),
        ({"MemoryPressure"}, {"containers": [container("a", resources={"requests": {"cpu": "1m"}})]}, True),
        ({"MemoryPressure"}, {"tolerations": [{"key": BEARS, "operator": "Exists"}]}, True),
        ({"MemoryPressure"}, {"tolerations": [{"operator": "Exists"}]}, True),
        ({"DiskPressure"}, {"containers": [container("a", resources={"requests": {"cpu": "1m"}})]}, False),
        ({"MemoryPressure", "DiskPressure"}, {"tolerations": [{"operator": "Exists"}]}, False),
        ({"DiskPressure"}, {"priority": CRITICAL_PRIORITY}, True),
    ],
)  # fmt: skip
def test_a_node_under_pressure_chooses_its_guests(pressures: set[str], spec: dict[str, Any], taken: bool) -> None:
    found = pressed(view(**spec), pressures)
    assert (found is None) is taken
    if found is not None:
        assert found.reason == "Evicted"
        assert f"The node had condition: [{' '.join(sorted(pressures))}]" in found.message


def test_a_pod_that_comes_under_pressure_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.facts = dataclasses.replace(world.facts, pressures=frozenset({"DiskPressure"}))
    world.api.put(PODS, pod("late"))
    world.settle()
    assert world.running() == []
    assert world.status("late")["reason"] == "Evicted"


def test_files_count_for_the_pod_that_wrote_them(tmp_path: Path) -> None:
    consumption = NodeConsumption(Cgroups(tmp_path), "/kubepods", str(tmp_path / "kubelet"), str(tmp_path / "logs"))
    volume = tmp_path / "kubelet/pods/u1/volumes/data"
    volume.mkdir(parents=True)
    with open(volume / "blob", "wb") as blob:
        blob.write(b"x" * MIB)
        blob.flush()
        os.fsync(blob.fileno())  # some file systems count blocks no sooner
    logs = tmp_path / "logs/default_web_u1/app"
    logs.mkdir(parents=True)
    (logs / "0.log").write_bytes(b"x" * 4096)
    mine = Pod(metadata=ObjectMeta(uid="u1"))
    found = consumption.candidate(mine, (), DISK)
    assert found.used is not None
    assert found.used >= MIB
    assert consumption.candidate(mine, (), INODES).used == 2
    assert consumption.candidate(Pod(metadata=ObjectMeta(uid="other")), (), DISK).used == 0


def test_memory_is_the_working_set_of_the_pods_control_group(tmp_path: Path) -> None:
    for path in ("kubepods/podu1", "kubepods/podu1/c1"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "memory.current").write_text("1000\n")
        (tmp_path / path / "memory.stat").write_text("anon 600\ninactive_file 300\n")
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    consumption = NodeConsumption(Cgroups(tmp_path), "/kubepods", str(tmp_path), str(tmp_path))
    running = ContainerStatus(
        id="c1", pod=PodRef("u1", "default", "web"), name="app", attempt=0, phase="running", image="i", image_id="",
        started_s=1.0,
    )  # fmt: skip
    asked = view(uid="u1", containers=[container("app", resources={"requests": {"memory": "100"}})])
    found = consumption.candidate(asked, [running], MEMORY)
    assert (found.used, found.requested, found.containers) == (700, 100, (Share("app", 700, 100),))


def test_a_node_in_a_control_group_has_the_memory_of_that(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    (tmp_path / "memory.current").write_text(f"{60 * MIB}\n")
    (tmp_path / "memory.stat").write_text(f"inactive_file {10 * MIB}\n")
    whole = machine()
    (tmp_path / "memory.max").write_text("max\n")
    assert machine(cgroups=Cgroups(tmp_path)).memory_bytes == whole.memory_bytes
    (tmp_path / "memory.max").write_text(f"{64 * MIB}\n")
    found = machine(cgroups=Cgroups(tmp_path))
    assert (found.memory_bytes, found.memory_available_bytes) == (64 * MIB, 14 * MIB)
