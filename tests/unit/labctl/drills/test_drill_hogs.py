"""Hogs as a drill sees them: a history that went well passes, each way to be wrong is caught, no host is endangered."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from labctl.drills.expect_hogs import hogs_evicted, pressure_told
from labctl.drills.faults_hogs import CPU_HOG, DISK_HOG, MEMORY_HOG, MODEST, EatCpu, EatMemory, FillDisk
from labctl.drills.findings import Case, Result
from labctl.drills.history import History
from labctl.drills.measures import measure
from labctl.drills.records import Entry, FaultBegan, FaultEnded, NodeSeen, PodSeen, Record
from labctl.kube.timing import FAST, Profile
from labctl.runtime.errors import LabError
from tests.unit.labctl.drills.drill_tales import SCENE, STARTED, ZERO, pod
from tests.unit.labctl.drills.test_drill_faults import Machines

GIB, MIB = 2**30, 2**20
UNLIMITED = 2**63 - 4096


def ate(what: str, at: float, evidence: str = "") -> list[tuple[float, Record]]:
    fault = f"eat the {what} of worker1"
    began = FaultBegan(fault=fault, nodes=("worker1",))
    return [
        (at, began),
        (at + 0.1, FaultEnded(fault=fault, took=True, evidence=evidence or "worker1 is under pressure")),
    ]


def taint(what: str, at: float) -> tuple[float, Record]:
    key = f"node.kubernetes.io/{what}-pressure:NoSchedule"
    return at, NodeSeen(event="MODIFIED", rv="9", name="worker1", ready="True", taints=(key,))


def evicted(name: str, at: float) -> tuple[float, Record]:
    gone: PodSeen = msgspec.structs.replace(pod(name, "worker1"), phase="Failed", reason="Evicted")
    return at, gone


LEFT_OUT = ate("disk", 12, "left out: a system container has no disk of its own")
WELL = [*ate("memory", 0), taint("memory", 5), evicted(MEMORY_HOG, 6), (1, pod(MODEST, "worker1", ready=True))]


def case(*more: tuple[float, Record]) -> Case:
    records: list[tuple[float, Record]] = [(-9, STARTED), (-8, SCENE), *more]
    ordered = sorted(records, key=lambda pair: pair[0])
    history = History([Entry(ZERO + at, "2026-01-31T08:00:00.000000Z", what) for at, what in ordered])
    return Case(history, SCENE, measure(history, SCENE), {})


def test_a_node_that_defends_itself_passes_and_what_was_left_out_is_said() -> None:
    for told in (pressure_told(case(*WELL, *LEFT_OUT)), hogs_evicted(case(*WELL, *LEFT_OUT))):
        assert told[0] is Result.PASS, told
        assert "no disk of its own" in told[1]


def test_a_disk_that_was_filled_wants_its_own_pressure_and_its_own_eviction() -> None:
    silent = case(*WELL, *ate("disk", 12))
    assert pressure_told(silent) == (Result.FAIL, "never tainted node.kubernetes.io/disk-pressure:NoSchedule")
    assert hogs_evicted(silent) == (Result.FAIL, f"not evicted: {DISK_HOG}")
    loud = case(*WELL, *ate("disk", 12), taint("disk", 13), evicted(DISK_HOG, 14))
    assert pressure_told(loud)[0] is Result.PASS
    assert hogs_evicted(loud)[0] is Result.PASS


@pytest.mark.parametrize("name", ["web-a", MODEST])
def test_an_eviction_of_who_kept_to_its_requests_is_caught(name: str) -> None:
    result, evidence = hogs_evicted(case(*WELL, evicted(name, 7)))
    assert result is Result.FAIL
    assert name in evidence


def test_the_wrong_order_is_caught() -> None:
    assert hogs_evicted(case(*WELL, evicted(CPU_HOG, 7)))[0] is Result.PASS
    assert hogs_evicted(case(*WELL, evicted(CPU_HOG, 5)))[0] is Result.FAIL


def test_without_evidence_nothing_passes() -> None:
    assert pressure_told(case())[0] is Result.UNKNOWN
    assert hogs_evicted(case())[0] is Result.UNKNOWN
    alone = [(at, what) for at, what in WELL if getattr(what, "name", "") != MODEST]
    assert hogs_evicted(case(*alone))[0] is Result.UNKNOWN


@dataclass
class Lab(Machines):
    """Machines of a provider, with an API that keeps what is created."""

    provider: str = "lxc"
    profile: Profile = FAST
    created: list[Any] = field(default_factory=list)

    @property
    def client(self) -> Lab:
        return self

    def create(self, resource: object, body: Any, namespace: str = "") -> Any:
        self.created.append(body)
        return body


def command(lab: Lab, name: str) -> str:
    found = next(body for body in lab.created if body["metadata"]["name"] == name)
    return str(found["spec"]["containers"][0]["command"][-1])


def test_most_of_the_memory_goes_at_once_and_the_rest_slowly() -> None:
    lab = Lab(stdout=f"{GIB} {124 * MIB} {20 * GIB}")  # 900 MiB are left, of which 196 are for later
    EatMemory(node="worker1", namespace="default").inject(lab)  # type: ignore[arg-type]
    assert f"-lt {(900 - 196) // 32} ]" in command(lab, MEMORY_HOG)
    modest = next(body for body in lab.created if body["metadata"]["name"] == MODEST)
    assert modest["spec"]["containers"][0]["resources"]["requests"]["memory"]


def test_a_container_without_a_limit_is_spared_and_so_is_its_host() -> None:
    lab = Lab(stdout=f"{UNLIMITED} {GIB} {20 * GIB}")
    with pytest.raises(LabError, match="memory of its host"):
        EatMemory(node="worker1", namespace="default").inject(lab)  # type: ignore[arg-type]
    assert lab.created == []
    vm = Lab(stdout=f"{UNLIMITED} {GIB} {GIB}", provider="vagrant")
    EatMemory(node="worker1", namespace="default").inject(vm)  # type: ignore[arg-type]
    assert len(vm.created) == 2


def test_a_disk_that_others_share_is_not_filled() -> None:
    lab, fault = Lab(), FillDisk(node="worker1", namespace="default")
    fault.inject(lab)  # type: ignore[arg-type]
    assert (lab.ran, lab.created, fault.heals(lab)) == ([], [], ())  # type: ignore[arg-type]
    took, evidence = fault.took(lab, None)  # type: ignore[arg-type]
    assert took
    assert "left out" in evidence


def test_a_disk_of_its_own_is_filled_but_for_what_the_pod_takes() -> None:
    lab, fault = Lab(stdout="8000 5000", provider="vagrant"), FillDisk(node="worker1", namespace="default")
    fault.inject(lab)  # type: ignore[arg-type]
    assert "fallocate -l 4008M" in lab.ran[-1][1]
    assert [heal.text for heal in fault.heals(lab)] == [  # type: ignore[arg-type]
        "free the disk of worker1", f"delete pods/{DISK_HOG} in default",
    ]  # fmt: skip


def test_the_scripts_are_ones_that_a_shell_can_read(tmp_path: Path) -> None:
    lab = Lab(stdout=f"{GIB} 0 {GIB}", provider="vagrant")
    EatMemory(node="worker1", namespace="default").inject(lab)  # type: ignore[arg-type]
    EatCpu(node="worker1", namespace="default").inject(lab)  # type: ignore[arg-type]
    lab.stdout = "8000 5000"
    FillDisk(node="worker1", namespace="default").inject(lab)  # type: ignore[arg-type]
    scripts = [command(lab, name) for name in (MEMORY_HOG, CPU_HOG, DISK_HOG)] + [script for _, script in lab.ran]
    for script in scripts:
        done = subprocess.run(["sh", "-n", "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_memory_of_this_machine_can_be_read() -> None:
    lab = Lab(stdout=f"{GIB} 0 {GIB}")
    EatMemory(node="worker1", namespace="default").inject(lab)  # type: ignore[arg-type]
    done = subprocess.run(["sh", "-c", lab.ran[0][1]], capture_output=True, text=True, check=True)
    limit, _, available = map(int, done.stdout.split())
    assert limit > 0
    assert available > 0
