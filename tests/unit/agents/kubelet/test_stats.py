"""The machine's figures, and a summary of what pods use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents.kubelet.cgroups import Cgroups
from agents.kubelet.runtime import ContainerPhase, ContainerStatus, PodRef
from agents.kubelet.stats import machine, summary
from labctl.runtime.clock import FakeClock

POD = PodRef("u1", "default", "web")


def container(phase: ContainerPhase = "running") -> ContainerStatus:
    return ContainerStatus(
        id="c1", pod=POD, name="main", attempt=0, phase=phase, image="i", image_id="", started_s=1_700_000_000.0
    )


def v2(root: Path) -> Cgroups:
    """A unified hierarchy with one container of one pod."""
    for folder in (root / "kubepods/podu1", root / "kubepods/podu1/c1"):
        folder.mkdir(parents=True)
        (folder / "memory.current").write_text("1000\n")
        (folder / "memory.stat").write_text("anon 600\ninactive_file 300\n")
        (folder / "cpu.stat").write_text("usage_usec 5\nuser_usec 3\n")
        (folder / "pids.current").write_text("2\n")
        (folder / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    (root / "cgroup.controllers").write_text("cpu memory\n")
    return Cgroups(root)


def v1(root: Path) -> Cgroups:
    """The same as separate hierarchies."""
    for path in ("kubepods/podu1", "kubepods/podu1/c1"):
        for name in ("memory", "cpuacct", "pids"):
            (root / name / path).mkdir(parents=True, exist_ok=True)
        (root / "memory" / path / "memory.usage_in_bytes").write_text("1000\n")
        (root / "memory" / path / "memory.stat").write_text("rss 1\ntotal_rss 600\ntotal_inactive_file 300\n")
        (root / "memory" / path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
        (root / "cpuacct" / path / "cpuacct.usage").write_text("5000\n")
        (root / "pids" / path / "pids.current").write_text("2\n")
    return Cgroups(root)


def test_this_machine_has_plausible_figures() -> None:
    found = machine("/var/lib/not/there/yet")
    assert found.cpus >= 1
    assert 0 < found.memory_available_bytes <= found.memory_bytes
    assert 0 < found.disk_available_bytes <= found.disk_bytes
    assert 0 < found.pids < found.pids_max
    assert len(found.boot_id) == 36
    assert found.architecture in {"amd64", "arm64"}


def test_the_operating_system_is_named_as_it_names_itself(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text('NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n')
    (tmp_path / "machine-id").write_text("abc\n")
    found = machine("/", etc=str(tmp_path))
    assert (found.os_image, found.machine_id) == ("Debian GNU/Linux 13 (trixie)", "abc")


def pods_of(groups: Cgroups) -> Any:
    return summary(node="w1", containers=[container()], cgroups=groups, parent="/kubepods", clock=FakeClock())["pods"]


def test_both_kinds_of_cgroups_give_the_same_summary(tmp_path: Path) -> None:
    found = pods_of(v1(tmp_path / "v1"))
    assert found == pods_of(v2(tmp_path / "v2"))
    [pod] = found
    assert pod["podRef"] == {"name": "web", "namespace": "default", "uid": "u1"}
    assert pod["containers"][0]["cpu"]["usageCoreNanoSeconds"] == 5000
    memory = pod["containers"][0]["memory"]
    assert (memory["usageBytes"], memory["workingSetBytes"], memory["rssBytes"]) == (1000, 700, 600)


def test_only_running_containers_are_summed_up(tmp_path: Path) -> None:
    groups = v2(tmp_path)
    found = summary(node="w1", containers=[container("exited")], cgroups=groups, parent="/kubepods", clock=FakeClock())
    assert found["pods"] == []


def test_oom_kills_are_counted_in_both_kinds_of_cgroups(tmp_path: Path) -> None:
    assert v1(tmp_path / "v1").oom_kills("/kubepods/podu1/c1") == 1
    assert v2(tmp_path / "v2").oom_kills("/kubepods/podu1/c1") == 1
    assert Cgroups(tmp_path / "none").oom_kills("/kubepods/podu1/c1") == 0
